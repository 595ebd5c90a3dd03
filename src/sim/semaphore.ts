/**
 * A counting semaphore, first come, first served: `up` hands its unit to the task that has waited longest, so a newcomer
 * can not take it. Nobody owns units; any context may call `up`.
 *
 * @see Linux 6.1 `kernel/locking/semaphore.c`
 */
import { nanos } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import { ErrnoError } from '../base/errors.ts';
import { BoundedWait } from './bounded-wait.ts';
import type { Op } from './op.ts';
import { settle } from './settle.ts';
import type { Simulator } from './simulator.ts';
import { type Task, Waitable, WaiterList } from './task.ts';

/** So many units; `down` takes one, `up` gives one. */
export class Semaphore {
  readonly name: string;
  readonly #sim: Simulator;
  readonly #waiters = new WaiterList();
  readonly #wait: DownWait;
  #count: number;

  /**
   * @param count - units at the start. @param name - as reports and a `DeadlockError` call it.
   * @throws {InvariantError} `count` is no whole number >= 0.
   */
  constructor(sim: Simulator, count: number, name = 'semaphore') {
    assert(Number.isSafeInteger(count) && count >= 0, 'semaphore %s: count %s is no whole number >= 0', name, count);
    this.#sim = sim;
    this.#count = count;
    this.name = name;
    this.#wait = new DownWait(this);
  }

  /** Units that can be taken without waiting. */
  get count(): number {
    return this.#count;
  }

  /** Waits for a unit and takes it. @see Linux `down` */
  down(): Op<void> {
    return this.#wait;
  }

  /**
   * Waits for a unit for at most `ns` after the running task's debt is paid.
   *
   * @throws {ErrnoError} `ETIME` none came in time; nothing was taken (retry at will).
   * @throws {InvariantError} `ns` is negative or not whole.
   * @see Linux `down_timeout`
   */
  *downTimeout(ns: number): Op<void> {
    nanos(ns);
    yield* settle(this.#sim);
    if (this.tryDown()) return;
    const taken = ns > 0 && (yield* new BoundedWait(this.#sim, this.#waiters, this, ns));
    if (!taken) throw new ErrnoError('ETIME', 'downTimeout', `semaphore ${this.name} gave no unit in ${ns} ns`);
  }

  /** Takes a unit if there is one. Plain. @returns whether it did. @see Linux `down_trylock` */
  tryDown(): boolean {
    if (this.#count === 0) return false;
    this.#count--;
    return true;
  }

  /** Gives a unit: to the task that has waited longest, or to the count. Plain; from any context. @see Linux `up` */
  up(): void {
    const task = this.#waiters.shift();
    if (task === null) this.#count++;
    else this.#sim.scheduler.wake(task);
  }

  /** @internal */
  park(wait: Waitable<unknown>): boolean {
    const { scheduler } = this.#sim;
    if (this.tryDown()) return scheduler.settleDebt(wait);
    this.#waiters.push(scheduler.park(wait));
    return true;
  }

  /** @internal */
  cancel(task: Task<unknown>): void {
    if (!this.#waiters.remove(task)) this.up();
  }

  /** @internal */
  wakeUpUnseen(): void {
    this.up();
  }

  /** @internal */
  describe(): string {
    return `a unit of semaphore ${this.name}`;
  }
}

class DownWait extends Waitable<void> {
  readonly #semaphore: Semaphore;

  constructor(semaphore: Semaphore) {
    super();
    this.#semaphore = semaphore;
  }

  protected park(): boolean {
    return this.#semaphore.park(this);
  }

  protected take(): void {}

  cancel(task: Task<unknown>): void {
    this.#semaphore.cancel(task);
  }

  describe(): string {
    return this.#semaphore.describe();
  }
}
