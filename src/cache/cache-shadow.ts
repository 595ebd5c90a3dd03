/** The shadow of one cache: what its lines hold as they come, change and go. */
import type { PhysAddr } from '../base/addr.ts';
import type { StaleReadFacts } from '../base/hazards.ts';
import type { CacheObserver } from './cache-observer.ts';
import type { CpuCache } from './cpu-cache.ts';
import type { CacheCopy } from './line-at-hand.ts';
import { SPLIT } from './line-versions.ts';
import { type CopyNumber, MEMORY, NOWHERE } from './lower-level.ts';
import { noLoss, type ShadowLines } from './shadow-lines.ts';

/** Who judges what was read, and knows of memory. */
export interface Judge {
  /** Bytes [from, to) of `line` were read from `copy`; write call `holder` made it, if it is a dirty line of somebody else; 0: it is not. */
  checkRead(line: number, from: number, to: number, copy: CopyNumber, holder: number): void;
  /** The present write call wrote [phys, phys + length) straight to memory. */
  memoryWritten(phys: PhysAddr, length: number): void;
}

/** Watches one cache for a shadow. @internal */
export class CacheShadow implements CacheObserver {
  readonly #judge: Judge;
  readonly #lines: ShadowLines;
  readonly #number: CopyNumber;
  readonly #held: Uint32Array;
  readonly #writers: Uint32Array;
  readonly #isDevices: boolean;

  constructor(judge: Judge, lines: ShadowLines, cache: CpuCache, place: StaleReadFacts['newestIn']) {
    this.#judge = judge;
    this.#lines = lines;
    this.#number = lines.addCache(cache, place);
    const copy = lines.caches[this.#number - 1] as CacheCopy;
    this.#held = copy.held;
    this.#writers = copy.writers;
    this.#isDevices = place === 'device cache';
  }

  filled(slot: number, line: number, source: CopyNumber): void {
    const { versions, splits, caches, lineBytes } = this.#lines;
    const chunk = versions.chunkOf(line);
    const index = line - chunk.first;
    if (chunk.newest[index] === SPLIT) {
      const base = splits.baseOf(line);
      const mine = this.#lines.bytesOf(this.#number);
      if (source === NOWHERE) mine.fill(0, base, base + lineBytes);
      else mine.set(this.#lines.bytesOf(source).subarray(base, base + lineBytes), base);
      this.#held[slot] = 0;
    } else if (source > MEMORY) {
      const { cache, held } = caches[source - 1] as CacheCopy;
      this.#held[slot] = held[cache.directory.find(line)] as number;
    } else this.#held[slot] = source === MEMORY ? chunk.memoryAt(index) : 0;
  }

  lineRead(slot: number, line: number, from: number, to: number): void {
    const chunk = this.#lines.versions.chunkOf(line);
    if (chunk.newest[line - chunk.first] === this.#held[slot]) return;
    const { actor } = this.#lines;
    const answersOther = actor.kind === 'device' && !this.#isDevices;
    const holder = answersOther ? (this.#writers[slot] as number) : 0;
    this.#judge.checkRead(line, from, to, this.#number, holder);
  }

  lineWritten(slot: number, line: number, from: number, to: number): void {
    const { version, versions, splits, lineBytes } = this.#lines;
    const chunk = versions.chunkOf(line);
    const index = line - chunk.first;
    this.#writers[slot] = version;
    if (to - from === lineBytes) {
      const memory = chunk.memoryAt(index);
      if (chunk.newest[index] === SPLIT) splits.close(line);
      chunk.set(index, version, memory);
      this.#held[slot] = version;
      return;
    }
    const base = this.#lines.recordOf(line, chunk);
    splits.newest.fill(version, base + from, base + to);
    this.#lines.bytesOf(this.#number).fill(version, base + from, base + to);
  }

  writtenPast(phys: PhysAddr, length: number): void {
    this.#judge.memoryWritten(phys, length);
  }

  writingBack(slot: number, line: number, target: CopyNumber): void {
    const lines = this.#lines;
    const chunk = lines.versions.chunkOf(line);
    const index = line - chunk.first;
    const held = this.#held[slot] as number;
    this.#passOnWriter(slot, line, target);
    if (chunk.newest[index] === held) {
      if (target !== MEMORY) this.#setHeld(target, line, held);
      else if (chunk.memoryAt(index) !== held) chunk.set(index, held, held);
      return;
    }
    const base = lines.recordOf(line, chunk);
    const { newest } = lines.splits;
    const mine = lines.bytesOf(this.#number);
    const over = lines.bytesOf(target);
    const { hand } = lines;
    const bytes = hand.take(line);
    const lost = noLoss('write-back');
    for (let b = 0; b < lines.lineBytes; b++) {
      const want = newest[base + b] as number;
      if (mine[base + b] !== want && over[base + b] === want) {
        if (bytes && hand.byteIn(target, b) === hand.byteIn(this.#number, b)) {
          mine[base + b] = want;
          continue;
        }
        if (!lines.isKept(base, b, want, target)) {
          const mineNow = bytes ? hand.byteIn(this.#number, b) : -1;
          lines.markLost(lost, line, base, b, want, bytes ? hand.byteIn(target, b) : 0, mineNow);
        }
      }
      over[base + b] = mine[base + b] as number;
    }
    const destroyer = this.#writers[slot] as number;
    lines.noteLost(lost, line, lines.log.writer(destroyer), destroyer);
    lines.settle(line, chunk, base);
  }

  dropping(slot: number, line: number): void {
    const lines = this.#lines;
    const chunk = lines.versions.chunkOf(line);
    const index = line - chunk.first;
    const want = chunk.newest[index] as number;
    if (want !== SPLIT) {
      if (want !== this.#held[slot] || chunk.memoryAt(index) === want) return;
      if (lines.isLineKept(line, want, this.#number)) return;
    }
    const base = lines.recordOf(line, chunk);
    const { cache } = lines.caches[this.#number - 1] as CacheCopy;
    // What only a clean line of a device still had was lost when memory's copy was.
    if (!this.#isDevices || cache.directory.isDirty(slot)) this.#dropBytes(line, base);
    lines.settle(line, chunk, base, this.#number);
  }

  #dropBytes(line: number, base: number): void {
    const lines = this.#lines;
    const { newest, memory } = lines.splits;
    const mine = lines.bytesOf(this.#number);
    const bytes = lines.hand.take(line);
    const lost = noLoss('invalidate');
    for (let b = 0; b < lines.lineBytes; b++) {
      const want = newest[base + b] as number;
      if (mine[base + b] !== want || lines.isKept(base, b, want, this.#number)) continue;
      const value = bytes ? lines.hand.byteIn(this.#number, b) : 0;
      if (bytes && lines.hand.byteIn(MEMORY, b) === value) memory[base + b] = want;
      else lines.markLost(lost, line, base, b, want, value, bytes ? lines.hand.byteIn(MEMORY, b) : -1);
    }
    lines.noteLost(lost, line, lines.actor);
  }

  /** Whoever wrote last into the line is the one whose bytes `target` will write back one day. */
  #passOnWriter(slot: number, line: number, target: CopyNumber): void {
    if (target === MEMORY) return;
    const { cache, writers } = this.#lines.caches[target - 1] as CacheCopy;
    writers[cache.directory.find(line)] = this.#writers[slot] as number;
  }

  #setHeld(target: CopyNumber, line: number, version: number): void {
    const { cache, held } = this.#lines.caches[target - 1] as CacheCopy;
    held[cache.directory.find(line)] = version;
  }
}
