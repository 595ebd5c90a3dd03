/**
 * A slow, obvious bounce pool: a list of slots, each free or not, and the bytes of memory in one array. It shares no code with
 * the pool it checks.
 */
import type { DmaDirection } from '../../src/dma-api/direction.ts';

const SLOT = 2048;
const SEGMENT = 128;

export interface ModelMapping {
  /** Offsets into memory. */
  readonly orig: number;
  readonly copy: number;
  readonly bytes: number;
  readonly dir: DmaDirection;
  readonly firstSlot: number;
  readonly slots: number;
}

export interface ModelRequest {
  readonly orig: number;
  readonly bytes: number;
  readonly allocBytes: number;
  readonly allocAlignMask: number;
  readonly keep: number;
  readonly boundary: number;
  readonly dir: DmaDirection;
}

export class SwiotlbModel {
  readonly memory: Uint8Array;
  readonly used: boolean[];
  cursor = 0;
  /** Offset of the pool in memory, and memory's address. */
  readonly pool: number;
  readonly base: number;

  constructor(memory: Uint8Array, pool: number, base: number, slots: number) {
    this.memory = memory;
    this.pool = pool;
    this.base = base;
    this.used = Array.from({ length: slots }, () => false);
  }

  /** `'endless'`: the search goes round and round. */
  map(request: ModelRequest): ModelMapping | null | 'endless' {
    const { orig, bytes, keep, dir } = request;
    const inSlot = (this.base + orig) & keep & (SLOT - 1);
    const slots = Math.ceil((request.allocBytes + inSlot) / SLOT);
    const found = this.#find(request, slots, request.allocBytes + inSlot);
    if (found === null || found === 'endless') return found;
    this.used.fill(true, found, found + slots);
    this.cursor = (found + slots) % this.used.length;
    const copy = this.pool + found * SLOT + inSlot;
    this.memory.copyWithin(copy, orig, orig + bytes);
    return { orig, copy, bytes, dir, firstSlot: found, slots };
  }

  unmap(mapping: ModelMapping, skip: boolean): void {
    if (!skip) this.toCpu(mapping, 0, mapping.bytes);
    this.used.fill(false, mapping.firstSlot, mapping.firstSlot + mapping.slots);
  }

  toCpu({ orig, copy, dir }: ModelMapping, offset: number, bytes: number): void {
    if (dir !== 'to-device') this.memory.copyWithin(orig + offset, copy + offset, copy + offset + bytes);
  }

  toDevice({ orig, copy, dir }: ModelMapping, offset: number, bytes: number): void {
    if (dir !== 'from-device') this.memory.copyWithin(copy + offset, orig + offset, orig + offset + bytes);
  }

  #find(request: ModelRequest, slots: number, bytes: number): number | null | 'endless' {
    const { keep, orig, boundary, allocAlignMask } = request;
    const total = this.used.length;
    if (this.used.filter((used) => !used).length < slots) return null;
    let stride = Math.floor(keep / SLOT) + 1;
    if (bytes >= 4096) stride *= 2;
    stride = Math.max(stride, Math.floor(allocAlignMask / SLOT) + 1);
    let start = this.cursor;
    while (start % stride !== 0) start++;
    if (start >= total) start = 0;
    const seen = new Set<number>();
    for (let i = start; ; ) {
      if (seen.has(i)) return i === start ? null : 'endless';
      seen.add(i);
      const address = ((this.base + this.pool) % boundary) + i * SLOT;
      const isAligned = (address & keep & ~(SLOT - 1)) === ((this.base + orig) & keep & ~(SLOT - 1));
      if (isAligned && this.#isFree(i, slots) && (address % boundary) + slots * SLOT <= boundary) return i;
      i += isAligned ? stride : 1;
      if (i >= total) i = 0;
    }
  }

  #isFree(first: number, slots: number): boolean {
    if ((first % SEGMENT) + slots > SEGMENT) return false;
    return this.used.slice(first, first + slots).every((used) => !used);
  }
}
