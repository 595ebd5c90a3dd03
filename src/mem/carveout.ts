/**
 * A range allocator for memory without struct pages: carve-outs and device BARs. Page granular, first fit: the lowest
 * free place that fits and is aligned. Freed ranges join free neighbours at once.
 *
 * @see Linux 6.1 `lib/genalloc.c` gen_pool_first_fit_align; `Documentation/core-api/genalloc.rst`
 */
import { hex, PAGE_SIZE, type PhysAddr, pfn, pfnToPhys, physToPfn } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import { alignUp } from '../base/units.ts';
import { admit, outOfMemory } from './attempt.ts';
import type { AllocationOwner } from './ledger.ts';
import type { MemRegion } from './mem-region.ts';
import type { FrameRange } from './memblock.ts';
import type { PhysMemory } from './phys-memory.ts';

/** What to take from a carve-out. */
export interface CarveoutRequest extends AllocationOwner {
  /** Size in bytes, rounded up to whole pages. */
  readonly bytes: number;
  /** Alignment of the physical address in bytes, a multiple of a page; default a page. */
  readonly align?: number;
}

/** Hands out the memory of one carve-out or BAR. Plain throughout: nothing waits, nothing is charged. */
export class CarveoutAllocator {
  readonly region: MemRegion;
  readonly #memory: PhysMemory;
  readonly #kind: 'carve-out' | 'bar';
  /** Free runs in frames, ascending, never adjacent: run i is [#firsts[i], #ends[i]). */
  readonly #firsts: number[] = [];
  readonly #ends: number[] = [];
  #usedPages = 0;

  /**
   * @param region - of `memory`, with no other allocator.
   * @throws {InvariantError} not a carve-out or BAR of `memory`.
   */
  constructor(memory: PhysMemory, region: MemRegion) {
    assert(memory.regions.includes(region), 'carveout: %s is no region of this memory', region);
    assert(region.kind === 'carve-out' || region.kind === 'bar', 'carveout: %s is no carve-out or BAR', region);
    this.region = region;
    this.#memory = memory;
    this.#kind = region.kind;
    this.#firsts.push(physToPfn(region.base));
    this.#ends.push(region.end / PAGE_SIZE);
  }

  /** Size of the region in pages. */
  get pages(): number {
    return this.region.bytes / PAGE_SIZE;
  }

  /** Pages handed out. */
  get usedPages(): number {
    return this.#usedPages;
  }

  /** Pages of the longest free run. */
  get largestFreePages(): number {
    return this.#firsts.reduce((most, first, i) => Math.max(most, (this.#ends[i] as number) - first), 0);
  }

  /** The free runs, ascending. */
  freeRuns(): readonly FrameRange[] {
    return this.#firsts.map((first, i) => ({ first, count: (this.#ends[i] as number) - first }));
  }

  /**
   * Hands out the lowest free place that fits; it is not cleared. The caller owns it until {@link free}.
   *
   * @throws {ErrnoError} `ENOMEM` no free run fits (retry after something was freed; never if larger than the region),
   * or the failure was injected. Nothing is taken.
   * @throws {InvariantError} no owner, `bytes` is no whole number > 0, or `align` no positive multiple of a page.
   */
  alloc(request: CarveoutRequest): PhysAddr {
    const { bytes, align = PAGE_SIZE } = request;
    assert(Number.isSafeInteger(bytes) && bytes > 0, 'carveoutAlloc: bytes %s is no whole number > 0', bytes);
    assert(
      Number.isSafeInteger(align) && align > 0 && align % PAGE_SIZE === 0,
      'carveoutAlloc: align %s is no positive multiple of a page',
      align,
    );
    const pageCount = Math.ceil(bytes / PAGE_SIZE);
    admit(this.#memory.failNext, 'carveoutAlloc', this.#kind, this.region.name, pageCount, request);
    for (let i = 0; i < this.#firsts.length; i++) {
      const first = alignUp(this.#firsts[i] as number, align / PAGE_SIZE);
      if (first + pageCount > (this.#ends[i] as number)) continue;
      this.#take(i, first, pageCount);
      this.#usedPages += pageCount;
      const frame = pfn(first);
      this.#memory.ledger.open(this.#kind, frame, pageCount, request);
      return pfnToPhys(frame);
    }
    const free = this.pages - this.#usedPages;
    throw outOfMemory('carveoutAlloc', `${this.region}`, request, pageCount, free, this.largestFreePages);
  }

  /**
   * Takes back the allocation that starts at `phys`, whole.
   *
   * @throws {InvariantError} none of this region starts there (also when it was freed before: the text tells by whom).
   */
  free(phys: PhysAddr): void {
    assert(phys % PAGE_SIZE === 0, 'carveoutFree: %s is not page aligned', hex(phys));
    assert(phys >= this.region.base && phys < this.region.end, 'carveoutFree: %s not in %s', hex(phys), this.region);
    const first = physToPfn(phys);
    const pageCount = this.#memory.ledger.pageCountAt(first);
    this.#memory.ledger.close('carveoutFree', this.#kind, first, pageCount);
    this.#usedPages -= pageCount;
    this.#give(first, first + pageCount);
  }

  /** Takes frames from inside free run `i`; what is left stays as none, one or two runs. */
  #take(i: number, first: number, pageCount: number): void {
    const start = this.#firsts[i] as number;
    const end = this.#ends[i] as number;
    const left: { first: number; end: number }[] = [];
    if (start < first) left.push({ first: start, end: first });
    if (first + pageCount < end) left.push({ first: first + pageCount, end });
    this.#firsts.splice(i, 1, ...left.map((run) => run.first));
    this.#ends.splice(i, 1, ...left.map((run) => run.end));
  }

  #give(first: number, end: number): void {
    const next = this.#firsts.findIndex((start) => start >= end);
    const at = next < 0 ? this.#firsts.length : next;
    const joinsBefore = at > 0 && this.#ends[at - 1] === first;
    const joinsAfter = this.#firsts[at] === end;
    const from = joinsBefore ? at - 1 : at;
    const removed = (joinsBefore ? 1 : 0) + (joinsAfter ? 1 : 0);
    const start = joinsBefore ? (this.#firsts[at - 1] as number) : first;
    const stop = joinsAfter ? (this.#ends[at] as number) : end;
    this.#firsts.splice(from, removed, start);
    this.#ends.splice(from, removed, stop);
  }
}
