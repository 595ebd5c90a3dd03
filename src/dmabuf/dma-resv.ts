/**
 * The reservation of a buffer: its lock, and the fences of who still uses it.
 *
 * Rules:
 * 1. Fences are added only with the lock held, and only into room that {@link DmaResv.reserveFences} made.
 * 2. A query for a usage sees all fences of that usage and of stronger ones: `read` sees kernel, write and read.
 * 3. Who reads waits for `write`; who writes waits for `read` (all but bookkeeping).
 * 4. A new fence takes the first slot whose fence has signalled, or is an older one of its own context with an equal or
 *    weaker usage.
 * 5. Signalled fences stay listed until their slot is taken, or until more room has to be made: then they are thrown out.
 *    Only {@link DmaResv.entries} still shows them.
 *
 * @see Linux 6.1 `drivers/dma-buf/dma-resv.c`; `include/linux/dma-resv.h` enum dma_resv_usage
 */
import { nanos } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import { timeout } from '../sim/combinators.ts';
import { lift, type MaybeOp, type Op } from '../sim/op.ts';
import { settle } from '../sim/settle.ts';
import type { Simulator } from '../sim/simulator.ts';
import { WwAcquireCtx } from '../sim/ww-acquire-ctx.ts';
import { WwMutex, wwLockAll } from '../sim/ww-mutex.ts';
import type { DmaFence } from './dma-fence.ts';

/** What a fence's owner does with the buffer; a smaller number is stronger. */
export const DmaResvUsage = { kernel: 0, write: 1, read: 2, bookkeep: 3 } as const;
/** See {@link DmaResvUsage}. */
export type DmaResvUsageValue = (typeof DmaResvUsage)[keyof typeof DmaResvUsage];

/** A fence and what its owner does with the buffer. */
export interface DmaResvEntry {
  readonly fence: DmaFence;
  readonly usage: DmaResvUsageValue;
}

/** Fences that the first allocation of a list has room for, at least. */
const FIRST_ROOM = 4;
/** Bytes of a list beside its fences, and of each fence in it. */
const LIST_HEADER_BYTES = 24;
const LIST_FENCE_BYTES = 8;

/** One reservation object; a buffer has its own, or several buffers share one. */
export class DmaResv {
  readonly name: string;
  readonly #sim: Simulator;
  /** @internal */
  readonly mutex: WwMutex;
  #slots: DmaResvEntry[] = [];
  #room = 0;

  constructor(sim: Simulator, name: string) {
    this.#sim = sim;
    this.name = name;
    this.mutex = new WwMutex(sim, sim.reservationClass, `resv(${name})`);
  }

  /** Whether anybody holds the lock. */
  get isLocked(): boolean {
    return this.mutex.isLocked;
  }

  /**
   * Takes the lock. May wait.
   *
   * @throws {ErrnoError} with a context: `EDEADLK` back off and retry, `EALREADY` the context has it.
   * @throws {InvariantError} without one: the running task holds it already and would wait for itself (never retry).
   * @see Linux 6.1 dma_resv_lock
   */
  lock(ctx?: WwAcquireCtx): Op<void> {
    return this.mutex.lock(ctx);
  }

  /** Gives the lock back. Plain. @throws {InvariantError} the running task does not hold it. @see Linux 6.1 dma_resv_unlock */
  unlock(): void {
    this.mutex.unlock();
  }

  /**
   * Waits for the lock, runs `body` with it held and gives its value. The lock is given back in any case, also when `body`
   * throws or the task is killed; after a `body` that returns, when the time charged in it has passed.
   *
   * @throws what `body` throws.
   * @throws {InvariantError} the running task holds the lock already (never retry); `body` was not run.
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

  /** @throws {InvariantError} the running task does not hold the lock. @see Linux 6.1 dma_resv_assert_held */
  assertHeld(): void {
    this.mutex.assertHeld();
  }

  /**
   * Makes room for `count` more fences. The lock must be held. Plain.
   *
   * @throws {InvariantError} the lock is not held, or `count` is no whole number > 0.
   * @see Linux 6.1 dma_resv_reserve_fences
   */
  reserveFences(count: number): void {
    this.assertHeld();
    assert(Number.isSafeInteger(count) && count > 0, 'reserveFences: count %s is no whole number > 0', count);
    const wanted = this.#slots.length + count;
    if (wanted <= this.#room) return;
    const least = this.#room === 0 ? Math.max(FIRST_ROOM, 2 ** Math.ceil(Math.log2(count))) : 2 * this.#room;
    this.#room = roomOfList(Math.max(wanted, least));
    this.#slots = this.#slots.filter((slot) => !slot.fence.signaled);
  }

  /**
   * Adds `fence`. The lock must be held. Plain.
   *
   * @throws {InvariantError} the lock is not held, or no room was made with {@link reserveFences}; nothing is added.
   * @see Linux 6.1 dma_resv_add_fence
   */
  addFence(fence: DmaFence, usage: DmaResvUsageValue): void {
    this.assertHeld();
    const at = this.#slots.findIndex((slot) => slot.fence.signaled || replaces(fence, usage, slot));
    const isFree = at >= 0 || this.#slots.length < this.#room;
    assert(isFree, '%s: addFence without room; call reserveFences before', this.name);
    this.#slots[at >= 0 ? at : this.#slots.length] = { fence, usage };
  }

  /**
   * Everything that is listed with `usage` and stronger, in slot order, signalled or not. The lock must be held. Plain.
   *
   * @throws {InvariantError} the lock is not held.
   * @see Linux 6.1 dma_resv_for_each_fence
   */
  entries(usage: DmaResvUsageValue = DmaResvUsage.bookkeep): DmaResvEntry[] {
    this.assertHeld();
    return this.#slots.filter((slot) => slot.usage <= usage);
  }

  /**
   * The fences that have not signalled, of `usage` and stronger, in slot order. Plain.
   *
   * @see Linux 6.1 dma_resv_for_each_fence_unlocked
   */
  fences(usage: DmaResvUsageValue): DmaFence[] {
    return this.#slots.filter((slot) => slot.usage <= usage && !slot.fence.signaled).map((slot) => slot.fence);
  }

  /** Whether all fences of `usage` and stronger have signalled. @see Linux 6.1 dma_resv_test_signaled */
  testSignaled(usage: DmaResvUsageValue): boolean {
    return this.fences(usage).length === 0;
  }

  /**
   * Waits for the fences of `usage` and stronger that are listed when it begins, slot by slot. A fence that takes one of
   * these slots before its turn is waited for in its place; one in a later slot is not. When {@link reserveFences} has made a
   * larger list meanwhile, it starts over with all that are in that one. The lock need not be held.
   *
   * @see Linux 6.1 dma_resv_iter_first_unlocked, dma_resv_iter_next_unlocked
   */
  *wait(usage: DmaResvUsageValue): Op<void> {
    let slots = this.#slots;
    let end = slots.length;
    for (let at = 0; at < end; at++) {
      const { fence, usage: used } = slots[at] as DmaResvEntry;
      if (used > usage || fence.signaled) continue;
      yield* fence;
      if (slots === this.#slots) continue;
      slots = this.#slots;
      end = slots.length;
      at = -1;
    }
  }

  /**
   * As {@link wait}, but at most `ns`; not at all when all have signalled.
   *
   * @returns whether all that it waits for have signalled.
   * @throws {InvariantError} `ns` is negative or not whole.
   * @see Linux 6.1 dma_resv_wait_timeout
   */
  *waitTimeout(usage: DmaResvUsageValue, ns: number): Op<boolean> {
    nanos(ns);
    if (this.testSignaled(usage)) return true;
    const { timedOut } = yield* timeout(this.#sim, ns, this.wait(usage));
    return !timedOut || this.testSignaled(usage);
  }
}

/**
 * Runs `body` with the locks of all `resvs` held, taken in whatever order others take theirs: backs off and retries until
 * it has them. Reservations that are the same object are locked once. Waits for the locks; they are given back in any case,
 * also when `body` throws or the task is killed; after a `body` that returns, when the time charged in it has passed.
 *
 * @returns what `body` gives.
 * @throws what `body` throws.
 * @throws {InvariantError} the running task holds one of the locks already (never retry); `body` was not run.
 * @see Linux `Documentation/locking/ww-mutex-design.rst`
 */
export function* withResvsLocked<T>(sim: Simulator, resvs: readonly DmaResv[], body: () => MaybeOp<T>): Op<T> {
  const mutexes = [...new Set(resvs.map((resv) => resv.mutex))];
  const ctx = new WwAcquireCtx(sim.reservationClass);
  try {
    yield* wwLockAll(ctx, mutexes);
    ctx.done();
    try {
      const value = yield* lift(body());
      yield* settle(sim);
      return value;
    } finally {
      for (const mutex of mutexes) mutex.unlock();
    }
  } finally {
    ctx.fini();
  }
}

/**
 * The usage an access has to wait for: a reader waits for writers, a writer for everybody.
 *
 * @see Linux 6.1 `include/linux/dma-resv.h` dma_resv_usage_rw
 */
export function usageToWaitFor(access: 'read' | 'write'): DmaResvUsageValue {
  return access === 'write' ? DmaResvUsage.read : DmaResvUsage.write;
}

/** Rule 4 for a slot whose fence is pending. */
function replaces(fence: DmaFence, usage: DmaResvUsageValue, slot: DmaResvEntry): boolean {
  return slot.usage >= usage && (slot.fence === fence || fence.isLater(slot.fence));
}

/** Fences that a list made for `count` really has room for: the kernel's allocator rounds its size up. */
function roomOfList(count: number): number {
  const bytes = LIST_HEADER_BYTES + LIST_FENCE_BYTES * count;
  const power = 2 ** Math.ceil(Math.log2(bytes));
  const between = (power / 4) * 3;
  const hasBetween = between === 96 || between === 192;
  const allocated = hasBetween && bytes <= between ? between : power;
  return Math.floor((allocated - LIST_HEADER_BYTES) / LIST_FENCE_BYTES);
}
