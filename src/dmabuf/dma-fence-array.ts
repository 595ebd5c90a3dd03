/**
 * A fence that stands for several: it signals when all of them have, or with the first.
 *
 * Rules:
 * 1. It looks at its members only when somebody adds a callback, waits or asks. Asked before anybody waits, it asks each member.
 * 2. It takes over the error of the first member that fails while it is waited for. Asked only, or signalled by hand, it does
 *    not look for errors and is a success.
 * 3. It signals not in the callback of its last member but after it, when that member is not locked any more.
 * 4. Members must not be arrays or chains themselves: merge them with `dmaFenceUnwrapMerge`.
 *
 * @see Linux 6.1 `drivers/dma-buf/dma-fence-array.c`
 */
import { assert } from '../base/assert.ts';
import type { Simulator } from '../sim/simulator.ts';
import { DmaFence } from './dma-fence.ts';
import type { DmaFenceOps } from './dma-fence-ops.ts';
import { allocDmaFenceContext, type DmaFenceContext, dmaFenceWorld } from './dma-fence-world.ts';

/** How to make a {@link DmaFenceArray}. */
export interface DmaFenceArrayOptions {
  /** Default: a new one. */
  readonly context?: DmaFenceContext;
  /** Default 1. */
  readonly seqno?: number;
  /** It signals with the first member, not with the last. Default false. */
  readonly signalOnAny?: boolean;
}

/** Pending members that a report names, at most. */
const MAX_NAMED = 4;
const ARRAY_OPS: DmaFenceOps = {
  getDriverName: () => 'dma_fence_array',
  getTimelineName: () => 'unbound',
};

/** See the header. */
export class DmaFenceArray extends DmaFence {
  /** In the order given. */
  readonly fences: readonly DmaFence[];
  /** So many members still have to signal; may go below zero when it signals with any. */
  #pending: number;
  /** Whether an error may still come in. */
  #errorPending = true;

  /**
   * Takes references of its own to `fences`.
   *
   * @throws {InvariantError} `fences` is empty: there is nothing that could signal it.
   * @throws {HazardError} `fence.nested-container`: rule 4. With policy `'record'` the array is made all the same.
   * @see Linux 6.1 dma_fence_array_create
   */
  constructor(sim: Simulator, fences: readonly DmaFence[], options: DmaFenceArrayOptions = {}) {
    for (const fence of fences) refuseContainer(sim, fence);
    assert(fences.length > 0, 'DmaFenceArray: no fence given, so nothing could signal it; use dmaFenceGetStub');
    super(sim, options.context ?? allocDmaFenceContext(sim, 'dma_fence_array'), options.seqno ?? 1, ARRAY_OPS);
    this.fences = fences.map((fence) => fence.getFor(this));
    this.#pending = options.signalOnAny === true ? 1 : fences.length;
  }

  override get isContainer(): boolean {
    return true;
  }

  override get rawError(): number {
    return this.error === null && this.#errorPending ? 1 : super.rawError;
  }

  override describe(): string {
    const left = this.fences.filter((fence) => !fence.signaled);
    const named = left.slice(0, MAX_NAMED).map((fence) => fence.describe());
    if (left.length > MAX_NAMED) named.push('…');
    return `${super.describe()} (${left.length} of ${this.fences.length} pending: ${named.join('; ')})`;
  }

  protected override startSignaling(): boolean {
    for (const fence of this.fences) {
      this.getFor(fence);
      if (fence.addCallback((member) => this.#memberDone(member))) continue;
      this.#noteError(fence);
      this.putFor(fence);
      this.#pending--;
      if (this.#pending !== 0) continue;
      this.#errorPending = false;
      return false;
    }
    return true;
  }

  protected override isOver(): boolean {
    if (!this.signalingEnabled) {
      let left = this.#pending;
      const isEnough = this.fences.some((fence) => fence.isSignaled() && --left === 0);
      if (!isEnough) return false;
    } else if (this.#pending > 0) return false;
    this.#errorPending = false;
    return true;
  }

  protected override passDeadline(deadlineNs: number): void {
    for (const fence of this.fences) fence.setDeadline(deadlineNs);
  }

  protected override onRelease(): void {
    for (const fence of this.fences) fence.putFor(this);
  }

  /** Rule 2: the first error counts, and none after it was found that there is none. */
  #noteError(member: DmaFence): void {
    if (this.#errorPending && member.error !== null) this.inheritError(member.error);
  }

  #memberDone(member: DmaFence): undefined {
    this.#noteError(member);
    this.#pending--;
    if (this.#pending !== 0) {
      this.putFor(member);
      return;
    }
    this.world.queueWork(() => {
      this.#errorPending = false;
      this.signal();
      this.putFor(member);
      return undefined;
    });
  }
}

function refuseContainer(sim: Simulator, fence: DmaFence): void {
  if (!fence.isContainer) return;
  const what = 'is an array or a chain and becomes a member of an array; who unwraps that one does not look inside';
  dmaFenceWorld(sim).report('fence.nested-container', fence, what, 'merge the fences with dmaFenceUnwrapMerge');
}
