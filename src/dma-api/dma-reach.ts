/**
 * How far a device reaches by its address lines and its bus, without an IOMMU: pure questions, asked of masks in bits.
 *
 * Inaccuracies: the DMA zone ends at 24 bits, as on x86; arm64 computes its end from the device tree.
 *
 * @see Linux 6.1 `include/linux/dma-direct.h` dma_capable; `kernel/dma/direct.c` dma_direct_supported
 */
import { PAGE_SIZE } from '../base/addr.ts';
import type { PhysMemory } from '../mem/phys-memory.ts';
import type { DmaMaster } from './dma-ops.ts';
import { physToBus } from './dma-range.ts';

/** @internal Bits up to the end of the zone that every device is expected to reach. */
export const DMA_ZONE_BITS = 24;

/** The last address of each mask: asked for every extent of a list, and much faster than a power. */
const LAST_OF_MASK = Float64Array.from({ length: 65 }, (_, bits) => 2 ** bits - 1);

/** @internal What limits a device. */
export type ReachingDevice = Pick<DmaMaster, 'busDmaLimit' | 'dmaRanges' | 'coherency'>;

/**
 * @internal The last address that a device with a mask of `maskBits` reaches behind its bus; of the two limits, one that is 0 was
 * never set.
 *
 * @see Linux 6.1 `include/linux/minmax.h` min_not_zero
 */
export function lastReached(maskBits: number, busDmaLimit: number): number {
  if (maskBits === 0) return busDmaLimit;
  const last = lastOfMask(maskBits);
  return busDmaLimit === 0 ? last : Math.min(last, busDmaLimit);
}

/** @internal Whether `[address, address + sizeBytes)` ends at or below `last`; -1 is no address. */
export function reaches(last: number, address: number, sizeBytes: number): boolean {
  return address >= 0 && address + sizeBytes - 1 <= last;
}

/** @internal Whether a mask can be set: it reaches the end of the DMA zone, or of memory if that comes first, as the bus shows it. */
export function isMaskSupported(dev: ReachingDevice, maskBits: number): boolean {
  if (maskBits >= 32) return true;
  const end = Math.min(lastPage(dev.coherency.memory), lastOfMask(DMA_ZONE_BITS));
  const address = physToBus(dev.dmaRanges, end);
  return address >= 0 && lastOfMask(maskBits) >= address;
}

/** @internal Bits of a mask that reaches all memory as the bus shows it; 64 when the bus does not show its end. */
export function bitsForAllMemory(dev: ReachingDevice): number {
  const address = physToBus(dev.dmaRanges, lastPage(dev.coherency.memory));
  return address < 0 ? 64 : Math.floor(Math.log2(Math.max(address, 1))) + 1;
}

/**
 * @internal Whether a device with a mask of `maskBits` cannot reach what a mask of `requiredBits` does.
 *
 * @see Linux 6.1 `kernel/dma/mapping.c` dma_addressing_limited
 */
export function isAddressingLimited(maskBits: number, busDmaLimit: number, requiredBits: number): boolean {
  return lastReached(maskBits, busDmaLimit) < lastOfMask(requiredBits);
}

/** 2^bits - 1; from 54 bits on a double rounds it up to 2^bits, on both sides of every comparison. */
function lastOfMask(bits: number): number {
  return LAST_OF_MASK[bits] as number;
}

/** First byte of the last page of RAM. */
function lastPage(memory: PhysMemory): number {
  let end = 0;
  for (const region of memory.regions) if (region.kind === 'ram') end = Math.max(end, region.end);
  return Math.max(0, end - PAGE_SIZE);
}
