/**
 * Leaves an allocator in a reproducible fragmented state, by holding scattered pages.
 *
 * A unit is an aligned group of 2^(maxFreeOrder + 1) pages. In each unit that is free as a whole one random page is held,
 * so that no request for more than 2^maxFreeOrder pages fits; then further random pages until just `freeFraction` of what was
 * free stays free. Same allocator state, same options and same random numbers mean the same pages.
 *
 * Takes time and entries proportional to the free pages: meant for machines of a few GiB at most.
 */
import { type Pfn, pfn } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import type { RandomSource } from '../base/random.ts';
import type { CmaArea } from './cma.ts';
import type { FrameRange } from './memblock.ts';
import type { PageAllocator } from './page-allocator.ts';
import { MAX_BLOCK_PAGES, MAX_PAGE_ORDER, type ZoneName } from './zone.ts';

/** How an allocator places requests, as far as it matters for keeping large ones out. */
interface Placement {
  /** Larger requests are aligned to this many pages only. */
  readonly largestUnit: number;
  /** Whether a request takes a whole unit even if its size is no power of two. */
  readonly wholeBlocks: boolean;
}

/** How fragmented memory shall be. */
export interface FragmentOptions {
  /** The part of the pages now free that stays free, in [0, 1]; the number of pages is rounded. */
  readonly freeFraction: number;
  /** No request for more than 2^this pages will fit; 0..10, where 10 asks nothing. */
  readonly maxFreeOrder: number;
  /** Page allocator: only frames of this zone; default all zones. */
  readonly zone?: ZoneName;
  /** Who holds the pages, in the ledger; default `'fragmenter'`. */
  readonly owner?: string;
}

/** Pages held to fragment memory. */
export class Fragmentation {
  readonly #runs: FrameRange[];
  readonly #free: (first: Pfn, pageCount: number) => void;

  /** @internal */
  constructor(runs: FrameRange[], free: (first: Pfn, pageCount: number) => void) {
    this.#runs = runs;
    this.#free = free;
  }

  /** Pages held now. */
  get heldPages(): number {
    return this.#runs.reduce((sum, run) => sum + run.count, 0);
  }

  /** Gives every page back, lowest first; what was free before is joined again. A second call does nothing. */
  release(): void {
    for (const { first, count } of this.#runs.splice(0)) this.#free(pfn(first), count);
  }
}

/**
 * Fragments the free pages of `allocator`. The caller owns the held pages until {@link Fragmentation.release}.
 *
 * @throws {InvariantError} an option is out of range, or `freeFraction` is more than `maxFreeOrder` allows (the text
 * tells the most). Nothing is held.
 * @throws {ErrnoError} `ENOMEM` the failure was injected. Nothing is held.
 */
export function fragmentPages(allocator: PageAllocator, random: RandomSource, options: FragmentOptions): Fragmentation {
  const { zone } = options;
  const all = allocator.freeBlocks();
  const blocks = zone === undefined ? all : all.filter((block) => allocator.zoneOf(pfn(block.first)) === zone);
  const owner = options.owner ?? 'fragmenter';
  return hold(
    choosePages(blocks, random, options, { largestUnit: MAX_BLOCK_PAGES, wholeBlocks: true }),
    (first, count) => allocator.allocAt(first, count, { owner }),
    (first, count) => allocator.freePages(first, count),
  );
}

/**
 * Fragments the free pages of a CMA area; as {@link fragmentPages}. Since a larger request need not be aligned to its
 * size, units are no larger than the area's alignment: the largest request that fits may be below 2^maxFreeOrder.
 */
export function fragmentCma(area: CmaArea, random: RandomSource, options: FragmentOptions): Fragmentation {
  const owner = options.owner ?? 'fragmenter';
  return hold(
    choosePages(area.freeRuns(), random, options, { largestUnit: 2 ** area.maxAlignOrder, wholeBlocks: false }),
    (first, count) => area.allocAt(first, count, { owner }),
    (first, count) => area.free(first, count),
  );
}

/** Takes every run of `runs`, or none. */
function hold(
  runs: readonly FrameRange[],
  take: (first: Pfn, count: number) => void,
  free: (first: Pfn, count: number) => void,
): Fragmentation {
  const held: FrameRange[] = [];
  const result = new Fragmentation(held, free);
  let complete = false;
  try {
    for (const run of runs) {
      take(pfn(run.first), run.count);
      held.push(run);
    }
    complete = true;
    return result;
  } finally {
    if (!complete) result.release();
  }
}

/** The runs of pages to hold, ascending; a run lies in one of `free` and in one unit. */
function choosePages(
  free: readonly FrameRange[],
  random: RandomSource,
  options: FragmentOptions,
  placement: Placement,
): FrameRange[] {
  const { freeFraction, maxFreeOrder } = options;
  assert(freeFraction >= 0 && freeFraction <= 1, 'fragment: freeFraction %s is not in [0, 1]', freeFraction);
  assert(
    Number.isInteger(maxFreeOrder) && maxFreeOrder >= 0 && maxFreeOrder <= MAX_PAGE_ORDER,
    'fragment: maxFreeOrder %s is not in 0..10',
    maxFreeOrder,
  );
  const unit = Math.min(2 ** (maxFreeOrder + 1), placement.largestUnit);
  // The smallest request that has to fail needs this many free pages from the start of a unit.
  const enough =
    maxFreeOrder === MAX_PAGE_ORDER
      ? Number.POSITIVE_INFINITY
      : placement.wholeBlocks
        ? unit
        : Math.min(unit, 2 ** maxFreeOrder + 1);
  const pieces = free.flatMap((range) => cutIntoUnits(range, unit));
  const pinned = pieces.map(({ first, count }) => first % unit === 0 && count >= enough);
  const pages = pieces.reduce((sum, piece) => sum + piece.count, 0);
  const pins = pinned.filter(Boolean).length;
  const target = pages - Math.round(pages * freeFraction);
  const most = (pages - pins) / pages;
  assert(target >= pins, 'fragment: freeFraction %s is above %s, the most here', freeFraction, most);
  const sampler = new Sampler(random, target - pins, pages - pins);
  return pieces.flatMap((piece, i) => heldRuns(piece, pinned[i] ? random.int(enough) : -1, sampler));
}

/** Selection sampling: takes each of `left` things with the chance that makes the number of takes exactly `more`. */
class Sampler {
  readonly #random: RandomSource;
  #more: number;
  #left: number;

  constructor(random: RandomSource, more: number, left: number) {
    this.#random = random;
    this.#more = more;
    this.#left = left;
  }

  takesNext(): boolean {
    const takes = this.#random.int(this.#left--) < this.#more;
    if (takes) this.#more--;
    return takes;
  }
}

/** The runs to hold in one unit: page `pin`, if it is one, and what the sampler takes of the others. */
function heldRuns({ first, count }: FrameRange, pin: number, sampler: Sampler): FrameRange[] {
  const runs: FrameRange[] = [];
  let start = 0;
  for (let i = 0; i < count; i++) {
    if (i === pin || sampler.takesNext()) continue;
    if (i > start) runs.push({ first: first + start, count: i - start });
    start = i + 1;
  }
  if (count > start) runs.push({ first: first + start, count: count - start });
  return runs;
}

function cutIntoUnits({ first, count }: FrameRange, unit: number): FrameRange[] {
  const pieces: FrameRange[] = [];
  for (let at = first; at < first + count; ) {
    const end = Math.min(first + count, (Math.floor(at / unit) + 1) * unit);
    pieces.push({ first: at, count: end - at });
    at = end;
  }
  return pieces;
}
