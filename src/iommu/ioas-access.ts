/**
 * Software's access to an IO address space: an emulated device, or a driver that reads and writes by IO virtual address.
 *
 * An access object that pins must let go when told: `onUnmap` is called before an unmap, and has to unpin all that lies there.
 *
 * @see Linux 6.2 `drivers/iommu/iommufd/device.c` iommufd_access_pin_pages, iommufd_access_rw
 */
import { hex, type Iova, PAGE_SIZE, type Pfn, type PhysAddr, pfn } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import { ErrnoError } from '../base/errors.ts';
import { IommuProt } from './io-pgtable.ts';
import type { Ioas } from './ioas.ts';
import type { IoasArea } from './ioas-areas.ts';
import type { PhysRun } from './ioas-backing.ts';
import { pagesOf } from './ioas-fill.ts';
import { IOAS_LAST, lastOf } from './ioas-ranges.ts';

/** How to make an {@link IoasAccess}. */
export interface IoasAccessOptions {
  readonly name: string;
  /**
   * Called before `[iova, iova + sizeBytes)` is unmapped: unpin all in it. Needed to pin at all; the space is then aligned to CPU pages.
   */
  readonly onUnmap?: (iova: Iova, sizeBytes: number) => undefined;
}

interface Pin {
  readonly iova: number;
  readonly sizeBytes: number;
  readonly last: number;
  readonly areas: readonly IoasArea[];
}

/** One access object. Plain throughout: nothing waits. */
export class IoasAccess {
  readonly name: string;
  /** It may pin, so addresses must be aligned to CPU pages. */
  readonly needsPages: boolean;
  readonly #onUnmap: IoasAccessOptions['onUnmap'];
  #ioas: Ioas | null = null;
  readonly #pins: Pin[] = [];

  constructor(options: IoasAccessOptions) {
    this.name = options.name;
    this.needsPages = options.onUnmap !== undefined;
    this.#onUnmap = options.onUnmap;
  }

  /** The address space, or null. */
  get ioas(): Ioas | null {
    return this.#ioas;
  }

  /** Pins that are held. */
  get pinCount(): number {
    return this.#pins.length;
  }

  /**
   * Attaches to `ioas`.
   *
   * @throws {ErrnoError} `EINVAL` attached already (see {@link replace}); `EADDRINUSE` it needs whole pages and an area has none; `ENOMEM`.
   */
  attach(ioas: Ioas): void {
    if (this.#ioas !== null)
      throw new ErrnoError(
        'EINVAL',
        'ioas_access_attach',
        `${this.name} is attached to ${this.#ioas.name}; use replace`,
      );
    ioas.addAccess(this);
    this.#ioas = ioas;
  }

  /**
   * Changes to another space. The pins of the old one have to be released: `onUnmap` is called for all of it.
   *
   * @throws {ErrnoError} `ENOENT` not attached; `EBUSY` pins are left (release them in `onUnmap`); `EADDRINUSE`, `ENOMEM` as {@link attach}. It stays
   * where it was then.
   */
  replace(ioas: Ioas): void {
    const before = this.#attached('ioas_access_replace');
    if (ioas === before) return;
    ioas.addAccess(this);
    try {
      this.#releaseAll('ioas_access_replace');
    } catch (error) {
      ioas.removeAccess(this);
      throw error;
    }
    before.removeAccess(this);
    this.#ioas = ioas;
  }

  /** Leaves the space, as {@link replace} by nothing. @throws {ErrnoError} `ENOENT`, `EBUSY`. */
  detach(): void {
    const before = this.#attached('ioas_access_detach');
    this.#releaseAll('ioas_access_detach');
    before.removeAccess(this);
    this.#ioas = null;
  }

  /**
   * Pins the pages behind `[iova, iova + sizeBytes)`; they stay in place until {@link unpin} of the same range.
   *
   * @returns their frames.
   * @throws {ErrnoError} `EINVAL` no bytes, no `onUnmap`, not at a page's start, being unmapped, or a buffer that may be revoked; `EPERM` write is asked for and
   * not allowed (never retry); `ENOENT` not attached, or not all mapped; `EFAULT`, `ENOMEM` of the pages.
   */
  pin(iova: Iova, sizeBytes: number, options: { readonly write?: boolean } = {}): readonly Pfn[] {
    const op = 'ioas_access_pin_pages';
    if (!this.needsPages) throw new ErrnoError('EINVAL', op, `${this.name} has no onUnmap and may not pin`);
    const ioas = this.#attached(op);
    const last = lastOf(op, iova, sizeBytes);
    const areas = ioas.covering(op, iova, last);
    for (const area of areas) checkPinnable(op, area, iova, last, options.write ?? false);
    const pinned: IoasArea[] = [];
    try {
      for (const area of areas) {
        area.pages.pin(...pagesOf(area, Math.max(area.iova, iova), Math.min(area.last, last)));
        pinned.push(area);
      }
    } catch (error) {
      for (const area of pinned) unpinArea(area, iova, last);
      throw error;
    }
    for (const area of areas) area.accesses++;
    this.#pins.push({ iova, sizeBytes, last, areas });
    return areas.flatMap((area) => framesOf(area, Math.max(area.iova, iova), Math.min(area.last, last)));
  }

  /** Ends one {@link pin} of exactly this range. @throws {InvariantError} there is none. */
  unpin(iova: Iova, sizeBytes: number): void {
    const at = this.#pins.findIndex((pin) => pin.iova === iova && pin.sizeBytes === sizeBytes);
    const [pin] = at < 0 ? [] : this.#pins.splice(at, 1);
    assert(
      pin !== undefined,
      'ioas_access_unpin_pages: %s did not pin %s bytes at %s',
      this.name,
      sizeBytes,
      hex(iova),
    );
    for (const area of pin.areas) {
      area.accesses--;
      unpinArea(area, pin.iova, pin.last);
    }
  }

  /** Ends all pins: what a simple `onUnmap` does. */
  unpinAll(): undefined {
    while (this.#pins.length > 0) {
      const pin = this.#pins[0] as Pin;
      this.unpin(pin.iova as Iova, pin.sizeBytes);
    }
  }

  /**
   * Reads `sizeBytes` from `iova` on.
   *
   * @throws {ErrnoError} `ENOENT` not attached, or not all mapped; `EPERM` not readable; `EINVAL` no bytes, or a buffer that may be revoked; `EFAULT` the
   * process has no memory there any more.
   */
  read(iova: Iova, sizeBytes: number): Uint8Array {
    // Looked up first: a wrong size costs no host memory.
    const areas = this.#areasFor(iova, sizeBytes, IommuProt.read);
    const bytes = new Uint8Array(sizeBytes);
    copyPinned(areas, iova, bytes, false);
    return bytes;
  }

  /** Writes `bytes` from `iova` on, all or nothing. @throws {ErrnoError} as {@link read}; `EPERM` not writable. */
  write(iova: Iova, bytes: Uint8Array): void {
    copyPinned(this.#areasFor(iova, bytes.length, IommuProt.write), iova, bytes, true);
  }

  /** Called by the space before an unmap. @internal */
  notifyUnmap(iova: number, sizeBytes: number): void {
    this.#onUnmap?.(iova as Iova, sizeBytes);
  }

  #attached(op: string): Ioas {
    if (this.#ioas === null) throw new ErrnoError('ENOENT', op, `${this.name} is attached to no address space`);
    return this.#ioas;
  }

  #releaseAll(op: string): void {
    if (this.#pins.length > 0) this.notifyUnmap(0, IOAS_LAST + 1);
    if (this.#pins.length > 0)
      throw new ErrnoError('EBUSY', op, `${this.name} keeps ${this.#pins.length} pin(s); unpin them in onUnmap`);
  }

  #areasFor(iova: Iova, sizeBytes: number, right: number): readonly IoasArea[] {
    const op = 'ioas_access_rw';
    const areas = this.#attached(op).covering(op, iova, lastOf(op, iova, sizeBytes));
    for (const area of areas) {
      if ((area.prot & right) === 0)
        throw new ErrnoError('EPERM', op, `the area at ${hex(area.iova)} does not allow it`);
      if (area.pages.backing.kind !== 'user') throw noUserMemory(op, area);
    }
    return areas;
  }
}

/** All or nothing: every page is pinned before the first byte is copied. */
function copyPinned(areas: readonly IoasArea[], iova: Iova, bytes: Uint8Array, isWrite: boolean): void {
  const last = iova + bytes.length - 1;
  const pinned: IoasArea[] = [];
  try {
    for (const area of areas) {
      area.pages.pin(...pagesOf(area, Math.max(area.iova, iova), Math.min(area.last, last)), true);
      pinned.push(area);
    }
    for (const area of areas) copyArea(area, iova, bytes, isWrite);
  } finally {
    for (const area of pinned)
      area.pages.unpin(...pagesOf(area, Math.max(area.iova, iova), Math.min(area.last, last)), true);
  }
}

function checkPinnable(op: string, area: IoasArea, iova: number, last: number, isWrite: boolean): void {
  if (area.pages.backing.kind !== 'user') throw noUserMemory(op, area);
  if (area.isGoing) throw new ErrnoError('EINVAL', op, `the area at ${hex(area.iova)} is being unmapped`);
  if (isWrite && (area.prot & IommuProt.write) === 0)
    throw new ErrnoError('EPERM', op, `the area at ${hex(area.iova)} may not be written`);
  const start = area.startByte + Math.max(area.iova, iova) - area.iova;
  const end = area.startByte + area.sizeBytes;
  // Frames are handed out: each piece must begin at a page's start, and all but the last end at a page's end.
  if (start % PAGE_SIZE !== 0 || (area.last < last && end % PAGE_SIZE !== 0))
    throw new ErrnoError('EINVAL', op, `${hex(Math.max(area.iova, iova))} is not at the start of a page of memory`);
}

function noUserMemory(op: string, area: IoasArea): ErrnoError {
  return new ErrnoError('EINVAL', op, `${area.pages.backing.name} may be revoked and is for page tables only`);
}

function unpinArea(area: IoasArea, iova: number, last: number): void {
  area.pages.unpin(...pagesOf(area, Math.max(area.iova, iova), Math.min(area.last, last)));
}

function framesOf(area: IoasArea, start: number, last: number): Pfn[] {
  const [first, count] = pagesOf(area, start, last);
  return Array.from({ length: count }, (_, i) => pfn(area.pages.physAt((first + i) * PAGE_SIZE) / PAGE_SIZE));
}

function copyArea(area: IoasArea, iova: number, bytes: Uint8Array, isWrite: boolean): void {
  const { backing } = area.pages;
  if (backing.kind !== 'user') return;
  const start = Math.max(area.iova, iova);
  const end = Math.min(area.last + 1, iova + bytes.length);
  const run: PhysRun = { phys: 0 as PhysAddr, sizeBytes: 0 };
  for (let at = start; at < end; at += run.sizeBytes) {
    area.pages.run(area.startByte + at - area.iova, end - at, run);
    if (isWrite) backing.memory.write(run.phys, bytes, at - iova, run.sizeBytes);
    else backing.memory.read(run.phys, bytes, at - iova, run.sizeBytes);
  }
}
