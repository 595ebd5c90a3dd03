/** A bitmap of pages in use, searched a word of 32 bits at a time. */

const WORD = 32;

/**
 * Which of `pages` pages are in use. Arguments must lie inside; nothing is checked.
 *
 * @internal
 */
export class PageBitmap {
  readonly pages: number;
  readonly #words: Uint32Array;

  constructor(pages: number) {
    this.pages = pages;
    this.#words = new Uint32Array(Math.ceil(pages / WORD));
  }

  /** Marks pages [first, first + count) as used or free. */
  set(first: number, count: number, used: boolean): void {
    const end = first + count;
    for (let at = first; at < end; ) {
      const bit = at % WORD;
      const width = Math.min(WORD - bit, end - at);
      const mask = width === WORD ? -1 : ((1 << width) - 1) << bit;
      const index = Math.floor(at / WORD);
      const word = this.#words[index] as number;
      this.#words[index] = used ? word | mask : word & ~mask;
      at += width;
    }
  }

  /** The first free page in [from, pages), or `pages`. */
  nextFree(from: number): number {
    return this.#next(from, this.pages, -1);
  }

  /** The first used page in [from, end), or `end`. */
  nextUsed(from: number, end: number): number {
    return this.#next(from, end, 0);
  }

  /** The first page of [from, end) whose bit, xor `flip`'s, is 1; or `end`. */
  #next(from: number, end: number, flip: number): number {
    if (from >= end) return end;
    let index = Math.floor(from / WORD);
    let word = ((this.#words[index] as number) ^ flip) & (-1 << (from % WORD));
    while (word === 0) {
      index++;
      if (index * WORD >= end) return end;
      word = (this.#words[index] as number) ^ flip;
    }
    return Math.min(end, index * WORD + 31 - Math.clz32(word & -word));
  }

  /**
   * The lowest `start` with `count` free pages where `start + phase` is a multiple of `align`, or -1.
   * One pass over the words; a used page that is met is never looked at again.
   */
  findFree(count: number, align: number, phase: number): number {
    for (let start = alignWithPhase(this.nextFree(0), align, phase); start + count <= this.pages; ) {
      const used = this.nextUsed(start, start + count);
      if (used === start + count) return start;
      start = alignWithPhase(this.nextFree(used), align, phase);
    }
    return -1;
  }

  /** Pages of the longest free run. */
  longestFree(): number {
    let longest = 0;
    for (let start = this.nextFree(0); start < this.pages; ) {
      const end = this.nextUsed(start, this.pages);
      longest = Math.max(longest, end - start);
      start = this.nextFree(end);
    }
    return longest;
  }
}

function alignWithPhase(at: number, align: number, phase: number): number {
  return Math.ceil((at + phase) / align) * align - phase;
}
