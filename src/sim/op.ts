/**
 * Operations: calls that can wait for another actor. They are called with `yield*`.
 *
 * Whatever can be waited for is an `Op` as well: `yield* event`, `yield* task.done`, `yield* sim.delay(us(5))`.
 * How a wait and the scheduler talk to each other is told in `task.ts`.
 *
 * @see docs/decisions/0001-operations-are-generators.md
 */

/** The only thing a task ever yields; made by waitables, never by users. */
export interface Suspend {
  readonly suspended: true;
}

/** A call that can wait: `const value = yield* op`. A generator method that returns `Op<T>` is an operation. */
export interface Op<T> {
  [Symbol.iterator](): Iterator<Suspend, T, unknown>;
}

/** What a user's callback may be: plain, or an operation. The core calls it through {@link lift}. */
export type MaybeOp<T> = T | Op<T>;

/** Tells a waitable from a collection of values. @internal */
export const WAITABLE = Symbol('waitable');

/** Runs a {@link MaybeOp}: waits for an operation, passes a plain value through at once. */
export function* lift<T>(result: MaybeOp<T>): Op<T> {
  return isOp(result) ? yield* result : result;
}

/** True when `value` is an operation: a waitable or a generator. Other iterables (arrays, maps) are plain values. */
export function isOp<T>(value: MaybeOp<T>): value is Op<T> {
  if (typeof value !== 'object' || value === null) return false;
  return WAITABLE in value || Object.prototype.toString.call(value) === '[object Generator]';
}
