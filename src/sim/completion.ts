/**
 * A completion: how often something was completed and nobody has waited for it yet.
 *
 * `complete` counts up and wakes the first waiter, which counts down when it runs. A newcomer may take the count before
 * it; then it waits on. After `completeAll` every wait is over at once until `reinit`.
 *
 * @see Linux 6.1 `kernel/sched/completion.c`; `Documentation/scheduler/completion.rst`
 */
import { nanos } from '../base/addr.ts';
import { BoundedWait, ListWait } from './bounded-wait.ts';
import type { Op } from './op.ts';
import { settle } from './settle.ts';
import type { Simulator } from './simulator.ts';
import { WaiterList } from './task.ts';

/** Counts completions; each `wait` takes one. */
export class Completion {
  readonly name: string;
  readonly #sim: Simulator;
  readonly #waiters = new WaiterList();
  readonly #wait: ListWait;
  /** Infinity after `completeAll`. */
  #done = 0;

  /** @param name - as reports and a `DeadlockError` call it. */
  constructor(sim: Simulator, name = 'completion') {
    this.#sim = sim;
    this.name = name;
    this.#wait = new ListWait(sim, this.#waiters, this);
  }

  /** Whether a wait would be over at once. @see Linux `completion_done` */
  get isDone(): boolean {
    return this.#done > 0;
  }

  /** One more is complete: wakes the task that has waited longest. Plain; from any context. @see Linux `complete` */
  complete(): void {
    this.#done++;
    this.#wakeOne();
  }

  /** Ends all waits, present and future. Plain; from any context. @see Linux `complete_all` */
  completeAll(): void {
    this.#done = Infinity;
    this.#sim.scheduler.wakeAll(this.#waiters);
  }

  /** Forgets what was completed; waiters stay. Plain. @see Linux `reinit_completion` */
  reinit(): void {
    this.#done = 0;
  }

  /** Takes a completion if there is one. Plain. @returns whether it did. @see Linux `try_wait_for_completion` */
  tryWait(): boolean {
    if (this.#done === 0) return false;
    this.#done--;
    return true;
  }

  /** Waits for a completion and takes it. @see Linux `wait_for_completion` */
  *wait(): Op<void> {
    yield* settle(this.#sim);
    while (!this.tryWait()) yield* this.#wait;
  }

  /**
   * Waits for a completion for at most `ns` after the running task's debt is paid, and takes it.
   *
   * @returns the ns that were left, at least 1; 0 when the time is up and none was taken.
   * @throws {InvariantError} `ns` is negative or not whole.
   * @see Linux `wait_for_completion_timeout`
   */
  *waitTimeout(ns: number): Op<number> {
    nanos(ns);
    yield* settle(this.#sim);
    const deadline = this.#sim.now + ns;
    while (!this.tryWait()) {
      const left = deadline - this.#sim.now;
      if (left <= 0) return 0;
      yield* new BoundedWait(this.#sim, this.#waiters, this, left);
    }
    return Math.max(1, deadline - this.#sim.now);
  }

  /** @internal */
  wakeUpUnseen(): void {
    if (this.#done > 0) this.#wakeOne();
  }

  /** @internal */
  describe(): string {
    return `completion ${this.name}`;
  }

  #wakeOne(): void {
    const task = this.#waiters.shift();
    if (task !== null) this.#sim.scheduler.wake(task);
  }
}
