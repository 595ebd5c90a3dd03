/**
 * The ways from a CPU to memory, with what each costs: through the cache, through the write-combining buffer of the CPU that runs, or
 * straight. Works on contiguous real memory that was checked before.
 */
import type { PhysAddr } from '../base/addr.ts';
import { ErrnoError } from '../base/errors.ts';
import type { CacheCosts } from './cache-costs.ts';
import { readPast, writePast } from './device-port.ts';
import type { DomainCopies, Looks } from './domain-copies.ts';
import type { Shadow } from './shadow.ts';

/**
 * How a CPU mapping treats memory.
 *
 * - `'cached'` through the cache.
 * - `'write-combined'` writes are gathered in the write-combining buffer of the CPU, reads go straight.
 * - `'uncached'` one by one, after all that waits in the CPU's buffer (x86 UC; Arm Normal non-cacheable on a good day). Where hardware is free
 *   (`sim.hardwareIsFree`) it is Arm Normal non-cacheable on a bad day: writes may linger and gather in the CPU's buffer, as write-combined
 *   ones do, so a device sees them for certain only behind a barrier; uncached reads, of any CPU, see them.
 * - `'device'` one by one in program order, as registers want it: nothing is gathered or reordered, and the write-combining buffer is *not*
 *   drained: a write to a doorbell overtakes the data it announces, unless a barrier is between them. Accesses must be
 *   aligned (Arm Device-nGnRE).
 *
 * @see Arm DDI 0487 B2.7 "Memory types and attributes"; Intel SDM volume 3, 12.3; Linux 6.1 `Documentation/driver-api/device-io.rst`;
 *   `Documentation/core-api/dma-api.rst` dma_alloc_coherent: the processor's write buffers may have to be flushed before a device is told
 */
export type MemoryAttribute = 'cached' | 'write-combined' | 'uncached' | 'device';

/** Bytes of the widest access to Device memory. */
const WIDEST = 8;

/**
 * Checks that an access to Device memory is one that hardware makes: 1, 2, 4 or 8 bytes at a multiple of that, or whole words of 8
 * bytes, as `memcpy_fromio` and `memcpy_toio` move them.
 *
 * @throws {ErrnoError} `EFAULT` an alignment fault (never retry).
 * @see Arm DDI 0487 B2.7.2 "Device memory": an unaligned access generates an Alignment fault
 * @internal
 */
export function checkDeviceAccess(op: string, phys: PhysAddr, length: number): void {
  const isOne = length === 1 || length === 2 || length === 4;
  const align = isOne ? length : WIDEST;
  if (length % align === 0 && phys % align === 0) return;
  throw new ErrnoError(
    'EFAULT',
    op,
    `alignment fault: ${length} bytes at ${phys % WIDEST} modulo ${WIDEST} of Device memory`,
  );
}

/** A CPU's side of a coherency domain. @internal */
export class CpuPort {
  /** What its accesses have cost and nobody has paid yet, in ns. */
  debtNs = 0;
  readonly #copies: DomainCopies;
  readonly #shadow: Shadow | undefined;
  readonly #costs: CacheCosts;
  /** Where accesses look that go past the cache. */
  readonly #past: Looks;

  /** @param past - whether accesses past the cache see the system cache. */
  constructor(copies: DomainCopies, shadow: Shadow | undefined, costs: CacheCosts, past: Looks) {
    this.#copies = copies;
    this.#shadow = shadow;
    this.#costs = costs;
    this.#past = past;
  }

  read(phys: PhysAddr, out: Uint8Array | null, outOffset: number, length: number, attribute: MemoryAttribute): void {
    if (attribute === 'cached') this.readCached(phys, out, outOffset, length);
    else this.#readPast(phys, out, outOffset, length, attribute);
  }

  write(phys: PhysAddr, src: Uint8Array | null, srcOffset: number, length: number, attribute: MemoryAttribute): void {
    if (attribute === 'cached') this.writeCached(phys, src, srcOffset, length);
    else if (attribute === 'write-combined') this.#writeCombined(phys, src, srcOffset, length);
    else if (attribute === 'uncached' && this.#copies.buffers.gatherUncached)
      this.#linger(phys, src, srcOffset, length);
    else this.#writePast(phys, src, srcOffset, length, attribute);
  }

  readCached(phys: PhysAddr, out: Uint8Array | null, outOffset: number, length: number): void {
    const { memory, cache, system } = this.#copies;
    if (!memory.storesBytes) out?.fill(0, outOffset, outOffset + length);
    const { hits, misses } = cache.counters;
    const outer = system?.counters.hits ?? 0;
    cache.read(phys, out, outOffset, length);
    this.#chargeLines(hits, misses, outer);
  }

  writeCached(phys: PhysAddr, src: Uint8Array | null, srcOffset: number, length: number): void {
    const { cache, system } = this.#copies;
    const { hits, misses } = cache.counters;
    const outer = system?.counters.hits ?? 0;
    cache.write(phys, src, srcOffset, length);
    this.#chargeLines(hits, misses, outer);
  }

  #readPast(
    phys: PhysAddr,
    out: Uint8Array | null,
    outOffset: number,
    length: number,
    attribute: MemoryAttribute,
  ): void {
    const { buffers } = this.#copies;
    if (attribute === 'uncached' && buffers.gatherUncached) buffers.drainRange(phys, length);
    else if (attribute === 'uncached') buffers.mine?.drainAll();
    else if (attribute === 'write-combined') buffers.mine?.drainRange(phys, length);
    readPast(this.#copies, this.#shadow, phys, out, outOffset, length, this.#past);
    this.#chargeAccesses(phys, length);
  }

  #writePast(
    phys: PhysAddr,
    src: Uint8Array | null,
    srcOffset: number,
    length: number,
    attribute: MemoryAttribute,
  ): void {
    if (attribute === 'uncached') this.#copies.buffers.mine?.drainAll();
    writePast(this.#copies, this.#shadow, phys, src, srcOffset, length, this.#past);
    this.#chargeAccesses(phys, length);
  }

  #writeCombined(phys: PhysAddr, src: Uint8Array | null, srcOffset: number, length: number): void {
    const { cache } = this.#copies;
    this.debtNs += (cache.lineOf(phys + length - 1) - cache.lineOf(phys) + 1) * this.#costs.wcLineNs;
    this.#gather(phys, src, srcOffset, length);
  }

  /** An uncached write that stays in the buffer, behind what other CPUs wrote there. Costs what it does elsewhere. */
  #linger(phys: PhysAddr, src: Uint8Array | null, srcOffset: number, length: number): void {
    const { buffers } = this.#copies;
    for (const buffer of buffers.all) if (buffer !== buffers.mine) buffer.drainRange(phys, length);
    this.#gather(phys, src, srcOffset, length);
    this.#chargeAccesses(phys, length);
  }

  /** All but the last lines of a long write end in memory whatever happens, so they go there at once. */
  #gather(phys: PhysAddr, src: Uint8Array | null, srcOffset: number, length: number): void {
    const { cache, buffers } = this.#copies;
    const buffer = buffers.take();
    const last = cache.lineOf(phys + length - 1);
    const lines = last - cache.lineOf(phys) + 1;
    const keep = buffer.entries;
    let direct = 0;
    if (lines > 3 * keep + 4) {
      direct = (last + 1 - keep) * cache.lineBytes - phys;
      buffer.drainAll();
      writePast(this.#copies, this.#shadow, phys, src, srcOffset, direct, this.#past);
    }
    buffer.write((phys + direct) as PhysAddr, src, srcOffset + direct, length - direct);
  }

  /** Charges what the caches have counted since then. */
  #chargeLines(hits: number, misses: number, outerHits: number): void {
    const { cache, system } = this.#copies;
    const { hitLineNs, missLineNs, systemHitLineNs = missLineNs } = this.#costs;
    const missed = cache.counters.misses - misses;
    this.debtNs += (cache.counters.hits - hits) * hitLineNs + missed * missLineNs;
    if (system === undefined) return;
    this.debtNs -= Math.min(missed, system.counters.hits - outerHits) * (missLineNs - systemHitLineNs);
  }

  #chargeAccesses(phys: PhysAddr, length: number): void {
    const width = this.#costs.uncachedAccessBytes;
    const accesses = Math.floor((phys + length - 1) / width) - Math.floor(phys / width) + 1;
    this.debtNs += accesses * this.#costs.uncachedAccessNs;
  }
}
