/**
 * Memory allocated for DMA.
 *
 * | call | the device sees | the CPU maps it | syncs |
 * |---|---|---|---|
 * | {@link dmaAllocCoherent}, {@link dmaAllocAttrs} | one run | as the back end says: cached if the device snoops, else not | none |
 * | {@link dmaAllocPages} | one run of contiguous pages | cached | every change of hands |
 * | {@link dmaAllocNoncontiguous} | one run; the pages lie anywhere behind an IOMMU | cached | every change of hands |
 *
 * Every allocation is of whole pages, cleared, and ended by the counterpart of the call that made it. Only with `noKernelMapping` and
 * without an IOMMU it is not cleared: it holds what its last owner left there.
 *
 * @see Linux 6.1 `kernel/dma/mapping.c`; `Documentation/core-api/dma-api.rst` parts Ia and II
 */
import { type DmaAddr, PAGE_SIZE, type Pfn, type PhysAddr, pfnToPhys } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import { ErrnoError } from '../base/errors.ts';
import type { Accessor } from '../base/hazards.ts';
import { alignUp } from '../base/units.ts';
import type { DmaCaller } from './call-site.ts';
import type { Device } from './device.ts';
import type { DmaDirection } from './direction.ts';
import { DmaAllocation } from './dma-allocation.ts';
import { checkDir, checkPresent, checkSize } from './dma-args.ts';
import type { DmaAttrs } from './dma-attrs.ts';
import type { DmaDebugRef } from './dma-debug-entry.ts';
import { allocContiguous, allocContiguousAnywhere, freeContiguous } from './dma-direct-alloc.ts';
import { extentPieces, isNoted, noteRunMapped, noteRunUnmapped } from './dma-notes.ts';
import { physToBus } from './dma-range.ts';
import { DMA_MAPPING_ERROR } from './mapping-error.ts';
import { orNull } from './or-null.ts';
import { type Extent, SgTable } from './sg-table.ts';

/** What a free says of an allocation; what is left out is as it was allocated. */
export interface DmaFreeClaim {
  readonly sizeBytes?: number;
  readonly address?: DmaAddr;
  /** The memory behind the CPU address that is given back. */
  readonly phys?: PhysAddr;
}

const CLEARER: Accessor = {
  name: 'kernel',
  kind: 'cpu',
  via: 'the DMA API clearing pages',
  beforeRead: '',
  afterWrite: 'sync the allocation for the device before it reads',
};

/**
 * Cleared memory that `dev` and the CPU see alike, without syncs. Plain: never waits; charges the clearing.
 *
 * @param sizeBytes - rounded up to whole pages.
 * @returns `null`: there is no memory that the device's coherent mask reaches (never retry), or none is free (retry later).
 * @throws {InvariantError} `sizeBytes` is no whole number above 0.
 * @see Linux 6.1 `include/linux/dma-mapping.h` dma_alloc_coherent
 */
export function dmaAllocCoherent(dev: Device, sizeBytes: number): DmaAllocation | null {
  return allocAttrs(dev, dmaAllocCoherent, sizeBytes, {});
}

/**
 * As {@link dmaAllocCoherent}, with departures: `writeCombine`, `noKernelMapping`, `forceContiguous`, `allocSinglePages`, `atomic`. Plain.
 *
 * @param attrs - must be repeated when freeing.
 * @see Linux 6.1 `kernel/dma/mapping.c` dma_alloc_attrs
 */
export function dmaAllocAttrs(dev: Device, sizeBytes: number, attrs: DmaAttrs): DmaAllocation | null {
  return allocAttrs(dev, dmaAllocAttrs, sizeBytes, attrs);
}

/**
 * Gives back what {@link dmaAllocCoherent} gave. Plain.
 *
 * @param claim - what the driver says that it frees; the memory is given back as it was allocated, whatever that is.
 * @throws {HazardError} `dma-debug.*`: the claim does not fit, or it was freed before; nothing has happened then.
 * @throws {InvariantError} it was freed before, or is another device's or another call's (when nobody checks); nothing has happened.
 * @see Linux 6.1 `include/linux/dma-mapping.h` dma_free_coherent
 */
export function dmaFreeCoherent(dev: Device, allocation: DmaAllocation, claim: DmaFreeClaim = {}): void {
  freeAttrs(dev, dmaFreeCoherent, allocation, {}, claim);
}

/** Gives back what {@link dmaAllocAttrs} gave, with the same `attrs`. Plain; errors as {@link dmaFreeCoherent}. @see Linux 6.1 `kernel/dma/mapping.c` dma_free_attrs */
export function dmaFreeAttrs(dev: Device, allocation: DmaAllocation, attrs: DmaAttrs, claim: DmaFreeClaim = {}): void {
  freeAttrs(dev, dmaFreeAttrs, allocation, attrs, claim);
}

/**
 * Contiguous cleared pages, cached, mapped for `dev`. The CPU owns them at first. Plain: never waits; charges clearing and mapping.
 *
 * @returns `null`: none are free, or they can not be mapped (retry later).
 * @throws {InvariantError} `sizeBytes` is no whole number above 0, or `dir` no direction.
 * @see Linux 6.1 `kernel/dma/mapping.c` dma_alloc_pages
 */
export function dmaAllocPages(dev: Device, sizeBytes: number, dir: DmaDirection): DmaAllocation | null {
  checkPresent('dmaAllocPages', dev);
  checkSize('dmaAllocPages', sizeBytes);
  checkDir('dmaAllocPages', dir);
  const bytes = alignUp(sizeBytes, PAGE_SIZE);
  const phys = takePages(dev, bytes);
  if (phys === null) return null;
  let address = DMA_MAPPING_ERROR;
  let complete = false;
  try {
    dev.coherency.zero(phys, bytes, CLEARER);
    address = enterPages(dev, phys, bytes, dir);
    if (address === DMA_MAPPING_ERROR) return null;
    const extents = [{ phys, length: bytes }];
    const how = { kind: 'pages' as const, call: 'dmaAllocPages', address, sizeBytes, dir, extents };
    const rest = { attribute: 'cached' as const, hasKernelMapping: true, backing: null, sgt: null };
    const allocation = new DmaAllocation(dev, { ...how, ...rest });
    dev.dmaDebug?.mapped(dev, refOf(dmaAllocPages, allocation, {}), SKIP_SYNC, 'none');
    enter(allocation, {});
    complete = true;
    return allocation;
  } finally {
    if (!complete) {
      if (address !== DMA_MAPPING_ERROR) leavePages(dev, address, bytes, dir);
      freeContiguous(dev, phys, bytes);
    }
  }
}

/** Gives back what {@link dmaAllocPages} gave; the CPU should own it. Plain; errors as {@link dmaFreeCoherent}. @see Linux 6.1 `kernel/dma/mapping.c` dma_free_pages */
export function dmaFreePages(
  dev: Device,
  allocation: DmaAllocation,
  dir: DmaDirection = allocation.dir,
  claim: DmaFreeClaim = {},
): void {
  checkDir('dmaFreePages', dir);
  if (mayFree(dev, dmaFreePages, allocation, { ...claim, dir })) giveBack(dev, allocation, {});
}

/**
 * Cleared pages, cached, mapped for `dev` as one run, within its coherent mask: pages from anywhere behind an IOMMU, else as
 * {@link dmaAllocPages}. The CPU owns them at first. Plain: never waits; charges clearing and mapping.
 *
 * @returns `null`: none are free, or they can not be mapped as one run (retry later).
 * @throws {InvariantError} `sizeBytes` is no whole number above 0, or `dir` no direction.
 * @see Linux 6.1 `kernel/dma/mapping.c` dma_alloc_noncontiguous
 */
export function dmaAllocNoncontiguous(dev: Device, sizeBytes: number, dir: DmaDirection): DmaAllocation | null {
  checkPresent('dmaAllocNoncontiguous', dev);
  checkSize('dmaAllocNoncontiguous', sizeBytes);
  checkDir('dmaAllocNoncontiguous', dir);
  const extents = takeExtents(dev, alignUp(sizeBytes, PAGE_SIZE));
  if (extents === null) return null;
  const sgt = new SgTable(extents);
  let complete = false;
  try {
    for (const { phys, length } of extents) dev.coherency.zero(phys, length, CLEARER);
    if (!mapsAsOneRun(dev, sgt, dir)) return null;
    const debugCall = { caller: dmaAllocNoncontiguous, sgt, entries: sgt.origNents, dir };
    dev.dmaDebug?.mappedSg(dev, debugCall, SKIP_SYNC);
    sgt.mappedFor = dev;
    const how = {
      kind: 'noncontiguous' as const,
      call: 'dmaAllocNoncontiguous',
      address: sgt.dmaAddress(0),
      sizeBytes,
    };
    const rest = { dir, extents, attribute: 'cached' as const, hasKernelMapping: true, backing: null, sgt };
    const allocation = new DmaAllocation(dev, { ...how, ...rest });
    enter(allocation, {});
    complete = true;
    return allocation;
  } finally {
    if (!complete) {
      if (sgt.nents > 0) leaveRun(dev, sgt, dir);
      sgt.dropSegments();
      freeExtents(dev, extents);
    }
  }
}

/** Gives back what {@link dmaAllocNoncontiguous} gave. Plain; errors as {@link dmaFreeCoherent}. @see Linux 6.1 `kernel/dma/mapping.c` dma_free_noncontiguous */
export function dmaFreeNoncontiguous(dev: Device, allocation: DmaAllocation, dir: DmaDirection = allocation.dir): void {
  const { sgt } = allocation;
  checkPresent('dmaFreeNoncontiguous', dev);
  checkDir('dmaFreeNoncontiguous', dir);
  assert(sgt !== null, 'dmaFreeNoncontiguous: the allocation was made by %s', allocation.parts.call);
  const { dmaDebug: debug } = dev;
  if (debug === null) checkOwn(dev, 'dmaFreeNoncontiguous', allocation);
  else debug.unmappingSg(dev, { caller: dmaFreeNoncontiguous, sgt, entries: sgt.origNents, dir });
  if (!allocation.freed && allocation.device === dev) giveBack(dev, allocation, {});
}

const SKIP_SYNC: DmaAttrs = { skipCpuSync: true };

/** Each call and its counterpart. */
const FREES: Readonly<Record<string, string>> = {
  dmaAllocCoherent: 'dmaFreeCoherent',
  dmaAllocAttrs: 'dmaFreeAttrs',
  dmaAllocPages: 'dmaFreePages',
  dmaAllocNoncontiguous: 'dmaFreeNoncontiguous',
};

function allocAttrs(dev: Device, caller: DmaCaller, sizeBytes: number, attrs: DmaAttrs): DmaAllocation | null {
  checkPresent(caller.name, dev);
  checkSize(caller.name, sizeBytes);
  const backing = dev.backEnd.alloc(sizeBytes, attrs);
  if (backing === null) return null;
  let complete = false;
  try {
    const allocation = new DmaAllocation(dev, {
      kind: 'coherent',
      call: caller.name,
      address: backing.address,
      sizeBytes,
      dir: 'bidirectional',
      extents: backing.extents,
      attribute: backing.attribute ?? (dev.coherent ? 'cached' : 'write-combined'),
      hasKernelMapping: backing.attribute !== null && attrs.noKernelMapping !== true,
      backing,
      sgt: null,
    });
    dev.dmaDebug?.mapped(dev, refOf(caller, allocation, {}), attrs, 'none');
    enter(allocation, attrs);
    complete = true;
    return allocation;
  } finally {
    if (!complete) dev.backEnd.free(backing, sizeBytes, attrs);
  }
}

function freeAttrs(
  dev: Device,
  caller: DmaCaller,
  allocation: DmaAllocation,
  attrs: DmaAttrs,
  claim: DmaFreeClaim,
): void {
  if (mayFree(dev, caller, allocation, claim)) giveBack(dev, allocation, attrs);
}

/** Lets the device know of it, to be ended with it. */
function enter(allocation: DmaAllocation, attrs: DmaAttrs): void {
  const { device } = allocation;
  device.live.allocations.set(allocation, (ended) => giveBack(device, ended, attrs));
  if (!isNoted(device)) return;
  const { parts, address, extents, dir } = allocation;
  const call = { call: parts.call, dir, skipped: parts.kind !== 'coherent' };
  allocation.bookId = noteRunMapped(device, address, extentPieces(extents), call);
}

/** Ends the mapping and frees the memory, as it was allocated. */
function giveBack(dev: Device, allocation: DmaAllocation, attrs: DmaAttrs): void {
  const { address, sizeBytes, dir, extents, parts } = allocation;
  allocation.markFreed();
  dev.live.allocations.delete(allocation);
  if (isNoted(dev)) {
    const skipped = parts.kind !== 'coherent';
    noteRunUnmapped(dev, allocation, () => extentPieces(extents), {
      call: FREES[parts.call] ?? parts.call,
      dir,
      skipped,
    });
  }
  if (parts.backing !== null) return dev.backEnd.free(parts.backing, sizeBytes, attrs);
  try {
    if (parts.sgt !== null) leaveRun(dev, parts.sgt, dir);
    else leavePages(dev, address, alignUp(sizeBytes, PAGE_SIZE), dir);
  } finally {
    parts.sgt?.dropSegments();
    freeExtents(dev, extents);
  }
}

/** Checks a free. @returns whether there is anything to free. */
function mayFree(
  dev: Device,
  caller: DmaCaller,
  allocation: DmaAllocation,
  claim: DmaFreeClaim & { readonly dir?: DmaDirection },
): boolean {
  checkPresent(caller.name, dev);
  if (claim.sizeBytes !== undefined) checkSize(caller.name, claim.sizeBytes);
  const { dmaDebug: debug } = dev;
  if (debug === null) {
    checkOwn(dev, caller.name, allocation);
    const isPages = caller === dmaFreePages;
    assert(isPages === (allocation.kind === 'pages'), '%s: it was made by %s', caller.name, allocation.parts.call);
  } else {
    debug.unmapping(dev, refOf(caller, allocation, claim));
  }
  return !allocation.freed && allocation.device === dev;
}

function checkOwn(dev: Device, op: string, allocation: DmaAllocation): void {
  assert(!allocation.freed, '%s: the allocation of %s was freed before', op, allocation.device.name);
  assert(allocation.device === dev, '%s: the allocation is of %s, not of %s', op, allocation.device.name, dev.name);
}

/** What the checker compares; the kind is that of the call, not of the allocation. */
function refOf(
  caller: DmaCaller,
  allocation: DmaAllocation,
  claim: DmaFreeClaim & { readonly dir?: DmaDirection },
): DmaDebugRef {
  const { device, dir, extents } = allocation;
  const isPages = caller === dmaAllocPages || caller === dmaFreePages;
  return {
    call: caller.name,
    kind: isPages ? 'single' : 'coherent',
    address: claim.address ?? allocation.address,
    phys: claim.phys ?? extents[0]?.phys ?? -1,
    sizeBytes: claim.sizeBytes ?? allocation.sizeBytes,
    dir: isPages ? (claim.dir ?? dir) : 'bidirectional',
    sgCallEnts: 0,
    site: device.dmaDebug?.siteOf(caller) ?? '',
  };
}

/** Contiguous pages: within the coherent mask's reach, unless an IOMMU translates. */
function takePages(dev: Device, bytes: number): PhysAddr | null {
  return dev.isTranslated ? allocContiguousAnywhere(dev, bytes) : allocContiguous(dev, bytes, true);
}

/** Pages from anywhere where an IOMMU makes one run of them, else contiguous ones. */
function takeExtents(dev: Device, bytes: number): Extent[] | null {
  const { pages } = dev;
  if (!dev.isTranslated || pages === null) {
    const phys = takePages(dev, bytes);
    return phys === null ? null : [{ phys, length: bytes }];
  }
  const blocks = orNull(() => pages.allocBulk({ pageCount: bytes / PAGE_SIZE, owner: `${dev.name} pages` }));
  if (blocks === null) return null;
  return Array.from(blocks.firsts, (first, i) => ({
    phys: pfnToPhys(first as Pfn),
    length: (blocks.pageCounts[i] as number) * PAGE_SIZE,
  }));
}

function freeExtents(dev: Device, extents: readonly Extent[]): void {
  for (const { phys, length } of extents) freeContiguous(dev, phys, length);
}

/**
 * The device's address of pages taken by {@link takePages}. Without an IOMMU that is their bus address: they lie within reach, so nothing
 * is mapped, and nothing bounces.
 *
 * @see Linux 6.1 `kernel/dma/direct.c` dma_direct_alloc_pages
 */
function enterPages(dev: Device, phys: PhysAddr, bytes: number, dir: DmaDirection): DmaAddr {
  if (dev.isDirect) return physToBus(dev.dmaRanges, phys) as DmaAddr;
  return dev.backEnd.mapPage(phys, bytes, dir, SKIP_SYNC);
}

function leavePages(dev: Device, address: DmaAddr, bytes: number, dir: DmaDirection): void {
  if (!dev.isDirect) dev.backEnd.unmapPage(address, bytes, dir, SKIP_SYNC);
}

function leaveRun(dev: Device, sgt: SgTable, dir: DmaDirection): void {
  if (!dev.isDirect) dev.backEnd.unmapSg(sgt, dir, SKIP_SYNC);
}

/** Maps the table. @returns false, with nothing mapped, when that fails or its segments do not follow each other. */
function mapsAsOneRun(dev: Device, sgt: SgTable, dir: DmaDirection): boolean {
  if (dev.isDirect) {
    sgt.addSegment(enterPages(dev, sgt.physAddress(0), sgt.length(0), dir), sgt.length(0));
    return true;
  }
  const { backEnd } = dev;
  try {
    if (backEnd.mapRun === undefined) backEnd.mapSg(sgt, dir, SKIP_SYNC);
    else backEnd.mapRun(sgt, dir);
  } catch (error) {
    if (error instanceof ErrnoError) return false;
    throw error;
  }
  for (let i = 1; i < sgt.nents; i++) {
    if (sgt.dmaAddress(i) !== sgt.dmaAddress(i - 1) + sgt.dmaLength(i - 1)) return false;
  }
  return true;
}
