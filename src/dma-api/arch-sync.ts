/**
 * Cache maintenance for one contiguous buffer that changes hands; nothing at all for a device that snoops.
 *
 * That of arm64 in Linux 6.1: for the device a clean, whatever the direction; for the CPU an invalidate, unless the device only
 * read. A line at an end of the buffer that the buffer covers only in part is cleaned before it is dropped, so that what lies
 * beside it is not lost.
 *
 * Inaccuracies: such a partial line costs a barrier of its own.
 *
 * @see Linux 6.1 `arch/arm64/mm/dma-mapping.c` arch_sync_dma_for_device, arch_sync_dma_for_cpu
 */
import type { PhysAddr } from '../base/addr.ts';
import { alignDown, alignUp } from '../base/units.ts';
import { type DmaDirection, deviceWrites } from './direction.ts';
import type { DmaMaster } from './dma-ops.ts';

/** @internal The device is about to own `[phys, phys + sizeBytes)`. @throws {HazardError} `*-write.lost`; the clean is done. */
export function archSyncForDevice(dev: DmaMaster, phys: PhysAddr, sizeBytes: number): void {
  if (!dev.coherent) dev.coherency.clean(phys, sizeBytes);
}

/** @internal The CPU is about to own `[phys, phys + sizeBytes)`. @throws {HazardError} `*-write.lost`; the invalidate is done. */
export function archSyncForCpu(dev: DmaMaster, phys: PhysAddr, sizeBytes: number, dir: DmaDirection): void {
  if (dev.coherent || !deviceWrites(dir)) return;
  const { coherency } = dev;
  const { lineBytes } = coherency.cache;
  const end = phys + sizeBytes;
  const from = alignUp(phys, lineBytes);
  const to = alignDown(end, lineBytes);
  if (from > phys) coherency.cleanInvalidate(phys, 1);
  if (to > from) coherency.invalidate(from as PhysAddr, to - from);
  if (to < end && to >= from) coherency.cleanInvalidate(to as PhysAddr, end - to);
}
