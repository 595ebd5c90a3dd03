/**
 * Runs a body under every order of ready tasks: depth first over the choices that its simulator makes. The body makes a world of
 * its own with the chooser it is given, runs it, and throws when something is wrong; it must do the same for the same choices.
 */
import { type Chooser, formatChoices } from '../src/sim/chooser.ts';

/** A program whose simulator asks `chooser` which task goes on. */
export type ScheduledBody = (chooser: Chooser) => void;

/** How far to go. */
export interface ExploreOptions {
  /** Schedules to run at most. Default 5000. */
  readonly maxSchedules?: number;
}

/** A schedule in which the body threw. */
export interface FailedSchedule {
  /** For a `ReplayChooser`. */
  readonly choices: string;
  /** It was the so many-th, from 1. */
  readonly nth: number;
  readonly error: unknown;
}

/** What a search has found. */
export interface Exploration {
  /** How many were run. */
  readonly schedules: number;
  /** Whether these are all; false after a failure, too. */
  readonly complete: boolean;
  readonly failure: FailedSchedule | null;
}

/** A body that fails in some schedule, or has too many of them. */
class ExploreError extends Error {
  override readonly name = 'ExploreError';
}

/** Runs schedules until one fails or there are no more. Never throws but for a body that does not repeat itself. */
export function searchSchedules(body: ScheduledBody, { maxSchedules = 5000 }: ExploreOptions = {}): Exploration {
  const path = new Path();
  for (let schedules = 1; schedules <= maxSchedules; schedules++) {
    path.begin();
    try {
      body(path);
    } catch (error) {
      if (error instanceof ExploreError) throw error;
      const failure = { choices: formatChoices(path.chosen), nth: schedules, error };
      return { schedules, complete: false, failure };
    }
    if (!path.advance()) return { schedules, complete: true, failure: null };
  }
  return { schedules: maxSchedules, complete: false, failure: null };
}

/**
 * Runs all schedules of `body`.
 *
 * @returns how many there were.
 * @throws {ExploreError} one fails (the message tells how to replay it, `cause` is what the body threw), or there are too many.
 */
export function explore(body: ScheduledBody, options: ExploreOptions = {}): number {
  const { schedules, complete, failure } = searchSchedules(body, options);
  if (failure !== null) {
    const { choices, nth, error } = failure;
    const what = error instanceof Error ? error.message : String(error);
    const message = `schedule ${nth} fails; run the body with new ReplayChooser('${choices}'): ${what}`;
    throw new ExploreError(message, { cause: error });
  }
  if (!complete) throw new ExploreError(`there are more than ${schedules} schedules; make the body smaller`);
  return schedules;
}

/** The way down the tree of choices that is tried now. */
class Path implements Chooser {
  /** The choices of this run so far. */
  chosen: number[] = [];
  #prefix: readonly number[] = [];
  /** How many there were to choose from, of this run and of the one before. */
  #counts: number[] = [];
  #expected: readonly number[] = [];

  choose(count: number): number {
    const at = this.chosen.length;
    const choice = this.#prefix[at] ?? 0;
    const expected = at < this.#prefix.length ? this.#expected[at] : count;
    if (expected !== count) {
      const where = `after '${formatChoices(this.chosen)}' it has ${count} ready tasks, before it had ${expected}`;
      throw new ExploreError(`the body does not repeat itself: ${where}`);
    }
    this.#counts.push(count);
    this.chosen.push(choice);
    return choice;
  }

  begin(): void {
    this.chosen = [];
    this.#counts = [];
  }

  /** Turns to the next way. @returns false when there is none. */
  advance(): boolean {
    const next = [...this.chosen];
    while (next.length > 0 && (next.at(-1) ?? 0) + 1 >= (this.#counts[next.length - 1] ?? 0)) next.pop();
    const last = next.pop();
    if (last === undefined) return false;
    this.#prefix = [...next, last + 1];
    this.#expected = this.#counts;
    return true;
  }
}
