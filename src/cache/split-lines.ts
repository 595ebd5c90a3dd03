/**
 * Versions by byte, for the few lines whose bytes differ in age: partly written, falsely shared or partly lost.
 *
 * A pool on growing typed arrays. A line's record is a run of `lineBytes` entries from its base in each array; growing
 * replaces the arrays, so read them through the pool after each {@link SplitLines.open}.
 */

/** Per-byte versions of the lines that need them. @internal */
export class SplitLines {
  readonly #lineBytes: number;
  readonly #bases = new Map<number, number>();
  readonly #free: number[] = [];
  /** Newest version of each byte. */
  newest: Uint32Array;
  /** The version memory holds. */
  memory: Uint32Array;
  /** The versions that each cache holds, by its place among them; without meaning while it does not hold the line. */
  readonly caches: Uint32Array[] = [];
  /** The value of a byte whose newest version no copy holds any more. */
  kept: Uint8Array;
  #used = 0;

  constructor(lineBytes: number) {
    this.#lineBytes = lineBytes;
    this.newest = new Uint32Array(8 * lineBytes);
    this.memory = new Uint32Array(8 * lineBytes);
    this.kept = new Uint8Array(8 * lineBytes);
  }

  /** Lines that have a record. */
  get count(): number {
    return this.#bases.size;
  }

  /** Host bytes of the records, used or not. */
  get hostBytes(): number {
    return this.newest.byteLength * (2 + this.caches.length) + this.kept.byteLength;
  }

  /** One more cache. Whatever records there are have no line of it. */
  addCache(): void {
    this.caches.push(new Uint32Array(this.newest.length));
  }

  /** Base of the record of `line`, or -1. */
  baseOf(line: number): number {
    return this.#bases.get(line) ?? -1;
  }

  /** Gives `line` a record, every byte with these versions; those of caches are to be set. @returns its base. */
  open(line: number, newest: number, memory: number): number {
    const base = this.#free.pop() ?? this.#append();
    const end = base + this.#lineBytes;
    this.newest.fill(newest, base, end);
    this.memory.fill(memory, base, end);
    this.#bases.set(line, base);
    return base;
  }

  /** Forgets the record of `line`. */
  close(line: number): void {
    this.#free.push(this.baseOf(line));
    this.#bases.delete(line);
  }

  #append(): number {
    const base = this.#used;
    this.#used += this.#lineBytes;
    if (this.#used > this.newest.length) {
      this.newest = doubled(this.newest);
      this.memory = doubled(this.memory);
      for (const [i, versions] of this.caches.entries()) this.caches[i] = doubled(versions);
      const kept = new Uint8Array(2 * this.kept.length);
      kept.set(this.kept);
      this.kept = kept;
    }
    return base;
  }
}

function doubled(old: Uint32Array): Uint32Array {
  const grown = new Uint32Array(2 * old.length);
  grown.set(old);
  return grown;
}
