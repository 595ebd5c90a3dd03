/** Work that is done to its end although its task is killed. */
import { describe, expect, it } from 'vitest';
import type { Op } from '../../src/sim/op.ts';
import { Simulator } from '../../src/sim/simulator.ts';
import { KilledError } from '../../src/sim/task.ts';
import { unkillable } from '../../src/sim/unkillable.ts';

describe('unkillable', () => {
  it('lets a kill wait until its body is over, and gives nothing to the task then', () => {
    for (const killNs of [0, 50, 100, 149]) {
      const sim = new Simulator();
      const done: string[] = [];
      const task = sim.spawn('worker', function* () {
        yield* unkillable(sim, function* () {
          yield* sim.delay(100);
          yield* sim.delay(50);
          done.push(`body at ${sim.now}`);
        });
        done.push('after');
      });
      sim.run(function* () {
        yield* sim.delay(killNs);
        // Before it has begun to run there is nothing to protect.
        task.kill();
        task.kill();
        yield* task.exit;
      });
      expect([task.outcome, done]).toEqual(['killed', killNs === 0 ? done : ['body at 150']]);
      expect(done).not.toContain('after');
    }
  });

  it('hides no error of its body, but dies with the kill when both come', () => {
    const sim = new Simulator();
    const seen: unknown[] = [];
    const body = () =>
      unkillable(sim, function* (): Op<void> {
        yield* sim.delay(100);
        throw new RangeError('its own');
      });
    const worker = function* (): Op<void> {
      try {
        yield* body();
      } catch (error) {
        seen.push(error);
        if (error instanceof KilledError) throw error;
      }
    };
    const [one, two] = [sim.spawn('one', worker), sim.spawn('two', worker)];
    sim.run(function* () {
      yield* sim.delay(50);
      one.kill();
      yield* two.done;
      expect(yield* one.exit).toBe('killed');
    });
    expect(seen).toEqual([new KilledError('one'), new RangeError('its own')].reverse());
  });

  it('within another ends with the outer one, also when the task kills itself there', () => {
    const sim = new Simulator();
    const done: string[] = [];
    const task = sim.spawn('worker', () =>
      unkillable(sim, function* () {
        yield* unkillable(sim, function* () {
          sim.currentTask?.kill();
          yield* sim.delay(10);
          done.push('inner');
        });
        yield* sim.delay(10);
        done.push('outer');
      }),
    );
    sim.run();
    expect([task.outcome, done]).toEqual(['killed', ['inner', 'outer']]);
  });

  it('waits on in a task that has begun to die', () => {
    const sim = new Simulator();
    let ended = 0;
    const task = sim.spawn('worker', function* () {
      try {
        yield* sim.delay(1000);
      } finally {
        yield* unkillable(sim, () => sim.delay(100));
        ended = sim.now;
      }
    });
    sim.run(function* () {
      yield* sim.delay(50);
      task.kill();
    });
    sim.run();
    expect([task.outcome, ended]).toEqual(['killed', 150]);
  });
});
