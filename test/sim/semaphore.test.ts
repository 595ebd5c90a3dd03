import { describe, expect, it } from 'vitest';
import { ErrnoError } from '../../src/base/errors.ts';
import { RandomChooser } from '../../src/sim/chooser.ts';
import { Prng } from '../../src/sim/prng.ts';
import { Semaphore } from '../../src/sim/semaphore.ts';
import { Simulator } from '../../src/sim/simulator.ts';

describe('Semaphore', () => {
  it('lets as many tasks in as it has units, the others in the order they came', () => {
    const sim = new Simulator();
    const semaphore = new Semaphore(sim, 2);
    const log: string[] = [];
    for (const name of ['a', 'b', 'c', 'd', 'e']) {
      sim.spawn(name, function* () {
        yield* semaphore.down();
        log.push(`${name} ${sim.now}`);
        yield* sim.delay(10);
        semaphore.up();
      });
    }
    sim.run();
    expect(log).toEqual(['a 0', 'b 0', 'c 10', 'd 10', 'e 20']);
    expect(semaphore.count).toBe(2);
  });

  it('counts units that nobody waits for, and may be raised from a callback', () => {
    const sim = new Simulator();
    const semaphore = new Semaphore(sim, 0);
    semaphore.up();
    semaphore.up();
    expect([semaphore.count, semaphore.tryDown(), semaphore.tryDown(), semaphore.tryDown()]).toEqual([
      2,
      true,
      true,
      false,
    ]);
    sim.after(7, () => {
      semaphore.up();
      return undefined;
    });
    sim.run(() => semaphore.down());
    expect([sim.now, semaphore.count]).toEqual([7, 0]);
  });

  it('hands a unit to the waiter: a newcomer can not take it', () => {
    const sim = new Simulator();
    const semaphore = new Semaphore(sim, 0);
    sim.spawn('waiter', () => semaphore.down());
    sim.run(function* () {
      yield* sim.delay(1);
      semaphore.up();
      expect([semaphore.count, semaphore.tryDown()]).toEqual([0, false]);
    });
    sim.run();
    expect(semaphore.count).toBe(0);
  });

  it('fails with ETIME when no unit comes in time, and takes none later', () => {
    const sim = new Simulator();
    const semaphore = new Semaphore(sim, 0, 'slots');
    sim.run(function* () {
      sim.charge(100);
      let error: unknown;
      try {
        yield* semaphore.downTimeout(10);
      } catch (caught) {
        error = caught;
      }
      expect(error).toBeInstanceOf(ErrnoError);
      expect([(error as ErrnoError).code, sim.now]).toEqual(['ETIME', 110]);
      expect((error as Error).message).toBe('downTimeout: ETIME: semaphore slots gave no unit in 10 ns');
    });
    semaphore.up();
    expect(semaphore.count).toBe(1);
    sim.run(() => semaphore.downTimeout(0));
    expect([semaphore.count, sim.now]).toEqual([0, 110]);
    expect(() => sim.run(() => semaphore.downTimeout(0))).toThrow('ETIME');
  });

  it('lets a timed wait succeed in time, leaving no timer', () => {
    const sim = new Simulator();
    const semaphore = new Semaphore(sim, 0);
    sim.after(5, () => {
      semaphore.up();
      return undefined;
    });
    sim.run(() => semaphore.downTimeout(1000));
    sim.run();
    expect([sim.now, semaphore.count]).toEqual([5, 0]);
  });

  it('gives the unit of a task that is killed before it has run to the next, timed or not', () => {
    for (const timed of [false, true]) {
      const sim = new Simulator();
      const semaphore = new Semaphore(sim, 0);
      const wait = (): ReturnType<Semaphore['down']> => (timed ? semaphore.downTimeout(1000) : semaphore.down());
      const first = sim.spawn('first', wait);
      const second = sim.spawn('second', wait);
      sim.run(function* () {
        yield* sim.delay(5);
        semaphore.up();
        first.kill();
        expect([yield* second.exit, yield* first.exit, sim.now]).toEqual(['returned', 'killed', 5]);
        const third = sim.spawn('third', wait);
        yield* sim.delay(1);
        third.kill();
        yield* third.exit;
        semaphore.up();
      });
      expect([timed, semaphore.count]).toEqual([timed, 1]);
      sim.run();
      expect(sim.now).toBe(6);
    }
  });

  it('says in a deadlock what is missing, and refuses a bad count or time', () => {
    const sim = new Simulator();
    const semaphore = new Semaphore(sim, 0, 'slots');
    expect(() => sim.run(() => semaphore.down())).toThrow('task main waits for a unit of semaphore slots since 0 ns');
    for (const bad of [-1, 0.5, Number.NaN]) {
      expect(() => new Semaphore(sim, bad, 's')).toThrow(`semaphore s: count ${bad} is no whole number >= 0`);
      expect(() => sim.run(() => semaphore.downTimeout(bad))).toThrow('nanos:');
    }
  });

  it('neither loses nor makes units under any schedule with timeouts and kills', () => {
    for (let seed = 0; seed < 100; seed++) {
      const sim = new Simulator({ chooser: new RandomChooser(new Prng(seed).fork('chooser')) });
      const random = new Prng(seed).fork('program');
      const semaphore = new Semaphore(sim, 2);
      let inside = 0;
      const tasks = Array.from({ length: 8 }, (_, i) =>
        sim.spawn(`t${i}`, function* () {
          for (let round = 0; round < 4; round++) {
            if (random.int(2) === 0) yield* semaphore.down();
            else {
              try {
                yield* semaphore.downTimeout(random.int(6));
              } catch {
                continue;
              }
            }
            try {
              expect(++inside).toBeLessThanOrEqual(2);
              yield* sim.delay(random.int(4));
            } finally {
              inside--;
              semaphore.up();
            }
          }
        }),
      );
      for (let i = 0; i < 4; i++) {
        const victim = tasks[random.int(8)];
        sim.after(random.int(20), () => {
          victim?.kill();
          return undefined;
        });
      }
      sim.run();
      expect([seed, semaphore.count, inside]).toEqual([seed, 2, 0]);
    }
  });
});
