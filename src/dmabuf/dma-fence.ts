/**
 * A fence: a promise of a driver that something will have been done. It signals once and for all, possibly with an error.
 *
 * Rules:
 * 1. Fences of one context signal in the order of their sequence numbers; the driver sees to that.
 * 2. Callbacks run in place, in the signaller's context, in the order they were added; they can not wait. The fence is locked
 *    meanwhile: they must not take callbacks of the same fence back, ask its status or signal it again.
 * 3. Who waits goes on after the callbacks have run.
 * 4. Sequence numbers are compared as 32-bit numbers that wrap around: the later of two is less than 2^31 ahead. A driver
 *    may ask for 64 bits instead; here they end at 2^53.
 * 5. Signalling is enabled by the first who adds a callback or waits: only then does the driver's `enableSignaling` run.
 * 6. References are counted: see `dma-fence-refs.ts`.
 * **Inaccuracies.** Every fence has a lock of its own; a driver's lock shared by all fences of a context is not modelled.
 *
 * @see Linux 6.1 `drivers/dma-buf/dma-fence.c`; `Documentation/driver-api/dma-buf.rst` "DMA Fences"
 */
import { nanos } from '../base/addr.ts';
import { InvariantError } from '../base/assert.ts';
import { ERRNO, type ErrnoCode } from '../base/errno.ts';
import { BoundedWait } from '../sim/bounded-wait.ts';
import type { Op, Suspend } from '../sim/op.ts';
import { settle } from '../sim/settle.ts';
import type { Simulator } from '../sim/simulator.ts';
import { type Task, WaiterList } from '../sim/task.ts';
import type { DmaFenceCallback, DmaFenceOps } from './dma-fence-ops.ts';
import { DmaFenceRefs } from './dma-fence-refs.ts';
import { type DmaFenceContext, dmaFenceWorld } from './dma-fence-world.ts';

/** Bits of a fence's state. */
const SIGNALED = 1;
const ENABLED = 2;
const LOCKED = 4;
const NO_OPS: DmaFenceOps = {};

/** One point of a timeline. `yield* fence` waits until it has signalled, whatever its error. */
export class DmaFence extends DmaFenceRefs {
  readonly context: DmaFenceContext;
  readonly seqno: number;
  /** The task that has to signal it, for reports of deadlocks; `null` when that is not known. */
  signaler: Task<unknown> | null = null;
  readonly #ops: DmaFenceOps;
  #state = 0;
  #error: ErrnoCode | null = null;
  #timestampNs = 0;
  #callbacks: DmaFenceCallback[] | null = null;
  #waiters: WaiterList | null = null;

  /**
   * @param context - from `allocDmaFenceContext`, or numbered by hand.
   * @throws {InvariantError} `seqno` is no whole number in [0, 2^53).
   * @see Linux 6.1 `drivers/dma-buf/dma-fence.c` dma_fence_init
   */
  constructor(sim: Simulator, context: DmaFenceContext, seqno: number, ops: DmaFenceOps = NO_OPS) {
    super(dmaFenceWorld(sim));
    if (!(Number.isSafeInteger(seqno) && seqno >= 0))
      throw new InvariantError(`DmaFence: seqno ${seqno} is no whole number >= 0`);
    this.#ops = ops;
    this.context = context;
    this.seqno = seqno;
    if (sim.trace.enabled) {
      sim.trace.emit({ kind: 'fence.init', timeNs: sim.now, fence: this.name, context: context.id, seqno });
    }
  }

  /** `'gpu0:3'`: its context's name and its sequence number. */
  override get name(): string {
    return `${this.context.name}:${this.seqno}`;
  }

  /** Who drives it. After the signal with rule `opsAfterSignal: 'dropped'`: `'detached-driver'`. */
  get driverName(): string {
    if (this.#detached) return 'detached-driver';
    return this.#ops.getDriverName?.(this) ?? this.context.name;
  }

  /** Its timeline's name. After the signal with rule `opsAfterSignal: 'dropped'`: `'signaled-timeline'`. */
  get timelineName(): string {
    if (this.#detached) return 'signaled-timeline';
    return this.#ops.getTimelineName?.(this) ?? this.context.name;
  }

  /** Whether it was signalled: only looks. {@link isSignaled} asks the driver, too. */
  override get signaled(): boolean {
    return (this.#state & SIGNALED) !== 0;
  }

  /** Why what it stands for failed, or `null`. */
  get error(): ErrnoCode | null {
    return this.#error;
  }

  /** The kernel's raw field: the error as a negative number, or 0. In a container that has not looked for errors yet: 1. */
  get rawError(): number {
    return this.#error === null ? 0 : -ERRNO[this.#error];
  }

  /** 0 while it is pending, 1 when it was signalled, or its error as a negative number. Only looks, as {@link signaled}. */
  get status(): number {
    if (!this.signaled) return 0;
    return this.#error === null ? 1 : -ERRNO[this.#error];
  }

  /** When it signalled, in ns; `null` while it is pending. */
  get timestampNs(): number | null {
    return this.signaled ? this.#timestampNs : null;
  }

  /** Whether it stands for others: an array or a chain. @see Linux 6.1 dma_fence_is_container */
  get isContainer(): boolean {
    return false;
  }

  /** @internal Whether asking it can make it signal. */
  get isAsked(): boolean {
    return this.isContainer || this.#ops.signaled !== undefined;
  }

  /**
   * Whether it has signalled; a driver that can tell without interrupt is asked, and a fence that is over then signals. Plain.
   *
   * @throws what a callback throws.
   * @see Linux 6.1 dma_fence_is_signaled
   */
  isSignaled(): boolean {
    if ((this.#state & SIGNALED) !== 0) return true;
    if (!this.isOver()) return false;
    this.signal();
    return true;
  }

  /**
   * 0 while it is pending, 1 when it has signalled, or its error as a negative number; asks as {@link isSignaled}. Plain.
   *
   * @throws {InvariantError} asked by a callback of this fence, which has it locked (rule 2).
   * @see Linux 6.1 dma_fence_get_status
   */
  getStatus(): number {
    this.#mayLock('getStatus');
    this.isSignaled();
    return this.status;
  }

  /**
   * Whether it is a later fence of the same context than `other` (rule 4).
   *
   * @throws {HazardError} `fence.compare-across-contexts`: they are of two contexts, which have no order. With policy `'record'`: false.
   * @see Linux 6.1 `include/linux/dma-fence.h` dma_fence_is_later
   */
  isLater(other: DmaFence): boolean {
    if (this.context !== other.context) {
      const what = `is compared with ${other.name} of another context; there is no order between contexts`;
      this.world.report('fence.compare-across-contexts', this, what, 'compare fences of one context only');
      return false;
    }
    return this.#ops.seqno64 === true ? this.seqno > other.seqno : ((this.seqno - other.seqno) | 0) > 0;
  }

  /**
   * Notes that what it stands for failed; to be called before {@link signal}. Plain.
   *
   * @throws {HazardError} `fence.error-after-signal`: the error is noted all the same, as the kernel warns and notes it.
   * @see Linux 6.1 `include/linux/dma-fence.h` dma_fence_set_error
   */
  setError(code: ErrnoCode): void {
    this.#error = code;
    if (!this.signaled) return;
    const what = `gets error ${code} after it has signalled; who looked before has seen another status`;
    this.world.report('fence.error-after-signal', this, what, 'call setError before signal');
  }

  /**
   * Signals: wakes who waits, and runs the callbacks. Plain; charges nothing.
   *
   * @returns whether it has signalled by this call; false, and nothing happens, when it had before (Linux: `-EINVAL`). The
   *   trace then has a `fence.signal-again`.
   * @throws {InvariantError} called by a callback of this fence, which has it locked (rule 2).
   * @throws {HazardError} `fence.use-after-free`.
   * @throws what a callback throws; those behind it are not called.
   * @see Linux 6.1 dma_fence_signal
   */
  signal(): boolean {
    return this.signalTimestamp(this.world.sim.now);
  }

  /** As {@link signal}, for something that was over at `timestampNs`. @see Linux 6.1 dma_fence_signal_timestamp */
  signalTimestamp(timestampNs: number): boolean {
    if (this.isFreed) this.usedAfterFree('is signalled');
    this.#mayLock('signal');
    if (this.signaled) {
      const { trace, now } = this.world.sim;
      if (trace.enabled) trace.emit({ kind: 'fence.signal-again', timeNs: now, fence: this.name });
      return false;
    }
    this.#lock('signal');
    try {
      this.#signalLocked(timestampNs);
    } finally {
      this.#unlock();
    }
    return true;
  }

  /**
   * Calls `callback` when it signals. Plain. Enables signalling (rule 5).
   *
   * @returns false, and does not call, when it has signalled already (Linux: `-ENOENT`).
   * @throws {HazardError} `fence.use-after-free`.
   * @see Linux 6.1 dma_fence_add_callback
   */
  addCallback(callback: DmaFenceCallback): boolean {
    if (this.isFreed) this.usedAfterFree('gets a callback');
    if ((this.#state & SIGNALED) !== 0) return false;
    this.#lock('addCallback');
    try {
      if (!this.#enable()) return false;
      if (this.#callbacks === null) this.#callbacks = [callback];
      else this.#callbacks.push(callback);
      return true;
    } finally {
      this.#unlock();
    }
  }

  /**
   * Takes a callback back. Plain.
   *
   * @returns false when it was called already or never added.
   * @throws {InvariantError} called by a callback of this fence, which has it locked (rule 2).
   * @see Linux 6.1 dma_fence_remove_callback
   */
  removeCallback(callback: DmaFenceCallback): boolean {
    this.#mayLock('removeCallback');
    const at = this.#callbacks?.indexOf(callback) ?? -1;
    if (at < 0) return false;
    this.#callbacks?.splice(at, 1);
    return true;
  }

  /** Makes sure that it signals without being asked (rule 5). Plain. @see Linux 6.1 dma_fence_enable_sw_signaling */
  enableSignaling(): void {
    if ((this.#state & (SIGNALED | ENABLED)) !== 0) return;
    this.#lock('enableSignaling');
    try {
      this.#enable();
    } finally {
      this.#unlock();
    }
  }

  /**
   * Waits at most `ns` after the running task's debt is paid; not at all when it has signalled. Enables signalling.
   *
   * @returns the ns that were left, at least 1; 0 when it has not signalled.
   * @throws {InvariantError} `ns` is negative or not whole.
   * @see Linux 6.1 dma_fence_wait_timeout
   */
  *waitTimeout(ns: number): Op<number> {
    nanos(ns);
    const { sim } = this.world;
    yield* settle(sim);
    this.enableSignaling();
    if (this.#ops.wait !== undefined) return yield* this.#ops.wait(this, ns);
    const deadline = sim.now + ns;
    if (ns > 0 && !this.signaled) yield* new BoundedWait(sim, this.#waiterList(), this, ns);
    return this.signaled ? Math.max(1, deadline - sim.now) : 0;
  }

  /** Tells the driver by when somebody would like it signalled (simulated ns): a hint. Plain. @see Linux 6.4 dma_fence_set_deadline */
  setDeadline(deadlineNs: number): void {
    if (!this.isSignaled()) this.passDeadline(nanos(deadlineNs));
  }

  /** `'gpu0 ring0 seq 3 unsignalled'`, as debugfs shows it; asks as {@link isSignaled}. @see Linux 6.1 dma_fence_describe */
  summary(): string {
    return `${this.driverName} ${this.timelineName} seq ${this.seqno} ${this.isSignaled() ? '' : 'un'}signalled`;
  }

  /** @internal What a wait for it waits for, in a report of a deadlock. */
  describe(): string {
    const { signaler } = this;
    if (signaler === null) return `fence ${this.name}`;
    if (signaler.outcome === null) return `fence ${this.name}, which task ${signaler.name} has to signal`;
    return `fence ${this.name}, which nobody can signal: task ${signaler.name} has ended`;
  }

  /** @internal */
  cancel(task: Task<unknown>): void {
    this.#waiters?.remove(task);
  }

  /** @internal A wake-up by a fence is for all: nothing is lost with one that was not seen. */
  wakeUpUnseen(): void {}

  /** @internal */
  override [Symbol.iterator](): Iterator<Suspend, void, unknown> {
    const wait = this.#ops.wait?.(this, Infinity);
    return wait === undefined ? this : withoutValue(wait)[Symbol.iterator]();
  }

  protected park(): boolean {
    const { scheduler } = this.world.sim;
    this.enableSignaling();
    if (this.signaled) return scheduler.settleDebt(this);
    this.#waiterList().push(scheduler.park(this));
    return true;
  }

  protected take(): void {}

  /** Whether it is over although nobody has signalled it yet. */
  protected isOver(): boolean {
    return this.#ops.signaled?.(this) ?? false;
  }

  /** Starts what makes it signal. @returns false when it is over already. */
  protected startSignaling(): boolean {
    return this.#ops.enableSignaling?.(this) ?? true;
  }

  /** Passes a hint on to who can hurry. */
  protected passDeadline(deadlineNs: number): void {
    this.#ops.setDeadline?.(this, deadlineNs);
  }

  protected signalLost(): boolean {
    const hasWaiters = (this.#callbacks?.length ?? 0) > 0 || (this.#waiters?.length ?? 0) > 0;
    if (this.signaled || !hasWaiters) return false;
    this.#error = 'EDEADLK';
    this.#signalLocked(this.world.sim.now);
    return true;
  }

  protected onRelease(): void {
    this.#ops.release?.(this);
  }

  /** Takes over `code` as its own error unless it has one. */
  protected inheritError(code: ErrnoCode): void {
    this.#error ??= code;
  }

  protected get signalingEnabled(): boolean {
    return (this.#state & ENABLED) !== 0;
  }

  #enable(): boolean {
    const isFirst = (this.#state & ENABLED) === 0;
    this.#state |= ENABLED;
    if ((this.#state & SIGNALED) !== 0) return false;
    if (!isFirst || this.startSignaling()) return true;
    this.#signalLocked(this.world.sim.now);
    return false;
  }

  #signalLocked(timestampNs: number): void {
    const { sim } = this.world;
    this.#state |= SIGNALED;
    this.noteSignaled();
    this.#timestampNs = timestampNs;
    if (sim.trace.enabled) {
      sim.trace.emit({ kind: 'fence.signal', timeNs: sim.now, fence: this.name, error: this.#error ?? '' });
    }
    if (this.#waiters !== null) sim.scheduler.wakeAll(this.#waiters);
    const callbacks = this.#callbacks;
    if (callbacks === null) return;
    this.#callbacks = null;
    for (const callback of callbacks) callback(this);
  }

  #mayLock(op: string): void {
    if ((this.#state & LOCKED) === 0) return;
    throw new InvariantError(
      `fence ${this.name}: ${op} by its own callback, which has it locked and would wait for itself; do it later, from a task`,
    );
  }

  #lock(op: string): void {
    this.#mayLock(op);
    this.#state |= LOCKED;
    this.world.enter();
  }

  #unlock(): void {
    this.#state &= ~LOCKED;
    this.world.leave();
  }

  #waiterList(): WaiterList {
    this.#waiters ??= new WaiterList();
    return this.#waiters;
  }

  get #detached(): boolean {
    return this.signaled && this.world.rules.opsAfterSignal === 'dropped';
  }
}

function* withoutValue(op: Op<unknown>): Op<void> {
  yield* op;
}
