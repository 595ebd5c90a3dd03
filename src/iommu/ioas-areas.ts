/** The mapped areas of one IO address space: each is what one map or copy made, and goes as a whole. */
import type { IoasPages } from './ioas-pages.ts';
import type { IoasTable } from './ioas-table.ts';

/** One mapped range. @internal */
export interface IoasArea {
  readonly ioas: IoasTable;
  readonly iova: number;
  readonly sizeBytes: number;
  readonly last: number;
  readonly pages: IoasPages;
  /** Byte of `pages` (from page 0 of them) that `iova` leads to. */
  readonly startByte: number;
  /** `IommuProt` read and write bits. */
  readonly prot: number;
  /** Pins of access objects that have a byte of it. */
  accesses: number;
  /** Being unmapped: no new pins. */
  isGoing: boolean;
}

/** Areas, ascending; they never overlap. @internal */
export class IoasAreas {
  readonly #areas: IoasArea[] = [];

  get count(): number {
    return this.#areas.length;
  }

  /** Index of the first area that ends at or behind `iova`. */
  #from(iova: number): number {
    let low = 0;
    let high = this.#areas.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#areas[middle] as IoasArea).last < iova) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  insert(area: IoasArea): void {
    this.#areas.splice(this.#from(area.iova), 0, area);
  }

  remove(area: IoasArea): void {
    const at = this.#from(area.iova);
    if (this.#areas[at] === area) this.#areas.splice(at, 1);
  }

  /** The areas with a byte in `start` to `last`, ascending. */
  overlapping(start: number, last: number): IoasArea[] {
    const found: IoasArea[] = [];
    for (let at = this.#from(start); at < this.#areas.length; at++) {
      const area = this.#areas[at] as IoasArea;
      if (area.iova > last) break;
      found.push(area);
    }
    return found;
  }

  /** Last address of the last area with a byte in `start` to `last`, or -1. */
  lastOverlap(start: number, last: number): number {
    let found = -1;
    for (let at = this.#from(start); at < this.#areas.length; at++) {
      const area = this.#areas[at] as IoasArea;
      if (area.iova > last) break;
      found = area.last;
    }
    return found;
  }

  /** The areas that cover `start` to `last` without a hole, or null. */
  covering(start: number, last: number): IoasArea[] | null {
    const areas = this.overlapping(start, last);
    let next = start;
    for (const area of areas) {
      if (area.iova > next) return null;
      next = area.last + 1;
    }
    return next > last ? areas : null;
  }

  /** All, ascending. A copy: it may be unmapped while it is walked. */
  all(): IoasArea[] {
    return [...this.#areas];
  }
}
