import { describe, expect, expectTypeOf, it } from 'vitest';
import type { DeadlockError } from '../../src/base/errors.ts';
import { RandomChooser } from '../../src/sim/chooser.ts';
import { all, race, timeout } from '../../src/sim/combinators.ts';
import { Event } from '../../src/sim/event.ts';
import type { Op } from '../../src/sim/op.ts';
import { Prng } from '../../src/sim/prng.ts';
import { Simulator } from '../../src/sim/simulator.ts';
import { KilledError, type Task } from '../../src/sim/task.ts';

interface World {
  readonly sim: Simulator;
  readonly log: string[];
  /** Waits, charges, then gives or throws; its cleanup takes 1 ns. */
  part<T>(name: string, ns: number, value: T, options?: { fails?: boolean; debt?: number }): Op<T>;
}

function world(options: ConstructorParameters<typeof Simulator>[0] = {}): World {
  const sim = new Simulator(options);
  const log: string[] = [];
  return {
    sim,
    log,
    *part(name, ns, value, { fails = false, debt = 0 } = {}) {
      try {
        yield* sim.delay(ns);
        sim.charge(debt);
        if (fails) throw new Error(`${name} failed`);
        return value;
      } finally {
        yield* sim.delay(1);
        log.push(`${name} left ${sim.now}`);
      }
    },
  };
}

/** Nothing may be left after a combinator: no task, no timer. */
function expectRest(sim: Simulator): void {
  const { now } = sim;
  sim.run();
  expect(sim.now).toBe(now);
}

describe('all', () => {
  it('runs its parts at once and gives their values in order, typed', () => {
    const { sim, part } = world();
    const event = new Event<boolean>(sim);
    event.fire(true);
    const values = sim.run(() => all(sim, [part('a', 30, 1), part('b', 10, 'two'), event]));
    expectTypeOf(values).toEqualTypeOf<[number, string, boolean]>();
    expect([values, sim.now]).toEqual([[1, 'two', true], 31]);
    expectRest(sim);
  });

  it('of nothing is over at once', () => {
    const { sim } = world();
    expect([sim.run(() => all(sim, [])), sim.now]).toEqual([[], 0]);
  });

  it('ends when the debt of its parts is paid, and begins when the debt of the caller is', () => {
    const { sim, part } = world();
    sim.run(function* () {
      sim.charge(100);
      yield* all(sim, [part('a', 10, 1, { debt: 5 })]);
      expect(sim.now).toBe(100 + 10 + 5 + 1);
    });
  });

  it('counts a part as ended only when it has paid what it charged last', () => {
    const { sim } = world();
    const busy = function* (ns: number): Op<number> {
      yield* sim.delay(1);
      sim.charge(ns);
      return sim.now;
    };
    expect([sim.run(() => all(sim, [busy(50), busy(20)])), sim.now]).toEqual([[1, 1], 51]);
    expect([sim.run(() => race(sim, [busy(50), busy(20)])).index, sim.now]).toEqual([1, 102]); // a loser pays, too
  });

  it('kills the other parts when one fails, waits for their finally blocks, and throws the error', () => {
    const { sim, part, log } = world();
    expect(() => sim.run(() => all(sim, [part('a', 100, 1), part('b', 10, 2, { fails: true })]))).toThrow('b failed');
    expect(log).toEqual(['b left 11', 'a left 12']);
    expectRest(sim);
  });

  it('throws the first error when several parts fail', () => {
    const { sim, part } = world();
    const parts = [part('a', 10, 1, { fails: true }), part('b', 10, 2, { fails: true })];
    expect(() => sim.run(() => all(sim, parts))).toThrow('a failed');
    expectRest(sim);
  });

  it('kills its parts when the caller is killed, and lets it end after their finally blocks', () => {
    const { sim, part, log } = world();
    const caller = sim.spawn('caller', () => all(sim, [part('a', 100, 1), part('b', 200, 2)]));
    sim.run(function* () {
      yield* sim.delay(10);
      caller.kill();
      expect([yield* caller.exit, sim.now, log]).toEqual(['killed', 11, ['a left 11', 'b left 11']]);
    });
    expectRest(sim);
  });

  it('waits for the finally blocks of its parts also when the caller is killed while it waits for them', () => {
    const { sim, log } = world();
    const slow = function* (name: string, ns: number): Op<void> {
      try {
        yield* sim.delay(1000);
      } finally {
        yield* sim.delay(ns);
        log.push(`${name} left ${sim.now}`);
      }
    };
    const failing = function* (): Op<void> {
      yield* sim.delay(10);
      throw new Error('broken');
    };
    sim.run(function* () {
      const caller = sim.spawn('caller', () => all(sim, [slow('a', 50), slow('b', 80), failing()]));
      yield* sim.delay(20);
      caller.kill();
      expect([yield* caller.exit, sim.now, log]).toEqual(['threw', 90, ['a left 60', 'b left 90']]);
    });
    expectRest(sim);
  });

  it('throws KilledError when a part kills itself', () => {
    const { sim } = world();
    const suicide = function* (): Op<void> {
      sim.currentTask?.kill();
      yield* sim.delay(1);
    };
    expect(() => sim.run(() => all(sim, [suicide()]))).toThrow(new KilledError('main.0'));
  });

  it('may be nested', () => {
    const { sim, part } = world();
    const value = sim.run(() => all(sim, [all(sim, [part('a', 5, 1), part('b', 6, 2)]), part('c', 7, 3)]));
    expect([value, sim.now]).toEqual([[[1, 2], 3], 8]);
  });

  it('is named in a deadlock with the parts that wait', () => {
    const { sim, part } = world();
    let error: unknown;
    try {
      sim.run(() => all(sim, [part('a', 5, 1), new Event(sim, 'irq')]));
    } catch (caught) {
      error = caught;
    }
    expect((error as DeadlockError).waiters).toEqual([
      { task: 'main', waitsFor: 'event all(main)', sinceNs: 0 },
      { task: 'main.1', waitsFor: 'event irq', sinceNs: 0 },
    ]);
  });

  it('is refused outside a task and has started nothing', () => {
    const { sim, part, log } = world();
    const op = all(sim, [part('a', 5, 1)]);
    expect(() => op[Symbol.iterator]().next()).toThrow('all was used outside a task');
    sim.run();
    expect([sim.now, log]).toEqual([0, []]);
  });
});

describe('race', () => {
  it('gives the first that ends, when the finally blocks of the others have run', () => {
    const { sim, part, log } = world();
    const won = sim.run(() => race(sim, [part('a', 30, 'x'), part('b', 10, 'y'), part('c', 20, 'z')]));
    expect(won).toEqual({ index: 1, value: 'y' });
    expect(log).toEqual(['b left 11', 'a left 12', 'c left 12']);
    expectRest(sim);
  });

  it('of two that end at one instant gives the one that ran first', () => {
    const { sim } = world();
    const won = sim.run(() => race(sim, [sim.delay(10), sim.delay(5), sim.delay(5)]));
    expect([won.index, sim.now]).toEqual([1, 5]);
    expectRest(sim);
  });

  it('throws the error of a part that fails before any ends', () => {
    const { sim, part, log } = world();
    expect(() => sim.run(() => race(sim, [part('a', 10, 1, { fails: true }), part('b', 50, 2)]))).toThrow('a failed');
    expect(log).toEqual(['a left 11', 'b left 12']);
    expectRest(sim);
  });

  it('throws the error of a loser that fails in its finally block', () => {
    const { sim } = world();
    const loser = function* (): Op<void> {
      try {
        yield* sim.delay(100);
      } finally {
        yield* cleanup();
      }
    };
    const cleanup = function* (): Op<void> {
      yield* sim.delay(1);
      throw new Error('cleanup failed');
    };
    expect(() => sim.run(() => race(sim, [sim.delay(5), loser()]))).toThrow('cleanup failed');
    expectRest(sim);
  });

  it('takes losers out of what they wait for', () => {
    const { sim } = world();
    const event = new Event(sim);
    sim.run(() => race<unknown>(sim, [event, sim.delay(5)]));
    event.fire();
    expectRest(sim);
  });

  it('refuses to race nobody', () => {
    const { sim } = world();
    expect(() => sim.run(() => race(sim, []))).toThrow('race: no operation given');
  });
});

describe('timeout', () => {
  it('gives the value of an operation that is in time, and leaves no timer', () => {
    const { sim, part } = world();
    const result = sim.run(() => timeout(sim, 100, part('a', 10, 'x')));
    expect([result, sim.now]).toEqual([{ timedOut: false, value: 'x' }, 11]);
    expectRest(sim);
  });

  it('kills an operation that is late and goes on when its finally blocks have run', () => {
    const { sim, part, log } = world();
    const result = sim.run(() => timeout(sim, 10, part('a', 50, 'x')));
    expect([result, sim.now, log]).toEqual([{ timedOut: true }, 11, ['a left 11']]);
    expectRest(sim);
  });

  it('counts from when the debt of the caller is paid', () => {
    const { sim } = world();
    sim.run(function* () {
      sim.charge(1000);
      expect([yield* timeout(sim, 10, sim.delay(20)), sim.now]).toEqual([{ timedOut: true }, 1010]);
    });
  });

  it('of 0 ns lets what need not wait finish, and nothing else', () => {
    const { sim } = world();
    const event = new Event<number>(sim);
    expect(sim.run(() => timeout(sim, 0, event))).toEqual({ timedOut: true });
    event.fire(3);
    expect(sim.run(() => timeout(sim, 0, event))).toEqual({ timedOut: false, value: 3 });
    expect(sim.now).toBe(0);
  });

  it('takes an operation that ends at the very limit for in time', () => {
    const { sim } = world();
    expect(sim.run(() => timeout(sim, 10, sim.delay(10)))).toEqual({ timedOut: false, value: undefined });
  });

  it('throws the error of the operation, and refuses a bad limit before it starts anything', () => {
    const { sim, part, log } = world();
    expect(() => sim.run(() => timeout(sim, 100, part('a', 10, 1, { fails: true })))).toThrow('a failed');
    expectRest(sim);
    log.length = 0;
    for (const bad of [-1, 0.5, Number.NaN]) {
      expect(() => sim.run(() => timeout(sim, bad, part('b', 1, 1)))).toThrow('nanos:');
    }
    expectRest(sim);
    expect(log).toEqual([]);
  });
});

describe('combinators in a daemon', () => {
  it('do not keep a run from ending, nor are they part of a deadlock', () => {
    const { sim } = world();
    const rounds: number[] = [];
    const serve = function* (): Op<void> {
      for (;;) {
        yield* timeout(sim, 10, new Event(sim));
        yield* race<unknown>(sim, [sim.delay(5), new Event(sim)]);
        yield* all(sim, [sim.delay(5)]);
        rounds.push(sim.now);
      }
    };
    sim.spawn('server', serve, { daemon: true });
    sim.run(() => sim.delay(50));
    sim.run();
    expect([rounds, sim.now]).toEqual([[20, 40], 50]);
  });
});

describe('combinators under any schedule and any kill', () => {
  it('leave no task behind', () => {
    for (let seed = 0; seed < 200; seed++) {
      const { sim, part } = world({ chooser: new RandomChooser(new Prng(seed).fork('chooser')) });
      const random = new Prng(seed).fork('program');
      const tree = (depth: number): Op<unknown> => {
        const kind = depth === 0 ? 0 : random.int(4);
        if (kind === 0) return part(`p${depth}`, random.int(20), depth, { fails: random.int(8) === 0 });
        if (kind === 3) return timeout(sim, random.int(20), tree(depth - 1));
        const parts = Array.from({ length: 1 + random.int(3) }, () => tree(depth - 1));
        return kind === 1 ? all(sim, parts) : race(sim, parts);
      };
      const caller: Task<unknown> = sim.spawn('caller', () => tree(3));
      if (random.int(2) === 0) {
        sim.after(random.int(30), () => {
          caller.kill();
          return undefined;
        });
      }
      const spawned: string[] = [];
      const ended: string[] = [];
      sim.trace.on('task.spawn', ({ task }) => {
        spawned.push(task);
        return undefined;
      });
      sim.trace.on('task.end', ({ task }) => {
        if (task !== 'main' && task !== 'caller') ended.push(task);
        return undefined;
      });
      sim.run(() => caller.exit);
      expect(ended.sort()).toEqual(spawned.filter((name) => name !== 'main').sort());
      expect(caller.outcome).not.toBeNull();
    }
  });
});
