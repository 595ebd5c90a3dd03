/**
 * The shadow: which version of each line every copy holds, only to explain stale and lost bytes. The data path
 * never asks it; without it every byte is the same.
 *
 * Rules:
 * 1. A write call gets one version (`write-log.ts`). The newest version of a line is the last written anywhere; the
 *    copies are memory, the CPU cache and the write-combining buffer, each with the version it holds.
 * 2. Versions are kept by line. A line whose bytes differ in age gets versions by byte (`split-lines.ts`) until memory
 *    and cache are all newest again: so bytes beside the accessed ones raise no alarm.
 * 3. A read is stale if a byte *asked for* came from an older copy and its value differs from the newest (tag mode: only
 *    the version counts). Old bytes that are equal by luck are counted in `luckyReads` and nothing else.
 * 4. A byte is lost when the last copy of its newest version is dropped, or overwritten by an older one with another
 *    value. Its newest version stays the lost one until it is written again; its value is kept to compare with.
 * 5. One access raises at most one report of a kind, after it is done and paid: a thrown report leaves all in order.
 */
import type { PhysAddr } from '../base/addr.ts';
import type { Accessor, StaleReadFacts } from '../base/hazards.ts';
import type { Simulator } from '../sim/simulator.ts';
import type { CacheObserver, CpuCache } from './cpu-cache.ts';
import { Findings, type LostLine } from './findings.ts';
import { LineAtHand, type ShadowCopies } from './line-at-hand.ts';
import { LINES_PER_CHUNK, LineVersions, SPLIT, type VersionChunk } from './line-versions.ts';
import { SplitLines } from './split-lines.ts';
import type { WriteBufferObserver, WriteCombiningBuffer } from './write-combining.ts';
import { WriteLog } from './write-log.ts';

/** Watches one coherency domain. @internal */
export class Shadow implements CacheObserver, WriteBufferObserver {
  /** Accesses that got old bytes which happened to equal the newest. */
  luckyReads = 0;
  readonly #sim: Simulator;
  readonly #cache: CpuCache;
  readonly #buffer: WriteCombiningBuffer;
  readonly #lineBytes: number;
  readonly #log: WriteLog;
  readonly #findings: Findings;
  readonly #lines = new LineVersions();
  readonly #splits: SplitLines;
  /** Version of each cache slot; an old one without meaning where the line is split. */
  readonly #held: Uint32Array;
  /** Version of the last CPU write into each cache slot. */
  readonly #writers: Uint32Array;
  /** Version of each byte that waits in the write-combining buffer. */
  readonly #pending: Uint32Array;
  readonly #hand: LineAtHand;
  #actor: Accessor;
  #version = 0;
  #sawLuck = false;

  constructor(sim: Simulator, copies: ShadowCopies, logEntries: number, nobody: Accessor) {
    const { cache, writeBuffer } = copies;
    this.#sim = sim;
    this.#cache = cache;
    this.#buffer = writeBuffer;
    this.#lineBytes = cache.lineBytes;
    this.#log = new WriteLog(logEntries);
    this.#findings = new Findings(this.#log);
    this.#splits = new SplitLines(cache.lineBytes);
    this.#held = new Uint32Array(cache.slots);
    this.#writers = new Uint32Array(cache.slots);
    this.#pending = new Uint32Array(writeBuffer.entries * cache.lineBytes);
    this.#hand = new LineAtHand(copies);
    this.#actor = nobody;
  }

  /** Lines kept by byte at this moment. */
  get splitLines(): number {
    return this.#splits.count;
  }

  /** From now on `actor` acts. */
  enter(actor: Accessor): void {
    this.#actor = actor;
  }

  /** From now on writes belong to a new write call of the actor. */
  beginWrite(): void {
    this.#version = this.#log.note(this.#actor, this.#sim.now);
  }

  /** Reports what was found since the last call. @throws {HazardError} under policy `'throw'`. */
  finish(): void {
    if (this.#sawLuck) {
      this.#sawLuck = false;
      if (this.#findings.empty) this.luckyReads++;
    }
    if (this.#findings.empty) return;
    for (const facts of this.#findings.take(this.#sim.now)) this.#sim.report(facts);
  }

  /** Forgets what was found since the last call. */
  abandon(): void {
    this.#sawLuck = false;
    this.#findings.clear();
  }

  /** The present write call wrote [phys, phys + length) straight to memory. */
  memoryWritten(phys: PhysAddr, length: number): void {
    const size = this.#lineBytes;
    const end = phys + length;
    let line = Math.ceil(phys / size);
    if (line * size > phys)
      this.#memoryPart(line - 1, phys - (line - 1) * size, Math.min(size, end - (line - 1) * size));
    const last = Math.floor(end / size);
    while (line < last) {
      const chunk = this.#lines.chunkOf(line);
      const from = line - chunk.first;
      const to = Math.min(LINES_PER_CHUNK, last - chunk.first);
      for (let i = from; chunk.splits > 0 && i < to; i++) {
        if (chunk.newest[i] !== SPLIT) continue;
        this.#splits.close(chunk.first + i);
        chunk.set(i, this.#version, this.#version);
      }
      chunk.fill(from, to, this.#version);
      line = chunk.first + to;
    }
    if (line === last && last * size < end) this.#memoryPart(last, 0, end - last * size);
  }

  /** The actor read [phys, phys + length) from memory; lines that are dirty in the cache apart if he `snoops`. */
  memoryRead(phys: PhysAddr, length: number, snoops: boolean): void {
    const size = this.#lineBytes;
    const end = phys + length;
    for (let line = Math.floor(phys / size); line * size < end; ) {
      const first = Math.floor(line / LINES_PER_CHUNK) * LINES_PER_CHUNK;
      const stop = Math.min(first + LINES_PER_CHUNK, Math.ceil(end / size));
      const chunk = this.#lines.existing(line);
      for (; chunk !== undefined && chunk.behind > 0 && line < stop; line++) {
        const i = line - first;
        if (chunk.memoryAt(i) === chunk.newest[i]) continue;
        if (snoops && this.#isDirty(line)) continue;
        this.#checkRead(line, Math.max(0, phys - line * size), Math.min(size, end - line * size), -1);
      }
      line = stop;
    }
  }

  /** Every copy of byte `phys` was made equal from outside. */
  poked(phys: number, value: number): void {
    const line = Math.floor(phys / this.#lineBytes);
    const base = this.#splits.baseOf(line);
    if (base >= 0) this.#splits.kept[base + phys - line * this.#lineBytes] = value;
  }

  filled(slot: number, line: number): void {
    const chunk = this.#lines.chunkOf(line);
    const index = line - chunk.first;
    if (chunk.newest[index] !== SPLIT) {
      this.#held[slot] = chunk.memoryAt(index);
      return;
    }
    const base = this.#splits.baseOf(line);
    this.#held[slot] = 0;
    this.#splits.cache.set(this.#splits.memory.subarray(base, base + this.#lineBytes), base);
  }

  lineRead(slot: number, line: number, from: number, to: number): void {
    const chunk = this.#lines.chunkOf(line);
    if (chunk.newest[line - chunk.first] !== this.#held[slot]) this.#checkRead(line, from, to, slot);
  }

  lineWritten(slot: number, line: number, from: number, to: number): void {
    const version = this.#version;
    const chunk = this.#lines.chunkOf(line);
    const index = line - chunk.first;
    this.#writers[slot] = version;
    if (to - from === this.#lineBytes) {
      const memory = chunk.memoryAt(index);
      if (chunk.newest[index] === SPLIT) this.#splits.close(line);
      chunk.set(index, version, memory);
      this.#held[slot] = version;
      return;
    }
    const base = this.#recordOf(line, chunk, slot);
    this.#splits.newest.fill(version, base + from, base + to);
    this.#splits.cache.fill(version, base + from, base + to);
  }

  writingBack(slot: number, line: number): void {
    const chunk = this.#lines.chunkOf(line);
    const index = line - chunk.first;
    const held = this.#held[slot] as number;
    if (chunk.newest[index] === held) {
      if (chunk.memoryAt(index) !== held) chunk.set(index, held, held);
      return;
    }
    const base = this.#recordOf(line, chunk, slot);
    const { newest, memory, cache } = this.#splits;
    const destroyer = this.#log.writer(this.#writers[slot] as number);
    const bytes = this.#hand.take(line);
    const lost: LossMarks = { cpu: 0, device: 0 };
    for (let b = 0; b < this.#lineBytes; b++) {
      const want = newest[base + b] as number;
      const mine = cache[base + b] as number;
      if (mine !== want && memory[base + b] === want) {
        if (bytes && this.#hand.memory[b] === this.#hand.cached(b)) {
          cache[base + b] = want;
          continue;
        }
        this.#markLost(lost, base + b, want, this.#hand.memory[b] as number, 'write-back');
      }
      memory[base + b] = mine;
    }
    this.#noteLost(lost, line, destroyer, 'write-back');
    this.#settle(line, chunk, base, slot);
  }

  dropping(slot: number, line: number): void {
    const chunk = this.#lines.chunkOf(line);
    const index = line - chunk.first;
    const newestOfLine = chunk.newest[index];
    if (newestOfLine !== SPLIT && (newestOfLine !== this.#held[slot] || chunk.memoryAt(index) === newestOfLine)) return;
    const base = this.#recordOf(line, chunk, slot);
    const { newest, memory, cache } = this.#splits;
    const bytes = this.#hand.take(line);
    const lost: LossMarks = { cpu: 0, device: 0 };
    for (let b = 0; b < this.#lineBytes; b++) {
      const want = newest[base + b] as number;
      if (cache[base + b] !== want || memory[base + b] === want) continue;
      const value = bytes ? this.#hand.cached(b) : 0;
      if (bytes && this.#hand.memory[b] === value) memory[base + b] = want;
      else this.#markLost(lost, base + b, want, value, 'invalidate');
    }
    this.#noteLost(lost, line, this.#actor, 'invalidate');
    this.#settle(line, chunk, base, -1);
  }

  pendingWritten(entry: number, line: number, from: number, to: number): void {
    const base = this.#recordOf(line, this.#lines.chunkOf(line), this.#cache.find(line));
    const at = entry * this.#lineBytes;
    this.#splits.newest.fill(this.#version, base + from, base + to);
    this.#pending.fill(this.#version, at + from, at + to);
  }

  draining(entry: number, line: number): void {
    const slot = this.#cache.find(line);
    const base = this.#recordOf(line, this.#lines.chunkOf(line), slot);
    const { newest, memory, cache } = this.#splits;
    const bytes = this.#hand.take(line);
    const lost: LossMarks = { cpu: 0, device: 0 };
    let destroyer = 0;
    for (let b = 0; b < this.#lineBytes; b++) {
      const at = entry * this.#lineBytes + b;
      if (this.#buffer.mask[at] === 0) continue;
      const want = newest[base + b] as number;
      const mine = this.#pending[at] as number;
      if (mine !== want && memory[base + b] === want && !(slot >= 0 && cache[base + b] === want)) {
        if (bytes && this.#hand.memory[b] === this.#buffer.bytes[at]) continue;
        this.#markLost(lost, base + b, want, this.#hand.memory[b] as number, 'write-back');
        destroyer = mine;
      }
      memory[base + b] = mine;
    }
    this.#noteLost(lost, line, this.#log.writer(destroyer), 'write-back');
  }

  drained(line: number): void {
    const base = this.#splits.baseOf(line);
    if (base >= 0) this.#settle(line, this.#lines.chunkOf(line), base, this.#cache.find(line));
  }

  /** Bytes [from, to) of `line` were read from cache slot `slot`, or from memory if it is -1. */
  #checkRead(line: number, from: number, to: number, slot: number): void {
    const chunk = this.#lines.chunkOf(line);
    const index = line - chunk.first;
    const base = this.#splits.baseOf(line);
    const { newest, memory, cache } = this.#splits;
    const bytes = this.#hand.take(line);
    const cached = this.#hand.slot;
    let old = 0;
    let wrong = 0;
    let version = 0;
    let newestIn: StaleReadFacts['newestIn'] = 'lost';
    for (let b = from; b < to; b++) {
      const want = (base < 0 ? chunk.newest[index] : newest[base + b]) as number;
      const inMemory = (base < 0 ? chunk.memoryAt(index) : memory[base + b]) === want;
      const inCache = cached >= 0 && (base < 0 ? this.#held[cached] : cache[base + b]) === want;
      if (slot >= 0 ? inCache : inMemory) continue;
      old++;
      const place = inMemory ? 'memory' : inCache ? 'cpu cache' : this.#waits(b, want) ? 'write buffer' : 'lost';
      if (bytes) {
        const read = slot >= 0 ? this.#hand.cached(b) : this.#hand.memory[b];
        if (read === this.#hand.valueIn(place, b, this.#splits, base)) continue;
      }
      if (wrong++ > 0) continue;
      version = want;
      newestIn = place;
    }
    if (old > wrong) this.#sawLuck = true;
    if (wrong === 0) return;
    this.#findings.noteStale({
      phys: (line * this.#lineBytes) as PhysAddr,
      wrongBytes: bytes ? wrong : 0,
      newestIn,
      version,
      reader: this.#actor,
      holder: slot >= 0 && this.#actor.kind === 'device' ? this.#log.writer(this.#writers[slot] as number) : undefined,
    });
  }

  /** The present write call wrote bytes [from, to) of `line` straight to memory, not all of it. */
  #memoryPart(line: number, from: number, to: number): void {
    const chunk = this.#lines.chunkOf(line);
    const index = line - chunk.first;
    const slot = this.#cache.find(line);
    const upToDate = chunk.memoryAt(index) === chunk.newest[index];
    if (upToDate && slot < 0 && this.#buffer.find(line) < 0) {
      chunk.set(index, this.#version, this.#version);
      return;
    }
    const base = this.#recordOf(line, chunk, slot);
    this.#splits.newest.fill(this.#version, base + from, base + to);
    this.#splits.memory.fill(this.#version, base + from, base + to);
    this.#settle(line, chunk, base, slot);
  }

  /** Base of the record by byte of `line`, made from its versions by line if there is none. `slot` holds it, or -1. */
  #recordOf(line: number, chunk: VersionChunk, slot: number): number {
    const index = line - chunk.first;
    const newest = chunk.newest[index] as number;
    if (newest === SPLIT) return this.#splits.baseOf(line);
    const memory = chunk.memoryAt(index);
    chunk.set(index, SPLIT, memory);
    return this.#splits.open(line, newest, memory, slot < 0 ? 0 : (this.#held[slot] as number));
  }

  /** Gives up the record of `line` if every copy is the newest again. `slot` holds the line, or -1. */
  #settle(line: number, chunk: VersionChunk, base: number, slot: number): void {
    const { newest, memory, cache } = this.#splits;
    let youngest = 0;
    for (let b = base; b < base + this.#lineBytes; b++) {
      const want = newest[b] as number;
      if (memory[b] !== want || (slot >= 0 && cache[b] !== want)) return;
      if (want > youngest) youngest = want;
    }
    if (this.#buffer.find(line) >= 0) return;
    this.#splits.close(line);
    chunk.set(line - chunk.first, youngest, youngest);
    if (slot >= 0) this.#held[slot] = youngest;
  }

  #markLost(marks: LossMarks, at: number, version: number, value: number, action: LostLine['action']): void {
    this.#splits.kept[at] = value;
    if (this.#findings.lossOf(version, action) === 'cpu-write.lost') marks.cpu ||= version;
    else marks.device ||= version;
  }

  #noteLost(marks: LossMarks, line: number, destroyer: Accessor | undefined, action: LostLine['action']): void {
    const phys = (line * this.#lineBytes) as PhysAddr;
    if (marks.cpu > 0) this.#findings.noteLost({ phys, version: marks.cpu, destroyer, action });
    if (marks.device > 0) this.#findings.noteLost({ phys, version: marks.device, destroyer, action });
  }

  /** Whether byte `b` of the line at hand waits in the write-combining buffer with `version`. */
  #waits(b: number, version: number): boolean {
    const { entry } = this.#hand;
    const at = entry * this.#lineBytes + b;
    return entry >= 0 && this.#buffer.mask[at] === 1 && this.#pending[at] === version;
  }

  #isDirty(line: number): boolean {
    const slot = this.#cache.find(line);
    return slot >= 0 && this.#cache.isDirty(slot);
  }
}

/** First lost version of a line by kind of writer, 0 for none. */
interface LossMarks {
  cpu: number;
  device: number;
}
