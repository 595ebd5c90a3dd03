/**
 * A fence that stands for a point of a timeline: its own fence and all points before it. Links of a chain point back.
 *
 * Rules:
 * 1. A link has signalled when its fence and those of all links before it have.
 * 2. Walking a chain drops links behind whose fence has signalled: a chain grows only by what is pending.
 * 3. A link with a higher number than the one before shares its context; else it begins a new one, with a number at least as high.
 *    Numbers have 64 bits and do not wrap.
 * 4. Who waits for a link waits for one pending fence at a time; after that one the link looks for the next, not in that fence's
 *    callback but after it.
 * 5. The fence of a link must not be a chain itself: chains are joined by `prev` only.
 *
 * @see Linux 6.1 `drivers/dma-buf/dma-fence-chain.c`
 */
import { assert } from '../base/assert.ts';
import { ErrnoError } from '../base/errors.ts';
import type { Simulator } from '../sim/simulator.ts';
import { DmaFence } from './dma-fence.ts';
import type { DmaFenceOps } from './dma-fence-ops.ts';
import { allocDmaFenceContext, type DmaFenceContext, dmaFenceWorld } from './dma-fence-world.ts';

const CHAIN_OPS: DmaFenceOps = {
  getDriverName: () => 'dma_fence_chain',
  getTimelineName: () => 'unbound',
  seqno64: true,
};

/** One link. */
export class DmaFenceChain extends DmaFence {
  /** What this point itself stands for. */
  readonly fence: DmaFence;
  /** The number of the link it was put behind, when that was lower; else 0. Stays when that link is dropped. */
  readonly prevSeqno: number;
  #prev: DmaFence | null;

  /**
   * Takes references of its own to `prev` and `fence`.
   *
   * @param prev - the link before, or a plain fence; `null` begins a chain.
   * @param seqno - the point; see rule 3 for the number it really gets.
   * @throws {HazardError} `fence.nested-container`: rule 5. With policy `'record'` the link is made all the same.
   * @see Linux 6.1 dma_fence_chain_init
   */
  constructor(sim: Simulator, prev: DmaFence | null, fence: DmaFence, seqno: number) {
    refuseChain(sim, fence);
    const place = placeBehind(sim, prev, seqno);
    super(sim, place.context, place.seqno, CHAIN_OPS);
    this.fence = fence.getFor(this);
    this.prevSeqno = place.prevSeqno;
    this.#prev = prev === null ? null : prev.getFor(this);
  }

  /** What comes before it, as far as it was not dropped. */
  get prev(): DmaFence | null {
    return this.#prev;
  }

  override get isContainer(): boolean {
    return true;
  }

  override describe(): string {
    let at: DmaFence | null = this;
    let pending: DmaFence | null = null;
    while (at !== null) {
      const own: DmaFence = contained(at);
      if (!own.signaled) pending = own;
      at = at instanceof DmaFenceChain ? at.#prev : null;
    }
    return pending === null ? super.describe() : `${super.describe()} (oldest pending: ${pending.describe()})`;
  }

  /** @internal {@link dmaFenceChainWalk} from this link. */
  walk(): DmaFence | null {
    for (let prev = this.#prev; prev !== null; prev = this.#prev) {
      if (!contained(prev).isSignaled()) return prev;
      this.#prev = prev instanceof DmaFenceChain ? (prev.#prev?.getFor(this) ?? null) : null;
      prev.putFor(this);
    }
    return null;
  }

  protected override startSignaling(): boolean {
    this.getFor(this);
    for (let at: DmaFence | null = this; at !== null; at = dmaFenceChainWalk(at)) {
      if (contained(at).addCallback(() => this.#oneDone())) return true;
    }
    this.putFor(this);
    return false;
  }

  protected override isOver(): boolean {
    for (let at: DmaFence | null = this; at !== null; at = dmaFenceChainWalk(at)) {
      if (!contained(at).isSignaled()) return false;
    }
    return true;
  }

  protected override passDeadline(deadlineNs: number): void {
    for (let at: DmaFence | null = this; at !== null; at = dmaFenceChainWalk(at)) contained(at).setDeadline(deadlineNs);
  }

  /** Frees what is behind it in a loop: a long chain must not be as deep a recursion. */
  protected override onRelease(): void {
    let prev = this.#prev;
    let holder: DmaFenceChain = this;
    this.#prev = null;
    while (prev instanceof DmaFenceChain && prev.refs === 1) {
      const next: DmaFence | null = prev.#prev;
      prev.#prev = null;
      prev.putFor(holder);
      holder = prev;
      prev = next;
    }
    prev?.putFor(holder);
    this.fence.putFor(this);
  }

  /** Rule 4. */
  #oneDone(): undefined {
    this.world.queueWork(() => {
      if (!this.startSignaling()) this.signal();
      this.putFor(this);
      return undefined;
    });
  }
}

/**
 * What comes before `fence` in its chain, without what has signalled meanwhile: that is dropped from the chain. Plain.
 *
 * @returns `null` at the end, and for a fence that is no link.
 * @see Linux 6.1 dma_fence_chain_walk
 */
export function dmaFenceChainWalk(fence: DmaFence): DmaFence | null {
  return fence instanceof DmaFenceChain ? fence.walk() : null;
}

/**
 * The link to wait for so that point `seqno` of the timeline of `fence` is reached. Plain. Drops links that have signalled.
 *
 * @param seqno - 0 is `fence` itself.
 * @returns `null` when everything up to there has signalled and was dropped. No reference is taken.
 * @throws {ErrnoError} `EINVAL` `fence` is no link, or an earlier one than `seqno` (retry when the point exists).
 * @throws {InvariantError} `seqno` is no whole number >= 0.
 * @see Linux 6.1 dma_fence_chain_find_seqno
 */
export function dmaFenceChainFindSeqno(fence: DmaFence | null, seqno: number): DmaFence | null {
  assert(Number.isSafeInteger(seqno) && seqno >= 0, 'dmaFenceChainFindSeqno: seqno %s is no whole number >= 0', seqno);
  if (seqno === 0) return fence;
  if (!(fence instanceof DmaFenceChain) || fence.seqno < seqno) {
    const what =
      fence instanceof DmaFenceChain ? `the chain ends at ${fence.seqno}` : 'the fence is no link of a chain';
    throw new ErrnoError('EINVAL', 'dmaFenceChainFindSeqno', `there is no point ${seqno}: ${what}`);
  }
  let at: DmaFence | null = fence;
  while (at !== null) {
    if (at.context !== fence.context || !(at instanceof DmaFenceChain) || at.prevSeqno < seqno) return at;
    at = dmaFenceChainWalk(at);
  }
  return null;
}

/** @internal What a fence itself stands for: a link's own fence, any other fence. */
export function contained(fence: DmaFence): DmaFence {
  return fence instanceof DmaFenceChain ? fence.fence : fence;
}

function placeBehind(
  sim: Simulator,
  prev: DmaFence | null,
  seqno: number,
): { readonly context: DmaFenceContext; readonly seqno: number; readonly prevSeqno: number } {
  if (prev instanceof DmaFenceChain && seqno > prev.seqno) {
    return { context: prev.context, seqno, prevSeqno: prev.seqno };
  }
  const least = prev instanceof DmaFenceChain ? prev.seqno : 0;
  return { context: allocDmaFenceContext(sim, 'dma_fence_chain'), seqno: Math.max(least, seqno), prevSeqno: 0 };
}

function refuseChain(sim: Simulator, fence: DmaFence): void {
  if (!(fence instanceof DmaFenceChain)) return;
  const what = 'is a chain and becomes the fence of a link; who unwraps that link does not look inside';
  dmaFenceWorld(sim).report('fence.nested-container', fence, what, 'join chains by prev');
}
