/**
 * The write-combining buffer of a CPU: a few lines whose written bytes wait, byte by byte masked, to go to memory.
 *
 * Rules:
 * 1. A write puts its bytes into the line's buffer; a line without one takes a free buffer, or the one that was taken
 *    longest ago, which is drained first (first in, first out).
 * 2. Draining writes the masked bytes to memory, over whatever it holds by then, and frees the buffer.
 * 3. Nobody looks inside: until drained, the bytes exist for no device, no other CPU and no other kind of view. Reads
 *    through a write-combined view drain the lines they touch; barriers, maintenance and uncached accesses drain all.
 * 4. Hardware may drain any buffer at any time, and not all of its bytes at once: see {@link WriteCombiningBuffer.drainPart}.
 *
 * Inaccuracies: a full buffer stays until pushed out, though most hardware sends it at once.
 *
 * @see Intel SDM volume 3, 12.3.1 "Buffering of Write Combining Memory Locations": partly filled buffers go out in pieces of 8 bytes, in any order
 */
import type { PhysAddr } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import type { PhysMemory } from '../mem/phys-memory.ts';
import { copyBytes } from './byte-copy.ts';
import { type CopyNumber, type LowerLevel, MEMORY } from './lower-level.ts';

/** Told what happens to buffers, to keep a shadow. @internal */
export interface WriteBufferObserver {
  /** Bytes [from, to) of `line` are put into buffer `entry`. */
  pendingWritten(entry: number, line: number, from: number, to: number): void;
  /** The masked bytes among [from, to) of `entry` are about to go to copy `target`. */
  draining(entry: number, line: number, from: number, to: number, target: CopyNumber): void;
  /** They are there, and the buffer is free if none is left. */
  drained(line: number): void;
}

/** Line buffers between a CPU and `memory`. Plain, costs nothing: `CoherencyDomain` charges. @internal */
export class WriteCombiningBuffer {
  /** Line buffers. */
  readonly entries: number;
  readonly lineBytes: number;
  observer: WriteBufferObserver | undefined;
  /** What it drains into instead of memory. */
  lower: LowerLevel | undefined;
  /** Data of all buffers, `lineBytes` each. */
  readonly bytes: Uint8Array;
  /** 1 where a byte is waiting. */
  readonly mask: Uint8Array;
  /** Buffers drained since the start. */
  drainedLines = 0;
  readonly #memory: PhysMemory;
  /** Line number of each buffer, -1 if free. */
  readonly #lines: Float64Array;
  readonly #taken: Float64Array;
  #clock = 0;
  #pending = 0;

  constructor(memory: PhysMemory, entries: number, lineBytes: number) {
    assert(Number.isInteger(entries) && entries >= 1, 'write-combining: entries %s is no whole number >= 1', entries);
    this.entries = entries;
    this.lineBytes = lineBytes;
    this.#memory = memory;
    this.bytes = new Uint8Array(entries * lineBytes);
    this.mask = new Uint8Array(entries * lineBytes);
    this.#lines = new Float64Array(entries).fill(-1);
    this.#taken = new Float64Array(entries);
  }

  /** Buffers in use. */
  get pendingLines(): number {
    return this.#pending;
  }

  /** The buffer of `line`, or -1. */
  find(line: number): number {
    if (this.#pending === 0) return -1;
    return this.#lines.indexOf(line);
  }

  /** Puts `length` bytes of `src` (`null` in tag mode) for `phys` into buffers. */
  write(phys: PhysAddr, src: Uint8Array | null, srcOffset: number, length: number): void {
    let line = Math.floor(phys / this.lineBytes);
    let from = phys - line * this.lineBytes;
    for (let done = 0; done < length; line++) {
      const to = Math.min(this.lineBytes, from + length - done);
      const entry = this.#take(line);
      const at = entry * this.lineBytes + from;
      this.observer?.pendingWritten(entry, line, from, to);
      this.mask.fill(1, at, at + to - from);
      if (src !== null) copyBytes(this.bytes, at, src, srcOffset + done, to - from);
      done += to - from;
      from = 0;
    }
  }

  /** The `n`th buffer in use, from 0. */
  pendingEntry(n: number): number {
    let entry = -1;
    for (let left = n; left >= 0; left--) {
      do entry++;
      while ((this.#lines[entry] as number) < 0);
    }
    return entry;
  }

  /** Drains the bytes [from, to) of buffer `entry`, which is in use; the others go on waiting. */
  drainPart(entry: number, from: number, to: number): void {
    this.#drain(entry, from, to);
  }

  /** Drains the buffers of lines that overlap [phys, phys + length). @returns buffers drained. */
  drainRange(phys: PhysAddr, length: number): number {
    const first = Math.floor(phys / this.lineBytes);
    const last = Math.floor((phys + length - 1) / this.lineBytes);
    return this.#pending === 0 ? 0 : this.#drainWithin(first, last);
  }

  /** Drains all buffers. @returns buffers drained. */
  drainAll(): number {
    return this.#pending === 0 ? 0 : this.#drainWithin(0, Number.POSITIVE_INFINITY);
  }

  /** Lays the waiting bytes of [phys, phys + length) over `out`, which holds what memory has. Looks only. */
  overlay(phys: PhysAddr, out: Uint8Array, outOffset: number, length: number): void {
    for (let i = 0; this.#pending > 0 && i < length; i++) {
      const at = this.indexOf(phys + i);
      if (at >= 0) out[outOffset + i] = this.bytes[at] as number;
    }
  }

  /** Where the waiting byte for `phys` is in {@link WriteCombiningBuffer.bytes}, or -1 if none waits. */
  indexOf(phys: number): number {
    const line = Math.floor(phys / this.lineBytes);
    const entry = this.find(line);
    if (entry < 0) return -1;
    const at = entry * this.lineBytes + phys - line * this.lineBytes;
    return this.mask[at] === 1 ? at : -1;
  }

  #take(line: number): number {
    const held = this.find(line);
    if (held >= 0) return held;
    let entry = this.#lines.indexOf(-1);
    if (entry < 0) {
      entry = this.#oldest();
      this.#drain(entry);
    }
    this.#lines[entry] = line;
    this.#taken[entry] = ++this.#clock;
    this.#pending++;
    return entry;
  }

  /** The buffer taken longest ago. All are in use. */
  #oldest(): number {
    let oldest = 0;
    for (let e = 1; e < this.entries; e++) {
      if ((this.#taken[e] as number) < (this.#taken[oldest] as number)) oldest = e;
    }
    return oldest;
  }

  #drainWithin(first: number, last: number): number {
    let count = 0;
    for (let entry = 0; entry < this.entries; entry++) {
      const line = this.#lines[entry] as number;
      if (line < 0 || line < first || line > last) continue;
      this.#drain(entry);
      count++;
    }
    return count;
  }

  #drain(entry: number, from = 0, to = this.lineBytes): void {
    const line = this.#lines[entry] as number;
    const base = entry * this.lineBytes;
    const target = this.lower === undefined ? MEMORY : this.lower.prepare(line);
    this.observer?.draining(entry, line, from, to, target);
    if (this.lower === undefined) this.#toMemory(line, base, from, to);
    else this.#toLower(this.lower, target, line, base, from, to);
    this.mask.fill(0, base + from, base + to);
    const left = this.mask.indexOf(1, base);
    if (left < 0 || left >= base + this.lineBytes) {
      this.#lines[entry] = -1;
      this.#pending--;
      this.drainedLines++;
    }
    this.observer?.drained(line);
  }

  #toMemory(line: number, base: number, from: number, to: number): void {
    const phys = (line * this.lineBytes) as PhysAddr;
    if (!this.#memory.storesBytes || this.#memory.regionAt(phys) === undefined) return;
    const chunk = this.#memory.chunkFor(phys, true);
    const at = this.#memory.chunkOffset(phys);
    for (let i = from; chunk !== undefined && i < to; i++) {
      if (this.mask[base + i] === 1) chunk[at + i] = this.bytes[base + i] as number;
    }
  }

  #toLower(lower: LowerLevel, target: CopyNumber, line: number, base: number, from: number, to: number): void {
    const src = this.#memory.storesBytes ? this.bytes : this.bytes.subarray(0, 0);
    for (let i = from; i < to; i++) {
      if (this.mask[base + i] === 1) lower.store(target, line, i, i + 1, src, base + i);
    }
    lower.stored(target, line);
  }
}
