/** The bytes of one line in each of its copies, for a shadow that compares them. */
import type { PhysAddr } from '../base/addr.ts';
import type { StaleReadFacts } from '../base/hazards.ts';
import type { PhysMemory } from '../mem/phys-memory.ts';
import type { CpuCache } from './cpu-cache.ts';
import type { SplitLines } from './split-lines.ts';
import type { WriteCombiningBuffer } from './write-combining.ts';

/** The copies a shadow watches. @internal */
export interface ShadowCopies {
  readonly memory: PhysMemory;
  readonly cache: CpuCache;
  readonly writeBuffer: WriteCombiningBuffer;
}

/** One line at a time. @internal */
export class LineAtHand {
  /** Memory's bytes of it. */
  readonly memory: Uint8Array;
  /** Its slot in the cache, or -1. */
  slot = -1;
  /** Its write-combining buffer, or -1. */
  entry = -1;
  readonly #copies: ShadowCopies;
  readonly #lineBytes: number;

  constructor(copies: ShadowCopies) {
    this.#copies = copies;
    this.#lineBytes = copies.cache.lineBytes;
    this.memory = new Uint8Array(this.#lineBytes);
  }

  /** Takes `line` in hand; memory that was unplugged counts as zeros. @returns whether there are bytes to compare. */
  take(line: number): boolean {
    const { memory, cache, writeBuffer } = this.#copies;
    this.slot = cache.find(line);
    this.entry = writeBuffer.find(line);
    if (!memory.storesBytes) return false;
    const phys = (line * this.#lineBytes) as PhysAddr;
    if (memory.regionAt(phys) === undefined) this.memory.fill(0);
    else memory.read(phys, this.memory, 0, this.#lineBytes);
    return true;
  }

  /** Byte `b` in the cache, which holds the line. */
  cached(b: number): number {
    const { cache } = this.#copies;
    return cache.bytes[cache.dataAt(this.slot) + b] as number;
  }

  /** Byte `b` as the copy in `place` has it; a lost one from record `base` of `splits`. */
  valueIn(place: StaleReadFacts['newestIn'], b: number, splits: SplitLines, base: number): number {
    if (place === 'memory') return this.memory[b] as number;
    if (place === 'cpu cache') return this.cached(b);
    if (place === 'write buffer') return this.#copies.writeBuffer.bytes[this.entry * this.#lineBytes + b] as number;
    return splits.kept[base + b] as number;
  }
}
