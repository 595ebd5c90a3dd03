/**
 * Which line each slot of a cache holds, whether it is dirty, and which one makes room for another.
 *
 *     set 0:  [tag | dirty | age]  x ways        line = phys / 64,  set = line mod sets,  slot = set * ways + way
 *     set 1:  ...
 */
import { CachedPages } from './cached-pages.ts';
import type { Replacement } from './replacement.ts';

/** Shape of a {@link CacheDirectory}, checked. */
export interface DirectoryShape {
  readonly sets: number;
  readonly ways: number;
  readonly lineBytes: number;
}

/** Tags and states of a cache. @internal */
export class CacheDirectory {
  readonly sets: number;
  readonly ways: number;
  readonly lineBytes: number;
  /** Lines it holds. */
  validLines = 0;
  /** Of these, lines that what is below does not know. */
  dirtyLines = 0;
  /** Result of {@link collect}. */
  readonly found: Uint32Array;
  /** Picks another victim than the policy: a way, or -1 to leave it to the policy. */
  chooseVictim: ((ways: number) => number) | undefined;
  /** `undefined`: least recently used. */
  readonly #policy: Replacement | undefined;
  /** Line number + 1 of each slot, 0 if empty. */
  readonly #tags: Float64Array;
  /** Time of the last use of each slot, 0 if empty. */
  readonly #ages: Float64Array;
  readonly #dirty: Uint8Array;
  readonly #pages: CachedPages;
  /** The bits of a line number that tell its set; -1 if the sets are no power of two. */
  readonly #setMask: number;
  #clock = 0;

  constructor(shape: DirectoryShape, policy: Replacement | undefined) {
    this.sets = shape.sets;
    this.ways = shape.ways;
    this.lineBytes = shape.lineBytes;
    this.#setMask = Number.isInteger(Math.log2(shape.sets)) ? shape.sets - 1 : -1;
    const slots = shape.sets * shape.ways;
    this.#policy = policy;
    this.#pages = new CachedPages(shape.lineBytes);
    this.#tags = new Float64Array(slots);
    this.#ages = new Float64Array(slots);
    this.#dirty = new Uint8Array(slots);
    this.found = new Uint32Array(slots);
  }

  /** The slot that holds `line`, or -1. Looks only. */
  find(line: number): number {
    const base = this.#setBase(line);
    const key = line + 1;
    for (let slot = base; slot < base + this.ways; slot++) if (this.#tags[slot] === key) return slot;
    return -1;
  }

  /** The slot that holds `line`, which counts as used; if none does, -1 - the first slot of its set. */
  use(line: number): number {
    const tags = this.#tags;
    const base = this.#setBase(line);
    const end = base + this.ways;
    const key = line + 1;
    for (let slot = base; slot < end; slot++) {
      if (tags[slot] !== key) continue;
      this.#ages[slot] = ++this.#clock;
      if (this.#policy !== undefined) this.#policy.used(slot, base / this.ways, slot - base);
      return slot;
    }
    return -1 - base;
  }

  /** The slot that a line is to have in the set from `base` on, which does not hold it: an empty one, or one whose line has to leave first. */
  slotIn(base: number): number {
    const ages = this.#ages;
    const end = base + this.ways;
    let victim = base;
    let oldest = ages[base] as number;
    for (let slot = base + 1; slot < end; slot++) {
      const age = ages[slot] as number;
      if (age >= oldest) continue;
      oldest = age;
      victim = slot;
    }
    return oldest === 0 || this.#isPlain ? victim : this.#chosen(base, victim);
  }

  /** `line` comes into `slot`, whose line, if any, is clean and leaves. */
  put(slot: number, line: number): void {
    const was = this.lineAt(slot);
    if (was < 0) this.validLines++;
    else this.#pages.count(was, -1);
    this.#tags[slot] = line + 1;
    this.#ages[slot] = ++this.#clock;
    if (this.#policy !== undefined) this.#filled(this.#policy, slot);
    this.#pages.count(line, 1);
  }

  /** The line of `slot` leaves. */
  clear(slot: number): void {
    this.#pages.count(this.lineAt(slot), -1);
    this.setClean(slot);
    this.#tags[slot] = 0;
    this.#ages[slot] = 0;
    this.validLines--;
  }

  isDirty(slot: number): boolean {
    return this.#dirty[slot] === 1;
  }

  setDirty(slot: number): void {
    if (this.#dirty[slot] === 0) this.dirtyLines++;
    this.#dirty[slot] = 1;
  }

  setClean(slot: number): void {
    if (this.#dirty[slot] === 1) this.dirtyLines--;
    this.#dirty[slot] = 0;
  }

  /** The line that `slot` holds, -1 if empty. */
  lineAt(slot: number): number {
    return (this.#tags[slot] as number) - 1;
  }

  /** Where the data of `slot` begins. Way by way, so that consecutive lines tend to lie in a row. Fits 31 bits. */
  dataAt(slot: number): number {
    const set = (slot / this.ways) | 0;
    return ((slot - set * this.ways) * this.sets + set) * this.lineBytes;
  }

  /** The `n`th line that is held, from 0, in the order of slots. */
  nthHeld(n: number): number {
    let slot = -1;
    for (let left = n; left >= 0; left--) {
      do slot++;
      while (this.#tags[slot] === 0);
    }
    return this.lineAt(slot);
  }

  /** Puts the slots of the lines in [first, last] that are held into {@link found}. @returns how many. Walks what is smaller. */
  collect(first: number, last: number): number {
    let count = 0;
    const slots = this.#tags.length;
    if (last - first + 1 > slots) {
      for (let slot = 0; slot < slots; slot++) {
        const line = (this.#tags[slot] as number) - 1;
        if (line >= first && line <= last) this.found[count++] = slot;
      }
      return count;
    }
    const end = last + 1;
    for (let line = this.#pages.skip(first, end); line < end; line = this.#pages.skip(line, end)) {
      const stop = Math.min(end, this.#pages.endOfPage(line));
      for (; line < stop; line++) {
        const slot = this.find(line);
        if (slot >= 0) this.found[count++] = slot;
      }
    }
    return count;
  }

  /** Whether the one that was used longest ago makes room. */
  get #isPlain(): boolean {
    return this.#policy === undefined && this.chooseVictim === undefined;
  }

  /** The slot of the set from `base` on that is to make room, the set being full. */
  #chosen(base: number, oldest: number): number {
    const way = this.chooseVictim === undefined ? -1 : this.chooseVictim(this.ways);
    if (way >= 0) return base + way;
    return this.#policy === undefined ? oldest : base + this.#policy.victim(base, base / this.ways);
  }

  #filled(policy: Replacement, slot: number): void {
    const set = (slot / this.ways) | 0;
    policy.filled(slot, set, slot - set * this.ways);
  }

  /** First slot of the set of `line`. `&` takes the low bits of any whole number, also of one beyond 32 bits. */
  #setBase(line: number): number {
    const mask = this.#setMask;
    return (mask >= 0 ? line & mask : line - Math.floor(line / this.sets) * this.sets) * this.ways;
  }
}
