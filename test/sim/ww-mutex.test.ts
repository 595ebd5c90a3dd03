import { describe, expect, it } from 'vitest';
import { type DeadlockError, ErrnoError } from '../../src/base/errors.ts';
import { RandomChooser } from '../../src/sim/chooser.ts';
import type { Op } from '../../src/sim/op.ts';
import { Prng } from '../../src/sim/prng.ts';
import { Simulator, type SimulatorOptions } from '../../src/sim/simulator.ts';
import type { Task } from '../../src/sim/task.ts';
import { WwAcquireCtx, type WwAlgorithm, WwClass } from '../../src/sim/ww-acquire-ctx.ts';
import { WwMutex, wwLockAll } from '../../src/sim/ww-mutex.ts';
import { everySchedule } from './every-schedule.ts';

const ALGORITHMS: readonly WwAlgorithm[] = ['wound-wait', 'wait-die'];

interface Bench {
  readonly sim: Simulator;
  readonly wwClass: WwClass;
  readonly log: string[];
  readonly a: WwMutex;
  readonly b: WwMutex;
  readonly c: WwMutex;
  /** Transactions from the oldest to the youngest. */
  begin(): WwAcquireCtx;
}

function bench(algorithm: WwAlgorithm, options?: SimulatorOptions): Bench {
  const sim = new Simulator(options);
  const wwClass = new WwClass(algorithm, 'resv');
  return {
    sim,
    wwClass,
    log: [],
    a: new WwMutex(sim, wwClass, 'a'),
    b: new WwMutex(sim, wwClass, 'b'),
    c: new WwMutex(sim, wwClass, 'c'),
    begin: () => new WwAcquireCtx(wwClass),
  };
}

/** Locks and gives `'locked'` or the errno. */
function* attempt(lock: Op<void>): Op<string> {
  try {
    yield* lock;
    return 'locked';
  } catch (error) {
    if (error instanceof ErrnoError) return error.code;
    throw error;
  }
}

/** Locks `first`, waits, tries `second`, logs how that went and when, unlocks all. */
function* pair(bench: Bench, name: string, ctx: WwAcquireCtx, [first, second]: readonly [WwMutex, WwMutex]): Op<void> {
  const { sim, log } = bench;
  yield* first.lock(ctx);
  try {
    yield* sim.delay(10);
    const result = yield* attempt(second.lock(ctx));
    log.push(`${name} ${result} ${sim.now}`);
    if (result === 'locked') {
      yield* sim.delay(10);
      second.unlock();
    }
  } finally {
    first.unlock();
  }
}

describe.each(ALGORITHMS)('WwMutex of class %s', (algorithm) => {
  it('without a context is a mutex, handed over in the order of asking', () => {
    const { sim, a, log } = bench(algorithm);
    for (const name of ['x', 'y', 'z']) {
      sim.spawn(name, function* () {
        yield* a.lock();
        log.push(`${name} ${sim.now}`);
        yield* sim.delay(10);
        a.unlock();
      });
    }
    sim.run();
    expect([log, a.isLocked, a.owner]).toEqual([['x 0', 'y 10', 'z 20'], false, null]);
  });

  it('lets one of two transactions that cross back off, the younger, whichever came first', () => {
    for (const olderFirst of [true, false]) {
      const world = bench(algorithm);
      const { sim, a, b, log } = world;
      const older = world.begin();
      const younger = world.begin();
      const start = [
        () => sim.spawn('older', () => pair(world, 'older', older, [a, b])),
        () => sim.spawn('younger', () => pair(world, 'younger', younger, [b, a])),
      ];
      for (const go of olderFirst ? start : start.reverse()) go();
      sim.run();
      expect(log.map((line) => line.replace(/ \d+$/, '')).sort()).toEqual(['older locked', 'younger EDEADLK']);
      expect([a.isLocked, b.isLocked, older.acquired, younger.acquired]).toEqual([false, false, 0, 0]);
    }
  });

  it('fails with EALREADY for the transaction that holds it, which still holds it', () => {
    const { sim, a, begin } = bench(algorithm);
    const ctx = begin();
    sim.run(function* () {
      yield* a.lock(ctx);
      expect([yield* attempt(a.lock(ctx)), ctx.acquired, a.ctx]).toEqual(['EALREADY', 1, ctx]);
      expect(a.tryLock(ctx)).toBe(false);
      a.unlock();
    });
  });

  it('serves transactions by age, the oldest first; who has none keeps the place he came to', () => {
    const { sim, a, log, begin } = bench(algorithm);
    const [first, second, third] = [begin(), begin(), begin()];
    const ask = (name: string, ctx: WwAcquireCtx | null): unknown =>
      sim.spawn(name, function* () {
        yield* a.lock(ctx);
        log.push(name);
        yield* sim.delay(1);
        a.unlock();
      });
    sim.run(function* () {
      yield* a.lock();
      ask('plain 1', null);
      ask('third', third);
      ask('plain 2', null);
      ask('first', first);
      ask('second', second);
      yield* sim.delay(1);
      a.unlock();
    });
    sim.run();
    expect(log).toEqual(['plain 1', 'first', 'second', 'third', 'plain 2']);
  });

  it('lets a transaction that holds nothing wait for an older one', () => {
    const { sim, a, log, begin } = bench(algorithm);
    const older = begin();
    const younger = begin();
    sim.spawn('older', function* () {
      yield* a.lock(older);
      yield* sim.delay(10);
      a.unlock();
    });
    sim.spawn('younger', function* () {
      log.push(yield* attempt(a.lock(younger)));
      a.unlock();
    });
    sim.run();
    expect([log, sim.now]).toEqual([['locked'], 10]);
  });

  it('is taken at once by a task in debt, which goes on when the debt is paid', () => {
    const { sim, a, begin } = bench(algorithm);
    for (const ctx of [null, begin()]) {
      const start = sim.now;
      const task = sim.spawn('t', function* () {
        sim.charge(100);
        yield* a.lock(ctx);
        expect(sim.now).toBe(start + 100);
        a.unlock();
      });
      sim.runUntil(start + 10);
      expect(a.owner).toBe(task);
      sim.run();
    }
  });

  it('can be tried, which never fails with an errno', () => {
    const { sim, a, b, begin } = bench(algorithm);
    const ctx = begin();
    sim.run(function* () {
      const other = sim.spawn('other', function* () {
        yield* b.lock();
        yield* sim.delay(10);
        b.unlock();
      });
      yield* sim.delay(1);
      expect([a.tryLock(ctx), b.tryLock(ctx), b.tryLock(), ctx.acquired]).toEqual([true, false, false, 1]);
      a.unlock();
      yield* other.done;
    });
    expect(() => a.tryLock()).toThrow('ww mutex a: only a task can lock it');
  });

  it('gives the lock of a killed task to the next: waiting, granted, and in debt', () => {
    const { sim, a, begin } = bench(algorithm);
    const keep = function* (ctx: WwAcquireCtx | null, debt: number): Op<void> {
      sim.charge(debt);
      yield* a.lock(ctx);
      try {
        yield* sim.delay(5);
      } finally {
        a.unlock();
      }
    };
    sim.run(function* () {
      yield* a.lock();
      const [waiting, granted, inDebt, last] = [begin(), begin(), begin(), begin()];
      const tasks = [waiting, granted, inDebt, last].map((ctx, i) =>
        sim.spawn(`t${i}`, () => keep(ctx, ctx === inDebt ? 100 : 0)),
      ) as [Task<void>, Task<void>, Task<void>, Task<void>];
      yield* sim.delay(1);
      tasks[0].kill();
      yield* sim.delay(1);
      a.unlock();
      expect([a.owner, granted.acquired]).toEqual([tasks[1], 1]);
      tasks[1].kill();
      yield* sim.delay(1);
      expect([a.owner, granted.acquired]).toEqual([tasks[2], 0]);
      tasks[2].kill();
      yield* tasks[3].done;
      expect([sim.now, waiting.acquired, inDebt.acquired, a.isLocked]).toEqual([105, 0, 0, false]);
    });
    expect(sim.hazards).toEqual([]);
  });

  it('names its holder in a deadlock', () => {
    const { sim, a, begin } = bench(algorithm, { hazards: 'record' });
    sim.spawn('gpu0', () => a.lock(begin()));
    sim.spawn('camera0', () => a.lock(begin()));
    let error: unknown;
    try {
      sim.run();
    } catch (caught) {
      error = caught;
    }
    expect((error as DeadlockError).waiters[0]?.waitsFor).toBe('ww mutex a, held by gpu0, which has ended');
    expect(sim.hazards.map((facts) => facts.hazard)).toEqual(['lock.held-at-exit']);
  });
});

describe('wait-die', () => {
  it('lets the older wait and the younger die at once, before it waits', () => {
    const world = bench('wait-die');
    const { sim, a, b, log, begin } = world;
    const older = begin();
    const younger = begin();
    sim.spawn('younger', () => pair(world, 'younger', younger, [b, a]));
    sim.spawn('older', () => pair(world, 'older', older, [a, b]));
    sim.run();
    expect(log).toEqual(['younger EDEADLK 10', 'older locked 10']);
  });

  it('lets a younger waiter that holds locks die when an older one comes to the queue', () => {
    const { sim, a, b, log, begin } = bench('wait-die');
    const oldest = begin();
    const middle = begin();
    const youngest = begin();
    sim.run(function* () {
      const holder = sim.spawn('holder', function* () {
        yield* a.lock(youngest);
        yield* sim.delay(100);
        a.unlock();
      });
      const waiter = sim.spawn('waiter', function* () {
        yield* b.lock(middle);
        yield* sim.delay(1);
        log.push(`${yield* attempt(a.lock(middle))} ${sim.now}`);
        b.unlock();
      });
      yield* sim.delay(20);
      expect(waiter.outcome).toBeNull();
      const old = sim.spawn('old', function* () {
        log.push(`${yield* attempt(a.lock(oldest))} ${sim.now}`);
        a.unlock();
      });
      for (const task of [holder, waiter, old]) yield* task.done;
    });
    expect(log).toEqual(['EDEADLK 20', 'locked 100']);
  });

  it('lets a transaction die that would queue behind an older one, though the holder is younger', () => {
    const { sim, a, b, log, begin } = bench('wait-die');
    const [oldest, middle, youngest] = [begin(), begin(), begin()];
    sim.run(function* () {
      const tasks = [
        sim.spawn('holder', function* () {
          yield* a.lock(youngest);
          yield* sim.delay(10);
          a.unlock();
        }),
        sim.spawn('old', function* () {
          yield* sim.delay(1);
          yield* a.lock(oldest);
          a.unlock();
        }),
        sim.spawn('late', function* () {
          yield* b.lock(middle);
          yield* sim.delay(2);
          log.push(`${yield* attempt(a.lock(middle))} ${sim.now}`);
          b.unlock();
        }),
      ];
      for (const task of tasks) yield* task.done;
    });
    expect(log).toEqual(['EDEADLK 2']);
  });
});

describe('wound-wait', () => {
  it('lets an older transaction wake a younger holder that waits, which dies; traced', () => {
    const world = bench('wound-wait');
    const { sim, a, b, log, begin } = world;
    const older = begin();
    const younger = begin();
    const wounds: string[] = [];
    sim.trace.on('lock.wound', ({ task, lock, timeNs }) => {
      wounds.push(`${task} ${lock} ${timeNs}`);
      return undefined;
    });
    sim.spawn('younger', () => pair(world, 'younger', younger, [b, a]));
    sim.spawn('older', () => pair(world, 'older', older, [a, b]));
    sim.run();
    expect([log, wounds]).toEqual([['younger EDEADLK 10', 'older locked 10'], ['younger b 10']]);
  });

  it('lets a wounded transaction that runs go on until it has to wait', () => {
    const { sim, a, b, c, log, begin } = bench('wound-wait');
    const older = begin();
    const younger = begin();
    sim.run(function* () {
      const tasks = [
        sim.spawn('younger', function* () {
          yield* b.lock(younger);
          yield* sim.delay(10);
          expect(younger.wounded).toBe(true);
          log.push(`c ${yield* attempt(c.lock(younger))}`);
          log.push(`a ${yield* attempt(a.lock(younger))} ${sim.now}`);
          c.unlock();
          b.unlock();
        }),
        sim.spawn('older', function* () {
          yield* a.lock(older);
          yield* sim.delay(5);
          log.push(`b ${yield* attempt(b.lock(older))} ${sim.now}`);
          b.unlock();
          a.unlock();
        }),
      ];
      for (const task of tasks) yield* task.done;
    });
    expect(log).toEqual(['c locked', 'a EDEADLK 10', 'b locked 10']);
  });

  it('forgets the wound of a transaction that has unlocked all, and lets it wait', () => {
    const { sim, a, b, c, log, begin } = bench('wound-wait');
    const older = begin();
    const younger = begin();
    sim.run(function* () {
      const tasks = [
        sim.spawn('younger', function* () {
          yield* b.lock(younger);
          yield* sim.delay(10);
          b.unlock();
          expect(younger.wounded).toBe(true);
          log.push(`c ${yield* attempt(c.lock(younger))} ${sim.now}`);
          expect(younger.wounded).toBe(false);
          c.unlock();
        }),
        sim.spawn('older', function* () {
          yield* a.lock(older);
          yield* sim.delay(5);
          yield* b.lock(older);
          b.unlock();
          a.unlock();
        }),
        sim.spawn('plain', function* () {
          yield* c.lock();
          yield* sim.delay(30);
          c.unlock();
        }),
      ];
      for (const task of tasks) yield* task.done;
    });
    expect(log).toEqual(['c locked 30']);
  });

  it('wounds nobody older, nobody twice, and nobody on behalf of one that holds nothing', () => {
    const { sim, a, b, c, begin } = bench('wound-wait');
    const [oldest, middle, youngest] = [begin(), begin(), begin()];
    let wounds = 0;
    sim.trace.on('lock.wound', () => {
      wounds++;
      return undefined;
    });
    const hold = function* (ctx: WwAcquireCtx, first: WwMutex | null, second: WwMutex): Op<void> {
      if (first !== null) yield* first.lock(ctx);
      yield* sim.delay(5);
      yield* second.lock(ctx);
      yield* sim.delay(5);
      second.unlock();
      first?.unlock();
    };
    sim.run(function* () {
      const holder = sim.spawn('holder', function* () {
        yield* a.lock(youngest);
        yield* sim.delay(50);
        a.unlock();
      });
      const empty = sim.spawn('empty', () => hold(oldest, null, a));
      yield* sim.delay(10);
      expect([wounds, youngest.wounded]).toEqual([0, false]);
      const old = sim.spawn('old', () => hold(middle, b, a));
      yield* sim.delay(10);
      expect([wounds, youngest.wounded]).toEqual([1, true]);
      for (const task of [holder, empty, old]) yield* task.done;
    });
    expect([wounds, c.isLocked]).toEqual([1, false]);
  });
});

describe('misuse of a transaction', () => {
  const cases: Readonly<Record<string, (world: Bench, ctx: WwAcquireCtx) => Op<void>>> = {
    'ww mutex a: resv#1 is done': function* ({ a }, ctx) {
      ctx.done();
      yield* a.lock(ctx);
    },
    'ww mutex a: resv#1 is finished': function* ({ a }, ctx) {
      ctx.fini();
      yield* a.lock(ctx);
    },
    'done: resv#1 is done already': function* ({ a }, ctx) {
      yield* a.lock(ctx);
      a.unlock();
      ctx.done();
      ctx.done();
    },
    'done: resv#1 is finished already': function* ({ a }, ctx) {
      yield* a.lock(ctx);
      a.unlock();
      ctx.fini();
      ctx.done();
    },
    'fini: resv#1 is finished already': function* ({ a }, ctx) {
      yield* a.lock(ctx);
      a.unlock();
      ctx.done();
      ctx.fini();
      ctx.fini();
    },
    'fini: resv#1 still holds 1 lock(s)': function* ({ a }, ctx) {
      yield* a.lock(ctx);
      try {
        ctx.fini();
      } finally {
        a.unlock();
      }
    },
    'ww mutex other is not of the class of resv#1': function* ({ sim }, ctx) {
      yield* new WwMutex(sim, new WwClass('wait-die'), 'other').lock(ctx);
    },
    'ww mutex a: lockSlow, but resv#1 did not get EDEADLK from it': function* ({ a }, ctx) {
      yield* a.lockSlow(ctx);
    },
    'ww mutex a is held by main already, which would wait for itself': function* ({ a, begin }, ctx) {
      yield* a.lock(ctx);
      try {
        yield* a.lock(begin());
      } finally {
        a.unlock();
      }
    },
    'ww mutex a: main unlocks it, but it is free': function* ({ sim, a }) {
      yield* sim.delay(1);
      a.unlock();
    },
    'ww mutex a must be held by main, but it is free': function* ({ sim, a }) {
      yield* sim.delay(1);
      a.assertHeld();
    },
    'resv#1 belongs to another task than main': function* ({ sim, a, b }, ctx) {
      yield* sim.spawn('first', function* () {
        yield* a.lock(ctx);
        a.unlock();
      }).done;
      yield* b.lock(ctx);
    },
    'wwLockAll: resv#1 holds 1 lock(s) already; lock all in one call': function* ({ a, b }, ctx) {
      yield* a.lock(ctx);
      try {
        yield* wwLockAll(ctx, [b]);
      } finally {
        a.unlock();
      }
    },
    'wwLockAll: EALREADY: ww mutex b is named twice': ({ a, b }, ctx) => wwLockAll(ctx, [a, b, b]),
  };

  it.each(Object.entries(cases))('is refused: %s', (message, body) => {
    const world = bench('wound-wait');
    expect(() => world.sim.run(() => body(world, world.begin()))).toThrow(message);
    expect([world.a.isLocked, world.b.isLocked, world.sim.hazards]).toEqual([false, false, []]);
  });

  it('after EDEADLK is refused until all is unlocked and the contended lock taken', () => {
    const { sim, a, b, c, begin } = bench('wait-die');
    const older = begin();
    const younger = begin();
    sim.run(function* () {
      const holder = sim.spawn('holder', function* () {
        yield* a.lock(older);
        yield* sim.delay(10);
        a.unlock();
      });
      yield* b.lock(younger);
      yield* sim.delay(1);
      expect(yield* attempt(a.lock(younger))).toBe('EDEADLK');
      expect(() => c.tryLock(younger)).toThrow('resv#2 got EDEADLK: unlock all first (1 held)');
      expect(() => a.tryLock(younger)).toThrow('resv#2 got EDEADLK: unlock all first (1 held)');
      b.unlock();
      expect(() => c.tryLock(younger)).toThrow('resv#2 got EDEADLK from a: lock that first, not c');
      yield* a.lockSlow(younger);
      expect([sim.now, younger.acquired, c.tryLock(younger)]).toEqual([10, 1, true]);
      a.unlock();
      c.unlock();
      younger.fini();
      yield* holder.done;
    });
  });

  it('may give up after EDEADLK instead', () => {
    const { sim, a, b, begin } = bench('wait-die');
    const older = begin();
    const younger = begin();
    sim.spawn('holder', function* () {
      yield* a.lock(older);
      yield* sim.delay(10);
      a.unlock();
    });
    sim.run(function* () {
      yield* b.lock(younger);
      yield* sim.delay(1);
      expect(yield* attempt(a.lock(younger))).toBe('EDEADLK');
      b.unlock();
      younger.fini();
    });
  });
});

/** Each task locks its list and adds to what the locks guard; every task must get through. */
function transactions(algorithm: WwAlgorithm, options: SimulatorOptions, lists: readonly (readonly number[])[]): void {
  const { sim, wwClass } = bench(algorithm, options);
  const locks = Array.from({ length: 4 }, (_, i) => new WwMutex(sim, wwClass, `m${i}`));
  const inside = locks.map(() => 0);
  const tasks = lists.map((list, i) =>
    sim.spawn(`t${i}`, function* () {
      const ctx = new WwAcquireCtx(wwClass);
      const mine = list.map((at) => locks[at] as WwMutex);
      yield* wwLockAll(ctx, mine);
      ctx.done();
      for (const at of list) {
        expect([at, inside[at]]).toEqual([at, 0]);
        inside[at] = 1;
      }
      yield* sim.delay(1);
      for (const at of list) inside[at] = 0;
      for (const mutex of mine) mutex.unlock();
      ctx.fini();
    }),
  );
  sim.run();
  expect([tasks.map((task) => task.outcome), sim.hazards]).toEqual([lists.map(() => 'returned'), []]);
  for (const lock of locks) expect(lock.isLocked).toBe(false);
}

describe.each(ALGORITHMS)('wwLockAll with class %s', (algorithm) => {
  it('gets two and three crossing transactions through in every schedule', () => {
    const programs = [
      [
        [0, 1],
        [1, 0],
      ],
      [
        [0, 1, 2],
        [2, 1, 0],
      ],
      [
        [0, 1],
        [1, 2],
        [2, 0],
      ],
    ];
    for (const lists of programs) {
      const schedules = everySchedule(3000, (chooser) => transactions(algorithm, { chooser }, lists));
      expect(schedules).toBeGreaterThan(1);
      expect(schedules).toBeLessThan(Infinity);
    }
  });

  it('gets many transactions through under random schedules', () => {
    for (let seed = 0; seed < 150; seed++) {
      const random = new Prng(seed).fork('program');
      const lists = Array.from({ length: 6 }, () => {
        const pool = [0, 1, 2, 3];
        return Array.from({ length: 1 + random.int(4) }, () => pool.splice(random.int(pool.length), 1)[0] as number);
      });
      transactions(algorithm, { chooser: new RandomChooser(new Prng(seed).fork('chooser')) }, lists);
    }
  });

  it('leaves nothing locked when the task is killed anywhere in it', () => {
    for (let ns = 0; ns < 60; ns++) {
      const world = bench(algorithm);
      const { sim, a, b, c, begin } = world;
      const older = begin();
      const younger = begin();
      const tasks = [
        sim.spawn('older', function* () {
          yield* c.lock(older);
          yield* sim.delay(15);
          c.unlock();
          yield* pair(world, 'older', older, [a, b]);
        }),
        sim.spawn('younger', function* () {
          yield* sim.delay(1);
          yield* wwLockAll(younger, [b, c, a]);
          try {
            yield* sim.delay(20);
          } finally {
            for (const mutex of [a, b, c]) mutex.unlock();
          }
        }),
      ];
      sim.after(ns, () => {
        tasks[1]?.kill();
        return undefined;
      });
      sim.run();
      expect([a.isLocked, b.isLocked, c.isLocked, younger.acquired, sim.hazards]).toEqual([false, false, false, 0, []]);
    }
  });
});
