/**
 * Where a bus sees memory: a device behind it must be given bus addresses.
 *
 * @see Linux 6.1 `include/linux/dma-direct.h` struct bus_dma_region; Devicetree specification, 2.3.9 "dma-ranges"
 */
import type { DmaAddr, PhysAddr } from '../base/addr.ts';
import { assert } from '../base/assert.ts';

/** One window of a bus on to memory, in bytes. */
export interface DmaRange {
  readonly cpuStart: PhysAddr;
  readonly dmaStart: DmaAddr;
  readonly sizeBytes: number;
}

/** @internal @throws {InvariantError} a window is empty, or a number of it is no whole one in range; the text names it. */
export function checkDmaRanges(ranges: readonly DmaRange[]): readonly DmaRange[] {
  for (const [i, { cpuStart, dmaStart, sizeBytes }] of ranges.entries()) {
    const isRange = [cpuStart, dmaStart].every((start) => Number.isSafeInteger(start) && start >= 0);
    const isSize = Number.isSafeInteger(sizeBytes) && sizeBytes > 0;
    assert(isRange && isSize, 'dmaRanges[%s]: %s bytes from %s at %s are no window', i, sizeBytes, cpuStart, dmaStart);
  }
  return ranges;
}

/** @internal Physical address as the bus sees it, or -1: no window shows it. An empty list shows everything as it is. */
export function physToBus(ranges: readonly DmaRange[], phys: number): number {
  if (ranges.length === 0) return phys;
  for (const { cpuStart, dmaStart, sizeBytes } of ranges) {
    const offset = phys - cpuStart;
    if (offset >= 0 && offset < sizeBytes) return dmaStart + offset;
  }
  return -1;
}

/** @internal Bus address as memory sees it, or -1. */
export function busToPhys(ranges: readonly DmaRange[], address: number): number {
  if (ranges.length === 0) return address;
  for (const { cpuStart, dmaStart, sizeBytes } of ranges) {
    const offset = address - dmaStart;
    if (offset >= 0 && offset < sizeBytes) return cpuStart + offset;
  }
  return -1;
}

/** @internal Bytes from bus address `address` to the end of its window. */
export function bytesInRange(ranges: readonly DmaRange[], address: number): number {
  for (const { dmaStart, sizeBytes } of ranges) {
    const offset = address - dmaStart;
    if (offset >= 0 && offset < sizeBytes) return sizeBytes - offset;
  }
  return 2 ** 52 - address;
}
