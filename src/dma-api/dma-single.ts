/**
 * Streaming mappings of one contiguous buffer: kernel memory, a page, a range of device memory.
 *
 * The life of a mapping is told in `dma-map.ts`. Unlike a scatterlist's, a failure is an address: every caller has to ask
 * {@link dmaMappingError} before it uses one.
 *
 * @see `Documentation/core-api/dma-api.rst`; Linux 6.1 `kernel/dma/mapping.c`
 */
import { type DmaAddr, hex, type PhysAddr } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import type { AddressPieces } from '../trace/address-book.ts';
import { onePiece } from '../trace/address-pieces.ts';
import type { DmaCaller } from './call-site.ts';
import type { Device } from './device.ts';
import type { DmaDirection } from './direction.ts';
import { checkDir, checkDmaRange, checkMemory, checkPresent } from './dma-args.ts';
import type { DmaAttrs } from './dma-attrs.ts';
import type { DmaDebugRef, DmaMappingKind } from './dma-debug-entry.ts';
import { isNoted, type NotedCall, noteRangesSynced, noteRunMapped, noteRunUnmapped } from './dma-notes.ts';
import { checkForbidden, isPageless, isRam, type KernelMemory, physOf, rejectsVmalloc } from './kernel-memory.ts';
import type { LiveMapping } from './live-addresses.ts';
import { DMA_MAPPING_ERROR } from './mapping-error.ts';

/**
 * Maps `sizeBytes` at `phys` for DMA by `dev` and hands them over to the device.
 *
 * Plain: never waits. Charges cache maintenance by the line and the back end's cost of a mapping.
 *
 * @returns the device's address, or {@link DMA_MAPPING_ERROR} (out of the device's reach, or no RAM: never retry; no IO addresses or
 * bounce slots left: retry after an unmap).
 * @throws {HazardError} `dma-map.pageless` the memory has no struct page; `dma-debug.cacheline-overlap`, see `dma-debug.ts`. Nothing is
 * mapped then.
 * @throws {InvariantError} `phys` or `sizeBytes` is no whole number in range, or `dir` no direction; nothing is mapped then.
 * @see Linux 6.1 `kernel/dma/mapping.c` dma_map_page_attrs
 */
export function dmaMapPage(
  dev: Device,
  phys: PhysAddr,
  sizeBytes: number,
  dir: DmaDirection,
  attrs: DmaAttrs = {},
): DmaAddr {
  return mapPage(dev, { caller: dmaMapPage, memory: phys, sizeBytes, dir, attrs });
}

/**
 * Ends {@link dmaMapPage}, whose size and direction must be repeated, and gives the bytes back to the CPU. Plain.
 *
 * @throws {HazardError} `dma-debug.*`: it does not fit the mapping; nothing has happened then. `*-write.lost`: the CPU wrote while the
 * device had the buffer; it is unmapped all the same.
 * @throws {InvariantError} nothing is mapped at `address` (when nobody checks: with `DmaDebug` that is a hazard), or an argument is out of
 * range; nothing has happened.
 * @see Linux 6.1 `kernel/dma/mapping.c` dma_unmap_page_attrs
 */
export function dmaUnmapPage(
  dev: Device,
  address: DmaAddr,
  sizeBytes: number,
  dir: DmaDirection,
  attrs: DmaAttrs = {},
): void {
  unmap(dev, { caller: dmaUnmapPage, kind: 'single', address, sizeBytes, dir, attrs });
}

/**
 * As {@link dmaMapPage}, for kernel memory by its address. Plain.
 *
 * @throws {HazardError} as {@link dmaMapPage}; `dma-map.rejects-vmalloc` the address is none of the linear map (with policy `'record'` the
 * answer is {@link DMA_MAPPING_ERROR}); `dma-debug.maps-stack`, `dma-debug.maps-kernel-text`. Nothing is mapped then.
 * @throws {InvariantError} as {@link dmaMapPage}.
 * @see Linux 6.1 `include/linux/dma-mapping.h` dma_map_single_attrs
 */
export function dmaMapSingle(
  dev: Device,
  memory: KernelMemory,
  sizeBytes: number,
  dir: DmaDirection,
  attrs: DmaAttrs = {},
): DmaAddr {
  return mapPage(dev, { caller: dmaMapSingle, memory, sizeBytes, dir, attrs });
}

/** Ends {@link dmaMapSingle}; all else as {@link dmaUnmapPage}. @see Linux 6.1 `include/linux/dma-mapping.h` dma_unmap_single_attrs */
export function dmaUnmapSingle(
  dev: Device,
  address: DmaAddr,
  sizeBytes: number,
  dir: DmaDirection,
  attrs: DmaAttrs = {},
): void {
  unmap(dev, { caller: dmaUnmapSingle, kind: 'single', address, sizeBytes, dir, attrs });
}

/**
 * Maps device memory (a BAR, a carve-out without pages): no cache maintenance, no bounce. Plain.
 *
 * @returns as {@link dmaMapPage}.
 * @throws {HazardError} `dma-map.resource-is-ram` the memory has pages (with policy `'record'` the answer is {@link DMA_MAPPING_ERROR}).
 * @throws {InvariantError} as {@link dmaMapPage}.
 * @see Linux 6.1 `kernel/dma/mapping.c` dma_map_resource
 */
export function dmaMapResource(
  dev: Device,
  phys: PhysAddr,
  sizeBytes: number,
  dir: DmaDirection,
  attrs: DmaAttrs = {},
): DmaAddr {
  checkPresent('dmaMapResource', dev);
  checkMemory('dmaMapResource', phys, sizeBytes);
  checkDir('dmaMapResource', dir);
  if (isRam(dev, phys)) return DMA_MAPPING_ERROR;
  const address = dev.backEnd.mapResource(phys, sizeBytes, dir, attrs);
  if (address === DMA_MAPPING_ERROR) return address;
  enter(dev, { caller: dmaMapResource, kind: 'resource', address, phys, sizeBytes, dir, attrs, bookId: 0 }, phys);
  return address;
}

/** Ends {@link dmaMapResource}; all else as {@link dmaUnmapPage}. Plain. @see Linux 6.1 `kernel/dma/mapping.c` dma_unmap_resource */
export function dmaUnmapResource(
  dev: Device,
  address: DmaAddr,
  sizeBytes: number,
  dir: DmaDirection,
  attrs: DmaAttrs = {},
): void {
  unmap(dev, { caller: dmaUnmapResource, kind: 'resource', address, sizeBytes, dir, attrs });
}

/**
 * `sizeBytes` from `address` on, inside a mapping, go to the CPU. Plain; charges cache maintenance.
 *
 * @throws {HazardError} `dma-debug.sync-*`: it does not fit a mapping; nothing has happened then. `*-write.lost`; the sync is done.
 * @throws {InvariantError} an argument is out of range, or behind an IOMMU nothing is mapped there (when nobody checks, and unless the sync
 * is a no-op anyway); nothing has happened.
 * @see Linux 6.1 `kernel/dma/mapping.c` dma_sync_single_for_cpu
 */
export function dmaSyncSingleForCpu(dev: Device, address: DmaAddr, sizeBytes: number, dir: DmaDirection): void {
  if (!maySync(dev, dmaSyncSingleForCpu, address, sizeBytes, dir, true)) return;
  dev.backEnd.syncForCpu(address, sizeBytes, dir);
}

/** As {@link dmaSyncSingleForCpu}, to the device. Plain. @see Linux 6.1 `kernel/dma/mapping.c` dma_sync_single_for_device */
export function dmaSyncSingleForDevice(dev: Device, address: DmaAddr, sizeBytes: number, dir: DmaDirection): void {
  if (!maySync(dev, dmaSyncSingleForDevice, address, sizeBytes, dir, false)) return;
  dev.backEnd.syncForDevice(address, sizeBytes, dir);
}

/** Bytes of a mapping, from its first byte. */
export interface DmaByteRange {
  readonly offset: number;
  readonly sizeBytes: number;
}

/**
 * As {@link dmaSyncSingleForCpu}, for a part of the mapping at `address`. Plain. Same errors; `offset` must be a whole number >= 0.
 *
 * @see Linux 6.1 `include/linux/dma-mapping.h` dma_sync_single_range_for_cpu
 */
export function dmaSyncSingleRangeForCpu(dev: Device, address: DmaAddr, range: DmaByteRange, dir: DmaDirection): void {
  const at = checkOffset('dmaSyncSingleRangeForCpu', address, range.offset);
  if (!maySync(dev, dmaSyncSingleRangeForCpu, at, range.sizeBytes, dir, true)) return;
  dev.backEnd.syncForCpu(at, range.sizeBytes, dir);
}

/** As {@link dmaSyncSingleRangeForCpu}, to the device. Plain. @see Linux 6.1 `include/linux/dma-mapping.h` dma_sync_single_range_for_device */
export function dmaSyncSingleRangeForDevice(
  dev: Device,
  address: DmaAddr,
  range: DmaByteRange,
  dir: DmaDirection,
): void {
  const at = checkOffset('dmaSyncSingleRangeForDevice', address, range.offset);
  if (!maySync(dev, dmaSyncSingleRangeForDevice, at, range.sizeBytes, dir, false)) return;
  dev.backEnd.syncForDevice(at, range.sizeBytes, dir);
}

/** Whether mapping failed; a driver asks this of every address. Plain. @see Linux 6.1 `include/linux/dma-mapping.h` dma_mapping_error */
export function dmaMappingError(dev: Device, address: DmaAddr): boolean {
  dev.dmaDebug?.mappingErrorChecked(dev, address);
  return address === DMA_MAPPING_ERROR;
}

/** A call that maps memory with pages. */
interface MapCall {
  readonly caller: DmaCaller;
  readonly memory: KernelMemory;
  readonly sizeBytes: number;
  readonly dir: DmaDirection;
  readonly attrs: DmaAttrs;
}

/** A mapping at an address. */
interface MappingCall {
  readonly caller: DmaCaller;
  readonly kind: DmaMappingKind;
  readonly address: DmaAddr;
  readonly sizeBytes: number;
  readonly dir: DmaDirection;
  readonly attrs: DmaAttrs;
}

function mapPage(dev: Device, { caller, memory, sizeBytes, dir, attrs }: MapCall): DmaAddr {
  const phys = physOf(memory);
  checkPresent(caller.name, dev);
  checkMemory(caller.name, phys, sizeBytes);
  checkDir(caller.name, dir);
  if (rejectsVmalloc(dev, memory) || isPageless(dev, caller.name, phys, sizeBytes)) return DMA_MAPPING_ERROR;
  const address = dev.backEnd.mapPage(phys, sizeBytes, dir, attrs);
  if (address === DMA_MAPPING_ERROR) return address;
  enter(dev, { caller, kind: 'single', address, phys, sizeBytes, dir, attrs, bookId: 0 }, memory);
  return address;
}

/** Notes a mapping that was made; when the checker throws, it is ended. */
function enter(dev: Device, call: MappingCall & LiveMapping, memory: KernelMemory): void {
  const debug = dev.dmaDebug;
  if (debug !== null) {
    const ref = refOf(dev, call, call.phys);
    let complete = false;
    try {
      checkForbidden(dev, memory, ref);
      debug.mapped(dev, ref, call.attrs, 'unchecked');
      complete = true;
    } finally {
      if (!complete) end(dev, { ...call, attrs: { ...call.attrs, skipCpuSync: true } });
    }
  }
  if (isNoted(dev)) call.bookId = noteRunMapped(dev, call.address, memoryOf(call), notedCall(call));
  dev.live.addresses.add(call);
  const { trace } = dev.sim;
  if (!trace.enabled) return;
  const counts = { extents: 1, segments: 1, bytes: call.sizeBytes };
  trace.emit({ kind: 'dma.map', timeNs: dev.sim.now, device: dev.name, dir: call.dir, ...counts });
}

function unmap(dev: Device, call: MappingCall): void {
  const { caller, address, sizeBytes, dir } = call;
  checkPresent(caller.name, dev);
  checkDmaRange(caller.name, address, sizeBytes);
  checkDir(caller.name, dir);
  const { dmaDebug: debug, live } = dev;
  debug?.unmapping(dev, refOf(dev, call, -1));
  if (!live.addresses.has(address)) {
    assert(debug !== null, '%s: nothing is mapped at %s for %s', caller.name, hex(address), dev.name);
    return;
  }
  const mapping = live.addresses.remove(address, sizeBytes);
  const isTold = mapping !== undefined && isNoted(dev);
  const lint = isTold ? noteRunUnmapped(dev, mapping, () => memoryOf(mapping), notedCall(call)) : null;
  const { trace, now: timeNs } = dev.sim;
  try {
    end(dev, call);
  } finally {
    if (trace.enabled) trace.emit({ kind: 'dma.unmap', timeNs, device: dev.name, dir, bytes: sizeBytes });
  }
  lint?.();
}

function memoryOf({ phys, sizeBytes }: LiveMapping): AddressPieces {
  return onePiece(phys, sizeBytes);
}

function notedCall({ caller, dir, attrs }: MappingCall): NotedCall {
  return { call: caller.name, dir, skipped: attrs.skipCpuSync === true };
}

function end(dev: Device, { kind, address, sizeBytes, dir, attrs }: MappingCall): void {
  if (kind === 'resource') dev.backEnd.unmapResource(address, sizeBytes, dir, attrs);
  else dev.backEnd.unmapPage(address, sizeBytes, dir, attrs);
}

/** Checks a sync. @returns whether there is anything to sync. */
function maySync(
  dev: Device,
  caller: DmaCaller,
  address: DmaAddr,
  sizeBytes: number,
  dir: DmaDirection,
  toCpu: boolean,
): boolean {
  checkPresent(caller.name, dev);
  checkDmaRange(caller.name, address, sizeBytes);
  checkDir(caller.name, dir);
  const { dmaDebug: debug, sim } = dev;
  if (debug !== null) {
    const call: MappingCall = { caller, kind: 'single', address, sizeBytes, dir, attrs: {} };
    if (!debug.syncing(dev, refOf(dev, call, -1), toCpu)) return false;
  }
  if (sim.syncs.enabled) {
    const rows = { first: address, bytes: sizeBytes, pitchBytes: sizeBytes, count: 1 };
    noteRangesSynced(dev, toCpu ? 'sync-for-cpu' : 'sync-for-device', rows, { call: caller.name, dir, skipped: false });
  }
  if (!sim.trace.enabled) return true;
  const forWhom = toCpu ? 'cpu' : 'device';
  sim.trace.emit({ kind: 'dma.sync', timeNs: sim.now, device: dev.name, forWhom, dir, bytes: sizeBytes });
  return true;
}

function refOf(dev: Device, { caller, kind, address, sizeBytes, dir }: MappingCall, phys: number): DmaDebugRef {
  const site = dev.dmaDebug?.siteOf(caller) ?? '';
  return { call: caller.name, kind, address, phys, sizeBytes, dir, sgCallEnts: 0, site };
}

function checkOffset(op: string, address: DmaAddr, offset: number): DmaAddr {
  assert(Number.isSafeInteger(offset) && offset >= 0, '%s: offset %s is no whole number >= 0', op, offset);
  return (address + offset) as DmaAddr;
}
