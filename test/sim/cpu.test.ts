import { describe, expect, it } from 'vitest';
import { Simulator } from '../../src/sim/simulator.ts';

describe('Simulator.cpu', () => {
  it('is 0 until somebody moves, and then stays where it was moved outside of tasks', () => {
    const sim = new Simulator();
    expect(sim.cpu).toBe(0);
    sim.runOnCpu(3);
    expect(sim.cpu).toBe(3);
  });

  it('is that of the running task, which starts on the CPU asked for or on that of its spawner', () => {
    const sim = new Simulator();
    const seen: [string, number][] = [];
    const note = (name: string) => () => {
      seen.push([name, sim.cpu]);
    };
    sim.run(function* () {
      sim.runOnCpu(1);
      const [a, b] = [sim.spawn('a', note('a')), sim.spawn('b', note('b'), { cpu: 2 })];
      yield* a.done;
      yield* b.done;
      note('main')();
    });
    expect(seen).toEqual([
      ['a', 1],
      ['b', 2],
      ['main', 1],
    ]);
    expect(sim.cpu).toBe(0);
  });

  it('goes with a task across its waits and leaves other tasks alone', () => {
    const sim = new Simulator();
    const seen: number[] = [];
    const body = (cpu: number) =>
      function* () {
        sim.runOnCpu(cpu);
        yield* sim.delay(10);
        seen.push(sim.cpu);
      };
    sim.spawn('a', body(4));
    sim.spawn('b', body(5));
    sim.run();
    expect(seen).toEqual([4, 5]);
  });

  it('is in a timer the CPU that armed it, and a move in there ends with it', () => {
    const sim = new Simulator();
    const seen: number[] = [];
    sim.spawn(
      'arms',
      () => {
        sim.after(10, () => {
          seen.push(sim.cpu);
          sim.runOnCpu(7);
          seen.push(sim.cpu);
        });
        sim.runOnCpu(2);
      },
      { cpu: 6 },
    );
    sim.run();
    expect(seen).toEqual([6, 7]);
    expect(sim.cpu).toBe(0);
  });

  it('refuses what is no CPU', () => {
    const sim = new Simulator();
    expect(() => sim.runOnCpu(-1)).toThrow(/cpu: -1/);
    expect(() => sim.runOnCpu(1024)).toThrow(/cpu: 1024/);
    expect(() => sim.spawn('t', () => undefined, { cpu: 0.5 })).toThrow(/cpu: 0.5/);
    expect(sim.cpu).toBe(0);
  });
});
