/** How a process ends: its threads go first, wherever they are, and with the last of them everything that it held. */
import { describe, expect, it } from 'vitest';
import { physToPfn } from '../../src/base/addr.ts';
import { InvariantError } from '../../src/base/assert.ts';
import type { DmaBuf } from '../../src/dmabuf/dma-buf.ts';
import { DrmDevice, vkmsDriver } from '../../src/uapi/drm-device.ts';
import { DrmFile } from '../../src/uapi/drm-file.ts';
import { DRM_IOCTL_GEM_CLOSE, DRM_IOCTL_PRIME_FD_TO_HANDLE } from '../../src/uapi/drm-ioctl.ts';
import { eventfd } from '../../src/uapi/node-setup.ts';
import type { Process } from '../../src/uapi/process.ts';
import { ProcessThreads } from '../../src/uapi/process-threads.ts';
import { SW_SYNC_PATH } from '../../src/uapi/sw-sync.ts';
import { type Bench, bench, type FakePriv } from '../bench.ts';
import { explore, judge, pause, type Race } from './races.ts';
import { allocBuffer } from './system.ts';
import { openTimeline, wait } from './user.ts';

function scene() {
  const b = bench();
  return { b, app: b.machine.addProcess({ name: 'app' }) };
}

const pauseOf = ({ sim }: Bench) => sim.delay(0);

/** What the process has. */
function held({ fds, mappings, threads }: Process): readonly number[] {
  return [fds.open.length, mappings.length, threads.length];
}

describe('Process.exit', () => {
  it('gives everything back at once when no other thread is alive', () => {
    const { b, app } = scene();
    app.fds.install(b.fakeBuffer());
    app.exit();
    expect(held(app)).toEqual([0, 0, 0]);
  });

  it('ends threads wherever they wait, and gives everything back when the last of them is gone', () => {
    const { b, app } = scene();
    b.sim.run(function* () {
      const fd = eventfd(app);
      const fence = yield* (yield* openTimeline(app)).fence(1);
      const threads = [app.spawn('reader', () => app.read(fd, 8)), app.spawn('poller', () => wait(app, fence))];
      yield* b.sim.delay(1000);
      app.exit();
      for (const thread of threads) expect(yield* thread.exit).toBe('killed');
      yield* b.sim.delay(0);
      expect(held(app)).toEqual([0, 0, 0]);
    });
  });

  it('keeps what a thread still needs in its finally block until that is over', () => {
    const { b, app } = scene();
    let openInFinally: number[] = [];
    b.sim.run(function* () {
      const fd = eventfd(app);
      app.spawn('careful', function* () {
        try {
          yield* app.read(fd, 8);
        } finally {
          yield* b.sim.delay(500);
          openInFinally = app.fds.open;
        }
      });
      yield* b.sim.delay(1000);
      app.exit();
      yield* b.sim.delay(400);
      expect(held(app)).toEqual([1, 0, 1]);
      yield* b.sim.delay(200);
      expect([...held(app), openInFinally]).toEqual([0, 0, 0, [3]]);
    });
  });

  it('ends a thread that has not begun to run', () => {
    const { b, app } = scene();
    eventfd(app);
    let hasRun = false;
    const thread = app.spawn('late', function* () {
      hasRun = true;
      yield* pauseOf(b);
    });
    app.exit();
    b.sim.run();
    expect([thread.outcome, hasRun, ...held(app)]).toEqual(['killed', false, 0, 0, 0]);
  });

  it('called by a thread, ends the others and lets that one come to its own end', () => {
    const { b, app } = scene();
    const fd = eventfd(app);
    const other = app.spawn('other', () => app.read(fd, 8));
    const main = app.spawn('main', function* () {
      yield* b.sim.delay(1000);
      app.exit();
    });
    b.sim.run();
    expect([other.outcome, main.outcome, ...held(app)]).toEqual(['killed', 'returned', 0, 0, 0]);
  });

  it('called twice, or followed by a kill, gives everything back once', () => {
    for (const again of ['exit', 'kill'] as const) {
      const { b, app } = scene();
      const fd = eventfd(app);
      b.sim.run(function* () {
        app.spawn('other', () => app.read(fd, 8));
        yield* b.sim.delay(1000);
        app.exit();
        if (again === 'exit') app.exit();
        else yield* app.kill();
        yield* b.sim.delay(0);
        expect(held(app)).toEqual([0, 0, 0]);
      });
    }
  });

  it('says so in the run when something cannot be given back after its threads have ended', () => {
    const { b, app } = scene();
    const buf = b.fakeBuffer();
    const fd = app.fds.install(buf);
    const counter = eventfd(app);
    b.sim.run(function* () {
      const att = yield* buf.attach(b.device('camera0', { coherent: true }));
      app.spawn('other', () => app.read(counter, 8));
      yield* b.sim.delay(1000);
      let caught: unknown;
      try {
        app.exit();
        yield* app.kill();
      } catch (error) {
        caught = error;
      }
      expect(caught).toBeInstanceOf(InvariantError);
      expect(app.fds.open).toEqual([fd]);
      yield* buf.detach(att);
      app.exit();
    });
  });

  it('leaves nothing, whichever thread exits while others open, map, read and end, in every order', () => {
    const race: Race = ({ system, one }) => {
      const fd = eventfd(one);
      one.spawn('opener', function* () {
        yield* pause(system);
        yield* one.mmap(yield* allocBuffer(one));
      });
      one.spawn('reader', () => one.read(fd, 8));
      one.spawn('exiter', function* () {
        yield* pause(system);
        one.exit();
      });
      system.sim.run();
      expect(held(one)).toEqual([0, 0, 0]);
    };
    expect(explore(race)).toBeGreaterThan(1);
  });

  it('finds an end that gives the descriptors back while a thread still opens one', () => {
    const { wrong, right } = judge(({ system, one }) => {
      system.sim.spawn('opener', function* () {
        yield* pause(system);
        yield* one.open(SW_SYNC_PATH);
      });
      system.sim.spawn('exiter', function* () {
        yield* pause(system);
        one.exit();
      });
      system.sim.run();
      expect(held(one)).toEqual([0, 0, 0]);
      one.exit();
    });
    expect(wrong.join()).toMatch(/expected \[ 1, \+?0, \+?0 \]/);
    expect(right).toBeGreaterThan(0);
  });
});

describe('Process.kill', () => {
  it('called by a thread of the process, ends that one as well', () => {
    const { b, app } = scene();
    const fd = eventfd(app);
    const other = app.spawn('other', () => app.read(fd, 8));
    const main = app.spawn('main', function* () {
      yield* b.sim.delay(1000);
      yield* app.kill();
    });
    b.sim.run();
    expect([other.outcome, main.outcome, ...held(app)]).toEqual(['killed', 'killed', 0, 0, 0]);
  });
});

describe('a thread that is killed while it gives something back', () => {
  /** A buffer whose exporter takes 500 ns to release it. */
  function slowBuffer(b: Bench): DmaBuf<FakePriv> {
    return b.fakeBuffer({
      *release({ priv: { memory } }) {
        yield* b.sim.delay(300);
        yield* b.sim.delay(200);
        b.machine.pages.freePages(physToPfn(memory.physAddress(0)), 2);
      },
    });
  }

  it.each([0, 50, 100, 250, 300, 301, 450, 600])('after %i ns, ends when the release is over', (killNs) => {
    const b = bench();
    const app = b.machine.addProcess({ name: 'app' });
    const buf = slowBuffer(b);
    const fd = app.fds.install(buf);
    let goesOn = false;
    const thread = app.spawn('closer', function* () {
      yield* app.close(fd);
      goesOn = true;
    });
    b.sim.run(function* () {
      yield* b.sim.delay(killNs);
      yield* app.kill();
      expect([buf.released, thread.outcome, goesOn]).toEqual([true, 'killed', false]);
    });
  });

  it('gives several buffers back that one call was the last user of', () => {
    for (let killNs = 0; killNs <= 1200; killNs += 100) {
      const b = bench();
      const app = b.machine.addProcess({ name: 'app' });
      const [ours, theirs] = app.socketpair();
      const bufs = [slowBuffer(b), slowBuffer(b)];
      app.sendmsg(ours, { bytes: Uint8Array.of(1), fds: bufs.map((buf) => app.fds.install(buf)) });
      for (const fd of app.fds.open.slice(2)) app.fds.drop(fd);
      app.spawn('closer', () => app.close(theirs));
      b.sim.run(function* () {
        yield* b.sim.delay(killNs);
        yield* app.kill();
        expect(bufs.map(({ released }) => released)).toEqual([true, true]);
      });
    }
  });

  it('releases the buffer, in every order of the kill and the steps of the release', () => {
    const race: Race = ({ system, one, two }) => {
      const buf = system.fakeBuffer({
        *release({ priv: { memory } }) {
          yield* pause(system);
          yield* pause(system);
          system.machine.pages.freePages(physToPfn(memory.physAddress(0)), 2);
        },
      });
      const fd = one.fds.install(buf);
      one.spawn('closer', () => one.close(fd));
      two.spawn('killer', function* () {
        yield* pause(system);
        yield* one.kill();
        expect([buf.released, ...held(one)]).toEqual([true, 0, 0, 0]);
      });
    };
    expect(explore(race)).toBeGreaterThan(1);
  });

  it('ends an import, however long another task holds its lock', () => {
    for (let killNs = 0; killNs <= 2000; killNs += 200) {
      const b = bench();
      const app = b.machine.addProcess({ name: 'app' });
      const dma = b.device('vkms', { coherent: true });
      const { pages, coherency } = b.machine;
      const vkms = new DrmDevice(b.sim, { driver: vkmsDriver, device: dma, pages, coherency });
      const card = app.fds.install(new DrmFile(vkms));
      const buf = b.fakeBuffer();
      const fd = app.fds.install(buf);
      b.sim.run(function* () {
        const { handle } = yield* app.ioctl(card, DRM_IOCTL_PRIME_FD_TO_HANDLE, { fd });
        yield* app.close(fd);
        b.sim.spawn('holder', () => buf.resv.withLock(() => b.sim.delay(1500)));
        yield* b.sim.delay(0);
        const closer = app.spawn('closer', () => app.ioctl(card, DRM_IOCTL_GEM_CLOSE, { handle }));
        yield* b.sim.delay(killNs);
        yield* app.kill();
        expect(buf.released).toBe(true);
        if (killNs <= 800) expect(closer.outcome).toBe('killed');
      });
    }
  });
});

describe('Process.threads', () => {
  it('shows those that have not ended, oldest first', () => {
    const { b, app } = scene();
    b.sim.run(function* () {
      const short = app.spawn('short', () => b.sim.delay(10));
      const long = app.spawn('long', () => b.sim.delay(1000));
      expect(app.threads).toEqual([short, long]);
      yield* short.done;
      expect(app.threads).toEqual([long]);
      yield* long.done;
      expect(app.threads).toEqual([]);
    });
    app.exit();
  });

  it('forgets threads that have ended: a program that makes one after the other does not grow', () => {
    const { sim } = bench();
    const threads = new ProcessThreads(sim, 'app');
    let most = 0;
    sim.run(function* () {
      for (let i = 0; i < 1000; i++) {
        yield* threads.spawn(`t${i}`, () => sim.delay(1)).done;
        most = Math.max(most, threads.keptCount);
      }
    });
    expect(most).toBeLessThanOrEqual(32);
  });
});
