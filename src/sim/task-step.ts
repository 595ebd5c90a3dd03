/**
 * Steps of a task: what runs from one wait to the next. The usual one is `NEXT.call(task.generator, RESUMED)`, which the
 * scheduler does itself.
 */
import { isOp, type Op, type Suspend } from './op.ts';
import { DYING, KILL_REQUESTED, KilledError, RESUMED, type Task, UNSTARTED } from './task.ts';

/** @internal What resumes any generator: looked up once, since every generator function has a prototype of its own. */
export const NEXT = (function* (): Generator<unknown, unknown, unknown> {
  yield;
  return undefined;
})().next;

/** The result of a task that ended before it began. */
const ENDED: IteratorResult<unknown, unknown> = Object.freeze({ done: true, value: undefined });

/** @internal The step of a task that is to begin, to be killed, or to run its `finally` blocks. */
export function stepUnusual(task: Task<unknown>): IteratorResult<unknown, unknown> {
  const { unusual, generator } = task;
  if (task.isToDie) {
    task.unusual = KILL_REQUESTED | DYING;
    // Woken, but it has not seen why: undo that.
    task.waiting?.cancel(task);
    task.waiting = null;
    if (generator === null) return ENDED;
    task.killedBy = new KilledError(task.name);
    return generator.throw(task.killedBy);
  }
  if ((unusual & UNSTARTED) === 0) return NEXT.call(generator as Generator<unknown, unknown, unknown>, RESUMED);
  task.unusual &= ~UNSTARTED;
  const result = task.body();
  if (!isOp(result)) return { done: true, value: result };
  // Only a true generator is resumed by NEXT: whatever else it is gets one around.
  task.generator = isGenerator(result) ? result : runOp(result);
  return NEXT.call(task.generator, undefined);
}

function isGenerator(op: Op<unknown>): op is Generator<Suspend, unknown, unknown> {
  return 'next' in op && op.next === NEXT;
}

function* runOp(op: Op<unknown>): Generator<unknown, unknown, unknown> {
  return yield* op;
}
