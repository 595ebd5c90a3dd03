/**
 * Zones: RAM divided by how far a device has to reach to use it.
 *
 * | zone | frames |
 * |---|---|
 * | `DMA` | below 16 MiB |
 * | `DMA32` | below 4 GiB |
 * | `NORMAL` | the rest |
 * | `MOVABLE` | the top of RAM, as much as asked for; only for memory that could be moved |
 *
 * Every zone border is a multiple of the largest buddy block (4 MiB), so no block lies in two zones.
 *
 * Inaccuracies: no watermarks and no `lowmem_reserve`, so a request may use up the last page of a lower zone; one node.
 *
 * @see Linux 6.1 `include/linux/mmzone.h` enum zone_type; `Documentation/admin-guide/kernel-parameters.txt` movablecore
 */
import { PAGE_SIZE } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import { alignUp, GIB, MIB } from '../base/units.ts';
import type { FrameRange } from './memblock.ts';

/** Largest order of a buddy block: 2^10 pages, 4 MiB. @see Linux 6.1 `include/linux/mmzone.h` MAX_ORDER */
export const MAX_PAGE_ORDER = 10;
/** Pages in the largest buddy block: the most that one contiguous allocation of pages can have. */
export const MAX_BLOCK_PAGES = 2 ** MAX_PAGE_ORDER;

/** A zone, lowest first in the order of the table above. */
export type ZoneName = 'DMA' | 'DMA32' | 'NORMAL' | 'MOVABLE';

/** Where zones end; sizes in bytes, multiples of 4 MiB. */
export interface ZoneLimits {
  /** First byte after `DMA`; default 16 MiB. */
  readonly dmaEnd?: number;
  /** First byte after `DMA32`; default 4 GiB. */
  readonly dma32End?: number;
  /** RAM to put into `MOVABLE`, from the top; its start is rounded up to 4 MiB. Default 0: no such zone. */
  readonly movableBytes?: number;
}

/** The frames of one zone. @internal */
export interface ZoneFrames {
  readonly name: ZoneName;
  readonly ranges: readonly FrameRange[];
}

/**
 * The zones a request may take from, in the order they are tried: `highest`, then downwards.
 *
 * @see Linux 6.1 `mm/page_alloc.c` build_zonelists; `Documentation/admin-guide/mm/numaperf.rst`
 */
export function zonelist(highest: ZoneName): readonly ZoneName[] {
  switch (highest) {
    case 'MOVABLE':
      return ['MOVABLE', 'NORMAL', 'DMA32', 'DMA'];
    case 'NORMAL':
      return ['NORMAL', 'DMA32', 'DMA'];
    case 'DMA32':
      return ['DMA32', 'DMA'];
    case 'DMA':
      return ['DMA'];
  }
}

/**
 * Divides `ranges` (ascending) into zones, lowest first, empty zones left out.
 *
 * @throws {InvariantError} a limit is no multiple of 4 MiB or out of order, or `movableBytes` is more than the highest
 * zone has.
 * @internal
 */
export function divideIntoZones(ranges: readonly FrameRange[], limits: ZoneLimits): readonly ZoneFrames[] {
  const { dmaEnd = 16 * MIB, dma32End = 4 * GIB, movableBytes = 0 } = limits;
  const first = blockFrames('dmaEnd', dmaEnd);
  const second = blockFrames('dma32End', dma32End);
  assert(first <= second, 'zones: dmaEnd %s lies above dma32End %s', dmaEnd, dma32End);
  const lower: ZoneFrames[] = [
    { name: 'DMA', ranges: cut(ranges, 0, first) },
    { name: 'DMA32', ranges: cut(ranges, first, second) },
    { name: 'NORMAL', ranges: cut(ranges, second, Number.POSITIVE_INFINITY) },
  ];
  const zones = lower.filter((zone) => zone.ranges.length > 0);
  if (movableBytes === 0) return zones;
  assert(Number.isSafeInteger(movableBytes) && movableBytes > 0, 'zones: movableBytes %s is no size', movableBytes);
  const highest = zones.pop();
  const start = movableStart(highest?.ranges ?? [], Math.ceil(movableBytes / PAGE_SIZE));
  assert(highest !== undefined && start !== undefined, 'zones: movableBytes %s exceeds the highest zone', movableBytes);
  const divided: ZoneFrames[] = [
    { name: highest.name, ranges: cut(highest.ranges, 0, start) },
    { name: 'MOVABLE', ranges: cut(highest.ranges, start, Number.POSITIVE_INFINITY) },
  ];
  return [...zones, ...divided.filter((zone) => zone.ranges.length > 0)];
}

function blockFrames(argument: string, bytes: number): number {
  const frames = bytes / PAGE_SIZE;
  assert(
    Number.isSafeInteger(frames) && frames >= 0 && frames % MAX_BLOCK_PAGES === 0,
    'zones: %s %s is no multiple of 4 MiB',
    argument,
    bytes,
  );
  return frames;
}

/** The frame from which on `ranges` have about `pageCount` pages, on a block border; `undefined`: they have fewer. */
function movableStart(ranges: readonly FrameRange[], pageCount: number): number | undefined {
  let missing = pageCount;
  for (const { first, count } of ranges.toReversed()) {
    if (count >= missing) return alignUp(first + count - missing, MAX_BLOCK_PAGES);
    missing -= count;
  }
  return undefined;
}

function cut(ranges: readonly FrameRange[], from: number, to: number): readonly FrameRange[] {
  return ranges
    .map(({ first, count }) => ({ first: Math.max(first, from), end: Math.min(first + count, to) }))
    .filter(({ first, end }) => end > first)
    .map(({ first, end }) => ({ first, count: end - first }));
}
