/**
 * Set-up time reservations: ranges of RAM set aside before the page allocator takes the rest, as a kernel sets memory
 * aside for its image, for CMA areas and for bounce buffers. Reserved frames do have a struct page.
 *
 * Inaccuracy: a reservation is for good; nothing is given to the page allocator later.
 *
 * @see Linux 6.1 `mm/memblock.c`; `Documentation/core-api/boot-time-mm.rst`
 */
import { hex, PAGE_SIZE, type PhysAddr, physAddr } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import { alignDown, formatBytes } from '../base/units.ts';
import type { MemRegion } from './mem-region.ts';

/** A stretch of page frames: [first, first + count). */
export interface FrameRange {
  /** The first frame's number. */
  readonly first: number;
  readonly count: number;
}

/** What to reserve. Without `base` the highest place that fits is taken. */
export interface ReservationRequest {
  /** Names the reservation in errors. */
  readonly name: string;
  /** Size in bytes, a positive multiple of a page. */
  readonly bytes: number;
  /** Exactly here; page aligned, inside one RAM region. */
  readonly base?: PhysAddr;
  /** Without `base`: the range ends at or below this address. */
  readonly below?: PhysAddr;
  /** Without `base`: alignment of the place in bytes, a multiple of a page; default a page. */
  readonly align?: number;
}

/** A reserved range of RAM, in bytes. */
export interface Reservation {
  readonly name: string;
  readonly base: PhysAddr;
  readonly bytes: number;
}

/** The reservations of one memory. Plain: nothing waits, nothing is charged. */
export class Memblock {
  readonly #regions: readonly MemRegion[];
  /** Ascending by address. */
  readonly #reserved: Reservation[] = [];
  #sealed = false;

  /** @internal `PhysMemory` makes its own. */
  constructor(regions: readonly MemRegion[]) {
    this.#regions = regions;
  }

  /** The reservations, ascending by address. */
  get reserved(): readonly Reservation[] {
    return this.#reserved;
  }

  /** Whether the page allocator has taken over: no reservation and no RAM can be added any more. */
  get sealed(): boolean {
    return this.#sealed;
  }

  /**
   * Sets a range of RAM aside.
   *
   * @throws {InvariantError} after set-up; not page aligned; not inside one RAM region; overlap with another reservation
   * (both are named); no place fits. Nothing is reserved.
   * @see Linux 6.1 `mm/memblock.c` memblock_reserve, memblock_alloc
   */
  reserve(request: ReservationRequest): Reservation {
    const { name, bytes } = request;
    assert(!this.#sealed, 'reserve %s: comes after the page allocator was built', name);
    assert(
      Number.isSafeInteger(bytes) && bytes > 0 && bytes % PAGE_SIZE === 0,
      'reserve %s: bytes %s is no positive multiple of a page',
      name,
      bytes,
    );
    const base = request.base === undefined ? this.#highest(request) : this.#exactly(request, request.base);
    const made: Reservation = { name, base, bytes };
    const at = this.#reserved.findIndex((other) => other.base > base);
    this.#reserved.splice(at < 0 ? this.#reserved.length : at, 0, made);
    return made;
  }

  /** The frames of RAM that are not reserved, ascending, adjacent ones joined. */
  freeRanges(): readonly FrameRange[] {
    const joined: { first: number; count: number }[] = [];
    for (const { first, count } of this.#regions.flatMap((region) => this.#freeIn(region))) {
      const last = joined.at(-1);
      if (last !== undefined && last.first + last.count === first) last.count += count;
      else joined.push({ first, count });
    }
    return joined;
  }

  /** Ends set-up. @throws {InvariantError} it has ended before. @internal for the page allocator */
  seal(): void {
    assert(!this.#sealed, 'memory has a page allocator already');
    this.#sealed = true;
  }

  #exactly({ name, bytes }: ReservationRequest, base: PhysAddr): PhysAddr {
    assert(base % PAGE_SIZE === 0, 'reserve %s: base %s is not page aligned', name, hex(base));
    const inside = this.#regions.some((r) => r.kind === 'ram' && base >= r.base && base + bytes <= r.end);
    assert(inside, 'reserve %s: %s + %s lies not inside one RAM region', name, hex(base), formatBytes(bytes));
    for (const other of this.#reserved) {
      const apart = base + bytes <= other.base || base >= other.base + other.bytes;
      assert(apart, 'reserve %s: %s overlaps the reservation %s', name, hex(base), other.name);
    }
    return base;
  }

  #highest({ name, bytes, below, align = PAGE_SIZE }: ReservationRequest): PhysAddr {
    assert(
      Number.isSafeInteger(align) && align > 0 && align % PAGE_SIZE === 0,
      'reserve %s: align %s is no positive multiple of a page',
      name,
      align,
    );
    // A reservation lies in one region, so adjacent regions are looked at one by one.
    for (const { first, count } of this.#regions.flatMap((region) => this.#freeIn(region)).toReversed()) {
      const end = Math.min((first + count) * PAGE_SIZE, below ?? Number.POSITIVE_INFINITY);
      const base = alignDown(end - bytes, align);
      if (base >= first * PAGE_SIZE) return physAddr(base);
    }
    assert(false, 'reserve %s: no free RAM of %s fits', name, formatBytes(bytes));
  }

  /** The frames of `region` that are not reserved, ascending; none unless it is RAM. */
  #freeIn(region: MemRegion): FrameRange[] {
    if (region.kind !== 'ram') return [];
    const free: FrameRange[] = [];
    let at: number = region.base;
    const upTo = (end: number) => {
      if (end > at) free.push({ first: at / PAGE_SIZE, count: (end - at) / PAGE_SIZE });
    };
    for (const { base, bytes } of this.#reserved) {
      if (base < region.base || base >= region.end) continue;
      upTo(base);
      at = base + bytes;
    }
    upTo(region.end);
    return free;
  }
}
