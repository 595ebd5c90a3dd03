/**
 * The versions that every copy of every line holds, and what it means when one of them goes away. The copies are memory, the caches of the
 * domain and of devices, and the write-combining buffers.
 */
import type { PhysAddr } from '../base/addr.ts';
import type { Accessor, StaleReadFacts } from '../base/hazards.ts';
import type { PhysMemory } from '../mem/phys-memory.ts';
import type { CpuCache } from './cpu-cache.ts';
import { Findings, type LostLine, type ReportSource } from './findings.ts';
import { type BufferCopy, type CacheCopy, LineAtHand } from './line-at-hand.ts';
import { LineVersions, SPLIT, type VersionChunk } from './line-versions.ts';
import { type CopyNumber, MEMORY, NOWHERE } from './lower-level.ts';
import { SplitLines } from './split-lines.ts';
import type { WriteCombiningBuffer } from './write-combining.ts';
import type { WriteLog } from './write-log.ts';

/** Bytes that a report shows. */
export const VALUES_TOLD = 8;

/** What a shadow knows. @internal */
export class ShadowLines {
  readonly lineBytes: number;
  readonly log: WriteLog;
  readonly findings: Findings;
  readonly versions = new LineVersions();
  readonly splits: SplitLines;
  /** Copy number `n` is at index `n - 1`. */
  readonly caches: CacheCopy[] = [];
  readonly buffers: BufferCopy[] = [];
  readonly hand: LineAtHand;
  /** Who acts. */
  actor: Accessor;
  /** The present write call. */
  version = 0;
  /** Bytes [askedFrom, askedTo) are what a maintenance call in progress was asked for; all outside of one. */
  askedFrom = 0;
  askedTo = Infinity;

  constructor(memory: PhysMemory, lineBytes: number, log: WriteLog, nobody: Accessor, source: ReportSource) {
    this.lineBytes = lineBytes;
    this.log = log;
    this.findings = new Findings(log, source, lineBytes);
    this.splits = new SplitLines(lineBytes);
    this.hand = new LineAtHand(memory, lineBytes, this.caches, this.buffers);
    this.actor = nobody;
  }

  /** Host bytes of the arrays that hold versions, the log apart. */
  get hostBytes(): number {
    let bytes = this.versions.hostBytes + this.splits.hostBytes;
    for (const { held, writers } of this.caches) bytes += held.byteLength + writers.byteLength;
    for (const { pending } of this.buffers) bytes += pending.byteLength;
    return bytes;
  }

  /** One more cache, empty. @returns its copy number. */
  addCache(cache: CpuCache, place: StaleReadFacts['newestIn']): CopyNumber {
    this.splits.addCache();
    return this.caches.push({
      place,
      cache,
      held: new Uint32Array(cache.slots),
      writers: new Uint32Array(cache.slots),
    });
  }

  /** One more buffer, empty. */
  addBuffer(buffer: WriteCombiningBuffer): BufferCopy {
    const copy = { buffer, pending: new Uint32Array(buffer.entries * buffer.lineBytes) };
    this.buffers.push(copy);
    return copy;
  }

  /** Versions by byte that `copy` holds; look after {@link recordOf}. */
  bytesOf(copy: CopyNumber): Uint32Array {
    return copy === MEMORY ? this.splits.memory : (this.splits.caches[copy - 1] as Uint32Array);
  }

  /** Base of the record by byte of `line`, made from its versions by line if there is none. */
  recordOf(line: number, chunk: VersionChunk): number {
    const index = line - chunk.first;
    const newest = chunk.newest[index] as number;
    if (newest === SPLIT) return this.splits.baseOf(line);
    const memory = chunk.memoryAt(index);
    chunk.set(index, SPLIT, memory);
    const base = this.splits.open(line, newest, memory);
    for (const [i, { cache, held }] of this.caches.entries()) {
      const slot = cache.directory.find(line);
      if (slot >= 0) this.splits.caches[i]?.fill(held[slot] as number, base, base + this.lineBytes);
    }
    return base;
  }

  /** Gives up the record of `line` if every copy, `but` apart, is the newest again. */
  settle(line: number, chunk: VersionChunk, base: number, but: CopyNumber = NOWHERE): void {
    const { newest, memory } = this.splits;
    const end = base + this.lineBytes;
    let youngest = 0;
    for (let b = base; b < end; b++) {
      const want = newest[b] as number;
      if (memory[b] !== want) return;
      if (want > youngest) youngest = want;
    }
    this.hand.find(line);
    for (let i = 0; i < this.caches.length; i++) {
      if ((this.hand.slots[i] as number) < 0 || i === but - 1) continue;
      const versions = this.splits.caches[i] as Uint32Array;
      for (let b = base; b < end; b++) if (versions[b] !== newest[b]) return;
    }
    for (let i = 0; i < this.buffers.length; i++) if ((this.hand.entries[i] as number) >= 0) return;
    this.splits.close(line);
    chunk.set(line - chunk.first, youngest, youngest);
    for (const [i, { held }] of this.caches.entries()) {
      const slot = this.hand.slots[i] as number;
      if (slot >= 0) held[slot] = youngest;
    }
  }

  /**
   * Whether a copy other than `but` has version `want` of byte `b` of the line at hand, whose record is at `base`. A clean line in a
   * device's cache does not count: nobody but that device will ever see it.
   */
  isKept(base: number, b: number, want: number, but: CopyNumber): boolean {
    if (but !== MEMORY && this.splits.memory[base + b] === want) return true;
    for (let i = 0; i < this.caches.length; i++) {
      const slot = this.hand.slots[i] as number;
      if (slot < 0 || i === but - 1 || this.splits.caches[i]?.[base + b] !== want) continue;
      if (this.#counts(this.caches[i] as CacheCopy, slot)) return true;
    }
    return this.hand.waitingIn(b, want) >= 0;
  }

  /** {@link isKept} for all bytes of `line`, which is not split. */
  isLineKept(line: number, want: number, but: CopyNumber): boolean {
    for (let i = 0; i < this.caches.length; i++) {
      const copy = this.caches[i] as CacheCopy;
      if (i === but - 1) continue;
      const slot = copy.cache.directory.find(line);
      if (slot >= 0 && copy.held[slot] === want && this.#counts(copy, slot)) return true;
    }
    return false;
  }

  /** Version `version` of byte `b` of `line` is gone with the value `value`; `found` is there now, or -1 if memory holds no bytes. */
  markLost(
    marks: LossMarks,
    line: number,
    base: number,
    b: number,
    version: number,
    value: number,
    found: number,
  ): void {
    this.splits.kept[base + b] = value;
    const phys = line * this.lineBytes + b;
    const isOutside = marks.action === 'invalidate' && (phys < this.askedFrom || phys >= this.askedTo);
    const isCpu = !isOutside && this.findings.lossOf(version, marks.action) === 'cpu-write.lost';
    const place = isOutside ? OUTSIDE : isCpu ? 0 : 1;
    marks.versions[place] ||= version;
    if (found < 0) return;
    const bytes = marks.values[place] ?? { phys: phys as PhysAddr, found: [], newest: [] };
    marks.values[place] = bytes;
    if (bytes.found.length === VALUES_TOLD || phys !== bytes.phys + bytes.found.length) return;
    bytes.found.push(found);
    bytes.newest.push(value);
  }

  /** Tells what {@link markLost} has marked. */
  noteLost(marks: LossMarks, line: number, destroyer: Accessor | undefined, destroyerVersion = 0): void {
    const phys = (line * this.lineBytes) as PhysAddr;
    const { action, versions } = marks;
    for (const [place, version] of versions.entries()) {
      if (version === 0) continue;
      const bytes = marks.values[place];
      const values = bytes === undefined ? {} : { values: bytes };
      const outside = place === OUTSIDE;
      this.findings.noteLost({ phys, version, destroyer, destroyerVersion, action, outside, ...values });
    }
  }

  #counts({ place, cache }: CacheCopy, slot: number): boolean {
    return place !== 'device cache' || cache.directory.isDirty(slot);
  }
}

/** Place of what lay outside, in {@link LossMarks}. */
const OUTSIDE = 2;

/** What a line loses in one event. @internal */
export interface LossMarks {
  readonly action: LostLine['action'];
  /** First lost version by kind of writer, 0 for none: of a CPU, of a device; of anybody outside of what was asked for. */
  readonly versions: [cpu: number, device: number, outside: number];
  /** The first lost bytes of each, if memory holds bytes. */
  readonly values: ({ readonly phys: PhysAddr; readonly found: number[]; readonly newest: number[] } | undefined)[];
}

/** Nothing lost yet. @internal */
export function noLoss(action: LostLine['action']): LossMarks {
  return { action, versions: [0, 0, 0], values: [] };
}
