import { describe, expect, it } from 'vitest';
import { ErrnoError } from '../../src/base/errors.ts';
import { countLiveDmaFences } from '../../src/dmabuf/dma-fence-world.ts';
import type { Op } from '../../src/sim/op.ts';
import { SYNC_IOC_FILE_INFO, SYNC_IOC_MERGE } from '../../src/uapi/fence-file.ts';
import type { Process } from '../../src/uapi/process.ts';
import { SW_SYNC_IOC_CREATE_FENCE, SW_SYNC_IOC_INC } from '../../src/uapi/sw-sync.ts';
import { type Bench, bench } from '../bench.ts';
import { counts, MS, merge, openTimeline, wait } from './user.ts';

/** Rounds of the long loops. */
const ROUNDS = 1000 * Number(process.env['DMABUF_SIM_RUNS'] ?? 1);

/** Runs `body` as a program; at its end it closes everything, and no fence may be left. */
function program(body: (app: Process, b: Bench) => Op<void>): void {
  const b = bench();
  const app = b.machine.addProcess({ name: 'user' });
  b.sim.run(() => body(app, b));
  b.sim.run(() => app.kill());
  expect(countLiveDmaFences(b.sim)).toBe(0);
}

/** The errno of an operation; `''` when it succeeds. */
function* codeOf(op: Op<unknown>): Op<string> {
  try {
    yield* op;
    return '';
  } catch (error) {
    if (error instanceof ErrnoError) return error.code;
    throw error;
  }
}

describe('sw_sync', () => {
  it('SWS-01: makes and closes a timeline', () => {
    program(function* (app) {
      const timeline = yield* openTimeline(app);
      expect(app.fds.open).toEqual([timeline.fd]);
      yield* timeline.close();
      expect(app.fds.open).toEqual([]);
    });
  });

  it.each([0, 1])('SWS-02: makes a fence at %s and closes both, in either order', (value) => {
    program(function* (app, b) {
      for (const order of [0, 1]) {
        const timeline = yield* openTimeline(app);
        const fds = [timeline.fd, yield* timeline.fence(value)];
        for (const fd of order === 0 ? fds : fds.reverse()) yield* app.close(fd);
        expect([app.fds.open, countLiveDmaFences(b.sim)]).toEqual([[], 0]);
      }
    });
  });

  it('SWS-03: a fence of no timeline is refused, and nothing is made', () => {
    program(function* (app) {
      for (const fd of [-1, 77]) {
        expect(yield* codeOf(app.ioctl(fd, SW_SYNC_IOC_CREATE_FENCE, { value: 1 }))).toBe('EBADF');
      }
      expect(yield* codeOf(app.ioctl(0, SW_SYNC_IOC_CREATE_FENCE, { value: 1 }))).toBe('ENOTTY');
      expect([app.fds.open, app.fds.reserved]).toEqual([[], []]);
    });
  });

  it('closing the timeline fails what is pending with ENOENT, and whoever waits goes on', () => {
    program(function* (app, b) {
      const timeline = yield* openTimeline(app);
      const fence = yield* timeline.fence(1);
      const waiter = b.sim.spawn('waiter', () => wait(app, fence));
      yield* b.sim.delay(1000);
      expect(waiter.outcome).toBe(null);
      yield* timeline.close();
      expect(yield* waiter.done).toBe(true);
      expect(yield* counts(app, fence)).toEqual({ active: 0, signaled: 0, failed: 1 });
      expect((yield* app.ioctl(fence, SYNC_IOC_FILE_INFO, {})).status).toBe(-2);
    });
  });

  it('SWS-05: what was reached before the timeline is closed has signalled without an error', () => {
    program(function* (app) {
      const timeline = yield* openTimeline(app);
      const fence = yield* timeline.fence(1);
      yield* timeline.inc(1);
      yield* timeline.close();
      expect(yield* wait(app, fence, 0)).toBe(true);
      expect(yield* counts(app, fence)).toEqual({ active: 0, signaled: 1, failed: 0 });
    });
  });

  it('SWS-06: merges fences of two timelines, and nothing is left when all is closed', () => {
    program(function* (app, b) {
      const [one, two] = [yield* openTimeline(app), yield* openTimeline(app)];
      const [a, z] = [yield* one.fence(1), yield* two.fence(1)];
      const both = yield* merge(app, a, z);
      for (const fd of [one.fd, two.fd, a, z, both]) yield* app.close(fd);
      expect(countLiveDmaFences(b.sim)).toBe(0);
    });
  });

  it('SWS-07: a wait ends when the timeline reaches the value, not before', () => {
    program(function* (app, b) {
      const timeline = yield* openTimeline(app);
      const five = yield* timeline.fence(5);
      expect([yield* wait(app, five, 0), yield* wait(app, five, 1)]).toEqual([false, false]);
      yield* timeline.inc(4);
      expect(yield* wait(app, five, 0)).toBe(false);
      yield* timeline.inc(5);
      expect(yield* wait(app, five, 0)).toBe(true);
      let total = 9;
      for (const prime of [
        2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97,
      ]) {
        const fence = yield* timeline.fence(total + prime);
        expect(yield* wait(app, fence, 0)).toBe(false);
        yield* timeline.inc(prime);
        total += prime;
        const before = b.sim.now;
        expect(yield* wait(app, fence, MS)).toBe(true);
        expect(b.sim.now - before).toBeLessThan(MS);
        yield* app.close(fence);
      }
    });
  });

  it('SWS-08: another process moves the timeline on: the wait ends at that instant', () => {
    program(function* (app, b) {
      const timeline = yield* openTimeline(app);
      const fence = yield* timeline.fence(1);
      const child = app.fork('child');
      const start = b.sim.now;
      const other = b.sim.spawn('child', function* () {
        yield* b.sim.delay(1000 * MS);
        yield* child.ioctl(timeline.fd, SW_SYNC_IOC_INC, { value: 1 });
        yield* child.kill();
      });
      expect(yield* wait(app, fence, 0)).toBe(false);
      expect(yield* wait(app, fence, 2000 * MS)).toBe(true);
      expect(b.sim.now - start).toBeGreaterThanOrEqual(1000 * MS);
      expect(b.sim.now - start).toBeLessThan(1001 * MS);
      yield* other.done;
    });
  });

  it('SWS-10: merging with something that is no sync file is refused and does not touch the fence', () => {
    program(function* (app, b) {
      const timeline = yield* openTimeline(app);
      const fence = yield* timeline.fence(1);
      const buffer = app.fds.install(b.fakeBuffer());
      for (const fd2 of [-1, 0, buffer, timeline.fd]) {
        const open = app.fds.open.length;
        expect(yield* codeOf(merge(app, fence, fd2))).toBe('ENOENT');
        expect([app.fds.open.length, app.fds.reserved]).toEqual([open, []]);
      }
      yield* timeline.inc(1);
      expect(yield* counts(app, fence)).toEqual({ active: 0, signaled: 1, failed: 0 });
    });
  });

  it('SWS-11: fences of one timeline merge into the latest, which signals with the last step only', () => {
    program(function* (app) {
      const timeline = yield* openTimeline(app);
      const fences = [yield* timeline.fence(1), yield* timeline.fence(2), yield* timeline.fence(3)];
      const [one, two, three] = fences as [number, number, number];
      const merged = yield* merge(app, yield* merge(app, one, two), three);
      for (const [step, fence] of fences.entries()) {
        expect(yield* counts(app, merged)).toEqual({ active: 1, signaled: 0, failed: 0 });
        expect([yield* wait(app, merged, 0), yield* wait(app, fence, 0)]).toEqual([false, false]);
        yield* timeline.inc(1);
        expect(yield* wait(app, fence, 0)).toBe(true);
        expect(yield* wait(app, merged, 0)).toBe(step === 2);
      }
    });
  });

  it('SWS-12: a fence merged with itself is one fence', () => {
    program(function* (app) {
      const timeline = yield* openTimeline(app);
      const fence = yield* timeline.fence(1);
      const merged = yield* merge(app, fence, fence);
      expect(yield* counts(app, merged)).toEqual({ active: 1, signaled: 0, failed: 0 });
      yield* timeline.inc(1);
      expect(yield* counts(app, merged)).toEqual({ active: 0, signaled: 1, failed: 0 });
    });
  });

  it('SWS-13: a merged fence of three timelines counts down and signals with the last', () => {
    program(function* (app) {
      const timelines = [yield* openTimeline(app), yield* openTimeline(app), yield* openTimeline(app)];
      const fences: number[] = [];
      for (const timeline of timelines) fences.push(yield* timeline.fence(5));
      const [one, two, three] = fences as [number, number, number];
      const merged = yield* merge(app, three, yield* merge(app, two, one));
      expect(yield* counts(app, merged)).toEqual({ active: 3, signaled: 0, failed: 0 });
      for (const [step, timeline] of timelines.entries()) {
        expect(yield* wait(app, merged, 0)).toBe(false);
        yield* timeline.inc(5);
        expect(yield* counts(app, merged)).toEqual({ active: 2 - step, signaled: step + 1, failed: 0 });
      }
      expect(yield* wait(app, merged, 100 * MS)).toBe(true);
    });
  });

  it('consumers that wait for a merged fence of producers see every round in turn', () => {
    program(function* (app, b) {
      const [first, second] = [yield* openTimeline(app), yield* openTimeline(app)];
      const rounds = Math.min(ROUNDS, 200);
      let [produced, consumed] = [0, 0];
      const producer = (timeline: typeof first, name: string) =>
        b.sim.spawn(name, function* () {
          for (let i = 0; i < rounds; i++) {
            yield* b.sim.delay(10);
            produced++;
            yield* timeline.inc(1);
          }
        });
      const producers = [producer(first, 'p0'), producer(second, 'p1')];
      for (let i = 1; i <= rounds; i++) {
        const [a, z] = [yield* first.fence(i), yield* second.fence(i)];
        const both = yield* merge(app, a, z);
        expect(yield* wait(app, both, 1000 * MS)).toBe(true);
        expect(produced).toBeGreaterThanOrEqual(2 * i);
        consumed++;
        for (const fd of [a, z, both]) yield* app.close(fd);
      }
      for (const task of producers) yield* task.done;
      expect([produced, consumed]).toEqual([2 * rounds, rounds]);
    });
  });

  it('SWS-15: consumers that move the timeline on themselves take turns strictly', () => {
    program(function* (app, b) {
      const timeline = yield* openTimeline(app);
      const [tasks, rounds] = [4, Math.min(ROUNDS, 100)];
      let counter = 0;
      const order: number[] = [];
      const started = Array.from({ length: tasks }, (_, id) =>
        b.sim.spawn(`consumer${id}`, function* () {
          for (let i = 0; i < rounds; i++) {
            const fence = yield* timeline.fence(i * tasks + id);
            yield* wait(app, fence);
            yield* app.close(fence);
            order.push(id);
            counter++;
            yield* timeline.inc(1);
          }
        }),
      );
      for (const task of started) yield* task.done;
      expect(counter).toBe(tasks * rounds);
      expect(order.every((id, i) => id === i % tasks)).toBe(true);
    });
  });

  it('a random mesh of merges signals exactly when all its points are reached', () => {
    program(function* (app, b) {
      const random = b.sim.prng.fork('merges');
      const timelines = [yield* openTimeline(app), yield* openTimeline(app), yield* openTimeline(app)];
      const points = [0, 0, 0];
      let mesh = yield* timelines[0]?.fence(1) ?? raise();
      points[0] = 1;
      for (let i = 0; i < 60; i++) {
        const at = random.int(3);
        const value = 1 + random.int(20);
        points[at] = Math.max(points[at] ?? 0, value);
        const fence = yield* timelines[at]?.fence(value) ?? raise();
        const next = yield* merge(app, mesh, fence);
        for (const fd of [mesh, fence]) yield* app.close(fd);
        mesh = next;
      }
      const used = points.filter((value) => value > 0).length;
      expect((yield* counts(app, mesh)).active).toBe(used);
      for (const [at, timeline] of timelines.entries()) {
        const value = points[at] ?? 0;
        if (value === 0) continue;
        yield* timeline.inc(value - 1);
        expect(yield* wait(app, mesh, 0)).toBe(false);
        yield* timeline.inc(1);
      }
      expect(yield* wait(app, mesh, 0)).toBe(true);
    });
  });

  it('SWS-17: an expired fence merged with itself again and again signals at once and leaves nothing', () => {
    program(function* (app, b) {
      const timeline = yield* openTimeline(app);
      yield* timeline.inc(100);
      const fence = yield* timeline.fence(1);
      const live = countLiveDmaFences(b.sim);
      for (let i = 0; i < ROUNDS; i++) {
        const merged = yield* merge(app, fence, fence);
        const before = b.sim.now;
        if (!(yield* wait(app, merged, MS)) || b.sim.now - before >= MS) throw new Error(`round ${i} waits`);
        yield* app.close(merged);
      }
      expect([countLiveDmaFences(b.sim), app.fds.open.length]).toEqual([live, 2]);
    });
  });

  it('a pending fence can be closed before it signals', () => {
    program(function* (app, b) {
      const timeline = yield* openTimeline(app);
      yield* app.close(yield* timeline.fence(3));
      expect(countLiveDmaFences(b.sim)).toBe(0);
      yield* timeline.inc(3);
      expect(yield* wait(app, yield* timeline.fence(3), 0)).toBe(true);
    });
  });

  it('SWS-19: two tasks hand a counter to each other over one timeline', () => {
    program(function* (app, b) {
      const timeline = yield* openTimeline(app);
      let counter = 0;
      const worker = (id: number) =>
        b.sim.spawn(`worker${id}`, function* () {
          for (let i = 0; i < ROUNDS; i++) {
            const fence = yield* timeline.fence(i * 2 + id);
            yield* wait(app, fence);
            if (counter !== i * 2 + id) throw new Error(`worker ${id} sees ${counter} in round ${i}`);
            counter++;
            yield* timeline.inc(1);
            yield* app.close(fence);
          }
        });
      for (const task of [worker(0), worker(1)]) yield* task.done;
      expect(counter).toBe(2 * ROUNDS);
    });
  });

  it('a step of 2^31 and more is made in two, so that no fence in between is passed over', () => {
    program(function* (app) {
      const timeline = yield* openTimeline(app);
      const fences = [yield* timeline.fence(1), yield* timeline.fence(2 ** 31 - 1)];
      yield* timeline.inc(2 ** 32 - 1);
      for (const fence of fences) expect(yield* wait(app, fence, 0)).toBe(true);
      expect(yield* wait(app, yield* timeline.fence(5), 0)).toBe(false);
    });
  });

  it.each([
    ['a struct that can only be read', { readOnly: true }],
    ['no struct', null],
  ])('answers EFAULT to %s, with every request, and leaves neither descriptor nor fence', (_what, how) => {
    program(function* (app, b) {
      const timeline = yield* openTimeline(app);
      const fence = yield* timeline.fence(1);
      const live = countLiveDmaFences(b.sim);
      const options = how ?? {};
      const calls = [
        app.ioctl(timeline.fd, SW_SYNC_IOC_CREATE_FENCE, how === null ? null : { value: 9 }, options),
        app.ioctl(fence, SYNC_IOC_MERGE, how === null ? null : { fd2: fence }, options),
        app.ioctl(fence, SYNC_IOC_FILE_INFO, how === null ? null : {}, options),
      ];
      for (const call of calls) expect(yield* codeOf(call)).toBe('EFAULT');
      expect([app.fds.open, app.fds.reserved]).toEqual([[timeline.fd, fence], []]);
      expect(countLiveDmaFences(b.sim)).toBe(live);
    });
  });

  it('answers EMFILE before it makes anything when the table is full', () => {
    program(function* (app, b) {
      const timeline = yield* openTimeline(app);
      const fence = yield* timeline.fence(1);
      app.fds.limit = 5;
      const live = countLiveDmaFences(b.sim);
      expect(yield* codeOf(timeline.fence(7))).toBe('EMFILE');
      expect(yield* codeOf(app.ioctl(fence, SYNC_IOC_MERGE, null))).toBe('EMFILE');
      expect(countLiveDmaFences(b.sim)).toBe(live);
    });
  });
});

function raise(): never {
  throw new Error('no such timeline');
}
