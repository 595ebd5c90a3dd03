/**
 * The obvious model of a page table with 64-bit descriptors: one `Map` from (level, index) to what the entry there is. It says what a
 * call answers, what translates, how many tables there are and how often the kernel would have warned.
 */
import type { MapAnswer, PgtableReference, Translated } from './pgtable-model.ts';

interface Leaf {
  readonly kind: 'leaf';
  readonly phys: number;
  readonly prot: number;
}

type Entry = Leaf | { readonly kind: 'table' };

const TABLE: Entry = { kind: 'table' };
const EEXIST = -17;

/** See the head of this file. */
export class LpaeReference implements PgtableReference {
  warnings = 0;
  /** By level + 8 * index. */
  readonly #entries = new Map<number, Entry>();
  readonly #sizes: readonly number[];
  readonly #perTable: number;
  #tables = 0;

  /** @param sizes - bytes of an entry at each level, top level first. */
  constructor(sizes: readonly number[]) {
    this.#sizes = sizes;
    this.#perTable = this.#size(sizes.length - 1) / 8;
  }

  get tablePages(): number {
    return this.#tables;
  }

  map(at: number, phys: number, size: number, count: number, prot: number): MapAnswer {
    const level = this.#sizes.indexOf(size);
    for (let above = 0; above < level; above++) {
      const entry = this.#get(above, at);
      if (entry === undefined) this.#set(above, at, TABLE);
      else if (entry.kind === 'leaf') return this.#warn({ ret: EEXIST, mapped: 0 });
    }
    const pages = this.#room(level, at, count);
    for (let i = 0; i < pages; i++) {
      const entry = this.#get(level, at + i * size);
      if (entry?.kind === 'leaf') return this.#warn({ ret: EEXIST, mapped: 0 });
      this.#remove(level, at + i * size);
    }
    for (let i = 0; i < pages; i++) this.#set(level, at + i * size, { kind: 'leaf', phys: phys + i * size, prot });
    return { ret: 0, mapped: pages * size };
  }

  unmap(at: number, size: number, count: number): number {
    const level = this.#sizes.indexOf(size);
    for (let above = 0; above < level; above++) {
      const entry = this.#get(above, at);
      if (entry === undefined) return this.#warn(0);
      if (entry.kind === 'leaf') this.#split(above, at, entry);
    }
    const pages = this.#room(level, at, count);
    for (let i = 0; i < pages; i++) {
      if (this.#get(level, at + i * size) === undefined) return this.#warn(i * size);
      this.#remove(level, at + i * size);
    }
    return pages * size;
  }

  translate(at: number): Translated | null {
    for (const [level, sizeBytes] of this.#sizes.entries()) {
      const entry = this.#get(level, at);
      if (entry === undefined) return null;
      if (entry.kind === 'leaf') return { phys: entry.phys + remainder(at, sizeBytes), prot: entry.prot, sizeBytes };
    }
    return null;
  }

  leaves(): number {
    return [...this.#entries.values()].filter(({ kind }) => kind === 'leaf').length;
  }

  #warn<T>(answer: T): T {
    this.warnings++;
    return answer;
  }

  #key(level: number, at: number): number {
    return level + 8 * Math.floor(at / this.#size(level));
  }

  #get(level: number, at: number): Entry | undefined {
    return this.#entries.get(this.#key(level, at));
  }

  #set(level: number, at: number, entry: Entry): void {
    if (entry.kind === 'table') this.#tables++;
    this.#entries.set(this.#key(level, at), entry);
  }

  /** Takes the entry at `at` out, with all below it. */
  #remove(level: number, at: number): void {
    const entry = this.#get(level, at);
    if (entry === undefined) return;
    this.#entries.delete(this.#key(level, at));
    if (entry.kind === 'leaf') return;
    this.#tables--;
    const size = this.#size(level);
    const start = Math.floor(at / size) * size;
    for (let below = start; below < start + size; below += this.#size(level + 1)) this.#remove(level + 1, below);
  }

  /** Puts a table of leaves in place of the block at `at`. */
  #split(level: number, at: number, { phys, prot }: Leaf): void {
    const size = this.#size(level);
    const start = Math.floor(at / size) * size;
    this.#set(level, at, TABLE);
    for (let done = 0; done < size; done += this.#size(level + 1))
      this.#set(level + 1, start + done, { kind: 'leaf', phys: phys + done, prot });
  }

  /** Pages of `count` before the end of the table; tables that stand in a row at the top count one by one. */
  #room(level: number, at: number, count: number): number {
    return Math.min(count, this.#perTable - remainder(at / this.#size(level), this.#perTable));
  }

  #size(level: number): number {
    return this.#sizes[level] ?? Number.NaN;
  }
}

function remainder(at: number, size: number): number {
  return at - Math.floor(at / size) * size;
}
