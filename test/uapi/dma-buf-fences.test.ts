import { describe, expect, it } from 'vitest';
import { ErrnoError } from '../../src/base/errors.ts';
import { DMA_BUF_SYNC } from '../../src/dmabuf/dma-buf-sync.ts';
import type { Op } from '../../src/sim/op.ts';
import {
  DMA_BUF_IOCTL_EXPORT_SYNC_FILE,
  DMA_BUF_IOCTL_IMPORT_SYNC_FILE,
  DMA_BUF_IOCTL_SYNC,
} from '../../src/uapi/dma-buf-file.ts';
import { POLL } from '../../src/uapi/file.ts';
import type { Process } from '../../src/uapi/process.ts';
import { type Bench, bench } from '../bench.ts';
import { exportSyncFile, importSyncFile, isBusy, MS, openTimeline, type Timeline, wait } from './user.ts';

const { read: R, write: W, rw: RW } = DMA_BUF_SYNC;
const { in: IN, out: OUT } = POLL;

interface Scene {
  readonly b: Bench;
  readonly app: Process;
  /** A buffer's descriptor. */
  readonly fd: number;
  readonly timeline: Timeline;
}

/** Runs `body` as a program with one buffer and one timeline. Brackets need not pair: what each call does is asked. */
function program(body: (scene: Scene) => Op<void>): void {
  const b = bench();
  const app = b.machine.addProcess({ name: 'user', watch: false });
  const fd = app.fds.install(b.fakeBuffer());
  b.sim.run(function* () {
    yield* body({ b, app, fd, timeline: yield* openTimeline(app) });
    yield* app.kill();
  });
}

/** Whether reading, writing and both have to wait: as poll says, which has to be what exported files say. */
function* busy({ app, fd }: Scene): Op<readonly [boolean, boolean, boolean]> {
  const found: boolean[] = [];
  for (const [events, flags] of [
    [IN, R],
    [OUT, W],
    [IN | OUT, RW],
  ] as const) {
    const polled = yield* isBusy(app, fd, events);
    const file = yield* exportSyncFile(app, fd, flags);
    expect(yield* isBusy(app, file, IN)).toBe(polled);
    yield* app.close(file);
    found.push(polled);
  }
  const [reading, writing, both] = found;
  return [reading ?? false, writing ?? false, both ?? false];
}

const IDLE = [false, false, false];
const READERS = [false, true, true];
const WRITERS = [true, true, true];

function* codeOf(op: Op<unknown>): Op<string> {
  try {
    yield* op;
    return '';
  } catch (error) {
    if (error instanceof ErrnoError) return error.code;
    throw error;
  }
}

describe('the fences of a buffer as sync files', () => {
  it('DSF-01: poll and exported files agree at each stage', () => {
    program(function* (scene) {
      const { app, fd, timeline } = scene;
      expect(yield* busy(scene)).toEqual(IDLE);
      yield* importSyncFile(app, fd, R, yield* timeline.fence(1));
      expect(yield* busy(scene)).toEqual(READERS);
      yield* timeline.inc(1);
      expect(yield* busy(scene)).toEqual(IDLE);
      yield* importSyncFile(app, fd, W, yield* timeline.fence(2));
      expect(yield* busy(scene)).toEqual(WRITERS);
      yield* timeline.inc(1);
      expect(yield* busy(scene)).toEqual(IDLE);
    });
  });

  it.each([
    ['read', R, false],
    ['write', W, true],
  ])('DSF-02: files exported before a %s fence signals follow it', (_kind, flags, isReadBusy) => {
    program(function* ({ app, fd, timeline }) {
      yield* importSyncFile(app, fd, flags, yield* timeline.fence(1));
      const files = [yield* exportSyncFile(app, fd, R), yield* exportSyncFile(app, fd, W)] as const;
      expect([yield* isBusy(app, files[0], IN), yield* isBusy(app, files[1], IN)]).toEqual([isReadBusy, true]);
      yield* timeline.inc(1);
      expect([yield* isBusy(app, files[0], IN), yield* isBusy(app, files[1], IN)]).toEqual([false, false]);
    });
  });

  it('DSF-03: an exported file is a snapshot: it waits for what was there, not for what comes later', () => {
    program(function* ({ app, fd, timeline }) {
      const others = [yield* openTimeline(app), yield* openTimeline(app)] as const;
      yield* importSyncFile(app, fd, R, yield* timeline.fence(1));
      yield* importSyncFile(app, fd, R, yield* others[0].fence(1));
      const file = yield* exportSyncFile(app, fd, W);
      yield* importSyncFile(app, fd, R, yield* others[1].fence(1));
      yield* timeline.inc(1);
      expect(yield* isBusy(app, file, IN)).toBe(true);
      yield* others[0].inc(1);
      expect([yield* isBusy(app, file, IN), yield* isBusy(app, fd, OUT)]).toEqual([false, true]);
    });
  });

  it.each([
    ['READ', R, READERS],
    ['WRITE', W, WRITERS],
    ['READ and WRITE', RW, WRITERS],
  ])('DSF-05: a fence imported with %s makes busy whom it concerns, until it signals', (_kind, flags, expected) => {
    program(function* (scene) {
      yield* importSyncFile(scene.app, scene.fd, flags, yield* scene.timeline.fence(1));
      expect(yield* busy(scene)).toEqual(expected);
      yield* scene.timeline.inc(1);
      expect(yield* busy(scene)).toEqual(IDLE);
    });
  });

  it('DSF-06: 32 readers keep writers waiting until the very last, and no reader at all', () => {
    program(function* (scene) {
      const { app, fd } = scene;
      const timelines: Timeline[] = [];
      for (let i = 0; i < 32; i++) {
        const timeline = yield* openTimeline(app);
        yield* importSyncFile(app, fd, R, yield* timeline.fence(1));
        timelines.push(timeline);
      }
      const files = [yield* exportSyncFile(app, fd, R), yield* exportSyncFile(app, fd, W)] as const;
      for (const timeline of timelines.reverse()) {
        expect(yield* busy(scene)).toEqual(READERS);
        expect([yield* isBusy(app, files[0], IN), yield* isBusy(app, files[1], IN)]).toEqual([false, true]);
        yield* timeline.inc(1);
      }
      expect(yield* busy(scene)).toEqual(IDLE);
      expect(yield* isBusy(app, files[1], IN)).toBe(false);
    });
  });

  it('32 writers keep everybody waiting until the very last', () => {
    program(function* (scene) {
      const { app, fd } = scene;
      const timelines: Timeline[] = [];
      for (let i = 0; i < 32; i++) {
        const timeline = yield* openTimeline(app);
        yield* importSyncFile(app, fd, W, yield* timeline.fence(1));
        timelines.push(timeline);
      }
      for (const timeline of timelines.reverse()) {
        expect(yield* busy(scene)).toEqual(WRITERS);
        yield* timeline.inc(1);
      }
      expect(yield* busy(scene)).toEqual(IDLE);
    });
  });

  it('DSF-08: flags must be READ, WRITE or both; only sync files can be imported; an idle buffer gives a signalled file', () => {
    program(function* ({ app, fd, timeline }) {
      const fence = yield* timeline.fence(1);
      for (const flags of [0, 4, 7, 8, 2 ** 31]) {
        expect(yield* codeOf(app.ioctl(fd, DMA_BUF_IOCTL_EXPORT_SYNC_FILE, { flags }))).toBe('EINVAL');
        expect(yield* codeOf(app.ioctl(fd, DMA_BUF_IOCTL_IMPORT_SYNC_FILE, { flags, fd: fence }))).toBe('EINVAL');
      }
      for (const other of [-1, 0, fd, timeline.fd]) {
        expect(yield* codeOf(app.ioctl(fd, DMA_BUF_IOCTL_IMPORT_SYNC_FILE, { flags: R, fd: other }))).toBe('EINVAL');
      }
      const file = yield* exportSyncFile(app, fd, RW);
      expect([app.fds.isCloexec(file), yield* isBusy(app, file, IN)]).toEqual([true, false]);
      expect(app.fds.open).toEqual([fd, timeline.fd, fence, file]);
    });
  });

  it('gives neither descriptor nor file when the copy back to the process fails', () => {
    program(function* ({ app, fd, timeline }) {
      yield* importSyncFile(app, fd, W, yield* timeline.fence(1));
      const open = app.fds.open;
      const asked = { flags: R, fd: -7 };
      expect(yield* codeOf(app.ioctl(fd, DMA_BUF_IOCTL_EXPORT_SYNC_FILE, asked, { readOnly: true }))).toBe('EFAULT');
      expect([app.fds.open, app.fds.reserved, asked.fd]).toEqual([open, [], -7]);
    });
  });

  it.each([
    ['XDB-01', 'WRITE', W, 'WRITE', W, true],
    ['XDB-03', 'READ', R, 'WRITE', W, true],
    ['XDB-04', 'WRITE', W, 'READ', R, true],
    ['a reader need not wait for readers', 'READ', R, 'READ', R, false],
  ])('%s: fence imported as %s, file exported as %s: the next job waits if it has to', (...row) => {
    const [, , imported, , exported, waits] = row;
    program(function* ({ b, app, fd, timeline }) {
      yield* importSyncFile(app, fd, imported, yield* timeline.fence(1));
      const file = yield* exportSyncFile(app, fd, exported);
      const memory = yield* app.mmap(fd);
      const job = b.sim.spawn('job', function* () {
        yield* wait(app, file);
        memory.write(0, Uint8Array.of(0xee, 0xff, 0xc0));
      });
      yield* b.sim.delay(MS);
      expect([job.outcome, memory.peek(0, 1)[0]]).toEqual(waits ? [null, 0] : ['returned', 0xee]);
      yield* timeline.inc(1);
      yield* job.done;
      expect([...memory.peek(0, 3)]).toEqual([0xee, 0xff, 0xc0]);
    });
  });
});

describe('poll of a buffer', () => {
  it.each([0, POLL.pri])('CORE-14: with neither IN nor OUT in %i answers no event, busy or idle', (events) => {
    program(function* ({ app, fd, timeline }) {
      const request = { fd, events, revents: 99 };
      expect([yield* app.poll([request], 0), request.revents]).toEqual([0, 0]);
      yield* importSyncFile(app, fd, W, yield* timeline.fence(1));
      expect([yield* app.poll([request], 0), request.revents]).toEqual([0, 0]);
    });
  });

  it('ends at the instant the last fence signals', () => {
    program(function* ({ b, app, fd, timeline }) {
      const other = yield* openTimeline(app);
      yield* importSyncFile(app, fd, R, yield* timeline.fence(1));
      yield* importSyncFile(app, fd, R, yield* other.fence(1));
      const poller = b.sim.spawn('poller', function* () {
        const request = { fd, events: OUT, revents: 0 };
        const count = yield* app.poll([request]);
        return [count, request.revents, b.sim.now];
      });
      yield* b.sim.delay(1000);
      yield* timeline.inc(1);
      yield* b.sim.delay(1000);
      expect(poller.outcome).toBe(null);
      yield* other.inc(1);
      const signaledNs = b.sim.now;
      const [count, revents, endedNs] = yield* poller.done;
      expect([count, revents]).toEqual([1, OUT]);
      expect(Math.abs((endedNs ?? 0) - signaledNs)).toBeLessThan(1000);
    });
  });

  it('keeps the buffer until the fence that it watches has signalled, although everything was closed', () => {
    const b = bench();
    const app = b.machine.addProcess({ name: 'user' });
    const buf = b.fakeBuffer();
    b.sim.run(function* () {
      const fd = app.fds.install(buf);
      const timeline = yield* openTimeline(app);
      yield* importSyncFile(app, fd, W, yield* timeline.fence(1));
      expect(yield* isBusy(app, fd, IN)).toBe(true);
      expect(app.fdinfo(fd)).toContain('count:\t2');
      yield* app.close(fd);
      expect(buf.references).toBe(1);
      yield* timeline.inc(1);
      expect([buf.references, buf.released]).toEqual([0, true]);
      yield* app.kill();
    });
  });

  it('waits for the reservation lock', () => {
    program(function* ({ b, app, fd }) {
      const buf = app.fds.get(fd);
      const holder = b.sim.spawn('mover', () => buf.resv.withLock(() => b.sim.delay(5000)));
      yield* b.sim.delay(10);
      expect(yield* isBusy(app, fd, IN)).toBe(false);
      expect(holder.outcome).toBe('returned');
      buf.put();
    });
  });

  it('answers none of the events that a buffer does not know', () => {
    program(function* ({ app, fd }) {
      const request = { fd, events: POLL.pri | POLL.rdnorm | POLL.wrnorm, revents: 0 };
      expect([yield* app.poll([request], 0), request.revents]).toEqual([0, 0]);
    });
  });
});

describe('DMA_BUF_IOCTL_SYNC', () => {
  it.each([
    [R, R, false],
    [R, W, true],
    [W, R, true],
    [W, W, true],
  ])('with a fence imported as %s, START of %s waits: %s; END never', (imported, access, waits) => {
    program(function* ({ b, app, fd, timeline }) {
      yield* importSyncFile(app, fd, imported, yield* timeline.fence(1));
      const start = b.sim.spawn('start', () => app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: access }));
      yield* b.sim.delay(MS);
      expect(start.outcome).toBe(waits ? null : 'returned');
      yield* app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: DMA_BUF_SYNC.end | access });
      yield* timeline.inc(1);
      yield* start.done;
    });
  });
});
