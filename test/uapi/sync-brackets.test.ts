/** Brackets of CPU access that do not pair are named: the call that shows it, what is open, where, and what to do. */
import { describe, expect, it } from 'vitest';
import { HazardError } from '../../src/base/errors.ts';
import type { BracketFacts } from '../../src/base/watch-hazards.ts';
import { DMA_BUF_SYNC } from '../../src/dmabuf/dma-buf-sync.ts';
import type { Op } from '../../src/sim/op.ts';
import { DMA_BUF_IOCTL_SYNC } from '../../src/uapi/dma-buf-file.ts';
import { F } from '../../src/uapi/fcntl.ts';
import { F_SEAL, MFD } from '../../src/uapi/memfd.ts';
import { addUdmabuf, memfdCreate } from '../../src/uapi/node-setup.ts';
import { Process } from '../../src/uapi/process.ts';
import { UDMABUF_CREATE } from '../../src/uapi/udmabuf.ts';
import { type Bench, bench, errno } from '../bench.ts';

const { read, write, rw, start, end } = DMA_BUF_SYNC;
const ALL = [start | read, start | write, start | rw, end | read, end | write, end | rw];

interface Scene {
  readonly b: Bench;
  readonly app: Process;
  readonly fd: number;
  /** `DMA_BUF_IOCTL_SYNC`. */
  sync(flags: number, fd?: number): Op<unknown>;
}

/** Runs a program with one buffer, of which it exits. @returns what was reported. */
function reports(body: (scene: Scene) => Op<void>, options: { watch?: boolean } = {}): BracketFacts[] {
  const b = bench({ hazards: 'record' });
  const app = b.machine.addProcess({ name: 'app', ...options });
  const fd = app.fds.install(b.fakeBuffer());
  b.sim.run(function* () {
    const sync = (flags: number, of = fd) => app.ioctl(of, DMA_BUF_IOCTL_SYNC, { flags });
    yield* body({ b, app, fd, sync });
    app.exit();
  });
  return b.sim.hazards.filter((facts) => facts.hazard === 'dmabuf.unbalanced-sync');
}

/** A report without its places and times. */
function inShort({ call, open }: BracketFacts): string {
  return `${call}; open: ${open.replaceAll(/ at [^,]*/g, '')}`;
}

describe('dmabuf.unbalanced-sync', () => {
  it.each([
    [[start | read, end | read], []],
    [[start | rw, end | rw], []],
    [[start | read, start | read, end | read, end | read], []],
    [[start | rw, end | read, end | write], []],
    [[start | read, start | write, end | rw], []],
    [[end | read], ['ioctl(DMA_BUF_IOCTL_SYNC, END | READ); open: ']],
    [[start | read, end | read, end | read], ['ioctl(DMA_BUF_IOCTL_SYNC, END | READ); open: ']],
    [[start | read, end | write, end | read], ['ioctl(DMA_BUF_IOCTL_SYNC, END | WRITE); open: START | READ']],
    [[start | read, end | rw], ['ioctl(DMA_BUF_IOCTL_SYNC, END | RW); open: START | READ']],
    [[start | read], ['exit; open: START | READ']],
    [[start | rw, end | write], ['exit; open: START | READ']],
    [[start | read, start | write], ['exit; open: START | READ, START | WRITE']],
  ])('of the calls %j reports %j', (calls, expected) => {
    const found = reports(function* ({ sync }) {
      for (const flags of calls) yield* sync(flags);
    });
    expect(found.map(inShort)).toEqual(expected);
  });

  it('tells who, where, what is open since where, and the call that is missing', () => {
    const [facts] = reports(function* ({ b, sync }) {
      yield* sync(start | read);
      yield* b.sim.delay(1000);
      yield* sync(end | write);
      yield* sync(end | read);
    });
    const place = expect.stringMatching(/^sync-brackets\.test\.ts:\d+:\d+$/);
    expect(facts).toEqual({
      hazard: 'dmabuf.unbalanced-sync',
      buf: 'fake',
      who: 'app',
      call: 'ioctl(DMA_BUF_IOCTL_SYNC, END | WRITE)',
      open: expect.stringMatching(/^START \| READ at sync-brackets\.test\.ts:\d+:\d+$/),
      site: place,
      timeNs: 1150,
      remedy:
        'end a bracket with the directions it was begun for, or begin it with ioctl(DMA_BUF_IOCTL_SYNC, START | WRITE) as well',
    });
  });

  it('is reported after the call has done its work: with policy throw the END has reached the exporter', () => {
    const b = bench();
    const app = b.machine.addProcess({ name: 'app' });
    const buf = b.fakeBuffer();
    const fd = app.fds.install(buf);
    expect(() => b.sim.run(() => app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: end | write }))).toThrow(HazardError);
    expect(buf.priv.calls).toEqual(['end to-device']);
    b.sim.run(() => app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: start | write }));
    expect(() => app.exit()).toThrow(HazardError);
    expect(app.fds.open).toEqual([]);
  });

  it('is reported at the last close or unmap of the buffer, not before', () => {
    const calls = (body: (scene: Scene) => Op<void>) => reports(body).map(({ call }) => call);
    expect(
      calls(function* ({ app, fd, sync }) {
        const copy = app.fds.dup(fd);
        yield* sync(start | read);
        yield* app.close(fd);
        yield* app.close(copy);
      }),
    ).toEqual(['close(4)']);
    expect(
      calls(function* ({ app, fd, sync }) {
        const [first, second] = [yield* app.mmap(fd), yield* app.mmap(fd)];
        yield* sync(start | read);
        yield* app.close(fd);
        first.munmap();
        app.munmap(second.address, second.sizeBytes);
      }),
    ).toEqual(['munmap']);
    expect(
      calls(function* ({ app, fd, sync }) {
        const mapping = yield* app.mmap(fd);
        yield* sync(start | read);
        yield* app.close(fd);
        const [left] = app.munmap(mapping.address, 4096);
        expect(left?.mapped).toBe(true);
        left?.munmap();
      }),
    ).toEqual(['munmap']);
    expect(
      calls(function* ({ b, app, fd, sync }) {
        const other = app.fds.install(b.fakeBuffer());
        yield* sync(start | read);
        app.fds.dup2(other, fd);
      }),
    ).toEqual(['dup2(…, 3)']);
    expect(
      calls(function* ({ app, fd, sync }) {
        app.fds.setCloexec(fd, true);
        yield* sync(start | read);
        app.exec();
      }),
    ).toEqual(['exec']);
  });

  it('unmaps everything that was asked for before it reports', () => {
    const b = bench();
    const app = b.machine.addProcess({ name: 'app' });
    b.sim.run(function* () {
      const fds = [app.fds.install(b.fakeBuffer()), app.fds.install(b.fakeBuffer())];
      const [one, two] = [yield* app.mmap(fds[0] ?? -1), yield* app.mmap(fds[1] ?? -1)];
      for (const fd of fds) {
        yield* app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: start | read });
        yield* app.close(fd);
      }
      const length = two.address + two.sizeBytes - one.address;
      expect(() => app.munmap(one.address, length)).toThrow(HazardError);
      expect([one.mapped, two.mapped, app.mappings]).toEqual([false, false, []]);
    });
    expect(b.sim.hazards).toHaveLength(2);
    app.exit();
  });

  it('says nothing of a process that is killed, nor of what a parent has open to its child', () => {
    const found = reports(function* ({ app, fd, sync }) {
      yield* sync(start | rw);
      const child = app.fork('child');
      child.exit();
      const other = app.fork('other');
      yield* other.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: start | rw });
      yield* other.kill();
      yield* sync(end | rw);
    });
    expect(found).toEqual([]);
  });

  it('says nothing of an END that a killed thread still issues in its finally block', () => {
    const b = bench();
    const app = b.machine.addProcess({ name: 'app' });
    const buf = b.fakeBuffer();
    const fd = app.fds.install(buf);
    b.sim.run(function* () {
      app.spawn('careful', function* () {
        yield* app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: start | rw });
        try {
          yield* b.sim.delay(1000);
        } finally {
          yield* app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: end | rw });
        }
      });
      yield* b.sim.delay(500);
      yield* app.kill();
    });
    expect(buf.priv.calls).toContain('end bidirectional');
    expect(b.sim.hazards).toEqual([]);
  });

  it('is not asked of a process that nobody watches: one without a machine, or one that does not want it', () => {
    const unbalanced = function* ({ sync }: Scene): Op<void> {
      for (const flags of ALL.toReversed()) yield* sync(flags);
    };
    expect(reports(unbalanced).length).toBeGreaterThan(0);
    expect(reports(unbalanced, { watch: false })).toEqual([]);
    const b = bench({ shadow: false });
    const app = new Process(b.sim, b.machine.coherency, { name: 'bare' });
    const fd = app.fds.install(b.fakeBuffer());
    for (const flags of ALL.toReversed()) b.sim.run(() => app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags }));
    app.exit();
    expect(b.sim.hazards).toEqual([]);
  });

  it('does not count an END that Linux refuses', () => {
    const b = bench();
    const { sim, coherency, pages } = b.machine;
    addUdmabuf(sim, { coherency });
    const app = b.machine.addProcess({ name: 'app' });
    b.sim.run(function* () {
      const memfd = memfdCreate(app, { name: 'pages', flags: MFD.allowSealing, pages, coherency });
      app.ftruncate(memfd, 4096);
      app.fcntl(memfd, F.addSeals, F_SEAL.shrink);
      const device = yield* app.open('/dev/udmabuf');
      const address = { memfd, flags: 0, offset: 0, size: 4096 };
      yield* app.ioctl(device, UDMABUF_CREATE, address);
      const fd = app.fds.open.at(-1) ?? -1;
      let caught: unknown;
      try {
        yield* app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: end | write });
      } catch (error) {
        caught = error;
      }
      expect(caught).toEqual(errno('EINVAL'));
      app.exit();
    });
  });
});
