/** Checks of arguments and invariants, kept in production. */

/** An argument outside its contract or a bug of this library. Never retry. */
export class InvariantError extends Error {
  override readonly name = 'InvariantError';
}

/**
 * Throws unless `condition` holds; in production too. `%s` in `message` stands for the next of `args`, which are
 * put into text only on failure.
 *
 * @throws {InvariantError} `condition` is false.
 */
export function assert(condition: boolean, message: string, ...args: readonly unknown[]): asserts condition {
  if (condition) return;
  let next = 0;
  throw new InvariantError(message.replaceAll('%s', () => String(args[next++])));
}
