/**
 * Streaming mappings. The life of one, told here once:
 *
 * 1. {@link dmaMapSgtable} gives the buffer to the device: caches are cleaned, addresses made.
 * 2. While it is mapped, the CPU may touch it only between {@link dmaSyncSgtableForCpu} and
 *    {@link dmaSyncSgtableForDevice}; on a device that snoops both do nothing.
 * 3. {@link dmaUnmapSgtable} gives it back: caches are invalidated if the device may have written, addresses die.
 * 4. The direction is the same in all of them.
 *
 * Cache maintenance is told in `arch-sync.ts`, addresses in the back ends (`dma-ops.ts`).
 * What a call must agree in with the one before, `dma-debug.ts`. Every call of a table acts on the whole buffer.
 *
 * @see `Documentation/core-api/dma-api.rst`; Linux 6.1 `kernel/dma/mapping.c`
 */
import { assert } from '../base/assert.ts';
import { ErrnoError } from '../base/errors.ts';
import type { Device } from './device.ts';
import type { DmaDirection } from './direction.ts';
import { checkDir, checkEntries, checkPresent } from './dma-args.ts';
import type { DmaAttrs } from './dma-attrs.ts';
import type { DmaListCall } from './dma-debug.ts';
import { lintMemory, noteTableMapped, noteTableSynced, noteTableUnmapped } from './dma-notes.ts';
import { SgTable } from './sg-table.ts';

/**
 * Maps `sgt` for DMA by `dev` and hands the buffer over to the device.
 *
 * Plain: never waits. Charges cache maintenance by the line and the back end's cost of a mapping.
 * Ownership: CPU before, device after, until {@link dmaSyncSgtableForCpu} or {@link dmaUnmapSgtable}.
 * Sets `sgt.nents`, which may be below `sgt.origNents` when the IOMMU joins extents.
 *
 * @param dir - must be repeated unchanged when syncing and unmapping.
 * @throws {ErrnoError} `EIO` without an IOMMU: out of the device's reach (never retry); `ENOMEM` behind one: out of IOVA
 *   space or table memory (retry later). Nothing is mapped then.
 * @throws {HazardError} `*-write.lost` under policy `'throw'`: old dirty lines went over newer bytes; `dma-debug.sg-segment-*`,
 *   `dma-debug.cacheline-overlap`, see `dma-debug.ts`. Nothing is mapped then.
 * @throws {InvariantError} `sgt` is mapped already, or `dir` is no direction.
 * @see Linux 6.1 `kernel/dma/mapping.c` dma_map_sgtable
 */
export function dmaMapSgtable(dev: Device, sgt: SgTable, dir: DmaDirection, attrs: DmaAttrs = {}): void {
  map(dev, { caller: dmaMapSgtable, sgt, entries: sgt.origNents, dir }, attrs);
}

/**
 * As {@link dmaMapSgtable}, for the first `entries` extents of a list, and with an answer instead of an error.
 *
 * @param entries - at least 1; must be repeated when unmapping, whatever the answer is. Default: all.
 * @returns how many segments the list became; 0: it is not mapped, for whatever reason.
 * @throws {HazardError} as {@link dmaMapSgtable}.
 * @throws {InvariantError} as {@link dmaMapSgtable}, or `entries` is out of range.
 * @see Linux 6.1 `kernel/dma/mapping.c` dma_map_sg_attrs
 */
export function dmaMapSg(
  dev: Device,
  sgt: SgTable,
  dir: DmaDirection,
  attrs: DmaAttrs = {},
  entries: number = sgt.origNents,
): number {
  checkEntries('dmaMapSg', sgt, entries);
  try {
    map(dev, { caller: dmaMapSg, sgt, entries, dir }, attrs);
  } catch (error) {
    if (error instanceof ErrnoError) return 0;
    throw error;
  }
  return sgt.nents;
}

/**
 * Ends a mapping and gives the buffer back to the CPU; `sgt.nents` becomes 0.
 *
 * Plain: never waits. Charges cache maintenance and the back end's cost of an unmap with its IOTLB invalidation.
 *
 * @throws {HazardError} `dma-debug.*`: it does not fit the mapping; nothing has happened then. `*-write.lost` under policy `'throw'`: the CPU
 *   wrote while the device had the buffer; it is unmapped all the same.
 * @throws {InvariantError} `sgt` is not mapped for `dev` (when nobody checks: with `DmaDebug` that is a hazard); nothing has happened.
 * @see Linux 6.1 `kernel/dma/mapping.c` dma_unmap_sg_attrs
 */
export function dmaUnmapSgtable(dev: Device, sgt: SgTable, dir: DmaDirection, attrs: DmaAttrs = {}): void {
  unmap(dev, { caller: dmaUnmapSgtable, sgt, entries: entriesOf(sgt), dir }, attrs);
}

/**
 * Ends {@link dmaMapSg}, whose `entries` and direction must be repeated; the whole mapping ends even if they are not. Plain.
 *
 * @throws as {@link dmaUnmapSgtable}; {InvariantError} also when `entries` is out of range.
 * @see Linux 6.1 `kernel/dma/mapping.c` dma_unmap_sg_attrs
 */
export function dmaUnmapSg(
  dev: Device,
  sgt: SgTable,
  dir: DmaDirection,
  attrs: DmaAttrs = {},
  entries: number = entriesOf(sgt),
): void {
  checkEntries('dmaUnmapSg', sgt, entries);
  unmap(dev, { caller: dmaUnmapSg, sgt, entries, dir }, attrs);
}

/**
 * Lets the CPU see what the device wrote; the CPU owns the buffer until {@link dmaSyncSgtableForDevice}. Plain; charges
 * cache maintenance.
 *
 * @throws {HazardError} `dma-debug.sync-*`: it does not fit the mapping; nothing has happened then. `*-write.lost`; the sync is done.
 * @throws {InvariantError} `sgt` is not mapped for `dev` (when nobody checks: with `DmaDebug` that is a hazard); nothing has happened.
 * @see Linux 6.1 `kernel/dma/mapping.c` dma_sync_sg_for_cpu
 */
export function dmaSyncSgtableForCpu(dev: Device, sgt: SgTable, dir: DmaDirection): void {
  sync(dev, { caller: dmaSyncSgtableForCpu, sgt, entries: entriesOf(sgt), dir }, true);
}

/**
 * Lets the device see what the CPU wrote; the device owns the buffer again. Plain; charges cache maintenance.
 *
 * @throws as {@link dmaSyncSgtableForCpu}.
 * @see Linux 6.1 `kernel/dma/mapping.c` dma_sync_sg_for_device
 */
export function dmaSyncSgtableForDevice(dev: Device, sgt: SgTable, dir: DmaDirection): void {
  sync(dev, { caller: dmaSyncSgtableForDevice, sgt, entries: entriesOf(sgt), dir }, false);
}

/**
 * {@link dmaSyncSgtableForCpu} of a list that was mapped with `entries`; all of it is synced. Plain.
 *
 * @throws as {@link dmaSyncSgtableForCpu}; {InvariantError} also when `entries` is out of range.
 * @see Linux 6.1 `kernel/dma/mapping.c` dma_sync_sg_for_cpu
 */
export function dmaSyncSgForCpu(dev: Device, sgt: SgTable, dir: DmaDirection, entries = entriesOf(sgt)): void {
  checkEntries('dmaSyncSgForCpu', sgt, entries);
  sync(dev, { caller: dmaSyncSgForCpu, sgt, entries, dir }, true);
}

/**
 * {@link dmaSyncSgtableForDevice} of a list that was mapped with `entries`; all of it is synced. Plain.
 *
 * @throws as {@link dmaSyncSgForCpu}.
 * @see Linux 6.1 `kernel/dma/mapping.c` dma_sync_sg_for_device
 */
export function dmaSyncSgForDevice(dev: Device, sgt: SgTable, dir: DmaDirection, entries = entriesOf(sgt)): void {
  checkEntries('dmaSyncSgForDevice', sgt, entries);
  sync(dev, { caller: dmaSyncSgForDevice, sgt, entries, dir }, false);
}

function map(dev: Device, call: DmaListCall, attrs: DmaAttrs): void {
  const { caller, sgt, entries, dir } = call;
  checkPresent(caller.name, dev);
  const { mappedFor } = sgt;
  if (mappedFor !== null) {
    assert(false, '%s: mapped for %s already; one mapping, one table (use sgt.clone())', caller.name, mappedFor.name);
  }
  checkDir(caller.name, dir);
  lintMemory(dev, sgt);
  let complete = false;
  let isMapped = false;
  try {
    if (entries === sgt.origNents) dev.backEnd.mapSg(sgt, dir, attrs);
    else mapPart(dev, call, attrs);
    isMapped = true;
    dev.dmaDebug?.mappedSg(dev, call, attrs);
    complete = true;
  } finally {
    if (complete) {
      sgt.mappedFor = dev;
      dev.live.tables.set(sgt, dir);
    } else {
      if (isMapped) dev.backEnd.unmapSg(sgt.mappedPart ?? sgt, dir, { ...attrs, skipCpuSync: true });
      sgt.dropSegments();
    }
  }
  noteTableMapped(dev, sgt, { call: caller.name, dir, skipped: attrs.skipCpuSync === true });
  const { trace } = dev.sim;
  if (!trace.enabled) return;
  const counts = { extents: entries, segments: sgt.nents, bytes: bytesOf(sgt) };
  trace.emit({ kind: 'dma.map', timeNs: dev.sim.now, device: dev.name, dir, ...counts });
}

/** Maps the first entries as a table of their own, and takes its segments over. */
function mapPart(dev: Device, { sgt, entries, dir }: DmaListCall, attrs: DmaAttrs): void {
  const part = new SgTable(sgt, entries);
  dev.backEnd.mapSg(part, dir, attrs);
  sgt.mappedPart = part;
  for (let i = 0; i < part.nents; i++) sgt.addSegment(part.dmaAddress(i), part.dmaLength(i));
}

function unmap(dev: Device, call: DmaListCall, attrs: DmaAttrs): void {
  const { caller, sgt, dir } = call;
  checkPresent(caller.name, dev);
  checkDir(caller.name, dir);
  if (dev.dmaDebug === null) checkMapped(dev, call);
  else dev.dmaDebug.unmappingSg(dev, call);
  if (sgt.mappedFor !== dev) return;
  dev.live.tables.delete(sgt);
  const lint = noteTableUnmapped(dev, sgt, { call: caller.name, dir, skipped: attrs.skipCpuSync === true });
  const { trace, now: timeNs } = dev.sim;
  const bytes = bytesOf(sgt);
  sgt.onPeek = null;
  try {
    dev.backEnd.unmapSg(sgt.mappedPart ?? sgt, dir, attrs);
  } finally {
    sgt.dropSegments();
    if (trace.enabled) trace.emit({ kind: 'dma.unmap', timeNs, device: dev.name, dir, bytes });
  }
  lint?.();
}

function sync(dev: Device, call: DmaListCall, toCpu: boolean): void {
  const { caller, sgt, dir } = call;
  checkPresent(caller.name, dev);
  checkDir(caller.name, dir);
  if (dev.dmaDebug === null) checkMapped(dev, call);
  else dev.dmaDebug.syncingSg(dev, call, toCpu);
  if (sgt.mappedFor !== dev) return;
  noteTableSynced(dev, sgt, { call: caller.name, dir, skipped: false }, toCpu);
  const { trace, now: timeNs } = dev.sim;
  if (trace.enabled) {
    const forWhom = toCpu ? 'cpu' : 'device';
    trace.emit({ kind: 'dma.sync', timeNs, device: dev.name, forWhom, dir, bytes: bytesOf(sgt) });
  }
  const { onPeek } = sgt;
  sgt.onPeek = null;
  try {
    const table = sgt.mappedPart ?? sgt;
    if (toCpu) dev.backEnd.syncSgForCpu(table, dir);
    else dev.backEnd.syncSgForDevice(table, dir);
  } finally {
    sgt.onPeek = onPeek;
  }
}

function checkMapped(dev: Device, { caller, sgt }: DmaListCall): void {
  const { mappedFor } = sgt;
  if (mappedFor === dev) return;
  const other = mappedFor?.name ?? 'nobody';
  assert(false, '%s: the table is mapped for %s, not for %s', caller.name, other, dev.name);
}

/** Entries that were mapped; all, if none are. */
function entriesOf(sgt: SgTable): number {
  return (sgt.mappedPart ?? sgt).origNents;
}

function bytesOf(sgt: SgTable): number {
  return (sgt.mappedPart ?? sgt).sizeBytes;
}
