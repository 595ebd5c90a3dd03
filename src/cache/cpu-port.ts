/**
 * The three ways from a CPU to memory, with what each costs: through the cache, through the write-combining buffer, or
 * straight. Works on contiguous real memory that was checked before.
 */
import type { PhysAddr } from '../base/addr.ts';
import type { PhysMemory } from '../mem/phys-memory.ts';
import type { CacheCosts } from './cache-costs.ts';
import type { CpuCache } from './cpu-cache.ts';
import type { ShadowCopies } from './line-at-hand.ts';
import type { Shadow } from './shadow.ts';
import type { WriteCombiningBuffer } from './write-combining.ts';

/** How a CPU mapping treats memory: through the cache, gathered in the write-combining buffer, or one by one. */
export type MemoryAttribute = 'cached' | 'write-combined' | 'uncached';

/** A CPU's side of a coherency domain. @internal */
export class CpuPort {
  /** What its accesses have cost and nobody has paid yet, in ns. */
  debtNs = 0;
  readonly #memory: PhysMemory;
  readonly #cache: CpuCache;
  readonly #buffer: WriteCombiningBuffer;
  readonly #shadow: Shadow | undefined;
  readonly #costs: CacheCosts;

  constructor(copies: ShadowCopies, shadow: Shadow | undefined, costs: CacheCosts) {
    this.#memory = copies.memory;
    this.#cache = copies.cache;
    this.#buffer = copies.writeBuffer;
    this.#shadow = shadow;
    this.#costs = costs;
  }

  read(phys: PhysAddr, out: Uint8Array | null, outOffset: number, length: number, attribute: MemoryAttribute): void {
    if (attribute === 'cached') this.readCached(phys, out, outOffset, length);
    else this.#readPast(phys, out, outOffset, length, attribute);
  }

  write(phys: PhysAddr, src: Uint8Array | null, srcOffset: number, length: number, attribute: MemoryAttribute): void {
    if (attribute === 'cached') this.writeCached(phys, src, srcOffset, length);
    else if (attribute === 'uncached') this.#writePast(phys, src, srcOffset, length);
    else this.#writeCombined(phys, src, srcOffset, length);
  }

  readCached(phys: PhysAddr, out: Uint8Array | null, outOffset: number, length: number): void {
    if (!this.#memory.storesBytes) out?.fill(0, outOffset, outOffset + length);
    const { hits, misses } = this.#cache.counters;
    this.#cache.read(phys, out, outOffset, length);
    this.#chargeLines(hits, misses);
  }

  writeCached(phys: PhysAddr, src: Uint8Array | null, srcOffset: number, length: number): void {
    const { hits, misses } = this.#cache.counters;
    this.#cache.write(phys, src, srcOffset, length);
    this.#chargeLines(hits, misses);
  }

  #readPast(
    phys: PhysAddr,
    out: Uint8Array | null,
    outOffset: number,
    length: number,
    attribute: MemoryAttribute,
  ): void {
    if (attribute === 'uncached') this.#buffer.drainAll();
    else this.#buffer.drainRange(phys, length);
    if (out !== null) this.#memory.read(phys, out, outOffset, length);
    this.#shadow?.memoryRead(phys, length, false);
    this.#chargeAccesses(phys, length);
  }

  #writePast(phys: PhysAddr, src: Uint8Array | null, srcOffset: number, length: number): void {
    this.#buffer.drainAll();
    if (src !== null) this.#memory.write(phys, src, srcOffset, length);
    this.#shadow?.memoryWritten(phys, length);
    this.#chargeAccesses(phys, length);
  }

  /** All but the last lines of a long write end in memory whatever happens, so they go there at once. */
  #writeCombined(phys: PhysAddr, src: Uint8Array | null, srcOffset: number, length: number): void {
    const last = this.#cache.lineOf(phys + length - 1);
    const lines = last - this.#cache.lineOf(phys) + 1;
    const keep = this.#buffer.entries;
    this.debtNs += lines * this.#costs.wcLineNs;
    let direct = 0;
    if (lines > 3 * keep + 4) {
      direct = (last + 1 - keep) * this.#cache.lineBytes - phys;
      this.#buffer.drainAll();
      if (src !== null) this.#memory.write(phys, src, srcOffset, direct);
      this.#shadow?.memoryWritten(phys, direct);
    }
    this.#buffer.write((phys + direct) as PhysAddr, src, srcOffset + direct, length - direct);
  }

  #chargeLines(hits: number, misses: number): void {
    const { counters } = this.#cache;
    this.debtNs += (counters.hits - hits) * this.#costs.hitLineNs + (counters.misses - misses) * this.#costs.missLineNs;
  }

  #chargeAccesses(phys: PhysAddr, length: number): void {
    const width = this.#costs.uncachedAccessBytes;
    const accesses = Math.floor((phys + length - 1) / width) - Math.floor(phys / width) + 1;
    this.debtNs += accesses * this.#costs.uncachedAccessNs;
  }
}
