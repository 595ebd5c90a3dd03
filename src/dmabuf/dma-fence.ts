/**
 * A fence: a promise of a driver that something will have been done. It signals once and for all, possibly with an error.
 *
 * Rules:
 * 1. Fences of one context signal in the order of their sequence numbers; the driver sees to that.
 * 2. Callbacks run in place, in the signaller's context, in the order they were added; they can not wait.
 * 3. Who waits goes on after the callbacks have run.
 * 4. Sequence numbers are compared as 32-bit numbers that wrap around: the later of two is less than 2^31 ahead.
 *
 * @see Linux 6.1 `drivers/dma-buf/dma-fence.c`; `Documentation/driver-api/dma-buf.rst` "DMA Fences"
 */
import { nanos } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import { ERRNO, type ErrnoCode } from '../base/errno.ts';
import { timeout } from '../sim/combinators.ts';
import { Event } from '../sim/event.ts';
import { type Op, type Suspend, WAITABLE } from '../sim/op.ts';
import type { Simulator } from '../sim/simulator.ts';

/** A timeline: fences of one context are ordered by their sequence numbers. It is the object that counts, not its fields. */
export interface DmaFenceContext {
  /** As reports call it: `'gpu0'`. */
  readonly name: string;
  /** As the trace numbers it. */
  readonly id: number;
}

/** What is called when a fence signals; it can not wait. */
export type DmaFenceCallback = (fence: DmaFence) => undefined;

/** One point of a timeline. `yield* fence` waits until it has signalled, whatever its error. */
export class DmaFence implements Op<void> {
  readonly context: DmaFenceContext;
  readonly seqno: number;
  /** `'gpu0:3'`: its context's name and its sequence number. */
  readonly name: string;
  readonly #sim: Simulator;
  readonly #done: Event;
  #callbacks: DmaFenceCallback[] = [];
  #error: ErrnoCode | null = null;

  /** @throws {InvariantError} `seqno` is no whole number >= 0. @see Linux 6.1 `drivers/dma-buf/dma-fence.c` dma_fence_init */
  constructor(sim: Simulator, context: DmaFenceContext, seqno: number) {
    assert(Number.isSafeInteger(seqno) && seqno >= 0, 'DmaFence: seqno %s is no whole number >= 0', seqno);
    this.#sim = sim;
    this.context = context;
    this.seqno = seqno;
    this.name = `${context.name}:${seqno}`;
    this.#done = new Event(sim, `fence ${this.name}`);
    if (sim.trace.enabled) {
      sim.trace.emit({ kind: 'fence.init', timeNs: sim.now, fence: this.name, context: context.id, seqno });
    }
  }

  /** Whether it has signalled. */
  get signaled(): boolean {
    return this.#done.fired;
  }

  /** Why what it stands for failed, or `null`. */
  get error(): ErrnoCode | null {
    return this.#error;
  }

  /** 0 while it is pending, 1 when it has signalled, or its error as a negative number. @see Linux 6.1 dma_fence_get_status */
  get status(): number {
    if (!this.signaled) return 0;
    return this.#error === null ? 1 : -ERRNO[this.#error];
  }

  /** Whether it is a later fence of the same context than `other` (rule 4). @see Linux 6.1 `include/linux/dma-fence.h` dma_fence_is_later */
  isLater(other: DmaFence): boolean {
    return this.context === other.context && ((this.seqno - other.seqno) | 0) > 0;
  }

  /**
   * Notes that what it stands for failed; to be called before {@link signal}. Plain.
   *
   * @throws {InvariantError} it has signalled; the error is noted all the same, as the kernel warns and notes it.
   * @see Linux 6.1 `include/linux/dma-fence.h` dma_fence_set_error
   */
  setError(code: ErrnoCode): void {
    this.#error = code;
    assert(!this.signaled, 'fence %s: setError after it has signalled', this.name);
  }

  /**
   * Signals: runs the callbacks, then wakes who waits. Plain; charges nothing.
   *
   * @returns whether it has signalled by this call; false, and nothing happens, when it had before (Linux: `-EINVAL`).
   * @throws what a callback throws; those behind it are not called.
   * @see Linux 6.1 dma_fence_signal
   */
  signal(): boolean {
    if (this.signaled) return false;
    const callbacks = this.#callbacks;
    this.#callbacks = [];
    const { trace, now } = this.#sim;
    if (trace.enabled) trace.emit({ kind: 'fence.signal', timeNs: now, fence: this.name, error: this.#error ?? '' });
    this.#done.fire();
    for (const callback of callbacks) callback(this);
    return true;
  }

  /**
   * Calls `callback` when it signals. Plain.
   *
   * @returns false, and does not call, when it has signalled already (Linux: `-ENOENT`).
   * @see Linux 6.1 dma_fence_add_callback
   */
  addCallback(callback: DmaFenceCallback): boolean {
    if (this.signaled) return false;
    this.#callbacks.push(callback);
    return true;
  }

  /** Takes a callback back. @returns false when it was called already or never added. @see dma_fence_remove_callback */
  removeCallback(callback: DmaFenceCallback): boolean {
    const at = this.#callbacks.indexOf(callback);
    if (at < 0) return false;
    this.#callbacks.splice(at, 1);
    return true;
  }

  /**
   * Waits at most `ns`; not at all when it has signalled.
   *
   * @returns whether it has signalled.
   * @throws {InvariantError} `ns` is negative or not whole.
   * @see Linux 6.1 dma_fence_wait_timeout
   */
  *waitTimeout(ns: number): Op<boolean> {
    nanos(ns);
    if (!this.signaled) yield* timeout(this.#sim, ns, this.#done);
    return this.signaled;
  }

  /** @internal Marks it as an operation. */
  get [WAITABLE](): true {
    return true;
  }

  [Symbol.iterator](): Iterator<Suspend, void, unknown> {
    return this.#done[Symbol.iterator]();
  }
}

/** A driver's source of fences of one context, numbered from 1 on. */
export class DmaFenceTimeline {
  readonly context: DmaFenceContext;
  readonly #sim: Simulator;
  #next = 1;

  /** @param context - of this timeline alone. */
  constructor(sim: Simulator, context: DmaFenceContext) {
    this.#sim = sim;
    this.context = context;
  }

  /** The next fence of the context. */
  fence(): DmaFence {
    return new DmaFence(this.#sim, this.context, this.#next++);
  }
}
