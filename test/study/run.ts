/**
 * The planted-bug study in full: `npx tsx test/study/run.ts [--seeds N]` runs every correct program under N adversarial seeds (default
 * 1000), then every mutant, and prints the figures with all that was not found or not named:
 *
 * - *can go wrong*: the independent model knows legal hardware and a legal schedule under which a byte is wrong. *Found*: a run got a wrong byte
 *   or a report of one. *Named*: the first report of a run names the planted call, on its object or device, and its place; a wait by its fence
 *   and by the side that has to wait. *Just as planted*: not only a part of its direction (`START | READ` of `START | RW`, which is all that a
 *   report at the read can know), nor only as the other way out (the unmap where a sync does as well).
 * - *break a rule only*: leaks, brackets and directions that do not pair. *Named*: some report of some run names the call.
 * - *false alarms*: any report of a mutant that breaks nothing, or one of bytes where none can go wrong.
 */
import process from 'node:process';
import { programs } from './programs.ts';
import { checkCorrect, studyProgram } from './study.ts';
import { formatTable, gapsOf, summarise } from './summary.ts';

/** Seeds after which a planted bug counts as not found. */
const SEEDS_TO_FIND = 200;
/** Seeds whose reports are all compared with the planted bug. */
const SEEDS_TO_NAME = 20;
/** Seeds for mutants that can not go wrong: no report may come. */
const SEEDS_OTHERWISE = 30;

const seeds = seedsOf(process.argv);
const print = (text: string): void => {
  process.stdout.write(`${text}\n`);
};

const wrong = programs.flatMap((program) => checkCorrect(program, seeds));
print(`${programs.length} correct programs, ${seeds} seeds each: ${wrong.length} hazards, wrong bytes or leftovers`);
for (const text of wrong.slice(0, 20)) print(`  ${text}`);

const results = programs.flatMap((program) =>
  studyProgram(program, { seedsToFind: SEEDS_TO_FIND, seedsToName: SEEDS_TO_NAME, seedsOtherwise: SEEDS_OTHERWISE }),
);
print(formatTable(results));
for (const gap of gapsOf(results)) print(`  ${gap.gap}: ${gap.mutant}\n    ${gap.text}`);
const { falseAlarms } = summarise(results);
process.exitCode = wrong.length + falseAlarms > 0 ? 1 : 0;

function seedsOf(args: readonly string[]): number {
  const at = args.indexOf('--seeds');
  const count = at < 0 ? 1000 : Number(args[at + 1]);
  if (!Number.isSafeInteger(count) || count < 1) throw new Error('--seeds needs a whole number above 0');
  return count;
}
