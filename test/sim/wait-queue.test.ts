import { describe, expect, it } from 'vitest';
import { RandomChooser } from '../../src/sim/chooser.ts';
import type { Op } from '../../src/sim/op.ts';
import { Prng } from '../../src/sim/prng.ts';
import { Simulator } from '../../src/sim/simulator.ts';
import { WaitQueue } from '../../src/sim/wait-queue.ts';

interface Bench {
  readonly sim: Simulator;
  readonly queue: WaitQueue;
  readonly log: string[];
  at(ns: number, action: () => unknown): void;
}

function bench(): Bench {
  const sim = new Simulator();
  return {
    sim,
    queue: new WaitQueue(sim, 'ready'),
    log: [],
    at(ns, action) {
      sim.after(ns, () => {
        action();
        return undefined;
      });
    },
  };
}

describe('WaitQueue', () => {
  it('wakes all who wait without exclusion and the first exclusive one', () => {
    const { sim, queue, log } = bench();
    for (const [name, exclusive] of [
      ['x1', true],
      ['s1', false],
      ['x2', true],
      ['s2', false],
      ['x3', true],
    ] as const) {
      sim.spawn(name, function* () {
        yield* queue.wait({ exclusive });
        log.push(name);
      });
    }
    const woken: number[] = [];
    sim.run(function* () {
      for (const count of [1, 1, 1, 1]) {
        yield* sim.delay(1);
        woken.push(queue.wakeUp(count));
        yield* sim.delay(1);
        log.push('|');
      }
    });
    expect(log.join(' ')).toBe('s1 s2 x1 | x2 | x3 | |');
    expect([woken, queue.isActive]).toEqual([[3, 1, 1, 0], false]);
  });

  it('wakes so many exclusive waiters as asked, or all', () => {
    const { sim, queue } = bench();
    const add = (): void => {
      for (let i = 0; i < 5; i++) sim.spawn(`x${i}`, () => queue.wait({ exclusive: true }));
    };
    add();
    sim.run(function* () {
      yield* sim.delay(1);
      expect([queue.isActive, queue.wakeUp(3), queue.wakeUpAll(), queue.isActive]).toEqual([true, 3, 2, false]);
    });
    for (const bad of [0, -1, 0.5]) expect(() => queue.wakeUp(bad)).toThrow('wakeUp:');
  });

  it('remembers nothing: a wake-up before the wait is lost on it', () => {
    const { sim, queue } = bench();
    expect(queue.wakeUpAll()).toBe(0);
    expect(() => sim.run(() => queue.wait())).toThrow('task main waits for wait queue ready since 0 ns');
  });
});

describe('WaitQueue.waitEvent', () => {
  it('does not wait when the condition holds', () => {
    const { sim, queue } = bench();
    sim.run(() => queue.waitEvent(() => true));
    expect(sim.now).toBe(0);
  });

  it('checks again after each wake-up and ends with the condition true', () => {
    const { sim, queue, at } = bench();
    let items = 0;
    const checks: number[] = [];
    for (const ns of [10, 20, 30]) {
      at(ns, () => {
        items++;
        queue.wakeUp();
      });
    }
    sim.run(() =>
      queue.waitEvent(() => {
        checks.push(sim.now);
        return items >= 2;
      }),
    );
    expect(checks).toEqual([0, 10, 20]);
  });

  it('does not miss what happens while the task pays its debt', () => {
    const { sim, queue, at } = bench();
    let ready = false;
    at(10, () => {
      ready = true;
      queue.wakeUp();
    });
    sim.run(function* () {
      sim.charge(50);
      yield* queue.waitEvent(() => ready);
      expect(sim.now).toBe(50);
    });
  });

  it('checks for the first time when the debt is paid', () => {
    const { sim, queue } = bench();
    const checks: number[] = [];
    sim.run(function* () {
      sim.charge(50);
      yield* queue.waitEvent(() => {
        checks.push(sim.now);
        return true;
      });
    });
    expect(checks).toEqual([50]);
  });

  it('is safe against one that takes the item first', () => {
    const { sim, queue } = bench();
    let items = 0;
    const got: string[] = [];
    for (const name of ['a', 'b', 'c']) {
      sim.spawn(name, function* () {
        yield* queue.waitEvent(() => items > 0);
        items--;
        got.push(name);
      });
    }
    sim.run(function* () {
      for (let i = 0; i < 3; i++) {
        yield* sim.delay(1);
        items++;
        queue.wakeUp();
        yield* sim.delay(1);
        expect([items, got.length]).toEqual([0, i + 1]);
      }
    });
  });
});

describe('WaitQueue.waitEventTimeout', () => {
  it('tells the time left, at least 1, when the condition came true', () => {
    const { sim, queue, at } = bench();
    let ready = false;
    at(30, () => {
      ready = true;
      queue.wakeUp();
    });
    expect(sim.run(() => queue.waitEventTimeout(() => ready, 100))).toBe(70);
    expect(sim.run(() => queue.waitEventTimeout(() => true, 0))).toBe(1);
    sim.run();
    expect(sim.now).toBe(30);
  });

  it('tells 0 when the time is up, however often it was woken', () => {
    const { sim, queue, at } = bench();
    for (const ns of [10, 20, 99]) at(ns, () => queue.wakeUp());
    expect([sim.run(() => queue.waitEventTimeout(() => false, 100)), sim.now, queue.isActive]).toEqual([0, 100, false]);
    expect([sim.run(() => queue.waitEventTimeout(() => false, 0)), sim.now]).toEqual([0, 100]);
  });

  it('tells 1 when the condition came true without a wake-up before the time was up', () => {
    const { sim, queue } = bench();
    expect([sim.run(() => queue.waitEventTimeout(() => sim.now >= 50, 100)), sim.now]).toEqual([1, 100]);
  });

  it('counts from when the debt is paid, and refuses bad times', () => {
    const { sim, queue } = bench();
    sim.run(function* () {
      sim.charge(40);
      expect([yield* queue.waitEventTimeout(() => false, 5), sim.now]).toEqual([0, 45]);
    });
    for (const bad of [-1, 0.5]) expect(() => sim.run(() => queue.waitEventTimeout(() => true, bad))).toThrow('nanos:');
  });

  it('in a daemon does not keep a run from ending', () => {
    const { sim, queue, at } = bench();
    const seen: string[] = [];
    let ready = false;
    const serve = function* (): Op<void> {
      for (;;) {
        const left = yield* queue.waitEventTimeout(() => ready, 20);
        seen.push(`${left} ${sim.now}`);
        ready = false;
      }
    };
    sim.spawn('server', serve, { daemon: true });
    at(25, () => {
      ready = true;
      queue.wakeUp();
    });
    sim.run(() => sim.delay(50));
    sim.run();
    expect([seen, sim.now]).toEqual([['0 20', '15 25', '0 45'], 50]);
  });

  it('says in a report what it waits for', () => {
    const { sim, queue } = bench();
    const task = sim.spawn('t', () => queue.waitEventTimeout(() => false, 50));
    sim.runUntil(10);
    expect(task.waiting?.describe()).toBe('wait queue ready, at most 50 ns');
  });
});

describe('a waiter without exclusion that is killed', () => {
  it('before it has seen its wake-up wakes nobody that came after it', () => {
    const { sim, queue } = bench();
    const first = sim.spawn('first', () => queue.wait());
    sim.runUntil(5);
    queue.wakeUp();
    const second = sim.spawn('second', () => queue.wait());
    first.kill();
    sim.runUntil(10);
    expect([first.outcome, second.outcome]).toEqual(['killed', null]);
    const early = sim.spawn('early', function* () {
      yield* sim.delay(5);
      queue.wakeUp();
      second.kill();
    });
    sim.spawn('late', function* () {
      yield* early.exit;
      yield* queue.wait();
    });
    expect(() => sim.run()).toThrow('task late waits for wait queue ready');
  });
});

describe('an exclusive waiter that is killed', () => {
  it('before it has seen its wake-up passes it on, timed or not', () => {
    for (const timed of [false, true]) {
      const { sim, queue, log } = bench();
      let items = 0;
      const wait = timed
        ? () => queue.waitEventTimeout(() => items > 0, 1000, { exclusive: true })
        : () => queue.waitEvent(() => items > 0, { exclusive: true });
      const tasks = ['a', 'b'].map((name) =>
        sim.spawn(name, function* () {
          yield* wait();
          items--;
          log.push(`${name} ${sim.now}`);
        }),
      );
      sim.run(function* () {
        yield* sim.delay(5);
        items++;
        queue.wakeUp();
        tasks[0]?.kill();
      });
      sim.run();
      expect([timed, log]).toEqual([timed, ['b 5']]);
    }
  });

  it('while it waits takes no wake-up with it', () => {
    const { sim, queue, log } = bench();
    const tasks = ['a', 'b'].map((name) =>
      sim.spawn(name, function* () {
        yield* queue.wait({ exclusive: true });
        log.push(name);
      }),
    );
    sim.run(function* () {
      yield* sim.delay(5);
      tasks[0]?.kill();
      yield* sim.delay(5);
      expect(queue.wakeUp()).toBe(1);
    });
    sim.run();
    expect(log).toEqual(['b']);
  });

  it('when its time is up passes nothing on', () => {
    const { sim, queue, at } = bench();
    const timed = sim.spawn('timed', () => queue.waitEventTimeout(() => false, 10, { exclusive: true }));
    const other = sim.spawn('other', () => queue.wait({ exclusive: true }));
    at(5, () => at(5, () => timed.kill())); // made after the timeout began, so it comes after its end
    expect(() => sim.run()).toThrow('task other waits for wait queue ready');
    expect([timed.outcome, other.outcome]).toEqual(['killed', null]);
  });
});

describe('producers and consumers with exclusive waits', () => {
  it('leave no item while a consumer waits, under any schedule with kills', () => {
    for (let seed = 0; seed < 100; seed++) {
      const sim = new Simulator({ chooser: new RandomChooser(new Prng(seed).fork('chooser')) });
      const random = new Prng(seed).fork('program');
      const queue = new WaitQueue(sim);
      let items = 0;
      const consumers = Array.from({ length: 4 }, (_, i) =>
        sim.spawn(
          `c${i}`,
          function* () {
            for (;;) {
              yield* queue.waitEvent(() => items > 0, { exclusive: true });
              items--;
              yield* sim.delay(random.int(5));
            }
          },
          { daemon: true },
        ),
      );
      sim.spawn('producer', function* () {
        for (let i = 0; i < 20; i++) {
          items++;
          queue.wakeUp();
          if (i === 7) consumers[random.int(2)]?.kill();
          yield* sim.delay(random.int(3));
        }
        yield* sim.delay(100);
      });
      sim.run();
      expect([seed, items]).toEqual([seed, 0]);
    }
  });
});

describe('WaitQueue.onWakeUp', () => {
  it('calls back at each wake-up, before the waiters go on, until it is ended', () => {
    const { sim, queue, log } = bench();
    const end = queue.onWakeUp(() => {
      log.push('called');
      return undefined;
    });
    expect(queue.isActive).toBe(true);
    sim.spawn('waiter', function* () {
      yield* queue.wait();
      log.push('waiter');
    });
    sim.run(function* () {
      yield* sim.delay(1);
      expect([queue.wakeUp(), queue.wakeUpAll()]).toEqual([1, 0]);
      yield* sim.delay(1);
      end();
      queue.wakeUpAll();
    });
    expect(log).toEqual(['called', 'called', 'waiter']);
    expect(queue.isActive).toBe(false);
  });

  it('keeps equal callbacks apart', () => {
    const { queue, log } = bench();
    const callback = (): undefined => {
      log.push('called');
    };
    const [first] = [queue.onWakeUp(callback), queue.onWakeUp(callback)];
    queue.wakeUp();
    first?.();
    queue.wakeUp();
    expect(log).toEqual(['called', 'called', 'called']);
  });
});
