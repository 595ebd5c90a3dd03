/**
 * Runs of IO virtual addresses for one device: taken, mapped, unmapped and given back, in the default domain of its group.
 *
 * 1. A run is aligned to its size in pages rounded up to a power of two. It ends at or below the device's mask, the bus's limit and
 *    the end of the domain's aperture, whichever is lowest.
 * 2. For a PCI device that reaches further, the low 4 GiB are tried first (32-bit addresses travel in shorter headers), without emptying
 *    anybody's cache for it; `forceDac` leaves that out.
 * 3. With strict invalidation a run is given back when the IOTLB has forgotten it; with lazy invalidation it waits for the flush queue.
 * 4. Nothing is handed out twice and nothing of the device's `reservedIova`; what is free is told in `iova-space.ts`.
 *
 * @see Linux 6.1 `drivers/iommu/dma-iommu.c` iommu_dma_alloc_iova, __iommu_dma_map, __iommu_dma_unmap
 */
import { hex, type Iova, type PhysAddr } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import { ErrnoError } from '../base/errors.ts';
import { alignUp, formatBytes } from '../base/units.ts';
import type { IommuDmaCookie } from '../iommu/dma-cookie.ts';
import type { IommuDomain } from '../iommu/iommu-domain.ts';
import { IotlbGather } from '../iommu/iotlb-gather.ts';
import type { IommuExtents } from '../iommu/map-sg.ts';
import type { IommuDmaMaster } from './dma-iommu-master.ts';

/** @internal Where the domain of a device comes from: its group. */
export interface DefaultDomainSource {
  readonly defaultDomain: IommuDomain | null;
}

/** Last byte of the low 4 GiB. */
const LAST_LOW_BYTE = 2 ** 32 - 1;
/** Instead of an address: there is none. */
const NONE = -1 as Iova;

/** @internal See the head of this file. Plain throughout: nothing waits. */
export class IommuAddresses {
  readonly #device: IommuDmaMaster;
  readonly #group: DefaultDomainSource;
  readonly #gather = new IotlbGather();
  #adopted: Adopted | null = null;

  constructor(device: IommuDmaMaster, group: DefaultDomainSource) {
    this.#device = device;
    this.#group = group;
  }

  /** The domain now; its smallest page is {@link granuleBytes}. */
  get domain(): IommuDomain {
    return this.#current().domain;
  }

  /** Bytes of the domain's smallest page. */
  get granuleBytes(): number {
    return this.#current().cookie.granuleBytes;
  }

  /**
   * Takes a run out of the address space; nothing is mapped there yet.
   *
   * @param sizeBytes - a multiple of the granule.
   * @param maskBits - how far the device reaches; 0: only the bus limit counts, and without one nothing is in reach.
   * @returns its first byte, or -1: no room (retry after an unmap, or with lazy invalidation after the flush).
   */
  take(sizeBytes: number, maskBits: number): Iova {
    const { iovas, granuleBytes } = this.#current().cookie;
    const { pci, forceDac } = this.#device;
    const last = this.#lastByte(maskBits);
    const pages = sizeBytes / granuleBytes;
    let first = -1;
    if (pci && !forceDac && last > LAST_LOW_BYTE) {
      first = iovas.allocFast(pages, Math.floor(LAST_LOW_BYTE / granuleBytes), false);
    }
    if (first < 0) first = iovas.allocFast(pages, Math.floor(last / granuleBytes), true);
    return first < 0 ? NONE : ((first * granuleBytes) as Iova);
  }

  /** Gives a run back that {@link take} took and that is not mapped. */
  giveBack(iova: Iova, sizeBytes: number): void {
    this.#current().cookie.freeRange(iova, sizeBytes, false);
  }

  /**
   * Takes a run for `sizeBytes` at `phys` and maps the pages they lie in.
   *
   * @returns the address of the first byte, or -1: no address, no table page, or memory that the IOMMU can not address.
   */
  map(phys: PhysAddr, sizeBytes: number, prot: number, maskBits: number): Iova {
    const { domain, cookie } = this.#current();
    const inPage = phys - Math.floor(phys / cookie.granuleBytes) * cookie.granuleBytes;
    const bytes = alignUp(sizeBytes + inPage, cookie.granuleBytes);
    const iova = this.take(bytes, maskBits);
    if (iova < 0) return NONE;
    let isMapped = false;
    try {
      domain.map(iova, (phys - inPage) as PhysAddr, bytes, prot);
      isMapped = true;
    } catch (error) {
      if (!(error instanceof ErrnoError)) throw error;
    } finally {
      if (!isMapped) this.giveBack(iova, bytes);
    }
    return isMapped ? ((iova + inPage) as Iova) : NONE;
  }

  /**
   * Takes one run for all of `extents`, whole pages, and maps them there one behind the other.
   *
   * @throws {ErrnoError} `ENOMEM` no address or no table page (retry after an unmap); `EINVAL` memory that the IOMMU can not address
   * (never retry). Nothing is taken then.
   */
  mapExtents(extents: IommuExtents, sizeBytes: number, prot: number, maskBits: number): Iova {
    const { domain } = this.#current();
    const iova = this.take(sizeBytes, maskBits);
    if (iova < 0) this.#failForRoom(sizeBytes, maskBits);
    let isMapped = false;
    try {
      domain.mapSg(iova, extents, prot);
      isMapped = true;
    } catch (error) {
      if (!(error instanceof ErrnoError) || error.code === 'ENOMEM') throw error;
      throw new ErrnoError('EINVAL', 'dmaMapSgtable', `${this.#device.name}: ${error.message}`);
    } finally {
      if (!isMapped) this.giveBack(iova, sizeBytes);
    }
    return iova;
  }

  /**
   * Unmaps all pages that `sizeBytes` from `address` on lie in, and gives the run back by rule 3.
   *
   * @param isTaken - the caller knows that a run in use begins there. Else its first page tells.
   * @throws {InvariantError} a part was not mapped (any more): unmapped twice, with another size, or by way of the domain. The rest is
   * unmapped then, and the run that began there is given back.
   */
  unmap(address: number, sizeBytes: number, isTaken: boolean): void {
    const { domain, cookie } = this.#current();
    const { granuleBytes } = cookie;
    const gather = this.#gather;
    const inPage = address - Math.floor(address / granuleBytes) * granuleBytes;
    const iova = (address - inPage) as Iova;
    const bytes = alignUp(sizeBytes + inPage, granuleBytes);
    gather.queued = cookie.isLazy;
    const first = domain.unmapFast(iova, bytes, gather);
    let missing = first === 0 ? granuleBytes : 0;
    const done = first + missing;
    if (done < bytes) missing += unmapPages(domain, iova + done, bytes - done, granuleBytes, gather);
    const isQueued = gather.queued;
    const tables = isQueued ? gather.takeTables() : null;
    if (isQueued) gather.reset();
    else domain.iotlbSync(gather);
    if (missing === 0) return cookie.freeRange(iova, bytes, isQueued, tables);
    const began = first === 0 && !isTaken ? 0 : cookie.iovas.tree.pagesAt(iova / granuleBytes);
    if (began > 0) cookie.freeRange(iova, began * granuleBytes, isQueued, tables);
    else if (tables !== null) {
      domain.flushIotlbAll();
      tables.release();
    }
    const where = `${hex(iova)} of ${domain.name}`;
    assert(
      false,
      'unmap: %s bytes from %s were unmapped before, or behind the DMA API, or never mapped',
      missing,
      where,
    );
  }

  #failForRoom(sizeBytes: number, maskBits: number): never {
    const waiting = this.#current().cookie.flushQueue?.length ?? 0;
    const queued = waiting === 0 ? '' : `; ${waiting} ranges wait for a flush`;
    const { iovas, granuleBytes } = this.#current().cookie;
    const free = iovas.tree.largestFree(Math.floor(this.#lastByte(maskBits) / granuleBytes)) * granuleBytes;
    const what = `${this.#device.name}: no ${sizeBytes} bytes of IO addresses within its ${maskBits}-bit mask`;
    const room = `the largest free run has ${formatBytes(free)}${queued}`;
    throw new ErrnoError('ENOMEM', 'dmaMapSgtable', `${what}; ${room}; unmap something first`);
  }

  /** The last address that a mask of `maskBits`, the bus and the domain allow. */
  #lastByte(maskBits: number): number {
    return Math.min(lowerOf(2 ** maskBits - 1, this.#device.busDmaLimit), this.#current().cookie.apertureEnd);
  }

  /** The group's default domain may change while no driver is bound; the new one learns of the device's reserved ranges. */
  #current(): Adopted {
    const { defaultDomain } = this.#group;
    const adopted = this.#adopted;
    return adopted !== null && adopted.domain === defaultDomain ? adopted : this.#adopt(defaultDomain);
  }

  #adopt(domain: IommuDomain | null): Adopted {
    const { name, reservedIova } = this.#device;
    const cookie = domain?.cookie ?? null;
    const isManaged = domain !== null && cookie !== null;
    assert(isManaged, 'the default domain of %s has no addresses to hand out: its type is %s', name, domain?.type);
    for (const { first, last } of reservedIova) cookie.reserveRange(first, last);
    this.#adopted = { domain, cookie };
    return this.#adopted;
  }
}

/** A default domain that the device uses, and its cookie. */
interface Adopted {
  readonly domain: IommuDomain;
  readonly cookie: IommuDmaCookie;
}

/** @internal Unmaps `bytes` from `iova` on, whole pages, and goes on behind what is not mapped. @returns how many bytes were not. */
export function unmapPages(
  domain: IommuDomain,
  iova: number,
  bytes: number,
  granuleBytes: number,
  gather: IotlbGather,
): number {
  let missing = 0;
  for (let at = 0; at < bytes; ) {
    const done = domain.unmapFast((iova + at) as Iova, bytes - at, gather);
    if (done === 0) missing += granuleBytes;
    at += done === 0 ? granuleBytes : done;
  }
  return missing;
}

/** The lower of two limits, of which 0 is none. @see Linux 6.1 `include/linux/minmax.h` min_not_zero */
function lowerOf(a: number, b: number): number {
  if (a === 0) return b;
  return b === 0 ? a : Math.min(a, b);
}
