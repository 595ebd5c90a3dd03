/**
 * A CMA area: RAM set aside at set-up time for contiguous buffers. Its frames have a struct page. Rules, as recorded
 * from the kernel:
 * 1. An allocation is one contiguous range: the lowest free place that fits and is aligned.
 * 2. Alignment is the size rounded up to a power of two pages, at most 2^`maxAlignOrder` pages. It is an alignment of
 *    the frame number, not of the place in the area; the two differ only where the area's base is less aligned.
 * 3. A range too large for every aligned hole fails, also when unaligned it would fit.
 *
 * Inaccuracies: free pages are not lent to movable allocations meanwhile, so an allocation never has to move anybody,
 * takes no time for it and never fails because a page is pinned; one bitmap bit a page (`order_per_bit` 0).
 *
 * @see Linux 6.1 `mm/cma.c` cma_alloc, cma_release; `kernel/dma/contiguous.c`; `Documentation/admin-guide/mm/cma_debugfs.rst`
 */
import { hex, PAGE_SIZE, type Pfn, type PhysAddr, pfn, physToPfn } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import { ErrnoError } from '../base/errors.ts';
import { admit, outOfMemory } from './attempt.ts';
import { orderFor } from './buddy.ts';
import type { AllocationOwner } from './ledger.ts';
import type { FrameRange } from './memblock.ts';
import { PageBitmap } from './page-bitmap.ts';
import type { PhysMemory } from './phys-memory.ts';

/** Where a CMA area lies. */
export interface CmaOptions {
  /** Names the area in errors and reports: `'reserved'`. */
  readonly name: string;
  /** Size in bytes, a positive multiple of a page. */
  readonly bytes: number;
  /** First byte; default the highest free place in RAM below `below`, aligned to 4 MiB. */
  readonly base?: PhysAddr;
  /** Without `base`: the area ends at or below this address. */
  readonly below?: PhysAddr;
  /** Ranges are aligned to at most 2^this pages; default 8 (1 MiB). @see Linux 6.1 `CONFIG_CMA_ALIGNMENT` */
  readonly maxAlignOrder?: number;
}

const AREA_ALIGN = 1024 * PAGE_SIZE;

/** Contiguous memory of one area. Plain throughout: nothing waits, nothing is charged. */
export class CmaArea {
  readonly name: string;
  /** First byte of the area. */
  readonly base: PhysAddr;
  /** Size of the area in pages. */
  readonly pages: number;
  readonly maxAlignOrder: number;
  readonly #memory: PhysMemory;
  readonly #first: number;
  readonly #bitmap: PageBitmap;
  #usedPages = 0;

  /**
   * Reserves the area in `memory`, before its page allocator exists.
   *
   * @throws {InvariantError} as `Memblock.reserve`, or `maxAlignOrder` is not in 0..30. Nothing is reserved.
   */
  constructor(memory: PhysMemory, options: CmaOptions) {
    const { name, bytes, base, below, maxAlignOrder = 8 } = options;
    assert(
      Number.isInteger(maxAlignOrder) && maxAlignOrder >= 0 && maxAlignOrder <= 30,
      'cma %s: maxAlignOrder %s is not in 0..30',
      name,
      maxAlignOrder,
    );
    const place = base !== undefined ? { base } : below !== undefined ? { below } : {};
    const area = memory.memblock.reserve({ name: `cma ${name}`, bytes, align: AREA_ALIGN, ...place });
    this.name = name;
    this.base = area.base;
    this.pages = bytes / PAGE_SIZE;
    this.maxAlignOrder = maxAlignOrder;
    this.#memory = memory;
    this.#first = physToPfn(area.base);
    this.#bitmap = new PageBitmap(this.pages);
  }

  /** Pages handed out. */
  get usedPages(): number {
    return this.#usedPages;
  }

  /** Pages of the longest free run; alignment may keep a request of that size from fitting. */
  get largestFreePages(): number {
    return this.#bitmap.longestFree();
  }

  /** The free runs, ascending. */
  freeRuns(): readonly FrameRange[] {
    const runs: FrameRange[] = [];
    for (let start = this.#bitmap.nextFree(0); start < this.pages; ) {
      const end = this.#bitmap.nextUsed(start, this.pages);
      runs.push({ first: this.#first + start, count: end - start });
      start = this.#bitmap.nextFree(end);
    }
    return runs;
  }

  /**
   * Hands out a contiguous range, placed by the rules above; it is not cleared. The caller owns it until {@link free}.
   *
   * @returns the first frame.
   * @throws {ErrnoError} `ENOMEM` no aligned hole fits (retry after something was freed; never if larger than the area),
   * or the failure was injected. Nothing is taken.
   * @throws {InvariantError} no owner, or no whole number of pages > 0.
   * @see Linux 6.1 `mm/cma.c` cma_alloc
   */
  alloc(pageCount: number, who: AllocationOwner): Pfn {
    admit(this.#memory.failNext, 'cmaAlloc', 'cma', this.name, pageCount, who);
    const start = pageCount > this.pages - this.#usedPages ? -1 : this.#find(pageCount);
    if (start < 0) {
      const free = this.pages - this.#usedPages;
      throw outOfMemory('cmaAlloc', `cma area ${this.name}`, who, pageCount, free, this.largestFreePages);
    }
    const first = pfn(this.#first + start);
    this.#enter(first, pageCount, who);
    return first;
  }

  /**
   * Hands out exactly the frames [first, first + pageCount).
   *
   * @throws {ErrnoError} `EBUSY` one of them is in use (retry after it was freed). Nothing is taken.
   * @throws {InvariantError} they do not lie in the area, or no owner.
   */
  allocAt(first: Pfn, pageCount: number, who: AllocationOwner): void {
    admit(this.#memory.failNext, 'cmaAllocAt', 'cma', this.name, pageCount, who);
    const start = first - this.#first;
    assert(
      start >= 0 && start + pageCount <= this.pages,
      'cmaAllocAt: %s page(s) from frame %s lie not in area %s',
      pageCount,
      hex(first),
      this.name,
    );
    if (this.#bitmap.nextUsed(start, start + pageCount) < start + pageCount) {
      const what = `${pageCount} page(s) from frame ${hex(first)} of area ${this.name}`;
      throw new ErrnoError('EBUSY', 'cmaAllocAt', `not all of ${what} are free`);
    }
    this.#enter(first, pageCount, who);
  }

  /**
   * Takes back an allocation, whole.
   *
   * @throws {InvariantError} no allocation of this area starts at `first` (also when it was freed before: the text tells
   * by whom), or it has another size. Nothing is changed.
   * @see Linux 6.1 `mm/cma.c` cma_release
   */
  free(first: Pfn, pageCount: number): void {
    const start = first - this.#first;
    assert(start >= 0 && start < this.pages, 'cmaFree: frame %s lies not in area %s', hex(first), this.name);
    this.#memory.ledger.close('cmaFree', 'cma', first, pageCount);
    this.#bitmap.set(start, pageCount, false);
    this.#usedPages -= pageCount;
  }

  #find(pageCount: number): number {
    const align = 2 ** Math.min(orderFor(pageCount), this.maxAlignOrder);
    return this.#bitmap.findFree(pageCount, align, this.#first % align);
  }

  #enter(first: Pfn, pageCount: number, who: AllocationOwner): void {
    this.#bitmap.set(first - this.#first, pageCount, true);
    this.#usedPages += pageCount;
    this.#memory.ledger.open('cma', first, pageCount, who);
  }
}
