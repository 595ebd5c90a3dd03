/**
 * Coherent memory without an IOMMU: contiguous pages within reach of the device's coherent mask. Rules:
 *
 * 1. More than a page comes from the CMA area if it has a place within reach, else from the page allocator: from the highest zone
 *    that suits the mask, then, if what it gave is out of reach, from DMA32 and from DMA. Sizes are rounded up to a power of two
 *    pages there.
 * 2. A device that snoops gets cached memory, also with `writeCombine`. For one that does not, the caches are cleaned of it and
 *    the CPU maps it uncached, or write-combined if asked. It is cleared through that mapping.
 * 3. With `noKernelMapping` there is no mapping, so it is not cleared either: it holds what its last owner left there.
 * 4. With `atomic`, a device that does not snoop gets memory from the coherent pool, any other no CMA.
 * 5. `forceContiguous` and `allocSinglePages` change nothing: memory is contiguous anyway.
 *
 * @see Linux 6.1 `kernel/dma/direct.c` dma_direct_alloc, __dma_direct_alloc_pages; `kernel/dma/contiguous.c` dma_alloc_contiguous
 */
import { type DmaAddr, PAGE_SIZE, type Pfn, type PhysAddr, pfnToPhys, physToPfn } from '../base/addr.ts';
import type { Accessor } from '../base/hazards.ts';
import { alignUp } from '../base/units.ts';
import type { MemoryAttribute } from '../cache/cpu-port.ts';
import { orderFor } from '../mem/buddy.ts';
import type { PoolZone } from './coherent-pool.ts';
import type { DmaAttrs } from './dma-attrs.ts';
import type { DirectDmaMaster } from './dma-direct-master.ts';
import type { DmaBacking } from './dma-ops.ts';
import { busToPhys, physToBus } from './dma-range.ts';
import { DMA_ZONE_BITS, lastReached, reaches } from './dma-reach.ts';
import { orNull } from './or-null.ts';

const CLEARER: Accessor = {
  name: 'kernel',
  kind: 'cpu',
  via: 'dma_alloc_coherent clearing memory',
  beforeRead: '',
  afterWrite: '',
};

/** @internal Allocates by the rules above. @returns `null`: there is none within reach; nothing is taken. */
export function allocDirect(dev: DirectDmaMaster, sizeBytes: number, attrs: DmaAttrs): DmaBacking | null {
  const bytes = alignUp(sizeBytes, PAGE_SIZE);
  const isMapped = attrs.noKernelMapping !== true;
  const isPooled = isMapped && attrs.atomic === true && !dev.coherent;
  const phys = isPooled ? allocFromPool(dev, bytes) : allocContiguous(dev, bytes, attrs.atomic !== true);
  if (phys === null) return null;
  const attribute = isMapped ? attributeFor(dev, attrs) : null;
  let complete = false;
  try {
    if (!dev.coherent && !isPooled) dev.coherency.clean(phys, bytes);
    if (attribute !== null) clear(dev, phys, bytes, attribute);
    complete = true;
  } finally {
    if (!complete) release(dev, phys, bytes);
  }
  const address = physToBus(dev.dmaRanges, phys) as DmaAddr;
  return { address, extents: [{ phys, length: bytes }], attribute };
}

/** @internal Ends {@link allocDirect}. */
export function freeDirect(dev: DirectDmaMaster, backing: DmaBacking, sizeBytes: number): void {
  const [extent] = backing.extents;
  if (extent !== undefined) release(dev, extent.phys, alignUp(sizeBytes, PAGE_SIZE));
}

/**
 * @internal Contiguous pages within reach of the coherent mask, cached and not cleared (rule 1); `sizeBytes` are whole pages.
 *
 * @param mayWait - whether the CMA area may be asked.
 * @returns `null`: there are none; nothing is taken.
 * @see Linux 6.1 `kernel/dma/direct.c` __dma_direct_alloc_pages
 */
export function allocContiguous(dev: DirectDmaMaster, sizeBytes: number, mayWait: boolean): PhysAddr | null {
  const pageCount = sizeBytes / PAGE_SIZE;
  const fromCma = mayWait && pageCount > 1 ? tryCma(dev, pageCount) : null;
  if (fromCma !== null) return fromCma;
  let zone: PoolZone | null = zoneFor(dev);
  while (zone !== null) {
    const phys = tryPages(dev, pageCount, zone);
    if (phys === null || isReached(dev, phys, sizeBytes)) return phys;
    freeContiguous(dev, phys, sizeBytes);
    zone = lowerZone(zone);
  }
  return null;
}

/**
 * @internal As {@link allocContiguous}, for a device that reaches all memory by way of an IOMMU.
 *
 * @see Linux 6.1 `kernel/dma/ops_helpers.c` dma_common_alloc_pages
 */
export function allocContiguousAnywhere(dev: DirectDmaMaster, sizeBytes: number): PhysAddr | null {
  const { cma } = dev;
  const pageCount = sizeBytes / PAGE_SIZE;
  const fromCma = cma === null || pageCount === 1 ? null : orNull(() => cma.alloc(pageCount, ownerOf(dev)));
  return physOrNull(fromCma) ?? tryPages(dev, pageCount, 'NORMAL');
}

/** @internal Ends {@link allocContiguous} and {@link allocContiguousAnywhere}. */
export function freeContiguous(dev: DirectDmaMaster, phys: PhysAddr, sizeBytes: number): void {
  const { cma, pages } = dev;
  const pageCount = sizeBytes / PAGE_SIZE;
  if (cma !== null && phys >= cma.base && phys < cma.base + cma.pages * PAGE_SIZE) cma.free(physToPfn(phys), pageCount);
  else pages?.freePages(physToPfn(phys), 2 ** orderFor(pageCount));
}

/** The highest zone that lies within reach of the coherent mask. @see Linux 6.1 `kernel/dma/direct.c` dma_direct_optimal_gfp_mask */
function zoneFor(dev: DirectDmaMaster): PoolZone {
  const last = busToPhys(dev.dmaRanges, lastReached(dev.coherentDmaMaskBits, dev.busDmaLimit));
  if (last < 0) return 'NORMAL';
  if (last < 2 ** DMA_ZONE_BITS) return 'DMA';
  return last < 2 ** 32 ? 'DMA32' : 'NORMAL';
}

function lowerZone(zone: PoolZone): PoolZone | null {
  if (zone === 'NORMAL') return 'DMA32';
  return zone === 'DMA32' ? 'DMA' : null;
}

function isReached(dev: DirectDmaMaster, phys: PhysAddr, sizeBytes: number): boolean {
  return reaches(lastReached(dev.coherentDmaMaskBits, dev.busDmaLimit), physToBus(dev.dmaRanges, phys), sizeBytes);
}

function tryCma(dev: DirectDmaMaster, pageCount: number): PhysAddr | null {
  const { cma } = dev;
  if (cma === null) return null;
  const first = orNull(() => cma.alloc(pageCount, ownerOf(dev)));
  if (first === null || isReached(dev, pfnToPhys(first), pageCount * PAGE_SIZE)) return physOrNull(first);
  cma.free(first, pageCount);
  return null;
}

function tryPages(dev: DirectDmaMaster, pageCount: number, zone: PoolZone): PhysAddr | null {
  const { pages } = dev;
  if (pages === null || pageCount > 2 ** 20) return null;
  return physOrNull(orNull(() => pages.allocPages({ order: orderFor(pageCount), zone, ...ownerOf(dev) })));
}

function allocFromPool(dev: DirectDmaMaster, bytes: number): PhysAddr | null {
  const reached = (phys: PhysAddr) => isReached(dev, phys, bytes);
  return dev.coherentPool?.alloc(zoneFor(dev), bytes / PAGE_SIZE, reached) ?? null;
}

function release(dev: DirectDmaMaster, phys: PhysAddr, bytes: number): void {
  if (dev.coherentPool?.contains(phys) === true) dev.coherentPool.free(phys, bytes / PAGE_SIZE);
  else freeContiguous(dev, phys, bytes);
}

function attributeFor(dev: DirectDmaMaster, attrs: DmaAttrs): MemoryAttribute {
  if (dev.coherent) return 'cached';
  return attrs.writeCombine === true ? 'write-combined' : 'uncached';
}

/** Through the mapping that the caller will use, and out of the write-combining buffer again, if that may hold them. */
function clear({ coherency }: DirectDmaMaster, phys: PhysAddr, bytes: number, attribute: MemoryAttribute): void {
  if (attribute === 'cached') {
    coherency.zero(phys, bytes, CLEARER);
    return;
  }
  const zeros = coherency.memory.storesBytes ? new Uint8Array(bytes) : null;
  coherency.asOneAccess(() => {
    coherency.cpuWrite(phys, zeros, 0, bytes, attribute, CLEARER);
    if (attribute === 'write-combined' || coherency.sim.hardwareIsFree) coherency.barrier(CLEARER);
  });
}

function ownerOf(dev: DirectDmaMaster): { readonly owner: string } {
  return { owner: `${dev.name} coherent` };
}

function physOrNull(first: Pfn | null): PhysAddr | null {
  return first === null ? null : pfnToPhys(first);
}
