/**
 * Who else may see an allocation: a process, by a mapping; another device, by a table.
 *
 * @see Linux 6.1 `kernel/dma/mapping.c` dma_mmap_attrs, dma_get_sgtable_attrs
 */
import { hex, PAGE_SIZE, type PhysAddr } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import { ErrnoError } from '../base/errors.ts';
import { alignUp } from '../base/units.ts';
import type { MemoryAttribute } from '../cache/cpu-port.ts';
import { CpuView } from '../cache/cpu-view.ts';
import type { Device } from './device.ts';
import type { DmaAllocation } from './dma-allocation.ts';
import { checkPresent } from './dma-args.ts';
import { type Extent, SgTable } from './sg-table.ts';

/** What a process may map: the same shape that an exporter's `mmap` gives. */
export interface DmaCpuMapping {
  readonly extents: readonly Extent[];
  readonly attribute: MemoryAttribute;
}

/** Which pages of an allocation. */
export interface DmaMmapRange {
  /** First page; default 0. */
  readonly pageOffset?: number;
  /** Default: to the end. */
  readonly sizeBytes?: number;
}

/**
 * What a process maps of `allocation`, of the same memory type as the kernel's mapping, also if there is none. Plain.
 *
 * @throws {ErrnoError} `ENXIO` the range leaves the allocation, or the device's memory can not be mapped (never retry).
 * @throws {InvariantError} it was freed, is another device's, or the range is no whole number of pages or bytes.
 * @see Linux 6.1 `kernel/dma/mapping.c` dma_mmap_attrs, dma_mmap_pages, dma_mmap_noncontiguous
 */
export function dmaMmap(dev: Device, allocation: DmaAllocation, range: DmaMmapRange = {}): DmaCpuMapping {
  checkLive('dmaMmap', dev, allocation);
  const total = alignUp(allocation.sizeBytes, PAGE_SIZE);
  const { pageOffset = 0 } = range;
  const isPage = Number.isSafeInteger(pageOffset) && pageOffset >= 0;
  assert(isPage, 'dmaMmap: pageOffset %s is no whole number >= 0', pageOffset);
  const start = pageOffset * PAGE_SIZE;
  const { sizeBytes = Math.max(total - start, PAGE_SIZE) } = range;
  const isSize = Number.isSafeInteger(sizeBytes) && sizeBytes > 0;
  assert(isSize, 'dmaMmap: sizeBytes %s is no whole number > 0', sizeBytes);
  const bytes = alignUp(sizeBytes, PAGE_SIZE);
  if (!dev.backEnd.canMmap()) throw new ErrnoError('ENXIO', 'dmaMmap', `${dev.name}: its memory can not be mapped`);
  if (start + bytes > total) {
    const what = `${bytes} bytes from page ${pageOffset} leave the ${total} bytes of the allocation`;
    throw new ErrnoError('ENXIO', 'dmaMmap', what);
  }
  return { extents: cut(allocation.extents, start, bytes), attribute: allocation.attribute };
}

/**
 * A table of the memory of `allocation`, to map it for another device; it belongs to the caller and dies before the allocation. Plain.
 *
 * @throws {ErrnoError} `ENXIO` the memory has no pages (a carve-out of the device's own): it can not be described so (never retry; export
 * it by its device addresses, or map it with dmaMapResource).
 * @throws {InvariantError} it was freed, or is another device's.
 * @see Linux 6.1 `kernel/dma/mapping.c` dma_get_sgtable_attrs
 */
export function dmaGetSgtable(dev: Device, allocation: DmaAllocation): SgTable {
  checkLive('dmaGetSgtable', dev, allocation);
  const { memory } = dev.coherency;
  for (const { phys } of allocation.extents) {
    if (memory.hasPage(phys)) continue;
    throw new ErrnoError('ENXIO', 'dmaGetSgtable', `${dev.name}: the memory at ${hex(phys)} has no struct page`);
  }
  return new SgTable(cut(allocation.extents, 0, alignUp(allocation.sizeBytes, PAGE_SIZE)));
}

/**
 * A kernel mapping of a noncontiguous allocation, all of it in a row, cached: sync its table when it changes hands. Plain.
 *
 * @throws {InvariantError} it was freed, is another device's, or was made by another call.
 * @see Linux 6.1 `kernel/dma/mapping.c` dma_vmap_noncontiguous
 */
export function dmaVmapNoncontiguous(dev: Device, allocation: DmaAllocation): CpuView {
  checkLive('dmaVmapNoncontiguous', dev, allocation);
  const { cpu, kind } = allocation;
  const isView = kind === 'noncontiguous' && cpu !== null;
  assert(isView, 'dmaVmapNoncontiguous: the allocation was made by %s', allocation.parts.call);
  return new CpuView(dev.coherency, {
    extents: allocation.extents.map(({ phys, length }) => ({ phys, sizeBytes: length })),
    attribute: 'cached',
    accessor: { ...cpu.accessor, via: 'dmaVmapNoncontiguous' },
  });
}

function checkLive(op: string, dev: Device, allocation: DmaAllocation): void {
  checkPresent(op, dev);
  assert(!allocation.freed, '%s: the allocation of %s was freed', op, allocation.device.name);
  assert(allocation.device === dev, '%s: the allocation is of %s, not of %s', op, allocation.device.name, dev.name);
}

/** Bytes [start, start + bytes) of `extents`. */
function cut(extents: readonly Extent[], start: number, bytes: number): Extent[] {
  const found: Extent[] = [];
  let at = 0;
  for (const { phys, length } of extents) {
    const from = Math.max(start, at);
    const to = Math.min(start + bytes, at + length);
    if (from < to) found.push({ phys: (phys + from - at) as PhysAddr, length: to - from });
    at += length;
  }
  return found;
}
