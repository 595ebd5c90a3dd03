/**
 * The two-step API: reserve addresses once, link memory to them piece by piece. For drivers that know their addresses before their memory,
 * or that have no scatter-gather table.
 *
 * 1. {@link dmaIovaTryAlloc} reserves a run; `null` means: map in the ordinary way.
 * 2. {@link DmaIova.link} puts memory at an offset of it, in whole pages but for the first byte and the last. The device owns the bytes then.
 * 3. {@link DmaIova.sync} after the last link, before the device's first access.
 * 4. {@link DmaIova.unlink} takes memory out, {@link DmaIova.free} gives the run back; nothing may be linked any more.
 *    {@link DmaIova.destroy} does both.
 *
 * Inaccuracies: the IOMMU sees a link at once, so a forgotten {@link DmaIova.sync} goes unnoticed; devices that are not trusted map in the ordinary way
 * (Linux bounces what does not fill its pages); unlinking is always strict, also in a lazy domain.
 *
 * @see Linux 6.16 `include/linux/dma-mapping.h` struct dma_iova_state; `Documentation/core-api/dma-api.rst` part "IOVA-based DMA mappings"
 */
import { type DmaAddr, hex, type PhysAddr } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import { alignUp } from '../base/units.ts';
import { onePiece } from '../trace/address-pieces.ts';
import { archSyncForCpu, archSyncForDevice } from './arch-sync.ts';
import type { Device } from './device.ts';
import type { DmaDirection } from './direction.ts';
import { checkDir, checkMemory, checkPresent, checkSize } from './dma-args.ts';
import type { DmaAttrs } from './dma-attrs.ts';
import { isNoted, noteRunMapped, noteRunUnmapped } from './dma-notes.ts';
import type { DmaIovaOps } from './dma-ops.ts';

/**
 * Reserves addresses for `sizeBytes`. Plain.
 *
 * @param phys - the first memory to be linked, if it does not begin a page: the addresses then begin at the same place in theirs. Default: it does.
 * @returns `null`: no IOMMU translates for `dev`, it is not trusted, or no addresses are left; map with dmaMapPage then.
 * @throws {InvariantError} `sizeBytes` or `phys` is no whole number in range.
 * @see Linux 6.16 `drivers/iommu/dma-iommu.c` dma_iova_try_alloc
 */
export function dmaIovaTryAlloc(dev: Device, sizeBytes: number, phys: PhysAddr = 0 as PhysAddr): DmaIova | null {
  checkPresent('dmaIovaTryAlloc', dev);
  checkMemory('dmaIovaTryAlloc', phys, sizeBytes);
  const ops = dev.backEnd.iova;
  if (ops === undefined || dev.untrusted) return null;
  const inPage = phys % ops.granuleBytes;
  const bytes = alignUp(inPage + sizeBytes, ops.granuleBytes);
  const base = ops.reserve(bytes);
  if (base < 0) return null;
  const run = new DmaIova(dev, ops, { base, bytes, inPage, sizeBytes });
  dev.live.runs.add(run);
  return run;
}

/** A linked piece, in whole pages, from the base on. */
interface Link {
  readonly from: number;
  readonly to: number;
  readonly phys: PhysAddr;
  readonly dir: DmaDirection;
  /** Of the bytes themselves. */
  readonly offset: number;
  readonly sizeBytes: number;
  readonly skipCpuSync: boolean;
  /** Its number in the address book; 0: it has none. */
  bookId: number;
}

/** @internal What was reserved. */
interface Reservation {
  readonly base: number;
  /** Whole pages. */
  readonly bytes: number;
  readonly inPage: number;
  readonly sizeBytes: number;
}

/** A run of addresses of one device. Plain throughout: nothing waits. */
export class DmaIova {
  readonly device: Device;
  /** Where the device sees offset 0. */
  readonly address: DmaAddr;
  /** As asked for. */
  readonly sizeBytes: number;
  readonly #ops: DmaIovaOps;
  readonly #range: Reservation;
  /** By address. */
  readonly #links: Link[] = [];
  #freed = false;

  /** @internal */
  constructor(device: Device, ops: DmaIovaOps, range: Reservation) {
    this.device = device;
    this.#ops = ops;
    this.#range = range;
    this.address = (range.base + range.inPage) as DmaAddr;
    this.sizeBytes = range.sizeBytes;
  }

  /** Pieces that are linked now. */
  get linkCount(): number {
    return this.#links.length;
  }

  /**
   * Links `sizeBytes` of memory at `phys` to `offset` and gives them to the device. Charges cache maintenance and mapping.
   *
   * @param offset - `phys` and `address + offset` must lie at the same place in their pages; a piece that ends inside a page is the last.
   * @throws {ErrnoError} `EEXIST` something is linked in its pages (unlink it first); `ENOMEM` no table page (retry later). Nothing is
   * linked then.
   * @throws {InvariantError} it leaves the run, the places in the page differ, an argument is out of range, or the run was freed.
   * @see Linux 6.16 `drivers/iommu/dma-iommu.c` dma_iova_link
   */
  link(phys: PhysAddr, offset: number, sizeBytes: number, dir: DmaDirection, attrs: DmaAttrs = {}): void {
    checkMemory('dmaIovaLink', phys, sizeBytes);
    checkDir('dmaIovaLink', dir);
    this.#check('dmaIovaLink', offset, sizeBytes);
    const { granuleBytes } = this.#ops;
    const { base, inPage } = this.#range;
    const inFirst = (inPage + offset) % granuleBytes;
    const fits = phys % granuleBytes === inFirst;
    assert(fits, 'dmaIovaLink: phys %s and offset %s lie at different places in their pages', hex(phys), offset);
    const from = inPage + offset - inFirst;
    const to = alignUp(inPage + offset + sizeBytes, granuleBytes);
    const skipCpuSync = attrs.skipCpuSync === true;
    if (!skipCpuSync) archSyncForDevice(this.device, phys, sizeBytes);
    this.#ops.link(base + from, (phys - inFirst) as PhysAddr, to - from, dir, attrs);
    const link = { from, to, phys, dir, offset, sizeBytes, skipCpuSync, bookId: 0 };
    this.#links.splice(this.#firstAfter(offset), 0, link);
    if (isNoted(this.device)) {
      const at = (this.address + offset) as DmaAddr;
      const call = { call: 'dmaIovaLink', dir, skipped: skipCpuSync };
      link.bookId = noteRunMapped(this.device, at, onePiece(phys, sizeBytes), call);
    }
  }

  /**
   * The device may use what was linked from `offset` on.
   *
   * @throws {InvariantError} it leaves the run, a part is not linked, or the run was freed.
   * @see Linux 6.16 `drivers/iommu/dma-iommu.c` dma_iova_sync
   */
  sync(offset = 0, sizeBytes: number = this.sizeBytes - offset): void {
    this.#check('dmaIovaSync', offset, sizeBytes);
    const end = offset + sizeBytes;
    let at = offset;
    for (let i = this.#firstAfter(offset); at < end; i++) {
      const link = this.#links[i];
      if (link === undefined || link.offset > at) break;
      at = link.offset + link.sizeBytes;
    }
    const isLinked = at >= end;
    assert(isLinked, 'dmaIovaSync: nothing is linked at offset %s; link it first', at);
  }

  /**
   * Takes every piece out that lies in [offset, offset + sizeBytes) and gives it back to the CPU; the IOTLB has forgotten it then, by one
   * invalidation for all of them.
   *
   * @throws {HazardError} `*-write.lost`; it is unlinked all the same.
   * @throws {InvariantError} the range is not that of one or more whole pieces without a hole, `dir` is not theirs, or the run was freed; nothing
   * has happened.
   * @see Linux 6.16 `drivers/iommu/dma-iommu.c` dma_iova_unlink
   */
  unlink(offset: number, sizeBytes: number, dir: DmaDirection, attrs: DmaAttrs = {}): void {
    this.#check('dmaIovaUnlink', offset, sizeBytes);
    checkDir('dmaIovaUnlink', dir);
    const end = offset + sizeBytes;
    const first = this.#firstAfter(offset);
    let next = first;
    let at = offset;
    for (; at < end; next++) {
      const link = this.#links[next];
      if (link === undefined || link.offset >= end) break;
      assert(link.offset === at, 'dmaIovaUnlink: no piece begins at offset %s', at);
      assert(link.dir === dir, 'dmaIovaUnlink: dir: linked %s, unlinked %s', link.dir, dir);
      at = link.offset + link.sizeBytes;
    }
    assert(at === end, 'dmaIovaUnlink: the pieces from offset %s end at %s, not at %s', offset, at, end);
    this.#drop(first, next, attrs);
  }

  /**
   * Gives the addresses back. Nothing may be linked; with policy `'record'` what still is gets unlinked.
   *
   * @throws {HazardError} `dma-iova.leftover-link`: memory is still linked; nothing has happened then.
   * @throws {InvariantError} it was freed before.
   * @see Linux 6.16 `drivers/iommu/dma-iommu.c` dma_iova_free
   */
  free(): void {
    checkPresent('dmaIovaFree', this.device);
    assert(!this.#freed, 'dmaIovaFree: the run at %s was freed before', hex(this.address));
    const [first] = this.#links;
    if (first !== undefined) this.#reportLeftover(first);
    this.#end({});
  }

  /**
   * Unlinks the first `mappedBytes` and gives the addresses back.
   *
   * @throws as {@link unlink} and {@link free}.
   * @see Linux 6.16 `drivers/iommu/dma-iommu.c` dma_iova_destroy
   */
  destroy(mappedBytes: number, dir: DmaDirection, attrs: DmaAttrs = {}): void {
    try {
      if (mappedBytes > 0) this.unlink(0, mappedBytes, dir, attrs);
    } finally {
      if (!this.#freed && this.#links.every((link) => link.offset >= mappedBytes)) this.free();
    }
  }

  /** @internal Its device was removed: everything is unlinked, unsynced, and the addresses are given back. */
  abandon(): void {
    this.#end({ skipCpuSync: true });
  }

  #end(attrs: DmaAttrs): void {
    const { base, bytes } = this.#range;
    this.#freed = true;
    this.device.live.runs.delete(this);
    try {
      this.#drop(0, this.#links.length, attrs);
    } finally {
      this.#ops.release(base, bytes);
    }
  }

  /** Takes the pieces [first, next) out, all of them even if something is found on the way. Neighbours are unlinked as one. */
  #drop(first: number, next: number, attrs: DmaAttrs): void {
    const { device } = this;
    const gone = this.#links.splice(first, next - first);
    if (isNoted(device)) {
      for (const link of gone) {
        const skipped = link.skipCpuSync || attrs.skipCpuSync === true;
        noteRunUnmapped(device, link, () => onePiece(link.phys, link.sizeBytes), {
          call: 'dmaIovaUnlink',
          dir: link.dir,
          skipped,
        });
      }
    }
    try {
      if (attrs.skipCpuSync !== true) {
        device.coherency.asOneAccess(() => {
          for (const link of gone) if (!link.skipCpuSync) archSyncForCpu(device, link.phys, link.sizeBytes, link.dir);
        });
      }
    } finally {
      this.#unlinkRuns(gone, 0);
    }
  }

  /** Unlinks the pieces from `links[first]` on, the rest even if one was unmapped behind the API. */
  #unlinkRuns(links: readonly Link[], first: number): void {
    let next = first;
    try {
      while (next < links.length) {
        const { from, to } = links[next++] as Link;
        let end = to;
        for (; links[next]?.from === end; next++) end = (links[next] as Link).to;
        this.#ops.unlink(this.#range.base + from, end - from);
      }
    } finally {
      if (next < links.length) this.#unlinkRuns(links, next);
    }
  }

  /** Index of the first piece that ends behind `offset`. */
  #firstAfter(offset: number): number {
    let low = 0;
    let high = this.#links.length;
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      const link = this.#links[middle] as Link;
      if (link.offset + link.sizeBytes > offset) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  #reportLeftover(first: Link): void {
    const { sim, name } = this.device;
    const where = `offset ${first.offset} (phys ${hex(first.phys)}, ${first.sizeBytes} bytes, ${first.dir})`;
    sim.report({
      hazard: 'dma-iova.leftover-link',
      device: name,
      what: `addresses from ${hex(this.address)} are freed with ${this.#links.length} piece(s) linked, the first at ${where}`,
      call: 'dmaIovaFree',
      timeNs: sim.now,
      remedy: 'unlink every piece before the free, or destroy the run with the length that was linked',
    });
  }

  #check(op: string, offset: number, sizeBytes: number): void {
    checkPresent(op, this.device);
    assert(!this.#freed, '%s: the run at %s was freed', op, hex(this.address));
    checkSize(op, sizeBytes);
    assert(Number.isSafeInteger(offset) && offset >= 0, '%s: offset %s is no whole number >= 0', op, offset);
    const fits = offset + sizeBytes <= this.sizeBytes;
    assert(fits, '%s: offset %s + sizeBytes %s leaves the run of %s', op, offset, sizeBytes, this.sizeBytes);
  }
}
