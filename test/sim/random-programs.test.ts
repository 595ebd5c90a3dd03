import { describe, expect, it } from 'vitest';
import { FifoChooser, RandomChooser, ReplayChooser } from '../../src/sim/chooser.ts';
import { Prng } from '../../src/sim/prng.ts';
import { type ProgramRun, randomProgram, runProgram } from './random-program.ts';

const PROGRAMS = 1000;

/** Calls `check` with each program and its run; names the seed in a failure. */
function forPrograms(
  check: (seed: number, run: ProgramRun, again: (...chooser: Chooser[]) => ProgramRun) => void,
): void {
  for (let seed = 0; seed < PROGRAMS; seed++) {
    const program = randomProgram(seed);
    check(seed, runProgram(program, seed), (chooser) => runProgram(program, seed, chooser));
  }
}

type Chooser = FifoChooser | RandomChooser | ReplayChooser;

const random = (seed: number): RandomChooser => new RandomChooser(new Prng(seed).fork('chooser'));

describe('1000 random programs', () => {
  it('give the same trace whenever they are run again', () => {
    forPrograms((seed, run, again) => expect([seed, again()]).toEqual([seed, run]));
  });

  it('end with no lock held and no task left, unless a hazard or a deadlock is reported', () => {
    const ends = new Map<string, number>();
    forPrograms((seed, run) => {
      ends.set(run.end, (ends.get(run.end) ?? 0) + 1);
      expect([seed, run.end === 'error' ? run.message : '']).toEqual([seed, '']);
      if (run.end === 'rest') expect([seed, run.locksHeld, run.tasksLeft]).toEqual([seed, 0, 0]);
    });
    // The programs are worth running: most come to rest, and some find each kind of trouble.
    expect(ends.get('rest')).toBeGreaterThan(PROGRAMS / 2);
    expect(ends.get('hazard')).toBeGreaterThan(0);
    expect(ends.get('deadlock')).toBeGreaterThan(0);
  });

  it('give the trace of a random schedule again when its choices are replayed', () => {
    let otherSchedules = 0;
    forPrograms((seed, run, again) => {
      const chosen = again(random(seed));
      expect([seed, again(new ReplayChooser(chosen.choices))]).toEqual([seed, chosen]);
      if (chosen.end === 'rest') expect([seed, chosen.locksHeld, chosen.tasksLeft]).toEqual([seed, 0, 0]);
      else expect([seed, chosen.end]).not.toEqual([seed, 'error']);
      if (chosen.digest !== run.digest) otherSchedules++;
    });
    expect(otherSchedules).toBeGreaterThan(PROGRAMS / 2);
  });

  it('do the same without a chooser and with one that always takes the first', () => {
    const differ: number[] = [];
    forPrograms((seed, run, again) => {
      const first = again(new FifoChooser());
      if (first.effects !== run.effects || first.end !== run.end || first.endNs !== run.endNs) differ.push(seed);
    });
    expect(differ).toEqual([]);
  });
});
