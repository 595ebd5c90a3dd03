/**
 * Memory for coherent allocations by callers that can not wait (interrupt handlers): a device that does not snoop needs uncached
 * memory, and remapping pages may wait, so some are remapped beforehand. One pool for each zone.
 *
 * A request goes to the pool of the zone that suits the device, then to the lower ones. The lowest place that fits is taken, by pages.
 *
 * Inaccuracies: pools do not grow; Linux refills one in the background when little is left.
 *
 * @see Linux 6.1 `kernel/dma/pool.c`
 */
import { PAGE_SIZE, type PhysAddr, pfnToPhys, physAddr } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import { GIB, KIB, MIB } from '../base/units.ts';
import type { CoherencyDomain } from '../cache/coherency.ts';
import type { PageAllocator } from '../mem/page-allocator.ts';
import { PageBitmap } from '../mem/page-bitmap.ts';
import { orNull } from './or-null.ts';

/** Zones that have a pool, in the order of a request for the first. */
const ZONES = ['NORMAL', 'DMA32', 'DMA'] as const;

/** A zone of {@link CoherentPool}. */
export type PoolZone = (typeof ZONES)[number];

interface ZonePool {
  readonly zone: PoolZone;
  readonly base: PhysAddr;
  readonly bitmap: PageBitmap;
}

/** How to make a {@link CoherentPool}. */
export interface CoherentPoolOptions {
  /** Bytes of each zone's pool, a power of two pages; default 128 KiB for each GiB of memory, at least one and at most 4 MiB. */
  readonly bytesPerZone?: number;
  /**
   * True: the pages are taken, and the caches cleaned, by the first request instead of now (Linux: at boot). After a request that
   * failed, the next one tries the zones again that had no room. Default false.
   */
  readonly atFirstUse?: boolean;
}

/** The pools of one machine. Plain throughout: nothing waits, nothing is charged later than making them. */
export class CoherentPool {
  /** Bytes of each zone's pool. */
  readonly bytesPerZone: number;
  readonly #coherency: CoherencyDomain;
  readonly #pages: PageAllocator;
  /** Empty until they are taken. */
  #pools: readonly ZonePool[] = [];
  #isTaken = false;
  readonly #triesAgain: boolean;
  #usedPages = 0;

  /**
   * Takes pages for a pool in each zone; a zone without room gets none. Cleans the caches of them.
   *
   * @throws {InvariantError} `bytesPerZone` is no power of two pages.
   * @see Linux 6.1 `kernel/dma/pool.c` dma_atomic_pool_init; `Documentation/admin-guide/kernel-parameters.txt` coherent_pool
   */
  constructor(coherency: CoherencyDomain, pages: PageAllocator, options: CoherentPoolOptions = {}) {
    this.bytesPerZone = options.bytesPerZone ?? defaultBytes(pages);
    const order = Math.log2(this.bytesPerZone / PAGE_SIZE);
    const isPower = Number.isInteger(order) && order >= 0;
    assert(isPower, 'coherent pool: %s bytes are no power of two pages', this.bytesPerZone);
    this.#coherency = coherency;
    this.#pages = pages;
    this.#triesAgain = options.atFirstUse === true;
    if (options.atFirstUse !== true) this.#take();
  }

  /** Bytes in use. */
  get usedBytes(): number {
    return this.#usedPages * PAGE_SIZE;
  }

  /**
   * Takes `pageCount` contiguous pages; they are not cleared. The caller owns them until {@link free}.
   *
   * @param isReached - whether the device can use a place.
   * @returns the first byte, or `null`: no pool has a place (retry after a free).
   * @see Linux 6.1 `kernel/dma/pool.c` dma_alloc_from_pool
   */
  alloc(zone: PoolZone, pageCount: number, isReached: (phys: PhysAddr) => boolean): PhysAddr | null {
    this.#take();
    const from = ZONES.indexOf(zone);
    for (const pool of this.#pools) {
      if (ZONES.indexOf(pool.zone) < from) continue;
      const start = pool.bitmap.findFree(pageCount, 1, 0);
      if (start < 0) continue;
      const phys = physAddr(pool.base + start * PAGE_SIZE);
      if (!isReached(phys)) continue;
      pool.bitmap.set(start, pageCount, true);
      this.#usedPages += pageCount;
      return phys;
    }
    this.#isTaken = !this.#triesAgain;
    return null;
  }

  /** Whether `phys` lies in a pool. */
  contains(phys: PhysAddr): boolean {
    return this.#poolOf(phys) !== undefined;
  }

  /**
   * Takes pages back.
   *
   * @throws {InvariantError} they lie in no pool, or are not in use; nothing has happened.
   * @see Linux 6.1 `kernel/dma/pool.c` dma_free_from_pool
   */
  free(phys: PhysAddr, pageCount: number): void {
    const pool = this.#poolOf(phys);
    assert(pool !== undefined, 'coherent pool: %s lies in no pool', phys);
    const start = (phys - pool.base) / PAGE_SIZE;
    const isUsed = pool.bitmap.nextFree(start) >= start + pageCount;
    assert(isUsed, 'coherent pool: %s page(s) at %s are not all in use', pageCount, phys);
    pool.bitmap.set(start, pageCount, false);
    this.#usedPages -= pageCount;
  }

  #take(): void {
    if (this.#isTaken) return;
    this.#isTaken = true;
    const pageCount = this.bytesPerZone / PAGE_SIZE;
    const order = Math.log2(pageCount);
    this.#pools = ZONES.flatMap((zone) => {
      const known = this.#pools.find((pool) => pool.zone === zone);
      if (known !== undefined) return [known];
      const first = orNull(() => this.#pages.allocPages({ order, zone, owner: `coherent pool ${zone}` }));
      if (first === null) return [];
      this.#coherency.clean(pfnToPhys(first), this.bytesPerZone);
      return [{ zone, base: pfnToPhys(first), bitmap: new PageBitmap(pageCount) }];
    });
  }

  #poolOf(phys: PhysAddr): ZonePool | undefined {
    return this.#pools.find(({ base }) => phys >= base && phys < base + this.bytesPerZone);
  }
}

function defaultBytes(pages: PageAllocator): number {
  const wanted = Math.floor((pages.pages * PAGE_SIZE) / GIB) * 128 * KIB;
  const bytes = Math.min(Math.max(wanted, 128 * KIB), 4 * MIB);
  return 2 ** Math.floor(Math.log2(bytes));
}
