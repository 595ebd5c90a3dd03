/**
 * Several operations at once, as one operation.
 *
 * 1. Each part runs as a task of its own, named after the caller: `main.0`, `main.1`; a daemon's parts are daemons. A lock
 *    that a part takes it must also release.
 * 2. The caller's debt is paid first, so the parts begin at the caller's own time.
 * 3. When the result is known, the parts that are left are killed. The caller goes on when the `finally` blocks of all of
 *    them have run and what they owe is paid: nothing is left running, also when the caller itself is killed.
 * 4. The first error of any part kills the others and goes to the caller; so does an error of a `finally` block of a part
 *    that lost. None is swallowed; of several the first.
 */
import { nanos } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import { Event } from './event.ts';
import type { Op } from './op.ts';
import { settle } from './settle.ts';
import type { Simulator } from './simulator.ts';
import { KilledError, type Task } from './task.ts';
import { startTimeLimit } from './time-limit.ts';

/** What `yield*` of an operation gives. */
export type OpValue<O> = O extends Op<infer T> ? T : never;

/** The values of a tuple of operations, in its order. */
export type OpValues<O extends readonly Op<unknown>[]> = { -readonly [K in keyof O]: OpValue<O[K]> };

/** How a {@link timeout} ended. */
export type TimeoutResult<T> = { readonly timedOut: false; readonly value: T } | { readonly timedOut: true };

/**
 * Runs all `ops` at once and waits until each has ended.
 *
 * @returns their values, in the order of `ops`.
 * @throws the first error of a part; {@link KilledError} when a part killed itself. The others are killed first.
 */
export function* all<const O extends readonly Op<unknown>[]>(sim: Simulator, ops: O): Op<OpValues<O>> {
  const parts = new Parts<unknown>(sim, 'all', ops);
  yield* parts.run((ended) => ended === ops.length);
  return parts.values as OpValues<O>;
}

/**
 * Runs all `ops` at once until the first of them ends; the others are killed. Of two that end at one instant the one that
 * ran first wins.
 *
 * @returns which it was, and its value.
 * @throws the first error of a part; {@link KilledError} when a part killed itself; `InvariantError` `ops` is empty.
 */
export function* race<T>(sim: Simulator, ops: readonly Op<T>[]): Op<{ readonly index: number; readonly value: T }> {
  assert(ops.length > 0, 'race: no operation given, so none can win');
  const parts = new Parts<T>(sim, 'race', ops);
  yield* parts.run((ended) => ended > 0);
  const index = parts.first;
  return { index, value: parts.values[index] as T };
}

/**
 * Runs `op` for at most `ns` after the caller's debt is paid; then it is killed. An operation that ends at the very
 * instant of the limit is in time if it ran before the caller did.
 *
 * @throws what `op` throws; `InvariantError` `ns` is negative or not whole.
 */
export function* timeout<T>(sim: Simulator, ns: number, op: Op<T>): Op<TimeoutResult<T>> {
  nanos(ns);
  const parts = new Parts<T>(sim, 'timeout', [op]);
  yield* parts.run((ended) => ended > 0, ns);
  return parts.first === 0 ? { timedOut: false, value: parts.values[0] as T } : { timedOut: true };
}

/** The tasks of one combinator. */
class Parts<T> {
  readonly values: (T | undefined)[];
  /** Index of the part that ended first; -1 while none has. */
  first = -1;
  readonly #sim: Simulator;
  readonly #ops: readonly Op<T>[];
  readonly #decided: Event;
  readonly #tasks: Task<void>[] = [];
  readonly #caller: Task<unknown>;
  #ended = 0;
  #stopping = false;
  readonly #errors: unknown[] = [];
  #isEnough: (ended: number) => boolean = () => false;

  constructor(sim: Simulator, kind: string, ops: readonly Op<T>[]) {
    const { currentTask } = sim;
    assert(currentTask !== null, '%s was used outside a task: wrap it in sim.run or sim.spawn', kind);
    this.#sim = sim;
    this.#ops = ops;
    this.#caller = currentTask;
    this.values = ops.map(() => undefined);
    this.#decided = new Event(sim, `${kind}(${currentTask.name})`);
  }

  /** Runs the parts until enough have ended, one failed, or `limitNs` have passed; stops the rest. */
  *run(isEnough: (ended: number) => boolean, limitNs?: number): Op<void> {
    this.#isEnough = isEnough;
    yield* settle(this.#sim);
    const { name, daemon } = this.#caller;
    const limit = limitNs === undefined ? null : startTimeLimit(this.#sim, this.#caller, limitNs, () => this.#decide());
    try {
      for (const [index, op] of this.#ops.entries()) {
        this.#tasks.push(this.#sim.spawn(`${name}.${index}`, () => this.#part(index, op), { daemon }));
      }
      if (isEnough(0)) this.#decide();
      yield* this.#decided;
    } finally {
      limit?.cancel();
      yield* this.#stop();
    }
  }

  *#part(index: number, op: Op<T>): Op<void> {
    let ended = false;
    try {
      this.values[index] = yield* op;
      yield* settle(this.#sim);
      ended = true;
    } catch (error) {
      const killedBy = this.#sim.currentTask?.killedBy ?? null;
      if (killedBy !== null && error === killedBy) throw error;
      ended = true;
      this.#errors.push(error);
      yield* settle(this.#sim);
    } finally {
      this.#ended++;
      if (!ended && !this.#stopping) this.#errors.push(new KilledError(`${this.#caller.name}.${index}`));
      if (this.#errors.length === 0 && !this.#stopping && this.first < 0) this.first = index;
      if (this.#errors.length > 0 || this.#isEnough(this.#ended)) this.#decide();
    }
  }

  #decide(): undefined {
    if (!this.#decided.fired) this.#decided.fire();
  }

  /** Kills the parts that are left, waits for the end of each, and throws the first error there was. */
  *#stop(): Op<void> {
    this.#stopping = true;
    for (const task of this.#tasks) task.kill();
    try {
      yield* this.#allEnded();
    } finally {
      yield* this.#allEnded(); // again, for a caller that is killed in the line above; at once otherwise
      this.#rethrow();
    }
  }

  *#allEnded(): Op<void> {
    for (const task of this.#tasks) yield* task.exit;
  }

  #rethrow(): void {
    if (this.#errors.length > 0) throw this.#errors[0];
  }
}
