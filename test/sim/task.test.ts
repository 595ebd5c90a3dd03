import { describe, expect, it } from 'vitest';
import { Event, Signal } from '../../src/sim/event.ts';
import type { Op } from '../../src/sim/op.ts';
import { Simulator } from '../../src/sim/simulator.ts';
import { KilledError } from '../../src/sim/task.ts';

/** A task that logs its `finally` block. */
function* sleeper(sim: Simulator, log: string[], ns: number): Op<string> {
  try {
    yield* sim.delay(ns);
    log.push(`woke ${sim.now}`);
    return 'slept';
  } finally {
    log.push(`finally ${sim.now}`);
  }
}

describe('sim.spawn', () => {
  it('starts the task at the present instant, after the spawning one has come to its next wait', () => {
    const sim = new Simulator();
    const log: string[] = [];
    sim.run(function* () {
      yield* sim.delay(5);
      sim.spawn('a', () => {
        log.push(`a ${sim.now}`);
      });
      log.push('main');
      yield* sim.delay(0);
    });
    expect(log).toEqual(['main', 'a 5']);
  });

  it('takes a plain function, an operation, a waitable and a generator function for a body', () => {
    const sim = new Simulator();
    const event = new Event<number>(sim);
    const tasks = [
      sim.spawn('plain', () => 1),
      sim.spawn<number[]>('array', () => [2]),
      sim.spawn('waitable', () => event),
      sim.spawn('generator', function* () {
        yield* sim.delay(1);
        return 4;
      }),
    ] as const;
    event.fire(3);
    const values = sim.run(function* () {
      return [yield* tasks[0].done, yield* tasks[1].done, yield* tasks[2].done, yield* tasks[3].done];
    });
    expect(values).toEqual([1, [2], 3, 4]);
  });

  it('numbers tasks in the order of creation and tells which one runs', () => {
    const sim = new Simulator();
    const names: (string | undefined)[] = [];
    const first = sim.spawn('a', () => names.push(sim.currentTask?.name));
    const second = sim.spawn('b', () => names.push(sim.currentTask?.name));
    sim.after(1, () => {
      names.push(sim.currentTask?.name);
      return undefined;
    });
    sim.run();
    expect([first.id, second.id]).toEqual([0, 1]);
    expect(names).toEqual(['a', 'b', undefined]);
    expect(sim.currentTask).toBeNull();
  });

  it('fails with advice when an operation is yielded without the star', () => {
    const sim = new Simulator();
    sim.spawn('hasty', function* (): Generator<never, void, unknown> {
      yield* [42] as never[];
    });
    expect(() => sim.run()).toThrow('task hasty yielded 42: call operations with yield*');
  });

  it('fails when an operation is used outside a task', () => {
    const sim = new Simulator();
    const event = new Event(sim);
    expect(() => event[Symbol.iterator]().next()).toThrow('outside a task: wrap it in sim.run or sim.spawn');
    sim.after(1, () => {
      sim.delay(1)[Symbol.iterator]().next();
      return undefined;
    });
    expect(() => sim.run()).toThrow('outside a task');
  });
});

describe('task.done and task.exit', () => {
  it('give the value and the outcome of a task that has ended, or will', () => {
    const sim = new Simulator();
    const task = sim.spawn('t', () => sleeper(sim, [], 10));
    sim.run(function* () {
      expect(task.outcome).toBeNull();
      expect([yield* task.done, sim.now, task.outcome]).toEqual(['slept', 10, 'returned']);
      expect([yield* task.done, yield* task.exit, sim.now]).toEqual(['slept', 'returned', 10]);
    });
  });

  it('wake all who wait for the same task, in the order they came', () => {
    const sim = new Simulator();
    const log: string[] = [];
    const task = sim.spawn('t', () => sleeper(sim, [], 10));
    for (const name of ['a', 'b', 'c']) {
      sim.spawn(name, function* () {
        log.push(name + (yield* task.done));
      });
    }
    sim.run();
    expect(log).toEqual(['aslept', 'bslept', 'cslept']);
  });

  it('rethrow the error of the task in whoever waits for done; exit only tells it', () => {
    const sim = new Simulator();
    const failure = new Error('broken');
    const task = sim.spawn('t', function* () {
      yield* sim.delay(10);
      throw failure;
    });
    sim.run(function* () {
      expect(yield* task.exit).toBe('threw');
      let caught: unknown;
      try {
        yield* task.done;
      } catch (error) {
        caught = error;
      }
      expect(caught).toBe(failure);
    });
  });

  it('throw KilledError with the name of the task to whoever waits for the result of a killed one', () => {
    const sim = new Simulator();
    const task = sim.spawn('victim', () => sim.delay(10));
    expect(() =>
      sim.run(function* () {
        sim.after(5, () => {
          task.kill();
          return undefined;
        });
        yield* task.done;
      }),
    ).toThrow(new KilledError('victim'));
    expect(sim.now).toBe(5);
  });

  it('forget a waiter that is killed', () => {
    const sim = new Simulator();
    const task = sim.spawn('t', () => sleeper(sim, [], 10));
    const waiter = sim.spawn('w', function* () {
      yield* task.exit;
    });
    sim.after(5, () => {
      waiter.kill();
      return undefined;
    });
    sim.run();
    expect([waiter.outcome, task.outcome, sim.now]).toEqual(['killed', 'returned', 10]);
  });
});

describe('an error that nobody waits for', () => {
  it('ends the run with itself, at its time, and the next run goes on', () => {
    const sim = new Simulator();
    const failure = new Error('broken');
    const log: string[] = [];
    sim.spawn('t', function* () {
      yield* sim.delay(10);
      throw failure;
    });
    sim.spawn('other', () => sleeper(sim, log, 20));
    expect(() => sim.run()).toThrow(failure);
    expect([sim.now, log]).toEqual([10, []]);
    sim.run();
    expect([sim.now, log]).toEqual([20, ['woke 20', 'finally 20']]);
  });

  it('ends the run also when the main body could still go on', () => {
    const sim = new Simulator();
    sim.spawn('t', () => {
      throw new Error('broken');
    });
    expect(() => sim.run(() => sim.delay(10))).toThrow('broken');
  });

  it('of the main body comes out of run itself, though others wait for nothing', () => {
    const sim = new Simulator();
    expect(() =>
      sim.run(() => {
        throw new TypeError('from main');
      }),
    ).toThrow(new TypeError('from main'));
    expect(sim.run(() => 5)).toBe(5);
  });
});

describe('task.kill', () => {
  it('takes the task out of its wait, runs its finally blocks and ends it at the present instant', () => {
    const sim = new Simulator();
    const log: string[] = [];
    const task = sim.spawn('t', () => sleeper(sim, log, 100));
    sim.run(function* () {
      yield* sim.delay(10);
      task.kill();
      expect(log).toEqual([]);
      expect([yield* task.exit, sim.now]).toEqual(['killed', 10]);
    });
    expect(log).toEqual(['finally 10']);
    sim.run();
    expect(sim.now).toBe(10);
  });

  it('lets finally blocks wait and spend time; a second kill does not disturb them', () => {
    const sim = new Simulator();
    const log: string[] = [];
    const task = sim.spawn('t', function* () {
      try {
        yield* sim.delay(100);
      } finally {
        yield* sim.delay(7);
        sim.charge(3);
        log.push(`cleaned ${sim.now}`);
      }
    });
    sim.run(function* () {
      yield* sim.delay(10);
      task.kill();
      yield* sim.delay(1);
      task.kill();
      yield* task.exit;
    });
    expect([log, sim.now, task.outcome]).toEqual([['cleaned 17'], 20, 'killed']);
  });

  it('runs the finally blocks of every level of nested operations, innermost first', () => {
    const sim = new Simulator();
    const log: string[] = [];
    function* level(n: number): Op<void> {
      try {
        if (n === 0) yield* sim.delay(100);
        else yield* level(n - 1);
      } finally {
        log.push(String(n));
      }
    }
    const task = sim.spawn('t', () => level(3));
    sim.run(function* () {
      yield* sim.delay(1);
      task.kill();
    });
    sim.run();
    expect(log).toEqual(['0', '1', '2', '3']);
  });

  it('makes an error of a finally block the outcome', () => {
    const sim = new Simulator();
    const task = sim.spawn('t', function* () {
      try {
        yield* sim.delay(100);
      } finally {
        yield* fail();
      }
    });
    function* fail(): Op<void> {
      yield* sim.delay(1);
      throw new Error('cleanup failed');
    }
    sim.after(1, () => {
      task.kill();
      return undefined;
    });
    expect(() => sim.run()).toThrow('cleanup failed');
    expect(task.outcome).toBe('threw');
  });

  it('of oneself acts at the next wait', () => {
    const sim = new Simulator();
    const log: string[] = [];
    const task = sim.spawn('t', function* () {
      try {
        sim.currentTask?.kill();
        log.push('still runs');
        yield* sim.delay(5);
        log.push('never');
      } finally {
        log.push(`finally ${sim.now}`);
      }
    });
    sim.run();
    expect([log, task.outcome]).toEqual([['still runs', 'finally 0'], 'killed']);
  });

  it('of oneself without another wait lets the task return', () => {
    const sim = new Simulator();
    const task = sim.spawn('t', () => {
      sim.currentTask?.kill();
      return 3;
    });
    expect(sim.run(() => task.done)).toBe(3);
  });

  it('of a task that was woken and has not run yet wins over the wake-up', () => {
    const sim = new Simulator();
    const log: string[] = [];
    const event = new Event(sim);
    const task = sim.spawn('t', function* () {
      try {
        yield* event;
        log.push('never');
      } finally {
        log.push('finally');
      }
    });
    sim.run(function* () {
      yield* sim.delay(1);
      event.fire();
      task.kill();
      yield* task.exit;
    });
    expect([log, task.outcome]).toEqual([['finally'], 'killed']);
  });

  it('of a task that has not begun runs nothing of it', () => {
    const sim = new Simulator();
    const task = sim.spawn('t', () => {
      throw new Error('begun');
    });
    task.kill();
    sim.run();
    expect([task.outcome, sim.now]).toEqual(['killed', 0]);
  });

  it('of a task in debt acts when the debt is paid, in a delay and in a wait', () => {
    for (const wait of ['delay', 'signal', 'fired event'] as const) {
      const sim = new Simulator();
      const signal = new Signal(sim);
      const event = new Event(sim);
      event.fire();
      const task = sim.spawn('t', function* () {
        sim.charge(50);
        if (wait === 'delay') yield* sim.delay(50);
        else if (wait === 'signal') yield* signal;
        else yield* event;
        throw new Error('not killed');
      });
      sim.run(function* () {
        yield* sim.delay(10);
        task.kill();
        expect([wait, yield* task.exit, sim.now]).toEqual([wait, 'killed', 50]);
      });
    }
  });

  it('of a task that only pays its last debt does not change its outcome', () => {
    const sim = new Simulator();
    const task = sim.spawn<string>('t', () => {
      sim.charge(50);
      return 'done';
    });
    sim.run(function* () {
      yield* sim.delay(10);
      task.kill();
      expect([yield* task.done, sim.now]).toEqual(['done', 50]);
    });
  });

  it('of a daemon works, and of an ended task does nothing', () => {
    const sim = new Simulator();
    const log: string[] = [];
    const daemon = sim.spawn('d', () => sleeper(sim, log, 1000), { daemon: true });
    sim.run(function* () {
      yield* sim.delay(10);
      daemon.kill();
      yield* daemon.exit;
      daemon.kill();
    });
    sim.run();
    expect([log, daemon.outcome, sim.now]).toEqual([['finally 10'], 'killed', 10]);
  });

  it('of the main body makes run throw KilledError instead of giving a value', () => {
    const sim = new Simulator();
    expect(() =>
      sim.run(function* () {
        sim.currentTask?.kill();
        yield* sim.delay(1);
        return 5;
      }),
    ).toThrow(new KilledError('main'));
  });
});

describe('a daemon', () => {
  it('does not keep run from ending, and goes on in the next run', () => {
    const sim = new Simulator();
    const ticks: number[] = [];
    sim.spawn(
      'ticker',
      function* () {
        for (;;) {
          yield* sim.delay(10);
          ticks.push(sim.now);
        }
      },
      { daemon: true },
    );
    sim.run(() => sim.delay(25));
    expect([ticks, sim.now]).toEqual([[10, 20], 25]);
    sim.run();
    expect(sim.now).toBe(25);
    sim.run(() => sim.delay(10));
    expect([ticks, sim.now]).toEqual([[10, 20, 30], 35]);
  });

  it('is no part of a deadlock', () => {
    const sim = new Simulator();
    sim.spawn('d', () => new Signal(sim), { daemon: true });
    sim.run();
    expect(sim.now).toBe(0);
  });

  it('that fails ends the run', () => {
    const sim = new Simulator();
    const body = function* (): Op<void> {
      yield* sim.delay(1);
      throw new Error('daemon broke');
    };
    sim.spawn('d', body, { daemon: true });
    expect(() => sim.run(() => sim.delay(5))).toThrow('daemon broke');
  });
});
