/**
 * The shadow: which version of each line every copy holds, only to explain stale and lost bytes. The data path
 * never asks it; without it every byte is the same.
 *
 * Rules:
 * 1. A write call gets one version (`write-log.ts`). The newest version of a line is the last written anywhere; the
 *    copies are memory, the caches (of the CPUs, of the system, of devices) and the write-combining buffers, each with the version it
 *    holds.
 * 2. Versions are kept by line. A line whose bytes differ in age gets versions by byte (`split-lines.ts`) until memory
 *    and caches are all newest again: so bytes beside the accessed ones raise no alarm.
 * 3. A read is stale if a byte *asked for* came from an older copy and its value differs from the newest (tag mode: only
 *    the version counts). Old bytes that are equal by luck are counted in `luckyReads` and nothing else.
 * 4. A byte is lost when the last copy of its newest version is dropped, or overwritten by an older one with another
 *    value; a clean line in a device's cache is no such copy, since nobody else will ever see it. The byte's newest version stays the
 *    lost one until it is written again; its value is kept to compare with.
 * 5. One access raises at most one report of a kind, after it is done and paid: a thrown report leaves all in order.
 *
 * Memory: 64 KiB for each MiB of memory that was written, twice that where memory has ever been behind a cache (lines of 64 bytes); 8 bytes
 * a line of each cache; a record of 13 bytes a byte for each line of rule 2, and 4 more for every cache after the first; the log.
 */
import type { PhysAddr } from '../base/addr.ts';
import type { Accessor, StaleReadFacts } from '../base/hazards.ts';
import type { PhysMemory } from '../mem/phys-memory.ts';
import type { Simulator } from '../sim/simulator.ts';
import { contiguousRun } from './access-range.ts';
import { BounceLinks, type ByteHistory, type NewestByte } from './bounce-links.ts';
import { BufferShadow } from './buffer-shadow.ts';
import { CacheShadow } from './cache-shadow.ts';
import type { CpuCache } from './cpu-cache.ts';
import { CPU_CACHE, type Looks, SYSTEM_CACHE } from './domain-copies.ts';
import type { Findings } from './findings.ts';
import type { CacheCopy } from './line-at-hand.ts';
import { LINES_PER_CHUNK, SPLIT, type VersionChunk } from './line-versions.ts';
import { type CopyNumber, MEMORY } from './lower-level.ts';
import { ShadowLines, VALUES_TOLD } from './shadow-lines.ts';
import type { WriteCombiningBuffer } from './write-combining.ts';
import { WriteLog } from './write-log.ts';

/** How to make a {@link Shadow}. */
export interface ShadowOptions {
  readonly memory: PhysMemory;
  readonly lineBytes: number;
  /** Write calls whose author is remembered. */
  readonly logEntries: number;
  /** Who acts before anybody did. */
  readonly nobody: Accessor;
}

/** Watches one coherency domain. @internal */
export class Shadow implements ByteHistory {
  /** Accesses that got old bytes which happened to equal the newest. */
  luckyReads = 0;
  /** Which bytes are copies of which. */
  readonly bounces: BounceLinks;
  readonly #sim: Simulator;
  readonly #memory: PhysMemory;
  readonly #lines: ShadowLines;
  readonly #lineBytes: number;
  #sawLuck = false;

  constructor(sim: Simulator, { memory, lineBytes, logEntries, nobody }: ShadowOptions) {
    this.#sim = sim;
    this.#memory = memory;
    this.#lineBytes = lineBytes;
    this.#lines = new ShadowLines(memory, lineBytes, new WriteLog(logEntries, sim), nobody, sim);
    this.bounces = new BounceLinks(this);
  }

  /** Lines kept by byte at this moment. */
  get splitLines(): number {
    return this.#lines.splits.count;
  }

  /** Host bytes of its arrays, the log of write calls apart. */
  get hostBytes(): number {
    return this.#lines.hostBytes;
  }

  /** Watches `cache` from now on; the first is that of the CPUs, the second the system's, if there is one. */
  watch(cache: CpuCache, place: StaleReadFacts['newestIn']): void {
    cache.observer = new CacheShadow(this, this.#lines, cache, place);
  }

  /** Watches a write-combining buffer from now on. */
  watchBuffer(buffer: WriteCombiningBuffer): void {
    buffer.observer = new BufferShadow(this.#lines, buffer);
  }

  /** From now on `actor` acts. */
  enter(actor: Accessor): void {
    this.#lines.actor = actor;
  }

  /** From now on writes belong to a new write call of the actor, to [phys, phys + length). */
  beginWrite(phys: PhysAddr, length: number): void {
    this.#lines.version = this.#lines.log.note(this.#lines.actor, this.#sim.now);
    if (!this.bounces.isIdle) this.#tellBounces(phys, length);
  }

  #tellBounces(phys: PhysAddr, length: number): void {
    for (let done = 0, step = 0; done < length; done += step) {
      step = contiguousRun(this.#memory, phys + done, length - done);
      this.bounces.wasWritten(this.#memory.resolve((phys + done) as PhysAddr), step, this.#lines.version);
    }
  }

  /** An invalidate of [phys, phys + length) begins: what it drops beside that, it was not asked to. */
  beginInvalidate(phys: PhysAddr, length: number): void {
    this.#lines.askedFrom = phys;
    this.#lines.askedTo = phys + length;
  }

  endInvalidate(): void {
    this.#lines.askedFrom = 0;
    this.#lines.askedTo = Infinity;
  }

  /** Reports what was found since the last call. @throws {HazardError} under policy `'throw'`. */
  finish(): void {
    const { findings, log } = this.#lines;
    log.endAccess();
    if (this.#sawLuck) {
      this.#sawLuck = false;
      if (findings.empty) this.luckyReads++;
    }
    if (findings.empty) return;
    for (const facts of findings.take(this.#sim.now)) this.#sim.report(facts);
  }

  /** Forgets what was found since the last call. */
  abandon(): void {
    this.#sawLuck = false;
    this.#lines.log.endAccess();
    this.#lines.findings.clear();
  }

  /** The present write call wrote [phys, phys + length) straight to memory. */
  memoryWritten(phys: PhysAddr, length: number): void {
    const { versions, splits, version } = this.#lines;
    const size = this.#lineBytes;
    const end = phys + length;
    let line = Math.ceil(phys / size);
    if (line * size > phys)
      this.#memoryPart(line - 1, phys - (line - 1) * size, Math.min(size, end - (line - 1) * size));
    const last = Math.floor(end / size);
    while (line < last) {
      const isWhole = line % LINES_PER_CHUNK === 0 && last - line >= LINES_PER_CHUNK;
      const chunk = isWhole ? versions.wholeChunk(line) : versions.chunkOf(line);
      const from = line - chunk.first;
      const to = Math.min(LINES_PER_CHUNK, last - chunk.first);
      for (let i = from; chunk.splits > 0 && i < to; i++) {
        if (chunk.newest[i] !== SPLIT) continue;
        splits.close(chunk.first + i);
        chunk.set(i, version, version);
      }
      if (isWhole) chunk.fillAll(version);
      else chunk.fill(from, to, version);
      line = chunk.first + to;
    }
    if (line === last && last * size < end) this.#memoryPart(last, 0, end - last * size);
  }

  /** The actor read [phys, phys + length) from memory, but for lines that a cache he looks into answers. */
  memoryRead(phys: PhysAddr, length: number, looks: Looks): void {
    const size = this.#lineBytes;
    const end = phys + length;
    for (let line = Math.floor(phys / size); line * size < end; ) {
      const first = Math.floor(line / LINES_PER_CHUNK) * LINES_PER_CHUNK;
      const stop = Math.min(first + LINES_PER_CHUNK, Math.ceil(end / size));
      const chunk = this.#lines.versions.existing(line);
      for (; chunk !== undefined && chunk.behind > 0 && line < stop; line++) {
        const i = line - first;
        if (chunk.memoryAt(i) === chunk.newest[i] || this.#isAnswered(line, looks)) continue;
        this.checkRead(line, Math.max(0, phys - line * size), Math.min(size, end - line * size), MEMORY, 0);
      }
      line = stop;
    }
  }

  /** Every copy of byte `phys` was made equal from outside. */
  poked(phys: number, value: number): void {
    const line = Math.floor(phys / this.#lineBytes);
    const base = this.#lines.splits.baseOf(line);
    if (base >= 0) this.#lines.splits.kept[base + phys - line * this.#lineBytes] = value;
  }

  /**
   * Bytes [from, to) of `line` were read from `copy`.
   *
   * @param holder - the write call that made that copy, if it is a dirty line of somebody else; 0: it is not.
   */
  checkRead(line: number, from: number, to: number, copy: CopyNumber, holder: number): void {
    const lines = this.#lines;
    const { hand, splits } = lines;
    const chunk = lines.versions.chunkOf(line);
    const base = splits.baseOf(line);
    const mine = lines.bytesOf(copy);
    const bytes = hand.take(line);
    let old = 0;
    let wrong = 0;
    let version = 0;
    let first = 0;
    let values: { readonly phys: PhysAddr; readonly found: number[]; readonly newest: number[] } | undefined;
    let newestIn: StaleReadFacts['newestIn'] = 'lost';
    let place = UNKNOWN;
    for (let b = from; b < to; b++) {
      const want = (base < 0 ? chunk.newest[line - chunk.first] : splits.newest[base + b]) as number;
      const got = base < 0 ? this.#lineVersion(copy, line, chunk) : mine[base + b];
      if (got === want) continue;
      old++;
      if (base >= 0 || place === UNKNOWN) place = this.#newestIn(line, chunk, base, b, want);
      const found = bytes ? hand.byteIn(copy, b) : -1;
      const newest = bytes ? this.#byteAt(place, base, b) : -1;
      if (bytes && found === newest) continue;
      if (bytes && (wrong === 0 || b === first + wrong) && wrong < VALUES_TOLD) {
        values ??= { phys: (line * this.#lineBytes + b) as PhysAddr, found: [], newest: [] };
        values.found.push(found);
        values.newest.push(newest);
      }
      if (wrong++ > 0) continue;
      first = b;
      version = want;
      newestIn = this.#nameOf(place);
    }
    if (old > wrong) this.#sawLuck = true;
    if (wrong === 0) return;
    const phys = (line * this.#lineBytes) as PhysAddr;
    const wrongBytes = bytes ? wrong : 0;
    lines.findings.noteStale({
      phys,
      wrongBytes,
      newestIn,
      version,
      reader: lines.actor,
      holder: lines.log.writer(holder),
      holderVersion: holder,
      fromCache: copy === CPU_CACHE,
      values,
    });
  }

  /** The version that `copy` holds of the line at hand, which is not split. */
  #lineVersion(copy: CopyNumber, line: number, chunk: VersionChunk): number {
    if (copy === MEMORY) return chunk.memoryAt(line - chunk.first);
    return (this.#lines.caches[copy - 1] as CacheCopy).held[this.#lines.hand.slots[copy - 1] as number] as number;
  }

  /** Where version `want` of byte `b` of the line at hand is, dirty lines first: a copy's number, {@link LOST}, or below that a buffer. */
  #newestIn(line: number, chunk: VersionChunk, base: number, b: number, want: number): number {
    const { hand, splits, caches } = this.#lines;
    if ((base < 0 ? chunk.memoryAt(line - chunk.first) : splits.memory[base + b]) === want) return MEMORY;
    let clean = LOST;
    for (let i = 0; i < caches.length; i++) {
      const slot = hand.slots[i] as number;
      if (slot < 0) continue;
      if ((base < 0 ? this.#lineVersion(i + 1, line, chunk) : splits.caches[i]?.[base + b]) !== want) continue;
      if ((caches[i] as CacheCopy).cache.directory.isDirty(slot)) return i + 1;
      if (clean === LOST) clean = i + 1;
    }
    if (clean !== LOST) return clean;
    const buffer = hand.waitingIn(b, want);
    return buffer < 0 ? LOST : LOST - 1 - buffer;
  }

  #byteAt(place: number, base: number, b: number): number {
    const { hand, splits } = this.#lines;
    if (place >= MEMORY) return hand.byteIn(place, b);
    return place === LOST ? (splits.kept[base + b] as number) : hand.waitingByte(LOST - 1 - place, b);
  }

  #nameOf(place: number): StaleReadFacts['newestIn'] {
    if (place === MEMORY) return 'memory';
    if (place > MEMORY) return (this.#lines.caches[place - 1] as CacheCopy).place;
    return place === LOST ? 'lost' : 'write buffer';
  }

  /** The present write call wrote bytes [from, to) of `line` straight to memory, not all of it. */
  #memoryPart(line: number, from: number, to: number): void {
    const { versions, splits, version, hand } = this.#lines;
    const chunk = versions.chunkOf(line);
    const index = line - chunk.first;
    const upToDate = chunk.memoryAt(index) === chunk.newest[index];
    if (!hand.find(line) && upToDate) {
      chunk.set(index, version, version);
      return;
    }
    const base = this.#lines.recordOf(line, chunk);
    splits.newest.fill(version, base + from, base + to);
    splits.memory.fill(version, base + from, base + to);
    this.#lines.settle(line, chunk, base);
  }

  get lineBytes(): number {
    return this.#lineBytes;
  }

  get findings(): Findings {
    return this.#lines.findings;
  }

  isDevices(version: number): boolean {
    return this.#lines.log.writer(version)?.kind === 'device';
  }

  newestOf(phys: number): NewestByte {
    const { hand, splits, versions } = this.#lines;
    const line = Math.floor(phys / this.#lineBytes);
    const b = phys - line * this.#lineBytes;
    const chunk = versions.chunkOf(line);
    const base = splits.baseOf(line);
    const version = (base < 0 ? chunk.newest[line - chunk.first] : splits.newest[base + b]) as number;
    const bytes = hand.take(line);
    const place = this.#newestIn(line, chunk, base, b, version);
    return { version, value: bytes ? this.#byteAt(place, base, b) : -1, newestIn: this.#nameOf(place) };
  }

  /** Whether a cache that is looked into answers a read of `line`, and not memory. */
  #isAnswered(line: number, { snoops, seesSystem }: Looks): boolean {
    const { caches } = this.#lines;
    if (snoops && (caches[CPU_CACHE - 1] as CacheCopy).cache.holdsDirty(line)) return true;
    const system = caches[SYSTEM_CACHE - 1];
    if (!seesSystem || system?.place !== 'system cache') return false;
    return system.cache.directory.find(line) >= 0;
  }
}

/** In place of a copy's number: no copy has it any more. */
const LOST = -1;
/** In place of a copy's number: nobody has looked yet. */
const UNKNOWN = Number.NEGATIVE_INFINITY;
