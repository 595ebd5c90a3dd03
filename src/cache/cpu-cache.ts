/**
 * The last-level cache of one coherent group of CPUs: write-back, write-allocate, physically indexed and tagged.
 *
 *     set 0:  [tag | dirty | age | 64 bytes]  x ways        line = phys / 64,  set = line mod sets
 *     set 1:  ...
 *
 * Rules:
 * 1. A line holds its own bytes. Nobody updates them when memory changes: they stay old until dropped.
 * 2. A miss fetches the line from memory, unless a write covers all of it. The victim is an empty way, else the least
 *    recently used; a dirty victim is written back whole, over whatever memory holds by then.
 * 3. Operations by range act on whole lines. The first and the last may hold bytes of a neighbour: invalidating
 *    destroys them, cleaning writes them back.
 * 4. Over memory without bytes (tag mode) only tags, states and counters are kept.
 *
 * Inaccuracies: one level; exact LRU where hardware approximates; no fill or write-back of its own accord (see
 * `CoherencyDomain.prefetch` and `evict`); whole lines are written back though some hardware keeps byte masks.
 *
 * @see Arm Architecture Reference Manual DDI 0487, D7.5 "Cache support"; Intel SDM volume 3, 12.3
 */
import type { PhysAddr } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import type { PhysMemory } from '../mem/phys-memory.ts';
import { copyBytes, wordIndex, wordsOf } from './byte-copy.ts';
import type { CacheCounters } from './cache-counters.ts';
import { CachedPages } from './cached-pages.ts';

/** Shape of a cache. Default: 1 MiB, 16 ways, lines of 64 bytes. */
export interface CacheGeometry {
  /** Sets, at least 1. Default 1024. */
  readonly sets?: number;
  /** Lines a set holds, at least 1. Default 16. */
  readonly ways?: number;
  /** Bytes in a line: a power of two in 16..1024. Default 64. */
  readonly lineBytes?: number;
}

/** Told what happens to lines, to keep a shadow; must not change the cache. @internal */
export interface CacheObserver {
  /** `line` was fetched from memory into `slot`. */
  filled(slot: number, line: number): void;
  /** Bytes [from, to) of `line` are read from `slot`. */
  lineRead(slot: number, line: number, from: number, to: number): void;
  /** Bytes [from, to) of `line` are written in `slot`. */
  lineWritten(slot: number, line: number, from: number, to: number): void;
  /** `slot` is about to be copied to memory. */
  writingBack(slot: number, line: number): void;
  /** `slot` is about to be dropped. */
  dropping(slot: number, line: number): void;
}

/** A cache over `memory`. Plain throughout, costs nothing: `CoherencyDomain` charges. Addresses are not checked here. */
export class CpuCache {
  readonly sets: number;
  readonly ways: number;
  readonly lineBytes: number;
  readonly counters: CacheCounters = {
    hits: 0,
    misses: 0,
    cleaned: 0,
    invalidated: 0,
    evictions: 0,
    writtenBackBytes: 0,
  };
  /** @internal */
  observer: CacheObserver | undefined;
  /** Data of all slots, way by way, so that consecutive lines tend to lie in a row; empty in tag mode. @internal */
  readonly bytes: Uint8Array;
  readonly #words: Int32Array;
  readonly #lineWords: number;
  readonly #memory: PhysMemory;
  /** Line number + 1 of each slot, 0 if empty. */
  readonly #tags: Float64Array;
  /** Time of the last use of each slot, 0 if empty. */
  readonly #ages: Float64Array;
  readonly #dirty: Uint8Array;
  readonly #pages: CachedPages;
  /** Result of {@link CpuCache.#collect}. */
  readonly #found: Uint32Array;
  #clock = 0;
  #dirtyLines = 0;
  #validLines = 0;

  /** @throws {InvariantError} a parameter outside its range. */
  constructor(memory: PhysMemory, geometry: CacheGeometry = {}) {
    const { sets = 1024, ways = 16, lineBytes = 64 } = geometry;
    assert(Number.isInteger(sets) && sets >= 1, 'cache: sets %s is no whole number >= 1', sets);
    assert(Number.isInteger(ways) && ways >= 1, 'cache: ways %s is no whole number >= 1', ways);
    assert(
      lineBytes >= 16 && lineBytes <= 1024 && Number.isInteger(Math.log2(lineBytes)),
      'cache: lineBytes %s is no power of two in 16..1024',
      lineBytes,
    );
    const slots = sets * ways;
    this.sets = sets;
    this.ways = ways;
    this.lineBytes = lineBytes;
    this.#memory = memory;
    this.bytes = new Uint8Array(memory.storesBytes ? slots * lineBytes : 0);
    this.#words = new Int32Array(this.bytes.buffer);
    this.#lineWords = lineBytes / 4;
    this.#pages = new CachedPages(lineBytes);
    this.#tags = new Float64Array(slots);
    this.#ages = new Float64Array(slots);
    this.#dirty = new Uint8Array(slots);
    this.#found = new Uint32Array(slots);
  }

  /** Lines it can hold. */
  get slots(): number {
    return this.sets * this.ways;
  }

  /** Lines that memory does not know of. */
  get dirtyLines(): number {
    return this.#dirtyLines;
  }

  /** Lines it holds. */
  get validLines(): number {
    return this.#validLines;
  }

  /** Reads `length` bytes at `phys` through the cache into `out` from `outOffset`; `null`: only lines move. */
  read(phys: PhysAddr, out: Uint8Array | null, outOffset: number, length: number): void {
    const { lineBytes, observer } = this;
    const target = this.bytes.length === 0 ? null : out;
    const words = target === null ? undefined : wordsOf(target, length);
    let line = Math.floor(phys / lineBytes);
    let from = phys - line * lineBytes;
    for (let done = 0; done < length; line++) {
      const to = Math.min(lineBytes, from + length - done);
      const slot = this.#touch(line, true);
      observer?.lineRead(slot, line, from, to);
      if (target !== null) this.#copyOut(slot, from, to, target, outOffset + done, words);
      done += to - from;
      from = 0;
    }
  }

  /** Writes `length` bytes of `src` from `srcOffset` at `phys` into the cache; `null` in tag mode only. */
  write(phys: PhysAddr, src: Uint8Array | null, srcOffset: number, length: number): void {
    const { lineBytes, observer } = this;
    const dirty = this.#dirty;
    const source = this.bytes.length === 0 ? null : src;
    const words = source === null ? undefined : wordsOf(source, length);
    let line = Math.floor(phys / lineBytes);
    let from = phys - line * lineBytes;
    for (let done = 0; done < length; line++) {
      const to = Math.min(lineBytes, from + length - done);
      const slot = this.#touch(line, to - from < lineBytes);
      observer?.lineWritten(slot, line, from, to);
      if (dirty[slot] === 0) this.#dirtyLines++;
      dirty[slot] = 1;
      if (source !== null) {
        const at = srcOffset + done;
        const word = words === undefined || to - from < lineBytes ? -1 : wordIndex(source, at);
        if (words !== undefined && word >= 0) this.#copyLine(this.#words, this.dataAt(slot) >> 2, words, word);
        else copyBytes(this.bytes, this.dataAt(slot) + from, source, at, to - from);
      }
      done += to - from;
      from = 0;
    }
  }

  /** Fetches the lines of [phys, phys + length) that are missing; reads nothing. */
  fetch(phys: PhysAddr, length: number): void {
    const last = this.lineOf(phys + length - 1);
    for (let line = this.lineOf(phys); line <= last; line++) this.#touch(line, true);
  }

  /** Writes the dirty lines that overlap [phys, phys + length) back and keeps them. @returns lines of the range. */
  clean(phys: PhysAddr, length: number): number {
    return this.#maintain(phys, length, true, false);
  }

  /** Drops the lines that overlap [phys, phys + length), dirty or not: their bytes are gone. @returns lines of the range. */
  invalidate(phys: PhysAddr, length: number): number {
    return this.#maintain(phys, length, false, true);
  }

  /** Writes the dirty lines that overlap [phys, phys + length) back, then drops all of them. @returns lines of the range. */
  cleanInvalidate(phys: PhysAddr, length: number): number {
    return this.#maintain(phys, length, true, true);
  }

  /** Answers a snooping read: lays the bytes of dirty lines over `out`, which holds what memory answered. */
  snoopRead(phys: PhysAddr, out: Uint8Array | null, outOffset: number, length: number): void {
    if (this.#dirtyLines === 0) return;
    const count = this.#collect(this.lineOf(phys), this.lineOf(phys + length - 1));
    const target = this.bytes.length === 0 ? null : out;
    const words = target === null ? undefined : wordsOf(target, length);
    for (let k = 0; k < count; k++) {
      const slot = this.#found[k] as number;
      if (this.#dirty[slot] === 0) continue;
      const line = this.lineAt(slot);
      const start = line * this.lineBytes;
      const from = Math.max(0, phys - start);
      const to = Math.min(this.lineBytes, phys + length - start);
      this.observer?.lineRead(slot, line, from, to);
      if (target !== null) this.#copyOut(slot, from, to, target, outOffset + start + from - phys, words);
    }
  }

  /** The cached copy of the line that `phys` lies in, bytes empty in tag mode; `undefined` if it is not cached. */
  peekLine(phys: PhysAddr): { readonly dirty: boolean; readonly bytes: Uint8Array } | undefined {
    const slot = this.find(this.lineOf(phys));
    if (slot < 0) return undefined;
    const at = this.dataAt(slot);
    return { dirty: this.isDirty(slot), bytes: this.bytes.slice(at, at + this.lineBytes) };
  }

  /** Lays the cached bytes of [phys, phys + length), dirty or not, over `out`, which holds what memory has. Looks only. */
  overlay(phys: PhysAddr, out: Uint8Array, outOffset: number, length: number): void {
    for (let i = 0; this.#validLines > 0 && i < length; i++) {
      const at = this.#byteAt(phys + i);
      if (at >= 0) out[outOffset + i] = this.bytes[at] as number;
    }
  }

  /** Sets the cached copy of byte `phys`, if there is one, and nothing else. Not in tag mode. */
  poke(phys: PhysAddr, value: number): void {
    const at = this.#byteAt(phys);
    if (at >= 0) this.bytes[at] = value;
  }

  /** Number of the line that byte `phys` lies in. */
  lineOf(phys: number): number {
    return Math.floor(phys / this.lineBytes);
  }

  /** The slot that holds `line`, or -1. Looks only. @internal */
  find(line: number): number {
    const base = this.#setBase(line);
    const key = line + 1;
    for (let slot = base; slot < base + this.ways; slot++) if (this.#tags[slot] === key) return slot;
    return -1;
  }

  /** The line that `slot` holds, -1 if empty. @internal */
  lineAt(slot: number): number {
    return (this.#tags[slot] as number) - 1;
  }

  /** Where the data of `slot` begins in {@link bytes}. Fits 31 bits. @internal */
  dataAt(slot: number): number {
    const set = (slot / this.ways) | 0;
    return ((slot - set * this.ways) * this.sets + set) * this.lineBytes;
  }

  /** Whether `slot` is dirty. @internal */
  isDirty(slot: number): boolean {
    return this.#dirty[slot] === 1;
  }

  #byteAt(phys: number): number {
    const line = this.lineOf(phys);
    const slot = this.find(line);
    return slot < 0 ? -1 : this.dataAt(slot) + phys - line * this.lineBytes;
  }

  #setBase(line: number): number {
    return (line - Math.floor(line / this.sets) * this.sets) * this.ways;
  }

  /** The slot of `line`, which becomes the youngest of its set; on a miss another line may have to leave. */
  #touch(line: number, fill: boolean): number {
    const tags = this.#tags;
    const base = this.#setBase(line);
    const end = base + this.ways;
    const key = line + 1;
    for (let slot = base; slot < end; slot++) {
      if (tags[slot] !== key) continue;
      this.#ages[slot] = ++this.#clock;
      this.counters.hits++;
      return slot;
    }
    this.counters.misses++;
    const slot = this.#makeRoom(base, end);
    tags[slot] = key;
    this.#ages[slot] = ++this.#clock;
    this.#validLines++;
    this.#pages.count(line, 1);
    if (fill) this.#fill(slot, line);
    return slot;
  }

  /** Empties the slot of [base, end) that is empty or was used longest ago. */
  #makeRoom(base: number, end: number): number {
    const ages = this.#ages;
    let victim = base;
    let oldest = ages[base] as number;
    for (let slot = base + 1; slot < end; slot++) {
      const age = ages[slot] as number;
      if (age >= oldest) continue;
      oldest = age;
      victim = slot;
    }
    if (oldest === 0) return victim;
    if (this.#dirty[victim] === 1) this.#writeBack(victim);
    this.#drop(victim);
    this.counters.evictions++;
    return victim;
  }

  #fill(slot: number, line: number): void {
    this.observer?.filled(slot, line);
    if (this.bytes.length === 0) return;
    const phys = (line * this.lineBytes) as PhysAddr;
    const at = this.dataAt(slot) >> 2;
    const words = this.#memory.wordsFor(phys, false);
    if (words === undefined) this.#words.fill(0, at, at + this.#lineWords);
    else this.#copyLine(this.#words, at, words, this.#memory.chunkOffset(phys) >> 2);
  }

  /** Copies a dirty line to memory. Where the memory has been unplugged meanwhile, the bytes go nowhere. */
  #writeBack(slot: number): void {
    const line = this.lineAt(slot);
    const phys = (line * this.lineBytes) as PhysAddr;
    this.observer?.writingBack(slot, line);
    this.#dirty[slot] = 0;
    this.#dirtyLines--;
    this.counters.writtenBackBytes += this.lineBytes;
    if (this.bytes.length === 0 || this.#memory.regionAt(phys) === undefined) return;
    const words = this.#memory.wordsFor(phys, true);
    if (words === undefined) return;
    this.#copyLine(words, this.#memory.chunkOffset(phys) >> 2, this.#words, this.dataAt(slot) >> 2);
  }

  /** Copies bytes [from, to) of `slot` to `out` at `at`, whose words are `words` if that is worth while. */
  #copyOut(slot: number, from: number, to: number, out: Uint8Array, at: number, words: Int32Array | undefined): void {
    const word = words === undefined || to - from < this.lineBytes ? -1 : wordIndex(out, at);
    if (words !== undefined && word >= 0) this.#copyLine(words, word, this.#words, this.dataAt(slot) >> 2);
    else copyBytes(out, at, this.bytes, this.dataAt(slot) + from, to - from);
  }

  #copyLine(dst: Int32Array, dstWord: number, src: Int32Array, srcWord: number): void {
    const count = this.#lineWords;
    for (let i = 0; i < count; i++) dst[dstWord + i] = src[srcWord + i] as number;
  }

  #drop(slot: number): void {
    const line = this.lineAt(slot);
    this.observer?.dropping(slot, line);
    this.#pages.count(line, -1);
    if (this.#dirty[slot] === 1) this.#dirtyLines--;
    this.#dirty[slot] = 0;
    this.#tags[slot] = 0;
    this.#ages[slot] = 0;
    this.#validLines--;
  }

  #maintain(phys: PhysAddr, length: number, writeBack: boolean, drop: boolean): number {
    if (length === 0) return 0;
    const first = this.lineOf(phys);
    const last = this.lineOf(phys + length - 1);
    if ((drop ? this.#validLines : this.#dirtyLines) > 0) {
      const count = this.#collect(first, last);
      for (let k = 0; k < count; k++) {
        const slot = this.#found[k] as number;
        if (writeBack && this.#dirty[slot] === 1) {
          this.#writeBack(slot);
          this.counters.cleaned++;
        }
        if (!drop) continue;
        this.#drop(slot);
        this.counters.invalidated++;
      }
    }
    return last - first + 1;
  }

  /** Puts the slots of cached lines in [first, last] into `#found`. @returns how many. Walks what is smaller. */
  #collect(first: number, last: number): number {
    let count = 0;
    if (last - first + 1 > this.slots) {
      for (let slot = 0; slot < this.slots; slot++) {
        const line = (this.#tags[slot] as number) - 1;
        if (line >= first && line <= last) this.#found[count++] = slot;
      }
      return count;
    }
    const end = last + 1;
    for (let line = this.#pages.skip(first, end); line < end; line = this.#pages.skip(line, end)) {
      const stop = Math.min(end, this.#pages.endOfPage(line));
      for (; line < stop; line++) {
        const slot = this.find(line);
        if (slot >= 0) this.#found[count++] = slot;
      }
    }
    return count;
  }
}
