/**
 * IO virtual addresses as the DMA API hands them out: the tree of `iova.ts` behind the per-CPU caches of `iova-rcache.ts`.
 *
 * @see Linux 6.1 `drivers/iommu/iova.c` alloc_iova_fast, free_iova_fast
 */
import { IovaAllocator, type IovaAllocatorOptions } from './iova.ts';
import { IovaRcaches, MOST_KEPT_PAGES } from './iova-rcache.ts';

/** Whoever knows which CPU runs at the moment: a `Simulator`. */
export interface CpuSource {
  readonly cpu: number;
}

/** One IOVA space with its caches. Plain: never waits, charges nothing. Pages are of the domain's smallest size. */
export class IovaSpace {
  /** Ranges in use, those that wait in a cache included. */
  readonly tree: IovaAllocator;
  readonly #caches: IovaRcaches;
  readonly #cpus: CpuSource;

  /** @throws {InvariantError} an option is no page number. */
  constructor(cpus: CpuSource, options: IovaAllocatorOptions = {}) {
    this.tree = new IovaAllocator(options);
    this.#caches = new IovaRcaches(this.tree);
    this.#cpus = cpus;
  }

  /** Ranges that wait in a cache for the next request of their size. */
  get cachedRanges(): number {
    return this.#caches.rangeCount;
  }

  /**
   * Takes pages that end at or below `limitPfn`: from the running CPU's cache, else from the tree. Requests of fewer than 32 pages
   * are rounded up to a power of two pages.
   *
   * @param mayFlush - when the tree has no room, empty the caches of all CPUs and search once more. Without it an attempt that
   * fails costs nobody his cache.
   * @returns the first page; -1 when there is no room (retry after a free).
   * @throws {InvariantError} `pageCount` is no whole number above 0, or `limitPfn` no page number.
   * @see Linux 6.1 `drivers/iommu/iova.c` alloc_iova_fast
   */
  allocFast(pageCount: number, limitPfn: number, mayFlush: boolean): number {
    if ((pageCount | 0) !== pageCount || pageCount <= 0 || pageCount > MOST_KEPT_PAGES) {
      return this.#allocFromTree(pageCount, limitPfn, mayFlush);
    }
    const order = 32 - Math.clz32(pageCount - 1);
    const pages = 1 << order;
    const kept = this.#caches.take(this.#cpus.cpu, order, limitPfn + 1 - pages);
    if (kept < 0) return this.#allocFromTree(pages, limitPfn, mayFlush);
    this.tree.passedNone();
    return kept;
  }

  /**
   * Gives back what {@link allocFast} gave: into the running CPU's cache, or to the tree when it has more than 32 pages. Each range
   * once: one that is freed twice is handed out twice.
   *
   * @param pageCount - as asked for, rounded or not.
   * @throws {InvariantError} a large range does not begin at `firstPfn`.
   * @see Linux 6.1 `drivers/iommu/iova.c` free_iova_fast
   */
  freeFast(firstPfn: number, pageCount: number): void {
    if (pageCount > MOST_KEPT_PAGES) this.tree.free(firstPfn);
    else this.#caches.put(this.#cpus.cpu, 32 - Math.clz32(pageCount - 1), firstPfn);
  }

  #allocFromTree(pages: number, limitPfn: number, mayFlush: boolean): number {
    const { tree } = this;
    const first = tree.tryAlloc(pages, limitPfn);
    if (first >= 0 || !mayFlush) return first;
    this.#caches.flush();
    return tree.tryAlloc(pages, limitPfn);
  }
}
