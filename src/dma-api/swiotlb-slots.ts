/**
 * Which slots of a bounce pool are free, and the search for a run of them. Rules, as recorded from the kernel:
 *
 * 1. A slot has 2 KiB; 128 slots make a segment, and no run crosses from one segment into the next. So no run is longer
 *    than 256 KiB, however large the pool.
 * 2. The pool is divided evenly into areas, each with a cursor of its own. A search begins at the cursor, goes round the area
 *    once, and leaves the cursor behind what it found.
 * 3. It looks only at every `stride`-th slot: at each one, at every second one for a page or more, at fewer where the device keeps
 *    address bits above the slot size, or where the caller wants an alignment.
 * 4. Where the device keeps address bits above the slot size (`alignMask`), a slot must agree with the original address in
 *    them; from a slot that does not, the search goes on to the next slot, not to the next multiple of the stride.
 * 5. No run crosses a multiple of the device's segment boundary.
 *
 * Rule 4 can carry the search past its own beginning, and then nothing ends it: Linux 6.1 hangs there. Here it ends, as
 * `'endless-search'`.
 *
 * @see Linux 6.1 `kernel/dma/swiotlb.c` swiotlb_do_find_slots, swiotlb_release_slots
 */

/** Bytes in a slot. @see Linux 6.1 `include/linux/swiotlb.h` IO_TLB_SIZE */
export const SLOT_BYTES = 2048;
/** Slots in a segment. @see Linux 6.1 `include/linux/swiotlb.h` IO_TLB_SEGSIZE */
export const SEGMENT_SLOTS = 128;

/** @internal What a run of slots must be like. */
export interface SlotRun {
  readonly slots: number;
  readonly stride: number;
  /** Address bits above the slot size that must be those of {@link wanted}; 32 bits. */
  readonly alignMask: number;
  readonly wanted: number;
  /** The pool's first byte as the device sees it, and that in slots from the last segment boundary. */
  readonly base: number;
  readonly baseSlots: number;
  /** Slots from one segment boundary to the next. */
  readonly boundarySlots: number;
}

/** @internal Why a search found nothing: too few slots are free, none of the free ones fit, or see the header. */
export type SearchEnd = 'full' | 'fragmented' | 'endless-search';

/** Answer of a search that would go on in the other areas only after it ended here. */
const ENDLESS = -2;

/** @internal The slots of one pool. */
export class SlotMap {
  readonly slots: number;
  /** Slots in one area. */
  readonly areaSlots: number;
  /** Why the last {@link take} answered -1. */
  end: SearchEnd = 'full';
  /** Free slots from here to the end of the run or of the segment; 0: in use. */
  readonly #free: Uint8Array;
  /** Cursor of each area, from its first slot. */
  readonly #cursor: Uint32Array;
  readonly #used: Uint32Array;

  constructor(slots: number, areas: number) {
    this.slots = slots;
    this.areaSlots = slots / areas;
    this.#free = Uint8Array.from({ length: slots }, (_, i) => SEGMENT_SLOTS - (i % SEGMENT_SLOTS));
    this.#cursor = new Uint32Array(areas);
    this.#used = new Uint32Array(areas);
  }

  /** Slots in use. */
  get used(): number {
    return this.#used.reduce((sum, used) => sum + used, 0);
  }

  /**
   * Takes a run of slots: from area `first`, then from the others in turn.
   *
   * @returns its first slot, or -1: see {@link end}.
   */
  take(run: SlotRun, first: number): number {
    const areas = this.#cursor.length;
    this.end = 'full';
    for (let i = 0; i < areas; i++) {
      const area = (first + i) % areas;
      const slot = this.#search(run, area);
      if (slot >= 0) {
        this.#mark(slot, run.slots, area);
        return slot;
      }
      if (slot === ENDLESS) return -1;
    }
    return -1;
  }

  /** Gives a run back; it joins its free neighbours within the segment. */
  give(slot: number, slots: number): void {
    const free = this.#free;
    const end = slot + slots;
    let count = end % SEGMENT_SLOTS === 0 ? 0 : (free[end] as number);
    for (let i = end - 1; i >= slot; i--) free[i] = ++count;
    this.#recount(slot, count);
    const area = Math.floor(slot / this.areaSlots);
    this.#used[area] = (this.#used[area] as number) - slots;
  }

  /** Looks for a run in one area. @returns its first slot, -1 or {@link ENDLESS}; then {@link end} is set. */
  #search(run: SlotRun, area: number): number {
    const { areaSlots } = this;
    if (run.slots > areaSlots - (this.#used[area] as number)) return -1;
    this.end = 'fragmented';
    const from = area * areaSlots;
    const start = wrap(Math.ceil((this.#cursor[area] as number) / run.stride) * run.stride, areaSlots);
    let at = start;
    // The next place depends on the last one alone: after more steps than places it will never come back to the start.
    for (let steps = 0; steps <= areaSlots; steps++) {
      const isAligned = ((run.base + (from + at) * SLOT_BYTES) & run.alignMask) === run.wanted;
      if (isAligned && this.#fits(run, from + at)) return from + at;
      at = wrap(at + (isAligned ? run.stride : 1), areaSlots);
      if (at === start) return -1;
    }
    this.end = 'endless-search';
    return ENDLESS;
  }

  #fits(run: SlotRun, slot: number): boolean {
    const { slots, baseSlots, boundarySlots } = run;
    return ((baseSlots + slot) % boundarySlots) + slots <= boundarySlots && (this.#free[slot] as number) >= slots;
  }

  #mark(slot: number, slots: number, area: number): void {
    this.#free.fill(0, slot, slot + slots);
    this.#recount(slot, 0);
    this.#cursor[area] = wrap(slot - area * this.areaSlots + slots, this.areaSlots);
    this.#used[area] = (this.#used[area] as number) + slots;
  }

  /** Counts the free slots before `slot` anew; `count` of them begin at `slot`. */
  #recount(slot: number, count: number): void {
    const free = this.#free;
    let run = count;
    for (let i = slot - 1; i >= 0 && i % SEGMENT_SLOTS !== SEGMENT_SLOTS - 1 && free[i] !== 0; i--) free[i] = ++run;
  }
}

function wrap(slot: number, areaSlots: number): number {
  return slot < areaSlots ? slot : 0;
}
