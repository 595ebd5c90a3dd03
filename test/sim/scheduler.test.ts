import { describe, expect, it } from 'vitest';
import { DeadlockError } from '../../src/base/errors.ts';
import { timeout } from '../../src/sim/combinators.ts';
import { Event, Signal } from '../../src/sim/event.ts';
import { Mutex } from '../../src/sim/mutex.ts';
import type { Op } from '../../src/sim/op.ts';
import { Simulator } from '../../src/sim/simulator.ts';

function thrownBy(body: () => unknown): unknown {
  try {
    body();
  } catch (error) {
    return error;
  }
  return undefined;
}

describe('order', () => {
  it('at one instant is that of scheduling; what becomes ready in the instant comes last', () => {
    const sim = new Simulator();
    const log: string[] = [];
    const note = (text: string) => (): undefined => {
      log.push(text);
      return undefined;
    };
    sim.spawn('a', function* () {
      yield* sim.delay(10);
      log.push('a');
      sim.after(0, note('timer made at 10'));
      sim.spawn('c', note('c'));
    });
    sim.after(10, note('timer'));
    sim.spawn('b', function* () {
      yield* sim.delay(10);
      log.push('b');
    });
    sim.run();
    expect(log).toEqual(['timer', 'a', 'b', 'timer made at 10', 'c']);
  });

  it('holds for cancelled and kept timers of one instant when thousands of others are cancelled in it', () => {
    const sim = new Simulator();
    const log: string[] = [];
    const note = (text: string) => (): undefined => {
      log.push(text);
      return undefined;
    };
    const later = Array.from({ length: 3000 }, (_, i) => sim.after(100 + i, note('never')));
    sim.after(10, () => {
      for (const timer of later) timer.cancel();
      sim.after(0, note('made at 10'));
      return undefined;
    });
    sim.after(10, note('due at 10'));
    sim.run();
    expect([log, sim.now]).toEqual([['due at 10', 'made at 10'], 10]);
  });

  it('never turns the clock back', () => {
    const sim = new Simulator();
    let latest = 0;
    const tick = function* (step: number): Op<void> {
      for (let i = 0; i < 200; i++) {
        yield* sim.delay(step);
        expect(sim.now).toBeGreaterThanOrEqual(latest);
        latest = sim.now;
      }
    };
    for (const step of [1, 3, 1000, 123_456]) sim.spawn(`t${step}`, () => tick(step), { daemon: step > 100 });
    for (let t = 0; t < 2000; t += 77) {
      sim.runUntil(t);
      expect(sim.now).toBe(t);
      latest = t;
    }
    sim.run(() => sim.delay(5000));
    expect(sim.now).toBe(1925 + 5000);
  });
});

describe('sim.charge', () => {
  it('makes the running task pay at its next wait; fractions add up without loss', () => {
    const sim = new Simulator();
    const times: number[] = [];
    sim.run(function* () {
      for (let i = 0; i < 1000; i++) {
        sim.charge(0.1);
        if (i % 100 === 99) {
          yield* sim.delay(0);
          times.push(sim.now);
        }
      }
    });
    expect(times).toEqual([10, 20, 30, 40, 50, 60, 70, 80, 90, 100]);
  });

  it('is rounded up when paid, and what was paid too much is credited', () => {
    const sim = new Simulator();
    const times: number[] = [];
    sim.run(function* () {
      for (let i = 0; i < 4; i++) {
        sim.charge(0.25);
        yield* sim.delay(0);
        times.push(sim.now);
      }
      sim.charge(0.25);
    });
    expect([times, sim.now]).toEqual([[1, 1, 1, 1], 2]);
  });

  it('is paid before a delay begins to count, and at the end of the task', () => {
    const sim = new Simulator();
    const task = sim.spawn('t', function* () {
      sim.charge(7);
      yield* sim.delay(10);
      expect(sim.now).toBe(17);
      sim.charge(5);
    });
    sim.run(function* () {
      yield* task.exit;
      expect(sim.now).toBe(22);
    });
  });

  it('is paid at the end of a task that throws', () => {
    const sim = new Simulator();
    sim.run(function* () {
      const task = sim.spawn('t', function* () {
        yield* sim.delay(1);
        sim.charge(50);
        throw new Error('broken');
      });
      expect([yield* task.exit, sim.now]).toEqual(['threw', 51]);
    });
  });

  it('is paid while the task waits: a wait registers at once and misses nothing', () => {
    const sim = new Simulator();
    const signal = new Signal(sim);
    sim.spawn('t', function* () {
      sim.charge(100);
      yield* signal;
      expect(sim.now).toBe(100);
      sim.charge(10);
      yield* signal;
      expect(sim.now).toBe(500);
    });
    sim.after(50, () => {
      signal.notify();
      return undefined;
    });
    sim.after(500, () => {
      signal.notify();
      return undefined;
    });
    sim.run();
    expect(sim.now).toBe(500);
  });

  it('makes even a wait for something that has happened take the time owed', () => {
    const sim = new Simulator();
    const event = new Event(sim);
    event.fire();
    sim.run(function* () {
      yield* event;
      expect(sim.now).toBe(0);
      sim.charge(30);
      yield* event;
      expect(sim.now).toBe(30);
    });
  });

  it('does nothing outside a task', () => {
    const sim = new Simulator();
    sim.charge(100);
    sim.after(5, () => {
      sim.charge(100);
      return undefined;
    });
    sim.run(() => sim.delay(10));
    expect(sim.now).toBe(10);
  });

  it('refuses what is no time span', () => {
    const sim = new Simulator();
    for (const bad of [-1, Number.NaN, Infinity]) expect(() => sim.charge(bad)).toThrow('is no time span');
  });
});

describe('sim.run', () => {
  it('gives the value of the body and leaves other tasks for the next run', () => {
    const sim = new Simulator();
    const other = sim.spawn('other', () => sim.delay(100));
    expect(sim.run<string>(() => 'plain')).toBe('plain');
    const value = sim.run(function* () {
      yield* sim.delay(10);
      return 'op';
    });
    expect([value, sim.now, other.outcome]).toEqual(['op', 10, null]);
    sim.run();
    expect([sim.now, other.outcome]).toEqual([100, 'returned']);
  });

  it('is refused from inside the simulation', () => {
    const sim = new Simulator();
    expect(() =>
      sim.run(function* () {
        yield* sim.delay(1);
        sim.run(() => 1);
      }),
    ).toThrow('sim.run was called from inside the simulation; use yield* or sim.spawn');
    expect(sim.run(() => 2)).toBe(2);
  });

  it('works again after a callback has thrown', () => {
    const sim = new Simulator();
    sim.after(5, () => {
      throw new Error('callback broke');
    });
    expect(() => sim.run()).toThrow('callback broke');
    sim.run(() => sim.delay(5));
    expect(sim.now).toBe(10);
  });
});

describe('a deadlock', () => {
  it('names each task, what it waits for and since when', () => {
    const sim = new Simulator();
    const mutex = new Mutex(sim, 'resv(buf0)');
    sim.spawn('gpu0', function* () {
      yield* mutex.lock();
      yield* new Event(sim, 'irq');
    });
    sim.spawn('camera0', function* () {
      yield* sim.delay(10);
      yield* mutex.lock();
    });
    sim.spawn('watcher', () => new Signal(sim, 'vblank'));
    const error = thrownBy(() => sim.run());
    expect(error).toBeInstanceOf(DeadlockError);
    expect((error as DeadlockError).waiters).toEqual([
      { task: 'gpu0', waitsFor: 'event irq', sinceNs: 0 },
      { task: 'camera0', waitsFor: 'mutex resv(buf0), held by gpu0', sinceNs: 10 },
      { task: 'watcher', waitsFor: 'signal vblank', sinceNs: 0 },
    ]);
    expect((error as DeadlockError).message).toBe(
      [
        'no event is left at 10 ns and 3 task(s) still wait:',
        '  task gpu0 waits for event irq since 0 ns',
        '  task camera0 waits for mutex resv(buf0), held by gpu0 since 10 ns',
        '  task watcher waits for signal vblank since 0 ns',
      ].join('\n'),
    );
  });

  it('of main and a task it waits for names both', () => {
    const sim = new Simulator();
    const error = thrownBy(() =>
      sim.run(function* () {
        yield* sim.spawn('t', () => new Event(sim, 'never')).done;
      }),
    );
    expect((error as DeadlockError).waiters.map((waiter) => waiter.waitsFor)).toEqual(['task t to end', 'event never']);
  });

  it('leaves the simulator usable', () => {
    const sim = new Simulator();
    const event = new Event<string>(sim);
    const log: string[] = [];
    expect(() =>
      sim.run(function* () {
        log.push(yield* event);
      }),
    ).toThrow(DeadlockError);
    event.fire('late');
    sim.run();
    expect(log).toEqual(['late']);
  });
});

describe('sim.runUntil', () => {
  it('runs every event up to and including the time, and leaves the clock there', () => {
    const sim = new Simulator();
    const log: number[] = [];
    for (const ns of [10, 20, 30]) {
      sim.after(ns, () => {
        log.push(sim.now);
        return undefined;
      });
    }
    sim.runUntil(20);
    expect([log, sim.now]).toEqual([[10, 20], 20]);
    sim.runUntil(25);
    expect([log, sim.now]).toEqual([[10, 20], 25]);
    sim.run();
    expect([log, sim.now]).toEqual([[10, 20, 30], 30]);
  });

  it('runs daemons up to the time, also when nothing else is left', () => {
    const sim = new Simulator();
    const ticks: number[] = [];
    const ticker = function* (): Op<void> {
      for (;;) {
        yield* sim.delay(10);
        ticks.push(sim.now);
      }
    };
    sim.spawn('ticker', ticker, { daemon: true });
    sim.runUntil(35);
    expect([ticks, sim.now]).toEqual([[10, 20, 30], 35]);
  });

  it('is no deadlock when tasks still wait', () => {
    const sim = new Simulator();
    sim.spawn('t', () => new Event(sim));
    sim.runUntil(50);
    expect(sim.now).toBe(50);
  });

  it('never turns the clock back, and refuses bad times', () => {
    const sim = new Simulator();
    sim.runUntil(50);
    sim.runUntil(20);
    expect(sim.now).toBe(50);
    for (const bad of [-1, 0.5, Infinity]) expect(() => sim.runUntil(bad)).toThrow('nanos:');
  });

  it('lets work be added between two calls, before events that are already due later', () => {
    const sim = new Simulator();
    const log: string[] = [];
    const note = (text: string) => (): undefined => {
      log.push(`${text} ${sim.now}`);
      return undefined;
    };
    sim.after(1_000_000, note('far'));
    sim.runUntil(10);
    sim.after(5, note('near'));
    sim.after(0, note('at once'));
    sim.run();
    expect(log).toEqual(['at once 10', 'near 15', 'far 1000000']);
  });
});

describe('an error that nobody waits for any more', () => {
  it('ends the run, though somebody waited for the task once and gave up', () => {
    const sim = new Simulator();
    const worker = sim.spawn('worker', function* () {
      yield* sim.delay(100);
      throw new Error('the worker broke');
    });
    const program = () =>
      sim.run(function* () {
        yield* timeout(sim, 10, worker.done);
        yield* sim.delay(1000);
      });
    expect(program).toThrow('the worker broke');
    expect(sim.now).toBe(100);
  });

  it('ends the next run when it is that of a main body left over from a run that failed', () => {
    const sim = new Simulator();
    sim.spawn('spoiler', function* () {
      yield* sim.delay(1);
      throw new Error('spoiled');
    });
    const leftOver = () =>
      sim.run(function* () {
        yield* sim.delay(5);
        throw new Error('the first main broke');
      });
    expect(leftOver).toThrow('spoiled');
    expect(() => sim.run()).toThrow('the first main broke');
  });

  it('is not hidden by a lock the task still held, which is noted all the same', () => {
    const sim = new Simulator();
    const lock = new Mutex(sim, 'state');
    const program = () =>
      sim.run(function* () {
        yield* lock.lock();
        throw new Error('the real error');
      });
    expect(program).toThrow('the real error');
    expect(sim.hazards.map(({ hazard }) => hazard)).toEqual(['lock.held-at-exit']);
  });
});

describe('sim.run with a limit', () => {
  it('ends a wait that nobody ends beside a daemon that ticks, and names who waits', () => {
    const sim = new Simulator();
    const never = new Event(sim, 'never');
    const tick = function* () {
      for (;;) yield* sim.delay(10);
    };
    sim.spawn('ticker', tick, { daemon: true });
    expect(() => sim.run(() => never, { limitNs: 1000 })).toThrow(
      'the limit is reached at 1000 ns and 1 task(s) still wait:\n  task main waits for event never since 0 ns',
    );
    expect(sim.run(() => 5, { limitNs: 2000 })).toBe(5);
  });

  it('refuses a limit that is no time', () => {
    expect(() => new Simulator().run(() => 1, { limitNs: -1 })).toThrow('nanos: -1');
  });
});
