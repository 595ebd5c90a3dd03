import { describe, expect, it } from 'vitest';
import { DmaResv, withResvsLocked } from '../../src/dmabuf/dma-resv.ts';
import type { Chooser } from '../../src/sim/chooser.ts';
import { RandomChooser } from '../../src/sim/chooser.ts';
import { Prng } from '../../src/sim/prng.ts';
import { Simulator } from '../../src/sim/simulator.ts';
import { everySchedule } from '../sim/every-schedule.ts';

/**
 * Runs tasks that each lock some of three reservations, in the order given, twice; all of them must come to an end.
 *
 * @returns how often a lock was taken: more often than asked for where somebody had to back off.
 */
function contend(chooser: Chooser, orders: readonly (readonly number[])[]): number {
  const sim = new Simulator({ chooser });
  const resvs = [0, 1, 2].map((i) => new DmaResv(sim, `r${i}`));
  const holders = [0, 0, 0];
  let done = 0;
  let acquired = 0;
  sim.trace.on('lock.acquire', () => {
    acquired++;
    return undefined;
  });
  for (const [i, order] of orders.entries()) {
    sim.spawn(`task${i}`, function* () {
      for (let round = 0; round < 2; round++) {
        yield* sim.delay(0);
        sim.charge(1); // so that it is interrupted with its first lock taken
        yield* withResvsLocked(
          sim,
          order.map((at) => resvs[at] ?? expect.fail('no resv')),
          function* () {
            for (const at of order) {
              expect(holders[at]).toBe(0);
              holders[at] = 1;
            }
            yield* sim.delay(i);
            for (const at of order) holders[at] = 0;
          },
        );
        done++;
      }
    });
  }
  sim.run();
  expect(resvs.filter((resv) => resv.isLocked)).toHaveLength(0);
  expect([sim.hazards.length, done]).toEqual([0, 2 * orders.length]);
  return acquired;
}

describe('withResvsLocked', () => {
  it('always finishes, with all locks held by one at a time, in every schedule of two tasks in opposite orders', () => {
    const taken = new Set<number>();
    const schedules = everySchedule(5000, (chooser) => {
      taken.add(
        contend(chooser, [
          [0, 1],
          [1, 0],
        ]),
      );
    });
    expect(schedules).toBeGreaterThan(10);
    expect(schedules).toBeLessThan(5000);
    expect(Math.max(...taken)).toBeGreaterThan(8);
  });

  it('always finishes with four tasks in four orders, for 200 random schedules', () => {
    const taken = new Set<number>();
    for (let seed = 1; seed <= 200; seed++) {
      const chooser = new RandomChooser(new Prng(seed).fork('schedule'));
      taken.add(
        contend(chooser, [
          [0, 1, 2],
          [2, 1, 0],
          [1, 0],
          [2, 0],
        ]),
      );
    }
    expect(Math.max(...taken)).toBeGreaterThan(20);
  });

  it('locks a reservation once that is named twice, and gives the value of the body', () => {
    const sim = new Simulator();
    const resv = new DmaResv(sim, 'r');
    expect(sim.run(() => withResvsLocked(sim, [resv, resv], () => resv.isLocked))).toBe(true);
    expect(resv.isLocked).toBe(false);
  });

  it('works with none', () => {
    const sim = new Simulator();
    expect(sim.run(() => withResvsLocked(sim, [], () => 7))).toBe(7);
  });

  it('gives all locks back when the body throws', () => {
    const sim = new Simulator();
    const resvs = [new DmaResv(sim, 'a'), new DmaResv(sim, 'b')];
    const failing = (): never => {
      throw new Error('body failed');
    };
    expect(() => sim.run(() => withResvsLocked(sim, resvs, failing))).toThrow('body failed');
    expect(resvs.map((resv) => resv.isLocked)).toEqual([false, false]);
  });

  it.each([5, 60])(
    'gives all locks back when the task is killed at %s ns, waiting for a lock or inside the body',
    (killNs) => {
      const sim = new Simulator();
      const resvs = [new DmaResv(sim, 'a'), new DmaResv(sim, 'b')];
      const [, second = resvs[0]] = resvs;
      sim.spawn('other', () => second?.withLock(() => sim.delay(50)));
      const task = sim.spawn('victim', () => withResvsLocked(sim, resvs, () => sim.delay(1000)));
      sim.runUntil(killNs);
      task.kill();
      sim.run();
      expect(resvs.map((resv) => resv.isLocked)).toEqual([false, false]);
      expect(sim.now).toBe(Math.max(50, killNs));
    },
  );
});
