/**
 * Who decides where hardware and the scheduler are free to decide: which ready task runs next (and, by later layers,
 * whether a line is evicted or an allocation fails). A schedule is the sequence of these choices; written as text it
 * can be replayed.
 *
 * Text form: one character `0`…`9`, `a`…`z` for choices 0 to 35, `(n)` for larger ones.
 */
import { assert } from '../base/assert.ts';
import type { RandomSource } from '../base/random.ts';

/** What is being chosen, for choosers that treat points differently. */
export type ChoicePoint = 'task';

/** Picks one of `count` (>= 2) possibilities: a whole number in [0, count). Must depend on nothing but its own state. */
export interface Chooser {
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

/** Repeats a recorded schedule; first come, first served when it is used up. */
export class ReplayChooser implements Chooser {
  readonly #choices: readonly number[];
  #next = 0;

  /** @param schedule - as {@link formatChoices} writes it. @throws {InvariantError} it is no such text. */
  constructor(schedule: string) {
    this.#choices = parseChoices(schedule);
  }

  /** @throws {InvariantError} the recorded choice is not possible here: the program differs from the recorded one. */
  choose(count: number): number {
    const choice = this.#choices[this.#next++] ?? 0;
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

/** A schedule as text. */
export function formatChoices(choices: readonly number[]): string {
  return choices.map((choice) => (choice < 36 ? choice.toString(36) : `(${choice})`)).join('');
}

/** The inverse of {@link formatChoices}. @throws {InvariantError} `schedule` is no such text; the message shows where. */
export function parseChoices(schedule: string): number[] {
  const choices: number[] = [];
  const token = /([0-9a-z])|\((\d+)\)/y;
  while (token.lastIndex < schedule.length) {
    const at = token.lastIndex;
    const match = token.exec(schedule);
    assert(match !== null, 'schedule: %s at position %s is no choice', JSON.stringify(schedule.slice(at, at + 8)), at);
    choices.push(match[1] !== undefined ? Number.parseInt(match[1], 36) : Number(match[2]));
  }
  return choices;
}
