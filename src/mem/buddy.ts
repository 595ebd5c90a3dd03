/**
 * The buddy allocator of one zone. Rules:
 * 1. A request for 2^k pages takes the first block of the smallest order >= k that has one.
 * 2. A larger block is halved until it fits; the lower half goes on, the upper half is put first in its list.
 * 3. A freed block joins its buddy (the other half of the block twice as large) as long as that is free and whole; the
 *    result is put first in its list. So everything freed means: the same set of blocks as at the start.
 * 4. At the start the lists are in ascending order: the first pages handed out are the lowest.
 * 5. With `reuse: 'recent'` a request for up to 8 pages is first served with the frames of that size freed last, if they
 *    are still free, as the kernel's per-CPU lists would; they stay in the buddy lists meanwhile, so counts are exact.
 *
 * Inaccuracies: no migrate types, no page blocks, no compaction.
 *
 * @see Linux 6.1 `mm/page_alloc.c` __rmqueue_smallest, expand, __free_one_page, rmqueue_pcplist;
 * Knuth, The Art of Computer Programming, vol. 1, section 2.5, buddy system
 */
import { FreeLists } from './free-lists.ts';
import type { FrameRange } from './memblock.ts';
import { MAX_PAGE_ORDER, type ZoneName } from './zone.ts';

/** Largest order of which freed frames are remembered. @see Linux 6.1 `include/linux/mmzone.h` PAGE_ALLOC_COSTLY_ORDER */
const RECENT_MAX_ORDER = 3;
/** Freed blocks remembered for each order. */
const RECENT_DEPTH = 64;

/**
 * Free frames of one zone. Knows nothing of owners.
 *
 * @internal
 */
export class Buddy {
  readonly name: ZoneName;
  /** First frame of the zone and first after it; holes may lie between. */
  readonly firstFrame: number;
  readonly endFrame: number;
  readonly #lists: FreeLists;
  /** For each order up to {@link RECENT_MAX_ORDER} the blocks freed last, newest at the end. */
  readonly #recent: number[][] | undefined;

  /** @param ranges - ascending, at least one. */
  constructor(name: ZoneName, ranges: readonly FrameRange[], remembersFreed: boolean) {
    this.name = name;
    this.firstFrame = Math.min(...ranges.map((range) => range.first));
    this.endFrame = Math.max(...ranges.map((range) => range.first + range.count));
    this.#lists = new FreeLists(this.firstFrame, this.endFrame);
    this.#recent = remembersFreed ? Array.from({ length: RECENT_MAX_ORDER + 1 }, () => []) : undefined;
    for (const range of ranges) this.#addBlocks(range.first - this.#lists.baseFrame, range.count, true);
  }

  get freePages(): number {
    return this.#lists.freePages;
  }

  /** Free blocks of `order`. */
  countOf(order: number): number {
    return this.#lists.countOf(order);
  }

  /** Pages of the largest free block, 0 if none. */
  largestBlock(): number {
    for (let order = MAX_PAGE_ORDER; order >= 0; order--) if (this.#lists.countOf(order) > 0) return 1 << order;
    return 0;
  }

  /** Takes `pageCount` frames that start at a multiple of the next power of two; -1 if there are none. */
  take(pageCount: number): number {
    const order = orderFor(pageCount);
    const again = this.#takeRecent(order, pageCount);
    if (again >= 0) return again;
    const lists = this.#lists;
    let from = order;
    while (from <= MAX_PAGE_ORDER && lists.headOf(from) < 0) from++;
    if (from > MAX_PAGE_ORDER) return -1;
    const index = lists.headOf(from);
    lists.remove(index, from);
    while (from > order) lists.add(index + (1 << --from), from, false);
    this.#addBlocks(index + pageCount, (1 << order) - pageCount, false);
    return index + lists.baseFrame;
  }

  /** Whether all of the frames [first, first + count) are free. */
  isFree(first: number, count: number): boolean {
    if (first < this.firstFrame || first + count > this.endFrame) return false;
    const lists = this.#lists;
    for (let index = first - lists.baseFrame; index < first - lists.baseFrame + count; ) {
      const start = lists.containing(index);
      if (start < 0) return false;
      index = start + (1 << lists.orderAt(start));
    }
    return true;
  }

  /** Takes exactly the frames [first, first + count), which must be free. */
  takeAt(first: number, count: number): void {
    const lists = this.#lists;
    const from = first - lists.baseFrame;
    const end = from + count;
    for (let index = from; index < end; ) {
      const start = lists.containing(index);
      const order = lists.orderAt(start);
      const stop = start + (1 << order);
      lists.remove(start, order);
      this.#addBlocks(start, index - start, false);
      this.#addBlocks(end, stop - end, false);
      index = stop;
    }
  }

  /** Takes frames back and joins them with free buddies. */
  give(first: number, count: number): void {
    const start = first - this.#lists.baseFrame;
    for (let index = start, left = count; left > 0; ) {
      const order = alignedOrder(index, left);
      this.#join(index, order);
      index += 1 << order;
      left -= 1 << order;
    }
    this.#remember(start, count);
  }

  /** The free blocks, ascending. */
  freeBlocks(): readonly FrameRange[] {
    const blocks: FrameRange[] = [];
    this.#lists.eachAscending((index, order) => {
      blocks.push({ first: index + this.#lists.baseFrame, count: 1 << order });
    });
    return blocks;
  }

  #join(start: number, startOrder: number): void {
    const lists = this.#lists;
    let index = start;
    let order = startOrder;
    for (; order < MAX_PAGE_ORDER; order++) {
      const buddy = index ^ (1 << order);
      if (lists.orderAt(buddy) !== order) break;
      lists.remove(buddy, order);
      index = Math.min(index, buddy);
    }
    lists.add(index, order, false);
  }

  /** Adds free frames that have no free buddy, in the fewest aligned blocks. */
  #addBlocks(start: number, count: number, atTail: boolean): void {
    for (let index = start, left = count; left > 0; ) {
      const order = alignedOrder(index, left);
      this.#lists.add(index, order, atTail);
      index += 1 << order;
      left -= 1 << order;
    }
  }

  #remember(start: number, count: number): void {
    const order = orderFor(count);
    const stack = count === 1 << order ? this.#recent?.[order] : undefined;
    if (stack === undefined) return;
    if (stack.length === RECENT_DEPTH) stack.shift();
    stack.push(start);
  }

  #takeRecent(order: number, pageCount: number): number {
    const stack = pageCount === 1 << order ? this.#recent?.[order] : undefined;
    for (let start = stack?.pop(); start !== undefined; start = stack?.pop()) {
      const first = start + this.#lists.baseFrame;
      if (!this.isFree(first, pageCount)) continue;
      this.takeAt(first, pageCount);
      return first;
    }
    return -1;
  }
}

/** The smallest order with at least `pageCount` (> 0, below 2^31) pages. @internal */
export function orderFor(pageCount: number): number {
  return 32 - Math.clz32(pageCount - 1);
}

/** The order of the largest block that starts at `index` and has at most `limit` (> 0) frames. */
function alignedOrder(index: number, limit: number): number {
  const byLength = 31 - Math.clz32(limit);
  const byAddress = index === 0 ? MAX_PAGE_ORDER : 31 - Math.clz32(index & -index);
  return Math.min(byLength, byAddress, MAX_PAGE_ORDER);
}
