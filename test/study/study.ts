/** The planted-bug study: what the reference says of each mutant, what adversarial runs find, and whether the reports name the bug. */
import { type Outcome, runProgram } from './interpreter.ts';
import { type Mutant, mutantsOf } from './mutants.ts';
import type { Program } from './program.ts';
import { judge, rightBytes, type Verdict } from './reference.ts';
import { type Judged, judgeReports } from './reports.ts';

/** What can become of a mutant, says the reference. */
export type MutantClass = 'wrong bytes' | 'broken rule' | 'harmless';

/** What the study found of a mutant. */
export interface Result {
  readonly mutant: Mutant;
  readonly verdict: Verdict;
  readonly class: MutantClass;
  /** The first seed whose run got a wrong byte; 0: none did. */
  readonly byteSeed: number;
  /** The first seed whose run had a report that counts: of bytes, if bytes can go wrong; 0: none had. */
  readonly reportSeed: number;
  /** The first report of a run: of the first that does not name the bug, if there is one. */
  readonly report: Judged | null;
  /** Some report of some run names call and place. */
  readonly isNamedOnce: boolean;
  /** Runs with a report that counts, and those whose first one names call and place. */
  readonly reportingRuns: number;
  readonly namingRuns: number;
  /** Reports of bytes although none can go wrong, or any report of a mutant that breaks nothing. */
  readonly falseAlarms: readonly Judged[];
}

/** How much to try. */
export interface StudyOptions {
  /** Seeds for a mutant whose bytes can go wrong: it ends after the first that gives a wrong byte and the first that gives a report … */
  readonly seedsToFind: number;
  /** … but not before so many: other runs must name the same. */
  readonly seedsToName: number;
  /** Seeds for the others, all of which are run. */
  readonly seedsOtherwise: number;
}

/** Studies all mutants of `program`. */
export function studyProgram(program: Program, options: StudyOptions): Result[] {
  const right = rightBytes(program);
  return mutantsOf(program).map((mutant) => studyMutant(mutant, right, options));
}

function studyMutant(mutant: Mutant, right: ReadonlyMap<string, Uint8Array>, options: StudyOptions): Result {
  const verdict = judge(mutant, right);
  const kind = verdict.wrong !== null ? 'wrong bytes' : verdict.broken.length > 0 ? 'broken rule' : 'harmless';
  const canBeWrong = kind === 'wrong bytes';
  const seeds = canBeWrong ? options.seedsToFind : options.seedsOtherwise;
  const result = { byteSeed: 0, reportSeed: 0, isNamedOnce: false, reportingRuns: 0, namingRuns: 0 };
  let report: Judged | null = null;
  const falseAlarms: Judged[] = [];
  for (let seed = 1; seed <= seeds; seed++) {
    const outcome = runProgram(mutant.program, { seed });
    if (result.byteSeed === 0 && wrongBytes(outcome, right).length > 0) result.byteSeed = seed;
    const all = judgeReports(mutant, outcome);
    const [first] = canBeWrong ? all.filter(({ isOfBytes }) => isOfBytes) : all;
    if (all.some(names)) result.isNamedOnce = true;
    if (first !== undefined) {
      if (result.reportSeed === 0) result.reportSeed = seed;
      result.reportingRuns++;
      if (names(first)) result.namingRuns++;
      if (report === null || names(report)) report = first;
    }
    if (!canBeWrong) falseAlarms.push(...all.filter(({ isOfBytes }) => isOfBytes || kind === 'harmless'));
    if (canBeWrong && result.byteSeed > 0 && result.reportSeed > 0 && seed >= options.seedsToName) break;
  }
  return { mutant, verdict, class: kind, ...result, report, falseAlarms };
}

/** Whether a report names call and place. */
export function names({ namesCall, namesPlace }: Judged): boolean {
  return namesCall && namesPlace;
}

/** Places where a run got another byte than it should; bytes that were never observed do not count. */
function wrongBytes({ observed }: Outcome, right: ReadonlyMap<string, Uint8Array>): string[] {
  return [...right].flatMap(([label, bytes]) => {
    const got = observed.get(label);
    const at = got === undefined ? -1 : bytes.findIndex((value, i) => value !== got[i]);
    return at < 0 ? [] : [`${label}[${at}] is ${got?.[at]}, not ${bytes[at]}`];
  });
}

/** Runs a correct program under seeds 1 to `seeds`. @returns what was wrong, in words; nothing should be. */
export function checkCorrect(program: Program, seeds: number): string[] {
  const right = rightBytes(program);
  const wrong: string[] = [];
  for (let seed = 1; seed <= seeds; seed++) {
    const outcome = runProgram(program, { seed });
    const missing = [...right.keys()].filter((label) => !outcome.observed.has(label));
    const found = [
      ...wrongBytes(outcome, right),
      ...missing.map((label) => `${label} was not done`),
      ...outcome.hazards.map(({ hazard, remedy }) => `${hazard}: ${remedy}`),
      ...outcome.errors.map(({ label, message }) => `${label}: ${message}`),
      ...outcome.left,
      ...outcome.leaks.map(({ object, what }) => `leak: ${object} ${what}`),
    ];
    wrong.push(...found.map((text) => `${program.name}, seed ${seed}: ${text}`));
  }
  return wrong;
}
