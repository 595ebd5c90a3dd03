/** Transactions over wound/wait mutexes, and the classes they belong to. The rules are told in `ww-mutex.ts`. */
import { assert } from '../base/assert.ts';
import type { Task } from './task.ts';

/** @internal What a transaction knows of a lock. */
export interface WwLock {
  readonly name: string;
  readonly wwClass: WwClass;
  /** Ends the wait of a transaction that has to die: it finds `EDEADLK` when it runs. */
  expel(ctx: WwAcquireCtx): void;
}

/** Who gives way when two transactions meet: the younger holder is wounded, or the younger newcomer dies. */
export type WwAlgorithm = 'wound-wait' | 'wait-die';

/**
 * A family of `WwMutex`es that may be locked together, and the source of their transactions' stamps.
 *
 * @see Linux `DEFINE_WW_CLASS` (wound-wait), `DEFINE_WD_CLASS` (wait-die; the class of `dma_resv` is such a one)
 */
export class WwClass {
  readonly name: string;
  readonly algorithm: WwAlgorithm;
  #stamps = 0;

  /** @param name - as messages call it: `'reservation'`. */
  constructor(algorithm: WwAlgorithm, name = 'ww class') {
    this.algorithm = algorithm;
    this.name = name;
  }

  /** @internal The next stamp: greater than all before. */
  nextStamp(): number {
    return ++this.#stamps;
  }
}

/**
 * One transaction: begun by `new`, used by one task, ended by {@link fini}.
 *
 * @see Linux `ww_acquire_init`, `struct ww_acquire_ctx`
 */
export class WwAcquireCtx {
  readonly wwClass: WwClass;
  /** Its age: the smaller, the older. Stays the same over all retries. */
  readonly stamp: number;
  /** @internal The lock its task waits for. */
  waitsFor: WwLock | null = null;
  /** @internal The lock it got `EDEADLK` from and has not locked since. */
  contended: WwLock | null = null;
  /** @internal Set by an older transaction; forgotten when it begins again with no lock held. */
  wounded = false;
  #acquired = 0;
  #phase: 'acquiring' | 'done' | 'finished' = 'acquiring';
  #task: Task<unknown> | null = null;

  /** Begins a transaction; it is the youngest of its class. */
  constructor(wwClass: WwClass) {
    this.wwClass = wwClass;
    this.stamp = wwClass.nextStamp();
  }

  /** As messages call it: `'reservation#3'`. */
  get name(): string {
    return `${this.wwClass.name}#${this.stamp}`;
  }

  /** Locks it holds. */
  get acquired(): number {
    return this.#acquired;
  }

  /**
   * Declares that it has all its locks: from now on it only unlocks. Plain.
   *
   * @throws {InvariantError} called twice, or after {@link fini}.
   * @see Linux `ww_acquire_done`
   */
  done(): void {
    assert(this.#phase === 'acquiring', 'done: %s is %s already', this.name, this.#phase);
    this.#phase = 'done';
  }

  /**
   * Ends the transaction. Plain.
   *
   * @throws {InvariantError} it still holds locks, or was ended before.
   * @see Linux `ww_acquire_fini`
   */
  fini(): void {
    assert(this.#phase !== 'finished', 'fini: %s is finished already', this.name);
    assert(this.#acquired === 0, 'fini: %s still holds %s lock(s)', this.name, this.#acquired);
    this.#phase = 'finished';
  }

  /** @internal Before `task` tries `mutex` with it. @throws {InvariantError} it must not. */
  check(mutex: WwLock, task: Task<unknown>): void {
    assert(this.wwClass === mutex.wwClass, 'ww mutex %s is not of the class of %s', mutex.name, this.name);
    assert(this.#phase === 'acquiring', 'ww mutex %s: %s is %s', mutex.name, this.name, this.#phase);
    assert(this.#task === null || this.#task === task, '%s belongs to another task than %s', this.name, task.name);
    if (this.contended !== null) {
      assert(this.#acquired === 0, '%s got EDEADLK: unlock all first (%s held)', this.name, this.#acquired);
      const { name } = this.contended;
      assert(this.contended === mutex, '%s got EDEADLK from %s: lock that first, not %s', this.name, name, mutex.name);
    }
    this.#task = task;
    if (this.#acquired === 0) this.wounded = false;
  }

  /** @internal It got `mutex`. */
  acquire(mutex: WwLock): void {
    this.#acquired++;
    this.waitsFor = null;
    if (this.contended === mutex) this.contended = null;
  }

  /** @internal It unlocked one. */
  release(): void {
    this.#acquired--;
  }
}
