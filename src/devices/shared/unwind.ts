/** Giving several things back, come what may. */
import type { Op } from '../../sim/op.ts';

/**
 * Runs all `steps` in order, also when one throws or the task is killed in it.
 *
 * @throws what the last failing step threw.
 */
export function* unwind(steps: readonly (() => Op<void>)[]): Op<void> {
  const [first, ...rest] = steps;
  if (first === undefined) return;
  try {
    yield* first();
  } finally {
    yield* unwind(rest);
  }
}
