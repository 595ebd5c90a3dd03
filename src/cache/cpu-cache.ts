/**
 * A cache with sets and ways, physically indexed and tagged: the last-level cache of a coherent group of CPUs, an outer system cache, or the
 * cache of a device. It holds real bytes.
 *
 * Rules:
 * 1. A line holds its own bytes. Nobody updates them when memory changes: they stay old until dropped.
 * 2. A read miss fetches the line from below: memory, or an outer cache. The victim is an empty way, else the policy's; a dirty
 *    victim is written back whole, over whatever the level below holds by then.
 * 3. Write-back: a write makes the line dirty; write-through: its bytes go below at once, and the line stays clean. A write miss
 *    fetches the line, unless the write covers all of it; without write-allocate its bytes go below and no line comes in.
 * 4. Operations by range act on whole lines. The first and the last may hold bytes of a neighbour: invalidating
 *    destroys them, cleaning writes them back.
 * 5. Over memory without bytes (tag mode) only tags, states and counters are kept.
 *
 * Inaccuracies: whole lines are written back though some hardware keeps byte masks. What hardware does of its own accord is in
 * `free-hardware.ts`.
 *
 * @see Arm Architecture Reference Manual DDI 0487, D7.5 "Cache support"; Intel SDM volume 3, 12.3
 */
import type { PhysAddr } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import type { RandomSource } from '../base/random.ts';
import type { PhysMemory } from '../mem/phys-memory.ts';
import { copyBytes, wordIndex, wordsOf } from './byte-copy.ts';
import type { CacheCounters } from './cache-counters.ts';
import { CacheDirectory } from './cache-directory.ts';
import type { CacheObserver } from './cache-observer.ts';
import { type LowerLevel, MEMORY, NOWHERE } from './lower-level.ts';
import { type ReplacementPolicy, replacementOf } from './replacement.ts';

/** Shape and policies of a cache. Default: 1 MiB, 16 ways, lines of 64 bytes, write-back, write-allocate, least recently used. */
export interface CacheGeometry {
  /** Sets, at least 1. Default 1024. */
  readonly sets?: number;
  /** Lines a set holds, at least 1. Default 16. */
  readonly ways?: number;
  /** Bytes in a line: a power of two in 16..1024. Default 64. All caches of a domain have lines of one size. */
  readonly lineBytes?: number;
  /** When written bytes go below: when the line leaves (`'back'`, default) or at once (`'through'`). */
  readonly writes?: 'back' | 'through';
  /** Whether a write miss brings the line in. Default true. */
  readonly writeAllocate?: boolean;
  /** Which line makes room. Default `'lru'`; `'tree-plru'` needs a power of two of ways. */
  readonly replacement?: ReplacementPolicy;
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
  /** What it is over instead of memory. @internal */
  lower: LowerLevel | undefined;
  /** Which line is where. @internal */
  readonly directory: CacheDirectory;
  /** Data of all slots; empty in tag mode. @internal */
  readonly bytes: Uint8Array;
  readonly #words: Int32Array;
  readonly #memory: PhysMemory;
  readonly #isThrough: boolean;
  readonly #allocates: boolean;

  /**
   * @param random - needed by replacement `'random'` only.
   * @throws {InvariantError} a parameter outside its range.
   */
  constructor(memory: PhysMemory, geometry: CacheGeometry = {}, random?: RandomSource) {
    const { sets = 1024, ways = 16, lineBytes = 64, replacement = 'lru' } = geometry;
    assert(Number.isInteger(sets) && sets >= 1, 'cache: sets %s is no whole number >= 1', sets);
    assert(Number.isInteger(ways) && ways >= 1, 'cache: ways %s is no whole number >= 1', ways);
    assert(
      lineBytes >= 16 && lineBytes <= 1024 && Number.isInteger(Math.log2(lineBytes)),
      'cache: lineBytes %s is no power of two in 16..1024',
      lineBytes,
    );
    const policy = replacement === 'lru' ? undefined : replacementOf(replacement, { sets, ways }, random);
    this.directory = new CacheDirectory({ sets, ways, lineBytes }, policy);
    this.sets = sets;
    this.ways = ways;
    this.lineBytes = lineBytes;
    this.#memory = memory;
    this.bytes = new Uint8Array(memory.storesBytes ? sets * ways * lineBytes : 0);
    this.#words = new Int32Array(this.bytes.buffer);
    this.#isThrough = geometry.writes === 'through';
    this.#allocates = geometry.writeAllocate ?? true;
  }

  /** Lines it can hold. */
  get slots(): number {
    return this.sets * this.ways;
  }

  /** Lines that the level below does not know of. */
  get dirtyLines(): number {
    return this.directory.dirtyLines;
  }

  /** Lines it holds. */
  get validLines(): number {
    return this.directory.validLines;
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
      const slot = this.take(line, true);
      observer?.lineRead(slot, line, from, to);
      if (target !== null) this.#copyOut(slot, from, to, target, outOffset + done, words);
      done += to - from;
      from = 0;
    }
  }

  /** Writes `length` bytes of `src` from `srcOffset` at `phys` into the cache; `null` in tag mode only. */
  write(phys: PhysAddr, src: Uint8Array | null, srcOffset: number, length: number): void {
    const { lineBytes } = this;
    const isPlain = this.#allocates && !this.#isThrough;
    const source = this.bytes.length === 0 ? null : src;
    const words = source === null ? undefined : wordsOf(source, length);
    let line = Math.floor(phys / lineBytes);
    let from = phys - line * lineBytes;
    for (let done = 0; done < length; line++) {
      const to = Math.min(lineBytes, from + length - done);
      if (isPlain) this.#put(this.take(line, to - from < lineBytes), line, from, to, source, srcOffset + done, words);
      else this.#writeByPolicy(line, from, to, source, srcOffset + done);
      done += to - from;
      from = 0;
    }
  }

  /** Fetches the lines of [phys, phys + length) that are missing; reads nothing. */
  fetch(phys: PhysAddr, length: number): void {
    const last = this.lineOf(phys + length - 1);
    for (let line = this.lineOf(phys); line <= last; line++) this.take(line, true);
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

  /**
   * Answers a read by another that looks into this cache: lays the bytes of dirty lines, or of all it holds, over `out`, which
   * holds what the level below answered.
   *
   * @param but - lines that are dirty in this cache, which comes before, are left out.
   */
  answer(
    phys: PhysAddr,
    out: Uint8Array | null,
    outOffset: number,
    length: number,
    which: 'dirty' | 'all',
    but?: CpuCache,
  ): void {
    const { directory } = this;
    if ((which === 'dirty' ? directory.dirtyLines : directory.validLines) === 0) return;
    const count = directory.collect(this.lineOf(phys), this.lineOf(phys + length - 1));
    const target = this.bytes.length === 0 ? null : out;
    const words = target === null ? undefined : wordsOf(target, length);
    for (let k = 0; k < count; k++) {
      const slot = directory.found[k] as number;
      if (which === 'dirty' && !directory.isDirty(slot)) continue;
      const line = directory.lineAt(slot);
      if (but?.holdsDirty(line) === true) continue;
      const start = line * this.lineBytes;
      const from = Math.max(0, phys - start);
      const to = Math.min(this.lineBytes, phys + length - start);
      this.observer?.lineRead(slot, line, from, to);
      if (target !== null) this.#copyOut(slot, from, to, target, outOffset + start + from - phys, words);
    }
  }

  /**
   * Stores bytes [from, to) into `slot`, for a level above or beside, which calls {@link stored} after the last of a line. With `isWrite`
   * they are of the present write call, else the level above has told where they are from.
   *
   * @internal
   */
  store(slot: number, from: number, to: number, src: Uint8Array | null, at: number, isWrite: boolean): void {
    const line = this.directory.lineAt(slot);
    if (isWrite) this.observer?.lineWritten(slot, line, from, to);
    this.directory.setDirty(slot);
    if (this.bytes.length > 0 && src !== null)
      copyBytes(this.bytes, this.directory.dataAt(slot) + from, src, at, to - from);
  }

  /** What was stored into `slot` goes on, if it is to go through. @internal */
  stored(slot: number): void {
    if (this.#isThrough) this.#writeBack(slot);
  }

  /** The cached copy of the line that `phys` lies in, bytes empty in tag mode; `undefined` if it is not cached. */
  peekLine(phys: PhysAddr): { readonly dirty: boolean; readonly bytes: Uint8Array } | undefined {
    const slot = this.directory.find(this.lineOf(phys));
    if (slot < 0) return undefined;
    const at = this.directory.dataAt(slot);
    return { dirty: this.directory.isDirty(slot), bytes: this.bytes.slice(at, at + this.lineBytes) };
  }

  /** Lays the cached bytes of [phys, phys + length), dirty or not, over `out`, which holds what memory has. Looks only. */
  overlay(phys: PhysAddr, out: Uint8Array, outOffset: number, length: number): void {
    for (let i = 0; this.validLines > 0 && i < length; i++) {
      const at = this.#byteAt(phys + i);
      if (at >= 0) out[outOffset + i] = this.bytes[at] as number;
    }
  }

  /** Sets the cached copy of byte `phys`, if any, and nothing else. Not in tag mode. */
  poke(phys: PhysAddr, value: number): void {
    const at = this.#byteAt(phys);
    if (at >= 0) this.bytes[at] = value;
  }

  /** Number of the line that byte `phys` lies in. */
  lineOf(phys: number): number {
    return Math.floor(phys / this.lineBytes);
  }

  /** Whether `line` is here and dirty. @internal */
  holdsDirty(line: number): boolean {
    const slot = this.directory.find(line);
    return slot >= 0 && this.directory.isDirty(slot);
  }

  /** The slot of `line`, which counts as used; on a miss it comes in, from below if `fill`, and another may have to leave. @internal */
  take(line: number, fill: boolean): number {
    const { directory, counters } = this;
    const held = directory.use(line);
    if (held >= 0) {
      counters.hits++;
      return held;
    }
    counters.misses++;
    const slot = directory.slotIn(-1 - held);
    const victim = directory.lineAt(slot);
    if (victim >= 0) {
      if (directory.isDirty(slot)) this.#writeBack(slot);
      this.observer?.dropping(slot, victim);
      counters.evictions++;
    }
    directory.put(slot, line);
    if (fill) this.#fill(slot, line);
    return slot;
  }

  /** Makes ready a slot for `line`, to be written over from above: it comes in without its bytes. Counts as no miss. @internal */
  takeOver(line: number): void {
    const isHeld = this.directory.find(line) >= 0;
    const { hits, misses } = this.counters;
    const slot = this.take(line, false);
    this.counters.hits = hits;
    this.counters.misses = misses;
    if (!isHeld) this.observer?.filled(slot, line, NOWHERE);
  }

  #byteAt(phys: number): number {
    const line = this.lineOf(phys);
    const slot = this.directory.find(line);
    return slot < 0 ? -1 : this.directory.dataAt(slot) + phys - line * this.lineBytes;
  }

  /** Bytes [from, to) of `line` are written into `slot`. `words` are those of `source`, if that is worth while. */
  #put(
    slot: number,
    line: number,
    from: number,
    to: number,
    source: Uint8Array | null,
    at: number,
    words: Int32Array | undefined,
  ): void {
    this.observer?.lineWritten(slot, line, from, to);
    this.directory.setDirty(slot);
    if (source === null) return;
    const word = words === undefined || to - from < this.lineBytes ? -1 : wordIndex(source, at);
    const data = this.directory.dataAt(slot);
    if (words !== undefined && word >= 0) this.#copyLine(this.#words, data >> 2, words, word);
    else copyBytes(this.bytes, data + from, source, at, to - from);
  }

  /** A write into one line that goes below, or may miss without bringing the line in. */
  #writeByPolicy(line: number, from: number, to: number, source: Uint8Array | null, at: number): void {
    const isMiss = this.directory.find(line) < 0;
    if (isMiss && !this.#allocates) this.counters.misses++;
    else {
      const slot = this.take(line, to - from < this.lineBytes);
      const wasDirty = this.directory.isDirty(slot);
      this.#put(slot, line, from, to, source, at, undefined);
      if (!this.#isThrough) return;
      if (!wasDirty) this.directory.setClean(slot);
    }
    const phys = (line * this.lineBytes + from) as PhysAddr;
    this.counters.writtenBackBytes += to - from;
    if (this.lower !== undefined) {
      this.lower.write(phys, source, at, to - from);
      return;
    }
    if (source !== null) this.#memory.write(phys, source, at, to - from);
    this.observer?.writtenPast(phys, to - from);
  }

  #fill(slot: number, line: number): void {
    if (this.lower !== undefined) {
      const source = this.lower.fetch(line, this.bytes, this.directory.dataAt(slot));
      this.observer?.filled(slot, line, source);
      return;
    }
    this.observer?.filled(slot, line, MEMORY);
    if (this.bytes.length === 0) return;
    const phys = (line * this.lineBytes) as PhysAddr;
    const at = this.directory.dataAt(slot) >> 2;
    const words = this.#memory.wordsFor(phys, false);
    if (words === undefined) this.#words.fill(0, at, at + (this.lineBytes >> 2));
    else this.#copyLine(this.#words, at, words, this.#memory.chunkOffset(phys) >> 2);
  }

  /** Copies a dirty line to the level below. Where the memory has been unplugged meanwhile, the bytes go nowhere. */
  #writeBack(slot: number): void {
    const line = this.directory.lineAt(slot);
    const phys = (line * this.lineBytes) as PhysAddr;
    const target = this.lower === undefined ? MEMORY : this.lower.prepare(line);
    this.observer?.writingBack(slot, line, target);
    this.directory.setClean(slot);
    this.counters.writtenBackBytes += this.lineBytes;
    if (this.lower !== undefined) {
      this.lower.store(target, line, 0, this.lineBytes, this.bytes, this.directory.dataAt(slot));
      this.lower.stored(target, line);
      return;
    }
    if (this.bytes.length === 0 || this.#memory.regionAt(phys) === undefined) return;
    const words = this.#memory.wordsFor(phys, true);
    if (words === undefined) return;
    this.#copyLine(words, this.#memory.chunkOffset(phys) >> 2, this.#words, this.directory.dataAt(slot) >> 2);
  }

  /** Copies bytes [from, to) of `slot` to `out` at `at`, whose words are `words` if that is worth while. */
  #copyOut(slot: number, from: number, to: number, out: Uint8Array, at: number, words: Int32Array | undefined): void {
    const word = words === undefined || to - from < this.lineBytes ? -1 : wordIndex(out, at);
    const data = this.directory.dataAt(slot);
    if (words !== undefined && word >= 0) this.#copyLine(words, word, this.#words, data >> 2);
    else copyBytes(out, at, this.bytes, data + from, to - from);
  }

  #copyLine(dst: Int32Array, dstWord: number, src: Int32Array, srcWord: number): void {
    const count = this.lineBytes >> 2;
    for (let i = 0; i < count; i++) dst[dstWord + i] = src[srcWord + i] as number;
  }

  #maintain(phys: PhysAddr, length: number, writeBack: boolean, drop: boolean): number {
    if (length === 0) return 0;
    const { directory } = this;
    const first = this.lineOf(phys);
    const last = this.lineOf(phys + length - 1);
    if ((drop ? directory.validLines : directory.dirtyLines) > 0) {
      const count = directory.collect(first, last);
      for (let k = 0; k < count; k++) {
        const slot = directory.found[k] as number;
        if (writeBack && directory.isDirty(slot)) {
          this.#writeBack(slot);
          this.counters.cleaned++;
        }
        if (!drop) continue;
        this.observer?.dropping(slot, directory.lineAt(slot));
        directory.clear(slot);
        this.counters.invalidated++;
      }
    }
    return last - first + 1;
  }
}
