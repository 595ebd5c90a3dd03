/**
 * The pages of one page table in a growing typed-array arena.
 *
 * A slot is one table of `entries` descriptors of 64 bits, kept as two 32-bit halves: entry `e` of slot `t` is
 * `words[2 * (t * entries + e)]` (low) and the word behind it (high). A descriptor that names a next-level table holds
 * that table's physical address, as hardware needs it; `child[t * entries + e]` holds its slot, as this program needs it, or 0
 * (slot 0 is the top of the table and nobody's child). `words` and `child` are replaced when the arena grows: read them again after {@link alloc}.
 *
 * @internal
 */
import { PAGE_SIZE, type Pfn } from '../base/addr.ts';
import { ErrnoError } from '../base/errors.ts';
import type { TablePages } from './io-pgtable.ts';

const FIRST_SLOTS = 4;

/** @internal See the head of this file. */
export class TableArena {
  /** Descriptors, two words each. */
  words: Uint32Array;
  /** Slot of the table that a descriptor names, or 0. */
  child: Int32Array;
  /** Physical address of each slot's page. */
  phys: Float64Array;
  /** Slots in use, those of the top-level table included. */
  used = 0;
  readonly entries: number;
  readonly #pages: TablePages;
  readonly #order: number;
  readonly #rootOrder: number;
  readonly #rootSlots: number;
  readonly #freeSlots: number[] = [];
  #top = 0;

  /**
   * @param entries - descriptors in a table.
   * @param rootEntries - descriptors in the top-level table: fewer, or several tables' worth in a row.
   * @throws {ErrnoError} `ENOMEM` no page for the top-level table.
   */
  constructor(pages: TablePages, entries: number, rootEntries: number) {
    this.entries = entries;
    this.#pages = pages;
    this.#order = tableOrder(entries * 8);
    this.#rootOrder = tableOrder(rootEntries * 8);
    this.#rootSlots = Math.max(1, rootEntries / entries);
    const slots = this.#rootSlots + FIRST_SLOTS;
    this.words = new Uint32Array(slots * entries * 2);
    this.child = new Int32Array(slots * entries);
    this.phys = new Float64Array(slots);
    const base = pages.alloc(this.#rootOrder) * PAGE_SIZE;
    for (let slot = 0; slot < this.#rootSlots; slot++) this.phys[slot] = base + slot * entries * 8;
    this.#top = this.#rootSlots;
    this.used = this.#rootSlots;
  }

  /** Slots in use below the top-level table. */
  get belowRoot(): number {
    return this.used - this.#rootSlots;
  }

  /** Takes a page and clears it. @returns its slot, or -1 when no page is left. May replace `words` and `child`. */
  alloc(): number {
    const frame = this.#takePage();
    if (frame < 0) return -1;
    const reused = this.#freeSlots.pop();
    const slot = reused ?? this.#top++;
    if (reused !== undefined) {
      this.words.fill(0, slot * this.entries * 2, (slot + 1) * this.entries * 2);
      this.child.fill(0, slot * this.entries, (slot + 1) * this.entries);
    } else if (this.#top > this.phys.length) {
      this.#grow();
    }
    this.phys[slot] = frame * PAGE_SIZE;
    this.used++;
    return slot;
  }

  /** Gives the page of `slot` back. Its contents stay until the slot is used again, as those of freed memory do. */
  free(slot: number): void {
    this.#pages.free(((this.phys[slot] as number) / PAGE_SIZE) as Pfn, this.#order);
    this.#freeSlots.push(slot);
    this.used--;
  }

  /**
   * Takes `slot` out of use and leaves its page to the caller, who gives it back with {@link order} when no walker can see it any more.
   * @returns the page's frame.
   */
  unlink(slot: number): Pfn {
    this.#freeSlots.push(slot);
    this.used--;
    return ((this.phys[slot] as number) / PAGE_SIZE) as Pfn;
  }

  /** Order of a table's pages. */
  get order(): number {
    return this.#order;
  }

  /** Gives the top-level table's pages back; all others must be free already. */
  freeRoot(): void {
    this.#pages.free(((this.phys[0] as number) / PAGE_SIZE) as Pfn, this.#rootOrder);
    this.used -= this.#rootSlots;
  }

  #takePage(): number {
    try {
      return this.#pages.alloc(this.#order);
    } catch (error) {
      if (error instanceof ErrnoError && error.code === 'ENOMEM') return -1;
      throw error;
    }
  }

  #grow(): void {
    const words = new Uint32Array(this.words.length * 2);
    words.set(this.words);
    this.words = words;
    const child = new Int32Array(this.child.length * 2);
    child.set(this.child);
    this.child = child;
    const phys = new Float64Array(this.phys.length * 2);
    phys.set(this.phys);
    this.phys = phys;
  }
}

/** Order of the pages that a table of `sizeBytes` takes. @internal */
export function tableOrder(sizeBytes: number): number {
  return Math.max(0, Math.ceil(Math.log2(sizeBytes / PAGE_SIZE)));
}
