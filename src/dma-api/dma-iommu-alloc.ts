/**
 * Memory for coherent allocations behind an IOMMU: pages from anywhere, which one run of addresses makes contiguous for the device
 * and one kernel mapping for the CPU. Rules:
 *
 * 1. Blocks are as large as one of the domain's page sizes where memory has such blocks; with `allocSinglePages` they are pages.
 * 2. With `forceContiguous` the memory is one piece: of the CMA area if it has a place, else of the page allocator. With `atomic`, too:
 *    of the page allocator, or of the coherent pool for a device that does not snoop.
 * 3. The pages are cleared, and for a device that does not snoop no line of them stays in the caches.
 * 4. The CPU maps it as without an IOMMU; `noKernelMapping` changes nothing here.
 *
 * @see Linux 6.1 `drivers/iommu/dma-iommu.c` iommu_dma_alloc, __iommu_dma_alloc_pages
 */
import { type DmaAddr, PAGE_SIZE, type Pfn, type PhysAddr, pfnToPhys } from '../base/addr.ts';
import type { Accessor } from '../base/hazards.ts';
import type { MemoryAttribute } from '../cache/cpu-port.ts';
import { orderFor } from '../mem/buddy.ts';
import type { PageAllocator } from '../mem/page-allocator.ts';
import type { DmaAttrs } from './dma-attrs.ts';
import type { IommuDmaMaster } from './dma-iommu-master.ts';
import type { DmaBacking } from './dma-ops.ts';
import { orNull } from './or-null.ts';
import { type Extent, SgTable } from './sg-table.ts';

/** Largest block that is asked for, as its order. */
const MAX_ORDER = 10;

const CLEARER: Accessor = {
  name: 'kernel',
  kind: 'cpu',
  via: 'dma_alloc_coherent clearing pages',
  beforeRead: '',
  afterWrite: '',
};

/** @internal Pages of one allocation. */
export interface BackingPages {
  /** Where they lie, neighbours joined. */
  readonly memory: SgTable;
  /** Gives them back. */
  readonly release: () => void;
}

/** @internal An allocation that remembers its pages. */
export class IommuBacking implements DmaBacking {
  readonly address: DmaAddr;
  readonly attribute: MemoryAttribute;
  /** @internal */
  readonly pages: BackingPages;

  constructor(address: DmaAddr, pages: BackingPages, attribute: MemoryAttribute) {
    this.address = address;
    this.pages = pages;
    this.attribute = attribute;
  }

  get extents(): readonly Extent[] {
    return this.pages.memory.extents();
  }
}

/** @internal How the CPU maps an allocation of `device`. */
export function cpuAttribute(device: IommuDmaMaster, attrs: DmaAttrs): MemoryAttribute {
  if (device.coherent) return 'cached';
  return attrs.writeCombine === true ? 'write-combined' : 'uncached';
}

/**
 * @internal Takes and clears pages for `sizeBytes` (whole pages), by rules 1 to 3.
 *
 * @param pgsizeBitmap - the domain's page sizes.
 * @returns `null`: there are none; nothing is taken.
 */
export function takeBackingPages(
  device: IommuDmaMaster,
  sizeBytes: number,
  attrs: DmaAttrs,
  pgsizeBitmap: number,
): BackingPages | null {
  const taken = take(device, sizeBytes / PAGE_SIZE, attrs, pgsizeBitmap);
  if (taken === null) return null;
  let complete = false;
  try {
    clear(device, taken.memory);
    complete = true;
    return taken;
  } finally {
    if (!complete) taken.release();
  }
}

function take(device: IommuDmaMaster, pageCount: number, attrs: DmaAttrs, pgsizeBitmap: number): BackingPages | null {
  const { pages } = device;
  if (attrs.atomic === true && !device.coherent) return takeFromPool(device, pageCount);
  if (attrs.atomic === true) return takeBlock(device, pageCount);
  if (attrs.forceContiguous === true) return takeFromCma(device, pageCount) ?? takeBlock(device, pageCount);
  return pages === null ? null : takeBlocks(device, pages, pageCount, attrs.allocSinglePages ? 1 : pgsizeBitmap);
}

function takeBlocks(
  device: IommuDmaMaster,
  pages: PageAllocator,
  pageCount: number,
  pgsizeBitmap: number,
): BackingPages | null {
  const orders = blockOrders(pgsizeBitmap);
  const blocks = orNull(() => pages.allocBulk({ pageCount, orders, owner: ownerOf(device) }));
  if (blocks === null) return null;
  const extents: { phys: PhysAddr; length: number }[] = [];
  for (let i = 0; i < blocks.firsts.length; i++) {
    const phys = pfnToPhys(blocks.firsts[i] as Pfn);
    const length = (blocks.pageCounts[i] as number) * PAGE_SIZE;
    const last = extents.at(-1);
    if (last !== undefined && last.phys + last.length === phys) last.length += length;
    else extents.push({ phys, length });
  }
  return { memory: new SgTable(extents), release: () => pages.freeBulk(blocks) };
}

function takeFromCma(device: IommuDmaMaster, pageCount: number): BackingPages | null {
  const { cma } = device;
  if (cma === null || pageCount === 1) return null;
  const first = orNull(() => cma.alloc(pageCount, { owner: ownerOf(device) }));
  return first === null ? null : onePiece(pfnToPhys(first), pageCount, () => cma.free(first, pageCount));
}

function takeBlock(device: IommuDmaMaster, pageCount: number): BackingPages | null {
  const { pages } = device;
  const order = orderFor(pageCount);
  if (pages === null || order > MAX_ORDER) return null;
  const first = orNull(() => pages.allocPages({ order, owner: ownerOf(device) }));
  return first === null ? null : onePiece(pfnToPhys(first), pageCount, () => pages.freePages(first, 2 ** order));
}

function takeFromPool(device: IommuDmaMaster, pageCount: number): BackingPages | null {
  const { coherentPool } = device;
  const phys = coherentPool?.alloc('NORMAL', pageCount, () => true) ?? null;
  return phys === null ? null : onePiece(phys, pageCount, () => coherentPool?.free(phys, pageCount));
}

function onePiece(phys: PhysAddr, pageCount: number, release: () => void): BackingPages {
  return { memory: new SgTable([{ phys, length: pageCount * PAGE_SIZE }]), release };
}

/** Orders of the blocks to try, descending, the last 0. */
function blockOrders(pgsizeBitmap: number): number[] {
  const orders: number[] = [];
  for (let order = MAX_ORDER; order > 0; order--) {
    if (Math.floor(pgsizeBitmap / (PAGE_SIZE * 2 ** order)) % 2 === 1) orders.push(order);
  }
  return [...orders, 0];
}

function clear({ coherency, coherent }: IommuDmaMaster, memory: SgTable): void {
  for (let i = 0; i < memory.origNents; i++) {
    coherency.zero(memory.physAddress(i), memory.length(i), CLEARER);
    if (!coherent) coherency.cleanInvalidate(memory.physAddress(i), memory.length(i));
  }
}

function ownerOf({ name }: IommuDmaMaster): string {
  return `${name} coherent`;
}
