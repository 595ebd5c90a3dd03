import { describe, expect, it } from 'vitest';
import { settle } from '../../src/sim/settle.ts';
import { Simulator } from '../../src/sim/simulator.ts';

describe('settle', () => {
  it('brings the clock to the time of the task', () => {
    const sim = new Simulator();
    sim.run(function* () {
      sim.charge(12.5);
      expect(sim.now).toBe(0);
      yield* settle(sim);
      expect(sim.now).toBe(13);
    });
  });

  it('does not wait when nothing is owed: nobody else runs', () => {
    const sim = new Simulator();
    let ran = false;
    sim.run(function* () {
      sim.spawn('other', () => {
        ran = true;
      });
      yield* settle(sim);
      expect(ran).toBe(false);
    });
  });

  it('ends at once with a kill that is acted on when the debt is paid', () => {
    const sim = new Simulator();
    const task = sim.spawn('t', function* () {
      sim.charge(100);
      yield* settle(sim);
      throw new Error('not killed');
    });
    sim.runUntil(10);
    expect(task.waiting?.describe()).toBe('its debt to be paid');
    task.kill();
    sim.run();
    expect([task.outcome, sim.now]).toEqual(['killed', 100]);
  });
});
