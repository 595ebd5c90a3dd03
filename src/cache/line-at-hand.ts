/** One line in each of its copies, for a shadow that compares them. */
import type { PhysAddr } from '../base/addr.ts';
import type { StaleReadFacts } from '../base/hazards.ts';
import type { PhysMemory } from '../mem/phys-memory.ts';
import type { CpuCache } from './cpu-cache.ts';
import { type CopyNumber, MEMORY } from './lower-level.ts';
import type { WriteCombiningBuffer } from './write-combining.ts';

/** A cache that a shadow watches: copy number 1 and up. @internal */
export interface CacheCopy {
  readonly place: StaleReadFacts['newestIn'];
  readonly cache: CpuCache;
  /** Version of each slot; an old one without meaning where the line is split. */
  readonly held: Uint32Array;
  /** Version of the last write into each slot. */
  readonly writers: Uint32Array;
}

/** A write-combining buffer that a shadow watches. @internal */
export interface BufferCopy {
  readonly buffer: WriteCombiningBuffer;
  /** Version of each byte that waits. */
  readonly pending: Uint32Array;
}

/** One line at a time. @internal */
export class LineAtHand {
  /** Its slot in each cache, or -1. */
  readonly slots: number[] = [];
  /** Its entry in each buffer, or -1. */
  readonly entries: number[] = [];
  readonly #memory: PhysMemory;
  readonly #lineBytes: number;
  readonly #caches: readonly CacheCopy[];
  readonly #buffers: readonly BufferCopy[];
  /** Memory's bytes of it. */
  readonly #bytes: Uint8Array;

  constructor(memory: PhysMemory, lineBytes: number, caches: readonly CacheCopy[], buffers: readonly BufferCopy[]) {
    this.#memory = memory;
    this.#lineBytes = lineBytes;
    this.#caches = caches;
    this.#buffers = buffers;
    this.#bytes = new Uint8Array(lineBytes);
  }

  /** Finds `line` in all copies. @returns whether any but memory has it. */
  find(line: number): boolean {
    let isHeld = false;
    for (let i = 0; i < this.#caches.length; i++) {
      const slot = (this.#caches[i] as CacheCopy).cache.directory.find(line);
      this.slots[i] = slot;
      if (slot >= 0) isHeld = true;
    }
    for (let i = 0; i < this.#buffers.length; i++) {
      const entry = (this.#buffers[i] as BufferCopy).buffer.find(line);
      this.entries[i] = entry;
      if (entry >= 0) isHeld = true;
    }
    return isHeld;
  }

  /** Takes `line` in hand with its bytes; memory that was unplugged counts as zeros. @returns whether there are bytes to compare. */
  take(line: number): boolean {
    this.find(line);
    if (!this.#memory.storesBytes) return false;
    const phys = (line * this.#lineBytes) as PhysAddr;
    if (this.#memory.regionAt(phys) === undefined) this.#bytes.fill(0);
    else this.#memory.read(phys, this.#bytes, 0, this.#lineBytes);
    return true;
  }

  /** Byte `b` as `copy`, which holds the line, has it. */
  byteIn(copy: CopyNumber, b: number): number {
    if (copy === MEMORY) return this.#bytes[b] as number;
    const { cache } = this.#caches[copy - 1] as CacheCopy;
    return cache.bytes[cache.directory.dataAt(this.slots[copy - 1] as number) + b] as number;
  }

  /** The first buffer in which byte `b` waits with `version`, or -1. */
  waitingIn(b: number, version: number): number {
    for (let i = 0; i < this.#buffers.length; i++) {
      const entry = this.entries[i] as number;
      if (entry < 0) continue;
      const { buffer, pending } = this.#buffers[i] as BufferCopy;
      const at = entry * this.#lineBytes + b;
      if (buffer.mask[at] === 1 && pending[at] === version) return i;
    }
    return -1;
  }

  /** Byte `b` as buffer `i` has it. */
  waitingByte(i: number, b: number): number {
    return (this.#buffers[i] as BufferCopy).buffer.bytes[(this.entries[i] as number) * this.#lineBytes + b] as number;
  }
}
