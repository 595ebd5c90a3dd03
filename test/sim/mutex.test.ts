import { describe, expect, it } from 'vitest';
import { DeadlockError } from '../../src/base/errors.ts';
import { RandomChooser } from '../../src/sim/chooser.ts';
import { Event } from '../../src/sim/event.ts';
import { Mutex } from '../../src/sim/mutex.ts';
import type { Op } from '../../src/sim/op.ts';
import { Prng } from '../../src/sim/prng.ts';
import { Simulator } from '../../src/sim/simulator.ts';
import { formatTraceEvent } from '../../src/trace/trace-hash.ts';

/** Holds the lock for `ns`. */
function* holder(sim: Simulator, mutex: Mutex, log: string[], name: string, ns: number): Op<void> {
  yield* mutex.lock();
  try {
    log.push(`${name} ${sim.now}`);
    yield* sim.delay(ns);
  } finally {
    mutex.unlock();
  }
}

describe('Mutex', () => {
  it('is handed over in the order of asking', () => {
    const sim = new Simulator();
    const mutex = new Mutex(sim);
    const log: string[] = [];
    for (const name of ['a', 'b', 'c']) sim.spawn(name, () => holder(sim, mutex, log, name, 10));
    sim.run();
    expect([log, mutex.isLocked, mutex.owner]).toEqual([['a 0', 'b 10', 'c 20'], false, null]);
  });

  it('belongs to the next waiter from the moment of unlock: nobody overtakes', () => {
    const sim = new Simulator();
    const mutex = new Mutex(sim);
    const log: string[] = [];
    sim.run(function* () {
      yield* mutex.lock();
      const waiter = sim.spawn('waiter', () => holder(sim, mutex, log, 'waiter', 5));
      yield* sim.delay(1);
      mutex.unlock();
      expect([mutex.owner, mutex.tryLock()]).toEqual([waiter, false]);
      yield* holder(sim, mutex, log, 'main', 1);
    });
    expect(log).toEqual(['waiter 1', 'main 6']);
  });

  it('can be tried without waiting', () => {
    const sim = new Simulator();
    const mutex = new Mutex(sim);
    sim.run(() => {
      expect([mutex.tryLock(), mutex.tryLock(), mutex.owner]).toEqual([true, false, sim.currentTask]);
      mutex.unlock();
      expect(mutex.isLocked).toBe(false);
    });
    expect(() => mutex.tryLock()).toThrow('mutex mutex: only a task can lock it, and none is running');
  });

  it('refuses its owner a second time, naming the lock', () => {
    const sim = new Simulator();
    const mutex = new Mutex(sim, 'resv(buf0)');
    expect(() => sim.run(() => mutex.withLock(() => mutex.lock()))).toThrow(
      'mutex resv(buf0) is held by main already, which would wait for itself',
    );
    expect(mutex.isLocked).toBe(false);
  });

  it('refuses to be unlocked by whoever does not hold it', () => {
    const sim = new Simulator();
    const mutex = new Mutex(sim, 'm');
    expect(() => sim.run(() => mutex.unlock())).toThrow('mutex m: main unlocks it, but it is free');
    sim.run(function* () {
      const other = sim.spawn('other', () => holder(sim, mutex, [], 'other', 5));
      yield* sim.delay(1);
      expect(() => mutex.unlock()).toThrow('mutex m: main unlocks it, but it is held by other');
      yield* other.done;
    });
    expect(() => mutex.unlock()).toThrow('mutex m: only a task can unlock it, and none is running');
  });

  it('can be asserted to be held by the running task', () => {
    const sim = new Simulator();
    const mutex = new Mutex(sim, 'm');
    sim.run(() => mutex.withLock(() => mutex.assertHeld()));
    expect(() => sim.run(() => mutex.assertHeld())).toThrow('mutex m must be held by main, but it is free');
    expect(() => mutex.assertHeld()).toThrow('mutex m must be held by a running task, but it is free');
    sim.run(function* () {
      const other = sim.spawn('other', () => holder(sim, mutex, [], 'other', 5));
      yield* sim.delay(1);
      expect(() => mutex.assertHeld()).toThrow('mutex m must be held by main, but it is held by other');
      yield* other.done;
    });
  });

  it('names its owner in a deadlock, also one that has ended', () => {
    const sim = new Simulator({ hazards: 'record' });
    const mutex = new Mutex(sim, 'resv(buf0)');
    sim.spawn('gpu0', () => mutex.lock());
    sim.spawn('camera0', () => mutex.lock());
    let error: unknown;
    try {
      sim.run();
    } catch (caught) {
      error = caught;
    }
    expect(error).toBeInstanceOf(DeadlockError);
    expect((error as DeadlockError).waiters[0]?.waitsFor).toBe('mutex resv(buf0), held by gpu0, which has ended');
    expect(sim.hazards).toHaveLength(1);
  });

  it('traces who takes and gives it, only while somebody listens', () => {
    const sim = new Simulator();
    const mutex = new Mutex(sim, 'm');
    const lines: string[] = [];
    const stop = sim.trace.onAny((event) => {
      if (event.kind.startsWith('lock.')) lines.push(formatTraceEvent(event));
      return undefined;
    });
    for (const name of ['a', 'b']) sim.spawn(name, () => holder(sim, mutex, [], name, 10));
    sim.run();
    stop();
    sim.run(() => mutex.withLock(() => undefined));
    expect(lines).toEqual([
      '0 lock.acquire task=a lock=m',
      '10 lock.release task=a lock=m',
      '10 lock.acquire task=b lock=m',
      '20 lock.release task=b lock=m',
    ]);
  });
});

describe('Mutex.withLock', () => {
  it('gives the value of a plain body and of an operation, and unlocks', () => {
    const sim = new Simulator();
    const mutex = new Mutex(sim);
    const values = sim.run(function* () {
      const plain = yield* mutex.withLock<number>(() => 1);
      const op = yield* mutex.withLock(function* () {
        yield* sim.delay(5);
        return mutex.isLocked;
      });
      return [plain, op, mutex.isLocked];
    });
    expect(values).toEqual([1, true, false]);
  });

  it('unlocks when the body throws', () => {
    const sim = new Simulator();
    const mutex = new Mutex(sim);
    const broken = (): never => {
      throw new Error('broken');
    };
    expect(() => sim.run(() => mutex.withLock(broken))).toThrow('broken');
    expect(mutex.isLocked).toBe(false);
  });

  it('unlocks when the task is killed in it', () => {
    const sim = new Simulator();
    const mutex = new Mutex(sim);
    const task = sim.spawn('t', () => mutex.withLock(() => sim.delay(100)));
    sim.run(function* () {
      yield* sim.delay(5);
      task.kill();
      yield* mutex.withLock(() => undefined);
      expect(sim.now).toBe(5);
    });
  });

  it('keeps the lock until the time charged in it has passed', () => {
    const sim = new Simulator();
    const mutex = new Mutex(sim);
    const log: number[] = [];
    for (const name of ['a', 'b']) {
      sim.spawn(name, () =>
        mutex.withLock(() => {
          log.push(sim.now);
          sim.charge(50);
        }),
      );
    }
    sim.run();
    expect([log, sim.now]).toEqual([[0, 50], 100]);
  });
});

describe('a task that is killed', () => {
  it('does not go on behind an operation whose finally block waits', () => {
    const sim = new Simulator();
    const log: string[] = [];
    function* inner(): Op<void> {
      try {
        yield* sim.delay(100);
      } finally {
        yield* sim.delay(10);
        log.push(`inner left ${sim.now}`);
      }
    }
    sim.run(function* () {
      const task = sim.spawn('victim', function* () {
        try {
          yield* inner();
          log.push('went on');
        } finally {
          log.push(`outer left ${sim.now}`);
        }
      });
      yield* sim.delay(50);
      task.kill();
      expect([yield* task.exit, log]).toEqual(['killed', ['inner left 60', 'outer left 60']]);
    });
  });

  it('while it waits for a mutex does not get it', () => {
    const sim = new Simulator();
    const mutex = new Mutex(sim);
    const log: string[] = [];
    sim.spawn('a', () => holder(sim, mutex, log, 'a', 10));
    const b = sim.spawn('b', () => holder(sim, mutex, log, 'b', 10));
    sim.spawn('c', () => holder(sim, mutex, log, 'c', 10));
    sim.after(5, () => {
      b.kill();
      return undefined;
    });
    sim.run();
    expect([log, mutex.isLocked]).toEqual([['a 0', 'c 10'], false]);
  });

  it('after it was granted a mutex and before it has run gives it back to the next', () => {
    const sim = new Simulator();
    const mutex = new Mutex(sim);
    const log: string[] = [];
    sim.run(function* () {
      yield* mutex.lock();
      const b = sim.spawn('b', () => holder(sim, mutex, log, 'b', 10));
      const c = sim.spawn('c', () => holder(sim, mutex, log, 'c', 10));
      yield* sim.delay(5);
      mutex.unlock();
      expect(mutex.owner).toBe(b);
      b.kill();
      yield* c.done;
    });
    expect([log, mutex.isLocked, sim.hazards]).toEqual([['c 5'], false, []]);
  });

  it('while it pays its debt after an uncontended lock gives it back', () => {
    const sim = new Simulator();
    const mutex = new Mutex(sim);
    const task = sim.spawn('t', function* () {
      sim.charge(100);
      yield* mutex.lock();
      throw new Error('not killed');
    });
    sim.run(function* () {
      yield* sim.delay(10);
      expect(mutex.owner).toBe(task);
      task.kill();
      yield* mutex.lock();
      expect([sim.now, task.outcome]).toEqual([100, 'killed']);
      mutex.unlock();
    });
    sim.run();
    expect([sim.hazards, mutex.isLocked]).toEqual([[], false]);
  });
});

describe('mutual exclusion', () => {
  it('holds, and every task gets its turn, under any schedule with kills', () => {
    for (let seed = 0; seed < 100; seed++) {
      const sim = new Simulator({ chooser: new RandomChooser(new Prng(seed).fork('chooser')) });
      const random = new Prng(seed).fork('program');
      const mutex = new Mutex(sim);
      const start = new Event(sim);
      let inside = 0;
      const tasks = Array.from({ length: 8 }, (_, i) =>
        sim.spawn(`t${i}`, function* () {
          yield* start;
          for (let round = 0; round < 4; round++) {
            if (random.int(3) === 0) sim.charge(random.int(5));
            yield* mutex.withLock(function* () {
              expect(++inside).toBe(1);
              try {
                yield* sim.delay(random.int(4));
              } finally {
                inside--;
              }
            });
          }
        }),
      );
      start.fire();
      for (let i = 0; i < 3; i++) {
        const victim = tasks[random.int(8)];
        sim.after(random.int(40), () => {
          victim?.kill();
          return undefined;
        });
      }
      sim.run();
      expect([mutex.isLocked, inside, sim.hazards]).toEqual([false, 0, []]);
      for (const task of tasks) expect(task.outcome).not.toBeNull();
    }
  });
});
