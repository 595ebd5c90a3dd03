import { describe, expect, it } from 'vitest';
import { type Chooser, ReplayChooser } from '../src/sim/chooser.ts';
import { Simulator } from '../src/sim/simulator.ts';
import { explore, searchSchedules } from './explore.ts';

/** The order in which tasks make `steps` steps each. */
function orderOf(chooser: Chooser, tasks: string, steps: number): string {
  const sim = new Simulator({ chooser });
  let order = '';
  for (const name of tasks) {
    sim.spawn(name, function* () {
      for (let i = 0; i < steps; i++) {
        order += name;
        yield* sim.delay(0);
      }
    });
  }
  sim.run();
  return order;
}

describe('explore', () => {
  it('runs every order of the steps of two tasks, each schedule once', () => {
    const orders: string[] = [];
    const schedules = explore((chooser) => {
      orders.push(orderOf(chooser, 'ab', 3));
    });
    expect(orders).toHaveLength(schedules);
    expect(new Set(orders).size).toBe(20); // 6 choose 3
  });

  it('has one schedule where there is nothing to choose', () => {
    expect(explore((chooser) => expect(orderOf(chooser, 'a', 3)).toBe('aaa'))).toBe(1);
  });

  it('finds the one order that fails, and tells the choices that lead there again', () => {
    const body = (chooser: Chooser): void => {
      if (orderOf(chooser, 'abc', 1) === 'cba') throw new Error('upside down');
    };
    const { failure } = searchSchedules(body);
    expect(failure?.error).toEqual(new Error('upside down'));
    expect(() => body(new ReplayChooser(failure?.choices ?? ''))).toThrow('upside down');
    expect(() => explore(body)).toThrow(
      `schedule ${failure?.nth} fails; run the body with new ReplayChooser('${failure?.choices}'): upside down`,
    );
  });

  it('says when there are too many', () => {
    const body = (chooser: Chooser) => void orderOf(chooser, 'abc', 3);
    expect(searchSchedules(body, { maxSchedules: 100 })).toEqual({ schedules: 100, complete: false, failure: null });
    expect(() => explore(body, { maxSchedules: 100 })).toThrow('more than 100 schedules');
  });

  it('names a body that is not the same every time', () => {
    let runs = 0;
    const body = (chooser: Chooser) => void orderOf(chooser, ++runs === 1 ? 'abc' : 'ab', 2);
    expect(() => explore(body)).toThrow('the body does not repeat itself');
  });
});
