/**
 * Wound/wait mutexes: locks of one class that a transaction may take in any order.
 *
 * 1. A transaction is a {@link WwAcquireCtx}: its stamp, given when it is made, is its age. It keeps the stamp over all
 *    retries, so it gets older than everybody else at last and wins.
 * 2. `lock(ctx)` fails with `EDEADLK` when going on could close a circle. The transaction then unlocks all it holds,
 *    takes the contended lock with `lockSlow(ctx)` first, and starts over. {@link wwLockAll} does all that.
 * 3. Class `'wait-die'`: a transaction that holds locks never waits for an older one, be it the holder or a waiter in front;
 *    it dies instead, at once or when an older one comes to the queue.
 * 4. Class `'wound-wait'`: an older transaction that holds locks wounds a younger holder. A wounded one dies when it
 *    next has to wait, or in the wait it is in; with no lock held it is not in the way and may go on.
 * 5. Waiters with a context are sorted by age, the oldest first; those without one keep their place in the order of coming.
 *    The lock is handed to the first waiter before that runs. A killed task gives back a grant it has not seen.
 *
 * **Inaccuracies.** As for `Mutex`. A transaction without locks wounds nobody: it can not be part of a circle.
 *
 * @see Linux 6.1 `Documentation/locking/ww-mutex-design.rst`; `kernel/locking/ww_mutex.h`
 */
import { assert, InvariantError } from '../base/assert.ts';
import { ErrnoError } from '../base/errors.ts';
import { heldBy, recordAcquired, recordReleased, taskThatMay } from './lock-record.ts';
import type { Op } from './op.ts';
import type { Simulator } from './simulator.ts';
import { type Held, type Task, Waitable } from './task.ts';
import type { WwAcquireCtx, WwClass, WwLock } from './ww-acquire-ctx.ts';

/** A task in the queue of a {@link WwMutex}. */
interface Waiter {
  readonly task: Task<unknown>;
  readonly ctx: WwAcquireCtx | null;
}

/** A mutex of a {@link WwClass}. */
export class WwMutex implements Held, WwLock {
  readonly name: string;
  readonly wwClass: WwClass;
  readonly #sim: Simulator;
  readonly #plainWait: WwWait;
  readonly #waiters: Waiter[] = [];
  #owner: Task<unknown> | null = null;
  #ctx: WwAcquireCtx | null = null;

  /** @param name - as reports and a `DeadlockError` call it: `'resv(buf0)'`. */
  constructor(sim: Simulator, wwClass: WwClass, name = 'ww mutex') {
    this.#sim = sim;
    this.wwClass = wwClass;
    this.name = name;
    this.#plainWait = new WwWait(this, null);
  }

  /** The task that holds it; `null` when it is free. */
  get owner(): Task<unknown> | null {
    return this.#owner;
  }

  /** The transaction that holds it; `null` when it is free or was taken without one. */
  get ctx(): WwAcquireCtx | null {
    return this.#ctx;
  }

  /** Whether any task holds it. */
  get isLocked(): boolean {
    return this.#owner !== null;
  }

  /**
   * Waits until the running task holds the lock, for transaction `ctx`. Without one it is like `Mutex.lock`: who
   * takes two of a class so risks a deadlock with a task that takes them the other way round. That is not checked here;
   * when it happens, it is a {@link DeadlockError}.
   *
   * @throws {ErrnoError} `EDEADLK` the transaction has to back off: unlock all, `lockSlow` this one, start over; `EALREADY`
   *   it holds this lock already (never retry; go on).
   * @throws {InvariantError} `ctx` is of another class or task, done or finished, or has not backed off after `EDEADLK`; the
   *   task holds the lock by other means and would wait for itself.
   * @see Linux `ww_mutex_lock`
   */
  lock(ctx: WwAcquireCtx | null = null): Op<void> {
    return ctx === null ? this.#plainWait : new WwWait(this, ctx);
  }

  /**
   * After `EDEADLK` from {@link lock}, with all locks of `ctx` unlocked: waits for this lock, the contended one, and can not
   * fail again.
   *
   * @throws {InvariantError} `ctx` still holds locks, or did not fail on this lock.
   * @see Linux `ww_mutex_lock_slow`
   */
  *lockSlow(ctx: WwAcquireCtx): Op<void> {
    assert(ctx.contended === this, 'ww mutex %s: lockSlow, but %s did not get EDEADLK from it', this.name, ctx.name);
    yield* this.lock(ctx);
  }

  /**
   * Takes the lock if it is free. Plain. Wounds nobody, never fails with an errno.
   *
   * @returns whether the running task holds it now; false also when it held it before.
   * @throws {InvariantError} no task is running; as {@link lock} for a `ctx` that must not be used.
   * @see Linux `ww_mutex_trylock`
   */
  tryLock(ctx: WwAcquireCtx | null = null): boolean {
    const task = taskThatMay(this.#sim, 'lock', `ww mutex ${this.name}`);
    ctx?.check(this, task);
    if (this.#owner !== null) return false;
    this.#grant(task, ctx);
    return true;
  }

  /**
   * Gives the lock to the first waiter, or frees it. Plain; charges nothing.
   *
   * @throws {InvariantError} the running task does not hold it.
   * @see Linux `ww_mutex_unlock`
   */
  unlock(): void {
    const task = taskThatMay(this.#sim, 'unlock', `ww mutex ${this.name}`);
    assert(this.#owner === task, 'ww mutex %s: %s unlocks it, but it is %s', this.name, task.name, heldBy(this.#owner));
    this.#release(task);
  }

  /** @throws {InvariantError} the running task does not hold it. @see Linux `lockdep_assert_held` */
  assertHeld(): void {
    const task = this.#sim.currentTask;
    if (task !== null && this.#owner === task) return;
    throw new InvariantError(
      `ww mutex ${this.name} must be held by ${task?.name ?? 'a running task'}, but it is ${heldBy(this.#owner)}`,
    );
  }

  /** @internal Takes the free lock, queues the running task, or fails. @returns whether the task was parked. */
  park(wait: Waitable<unknown>, ctx: WwAcquireCtx | null): boolean {
    const { scheduler } = this.#sim;
    const task = taskThatMay(this.#sim, 'lock', `ww mutex ${this.name}`);
    ctx?.check(this, task);
    if (this.#owner === null) {
      this.#grant(task, ctx);
      return scheduler.settleDebt(wait);
    }
    if (ctx !== null && this.#ctx === ctx) {
      throw new ErrnoError('EALREADY', 'wwLock', `${ctx.name} holds ww mutex ${this.name} already`);
    }
    if (this.#owner === task) {
      throw new InvariantError(`ww mutex ${this.name} is held by ${task.name} already, which would wait for itself`);
    }
    if (ctx !== null) this.#contend(ctx, this.#owner);
    scheduler.park(wait);
    this.#enqueue({ task, ctx });
    return true;
  }

  /** @internal The end of a wait. @throws {ErrnoError} `EDEADLK` the task was taken out of the queue. */
  take(ctx: WwAcquireCtx | null): void {
    if (this.#owner !== this.#sim.currentTask && ctx !== null) throw this.#deadlk(ctx);
  }

  /** @internal Takes a task out that waits, or gives back what it was granted and has not seen. */
  cancel(task: Task<unknown>): void {
    const at = this.#waiters.findIndex((waiter) => waiter.task === task);
    if (at >= 0) {
      const ctx = this.#waiters[at]?.ctx;
      if (ctx) ctx.waitsFor = null;
      this.#waiters.splice(at, 1);
    } else if (this.#owner === task) this.#release(task);
  }

  /** @internal */
  expel(ctx: WwAcquireCtx): void {
    const at = this.#waiters.findIndex((waiter) => waiter.ctx === ctx);
    const waiter = this.#waiters[at];
    if (waiter === undefined) return;
    this.#waiters.splice(at, 1);
    ctx.waitsFor = null;
    this.#sim.scheduler.wake(waiter.task);
  }

  /** Rules 3 and 4 for a transaction that is about to wait for `owner`. @throws {ErrnoError} `EDEADLK` it dies. */
  #contend(ctx: WwAcquireCtx, owner: Task<unknown>): void {
    if (ctx.acquired === 0) return;
    const holder = this.#ctx;
    if (this.wwClass.algorithm === 'wait-die') {
      const older = (other: WwAcquireCtx | null): boolean => other !== null && other.stamp < ctx.stamp;
      if (older(holder) || this.#waiters.some((waiter) => older(waiter.ctx))) throw this.#deadlk(ctx);
      return;
    }
    if (ctx.wounded) throw this.#deadlk(ctx);
    if (holder === null || holder.stamp < ctx.stamp || holder.wounded) return;
    holder.wounded = true;
    const { trace, now } = this.#sim;
    if (trace.enabled) trace.emit({ kind: 'lock.wound', timeNs: now, task: owner.name, lock: this.name });
    holder.waitsFor?.expel(holder);
  }

  /** Puts a waiter in front of the first younger one; under wait-die those younger that hold locks die. */
  #enqueue(newcomer: Waiter): void {
    const { ctx } = newcomer;
    const isYounger = ({ ctx: other }: Waiter): boolean => other !== null && ctx !== null && other.stamp > ctx.stamp;
    const at = this.#waiters.findIndex(isYounger);
    this.#waiters.splice(at < 0 ? this.#waiters.length : at, 0, newcomer);
    if (ctx === null) return;
    ctx.waitsFor = this;
    if (this.wwClass.algorithm !== 'wait-die') return;
    for (const waiter of this.#waiters.filter(isYounger)) {
      if (waiter.ctx !== null && waiter.ctx.acquired > 0) this.expel(waiter.ctx);
    }
  }

  #deadlk(ctx: WwAcquireCtx): ErrnoError {
    ctx.contended = this;
    return new ErrnoError(
      'EDEADLK',
      'wwLock',
      `${ctx.name} backs off from ww mutex ${this.name}: unlock all, lockSlow`,
    );
  }

  #grant(task: Task<unknown>, ctx: WwAcquireCtx | null): void {
    this.#owner = task;
    this.#ctx = ctx;
    ctx?.acquire(this);
    recordAcquired(this.#sim, this, task);
  }

  #release(task: Task<unknown>): void {
    this.#ctx?.release();
    this.#owner = null;
    this.#ctx = null;
    recordReleased(this.#sim, this, task);
    const next = this.#waiters.shift();
    if (next === undefined) return;
    this.#grant(next.task, next.ctx);
    this.#sim.scheduler.wake(next.task);
  }
}

/** One task's or one transaction's way to wait for a lock. Holds nothing of a single wait. */
class WwWait extends Waitable<void> {
  readonly #mutex: WwMutex;
  readonly #ctx: WwAcquireCtx | null;

  constructor(mutex: WwMutex, ctx: WwAcquireCtx | null) {
    super();
    this.#mutex = mutex;
    this.#ctx = ctx;
  }

  protected park(): boolean {
    return this.#mutex.park(this, this.#ctx);
  }

  protected take(): void {
    this.#mutex.take(this.#ctx);
  }

  cancel(task: Task<unknown>): void {
    this.#mutex.cancel(task);
  }

  describe(): string {
    return `ww mutex ${this.#mutex.name}, ${heldBy(this.#mutex.owner)}`;
  }
}

/**
 * Locks all `mutexes` for `ctx`, backing off as often as needed; always finishes once the other transactions do. On any
 * error, and when the task is killed, none of them stays locked. Does not call `ctx.done()`.
 *
 * @throws {ErrnoError} `EALREADY` the list names a lock twice (never retry).
 * @throws {InvariantError} `ctx` holds locks already, which could not be given up in a back-off; as `WwMutex.lock`.
 */
export function* wwLockAll(ctx: WwAcquireCtx, mutexes: readonly WwMutex[]): Op<void> {
  assert(ctx.acquired === 0, 'wwLockAll: %s holds %s lock(s) already; lock all in one call', ctx.name, ctx.acquired);
  const twice = mutexes.find((mutex, index) => mutexes.indexOf(mutex) !== index);
  if (twice !== undefined) throw new ErrnoError('EALREADY', 'wwLockAll', `ww mutex ${twice.name} is named twice`);
  let contended: WwMutex | null = null;
  do {
    contended = yield* tryAll(ctx, mutexes, contended);
  } while (contended !== null);
}

/** One round. @returns `null` with all locked; or with none locked the lock to begin the next round with. */
function* tryAll(ctx: WwAcquireCtx, mutexes: readonly WwMutex[], begin: WwMutex | null): Op<WwMutex | null> {
  const held: WwMutex[] = [];
  let asked = begin;
  let complete = false;
  try {
    if (begin !== null) {
      yield* begin.lockSlow(ctx);
      held.push(begin);
    }
    for (const mutex of mutexes) {
      if (mutex === begin) continue;
      asked = mutex;
      yield* mutex.lock(ctx);
      held.push(mutex);
    }
    complete = true;
    return null;
  } catch (error) {
    if (error instanceof ErrnoError && error.code === 'EDEADLK') return asked;
    throw error;
  } finally {
    if (!complete) for (const mutex of held.reverse()) mutex.unlock();
  }
}
