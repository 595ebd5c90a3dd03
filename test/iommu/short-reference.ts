/**
 * The obvious model of a table of short descriptors: a `Map` of MiB and one of 4 KiB pages. A supersection is 16 entries of the one, a large
 * page 16 of the other; they are marked, because unmapping a part of them invalidates and keeps the rest.
 */
import { KIB, MIB } from '../../src/base/units.ts';
import type { MapAnswer, PgtableReference, Translated } from './pgtable-model.ts';

interface Leaf {
  readonly phys: number;
  readonly prot: number;
  readonly isLarge: boolean;
}

const PAGE = 4 * KIB;
const LARGE = 16;
const EEXIST = -17;

/** See the head of this file. */
export class ShortReference implements PgtableReference {
  warnings = 0;
  /** A section, or null: a table of pages. */
  readonly #sections = new Map<number, Leaf | null>();
  readonly #pages = new Map<number, Leaf>();

  get tablePages(): number {
    return [...this.#sections.values()].filter((leaf) => leaf === null).length;
  }

  map(at: number, phys: number, size: number, count: number, prot: number): MapAnswer {
    for (let i = 0; i < count; i++) {
      if (!this.#mapOne(at + i * size, phys + i * size, size, prot))
        return this.#warn({ ret: EEXIST, mapped: i * size });
    }
    return { ret: 0, mapped: count * size };
  }

  unmap(at: number, size: number, count: number): number {
    for (let i = 0; i < count; i++) if (!this.#unmapOne(at + i * size, size)) return i * size;
    return count * size;
  }

  translate(at: number): Translated | null {
    const section = this.#sections.get(Math.floor(at / MIB));
    const step = section === null ? PAGE : MIB;
    const leaf = section === null ? this.#pages.get(Math.floor(at / PAGE)) : section;
    if (leaf === undefined) return null;
    return { phys: leaf.phys + (at % step), prot: leaf.prot, sizeBytes: leaf.isLarge ? LARGE * step : step };
  }

  leaves(): number {
    const entries = [...this.#sections.values(), ...this.#pages.values()].filter((leaf) => leaf !== null);
    return entries.reduce((sum, { isLarge }) => sum + (isLarge ? 1 / LARGE : 1), 0);
  }

  #warn<T>(answer: T): T {
    this.warnings++;
    return answer;
  }

  #mapOne(at: number, phys: number, size: number, prot: number): boolean {
    const isSection = size >= MIB;
    const step = isSection ? MIB : PAGE;
    const isLarge = size > step;
    if (!isSection) {
      const section = this.#sections.get(Math.floor(at / MIB));
      if (section) return false;
      this.#sections.set(Math.floor(at / MIB), null);
    }
    for (let done = 0; done < size; done += step) {
      if (this.#leafAt(at + done, isSection) !== undefined) return false;
      if (isSection) this.#dropTable(at + done);
    }
    for (let done = 0; done < size; done += step) {
      const leaf = { phys: phys + done, prot, isLarge };
      if (isSection) this.#sections.set((at + done) / MIB, leaf);
      else this.#pages.set((at + done) / PAGE, leaf);
    }
    return true;
  }

  #leafAt(at: number, isSection: boolean): Leaf | undefined {
    return isSection ? (this.#sections.get(Math.floor(at / MIB)) ?? undefined) : this.#pages.get(Math.floor(at / PAGE));
  }

  #unmapOne(at: number, size: number): boolean {
    const isSection = size >= MIB;
    for (let done = 0; done < Math.max(size, 1); done += MIB)
      if (!this.#sections.has(Math.floor((at + done) / MIB))) return this.#warn(false);
    if (size <= MIB) this.#splitLarge(at, true);
    if (isSection) {
      for (let done = 0; done < size; done += MIB) {
        this.#dropTable(at + done);
        this.#sections.delete((at + done) / MIB);
      }
      return true;
    }
    this.#splitSection(at, size);
    for (let done = 0; done < size; done += PAGE) if (!this.#pages.has((at + done) / PAGE)) return this.#warn(false);
    if (size <= PAGE) this.#splitLarge(at, false);
    for (let done = 0; done < size; done += PAGE) this.#pages.delete((at + done) / PAGE);
    return true;
  }

  /** Makes the 16 parts of the large leaf at `at`, if there is one, leaves of their own. */
  #splitLarge(at: number, isSection: boolean): void {
    if (this.#leafAt(at, isSection)?.isLarge !== true) return;
    const step = isSection ? MIB : PAGE;
    const first = Math.floor(at / (LARGE * step)) * LARGE;
    const leaves = isSection ? this.#sections : this.#pages;
    for (let i = first; i < first + LARGE; i++) {
      const leaf = leaves.get(i);
      if (leaf) leaves.set(i, { ...leaf, isLarge: false });
    }
  }

  /** Puts pages of `size` in place of the section at `at`. They lead to memory from 0 on: the section's address is lost. */
  #splitSection(at: number, size: number): void {
    const index = Math.floor(at / MIB);
    const section = this.#sections.get(index);
    if (!section) return;
    this.#sections.set(index, null);
    for (let done = 0; done < MIB; done += PAGE)
      this.#pages.set((index * MIB + done) / PAGE, { phys: done, prot: section.prot, isLarge: size > PAGE });
  }

  #dropTable(at: number): void {
    const index = Math.floor(at / MIB);
    if (this.#sections.get(index) !== null) return;
    for (let page = (index * MIB) / PAGE; page < ((index + 1) * MIB) / PAGE; page++) this.#pages.delete(page);
    this.#sections.delete(index);
  }
}
