/**
 * Who decides where hardware and the scheduler are free to decide: which ready task runs next, and, if the chooser says that it
 * {@link Chooser.choosesHardware}, what hardware does of its own accord (a line is fetched or evicted, a write buffer
 * drains). A schedule is the sequence of these choices; written as text it can be replayed.
 *
 * Text form: one character `0`…`9`, `a`…`z` for choices 0 to 35 of a task, `(n)` for larger ones; for hardware `.` that nothing
 * happened, `<n>` that n times in a row, `[n]` choice n. A text without hardware is the schedule of a chooser that is not asked
 * about it.
 */
import { assert } from '../base/assert.ts';
import type { RandomSource } from '../base/random.ts';

/**
 * Where hardware is free; choice 0 is always that nothing out of the ordinary happens. Of the caches: `'fill'` lines are fetched
 * that nobody asked for; `'evict'` lines leave, dirty ones are written back; `'clean'` dirty lines are written back and stay;
 * `'victim'` which line makes room; `'drain'` a write-combining buffer goes to memory; `'device-cache'` a line of a device's
 * cache leaves; then, of what was chosen, `'page'` and `'line'` which part (0: all), `'bytes'` which bytes of a buffer (0: all).
 */
export type HardwarePoint =
  | 'fill'
  | 'evict'
  | 'clean'
  | 'victim'
  | 'drain'
  | 'device-cache'
  | 'page'
  | 'line'
  | 'bytes';

/** What is being chosen, for choosers that treat points differently. */
export type ChoicePoint = 'task' | HardwarePoint;

/** Picks one of `count` (>= 2) possibilities: a whole number in [0, count). Must depend on nothing but its own state. */
export interface Chooser {
  /**
   * Whether it is also asked what hardware does, at every {@link HardwarePoint}. Read once, when a simulator is made with it. Default
   * false: hardware does nothing of its own accord then.
   */
  readonly choosesHardware?: boolean;
  choose(count: number, point: ChoicePoint): number;
}

/** Always the first: the one that has been ready longest. What a simulator does without a chooser, but recorded. */
export class FifoChooser implements Chooser {
  choose(): number {
    return 0;
  }
}

/** Any of them, with equal chance, from a seeded stream. */
export class RandomChooser implements Chooser {
  readonly #random: RandomSource;

  constructor(random: RandomSource) {
    this.#random = random;
  }

  choose(count: number): number {
    return this.#random.int(count);
  }
}

/**
 * Repeats a recorded schedule; when it is used up, first come, first served and hardware that does nothing. It is asked about
 * hardware if the schedule has such choices.
 */
export class ReplayChooser implements Chooser {
  readonly choosesHardware: boolean;
  readonly #choices: readonly number[];
  #next = 0;

  /** @param schedule - as {@link formatChoices} writes it. @throws {InvariantError} it is no such text. */
  constructor(schedule: string) {
    this.#choices = parseChoices(schedule);
    this.choosesHardware = this.#choices.some((choice) => choice < 0) || schedule.endsWith(FREE);
  }

  /** @throws {InvariantError} the recorded choice is not possible here: the program differs from the recorded one. */
  choose(count: number, point: ChoicePoint = 'task'): number {
    const isHardware = point !== 'task';
    const recorded = this.#choices[this.#next++] ?? (isHardware ? hardwareChoice(0) : 0);
    assert(
      recorded < 0 === isHardware,
      'replay: choice %s is %s, but the program asks about a %s: not the program that was recorded',
      this.#next,
      recorded < 0 ? "the hardware's" : "a task's",
      point,
    );
    const choice = isHardware ? hardwareChoice(recorded) : recorded;
    assert(
      choice < count,
      'replay: choice %s is %s of %s: not the program that was recorded',
      this.#next,
      choice,
      count,
    );
    return choice;
  }
}

/** What hardware chose as an entry of a list of choices, where it is negative; and back. @internal */
export function hardwareChoice(choice: number): number {
  return -1 - choice;
}

/** Ends a schedule in which hardware was free and was never asked. */
const FREE = '<0>';

/**
 * A schedule as text. Choices of hardware are negative: -1 is its choice 0, -2 its choice 1.
 *
 * @param hardwareIsFree - whether the chooser decided about hardware, even if nothing ever came up.
 */
export function formatChoices(choices: readonly number[], hardwareIsFree = false): string {
  const parts: string[] = [];
  for (let i = 0; i < choices.length; i++) {
    const choice = choices[i] as number;
    if (choice >= 0) parts.push(choice < 36 ? choice.toString(36) : `(${choice})`);
    else if (choice < -1) parts.push(`[${hardwareChoice(choice)}]`);
    else {
      const start = i;
      while (choices[i + 1] === -1) i++;
      parts.push(i === start ? '.' : `<${i - start + 1}>`);
    }
  }
  if (hardwareIsFree && !choices.some((choice) => choice < 0)) parts.push(FREE);
  return parts.join('');
}

/** A run of nothing that is longer is no schedule but a slip of the pen. */
const LONGEST_RUN = 2 ** 26;

/** The inverse of {@link formatChoices}. @throws {InvariantError} `schedule` is no such text; the message shows where. */
export function parseChoices(schedule: string): number[] {
  const choices: number[] = [];
  const token = /([0-9a-z])|\((\d+)\)|(\.)|<(\d+)>|\[(\d+)\]/y;
  while (token.lastIndex < schedule.length) {
    const at = token.lastIndex;
    const match = token.exec(schedule);
    assert(match !== null, 'schedule: %s at position %s is no choice', JSON.stringify(schedule.slice(at, at + 8)), at);
    const [, short, long, nothing, run, hardware] = match;
    if (short !== undefined) choices.push(Number.parseInt(short, 36));
    else if (long !== undefined) choices.push(Number(long));
    else if (hardware !== undefined) choices.push(hardwareChoice(Number(hardware)));
    else {
      const times = nothing !== undefined ? 1 : Number(run);
      assert(times <= LONGEST_RUN, 'schedule: <%s> at position %s is longer than %s', times, at, LONGEST_RUN);
      for (let i = 0; i < times; i++) choices.push(-1);
    }
  }
  return choices;
}
