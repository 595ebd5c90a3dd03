/** What the back end behind an IOMMU asks of a device beyond what every back end does. */
import type { CmaArea } from '../mem/cma.ts';
import type { PageAllocator } from '../mem/page-allocator.ts';
import type { CoherentPool } from './coherent-pool.ts';
import type { DmaMaster } from './dma-ops.ts';
import type { Swiotlb } from './swiotlb.ts';

/** Addresses in bytes, both ends included. */
export interface ReservedIova {
  readonly first: number;
  readonly last: number;
}

/** @internal A device behind an IOMMU. */
export interface IommuDmaMaster extends DmaMaster {
  readonly pci: boolean;
  /** See `DeviceOptions.forceDac`. */
  readonly forceDac: boolean;
  readonly untrusted: boolean;
  /** See `DeviceOptions.refuseBounce`. */
  readonly refuseBounce: boolean;
  /** Addresses that are never handed out to it. */
  readonly reservedIova: readonly ReservedIova[];
  /** Where memory for its coherent allocations comes from, or `null`. */
  readonly pages: PageAllocator | null;
  /** Where contiguous ones of more than a page come from first, or `null`. */
  readonly cma: CmaArea | null;
  /** Where those come from that must not wait, or `null`. */
  readonly coherentPool: CoherentPool | null;
  /** The pool that an untrusted device's partial pages go through, or `null`. */
  readonly swiotlb: Swiotlb | null;
}
