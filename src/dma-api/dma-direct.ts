/**
 * The DMA API without an IOMMU: device addresses are physical addresses, as the bus shows them. Rules:
 *
 * 1. Extents are neither joined nor split, whatever the device's segment limits: one extent, one segment.
 * 2. Memory that the device does not reach (mask, bus limit, no window of the bus) goes through the bounce pool; with
 *    `force` all memory does. Without a pool, above its limit per mapping, or when the copy is out of reach too, mapping fails.
 * 3. Only memory with pages is bounced: a BAR or a carve-out that the device does not reach is not mapped. Resources never are,
 *    and the bus's windows do not shift them.
 * 4. For the device: first the copy, then the caches. For the CPU: first the caches, then the copy.
 * 5. A table is mapped whole or not at all.
 *
 * @see Linux 6.1 `kernel/dma/direct.c`, `kernel/dma/direct.h`
 */
import { type DmaAddr, hex, type PhysAddr } from '../base/addr.ts';
import { ErrnoError } from '../base/errors.ts';
import { archSyncForCpu, archSyncForDevice } from './arch-sync.ts';
import type { DmaDirection } from './direction.ts';
import type { DmaAttrs } from './dma-attrs.ts';
import { allocDirect, freeDirect } from './dma-direct-alloc.ts';
import type { DirectDmaMaster } from './dma-direct-master.ts';
import type { DmaBacking, DmaOps } from './dma-ops.ts';
import { busToPhys, physToBus } from './dma-range.ts';
import { bitsForAllMemory, isAddressingLimited, isMaskSupported, lastReached, reaches } from './dma-reach.ts';
import { DMA_MAPPING_ERROR } from './mapping-error.ts';
import type { SgTable } from './sg-table.ts';

const SKIP_SYNC: DmaAttrs = { skipCpuSync: true };

/** @internal The back end of a device without an IOMMU. */
export class DirectDma implements DmaOps {
  readonly #device: DirectDmaMaster;
  /** Why the last mapping failed, in words. */
  #why = '';

  constructor(device: DirectDmaMaster) {
    this.#device = device;
  }

  mapPage(phys: PhysAddr, sizeBytes: number, dir: DmaDirection, attrs: DmaAttrs): DmaAddr {
    const address = this.#place(phys, sizeBytes, dir);
    if (address === DMA_MAPPING_ERROR || attrs.skipCpuSync === true) return address;
    let complete = false;
    try {
      archSyncForDevice(this.#device, this.#phys(address), sizeBytes);
      complete = true;
    } finally {
      if (!complete) this.#release(address, sizeBytes, dir);
    }
    return address;
  }

  unmapPage(address: DmaAddr, sizeBytes: number, dir: DmaDirection, attrs: DmaAttrs): void {
    try {
      if (attrs.skipCpuSync !== true) this.syncForCpu(address, sizeBytes, dir);
    } finally {
      this.#release(address, sizeBytes, dir);
    }
  }

  /**
   * @throws {ErrnoError} `EIO` an extent is out of reach and can not be bounced (never retry), or the pool has no room (retry after
   * an unmap); the text tells which.
   */
  mapSg(sgt: SgTable, dir: DmaDirection, attrs: DmaAttrs): void {
    let isMapped = false;
    let failed = 0;
    try {
      isMapped = this.#device.coherency.asOneAccess(() => {
        const isPlaced = this.#placeAll(sgt, dir);
        if (isPlaced && attrs.skipCpuSync !== true) this.#archSyncSgForDevice(sgt);
        return isPlaced;
      });
    } finally {
      failed = sgt.nents;
      if (!isMapped) {
        this.#releaseSegments(sgt, dir);
        sgt.dropSegments();
      }
    }
    if (!isMapped) throw new ErrnoError('EIO', 'dmaMapSgtable', `extent ${failed} ${this.#why}`);
  }

  unmapSg(sgt: SgTable, dir: DmaDirection, attrs: DmaAttrs): void {
    try {
      if (attrs.skipCpuSync !== true) this.syncSgForCpu(sgt, dir);
    } finally {
      this.#releaseSegments(sgt, dir);
    }
  }

  mapResource(phys: PhysAddr, sizeBytes: number): DmaAddr {
    return reaches(this.#last(), phys, sizeBytes) ? (Number(phys) as DmaAddr) : DMA_MAPPING_ERROR;
  }

  unmapResource(): void {}

  syncForCpu(address: DmaAddr, sizeBytes: number, dir: DmaDirection): void {
    this.#device.coherency.asOneAccess(() => this.#toCpu(address, sizeBytes, dir));
  }

  syncForDevice(address: DmaAddr, sizeBytes: number, dir: DmaDirection): void {
    this.#device.coherency.asOneAccess(() => this.#toDevice(address, sizeBytes, dir));
  }

  syncSgForCpu(sgt: SgTable, dir: DmaDirection): void {
    if (!this.#mayNeedSync()) return;
    const { dmaAddress, dmaLength } = sgt.columns;
    this.#device.coherency.asOneAccess(() => {
      for (let i = 0; i < sgt.nents; i++) this.#toCpu(dmaAddress[i] as DmaAddr, dmaLength[i] as number, dir);
    });
  }

  syncSgForDevice(sgt: SgTable, dir: DmaDirection): void {
    if (!this.#mayNeedSync()) return;
    const { dmaAddress, dmaLength } = sgt.columns;
    this.#device.coherency.asOneAccess(() => {
      for (let i = 0; i < sgt.nents; i++) this.#toDevice(dmaAddress[i] as DmaAddr, dmaLength[i] as number, dir);
    });
  }

  alloc(sizeBytes: number, attrs: DmaAttrs): DmaBacking | null {
    return allocDirect(this.#device, sizeBytes, attrs);
  }

  free(backing: DmaBacking, sizeBytes: number): void {
    freeDirect(this.#device, backing, sizeBytes);
  }

  needSync(address: DmaAddr): boolean {
    const { coherent, swiotlb } = this.#device;
    return !coherent || (swiotlb?.isBounce(this.#phys(address)) ?? false);
  }

  supportsMask(maskBits: number): boolean {
    return isMaskSupported(this.#device, maskBits);
  }

  requiredMaskBits(): number {
    return bitsForAllMemory(this.#device);
  }

  maxMappingBytes(): number {
    const { swiotlb, minAlignMask, dmaMaskBits, busDmaLimit } = this.#device;
    if (swiotlb?.isActive !== true) return Number.POSITIVE_INFINITY;
    const mayBounce = swiotlb.forcesBounce || isAddressingLimited(dmaMaskBits, busDmaLimit, this.requiredMaskBits());
    return mayBounce ? swiotlb.maxMappingBytes(minAlignMask) : Number.POSITIVE_INFINITY;
  }

  optMappingBytes(): number {
    return Number.POSITIVE_INFINITY;
  }

  mergeBoundary(): number {
    return 0;
  }

  canMmap(): boolean {
    return true;
  }

  #toCpu(address: DmaAddr, sizeBytes: number, dir: DmaDirection): void {
    const device = this.#device;
    const phys = this.#phys(address);
    archSyncForCpu(device, phys, sizeBytes, dir);
    if (device.swiotlb?.isBounce(phys) === true) device.swiotlb.syncForCpu(device, phys, sizeBytes, dir);
  }

  #toDevice(address: DmaAddr, sizeBytes: number, dir: DmaDirection): void {
    const device = this.#device;
    const phys = this.#phys(address);
    if (device.swiotlb?.isBounce(phys) === true) device.swiotlb.syncForDevice(device, phys, sizeBytes, dir);
    archSyncForDevice(device, phys, sizeBytes);
  }

  /** The last address it reaches with a streaming mapping. */
  #last(): number {
    return lastReached(this.#device.dmaMaskBits, this.#device.busDmaLimit);
  }

  #phys(address: DmaAddr): PhysAddr {
    return busToPhys(this.#device.dmaRanges, address) as PhysAddr;
  }

  #mayNeedSync(): boolean {
    return !this.#device.coherent || this.#mayBounce();
  }

  /** False: no segment of any table leads into the pool. */
  #mayBounce(): boolean {
    const { swiotlb } = this.#device;
    return swiotlb !== null && swiotlb.usedSlots > 0;
  }

  /** An address for `[phys, phys + sizeBytes)`, or for its copy; without cache maintenance. */
  #place(phys: PhysAddr, sizeBytes: number, dir: DmaDirection): DmaAddr {
    const { dmaRanges, swiotlb } = this.#device;
    const address = physToBus(dmaRanges, phys);
    const isReached = reaches(this.#last(), address, sizeBytes);
    if (isReached && swiotlb?.forcesBounce !== true) return address as DmaAddr;
    return this.#bounce(phys, sizeBytes, dir);
  }

  #bounce(phys: PhysAddr, sizeBytes: number, dir: DmaDirection): DmaAddr {
    const device = this.#device;
    const { swiotlb, coherency, dmaRanges, name } = device;
    if (swiotlb?.isActive !== true) return this.#fail(this.#beyond('ends', phys, sizeBytes, 'allocate it lower'));
    if (device.refuseBounce) return this.#fail(this.#beyond('ends', phys, sizeBytes, `${name} refuses bouncing`));
    if (!coherency.memory.hasPage(phys)) {
      return this.#fail(`at ${hex(phys)} has no pages, so it can not be bounced for ${name}`);
    }
    const tlb = swiotlb.tblMapSingle(device, { phys, mappingBytes: sizeBytes }, dir);
    if (tlb === null) return this.#fail(`can not be bounced: ${swiotlb.lastFailure?.text ?? ''}`);
    const address = physToBus(dmaRanges, tlb);
    if (reaches(this.#last(), address, sizeBytes)) return address as DmaAddr;
    swiotlb.tblUnmapSingle(device, tlb, sizeBytes, dir, SKIP_SYNC);
    return this.#fail(this.#beyond('has a bounce buffer that ends', tlb, sizeBytes, 'put the pool lower'));
  }

  /** Gives bounce slots back, if `address` leads there. */
  #release(address: DmaAddr, sizeBytes: number, dir: DmaDirection): void {
    const { swiotlb } = this.#device;
    const phys = this.#phys(address);
    if (swiotlb?.isBounce(phys) === true) swiotlb.tblUnmapSingle(this.#device, phys, sizeBytes, dir, SKIP_SYNC);
  }

  /** @returns false: an extent got no address; those before it have theirs. */
  #placeAll(sgt: SgTable, dir: DmaDirection): boolean {
    const { dmaRanges, swiotlb } = this.#device;
    const { phys, length, dmaAddress, dmaLength } = sgt.columns;
    const isPlain = dmaRanges.length === 0 && swiotlb?.forcesBounce !== true;
    const last = isPlain ? this.#last() : -1;
    for (let i = 0; i < sgt.origNents; i++) {
      const at = phys[i] as number;
      const bytes = length[i] as number;
      let address = at;
      if (at + bytes - 1 > last) {
        sgt.setSegments(i);
        address = this.#place(at as PhysAddr, bytes, dir);
        if (address === DMA_MAPPING_ERROR) return false;
      }
      dmaAddress[i] = address;
      dmaLength[i] = bytes;
    }
    sgt.setSegments(sgt.origNents);
    return true;
  }

  #releaseSegments(sgt: SgTable, dir: DmaDirection): void {
    if (!this.#mayBounce()) return;
    const { dmaAddress, dmaLength } = sgt.columns;
    for (let i = 0; i < sgt.nents; i++) this.#release(dmaAddress[i] as DmaAddr, dmaLength[i] as number, dir);
  }

  #archSyncSgForDevice(sgt: SgTable): void {
    if (this.#device.coherent) return;
    const { dmaAddress, dmaLength } = sgt.columns;
    for (let i = 0; i < sgt.nents; i++) {
      archSyncForDevice(this.#device, this.#phys(dmaAddress[i] as DmaAddr), dmaLength[i] as number);
    }
  }

  #fail(why: string): DmaAddr {
    this.#why = why;
    return DMA_MAPPING_ERROR;
  }

  #beyond(what: string, phys: PhysAddr, sizeBytes: number, remedy: string): string {
    const { dmaMaskBits, busDmaLimit, dmaRanges, name } = this.#device;
    const limits = [`beyond the ${dmaMaskBits}-bit mask of ${name}`];
    if (busDmaLimit > 0) limits.push(`the limit ${hex(busDmaLimit)} of its bus`);
    if (dmaRanges.length > 0) limits.push('what the windows of its bus show');
    return `${what} at ${hex(phys + sizeBytes)}, ${limits.join(' or ')}; ${remedy} or put the device behind an IOMMU`;
  }
}
