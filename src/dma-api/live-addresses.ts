/** Which addresses of a device are mapped one by one: so that what was never mapped is never unmapped. */
import type { DmaAddr, PhysAddr } from '../base/addr.ts';
import type { DmaDirection } from './direction.ts';
import type { DmaAttrs } from './dma-attrs.ts';

/** @internal One mapping, as its driver made it. */
export interface LiveMapping {
  readonly kind: string;
  readonly address: DmaAddr;
  readonly phys: PhysAddr;
  readonly sizeBytes: number;
  readonly dir: DmaDirection;
  readonly attrs: DmaAttrs;
  /** Its number in the address book; 0: it has none. */
  bookId: number;
}

/** @internal Of one device. The same address can be mapped several times, where addresses are physical. */
export class LiveAddresses {
  readonly #mappings = new Map<number, LiveMapping>();
  /** Mappings older than the one in `#mappings`, for addresses with more than one; oldest first, never empty. */
  readonly #older = new Map<number, LiveMapping[]>();

  /** Mappings that are alive. */
  get size(): number {
    let sum = this.#mappings.size;
    for (const older of this.#older.values()) sum += older.length;
    return sum;
  }

  /** A mapping begins. */
  add(mapping: LiveMapping): void {
    const { address } = mapping;
    const before = this.#mappings.get(address);
    this.#mappings.set(address, mapping);
    if (before === undefined) return;
    const older = this.#older.get(address);
    if (older === undefined) this.#older.set(address, [before]);
    else older.push(before);
  }

  /** Whether a mapping begins at `address`. */
  has(address: number): boolean {
    return this.#mappings.has(address);
  }

  /** Ends an {@link add}: of several mappings, the newest of this size, or else the newest. @returns it, if there is one. */
  remove(address: number, sizeBytes: number): LiveMapping | undefined {
    const newest = this.#mappings.get(address);
    const older = this.#older.get(address);
    if (newest === undefined || older === undefined) {
      this.#mappings.delete(address);
      return newest;
    }
    const all = [...older, newest];
    const at = all.findLastIndex((mapping) => mapping.sizeBytes === sizeBytes);
    const [gone] = all.splice(at, 1);
    this.#mappings.set(address, all.pop() as LiveMapping);
    if (all.length === 0) this.#older.delete(address);
    else this.#older.set(address, all);
    return gone;
  }

  /** Forgets everything. @returns what was alive. */
  takeAll(): LiveMapping[] {
    const all: LiveMapping[] = [];
    for (const mapping of this.#mappings.values()) all.push(...(this.#older.get(mapping.address) ?? []), mapping);
    this.#mappings.clear();
    this.#older.clear();
    return all;
  }
}
