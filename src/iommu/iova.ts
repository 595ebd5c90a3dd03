/**
 * The allocator of IO virtual addresses: which pages of a domain's input space are in use.
 *
 * Policy, with the same addresses as Linux 6.1's tree (its per-CPU caches are in `iova-rcache.ts`):
 * 1. Top down: the highest free place below the limit, aligned to the size rounded up to a power of two.
 * 2. The search starts at the last place handed out (one such place for limits within the low 4 GiB, one for higher ones); only
 *    when nothing is found below it, the part above is searched from the limit down. Freeing a range above moves the start up to it.
 * 3. After a failure for `n` pages, requests of `n` pages or more within the low 4 GiB fail at once until a range there is freed.
 *
 * Linux walks its tree range by range; so does the cost of a real allocation. Here parts of the space that can not serve are passed
 * by (`iova-tree.ts`), and {@link IovaAllocator.rangesPassed} tells how many ranges the walk would have passed.
 *
 * @see Linux 6.1 `drivers/iommu/iova.c` __alloc_and_insert_iova_range
 */
import { assert } from '../base/assert.ts';
import { ErrnoError } from '../base/errors.ts';
import type { IovaBlock } from './iova-block.ts';
import { ANCHOR, IovaTree } from './iova-tree.ts';

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

/** Ranges in use of one IOVA space. Plain: never waits, charges nothing. Page numbers are those of the IOVA space, not of memory. */
export class IovaAllocator {
  readonly startPfn: number;
  readonly dma32EndPfn: number;
  readonly #tree: IovaTree;
  /** First pages of the ranges at which a search starts. */
  #cached32 = ANCHOR;
  #cached = ANCHOR;
  #failed32: number;

  /** @throws {InvariantError} `startPfn` or `dma32EndPfn` is no page number. */
  constructor(options: IovaAllocatorOptions = {}) {
    this.startPfn = options.startPfn ?? 1;
    this.dma32EndPfn = options.dma32EndPfn ?? 2 ** 20;
    assert(isPage(this.startPfn), 'IovaAllocator: startPfn %s is no page number', this.startPfn);
    assert(isPage(this.dma32EndPfn), 'IovaAllocator: dma32EndPfn %s is no page number', this.dma32EndPfn);
    this.#failed32 = this.dma32EndPfn;
    this.#tree = new IovaTree();
  }

  /** Ranges that Linux's tree walk would have passed during the last allocation: what its cost is proportional to. */
  get rangesPassed(): number {
    return this.#tree.rangesPassed;
  }

  /** @internal An allocation that passed none: a cache had a range. */
  passedNone(): void {
    this.#tree.rangesPassed = 0;
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
    const tree = this.#tree;
    const limit = limitPfn + 1;
    const is32 = limit <= this.dma32EndPfn;
    tree.rangesPassed = 0;
    if (is32 && pageCount >= this.#failed32) return -1;
    const align = pageCount <= 2 ** 31 ? 2 ** (32 - Math.clz32(pageCount - 1)) : 2 ** Math.ceil(Math.log2(pageCount));
    const from = is32 ? this.#cached32 : this.#cached;
    let first = tree.search(from, pageCount, align, limit, this.startPfn);
    if (first < 0) {
      const above = this.#lastOf(from) + 1;
      if (above <= limit) first = tree.search(this.#firstFrom(limit), pageCount, align, limit, above);
      if (first < 0) {
        this.#failed32 = pageCount;
        return -1;
      }
    }
    tree.insertHere(first, first + pageCount - 1, false);
    if (first + pageCount - 1 < this.dma32EndPfn) this.#cached32 = first;
    else this.#cached = first;
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
    const tree = this.#tree;
    tree.locate(firstPfn);
    const { block, index } = tree;
    assert(
      index >= 0 && block.lo[index] === firstPfn && block.reserved[index] === 0,
      'free_iova: no allocated range begins at page %s',
      firstPfn,
    );
    const lastPfn = block.hi[index] as number;
    const next = block.firstAbove(index, ANCHOR);
    const isLow = lastPfn < this.dma32EndPfn;
    if (firstPfn === this.#cached32 || (isLow && firstPfn >= this.#cached32)) this.#cached32 = next;
    if (firstPfn >= this.#cached) this.#cached = next;
    if (firstPfn < this.dma32EndPfn) this.#failed32 = this.dma32EndPfn;
    tree.removeHere();
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
    const tree = this.#tree;
    let page = firstPfn;
    while (page <= lastPfn) {
      tree.locate(page);
      const { block, index } = tree;
      if (index >= 0 && (block.hi[index] as number) >= page) {
        page = (block.hi[index] as number) + 1;
        continue;
      }
      const end = Math.min(lastPfn, block.firstAbove(index, ANCHOR) - 1);
      tree.index = index + 1;
      tree.insertHere(page, end, true);
      page = end + 1;
    }
  }

  /** True when `pfn` lies in a range in use or reserved. */
  isUsed(pfn: number): boolean {
    this.#tree.locate(pfn);
    const { block, index } = this.#tree;
    return index >= 0 && (block.hi[index] as number) >= pfn;
  }

  /** Pages of the range that was allocated and begins at `firstPfn`; 0: there is none. */
  pagesAt(firstPfn: number): number {
    this.#tree.locate(firstPfn);
    const { block, index } = this.#tree;
    if (index < 0 || block.lo[index] !== firstPfn || block.reserved[index] !== 0) return 0;
    return (block.hi[index] as number) - firstPfn + 1;
  }

  /** All ranges, ascending. */
  *ranges(): IterableIterator<IovaRange> {
    for (let block: IovaBlock | null = this.#tree.first; block !== null; block = block.next) {
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

  /** Last page of the range that begins at `firstPfn`. */
  #lastOf(firstPfn: number): number {
    this.#tree.locate(firstPfn);
    const { block, index } = this.#tree;
    return block.hi[index] as number;
  }

  /** First page of the lowest range that begins at or above `limit`; the search below `limit` starts there. */
  #firstFrom(limit: number): number {
    if (limit > this.dma32EndPfn) return ANCHOR;
    this.#tree.locate(limit - 1);
    const { block, index } = this.#tree;
    return block.firstAbove(index, ANCHOR);
  }
}

function isPage(pfn: number): boolean {
  return Number.isSafeInteger(pfn) && pfn >= 0 && pfn < ANCHOR;
}
