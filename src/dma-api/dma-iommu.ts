/**
 * The DMA API behind an IOMMU: a mapping is one run of IO virtual addresses, whatever its extents.
 *
 * 1. Where a run lies and when its addresses come back is told in `dma-iommu-addresses.ts`; how the extents of a table lie in it, and which
 *    segments they become, in `dma-iommu-sg.ts`; coherent memory is in `dma-iommu-alloc.ts`.
 * 2. The device reaches whole pages: all of each page that a mapping touches.
 * 3. So a part of a page is never mapped for a device that is not trusted: a buffer that does not begin and end at a page's border goes
 *    through the bounce pool, in pages of its own. Each extent of a table then is a mapping and a segment of its own. What the CPU did
 *    not put there is cleared: the padding, and all of it when the device does not read or with `skipCpuSync` (the original's bytes that
 *    the device does not overwrite are lost then). The address keeps none of the offset in the page.
 * 4. The mask may be any: there is no memory it has to reach.
 *
 * @see Linux 6.1 `drivers/iommu/dma-iommu.c`
 */
import { type DmaAddr, hex, type Iova, PAGE_SIZE, type PhysAddr } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import { ErrnoError } from '../base/errors.ts';
import { alignUp, KIB } from '../base/units.ts';
import { IommuProt } from '../iommu/io-pgtable.ts';
import { archSyncForCpu, archSyncForDevice } from './arch-sync.ts';
import { type DmaDirection, deviceReads } from './direction.ts';
import type { DmaAttrs } from './dma-attrs.ts';
import { type DefaultDomainSource, IommuAddresses } from './dma-iommu-addresses.ts';
import { cpuAttribute, IommuBacking, takeBackingPages } from './dma-iommu-alloc.ts';
import { IommuIova } from './dma-iommu-iova.ts';
import type { IommuDmaMaster } from './dma-iommu-master.ts';
import { dmaInfoToProt } from './dma-iommu-prot.ts';
import { IovaLayout } from './dma-iommu-sg.ts';
import type { DmaBacking, DmaIovaOps, DmaOps } from './dma-ops.ts';
import { DMA_MAPPING_ERROR } from './mapping-error.ts';
import type { SgTable } from './sg-table.ts';
import type { Swiotlb } from './swiotlb.ts';

/** Up to this size a mapping's addresses come from the per-CPU caches. */
const CACHED_BYTES = 128 * KIB;

/** @internal The back end of a device behind an IOMMU. */
export class IommuDma implements DmaOps {
  readonly #device: IommuDmaMaster;
  /** The two-step API. */
  readonly iova: DmaIovaOps;
  readonly #addresses: IommuAddresses;
  readonly #layout = new IovaLayout();

  constructor(device: IommuDmaMaster, group: DefaultDomainSource) {
    this.#device = device;
    this.#addresses = new IommuAddresses(device, group);
    this.iova = new IommuIova(device, this.#addresses);
  }

  mapPage(phys: PhysAddr, sizeBytes: number, dir: DmaDirection, attrs: DmaAttrs): DmaAddr {
    const device = this.#device;
    if (device.untrusted && this.#isPartial(phys, sizeBytes)) return this.#mapBounced(phys, sizeBytes, dir, attrs);
    if (attrs.skipCpuSync !== true) archSyncForDevice(device, phys, sizeBytes);
    const iova = this.#addresses.map(phys, sizeBytes, this.#prot(dir, attrs), device.dmaMaskBits);
    return iova < 0 ? DMA_MAPPING_ERROR : (Number(iova) as DmaAddr);
  }

  /** @throws {InvariantError} nothing is mapped at `address`, and nothing has happened; or only a part is, see `IommuAddresses.unmap`. */
  unmapPage(address: DmaAddr, sizeBytes: number, dir: DmaDirection, attrs: DmaAttrs): void {
    const device = this.#device;
    const phys = this.#phys('dmaUnmapPage', address);
    const pool = this.#poolOf(phys);
    try {
      if (attrs.skipCpuSync !== true) archSyncForCpu(device, phys, sizeBytes, dir);
    } finally {
      try {
        this.#addresses.unmap(address, sizeBytes, false);
      } finally {
        pool?.tblUnmapSingle(device, phys, sizeBytes, dir, attrs);
      }
    }
  }

  /**
   * @throws {ErrnoError} `ENOMEM` no IO addresses or no table page (retry after an unmap); `EINVAL` memory that the IOMMU can not address
   * (never retry); `EIO` one of those, or no bounce slots, for a device that is not trusted.
   */
  mapSg(sgt: SgTable, dir: DmaDirection, attrs: DmaAttrs): void {
    const device = this.#device;
    if (device.untrusted) return this.#mapSgApart(sgt, dir, attrs);
    if (attrs.skipCpuSync !== true) this.syncSgForDevice(sgt, dir);
    const layout = this.#layout;
    layout.fill(sgt, this.#addresses.granuleBytes, device);
    const prot = this.#prot(dir, attrs);
    const iova = this.#addresses.mapExtents(layout, layout.sizeBytes, prot, device.dmaMaskBits);
    layout.addSegments(sgt, iova, device);
  }

  /** One segment whatever the device's limits, as for all coherent memory. @throws {ErrnoError} `ENOMEM`, `EINVAL` as {@link mapSg}. */
  mapRun(sgt: SgTable, dir: DmaDirection): void {
    const { sizeBytes } = sgt;
    const { coherentDmaMaskBits } = this.#device;
    sgt.addSegment(this.#addresses.mapExtents(sgt, sizeBytes, this.#prot(dir, {}), coherentDmaMaskBits), sizeBytes);
  }

  /** @throws {InvariantError} a part was unmapped by way of the domain; the rest is unmapped then. */
  unmapSg(sgt: SgTable, dir: DmaDirection, attrs: DmaAttrs): void {
    const { untrusted, coherency } = this.#device;
    if (untrusted) return coherency.asOneAccess(() => this.#unmapSgApart(sgt, 0, sgt.nents, dir, attrs));
    try {
      if (attrs.skipCpuSync !== true) this.syncSgForCpu(sgt, dir);
    } finally {
      const start = sgt.dmaAddress(0);
      const last = sgt.nents - 1;
      this.#addresses.unmap(start, sgt.dmaAddress(last) + sgt.dmaLength(last) - start, true);
    }
  }

  mapResource(phys: PhysAddr, sizeBytes: number, dir: DmaDirection, attrs: DmaAttrs): DmaAddr {
    const prot = dmaInfoToProt(dir, false, attrs) + IommuProt.mmio;
    const iova = this.#addresses.map(phys, sizeBytes, prot, this.#device.dmaMaskBits);
    return iova < 0 ? DMA_MAPPING_ERROR : (Number(iova) as DmaAddr);
  }

  /** @throws {InvariantError} as `IommuAddresses.unmap`. */
  unmapResource(address: DmaAddr, sizeBytes: number): void {
    this.#addresses.unmap(address, sizeBytes, false);
  }

  /** @throws {InvariantError} nothing is mapped at `address`. */
  syncForCpu(address: DmaAddr, sizeBytes: number, dir: DmaDirection): void {
    const device = this.#device;
    if (device.coherent && !device.untrusted) return;
    const phys = this.#phys('dmaSyncSingleForCpu', address);
    try {
      archSyncForCpu(device, phys, sizeBytes, dir);
    } finally {
      this.#poolOf(phys)?.syncForCpu(device, phys, sizeBytes, dir);
    }
  }

  /** @throws {InvariantError} nothing is mapped at `address`. */
  syncForDevice(address: DmaAddr, sizeBytes: number, dir: DmaDirection): void {
    const device = this.#device;
    if (device.coherent && !device.untrusted) return;
    const phys = this.#phys('dmaSyncSingleForDevice', address);
    try {
      this.#poolOf(phys)?.syncForDevice(device, phys, sizeBytes, dir);
    } finally {
      archSyncForDevice(device, phys, sizeBytes);
    }
  }

  syncSgForCpu(sgt: SgTable, dir: DmaDirection): void {
    const device = this.#device;
    if (this.#isApart(sgt)) {
      device.coherency.asOneAccess(() => {
        for (let i = 0; i < sgt.nents; i++) this.syncForCpu(sgt.dmaAddress(i), sgt.dmaLength(i), dir);
      });
    } else if (!device.coherent) {
      const { phys, length } = sgt.columns;
      device.coherency.asOneAccess(() => {
        for (let i = 0; i < sgt.origNents; i++) archSyncForCpu(device, phys[i] as PhysAddr, length[i] as number, dir);
      });
    }
  }

  syncSgForDevice(sgt: SgTable, dir: DmaDirection): void {
    const device = this.#device;
    if (this.#isApart(sgt)) {
      device.coherency.asOneAccess(() => {
        for (let i = 0; i < sgt.nents; i++) this.syncForDevice(sgt.dmaAddress(i), sgt.dmaLength(i), dir);
      });
    } else if (!device.coherent) {
      const { phys, length } = sgt.columns;
      device.coherency.asOneAccess(() => {
        for (let i = 0; i < sgt.origNents; i++) archSyncForDevice(device, phys[i] as PhysAddr, length[i] as number);
      });
    }
  }

  alloc(sizeBytes: number, attrs: DmaAttrs): DmaBacking | null {
    const device = this.#device;
    const { domain, granuleBytes } = this.#addresses;
    const bytes = alignUp(sizeBytes, Math.max(granuleBytes, PAGE_SIZE));
    const pages = takeBackingPages(device, bytes, attrs, domain.pgtable.pgsizeBitmap);
    if (pages === null) return null;
    let iova: Iova | null = null;
    try {
      const prot = this.#prot('bidirectional', attrs);
      iova = this.#addresses.mapExtents(pages.memory, bytes, prot, device.coherentDmaMaskBits);
    } catch (error) {
      if (!(error instanceof ErrnoError)) throw error;
    } finally {
      if (iova === null) pages.release();
    }
    return iova === null ? null : new IommuBacking(Number(iova) as DmaAddr, pages, cpuAttribute(device, attrs));
  }

  /** @throws {InvariantError} `backing` is not of this back end's {@link alloc}; nothing has happened. Or as `IommuAddresses.unmap`. */
  free(backing: DmaBacking, sizeBytes: number): void {
    const isOurs = backing instanceof IommuBacking;
    assert(isOurs, 'dmaFreeCoherent: the memory at %s is of another back end', hex(backing.address));
    try {
      this.#addresses.unmap(backing.address, sizeBytes, true);
    } finally {
      backing.pages.release();
    }
  }

  /** Always, as Linux answers for every device behind an IOMMU. @see Linux 6.1 `kernel/dma/mapping.c` dma_need_sync */
  needSync(): boolean {
    return true;
  }

  requiredMaskBits(): number {
    return 32;
  }

  maxMappingBytes(): number {
    const { untrusted, swiotlb, minAlignMask } = this.#device;
    return untrusted && swiotlb !== null ? swiotlb.maxMappingBytes(minAlignMask) : Number.POSITIVE_INFINITY;
  }

  optMappingBytes(): number {
    return CACHED_BYTES;
  }

  mergeBoundary(): number {
    return this.#addresses.granuleBytes - 1;
  }

  canMmap(): boolean {
    return true;
  }

  /** Rule 3, for a table. */
  #mapSgApart(sgt: SgTable, dir: DmaDirection, attrs: DmaAttrs): void {
    let mapped = 0;
    try {
      for (; mapped < sgt.origNents; mapped++) {
        const length = sgt.length(mapped);
        const address = this.mapPage(sgt.physAddress(mapped), length, dir, attrs);
        if (address === DMA_MAPPING_ERROR) this.#failApart(sgt, mapped);
        sgt.addSegment(address, length);
      }
    } finally {
      if (mapped < sgt.origNents) this.#unmapSgApart(sgt, 0, mapped, dir, { ...attrs, skipCpuSync: true });
    }
  }

  /** Ends the segments [first, count), all of them even if something is found on the way. */
  #unmapSgApart(sgt: SgTable, first: number, count: number, dir: DmaDirection, attrs: DmaAttrs): void {
    let next = first;
    try {
      while (next < count) {
        const i = next++;
        this.unmapPage(sgt.dmaAddress(i), sgt.dmaLength(i), dir, attrs);
      }
    } finally {
      if (next < count) this.#unmapSgApart(sgt, next, count, dir, attrs);
    }
  }

  #failApart(sgt: SgTable, i: number): never {
    const { name, swiotlb } = this.#device;
    const what = `${name}: extent ${i}, ${sgt.length(i)} bytes at ${hex(sgt.physAddress(i))}`;
    const pool = swiotlb?.isActive === true ? swiotlb.lastFailure?.text : 'there is no bounce pool';
    throw new ErrnoError('EIO', 'dmaMapSgtable', `${what}: ${pool ?? 'no IO addresses are left'}`);
  }

  /** True when the device would see bytes beside the buffer. */
  #isPartial(phys: PhysAddr, sizeBytes: number): boolean {
    const { granuleBytes } = this.#addresses;
    return phys % granuleBytes !== 0 || sizeBytes % granuleBytes !== 0;
  }

  /** Rule 3. @returns `DMA_MAPPING_ERROR`: no pool, no slots or no address; nothing is taken then. */
  #mapBounced(phys: PhysAddr, sizeBytes: number, dir: DmaDirection, attrs: DmaAttrs): DmaAddr {
    const device = this.#device;
    const { swiotlb: pool } = device;
    if (pool === null || !pool.isActive || device.refuseBounce) return DMA_MAPPING_ERROR;
    const { granuleBytes } = this.#addresses;
    const allocBytes = alignUp(sizeBytes, granuleBytes);
    const request = { phys, mappingBytes: sizeBytes, allocBytes, allocAlignMask: granuleBytes - 1 };
    const at = pool.tblMapSingle(device, request, dir, attrs);
    if (at === null) return DMA_MAPPING_ERROR;
    const kept = attrs.skipCpuSync !== true && deviceReads(dir) ? sizeBytes : 0;
    let iova: Iova | -1 = -1;
    try {
      pool.clear((at + kept) as PhysAddr, allocBytes - kept);
      if (attrs.skipCpuSync !== true) archSyncForDevice(device, at, sizeBytes);
      iova = this.#addresses.map(at, sizeBytes, this.#prot(dir, attrs), device.dmaMaskBits);
    } finally {
      if (iova < 0) pool.tblUnmapSingle(device, at, sizeBytes, dir, { skipCpuSync: true });
    }
    return iova < 0 ? DMA_MAPPING_ERROR : (Number(iova) as DmaAddr);
  }

  #poolOf(phys: PhysAddr): Swiotlb | null {
    const { untrusted, swiotlb } = this.#device;
    return untrusted && swiotlb?.isBounce(phys) === true ? swiotlb : null;
  }

  #phys(op: string, address: DmaAddr): PhysAddr {
    const phys = address < 0 ? null : this.#addresses.domain.iovaToPhys(Number(address) as Iova);
    if (phys === null) {
      const { name } = this.#device;
      assert(false, '%s: nothing is mapped at %s for %s; unmap what was mapped, once', op, hex(address), name);
    }
    return phys;
  }

  #prot(dir: DmaDirection, attrs: DmaAttrs): number {
    return dmaInfoToProt(dir, this.#device.coherent, attrs);
  }

  /** Whether each extent of `sgt` was mapped by itself (rule 3). */
  #isApart(sgt: SgTable): boolean {
    return this.#device.untrusted && sgt.nents === sgt.origNents;
  }
}
