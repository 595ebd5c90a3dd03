/** A signal ends a system call that waits: with EINTR, nothing changed, and it can be made again; in every order. */
import { describe, expect, it } from 'vitest';
import { DeadlockError } from '../../src/base/errors.ts';
import { DMA_BUF_SYNC } from '../../src/dmabuf/dma-buf-sync.ts';
import { DmaFence } from '../../src/dmabuf/dma-fence.ts';
import { allocDmaFenceContext } from '../../src/dmabuf/dma-fence-world.ts';
import { DmaResvUsage } from '../../src/dmabuf/dma-resv.ts';
import { Mutex } from '../../src/sim/mutex.ts';
import type { MaybeOp, Op } from '../../src/sim/op.ts';
import { WaitQueue } from '../../src/sim/wait-queue.ts';
import { DMA_BUF_IOCTL_SYNC } from '../../src/uapi/dma-buf-file.ts';
import {
  DRM_IOCTL_SYNCOBJ_CREATE,
  DRM_IOCTL_SYNCOBJ_SIGNAL,
  DRM_IOCTL_SYNCOBJ_WAIT,
  DRM_SYNCOBJ,
} from '../../src/uapi/drm-syncobj-requests.ts';
import type { EventFd } from '../../src/uapi/eventfd.ts';
import { POLL } from '../../src/uapi/file.ts';
import { struct } from '../../src/uapi/ioctl.ts';
import { eventfd } from '../../src/uapi/node-setup.ts';
import type { Process } from '../../src/uapi/process.ts';
import { isSignalPending, waitInterruptibly } from '../../src/uapi/signals.ts';
import { SW_SYNC_IOC_INC, SW_SYNC_PATH } from '../../src/uapi/sw-sync.ts';
import { type Bench, bench } from '../bench.ts';
import { explore, judge, type Race } from './races.ts';
import { allocBuffer, CARDS, fenceAt, outcome, System } from './system.ts';
import { importSyncFile } from './user.ts';

const { read, start, end } = DMA_BUF_SYNC;
const COUNT = struct({ count: 'u64' });
const ONE = COUNT.encode({ count: 1 });
const SYSCALL_NS = 150;
const FULL = 2 ** 64 - 2048;

/** A call that waits, and what lets it go on. */
interface Waiting {
  readonly call: () => MaybeOp<unknown>;
  readonly release: () => MaybeOp<unknown>;
  /** What must be the same after an interruption. */
  readonly state: () => unknown;
}

type Scene = (system: System, app: Process) => Op<Waiting>;

const CALLS: readonly (readonly [string, Scene])[] = [
  [
    'read of an eventfd',
    function* (_system, app) {
      const fd = eventfd(app);
      const state = () => (app.fds.file(fd) as EventFd).count;
      return { call: () => app.read(fd, 8), release: () => app.write(fd, ONE), state };
    },
  ],
  [
    'write to an eventfd that is full',
    function* (_system, app) {
      const fd = eventfd(app, FULL);
      const state = () => (app.fds.file(fd) as EventFd).count;
      return { call: () => app.write(fd, COUNT.encode({ count: 4096 })), release: () => app.read(fd, 8), state };
    },
  ],
  [
    'recvmsg',
    function* (_system, app) {
      const [one, two] = app.socketpair();
      const release = () => app.sendmsg(two, { bytes: Uint8Array.of(1), fds: [two] });
      return { call: () => app.recvmsg(one), release, state: () => app.fds.open };
    },
  ],
  [
    'poll',
    function* (_system, app) {
      const fd = eventfd(app);
      const request = { fd, events: POLL.in };
      return {
        call: () => app.poll([request]),
        release: () => app.write(fd, ONE),
        state: () => app.fds.file(fd).references,
      };
    },
  ],
  [
    'select',
    function* (_system, app) {
      const fd = eventfd(app);
      return { call: () => app.select({ read: [fd] }), release: () => app.write(fd, ONE), state: () => app.fds.open };
    },
  ],
  [
    'DMA_BUF_IOCTL_SYNC with START',
    function* (_system, app) {
      const fd = yield* allocBuffer(app);
      const timeline = yield* app.open(SW_SYNC_PATH);
      yield* importSyncFile(app, fd, DMA_BUF_SYNC.write, yield* fenceAt(app, timeline, 1));
      return {
        *call() {
          yield* app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: start | read });
          yield* app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: end | read });
        },
        release: () => app.ioctl(timeline, SW_SYNC_IOC_INC, { value: 1 }),
        state: () => app.fds.file(fd).references,
      };
    },
  ],
  [
    'a wait for a sync object',
    function* (_system, app) {
      const card = yield* app.open(CARDS[1]);
      const { handle } = yield* app.ioctl(card, DRM_IOCTL_SYNCOBJ_CREATE, {});
      const handles = new Uint8Array(Uint32Array.of(handle).buffer);
      const flags = DRM_SYNCOBJ.waitForSubmit;
      return {
        call: () =>
          app.ioctl(card, DRM_IOCTL_SYNCOBJ_WAIT, { handles, count_handles: 1, flags, timeout_nsec: 2 ** 53 }),
        release: () => app.ioctl(card, DRM_IOCTL_SYNCOBJ_SIGNAL, { handles, count_handles: 1 }),
        state: () => app.fds.file(card).references,
      };
    },
  ],
];

describe.each(CALLS)('%s', (_name, scene) => {
  it('ends with EINTR when a signal comes, has changed nothing, and can be made again', () => {
    const system = new System();
    const { sim } = system;
    const app = system.machine.addProcess({ name: 'app' });
    sim.run(function* () {
      const { call, release, state } = yield* scene(system, app);
      for (let i = 0; i < 3; i++) {
        const before = state();
        const waiting = app.spawn('call', () => outcome(call));
        yield* sim.delay(1000);
        expect(waiting.outcome).toBeNull();
        app.interrupt();
        expect(yield* waiting.done).toBe('EINTR');
        expect(state()).toEqual(before);
      }
      const again = app.spawn('again', () => outcome(call));
      yield* sim.delay(1000);
      yield* app.spawn('release', () => outcome(release)).done;
      expect(yield* again.done).toBe('ok');
      app.exit();
    });
    sim.run();
    system.expectNothingLeft();
  });

  it('is not ended by a signal that came before it', () => {
    const system = new System();
    const { sim } = system;
    const app = system.machine.addProcess({ name: 'app' });
    sim.run(function* () {
      const { call, release } = yield* scene(system, app);
      app.interrupt();
      const waiting = app.spawn('call', () => outcome(call));
      yield* sim.delay(1000);
      yield* app.spawn('release', () => outcome(release)).done;
      expect(yield* waiting.done).toBe('ok');
      yield* app.kill();
    });
  });

  it('and a signal: one of them wins, and nothing is lost, in every order', () => {
    const seen = new Set<string>();
    // A system call takes its time before or after what it does: both instants are raced for.
    const race =
      (atNs: number): Race =>
      ({ system, one: app }) => {
        const { sim } = system;
        const { call, release } = sim.run(() => scene(system, app));
        const results: string[] = [];
        sim.spawn('caller', function* () {
          do results.push(yield* outcome(call));
          while (results.at(-1) === 'EINTR');
        });
        sim.spawn('interrupter', function* () {
          yield* sim.delay(atNs);
          app.interrupt();
        });
        sim.spawn('releaser', function* () {
          yield* sim.delay(1000);
          yield* outcome(release);
        });
        sim.run();
        seen.add(results.join());
      };
    for (const atNs of [1000, 1000 + SYSCALL_NS]) expect(explore(race(atNs))).toBeGreaterThan(1);
    expect([...seen].sort()).toEqual(['EINTR,ok', 'ok']);
  });
});

describe('DMA_BUF_IOCTL_SYNC that a signal interrupts', () => {
  /** A bracket around a read, while a writer works. `check`: what START returns is looked at. */
  const race =
    (check: boolean): Race =>
    ({ system, one: app }) => {
      const { sim } = system;
      const [fd, timeline] = sim.run(function* () {
        const [fd, timeline] = [yield* allocBuffer(app), yield* app.open(SW_SYNC_PATH)];
        yield* importSyncFile(app, fd, DMA_BUF_SYNC.write, yield* fenceAt(app, timeline, 1));
        return [fd, timeline] as const;
      });
      sim.spawn('reader', function* () {
        const begin = () => outcome(() => app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: start | read }));
        while ((yield* begin()) === 'EINTR' && check);
        yield* app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: end | read });
      });
      sim.spawn('interrupter', function* () {
        yield* sim.delay(1000);
        app.interrupt();
      });
      sim.spawn('writer', function* () {
        yield* sim.delay(1000);
        yield* app.ioctl(timeline, SW_SYNC_IOC_INC, { value: 1 });
      });
      sim.run();
    };

  it('U-02: is found when its return value is ignored and END is issued all the same', () => {
    const { wrong, right } = judge(race(false));
    expect(wrong.join()).toMatch(/dmabuf.unbalanced-sync: ioctl\(DMA_BUF_IOCTL_SYNC, END \| READ\)/);
    expect(wrong.join()).toMatch(/START \| READ\) failed with EINTR at \d+ ns: look at what START returns/);
    expect(right).toBeGreaterThan(0);
  });

  it('U-02: pairs in every order when START is repeated until it succeeds', () => {
    expect(explore(race(true))).toBeGreaterThan(1);
  });

  it('has called the exporter, and calls it again', () => {
    const { b, app, fd, calls, fence } = buffer();
    b.sim.run(function* () {
      const first = app.spawn('first', () => outcome(() => app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: start | read })));
      yield* b.sim.delay(1000);
      app.interrupt();
      expect(yield* first.done).toBe('EINTR');
      fence.signal();
      yield* app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: start | read });
      yield* app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: end | read });
    });
    expect(calls).toEqual(['begin from-device', 'begin from-device', 'end from-device']);
    app.exit();
  });

  it('fails although the fence signals at the same instant, and succeeds when it signalled before', () => {
    for (const signalFirst of [true, false]) {
      const { b, app, fd, fence } = buffer();
      b.sim.run(function* () {
        const waiting = app.spawn('reader', () =>
          outcome(() => app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: start | read })),
        );
        yield* b.sim.delay(1000);
        fence.signal();
        if (signalFirst) yield* b.sim.delay(1);
        app.interrupt();
        expect(yield* waiting.done).toBe(signalFirst ? 'ok' : 'EINTR');
        yield* app.kill();
      });
    }
  });

  it('is interrupted only where it waits for fences: the signal stays pending while the exporter works', () => {
    const b = bench();
    const lock = new Mutex(b.sim, 'driver lock');
    const { app, fd, fence } = buffer(b, { beginCpuAccess: () => lock.withLock(() => {}) });
    b.sim.run(function* () {
      yield* lock.lock();
      const waiting = app.spawn('reader', () =>
        outcome(() => app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: start | read })),
      );
      yield* b.sim.delay(1000);
      app.interrupt();
      yield* b.sim.delay(1000);
      expect(waiting.outcome).toBeNull();
      lock.unlock();
      expect(yield* waiting.done).toBe('EINTR');
      fence.signal();
      yield* app.kill();
    });
  });

  it('names the fence in a deadlock', () => {
    const { b, app, fd, fence } = buffer();
    let caught: unknown;
    try {
      b.sim.run(() => app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: start | read }));
    } catch (error) {
      caught = error;
    }
    expect(caught).toBeInstanceOf(DeadlockError);
    expect(String(caught)).toContain(`waits for fence ${fence.name}`);
    fence.signal();
    b.sim.run();
    b.sim.run(() => app.kill());
  });

  it('lets a fence whose driver waits itself be waited for by that driver', () => {
    const b = bench();
    let waits = 0;
    const fence: DmaFence = new DmaFence(b.sim, allocDmaFenceContext(b.sim, 'own'), 1, {
      *wait(_fence, ns) {
        waits++;
        yield* b.sim.delay(500);
        fence.signal();
        return Math.max(1, ns - 500);
      },
    });
    const { app, fd } = buffer(b, {}, fence);
    b.sim.run(() => app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: start | read }));
    expect([waits, fence.signaled]).toEqual([1, true]);
    b.sim.run(() => app.kill());
  });
});

describe('waitInterruptibly', () => {
  it("interrupts no task that is in no system call, and another process's not at all", () => {
    const b = bench();
    const queue = new WaitQueue(b.sim, 'driver');
    let isReady = false;
    const [app, other] = ['app', 'other'].map((name) => b.machine.addProcess({ name })) as [Process, Process];
    const fd = eventfd(other);
    const driver = b.sim.spawn('driver', () => waitInterruptibly(b.sim, queue, () => isReady, 'driver'));
    const reader = other.spawn('reader', () => other.read(fd, 8));
    b.sim.run(function* () {
      yield* b.sim.delay(1000);
      app.interrupt();
      yield* b.sim.delay(1000);
      expect([driver.outcome, reader.outcome, isSignalPending(b.sim)]).toEqual([null, null, false]);
      isReady = true;
      queue.wakeUpAll();
      yield* other.write(fd, ONE);
      yield* driver.done;
      yield* reader.done;
    });
    other.exit();
  });

  it('serves those who wait in the order they came, each with one thing', () => {
    const b = bench();
    const app = b.machine.addProcess({ name: 'app' });
    const [one, two] = app.socketpair();
    const got: string[] = [];
    for (const name of ['a', 'b', 'c']) {
      app.spawn(name, function* () {
        const { bytes } = yield* app.recvmsg(one);
        got.push(`${name}${bytes[0]}`);
      });
    }
    b.sim.run(function* () {
      yield* b.sim.delay(1000);
      for (const byte of [1, 2, 3]) {
        app.sendmsg(two, { bytes: Uint8Array.of(byte) });
        yield* b.sim.delay(1000);
      }
    });
    expect(got).toEqual(['a1', 'b2', 'c3']);
    app.exit();
  });
});

/** A buffer that a pending fence of a writer keeps. */
function buffer(b: Bench = bench(), behaviour: Parameters<Bench['fakeBuffer']>[0] = {}, own?: DmaFence) {
  const app = b.machine.addProcess({ name: 'app' });
  const buf = b.fakeBuffer(behaviour);
  const fd = app.fds.install(buf);
  const fence = own ?? b.fence();
  b.sim.run(() =>
    buf.resv.withLock(() => {
      buf.resv.reserveFences(1);
      buf.resv.addFence(fence, DmaResvUsage.write);
    }),
  );
  return { b, app, fd, fence, calls: buf.priv.calls };
}
