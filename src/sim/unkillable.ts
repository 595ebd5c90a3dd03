/**
 * Work that a task does to its end, also when it is killed meanwhile: what nobody else would finish.
 *
 * @see Linux 6.1 `kernel/exit.c` do_exit, which runs the work of a task that was killed; uninterruptible sleep
 */
import type { Op } from './op.ts';
import type { Simulator } from './simulator.ts';
import { SHIELDED } from './task.ts';

/**
 * @internal Runs `body`, which may wait, in the running task. A kill that comes meanwhile acts when it is over. What has begun to die
 * needs none of this: nothing kills it a second time.
 *
 * @throws what `body` throws; `KilledError` afterwards, when the task was killed meanwhile.
 */
export function* unkillable<T>(sim: Simulator, body: () => Op<T>): Op<T> {
  const task = sim.currentTask;
  if (task === null || (task.unusual & SHIELDED) !== 0) return yield* body();
  task.unusual |= SHIELDED;
  try {
    return yield* body();
  } finally {
    task.unusual &= ~SHIELDED;
    // The wait at which it dies.
    if (task.isToDie) yield* sim.delay(0);
  }
}
