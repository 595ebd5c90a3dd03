/** What the direct back end asks of a device beyond what every back end does. */
import type { CmaArea } from '../mem/cma.ts';
import type { PageAllocator } from '../mem/page-allocator.ts';
import type { CoherentPool } from './coherent-pool.ts';
import type { DmaMaster } from './dma-ops.ts';
import type { Swiotlb } from './swiotlb.ts';

/** @internal A device without an IOMMU, or one that it does not translate. */
export interface DirectDmaMaster extends DmaMaster {
  /** The pool that what it does not reach goes through, or `null`. */
  readonly swiotlb: Swiotlb | null;
  /** It rather has a mapping fail than bounced. */
  readonly refuseBounce: boolean;
  /** Where memory for its coherent allocations comes from, or `null`. */
  readonly pages: PageAllocator | null;
  /** Where large coherent allocations come from first, or `null`. */
  readonly cma: CmaArea | null;
  /** Where coherent allocations come from that must not wait, or `null`. */
  readonly coherentPool: CoherentPool | null;
}
