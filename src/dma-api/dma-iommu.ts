/**
 * The DMA API behind an IOMMU: a mapping is one run of IO virtual addresses, whatever its extents.
 *
 * 1. Each extent is mapped in whole pages; an extent that starts or ends inside a page leaves a gap beside it.
 * 2. Extents that follow each other without a gap become one segment, up to the device's longest segment; an extent is
 *    never split. Once a segment is longer than that (one long extent), every further extent that starts on a page joins it.
 * 3. No segment crosses the device's segment boundary: an extent that would begins behind it, after a gap.
 * 4. Addresses come from the top of what the device and the domain reach, within the low 4 GiB first. A run below 32 pages
 *    takes its size rounded up to a power of two pages out of the address space.
 * 5. Unmapping takes the translations out and gives the addresses back at once; when the IOTLB learns of it is the domain's
 *    choice (`invalidateOnUnmap`).
 *
 * Inaccuracies: gaps lead nowhere (Linux maps there what follows the extent in memory); the low 4 GiB come first for every
 * device (Linux: for PCI devices only); no per-CPU caches of addresses; a domain that does not invalidate on unmap
 * reuses addresses before the flush (Linux queues them until then).
 *
 * @see Linux 6.1 `drivers/iommu/dma-iommu.c`
 */
import { type DmaAddr, hex, type Iova, PAGE_SIZE, type PhysAddr } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import { alignDown, alignUp } from '../base/units.ts';
import type { DmaAccess } from '../iommu/fault.ts';
import { IommuProt } from '../iommu/io-pgtable.ts';
import type { IommuDomain } from '../iommu/iommu-domain.ts';
import { IovaAllocator } from '../iommu/iova.ts';
import { Translation } from '../iommu/translation.ts';
import type { DmaMaster, DmaOps, DmaTarget, PortFault } from './dma-ops.ts';
import type { SgTable } from './sg-table.ts';

/** A run of IO virtual addresses in use. */
export interface IommuMapping {
  readonly iova: Iova;
  /** From its first page to its last, gaps among them; what it takes out of the address space may be more (rule 4). */
  readonly bytes: number;
  /** @internal Where each extent's first page begins in it; then its length. */
  readonly offsets: Float64Array;
}

/** An IOMMU domain with the allocator of its addresses; devices of one group share one. */
export class IommuDmaDomain {
  readonly domain: IommuDomain;
  /** Which of the domain's pages are in use. */
  readonly iovas: IovaAllocator;

  constructor(domain: IommuDomain, iovas: IovaAllocator = new IovaAllocator()) {
    this.domain = domain;
    this.iovas = iovas;
  }

  /** Live mappings of all its devices, each in whole pages; for ledgers and tests. */
  readonly mappings = new Map<SgTable, IommuMapping>();
}

/** Last page of the low 4 GiB. */
const LAST_LOW_PAGE = 2 ** 32 / PAGE_SIZE - 1;
/** Runs of fewer pages are rounded up to a power of two. */
const ROUNDED_BELOW_PAGES = 32;

/** @internal The back end of a device behind an IOMMU. */
export class IommuDma implements DmaOps {
  readonly #device: DmaMaster;
  readonly #dma: IommuDmaDomain;
  readonly #found: Translation;
  /** The last access was beyond what the device drives. */
  #beyondMask: PortFault | null = null;
  /** Cost of the translations that were not charged yet. */
  #owedNs = 0;

  /** Attaches the device to the domain. */
  constructor(device: DmaMaster, dma: IommuDmaDomain) {
    this.#device = device;
    this.#dma = dma;
    this.#found = new Translation(device.name);
    dma.domain.attachDevice(device);
  }

  get phys(): number {
    return this.#found.phys;
  }

  get runBytes(): number {
    return this.#found.runBytes;
  }

  /** @throws {ErrnoError} `ENOMEM` no IO address space or no table page is left (retry after an unmap). */
  mapSg(sgt: SgTable, prot: number): void {
    const offsets = this.#layOut(sgt);
    const bytes = offsets[sgt.origNents] as number;
    const iova = this.#allocate(bytes);
    try {
      this.#mapExtents(sgt, offsets, iova, prot | (this.#device.coherent ? IommuProt.cache : 0));
    } catch (error) {
      this.#dma.iovas.free(iova / PAGE_SIZE);
      throw error;
    }
    this.#dma.mappings.set(sgt, { iova, bytes, offsets });
    this.#addSegments(sgt, offsets, iova);
  }

  /** @throws {InvariantError} somebody else unmapped a part of it by way of the domain; the rest is unmapped then. */
  unmapSg(sgt: SgTable): void {
    const mapping = this.#dma.mappings.get(sgt);
    assert(mapping !== undefined, 'dmaUnmapSgtable: the table was not mapped for %s', this.#device.name);
    this.#dma.mappings.delete(sgt);
    const missing = this.#unmapRuns(sgt, mapping);
    this.#dma.iovas.free(mapping.iova / PAGE_SIZE);
    const where = `${hex(mapping.iova)} of ${this.#dma.domain.name}`;
    assert(missing === 0, 'dmaUnmapSgtable: %s bytes from %s were unmapped behind the DMA API', missing, where);
  }

  translate(address: number, access: DmaAccess): boolean {
    this.#beyondMask = address >= this.#device.dmaLimit ? this.#refuse(address, access) : null;
    if (this.#beyondMask !== null) return false;
    const { domain } = this.#dma;
    const isAllowed = domain.iommu.translateDeferred(domain, address as Iova, access, this.#found);
    this.#owedNs += this.#found.costNs;
    return isAllowed;
  }

  charge(): void {
    this.#device.sim.charge(this.#owedNs);
    this.#owedNs = 0;
  }

  fault(): PortFault {
    if (this.#beyondMask !== null) return this.#beyondMask;
    const { fault } = this.#found;
    assert(fault !== null, 'fault: the last access of %s was not refused', this.#device.name);
    const { access, reason, timeNs } = fault;
    return { device: this.#device.name, address: Number(fault.iova) as DmaAddr, length: 0, access, reason, timeNs };
  }

  peekTranslate(address: number): DmaTarget | undefined {
    const phys = address >= this.#device.dmaLimit ? null : this.#dma.domain.iovaToPhys(address as Iova);
    return phys === null ? undefined : { phys, runBytes: PAGE_SIZE - (address % PAGE_SIZE) };
  }

  #refuse(address: number, access: DmaAccess): PortFault {
    const { name, sim } = this.#device;
    const at = { device: name, address: address as DmaAddr, length: 0 };
    return { ...at, access, reason: 'address-size', timeNs: sim.now };
  }

  /** Where each extent's first page begins, in bytes from the start of the run; then the length of the run. */
  #layOut(sgt: SgTable): Float64Array {
    const { segBoundaryBytes } = this.#device;
    const offsets = new Float64Array(sgt.origNents + 1);
    let at = 0;
    for (let i = 0; i < sgt.origNents; i++) {
      const bytes = extentPages(sgt, i);
      const toBoundary = segBoundaryBytes - (at % segBoundaryBytes);
      if (toBoundary < bytes && toBoundary < segBoundaryBytes) at += toBoundary;
      offsets[i] = at;
      at += bytes;
    }
    offsets[sgt.origNents] = at;
    return offsets;
  }

  #allocate(bytes: number): Iova {
    const { iovas, domain } = this.#dma;
    const pages = roundedPages(bytes / PAGE_SIZE);
    const reach = Math.min(this.#device.dmaLimit, 2 ** domain.iommu.ias);
    const last = Math.max(0, Math.floor(reach / PAGE_SIZE) - 1);
    const low = last > LAST_LOW_PAGE ? iovas.tryAlloc(pages, LAST_LOW_PAGE) : -1;
    return ((low >= 0 ? low : iovas.alloc(pages, last)) * PAGE_SIZE) as Iova;
  }

  #mapExtents(sgt: SgTable, offsets: Float64Array, iova: Iova, prot: number): void {
    const { domain } = this.#dma;
    let mapped = 0;
    try {
      for (; mapped < sgt.origNents; mapped++) {
        const phys = alignDown(sgt.physAddress(mapped), PAGE_SIZE) as PhysAddr;
        domain.map((iova + (offsets[mapped] as number)) as Iova, phys, extentPages(sgt, mapped), prot);
      }
    } catch (error) {
      for (let i = mapped - 1; i >= 0; i--) domain.unmap((iova + (offsets[i] as number)) as Iova, extentPages(sgt, i));
      throw error;
    }
  }

  /** Unmaps the parts between gaps, each in one call. @returns bytes that were not mapped any more. */
  #unmapRuns(sgt: SgTable, { iova, offsets }: IommuMapping): number {
    const { domain } = this.#dma;
    let missing = 0;
    for (let i = 0; i < sgt.origNents; ) {
      const start = offsets[i] as number;
      let end = start;
      while (i < sgt.origNents && offsets[i] === end) end += extentPages(sgt, i++);
      for (let at = start; at < end; ) {
        const done = domain.unmap((iova + at) as Iova, end - at);
        if (done === 0) missing += PAGE_SIZE;
        at += done === 0 ? PAGE_SIZE : done;
      }
    }
    return missing;
  }

  #addSegments(sgt: SgTable, offsets: Float64Array, iova: Iova): void {
    const { maxSegmentSizeBytes, segBoundaryBytes } = this.#device;
    let segmentBytes = 0;
    let end = -1;
    for (let i = 0; i < sgt.origNents; i++) {
      const length = sgt.length(i);
      const start = iova + (offsets[i] as number) + (sgt.physAddress(i) % PAGE_SIZE);
      const room = maxSegmentSizeBytes - segmentBytes;
      if (start === end && start % segBoundaryBytes !== 0 && (room < 0 || room >= length)) {
        sgt.extendSegment(length);
        segmentBytes += length;
      } else {
        sgt.addSegment(start, length);
        segmentBytes = length;
      }
      end = start + length;
    }
  }
}

/** Bytes of extent `i` in whole pages. */
function extentPages(sgt: SgTable, i: number): number {
  return alignUp((sgt.physAddress(i) % PAGE_SIZE) + sgt.length(i), PAGE_SIZE);
}

/** Pages that a run of `pages` takes out of the address space. */
function roundedPages(pages: number): number {
  return pages < ROUNDED_BELOW_PAGES ? 2 ** Math.ceil(Math.log2(pages)) : pages;
}
