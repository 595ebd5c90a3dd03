/**
 * The plain fences inside arrays and chains, and merging fences into one.
 *
 * @see Linux 6.1 `drivers/dma-buf/dma-fence-unwrap.c`; `include/linux/dma-fence-unwrap.h`
 */
import type { Simulator } from '../sim/simulator.ts';
import type { DmaFence } from './dma-fence.ts';
import { DmaFenceArray } from './dma-fence-array.ts';
import { contained, dmaFenceChainWalk } from './dma-fence-chain.ts';
import { dmaFencePrivateStub } from './dma-fence-stub.ts';
import { type DmaFenceContext, type DmaFenceWorld, dmaFenceWorld } from './dma-fence-world.ts';

/**
 * The fences that `head` stands for: of a chain its links from the newest back, of an array its members in order, also where
 * it is the fence of a link. What is nested deeper is not looked into. Walking a chain drops links that have signalled; others
 * are listed, signalled or not. Plain. Takes no references.
 *
 * @see Linux 6.1 dma_fence_unwrap_for_each
 */
export function dmaFenceUnwrap(head: DmaFence): DmaFence[] {
  const leaves: DmaFence[] = [];
  for (let at: DmaFence | null = head; at !== null; at = dmaFenceChainWalk(at)) {
    const fence = contained(at);
    if (fence instanceof DmaFenceArray) for (const member of fence.fences) leaves.push(member);
    else leaves.push(fence);
  }
  return leaves;
}

/**
 * One fence for all that is pending in `fences`: of each context the latest, sorted by number of context. Plain.
 *
 * @returns the fence itself when only one is left; a new array for several; a new signalled stub, without any error, when
 *   nothing is pending. It has a reference for the caller.
 * @throws {ErrnoError} `ENOMEM` (retry later).
 * @see Linux 6.1 dma_fence_unwrap_merge
 */
export function dmaFenceUnwrapMerge(sim: Simulator, fences: readonly DmaFence[]): DmaFence {
  const world = dmaFenceWorld(sim);
  const pending: DmaFence[] = [];
  let lastNs = 0;
  for (const fence of fences.flatMap((head) => dmaFenceUnwrap(head))) {
    if (!fence.isSignaled()) pending.push(fence);
    else lastNs = Math.max(lastNs, fence.timestampNs ?? 0);
  }
  const [first] = pending;
  if (first === undefined) return dmaFencePrivateStub(sim, lastNs);
  if (pending.length === 1) return first.get();
  world.admit('dma_fence_unwrap_merge');
  const kept = dedup(world, pending);
  const [only, second] = kept;
  return only !== undefined && second === undefined ? only.get() : new DmaFenceArray(sim, kept);
}

/**
 * Of each context the latest fence, sorted by number of context; no fence for none. Plain. Takes no references.
 *
 * @see Linux 6.1 `drivers/dma-buf/dma-fence-unwrap.c`, newer kernels dma_fence_dedup_array
 */
export function dedupDmaFences(fences: readonly DmaFence[]): DmaFence[] {
  const latest = new Map<DmaFenceContext, DmaFence>();
  for (const fence of fences) {
    const known = latest.get(fence.context);
    if (known === undefined || !known.isLater(fence)) latest.set(fence.context, fence);
  }
  return [...latest.values()].sort(byContext);
}

function dedup(world: DmaFenceWorld, fences: readonly DmaFence[]): DmaFence[] {
  return world.rules.mergeKeeps === 'latest' ? dedupDmaFences(fences) : [...new Set(fences)].sort(byContext);
}

function byContext(a: DmaFence, b: DmaFence): number {
  return a.context.id - b.context.id;
}
