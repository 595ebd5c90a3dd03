/** Ranges of bytes, each with what it was noted for: sorted, apart from each other, neighbours of one origin joined. */

/** Bytes [start, end) and what they were noted for. */
export interface ByteRange<T> {
  readonly start: number;
  readonly end: number;
  readonly note: T;
}

/** @internal What was noted last of each byte. Plain throughout. */
export class ByteRanges<T> {
  readonly #ranges: ByteRange<T>[] = [];
  readonly #isOneOrigin: (older: T, newer: T) => boolean;

  /** @param isOneOrigin - whether ranges with these two notes may become one, with the newer note. */
  constructor(isOneOrigin: (older: T, newer: T) => boolean) {
    this.#isOneOrigin = isOneOrigin;
  }

  /** How many ranges are kept. */
  get count(): number {
    return this.#ranges.length;
  }

  /** From the first byte to behind the last one; `undefined`: there is none. */
  get bounds(): { readonly start: number; readonly end: number } | undefined {
    const [first] = this.#ranges;
    return first === undefined ? undefined : { start: first.start, end: (this.#ranges.at(-1) ?? first).end };
  }

  /** Notes bytes [start, end); what was noted for them before is forgotten. */
  add(start: number, end: number, note: T): void {
    const ranges = this.#ranges;
    const from = this.#firstEndingAfter(start - 1);
    const first = ranges[from];
    if (first === undefined) {
      ranges.push({ start, end, note });
      return;
    }
    if (first.note === note && first.start <= start && first.end >= end) return;
    let until = from;
    let low = start;
    let high = end;
    const before: ByteRange<T>[] = [];
    const after: ByteRange<T>[] = [];
    for (let range = ranges[until]; range !== undefined && range.start <= end; range = ranges[++until]) {
      if (this.#isOneOrigin(range.note, note)) {
        low = Math.min(low, range.start);
        high = Math.max(high, range.end);
        continue;
      }
      if (range.start < start) before.push({ ...range, end: Math.min(range.end, start) });
      if (range.end > end) after.push({ ...range, start: Math.max(range.start, end) });
    }
    const added = { start: low, end: high, note };
    if (until === from + 1 && before.length + after.length === 0) ranges[from] = added;
    else ranges.splice(from, until - from, ...before, added, ...after);
  }

  /** The first range that has a byte of [start, end), or `undefined`. */
  find(start: number, end: number): ByteRange<T> | undefined {
    const range = this.#ranges[this.#firstEndingAfter(start)];
    return range !== undefined && range.start < end ? range : undefined;
  }

  /** Index of the first range whose end is above `byte`. */
  #firstEndingAfter(byte: number): number {
    let low = 0;
    let high = this.#ranges.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#ranges[middle] as ByteRange<T>).end > byte) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}
