/**
 * The tables of one short-descriptor page table in a growing typed array.
 *
 * The top-level table lies at the start of `words`; a second-level table is known by the offset of its first descriptor there, which is never 0.
 * Second-level tables are 1 KiB: four share a page of real memory, which goes back when all four are free. `words` is replaced
 * when the arena grows: read it again after {@link alloc}.
 *
 * @internal
 */
import { PAGE_SIZE, type Pfn } from '../base/addr.ts';
import { ErrnoError } from '../base/errors.ts';
import type { TablePages } from './io-pgtable.ts';
import { tableOrder } from './table-arena.ts';

/** Descriptors of a second-level table. @internal */
export const PAGE_ENTRIES = 256;
const ENTRY_BYTES = 4;
const TABLE_BYTES = PAGE_ENTRIES * ENTRY_BYTES;
const TABLES_PER_PAGE = PAGE_SIZE / TABLE_BYTES;
const ALL_FREE = 2 ** TABLES_PER_PAGE - 1;
const FIRST_TABLES = 4;

/** @internal See the head of this file. */
export class ShortTableArena {
  /** All descriptors. */
  words: Uint32Array;
  /** Offset of the table that a descriptor of the top level names, or 0. */
  readonly child: Int32Array;
  /** Physical address of the top-level table. */
  readonly rootPhys: number;
  /** Second-level tables in use. */
  used = 0;
  readonly rootEntries: number;
  readonly #pages: TablePages;
  readonly #endPhys: number;
  readonly #rootOrder: number;
  readonly #phys: number[] = [];
  readonly #freeTables: number[] = [];
  /** Pages with free quarters, a bit each. */
  readonly #quarters = new Map<number, number>();

  /**
   * @param endPhys - tables at or above this address cannot be named by a register or descriptor.
   * @throws {ErrnoError} `ENOMEM` no pages in a row for the top-level table, or out of reach.
   */
  constructor(pages: TablePages, rootEntries: number, endPhys: number) {
    this.rootEntries = rootEntries;
    this.#pages = pages;
    this.#endPhys = endPhys;
    this.#rootOrder = tableOrder(rootEntries * ENTRY_BYTES);
    this.words = new Uint32Array(rootEntries + FIRST_TABLES * PAGE_ENTRIES);
    this.child = new Int32Array(rootEntries);
    const frame = pages.alloc(this.#rootOrder);
    this.rootPhys = frame * PAGE_SIZE;
    if (this.rootPhys + rootEntries * ENTRY_BYTES > endPhys) {
      pages.free(frame, this.#rootOrder);
      throw new ErrnoError('ENOMEM', 'alloc_io_pgtable_ops', 'the top-level table lies where no register can name it');
    }
  }

  /** Physical address of the table at `offset`. */
  physOf(offset: number): number {
    return this.#phys[this.#indexOf(offset)] as number;
  }

  /** Takes a table and clears it. @returns its offset, or -1 when no page within reach is left. May replace `words`. */
  alloc(): number {
    const phys = this.#takeQuarter();
    if (phys < 0) return -1;
    const index = this.#freeTables.pop() ?? this.#phys.length;
    this.#phys[index] = phys;
    this.used++;
    const offset = this.rootEntries + index * PAGE_ENTRIES;
    if (offset < this.words.length) {
      this.words.fill(0, offset, offset + PAGE_ENTRIES);
    } else {
      const words = new Uint32Array(this.rootEntries + index * 2 * PAGE_ENTRIES);
      words.set(this.words);
      this.words = words;
    }
    return offset;
  }

  /** Gives the table at `offset` back. Its contents stay until it is used again, as those of freed memory do. */
  free(offset: number): void {
    const index = this.#indexOf(offset);
    const phys = this.#phys[index] as number;
    const frame = Math.floor(phys / PAGE_SIZE);
    const free = (this.#quarters.get(frame) ?? 0) | (1 << ((phys % PAGE_SIZE) / TABLE_BYTES));
    this.#freeTables.push(index);
    this.used--;
    if (free !== ALL_FREE) {
      this.#quarters.set(frame, free);
      return;
    }
    this.#quarters.delete(frame);
    this.#pages.free(frame as Pfn, 0);
  }

  /** Gives the top-level table's pages back; all others must be free already. */
  freeRoot(): void {
    this.#pages.free((this.rootPhys / PAGE_SIZE) as Pfn, this.#rootOrder);
  }

  #indexOf(offset: number): number {
    return (offset - this.rootEntries) / PAGE_ENTRIES;
  }

  /** Physical address of a free quarter, from a page that is partly in use if there is one; or -1. */
  #takeQuarter(): number {
    for (const [frame, free] of this.#quarters) return this.#quarterOf(frame, free);
    const frame = this.#takePage();
    return frame < 0 ? -1 : this.#quarterOf(frame, ALL_FREE);
  }

  #quarterOf(frame: number, free: number): number {
    const quarter = 31 - Math.clz32(free & -free);
    const left = free & ~(1 << quarter);
    if (left === 0) this.#quarters.delete(frame);
    else this.#quarters.set(frame, left);
    return frame * PAGE_SIZE + quarter * TABLE_BYTES;
  }

  #takePage(): number {
    let frame: Pfn;
    try {
      frame = this.#pages.alloc(0);
    } catch (error) {
      if (error instanceof ErrnoError && error.code === 'ENOMEM') return -1;
      throw error;
    }
    if ((frame + 1) * PAGE_SIZE <= this.#endPhys) return frame;
    this.#pages.free(frame, 0);
    return -1;
  }
}
