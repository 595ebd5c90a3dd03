/**
 * What the fences of one simulator share: numbers of contexts, rules that differ between kernels, the stub, and work that
 * waits until no fence is locked any more.
 *
 * Rules of that work (Linux's `irq_work`):
 * 1. Whoever signals a fence, asks it, or adds a callback holds the fence's lock with interrupts off. Work that is queued
 *    meanwhile runs when the outermost such section ends, before the call that opened it returns.
 * 2. What was queued in one section runs newest first. What is queued by such work runs after all of that.
 *
 * @see Linux 6.1 `kernel/irq_work.c`; `drivers/dma-buf/dma-fence.c` dma_fence_context_alloc
 */
import { assert } from '../base/assert.ts';
import { ErrnoError } from '../base/errors.ts';
import type { FenceFacts } from '../base/hazards.ts';
import type { Simulator } from '../sim/simulator.ts';
import type { DmaFence } from './dma-fence.ts';

/** A timeline: fences of one context are ordered by their sequence numbers. It is the object that counts, not its fields. */
export interface DmaFenceContext {
  /** As reports call it: `'gpu0'`. */
  readonly name: string;
  /** As the trace numbers it; merging sorts by it. */
  readonly id: number;
}

/** Rules of fences in which kernels differ. */
export interface DmaFenceRules {
  /**
   * What merging keeps of several pending fences of one context: `'latest'` (6.1 as recorded, and all newer kernels), or
   * `'all'` that are not the same object (before that).
   */
  readonly mergeKeeps: 'latest' | 'all';
  /** Whether the names of a signalled fence still come from its driver: `'kept'` (6.1) or `'dropped'` (7.x). */
  readonly opsAfterSignal: 'kept' | 'dropped';
  /** Fault injection: true makes this allocation fail with `ENOMEM`. `site` is the kernel's function. */
  readonly failAllocation: (site: DmaFenceAllocationSite) => boolean;
}

/** Where fences and reservations allocate memory and can fail. */
export type DmaFenceAllocationSite =
  | 'dma_resv_reserve_fences'
  | 'dma_resv_get_fences'
  | 'dma_resv_get_singleton'
  | 'dma_resv_copy_fences'
  | 'dma_fence_unwrap_merge'
  | 'sync_file_create';

/** Contexts below are numbered by hand, by whoever makes a {@link DmaFenceContext} himself. */
const FIRST_CONTEXT = 65_536;

const RULES_6_1: DmaFenceRules = { mergeKeeps: 'latest', opsAfterSignal: 'kept', failAllocation: () => false };

/** @internal See the header. */
export class DmaFenceWorld {
  readonly sim: Simulator;
  rules = RULES_6_1;
  stub: DmaFence | null = null;
  /** Fences that were made and not freed. */
  live = 0;
  /** Fences that have signalled so far: while it stays, none has. */
  signals = 0;
  #nextContext = FIRST_CONTEXT;
  /** How many fences are locked now, and one more while queued work runs. */
  #depth = 0;
  #queued: (() => undefined)[] = [];

  constructor(sim: Simulator) {
    this.sim = sim;
  }

  allocContext(name: string): DmaFenceContext {
    return { name, id: this.#nextContext++ };
  }

  /** A fence is locked. */
  enter(): void {
    this.#depth++;
  }

  /** It is unlocked: rule 1. */
  leave(): void {
    this.#depth--;
    if (this.#depth === 0 && this.#queued.length > 0) this.#runQueued();
  }

  /** Rule 1. `work` must not throw but for a hazard or a user's callback. */
  queueWork(work: () => undefined): void {
    this.#queued.push(work);
    if (this.#depth === 0) this.#runQueued();
  }

  /** @throws {ErrnoError} `ENOMEM` the rules want a failure (retry later). */
  admit(site: DmaFenceAllocationSite): void {
    if (this.rules.failAllocation(site)) throw new ErrnoError('ENOMEM', site, 'made to fail by failAllocation');
  }

  report(hazard: FenceFacts['hazard'], fence: { readonly name: string }, what: string, remedy: string): void {
    const { sim } = this;
    const who = sim.currentTask?.name ?? 'a callback';
    sim.report({ hazard, fence: fence.name, what, who, timeNs: sim.now, remedy });
  }

  #runQueued(): void {
    this.#depth++;
    try {
      while (this.#queued.length > 0) {
        const batch = this.#queued;
        this.#queued = [];
        for (let at = batch.length - 1; at >= 0; at--) batch[at]?.();
      }
    } finally {
      this.#depth--;
    }
  }
}

/** @internal The one of `sim`. */
export function dmaFenceWorld(sim: Simulator): DmaFenceWorld {
  return sim.part(DmaFenceWorld);
}

/**
 * A new context with a number that no other has. Plain.
 *
 * @see Linux 6.1 `drivers/dma-buf/dma-fence.c` dma_fence_context_alloc
 */
export function allocDmaFenceContext(sim: Simulator, name: string): DmaFenceContext {
  assert(name !== '', 'allocDmaFenceContext: the name is empty; give the name of the timeline');
  return dmaFenceWorld(sim).allocContext(name);
}

/** Switches rules of fences away from Linux 6.1's for one simulator; those that are not given stay. Plain. */
export function setDmaFenceRules(sim: Simulator, rules: Partial<DmaFenceRules>): void {
  const world = dmaFenceWorld(sim);
  world.rules = { ...world.rules, ...rules };
}

/** How many fences were made in `sim` and not freed by the last `put`. Fences that nobody puts stay: a leak, or thrift. Plain. */
export function countLiveDmaFences(sim: Simulator): number {
  return dmaFenceWorld(sim).live;
}
