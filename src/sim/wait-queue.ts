/**
 * Tasks that wait for a condition, and those who change it and wake them.
 *
 * 1. A waiter checks its condition, waits, and checks again after each wake-up. The check and the start of the wait are
 *    one step: a wake-up between them can not be lost.
 * 2. A wake-up reaches all who wait without exclusion and the first of those who wait exclusively.
 * 3. An exclusive waiter that is killed before it has seen its wake-up passes it on to the next.
 *
 * **Inaccuracies.** Linux puts waiters without exclusion in front of the list, so that the latest wakes first; here all
 * wake in the order they came. A seeded chooser gives any other order.
 *
 * @see Linux 6.1 `kernel/sched/wait.c`, `include/linux/wait.h`
 */
import { nanos } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import { BoundedWait, ListWait } from './bounded-wait.ts';
import type { Op } from './op.ts';
import { settle } from './settle.ts';
import type { Simulator } from './simulator.ts';
import { WaiterList } from './task.ts';

/** How to wait in a {@link WaitQueue}. */
export interface WaitOptions {
  /** One wake-up reaches only one of the exclusive waiters. Default false. */
  readonly exclusive?: boolean;
}

/** A queue of waiters without memory: a wake-up reaches those who wait now. */
export class WaitQueue {
  readonly name: string;
  readonly #sim: Simulator;
  readonly #shared = new WaiterList();
  readonly #exclusive = new WaiterList();
  readonly #sharedWait: ListWait;
  readonly #exclusiveWait: ListWait;
  #callbacks: Set<() => undefined> | null = null;

  /** @param name - as reports and a `DeadlockError` call it. */
  constructor(sim: Simulator, name = 'wait queue') {
    this.#sim = sim;
    this.name = name;
    this.#sharedWait = new ListWait(sim, this.#shared, this);
    this.#exclusiveWait = new ListWait(sim, this.#exclusive, this);
  }

  /** Whether anybody waits. @see Linux `waitqueue_active` */
  get isActive(): boolean {
    return this.#shared.first !== null || this.#exclusive.first !== null || (this.#callbacks?.size ?? 0) > 0;
  }

  /**
   * Calls `callback` at each wake-up, before the waiters go on: for who waits in several queues at once. Plain.
   *
   * @returns what ends that.
   * @see Linux `init_waitqueue_func_entry`, `add_wait_queue`
   */
  onWakeUp(callback: () => undefined): () => void {
    this.#callbacks ??= new Set();
    const own = (): undefined => callback();
    this.#callbacks.add(own);
    return () => {
      this.#callbacks?.delete(own);
    };
  }

  /** Waits for the next wake-up, whatever it means. */
  wait({ exclusive = false }: WaitOptions = {}): Op<void> {
    return exclusive ? this.#exclusiveWait : this.#sharedWait;
  }

  /**
   * Waits until `condition` holds; it holds at the instant the wait ends. Checked once the running task's debt is paid, and
   * after each wake-up. Does not wait when it holds already.
   *
   * @param condition - plain; must not change the simulation.
   * @see Linux `wait_event`, `wait_event_exclusive_cmd`
   */
  *waitEvent(condition: () => boolean, options?: WaitOptions): Op<void> {
    yield* settle(this.#sim);
    while (!condition()) yield* this.wait(options);
  }

  /**
   * Like {@link waitEvent}, for at most `ns` after the running task's debt is paid.
   *
   * @returns the ns that were left, at least 1; 0 when the time is up and `condition` still does not hold.
   * @throws {InvariantError} `ns` is negative or not whole.
   * @see Linux `wait_event_timeout`
   */
  *waitEventTimeout(condition: () => boolean, ns: number, { exclusive = false }: WaitOptions = {}): Op<number> {
    nanos(ns);
    yield* settle(this.#sim);
    const deadline = this.#sim.now + ns;
    const list = exclusive ? this.#exclusive : this.#shared;
    while (!condition()) {
      const left = deadline - this.#sim.now;
      if (left <= 0) return 0;
      yield* new BoundedWait(this.#sim, list, this, left);
    }
    return Math.max(1, deadline - this.#sim.now);
  }

  /**
   * Wakes all who wait without exclusion, and the first exclusive ones. Plain; from any context; charges nothing.
   *
   * @param exclusiveCount - so many exclusive waiters, >= 1.
   * @returns how many were woken.
   * @throws {InvariantError} `exclusiveCount` is no whole number >= 1.
   * @see Linux `wake_up`, `wake_up_nr`
   */
  wakeUp(exclusiveCount = 1): number {
    assert(
      Number.isSafeInteger(exclusiveCount) && exclusiveCount >= 1,
      'wakeUp: %s is no whole number of waiters >= 1',
      exclusiveCount,
    );
    this.#callBack();
    const { scheduler } = this.#sim;
    let woken = scheduler.wakeAll(this.#shared);
    for (let left = exclusiveCount; left > 0; left--) {
      const task = this.#exclusive.shift();
      if (task === null) break;
      scheduler.wake(task);
      woken++;
    }
    return woken;
  }

  /** Wakes everybody. Plain; from any context. @returns how many. @see Linux `wake_up_all` */
  wakeUpAll(): number {
    this.#callBack();
    const { scheduler } = this.#sim;
    return scheduler.wakeAll(this.#shared) + scheduler.wakeAll(this.#exclusive);
  }

  #callBack(): void {
    if (this.#callbacks === null) return;
    for (const callback of [...this.#callbacks]) callback();
  }

  /** @internal */
  wakeUpUnseen(list: WaiterList): void {
    if (list !== this.#exclusive) return;
    const task = list.shift();
    if (task !== null) this.#sim.scheduler.wake(task);
  }

  /** @internal */
  describe(): string {
    return `wait queue ${this.name}`;
  }
}
