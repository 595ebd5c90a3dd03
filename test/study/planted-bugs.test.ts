/** Planted bugs: every synchronising call of the study's programs is deleted or weakened in turn, and the reports must name it. */
import { afterAll, describe, expect, it } from 'vitest';
import { knownGaps } from './known-gaps.ts';
import { programs } from './programs.ts';
import { checkCorrect, type Result, studyProgram } from './study.ts';
import { type Gap, gapsOf, type Summary, summarise } from './summary.ts';

/** Few enough for every day; `run.ts` takes more. */
const SEEDS = 3;
const STUDY = { seedsToFind: 40, seedsToName: 4, seedsOtherwise: 2 };

const results = new Map<string, readonly Result[]>();

describe('the correct programs', () => {
  it('are at least thirty, for one to four devices', () => {
    expect(programs.length).toBeGreaterThanOrEqual(30);
    expect(new Set(programs.map(({ name }) => name)).size).toBe(programs.length);
    for (const { devices } of programs) expect([1, 2, 3, 4]).toContain(devices.length);
  });

  it.each(programs)('$name: $about; right under any hardware and schedule', (program) => {
    expect(checkCorrect(program, SEEDS)).toEqual([]);
  });
});

describe('a planted bug', () => {
  it.each(programs)('in $name is found and named if it can go wrong, and else is no hazard', (program) => {
    const found = studyProgram(program, STUDY);
    results.set(program.name, found);
    const expected = [...knownGaps].filter(([mutant]) => mutant.startsWith(`${program.name} / `));
    expect(gapsOf(found).map(({ mutant, gap }): [string, Gap['gap']] => [mutant, gap])).toEqual(expected);
  });

  it('has these figures over all programs', () => {
    const all = [...results.values()].flat();
    const expected: Summary = {
      mutants: 673,
      wrongBytes: 268,
      found: 268,
      sawWrongByte: 267,
      reported: 268,
      named: 268,
      alwaysNamed: 268,
      namedExactly: 242,
      brokenRule: 289,
      ruleReported: 289,
      ruleNamed: 289,
      harmless: 116,
      falseAlarms: 0,
    };
    if (results.size === programs.length) expect(summarise(all)).toEqual(expected);
  });

  afterAll(() => results.clear());
});
