import { describe, expect, it } from 'vitest';
import { POLL } from '../../src/uapi/file.ts';
import { bench, errno } from '../bench.ts';
import { MS, openTimeline, wait } from './user.ts';

function scene() {
  const b = bench();
  return { b, app: b.machine.addProcess({ name: 'user' }) };
}

describe('Process.poll', () => {
  it('gives 0 when the time is up, exactly then', () => {
    const { b, app } = scene();
    b.sim.run(function* () {
      const fence = yield* (yield* openTimeline(app)).fence(1);
      const before = b.sim.now;
      expect(yield* wait(app, fence, 5 * MS)).toBe(false);
      expect(b.sim.now - before).toBeGreaterThanOrEqual(5 * MS);
      expect(b.sim.now - before).toBeLessThan(5 * MS + 1000);
      yield* app.kill();
    });
  });

  it('tells of each file what is ready, passes over negative numbers, and marks those that are not open', () => {
    const { b, app } = scene();
    b.sim.run(function* () {
      const timeline = yield* openTimeline(app);
      const [pending, over] = [yield* timeline.fence(5), yield* timeline.fence(0)];
      const requests = [pending, over, -1, 99, 1].map((fd) => ({ fd, events: POLL.in | POLL.out, revents: 7 }));
      expect(yield* app.poll(requests)).toBe(3);
      expect(requests.map(({ revents }) => revents)).toEqual([0, POLL.in, 0, POLL.nval, POLL.in | POLL.out]);
      yield* app.kill();
    });
  });

  it('wakes for the first of several files', () => {
    const { b, app } = scene();
    b.sim.run(function* () {
      const [one, two] = [yield* openTimeline(app), yield* openTimeline(app)];
      const requests = [yield* one.fence(1), yield* two.fence(1)].map((fd) => ({ fd, events: POLL.in, revents: 0 }));
      const poller = b.sim.spawn('poller', () => app.poll(requests));
      yield* b.sim.delay(100);
      yield* two.inc(1);
      expect(yield* poller.done).toBe(1);
      expect(requests.map(({ revents }) => revents)).toEqual([0, POLL.in]);
      yield* app.kill();
    });
  });

  it('ends with EINTR when a signal comes, and can be tried again', () => {
    const { b, app } = scene();
    b.sim.run(function* () {
      const timeline = yield* openTimeline(app);
      const fence = yield* timeline.fence(1);
      b.sim.after(1000, () => app.interrupt() as undefined);
      let caught: unknown = null;
      try {
        yield* wait(app, fence);
      } catch (error) {
        caught = error;
      }
      expect(caught).toEqual(errno('EINTR'));
      yield* timeline.inc(1);
      expect(yield* wait(app, fence)).toBe(true);
      yield* app.kill();
    });
  });

  it('is not ended by a signal that came before', () => {
    const { b, app } = scene();
    b.sim.run(function* () {
      const fence = yield* (yield* openTimeline(app)).fence(1);
      app.interrupt();
      expect(yield* wait(app, fence, 1000)).toBe(false);
      yield* app.kill();
    });
  });

  it('holds its files: one that is closed meanwhile still ends the wait', () => {
    const { b, app } = scene();
    b.sim.run(function* () {
      const timeline = yield* openTimeline(app);
      const fence = yield* timeline.fence(1);
      const poller = b.sim.spawn('poller', () => wait(app, fence));
      yield* b.sim.delay(100);
      yield* app.close(fence);
      yield* timeline.inc(1);
      expect(yield* poller.done).toBe(true);
      yield* app.kill();
    });
  });

  it('holds nothing when its task is killed', () => {
    const { b, app } = scene();
    b.sim.run(function* () {
      const timeline = yield* openTimeline(app);
      const fence = yield* timeline.fence(1);
      const file = app.fds.file(fence);
      const poller = b.sim.spawn('poller', () => wait(app, fence));
      yield* b.sim.delay(100);
      expect(file.references).toBe(2);
      poller.kill();
      yield* poller.exit;
      expect(file.references).toBe(1);
      yield* app.kill();
    });
  });

  it('refuses more requests than the process may have descriptors', () => {
    const b = bench();
    const app = b.machine.addProcess({ name: 'user', maxFds: 3 });
    const requests = Array.from({ length: 4 }, () => ({ fd: -1, events: 0 }));
    expect(() => b.sim.run(() => app.poll(requests, 0))).toThrow(errno('EINVAL'));
  });
});

describe('Process.select', () => {
  it('gives what is ready of each set, and waits for the first', () => {
    const { b, app } = scene();
    b.sim.run(function* () {
      const timeline = yield* openTimeline(app);
      const [fence, buffer] = [yield* timeline.fence(1), app.fds.install(b.fakeBuffer())];
      expect(yield* app.select({ read: [fence, buffer], write: [buffer], except: [buffer] }, 0)).toEqual({
        read: [buffer],
        write: [buffer],
        except: [],
      });
      const selecting = b.sim.spawn('selector', () => app.select({ read: [fence] }));
      yield* b.sim.delay(100);
      yield* timeline.inc(1);
      expect((yield* selecting.done).read).toEqual([fence]);
      yield* app.kill();
    });
  });

  it('answers EBADF to a descriptor that is not open', () => {
    const { b, app } = scene();
    expect(() => b.sim.run(() => app.select({ write: [44] }, 0))).toThrow(errno('EBADF'));
  });
});
