/**
 * An IO address space: a user's map from IO virtual addresses to his memory, shown to devices by any number of page tables.
 *
 *     user memory --map--> [areas] --fill--> page table (hwpt) --- devices
 *          ^                  |  '---fill--> page table (hwpt) --- devices
 *          '------pin/copy----'---pin------> access objects (software)
 *
 * Rules:
 * 1. An area is what one map made. It is unmapped whole; ranges that would split one are refused.
 * 2. Every area is in every page table of the space, or the call that would have broken this fails and changes nothing.
 * 3. Reserved ranges (a table's limits, a device's own addresses) are never mapped; allowed ranges only steer automatic placement
 *    and keep others from reserving.
 * 4. The alignment of addresses, offsets and lengths is the largest that a page table or an access object wants.
 *
 * **Inaccuracies**: an unmap that would split an area changes nothing, where Linux has unmapped whole areas in front of it;
 * addresses end at 2^52; a call is one step, never interleaved with another.
 *
 * @see Linux 6.2 `drivers/iommu/iommufd/io_pagetable.c`; `Documentation/userspace-api/iommufd.rst`
 */
import { hex, type Iova, iova as iovaOf, PAGE_SIZE } from '../base/addr.ts';
import { ErrnoError } from '../base/errors.ts';
import { IommuProt } from './io-pgtable.ts';
import type { IoasArea } from './ioas-areas.ts';
import type { IoasBacking, RevocablePages, UserSpace } from './ioas-backing.ts';
import { IoasPages } from './ioas-pages.ts';
import { placeAutomatically } from './ioas-placement.ts';
import { lastOf } from './ioas-ranges.ts';
import { type IoasPiece, IoasTable } from './ioas-table.ts';

/** How to map. At least one right. */
export interface IoasMapOptions {
  /** Where; default: the address space chooses. */
  readonly iova?: Iova;
  readonly read?: boolean;
  readonly write?: boolean;
}

/** An area as it is listed. */
export interface IoasAreaInfo {
  readonly iova: Iova;
  readonly sizeBytes: number;
  readonly read: boolean;
  readonly write: boolean;
}

/** One IO address space. Plain throughout: nothing waits. */
export class Ioas extends IoasTable {
  /** The areas, ascending. */
  areas(): IoasAreaInfo[] {
    return this.table.all().map(describe);
  }

  /** The areas that cover `start` to `last`, or null when there is a hole. */
  areasCovering(start: number, last: number): IoasAreaInfo[] | null {
    return this.table.covering(start, last)?.map(describe) ?? null;
  }

  /**
   * Maps `sizeBytes` of a process's memory from `address` on. Without a page table nothing is pinned yet: holes show when a device or
   * an access object needs the pages.
   *
   * @returns the IO virtual address.
   * @throws {ErrnoError} `EINVAL` no bytes, no right, misaligned, or a fixed address is reserved; `EOVERFLOW` behind the last address (never
   * retry); `EEXIST` something is mapped there; `ENOSPC` no room (unmap first); `EFAULT` memory is missing; `ENOMEM` over the locked-memory limit, or
   * a page table found no memory (retry later).
   * @see Linux 6.2 `drivers/iommu/iommufd/ioas.c` iommufd_ioas_map
   */
  mapUser(space: UserSpace, address: number, sizeBytes: number, options: IoasMapOptions): Iova {
    return this.#mapBacking(space.pagesAt(address), address % PAGE_SIZE, sizeBytes, options);
  }

  /**
   * Maps `sizeBytes` of `buffer` from byte `offset` on. The exporter may revoke it at any time: then its areas are empty.
   *
   * @throws {ErrnoError} `EINVAL` also when the range is not in the buffer; `ENODEV` the buffer is revoked (retry after it was given back); others as
   * {@link mapUser}.
   * @see Linux 7.0 `drivers/iommu/iommufd/ioas.c` iommufd_ioas_map_file
   */
  mapRevocable(buffer: RevocablePages, offset: number, sizeBytes: number, options: IoasMapOptions): Iova {
    const op = 'ioas_map_file';
    if (sizeBytes === 0 || offset < 0 || offset >= buffer.sizeBytes || sizeBytes > buffer.sizeBytes - offset) {
      const what = `bytes ${offset} to ${offset + sizeBytes} are not all in the ${buffer.sizeBytes} bytes of ${buffer.name}`;
      throw new ErrnoError('EINVAL', op, sizeBytes === 0 ? 'length is 0' : what);
    }
    if (buffer.isRevoked)
      throw new ErrnoError('ENODEV', op, `${buffer.name} is revoked; map it when its exporter gave it back`);
    return this.#mapBacking(buffer, offset, sizeBytes, options);
  }

  /**
   * Maps here what `source` maps in `[sourceIova, sourceIova + sizeBytes)`: the same pages, pinned once.
   *
   * @throws {ErrnoError} `ENOENT` not all of it is mapped there; `EPERM` writing is asked for and was not when it was mapped; others as
   * {@link mapUser}.
   * @see Linux 6.2 `drivers/iommu/iommufd/ioas.c` iommufd_ioas_copy
   */
  copy(source: Ioas, sourceIova: Iova, sizeBytes: number, options: IoasMapOptions): Iova {
    const last = lastOf('ioas_copy', sourceIova, sizeBytes);
    const areas = source.covering('ioas_copy', sourceIova, last);
    const pieces = areas.map((area) => {
      const start = Math.max(area.iova, sourceIova);
      const size = Math.min(area.last, last) - start + 1;
      return { pages: area.pages, startByte: area.startByte + start - area.iova, sizeBytes: size };
    });
    return this.#mapPieces('ioas_copy', pieces, sizeBytes, options);
  }

  /**
   * Unmaps every area in `[iova, iova + sizeBytes)`. Access objects with pins there are told first and must release them.
   *
   * @returns bytes unmapped.
   * @throws {ErrnoError} `ENOENT` nothing is there, or an area lies only partly inside (areas are never split); `EDEADLK` an access object kept
   * its pins (never retry before it lets go); `EBUSY` that very unmap is going on. Nothing is unmapped then.
   * @see Linux 6.2 `drivers/iommu/iommufd/io_pagetable.c` iopt_unmap_iova
   */
  unmap(iova: Iova, sizeBytes: number): number {
    const last = lastOf('ioas_unmap', iova, sizeBytes);
    const areas = this.table.overlapping(iova, last);
    if (areas.length === 0)
      throw new ErrnoError('ENOENT', 'ioas_unmap', `${this.name} has nothing mapped in ${hex(iova)} to ${hex(last)}`);
    const cut = areas.find((area) => area.iova < iova || area.last > last);
    if (cut !== undefined) {
      const what = `the area ${hex(cut.iova)} to ${hex(cut.last)} lies only partly in the range; unmap it whole`;
      throw new ErrnoError('ENOENT', 'ioas_unmap', what);
    }
    return this.#unmapAreas(areas);
  }

  /** Unmaps everything; an empty space is fine. @returns bytes unmapped. @throws {ErrnoError} `EDEADLK`, `EBUSY` as {@link unmap}. */
  unmapAll(): number {
    return this.#unmapAreas(this.table.all());
  }

  /**
   * Ends the address space with all areas.
   *
   * @throws {ErrnoError} `EBUSY` a page table or an access object still uses it (retry when they are gone).
   * @see Linux 6.2 `drivers/iommu/iommufd/ioas.c` iommufd_ioas_destroy
   */
  destroy(): void {
    const users = this.hwpts.size + this.accesses.size;
    if (users > 0)
      throw new ErrnoError('EBUSY', 'ioas_destroy', `${users} page table(s) or access object(s) use ${this.name}`);
    this.unmapAll();
  }

  #mapBacking(backing: IoasBacking, offset: number, sizeBytes: number, options: IoasMapOptions): Iova {
    lastOf('ioas_map', options.iova ?? 0, sizeBytes);
    this.admit('pages');
    const isWritable = options.write ?? false;
    const pages = new IoasPages(backing, { offset, sizeBytes, isWritable, account: this.account });
    try {
      return this.#mapPieces('ioas_map', [{ pages, startByte: pages.startByte, sizeBytes }], sizeBytes, options);
    } finally {
      pages.close();
    }
  }

  #mapPieces(op: string, pieces: readonly IoasPiece[], sizeBytes: number, options: IoasMapOptions): Iova {
    const prot = (options.read ? IommuProt.read : 0) | (options.write ? IommuProt.write : 0);
    if (prot === 0) throw new ErrnoError('EINVAL', op, 'neither read nor write is asked for');
    for (const { pages, startByte, sizeBytes: size } of pieces) {
      if (options.write && !pages.isWritable)
        throw new ErrnoError('EPERM', op, `${pages.backing.name} was mapped without the right to write`);
      this.checkAligned(op, 'offset in a page', startByte % PAGE_SIZE);
      this.checkAligned(op, 'length', size);
    }
    let at = this.#place(op, pieces, sizeBytes, options.iova);
    const start = at;
    const done: IoasArea[] = [];
    try {
      for (const piece of pieces) {
        done.push(this.addArea(piece, at, prot));
        at += piece.sizeBytes;
      }
    } catch (error) {
      for (const area of done) this.removeArea(area);
      throw error;
    }
    return iovaOf(start);
  }

  #place(op: string, pieces: readonly IoasPiece[], sizeBytes: number, fixed: Iova | undefined): number {
    if (fixed === undefined) {
      const [first] = pieces;
      const offset = first === undefined ? 0 : first.pages.address - first.pages.startByte + first.startByte;
      return placeAutomatically(op, this.table, this.reserved, this.allowed, { sizeBytes, address: offset });
    }
    this.checkAligned(op, 'iova', fixed);
    const last = lastOf(op, fixed, sizeBytes);
    if (this.reserved.overlaps(fixed, last))
      throw new ErrnoError('EINVAL', op, `${hex(fixed)} to ${hex(last)} is partly reserved; see usableRanges`);
    if (this.table.lastOverlap(fixed, last) >= 0)
      throw new ErrnoError('EEXIST', op, `something is mapped in ${hex(fixed)} to ${hex(last)}; unmap it first`);
    return fixed;
  }

  #unmapAreas(areas: readonly IoasArea[]): number {
    if (areas.some((area) => area.isGoing))
      throw new ErrnoError('EBUSY', 'ioas_unmap', 'this unmap is going on already');
    for (const area of areas) area.isGoing = true;
    try {
      for (const area of areas) this.#askToRelease(area);
    } catch (error) {
      for (const area of areas) area.isGoing = false;
      throw error;
    }
    for (const area of areas) this.removeArea(area);
    return areas.reduce((sum, area) => sum + area.sizeBytes, 0);
  }

  #askToRelease(area: IoasArea): void {
    while (area.accesses > 0) {
      const before = area.accesses;
      for (const access of [...this.accesses]) access.notifyUnmap(area.iova, area.sizeBytes);
      if (area.accesses < before) continue;
      const what = `an access object keeps ${area.accesses} pin(s) in ${hex(area.iova)} to ${hex(area.last)} although told to release them`;
      throw new ErrnoError('EDEADLK', 'ioas_unmap', what);
    }
  }
}

function describe(area: IoasArea): IoasAreaInfo {
  return {
    iova: iovaOf(area.iova),
    sizeBytes: area.sizeBytes,
    read: (area.prot & IommuProt.read) !== 0,
    write: (area.prot & IommuProt.write) !== 0,
  };
}
