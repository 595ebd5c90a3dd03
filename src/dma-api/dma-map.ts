/**
 * Streaming mappings. The life of one, told here once:
 *
 * 1. {@link dmaMapSgtable} gives the buffer to the device: caches are cleaned, addresses made.
 * 2. While it is mapped, the CPU may touch it only between {@link dmaSyncSgtableForCpu} and
 *    {@link dmaSyncSgtableForDevice}; on a device that snoops both do nothing.
 * 3. {@link dmaUnmapSgtable} gives it back: caches are invalidated if the device may have written, addresses die.
 * 4. The direction is the same in all of them.
 *
 * Cache maintenance is that of arm64 in Linux 6.1: for the device a clean, whatever the direction; for the CPU an
 * invalidate, unless the device only read. A line at an end of an extent that the extent covers only in part is cleaned
 * before it is dropped, so that what lies beside the buffer is not lost. Every call acts on the whole buffer.
 *
 * Inaccuracies: such a partial line costs a barrier of its own.
 *
 * @see `Documentation/core-api/dma-api.rst`; Linux 6.1 `kernel/dma/mapping.c`; `arch/arm64/mm/dma-mapping.c`
 */
import type { PhysAddr } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import { alignDown, alignUp } from '../base/units.ts';
import type { CoherencyDomain } from '../cache/coherency.ts';
import { IommuProt } from '../iommu/io-pgtable.ts';
import type { Device } from './device.ts';
import { type DmaDirection, deviceReads, deviceWrites } from './direction.ts';
import type { SgTable } from './sg-table.ts';

/** Departures from the default of a mapping. @see `Documentation/core-api/dma-attributes.rst` */
export interface DmaAttrs {
  /** The caller does the cache maintenance itself, or knows that none is needed. */
  readonly skipCpuSync?: boolean;
}

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
 * @throws {HazardError} `*-write.lost` under policy `'throw'`: old dirty lines went over newer bytes; nothing is mapped then.
 * @throws {InvariantError} `sgt` is mapped already.
 * @see Linux 6.1 `kernel/dma/mapping.c` dma_map_sgtable
 */
export function dmaMapSgtable(dev: Device, sgt: SgTable, dir: DmaDirection, attrs: DmaAttrs = {}): void {
  const { mappedFor } = sgt;
  if (mappedFor !== null) {
    assert(false, 'dmaMapSgtable: mapped for %s already; one mapping, one table (use sgt.clone())', mappedFor.name);
  }
  dev.dmaOps.mapSg(sgt, iommuProt(dir));
  let complete = false;
  try {
    if (attrs.skipCpuSync !== true) syncForDevice(dev, sgt);
    complete = true;
  } finally {
    if (complete) sgt.mappedFor = dev;
    else endMapping(dev, sgt);
  }
  const { trace } = dev.sim;
  if (!trace.enabled) return;
  const counts = { extents: sgt.origNents, segments: sgt.nents, bytes: sgt.sizeBytes };
  trace.emit({ kind: 'dma.map', timeNs: dev.sim.now, device: dev.name, dir, ...counts });
}

/**
 * Ends a mapping and gives the buffer back to the CPU; `sgt.nents` becomes 0.
 *
 * Plain: never waits. Charges cache maintenance and the back end's cost of an unmap with its IOTLB invalidation.
 *
 * @throws {HazardError} `*-write.lost` under policy `'throw'`: the CPU wrote while the device had the buffer; it is unmapped
 *   all the same.
 * @throws {InvariantError} `sgt` is not mapped for `dev`; nothing has happened.
 * @see Linux 6.1 `kernel/dma/mapping.c` dma_unmap_sg_attrs
 */
export function dmaUnmapSgtable(dev: Device, sgt: SgTable, dir: DmaDirection, attrs: DmaAttrs = {}): void {
  checkMapped('dmaUnmapSgtable', dev, sgt);
  const { trace } = dev.sim;
  try {
    if (attrs.skipCpuSync !== true) syncForCpu(dev, sgt, dir);
  } finally {
    if (trace.enabled) {
      trace.emit({ kind: 'dma.unmap', timeNs: dev.sim.now, device: dev.name, dir, bytes: sgt.sizeBytes });
    }
    endMapping(dev, sgt);
  }
}

/**
 * Lets the CPU see what the device wrote; the CPU owns the buffer until {@link dmaSyncSgtableForDevice}. Plain; charges
 * cache maintenance.
 *
 * @throws {HazardError} `*-write.lost` under policy `'throw'`; the sync is done.
 * @throws {InvariantError} `sgt` is not mapped for `dev`; nothing has happened.
 * @see Linux 6.1 `kernel/dma/mapping.c` dma_sync_sg_for_cpu
 */
export function dmaSyncSgtableForCpu(dev: Device, sgt: SgTable, dir: DmaDirection): void {
  checkMapped('dmaSyncSgtableForCpu', dev, sgt);
  traceSync(dev, sgt, dir, 'cpu');
  syncForCpu(dev, sgt, dir);
}

/**
 * Lets the device see what the CPU wrote; the device owns the buffer again. Plain; charges cache maintenance.
 *
 * @throws {HazardError} `*-write.lost` under policy `'throw'`; the sync is done.
 * @throws {InvariantError} `sgt` is not mapped for `dev`; nothing has happened.
 * @see Linux 6.1 `kernel/dma/mapping.c` dma_sync_sg_for_device
 */
export function dmaSyncSgtableForDevice(dev: Device, sgt: SgTable, dir: DmaDirection): void {
  checkMapped('dmaSyncSgtableForDevice', dev, sgt);
  traceSync(dev, sgt, dir, 'device');
  syncForDevice(dev, sgt);
}

function iommuProt(dir: DmaDirection): number {
  return (deviceReads(dir) ? IommuProt.read : 0) | (deviceWrites(dir) ? IommuProt.write : 0);
}

function checkMapped(op: string, dev: Device, sgt: SgTable): void {
  const { mappedFor } = sgt;
  assert(mappedFor === dev, '%s: the table is mapped for %s, not for %s', op, mappedFor?.name ?? 'nobody', dev.name);
}

function endMapping(dev: Device, sgt: SgTable): void {
  try {
    dev.dmaOps.unmapSg(sgt);
  } finally {
    sgt.dropSegments();
  }
}

function syncForDevice(dev: Device, sgt: SgTable): void {
  const { coherency, coherent } = dev;
  if (coherent) return;
  coherency.asOneAccess(() => {
    for (let i = 0; i < sgt.origNents; i++) coherency.clean(sgt.physAddress(i), sgt.length(i));
  });
}

function syncForCpu(dev: Device, sgt: SgTable, dir: DmaDirection): void {
  const { coherency, coherent } = dev;
  if (coherent || !deviceWrites(dir)) return;
  coherency.asOneAccess(() => {
    for (let i = 0; i < sgt.origNents; i++) invalidateExtent(coherency, sgt.physAddress(i), sgt.length(i));
  });
}

function invalidateExtent(coherency: CoherencyDomain, phys: PhysAddr, length: number): void {
  const { lineBytes } = coherency.cache;
  const end = phys + length;
  const from = alignUp(phys, lineBytes);
  const to = alignDown(end, lineBytes);
  if (from > phys) coherency.cleanInvalidate(phys, 1);
  if (to > from) coherency.invalidate(from as PhysAddr, to - from);
  if (to < end && to >= from) coherency.cleanInvalidate(to as PhysAddr, end - to);
}

function traceSync(dev: Device, sgt: SgTable, dir: DmaDirection, forWhom: 'cpu' | 'device'): void {
  const { trace } = dev.sim;
  if (!trace.enabled) return;
  trace.emit({ kind: 'dma.sync', timeNs: dev.sim.now, device: dev.name, forWhom, dir, bytes: sgt.sizeBytes });
}
