/**
 * Which cache lines begin a mapping that a device may write: of each mapping its first line counts, as in the kernel.
 *
 * An open-addressing table on typed arrays: a list of thousands of segments costs no object and no `Map` entry each.
 *
 * @see Linux 6.1 `kernel/dma/debug.c` active_cacheline_insert, active_cacheline_remove
 */

/** Further mappings of one line that are counted; beyond them the count is lost. */
export const MAX_LINE_OVERLAP = 7;

const EMPTY = -1;
const FIRST_SLOTS = 256;

/** @internal Lines in use, by number. */
export class CachelineTracker {
  /** Further mappings of the line that the last {@link add} was about, itself included; 0: it was free. */
  overlaps = 0;
  /** Whether those before the last {@link add} all belong to the same buffer. */
  isShared = false;
  #lines = new Float64Array(FIRST_SLOTS).fill(EMPTY);
  #counts = new Uint8Array(FIRST_SLOTS);
  #buffers = new Float64Array(FIRST_SLOTS);
  #used = 0;

  /** Lines that are tracked. */
  get size(): number {
    return this.#used;
  }

  /**
   * A mapping of `buffer` (0: of no known one) begins in `line`; the answer is in {@link overlaps} and {@link isShared}.
   *
   * @returns true when another one began there already.
   */
  add(line: number, buffer: number): boolean {
    const at = this.#find(line);
    if (this.#lines[at] === EMPTY) {
      this.#lines[at] = line;
      this.#counts[at] = 0;
      this.#buffers[at] = buffer;
      this.overlaps = 0;
      this.isShared = false;
      if (++this.#used * 2 > this.#lines.length) this.#grow();
      return false;
    }
    const count = (this.#counts[at] as number) + 1;
    this.overlaps = count;
    this.isShared = buffer !== 0 && this.#buffers[at] === buffer;
    if (!this.isShared) this.#buffers[at] = 0;
    if (count <= MAX_LINE_OVERLAP) this.#counts[at] = count;
    return true;
  }

  /** Ends an {@link add}; does nothing when the line is not tracked, as after a count was lost. */
  remove(line: number): void {
    const at = this.#find(line);
    if (this.#lines[at] === EMPTY) return;
    const count = this.#counts[at] as number;
    if (count > 0) this.#counts[at] = count - 1;
    else this.#drop(at);
  }

  /** The slot of `line`, or the free one where it would go. */
  #find(line: number): number {
    const lines = this.#lines;
    const last = lines.length - 1;
    let at = slotOf(line, last);
    while (lines[at] !== EMPTY && lines[at] !== line) at = at === last ? 0 : at + 1;
    return at;
  }

  /** Empties a slot and moves those up that were put behind it for want of it. */
  #drop(hole: number): void {
    const lines = this.#lines;
    const last = lines.length - 1;
    this.#used--;
    let free = hole;
    for (let at = (free + 1) % lines.length; lines[at] !== EMPTY; at = (at + 1) % lines.length) {
      const home = slotOf(lines[at] as number, last);
      const isBetween = free < at ? home > free && home <= at : home > free || home <= at;
      if (isBetween) continue;
      lines[free] = lines[at] as number;
      this.#counts[free] = this.#counts[at] as number;
      this.#buffers[free] = this.#buffers[at] as number;
      free = at;
    }
    lines[free] = EMPTY;
  }

  #grow(): void {
    const lines = this.#lines;
    const counts = this.#counts;
    const buffers = this.#buffers;
    this.#lines = new Float64Array(lines.length * 2).fill(EMPTY);
    this.#counts = new Uint8Array(lines.length * 2);
    this.#buffers = new Float64Array(lines.length * 2);
    for (let i = 0; i < lines.length; i++) {
      const line = lines[i] as number;
      if (line === EMPTY) continue;
      const at = this.#find(line);
      this.#lines[at] = line;
      this.#counts[at] = counts[i] as number;
      this.#buffers[at] = buffers[i] as number;
    }
  }
}

/** Where the search for `line` begins: its number's low and high part, spread by a multiplication. `last` is the mask of a power of two. */
function slotOf(line: number, last: number): number {
  const high = Math.floor(line / 2 ** 32);
  const spread = Math.imul(((line % 2 ** 32) | 0) ^ Math.imul(high, 0x85eb_ca6b), 0x9e37_79b1);
  return (spread ^ (spread >>> 15)) & last;
}
