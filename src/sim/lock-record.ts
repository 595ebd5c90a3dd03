/**
 * What every lock that has an owner notes when it changes hands: the task's list of things held, in the order taken
 * (hazard `lock.held-at-exit` reads it), and the trace.
 */
import { InvariantError } from '../base/assert.ts';
import type { Simulator } from './simulator.ts';
import type { Held, Task } from './task.ts';

/** @internal `task` owns `lock` from now on. */
export function recordAcquired(sim: Simulator, lock: Held, task: Task<unknown>): void {
  if (task.held === null) task.held = [lock];
  else task.held.push(lock);
  if (sim.trace.enabled) sim.trace.emit({ kind: 'lock.acquire', timeNs: sim.now, task: task.name, lock: lock.name });
}

/** @internal `task` owns `lock` no longer. */
export function recordReleased(sim: Simulator, lock: Held, task: Task<unknown>): void {
  const held = task.held ?? [];
  if (held.at(-1) === lock) held.pop();
  else held.splice(held.lastIndexOf(lock), 1);
  if (sim.trace.enabled) sim.trace.emit({ kind: 'lock.release', timeNs: sim.now, task: task.name, lock: lock.name });
}

/** @internal The running task, for an action that only a task may do. */
export function taskThatMay(sim: Simulator, action: string, lock: string): Task<unknown> {
  const task = sim.currentTask;
  if (task === null) throw new InvariantError(`${lock}: only a task can ${action} it, and none is running`);
  return task;
}

/** @internal Who keeps a lock, in the words of a deadlock report. */
export function heldBy(owner: Task<unknown> | null): string {
  if (owner === null) return 'free';
  return owner.outcome === null ? `held by ${owner.name}` : `held by ${owner.name}, which has ended`;
}
