/**
 * The page allocator: hands out frames of RAM, zone by zone.
 *
 * A request names the highest zone it can use; zones below are tried when that one has no room ({@link zonelist}).
 * Everything that is handed out has an owner and stands in the memory's ledger until it comes back. How blocks are
 * divided and joined is told in `buddy.ts`. Pages are not cleared: they hold what their last owner left in them.
 *
 * Inaccuracies: no reclaim and no waiting for memory, no watermarks, one node, no reference counts on pages.
 *
 * @see Linux 6.1 `mm/page_alloc.c`; `Documentation/core-api/memory-allocation.rst`
 */
import { hex, type Pfn, pfn } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import { ErrnoError } from '../base/errors.ts';
import { admit, outOfMemory } from './attempt.ts';
import { Buddy } from './buddy.ts';
import type { AllocationOwner, MemLedger } from './ledger.ts';
import type { FrameRange } from './memblock.ts';
import type { PhysMemory } from './phys-memory.ts';
import { divideIntoZones, MAX_BLOCK_PAGES, MAX_PAGE_ORDER, type ZoneLimits, type ZoneName, zonelist } from './zone.ts';

/** How a {@link PageAllocator} is set up. */
export interface PageAllocatorOptions extends ZoneLimits {
  /**
   * `'recent'` (default): small requests get the frames freed last, as from the kernel's per-CPU lists, so that stale
   * users of freed pages meet the new owner; `'buddy'`: by the buddy lists alone.
   */
  readonly reuse?: 'recent' | 'buddy';
}

/** Whom pages are for and how far its devices reach. */
export interface PageRequest extends AllocationOwner {
  /** The highest zone that will do; default `'NORMAL'`. `'DMA32'` is `GFP_DMA32`, `'MOVABLE'` `GFP_HIGHUSER_MOVABLE`. */
  readonly zone?: ZoneName;
}

/** A request for one contiguous range: of 2^`order` pages, or of exactly `pageCount`. */
export type ContiguousRequest = PageRequest &
  ({ readonly order: number; readonly pageCount?: never } | { readonly pageCount: number; readonly order?: never });

/** A request for pages wherever they are. */
export interface BulkRequest extends PageRequest {
  readonly pageCount: number;
  /** Orders of the blocks to try, descending, the last 0; default 8, 4, 0 as the kernel's system heap. */
  readonly orders?: readonly number[];
}

/** Blocks of frames in the order they were allocated; block i is frames [firsts[i], firsts[i] + pageCounts[i]). */
export interface FrameBlocks {
  readonly firsts: Uint32Array;
  readonly pageCounts: Uint32Array;
}

/** Free blocks of one zone: `counts[k]` of order k. @see Linux 6.1 `/proc/buddyinfo` */
export interface BuddyInfo {
  readonly zone: ZoneName;
  readonly counts: readonly number[];
}

const SYSTEM_HEAP_ORDERS = [8, 4, 0] as const;

/** The page frames of one memory. Plain throughout: nothing waits, nothing is charged. */
export class PageAllocator {
  /** Frames under management, free or not. */
  readonly pages: number;
  readonly #memory: PhysMemory;
  readonly #ledger: MemLedger;
  /** Lowest first. */
  readonly #zones: readonly Buddy[];
  /** For each highest zone those to try, in that order. */
  readonly #tried: Readonly<Record<ZoneName, readonly Buddy[]>>;

  /**
   * Takes over all RAM of `memory` that is not reserved, and ends its set-up.
   *
   * @throws {InvariantError} there is an allocator already, or a zone limit is wrong; then set-up goes on.
   */
  constructor(memory: PhysMemory, options: PageAllocatorOptions = {}) {
    const ranges = memory.memblock.freeRanges();
    const zones = divideIntoZones(ranges, options);
    memory.memblock.seal();
    this.#memory = memory;
    this.#ledger = memory.ledger;
    this.pages = ranges.reduce((sum, range) => sum + range.count, 0);
    const remembersFreed = (options.reuse ?? 'recent') === 'recent';
    this.#zones = zones.map((zone) => new Buddy(zone.name, zone.ranges, remembersFreed));
    const tried = (highest: ZoneName) =>
      zonelist(highest).flatMap((name) => this.#zones.filter((buddy) => buddy.name === name));
    this.#tried = { DMA: tried('DMA'), DMA32: tried('DMA32'), NORMAL: tried('NORMAL'), MOVABLE: tried('MOVABLE') };
  }

  /** Free frames in the zones that a request with `zone` may use; without it, in all. */
  freePageCount(zone: ZoneName = 'MOVABLE'): number {
    return this.#tried[zone].reduce((sum, buddy) => sum + buddy.freePages, 0);
  }

  /**
   * Pages of the largest free block in the zones that a request with `zone` may use (without it, in all): the most that
   * one contiguous request could get, at most 1024.
   */
  largestFreeRun(zone: ZoneName = 'MOVABLE'): number {
    return Math.max(0, ...this.#tried[zone].map((buddy) => buddy.largestBlock()));
  }

  /** The zone that `frame` belongs to, or `undefined`: no frame of this allocator's zones. */
  zoneOf(frame: Pfn): ZoneName | undefined {
    return this.#zoneAround(frame, 1)?.name;
  }

  /** Free blocks by zone and order, lowest zone first. */
  buddyInfo(): readonly BuddyInfo[] {
    const orders = Array.from({ length: MAX_PAGE_ORDER + 1 }, (_, order) => order);
    return this.#zones.map((buddy) => ({ zone: buddy.name, counts: orders.map((order) => buddy.countOf(order)) }));
  }

  /** Every free block, ascending. */
  freeBlocks(): readonly FrameRange[] {
    return this.#zones.flatMap((buddy) => buddy.freeBlocks()).sort((a, b) => a.first - b.first);
  }

  /**
   * Hands out one contiguous range, aligned to its size rounded up to a power of two pages. The caller owns the frames
   * until {@link freePages}.
   *
   * @returns the first frame.
   * @throws {ErrnoError} `ENOMEM` no zone it may use has a block that large (retry after something was freed), the
   * request is above 1024 pages (never retry), or the failure was injected. Nothing is taken.
   * @throws {InvariantError} no owner, or no whole number of pages > 0.
   * @see Linux 6.1 `mm/page_alloc.c` __alloc_pages, alloc_pages_exact
   */
  allocPages(request: ContiguousRequest): Pfn {
    const pageCount = request.order === undefined ? request.pageCount : pagesOfOrder(request.order);
    const zone = request.zone ?? 'NORMAL';
    admit(this.#memory.failNext, 'allocPages', 'pages', 'pages', pageCount, request);
    const first = pageCount > MAX_BLOCK_PAGES ? -1 : this.#take(pageCount, zone);
    if (first < 0) throw this.#exhausted('allocPages', request, pageCount, zone);
    this.#ledger.open('pages', pfn(first), pageCount, request);
    return pfn(first);
  }

  /**
   * Hands out `pageCount` pages as blocks of the given orders: the largest that still fits the rest and that memory has;
   * an order that failed once is not tried again. Each block is an allocation of its own, to be given back by
   * {@link freePages} or all by {@link freeBulk}.
   *
   * @throws {ErrnoError} `ENOMEM` fewer than `pageCount` pages are free in the zones it may use (retry after something
   * was freed), or the failure was injected. Nothing is taken.
   * @throws {InvariantError} no owner, no whole number of pages > 0, or `orders` do not descend to 0.
   * @see Linux 6.1 `drivers/dma-buf/heaps/system_heap.c` system_heap_allocate
   */
  allocBulk(request: BulkRequest): FrameBlocks {
    const { pageCount, orders = SYSTEM_HEAP_ORDERS } = request;
    const zone = request.zone ?? 'NORMAL';
    checkOrders(orders);
    admit(this.#memory.failNext, 'allocBulk', 'pages', 'pages', pageCount, request);
    if (pageCount > this.freePageCount(zone)) throw this.#exhausted('allocBulk', request, pageCount, zone);
    const firsts: number[] = [];
    const pageCounts: number[] = [];
    let left = pageCount;
    for (const order of orders) {
      const size = 1 << order;
      while (left >= size) {
        const first = this.#take(size, zone);
        if (first < 0) break;
        this.#ledger.open('pages', pfn(first), size, request);
        firsts.push(first);
        pageCounts.push(size);
        left -= size;
      }
    }
    assert(left === 0, 'allocBulk: %s pages are missing though enough were free', left);
    return { firsts: Uint32Array.from(firsts), pageCounts: Uint32Array.from(pageCounts) };
  }

  /**
   * Hands out exactly the frames [first, first + pageCount), wherever they are.
   *
   * @throws {ErrnoError} `EBUSY` one of them is not free (retry after it was freed). Nothing is taken.
   * @throws {InvariantError} they are not all frames of one zone, or no owner.
   * @see Linux 6.1 `mm/page_alloc.c` alloc_contig_range
   */
  allocAt(first: Pfn, pageCount: number, who: AllocationOwner): void {
    admit(this.#memory.failNext, 'allocAt', 'pages', 'pages', pageCount, who);
    const buddy = this.#zoneAround(first, pageCount);
    assert(buddy !== undefined, 'allocAt: %s page(s) from frame %s lie in no one zone', pageCount, hex(first));
    if (!buddy.isFree(first, pageCount)) throw notFree(first, pageCount);
    buddy.takeAt(first, pageCount);
    this.#ledger.open('pages', first, pageCount, who);
  }

  /**
   * Takes back an allocation, whole. Its frames join their free neighbours and may be handed out again at once.
   *
   * @param pageCount - as it was allocated: 2^order, or the exact number.
   * @throws {InvariantError} no allocation of pages starts at `first` (also when it was freed before: the text tells by
   * whom), or it has another size. Nothing is changed.
   * @see Linux 6.1 `mm/page_alloc.c` __free_pages, free_pages_exact
   */
  freePages(first: Pfn, pageCount: number): void {
    this.#ledger.close('freePages', 'pages', first, pageCount);
    this.#zoneAround(first, pageCount)?.give(first, pageCount);
  }

  /**
   * Takes back every block of an {@link allocBulk}, first to last.
   *
   * @throws {InvariantError} as {@link freePages}; the blocks before the bad one are back then.
   */
  freeBulk(blocks: FrameBlocks): void {
    const { firsts, pageCounts } = blocks;
    for (let i = 0; i < firsts.length; i++) this.freePages(pfn(firsts[i] as number), pageCounts[i] as number);
  }

  #take(pageCount: number, zone: ZoneName): number {
    for (const buddy of this.#tried[zone]) {
      const first = buddy.take(pageCount);
      if (first >= 0) return first;
    }
    return -1;
  }

  #zoneAround(first: number, count: number): Buddy | undefined {
    return this.#zones.find((buddy) => first >= buddy.firstFrame && first + count <= buddy.endFrame);
  }

  #exhausted(op: string, who: AllocationOwner, pageCount: number, zone: ZoneName): Error {
    const from = this.#tried[zone].map((buddy) => buddy.name);
    const names = from.length === 0 ? `no zone up to ${zone}` : `zone ${from.join(', ')}`;
    return outOfMemory(op, names, who, pageCount, this.freePageCount(zone), this.largestFreeRun(zone));
  }
}

function pagesOfOrder(order: number): number {
  assert(
    Number.isInteger(order) && order >= 0 && order < 32,
    'allocPages: order %s is no whole number in [0, 32)',
    order,
  );
  return 2 ** order;
}

function checkOrders(orders: readonly number[]): void {
  const descends = orders.every((order, i) => i === 0 || order < (orders[i - 1] as number));
  const fits = orders.every((order) => Number.isInteger(order) && order >= 0 && order <= MAX_PAGE_ORDER);
  assert(descends && fits && orders.at(-1) === 0, 'allocBulk: orders [%s] do not descend from at most 10 to 0', orders);
}

function notFree(first: Pfn, pageCount: number): ErrnoError {
  return new ErrnoError('EBUSY', 'allocAt', `not all of ${pageCount} page(s) from frame ${hex(first)} are free`);
}
