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
import { assert, InvariantError } from '../base/assert.ts';
import { lift, type MaybeOp, type Op } from '../sim/op.ts';
import { settle } from '../sim/settle.ts';
import type { Simulator } from '../sim/simulator.ts';
import { WwAcquireCtx } from '../sim/ww-acquire-ctx.ts';
import { WwMutex, wwLockAll } from '../sim/ww-mutex.ts';
import type { DmaFence } from './dma-fence.ts';
import { DmaFenceArray } from './dma-fence-array.ts';
import { type DmaFenceContext, dmaFenceWorld } from './dma-fence-world.ts';
import { DmaResvIter } from './dma-resv-iter.ts';
import { DmaResvList } from './dma-resv-list.ts';

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
const USAGE_NAMES = ['kernel', 'write', 'read', 'bookkeep'] as const;

/** One reservation object; a buffer has its own, or several buffers share one. */
export class DmaResv {
  readonly name: string;
  readonly #sim: Simulator;
  /** @internal */
  readonly mutex: WwMutex;
  /** @internal Replaced when it grows; see `dma-resv-list.ts`. */
  list: DmaResvList | null = null;
  #listeners: Set<() => undefined> | null = null;

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
   * Waits for the lock, runs `body` with it held and gives its value; a fence that `body` returns is waited for, as any
   * operation. The lock is given back in any case, also when `body` throws or the task is killed; after a `body` that
   * returns, when the time charged in it has passed.
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

  /** Takes the lock if it is free. Plain. @returns whether the running task has it now. @see Linux 6.1 dma_resv_trylock */
  tryLock(): boolean {
    return this.mutex.tryLock();
  }

  /** @throws {InvariantError} the running task does not hold the lock. @see Linux 6.1 dma_resv_assert_held */
  assertHeld(): void {
    this.mutex.assertHeld();
  }

  /**
   * Makes room for `count` more fences. The lock must be held. Plain.
   *
   * @throws {InvariantError} the lock is not held, or `count` is no whole number > 0.
   * @throws {ErrnoError} `ENOMEM` (retry later); nothing has changed.
   * @see Linux 6.1 dma_resv_reserve_fences
   */
  reserveFences(count: number): void {
    this.assertHeld();
    assert(Number.isSafeInteger(count) && count > 0, 'reserveFences: count %s is no whole number > 0', count);
    const old = this.list;
    const wanted = (old?.length ?? 0) + count;
    if (old !== null && wanted <= old.room) return;
    dmaFenceWorld(this.#sim).admit('dma_resv_reserve_fences');
    const least = old === null ? Math.max(FIRST_ROOM, 2 ** Math.ceil(Math.log2(count))) : 2 * old.room;
    const larger = new DmaResvList(Math.max(wanted, least), this);
    const done: DmaFence[] = [];
    for (let at = 0; old !== null && at < old.length; at++) {
      const { fence, usage } = entryOf(old, at);
      if (fence.isSignaled()) done.push(fence);
      else larger.keep(fence, usage);
    }
    this.list = larger;
    for (const fence of done) fence.putFor(this);
  }

  /**
   * Adds `fence`, with a reference of its own. The lock must be held. Plain.
   *
   * @throws {InvariantError} the lock is not held, or no room was made with {@link reserveFences}; nothing is added.
   * @throws {HazardError} `resv.container-added`: an array or a chain; add what `dmaFenceUnwrap` gives. With policy `'record'`
   *   it is added all the same, as the kernel warns and adds it.
   * @see Linux 6.1 dma_resv_add_fence
   */
  addFence(fence: DmaFence, usage: DmaResvUsageValue): void {
    this.assertHeld();
    if (fence.isContainer) {
      const what = 'is an array or a chain and is added to a reservation, which then can not replace what is in it';
      dmaFenceWorld(this.#sim).report('resv.container-added', fence, what, 'add each fence that dmaFenceUnwrap gives');
    }
    const { list } = this;
    const at = list?.slotFor(fence, usage, dmaFenceWorld(this.#sim)) ?? -1;
    if (list !== null && at >= 0) {
      list.replace(at, fence, usage);
      return;
    }
    if (list === null || list.length >= list.room) {
      throw new InvariantError(
        `${this.name}: addFence without room for ${fence.name}; call reserveFences before, with the lock held all the time`,
      );
    }
    list.push(fence, usage);
  }

  /**
   * Puts `replacement` into the place of every fence of `context`, whatever its usage, for work that was taken back or done by
   * other means. Nothing when there is none. The lock must be held. Plain. The caller answers for it that `replacement`
   * signals only when the buffer may be used again.
   *
   * @throws {InvariantError} the lock is not held.
   * @see Linux 6.1 dma_resv_replace_fences
   */
  replaceFences(context: DmaFenceContext, replacement: DmaFence, usage: DmaResvUsageValue): void {
    this.assertHeld();
    const { list } = this;
    for (let at = 0; list !== null && at < list.length; at++) {
      if (list.fences[at]?.context === context) list.replace(at, replacement, usage);
    }
  }

  /**
   * Takes over the pending fences of `src`, all usages, in the place of its own. The lock of this one must be held, that of `src`
   * need not. Plain.
   *
   * @throws {InvariantError} the lock is not held.
   * @throws {ErrnoError} `ENOMEM` (retry later); nothing has changed.
   * @see Linux 6.1 dma_resv_copy_fences
   */
  copyFences(src: DmaResv): void {
    this.assertHeld();
    let copy: DmaResvList | null = null;
    const iter = src.iter(DmaResvUsage.bookkeep);
    try {
      for (let fence = iter.next(); fence !== null; fence = iter.next()) {
        if (copy === null || iter.isRestarted) {
          copy?.release();
          copy = null;
          dmaFenceWorld(this.#sim).admit('dma_resv_copy_fences');
          copy = new DmaResvList(iter.listedCount, this);
        }
        copy.push(fence, iter.usage);
      }
    } finally {
      iter.end();
    }
    const old = this.list;
    this.list = copy;
    old?.release();
  }

  /**
   * Everything that is listed with `usage` and stronger, in slot order, signalled or not. The lock must be held. Plain.
   *
   * @throws {InvariantError} the lock is not held.
   * @see Linux 6.1 dma_resv_for_each_fence
   */
  entries(usage: DmaResvUsageValue = DmaResvUsage.bookkeep): DmaResvEntry[] {
    this.assertHeld();
    const { list } = this;
    if (list === null) return [];
    return list.fences.map((_, at) => entryOf(list, at)).filter((entry) => entry.usage <= usage);
  }

  /** A walk over the pending fences of `usage` and stronger, in slot order. The lock need not be held. Plain. */
  iter(usage: DmaResvUsageValue): DmaResvIter {
    if (this.#listeners !== null) for (const listener of this.#listeners) listener();
    return new DmaResvIter(this, usage);
  }

  /** @internal From now on `listener` is told when somebody asks for pending fences. Plain. @returns what ends that. */
  onQuery(listener: () => undefined): () => void {
    this.#listeners ??= new Set();
    this.#listeners.add(listener);
    return () => this.#listeners?.delete(listener);
  }

  /**
   * The fences that have not signalled, of `usage` and stronger, in slot order. Plain. Takes no references.
   *
   * @see Linux 6.1 dma_resv_for_each_fence_unlocked
   */
  fences(usage: DmaResvUsageValue): DmaFence[] {
    let found: DmaFence[] = [];
    const iter = this.iter(usage);
    for (let fence = iter.next(); fence !== null; fence = iter.next()) {
      if (iter.isRestarted) found = [];
      found.push(fence);
    }
    return found;
  }

  /**
   * As {@link fences}, with a reference to each for the caller.
   *
   * @throws {ErrnoError} `ENOMEM` (retry later).
   * @see Linux 6.1 dma_resv_get_fences
   */
  getFences(usage: DmaResvUsageValue): DmaFence[] {
    const found = this.fences(usage);
    if (found.length > 0) dmaFenceWorld(this.#sim).admit('dma_resv_get_fences');
    return found.map((fence) => fence.get());
  }

  /**
   * One fence for all that {@link fences} gives, with a reference for the caller: `null` for none, the fence itself, or a new
   * array. Plain. The array is not to be added to a reservation.
   *
   * @throws {ErrnoError} `ENOMEM` (retry later).
   * @see Linux 6.1 dma_resv_get_singleton
   */
  getSingleton(usage: DmaResvUsageValue): DmaFence | null {
    const [first, ...others] = this.fences(usage);
    if (first === undefined) return null;
    if (others.length === 0) return first.get();
    dmaFenceWorld(this.#sim).admit('dma_resv_get_singleton');
    return new DmaFenceArray(this.#sim, [first, ...others]);
  }

  /** Whether all fences of `usage` and stronger have signalled. Plain. @see Linux 6.1 dma_resv_test_signaled */
  testSignaled(usage: DmaResvUsageValue): boolean {
    const iter = this.iter(usage);
    const isIdle = iter.next() === null;
    iter.end();
    return isIdle;
  }

  /**
   * Waits for the fences of `usage` and stronger that are listed when it begins, slot by slot. A fence that takes one of
   * these slots before its turn is waited for in its place; one in a later slot is not. When {@link reserveFences} has made a
   * larger list meanwhile, it starts over with all that are in that one. The lock need not be held.
   *
   * @see Linux 6.1 dma_resv_wait_timeout
   */
  *wait(usage: DmaResvUsageValue): Op<void> {
    const iter = this.iter(usage);
    try {
      for (let fence = iter.next(); fence !== null; fence = iter.next()) yield* fence;
    } finally {
      iter.end();
    }
  }

  /**
   * As {@link wait}, but at most `ns`; not at all when all have signalled.
   *
   * @returns the ns that were left, at least 1; 0 when the time was up with a fence pending.
   * @throws {InvariantError} `ns` is negative or not whole.
   * @see Linux 6.1 dma_resv_wait_timeout
   */
  *waitTimeout(usage: DmaResvUsageValue, ns: number): Op<number> {
    nanos(ns);
    yield* settle(this.#sim);
    const deadline = this.#sim.now + ns;
    const iter = this.iter(usage);
    try {
      for (let fence = iter.next(); fence !== null; fence = iter.next()) {
        const left = Math.max(0, deadline - this.#sim.now);
        if ((yield* fence.waitTimeout(left)) === 0) return 0;
      }
    } finally {
      iter.end();
    }
    return Math.max(1, deadline - this.#sim.now);
  }

  /** Tells all pending fences of `usage` and stronger when they would be wanted. Plain. @see Linux 6.4 dma_resv_set_deadline */
  setDeadline(usage: DmaResvUsageValue, deadlineNs: number): void {
    for (const fence of this.fences(usage)) fence.setDeadline(deadlineNs);
  }

  /**
   * A line for each listed fence, without bookkeeping, as debugfs shows it: `'write fence:gpu0 ring0 seq 3 unsignalled'`. The lock
   * must be held. Plain.
   *
   * @throws {InvariantError} the lock is not held.
   * @see Linux 6.1 dma_resv_describe
   */
  describeFences(): string[] {
    return this.entries(DmaResvUsage.read).map(({ fence, usage }) => `${USAGE_NAMES[usage]} fence:${fence.summary()}`);
  }

  /**
   * The end of its life: gives the references to all its fences back. Plain.
   *
   * @throws {InvariantError} somebody holds the lock.
   * @see Linux 6.1 dma_resv_fini
   */
  fini(): void {
    assert(!this.isLocked, '%s: fini while its lock is held; unlock it before', this.name);
    const old = this.list;
    this.list = null;
    old?.release();
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

function entryOf(list: DmaResvList, at: number): DmaResvEntry {
  const fence = list.fences[at];
  const usage = list.usages[at];
  assert(fence !== undefined && usage !== undefined, 'reservation list: there is no slot %s', at);
  return { fence, usage };
}
