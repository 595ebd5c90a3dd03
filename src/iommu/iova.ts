/**
 * The allocator of IO virtual addresses: which pages of a domain's input space are in use.
 *
 * Policy, with the same addresses as Linux 6.1's tree (without its per-CPU caches):
 * 1. Top down: the highest free place below the limit, aligned to the size rounded up to a power of two.
 * 2. The search starts at the last place handed out (one such place for limits within the low 4 GiB, one for higher ones); only
 *    when nothing is found below it, the part above is searched from the limit down. Freeing a range above moves the start up to it.
 * 3. After a failure for `n` pages, requests of `n` pages or more within the low 4 GiB fail at once until a range there is freed.
 *
 * Linux walks its tree range by range; so does the cost of a real allocation. Here blocks of ranges with their largest gap are
 * skipped, and {@link IovaAllocator.rangesPassed} tells how many ranges the walk would have passed.
 *
 * @see Linux 6.1 `drivers/iommu/iova.c` __alloc_and_insert_iova_range
 */
import { assert } from '../base/assert.ts';
import { ErrnoError } from '../base/errors.ts';
import { BLOCK_RANGES, IovaBlock } from './iova-block.ts';

/** How to make an {@link IovaAllocator}. Pages are of the domain's smallest size. */
export interface IovaAllocatorOptions {
  /** Lowest page ever handed out; default 1, so that address 0 stays unused. */
  readonly startPfn?: number;
  /** First page above the low 4 GiB; default 2^20, for pages of 4 KiB. */
  readonly dma32EndPfn?: number;
}

/** A range in use, in pages, both ends included. */
export interface IovaRange {
  readonly firstPfn: number;
  readonly lastPfn: number;
  readonly reserved: boolean;
}

/** Stands above the space: no limit reaches it, it is never freed. */
const ANCHOR = 2 ** 52;

/** Ranges in use of one IOVA space. Plain: never waits, charges nothing. Page numbers are those of the IOVA space, not of memory. */
export class IovaAllocator {
  /** Ranges that Linux's tree walk would have passed during the last allocation: what its cost is proportional to. */
  rangesPassed = 0;
  readonly startPfn: number;
  readonly dma32EndPfn: number;
  private readonly blocks: IovaBlock[] = [new IovaBlock()];
  /** First pages of the ranges at which a search starts. */
  private cached32 = ANCHOR;
  private cached = ANCHOR;
  private failed32: number;
  private foundBlock = 0;
  private foundIndex = 0;

  /** @throws {InvariantError} `startPfn` or `dma32EndPfn` is no page number. */
  constructor(options: IovaAllocatorOptions = {}) {
    this.startPfn = options.startPfn ?? 1;
    this.dma32EndPfn = options.dma32EndPfn ?? 2 ** 20;
    assert(isPage(this.startPfn), 'IovaAllocator: startPfn %s is no page number', this.startPfn);
    assert(isPage(this.dma32EndPfn), 'IovaAllocator: dma32EndPfn %s is no page number', this.dma32EndPfn);
    this.failed32 = this.dma32EndPfn;
    this.blockAt(0).insert(0, ANCHOR, ANCHOR, true);
    this.measure(0);
  }

  /**
   * Takes `pageCount` pages at or below page `limitPfn`, by the policy at the head of this file.
   *
   * @returns the first page.
   * @throws {ErrnoError} `ENOMEM` nothing fits (retry after a free); names the largest free run.
   * @throws {InvariantError} `pageCount` or `limitPfn` is no whole number above 0.
   * @see Linux 6.1 `drivers/iommu/iova.c` alloc_iova
   */
  alloc(pageCount: number, limitPfn: number): number {
    const first = this.tryAlloc(pageCount, limitPfn);
    if (first >= 0) return first;
    const free = this.largestFree(limitPfn);
    throw new ErrnoError(
      'ENOMEM',
      'alloc_iova',
      `no ${pageCount} aligned pages at or below page ${limitPfn}; the largest free run has ${free} pages`,
    );
  }

  /** As {@link alloc}, but answers -1 instead of throwing `ENOMEM`: for a first attempt below 4 GiB. */
  tryAlloc(pageCount: number, limitPfn: number): number {
    assert(
      Number.isSafeInteger(pageCount) && pageCount > 0,
      'alloc_iova: pageCount %s is no whole number above 0',
      pageCount,
    );
    assert(isPage(limitPfn), 'alloc_iova: limitPfn %s is no page number', limitPfn);
    const limit = limitPfn + 1;
    const is32 = limit <= this.dma32EndPfn;
    this.rangesPassed = 0;
    if (is32 && pageCount >= this.failed32) return -1;
    const from = is32 ? this.cached32 : this.cached;
    let first = this.search(from, pageCount, limit, this.startPfn);
    if (first < 0) {
      const above = this.lastOf(from) + 1;
      if (above <= limit) first = this.search(this.firstFrom(limit), pageCount, limit, above);
      if (first < 0) {
        this.failed32 = pageCount;
        return -1;
      }
    }
    this.insert(this.foundBlock, this.foundIndex, first, first + pageCount - 1, false);
    if (first + pageCount - 1 < this.dma32EndPfn) this.cached32 = first;
    else this.cached = first;
    return first;
  }

  /**
   * Gives back the range that begins at `firstPfn`; it joins its free neighbours.
   *
   * @returns pages freed.
   * @throws {InvariantError} no allocated range begins there.
   * @see Linux 6.1 `drivers/iommu/iova.c` free_iova
   */
  free(firstPfn: number): number {
    const at = this.blockOf(firstPfn);
    const block = this.blockAt(at);
    const index = block.indexOf(firstPfn);
    assert(
      index >= 0 && block.lo[index] === firstPfn && block.reserved[index] === 0,
      'free_iova: no allocated range begins at page %s',
      firstPfn,
    );
    const lastPfn = block.hi[index] as number;
    const next = index + 1 < block.count ? (block.lo[index + 1] as number) : (this.blocks[at + 1]?.lo[0] ?? ANCHOR);
    const isLow = lastPfn < this.dma32EndPfn;
    if (firstPfn === this.cached32 || (isLow && firstPfn >= this.cached32)) this.cached32 = next;
    if (firstPfn >= this.cached) this.cached = next;
    if (firstPfn < this.dma32EndPfn) this.failed32 = this.dma32EndPfn;
    block.remove(index);
    if (block.count === 0) {
      this.blocks.splice(at, 1);
      this.measure(at);
    } else {
      this.measure(at);
      if (index === block.count) this.measure(at + 1);
    }
    return lastPfn - firstPfn + 1;
  }

  /**
   * Takes pages `firstPfn` to `lastPfn` out of the space for good; parts already in use stay as they are.
   *
   * @throws {InvariantError} not `0 <= firstPfn <= lastPfn`.
   * @see Linux 6.1 `drivers/iommu/iova.c` reserve_iova
   */
  reserve(firstPfn: number, lastPfn: number): void {
    assert(
      isPage(firstPfn) && isPage(lastPfn) && firstPfn <= lastPfn,
      'reserve_iova: no range: %s to %s',
      firstPfn,
      lastPfn,
    );
    let page = firstPfn;
    while (page <= lastPfn) {
      const at = this.blockOf(page);
      const block = this.blockAt(at);
      const index = block.indexOf(page);
      if (index >= 0 && (block.hi[index] as number) >= page) {
        page = (block.hi[index] as number) + 1;
        continue;
      }
      const next = index + 1 < block.count ? (block.lo[index + 1] as number) : (this.blocks[at + 1]?.lo[0] ?? ANCHOR);
      const end = Math.min(lastPfn, next - 1);
      this.insert(at, index + 1, page, end, true);
      page = end + 1;
    }
  }

  /** True when `pfn` lies in a range in use or reserved. */
  isUsed(pfn: number): boolean {
    const block = this.blockAt(this.blockOf(pfn));
    const index = block.indexOf(pfn);
    return index >= 0 && (block.hi[index] as number) >= pfn;
  }

  /** All ranges, ascending. */
  *ranges(): IterableIterator<IovaRange> {
    for (const block of this.blocks) {
      for (let i = 0; i < block.count; i++) {
        const firstPfn = block.lo[i] as number;
        if (firstPfn === ANCHOR) return;
        yield { firstPfn, lastPfn: block.hi[i] as number, reserved: block.reserved[i] === 1 };
      }
    }
  }

  /** Pages of the largest free run at or below page `limitPfn`. */
  largestFree(limitPfn: number): number {
    let from = this.startPfn;
    let largest = 0;
    for (const range of this.ranges()) {
      largest = Math.max(largest, Math.min(range.firstPfn, limitPfn + 1) - from);
      from = Math.max(from, range.lastPfn + 1);
    }
    return Math.max(largest, limitPfn + 1 - from);
  }

  /**
   * The highest aligned place for `size` pages below `limit` and not below `low`, at or under the range that begins at `from`.
   * Leaves where the new range has to be inserted in `foundBlock` and `foundIndex`. @returns -1 if there is none.
   */
  private search(from: number, size: number, limit: number, low: number): number {
    const align = size <= 2 ** 31 ? 2 ** (32 - Math.clz32(size - 1)) : 2 ** Math.ceil(Math.log2(size));
    let at = this.blockOf(from);
    let index = this.blockAt(at).indexOf(from);
    for (; at >= 0; at--) {
      const block = this.blockAt(at);
      if (index < 0) index = block.count - 1;
      if (block.gap < size) {
        this.rangesPassed += index + 1;
        if ((block.lo[0] as number) < low) return -1;
        index = -1;
        continue;
      }
      for (; index >= 0; index--) {
        this.rangesPassed++;
        const start = block.lo[index] as number;
        const last = (start < limit ? start : limit) - size;
        const place = last - (last % align);
        if (last < low || place < low) return -1;
        const below = index > 0 ? (block.hi[index - 1] as number) : this.lastBelow(at);
        if (place <= below) continue;
        this.foundBlock = at;
        this.foundIndex = index;
        return place;
      }
    }
    return -1;
  }

  private insert(at: number, index: number, lo: number, hi: number, reserved: boolean): void {
    const block = this.blockAt(at);
    block.insert(index, lo, hi, reserved);
    if (block.count > BLOCK_RANGES) {
      this.blocks.splice(at + 1, 0, block.split());
      this.measure(at + 2);
    }
    this.measure(at);
    this.measure(at + 1);
  }

  private measure(at: number): void {
    this.blocks[at]?.measure(at > 0 ? this.lastBelow(at) : this.startPfn - 1);
  }

  private blockAt(at: number): IovaBlock {
    return this.blocks[at] as IovaBlock;
  }

  /** Last page in use in front of block `at`, or -1. */
  private lastBelow(at: number): number {
    return at > 0 ? this.blockAt(at - 1).lastPage() : -1;
  }

  /** Block that `page` lies in or would be inserted into. */
  private blockOf(page: number): number {
    const { blocks } = this;
    let low = 0;
    let high = blocks.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (((blocks[middle] as IovaBlock).lo[0] as number) <= page) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** Last page of the range that begins at `firstPfn`. */
  private lastOf(firstPfn: number): number {
    const block = this.blockAt(this.blockOf(firstPfn));
    return block.hi[block.indexOf(firstPfn)] as number;
  }

  /** First page of the lowest range that begins at or above `limit`; the search below `limit` starts there. */
  private firstFrom(limit: number): number {
    if (limit > this.dma32EndPfn) return ANCHOR;
    const at = this.blockOf(limit - 1);
    const block = this.blockAt(at);
    const index = block.indexOf(limit - 1);
    if (index + 1 < block.count) return block.lo[index + 1] as number;
    return this.blocks[at + 1]?.lo[0] ?? ANCHOR;
  }
}

function isPage(pfn: number): boolean {
  return Number.isSafeInteger(pfn) && pfn >= 0 && pfn < ANCHOR;
}
