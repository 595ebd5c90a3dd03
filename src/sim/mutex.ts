/**
 * A mutex that is handed over in the order of asking.
 *
 * 1. Only a task owns it, only the owner unlocks it, and it is not recursive.
 * 2. `unlock` makes the task that has waited longest the owner at once, before that task runs: nobody overtakes.
 * 3. A task that is killed before it has seen its grant gives the lock back.
 *
 * **Inaccuracies.** Time that a task owes does not delay its `lock` (it is the owner at once and runs on when the debt is
 * paid) nor its `unlock`. {@link Mutex.withLock} keeps the lock until what was charged under it is paid. Linux lets a
 * task that spins overtake sleepers; here the order is strict.
 *
 * @see Linux 6.1 `kernel/locking/mutex.c`; `Documentation/locking/mutex-design.rst`
 */
import { assert, InvariantError } from '../base/assert.ts';
import { heldBy, recordAcquired, recordReleased, taskThatMay } from './lock-record.ts';
import { lift, type MaybeOp, type Op } from './op.ts';
import { settle } from './settle.ts';
import type { Simulator } from './simulator.ts';
import { type Held, type Task, Waitable, WaiterList } from './task.ts';

/** Mutual exclusion between tasks; first come, first served. */
export class Mutex implements Held {
  readonly name: string;
  readonly #sim: Simulator;
  readonly #waiters = new WaiterList();
  readonly #wait: MutexWait;
  #owner: Task<unknown> | null = null;

  /** @param name - as reports and a `DeadlockError` call it: `'resv(buf0)'`. */
  constructor(sim: Simulator, name = 'mutex') {
    this.#sim = sim;
    this.name = name;
    this.#wait = new MutexWait(this);
  }

  /** The task that holds it; `null` when it is free. */
  get owner(): Task<unknown> | null {
    return this.#owner;
  }

  /** Whether any task holds it. */
  get isLocked(): boolean {
    return this.#owner !== null;
  }

  /**
   * Waits until the running task holds the lock. Charges nothing.
   *
   * @throws {InvariantError} the task holds it already and would wait for itself (never retry).
   * @see Linux `mutex_lock`
   */
  lock(): Op<void> {
    return this.#wait;
  }

  /**
   * Takes the lock if it is free. Plain.
   *
   * @returns whether the running task holds it now; false also when it held it before.
   * @throws {InvariantError} no task is running.
   * @see Linux `mutex_trylock`
   */
  tryLock(): boolean {
    const task = taskThatMay(this.#sim, 'lock', `mutex ${this.name}`);
    if (this.#owner !== null) return false;
    this.#grant(task);
    return true;
  }

  /**
   * Gives the lock to the task that has waited longest, or frees it. Plain; charges nothing.
   *
   * @throws {InvariantError} the running task does not hold it.
   * @see Linux `mutex_unlock`
   */
  unlock(): void {
    const task = taskThatMay(this.#sim, 'unlock', `mutex ${this.name}`);
    assert(this.#owner === task, 'mutex %s: %s unlocks it, but it is %s', this.name, task.name, heldBy(this.#owner));
    this.#release(task);
  }

  /**
   * Runs `body` with the lock held and gives its value. The lock is released in any case, also when `body` throws or the
   * task is killed; after a `body` that returns, when the time charged in it has passed.
   *
   * @throws what `body` throws; like {@link lock}.
   */
  *withLock<T>(body: () => MaybeOp<T>): Op<T> {
    yield* this.lock();
    try {
      const value = yield* lift(body());
      yield* settle(this.#sim);
      return value;
    } finally {
      this.unlock();
    }
  }

  /** @throws {InvariantError} the running task does not hold it. @see Linux `lockdep_assert_held` */
  assertHeld(): void {
    const task = this.#sim.currentTask;
    if (task !== null && this.#owner === task) return;
    throw new InvariantError(
      `mutex ${this.name} must be held by ${task?.name ?? 'a running task'}, but it is ${heldBy(this.#owner)}`,
    );
  }

  /** @internal Takes the free lock, or queues the running task. @returns whether the task was parked. */
  park(wait: Waitable<unknown>): boolean {
    const task = this.#sim.currentTask;
    const { scheduler } = this.#sim;
    if (task !== null && this.#owner === task) {
      throw new InvariantError(`mutex ${this.name} is held by ${task.name} already, which would wait for itself`);
    }
    if (task === null || this.#owner !== null) {
      this.#waiters.push(scheduler.park(wait));
      return true;
    }
    this.#grant(task);
    return scheduler.settleDebt(wait);
  }

  /** @internal Takes a task out that waits, or gives back what it was granted and has not seen. */
  cancel(task: Task<unknown>): void {
    if (!this.#waiters.remove(task) && this.#owner === task) this.#release(task);
  }

  #grant(task: Task<unknown>): void {
    this.#owner = task;
    recordAcquired(this.#sim, this, task);
  }

  #release(task: Task<unknown>): void {
    this.#owner = null;
    recordReleased(this.#sim, this, task);
    const next = this.#waiters.shift();
    if (next === null) return;
    this.#grant(next);
    this.#sim.scheduler.wake(next);
  }
}

class MutexWait extends Waitable<void> {
  readonly #mutex: Mutex;

  constructor(mutex: Mutex) {
    super();
    this.#mutex = mutex;
  }

  protected park(): boolean {
    return this.#mutex.park(this);
  }

  protected take(): void {}

  cancel(task: Task<unknown>): void {
    this.#mutex.cancel(task);
  }

  describe(): string {
    return `mutex ${this.#mutex.name}, ${heldBy(this.#mutex.owner)}`;
  }
}
