/** Which addresses of a device are mapped one by one: so that what was never mapped is never unmapped. */
import type { DmaAddr } from '../base/addr.ts';
import type { DmaDirection } from './direction.ts';
import type { DmaAttrs } from './dma-attrs.ts';

/** @internal One mapping, as its driver made it. */
export interface LiveMapping {
  readonly kind: string;
  readonly address: DmaAddr;
  readonly sizeBytes: number;
  readonly dir: DmaDirection;
  readonly attrs: DmaAttrs;
}

/** @internal Of one device. The same address can be mapped several times, where addresses are physical. */
export class LiveAddresses {
  readonly #mappings = new Map<number, LiveMapping>();
  /** Mappings beyond the one in `#mappings`, for addresses with more than one. */
  readonly #further = new Map<number, number>();

  /** Mappings that are alive. */
  get size(): number {
    let sum = this.#mappings.size;
    for (const count of this.#further.values()) sum += count;
    return sum;
  }

  /** A mapping begins. */
  add(mapping: LiveMapping): void {
    const { address } = mapping;
    if (this.#mappings.has(address)) this.#further.set(address, (this.#further.get(address) ?? 0) + 1);
    this.#mappings.set(address, mapping);
  }

  /** Whether a mapping begins at `address`. */
  has(address: number): boolean {
    return this.#mappings.has(address);
  }

  /** Ends an {@link add}. */
  remove(address: number): void {
    const further = this.#further.get(address) ?? 0;
    if (further > 1) this.#further.set(address, further - 1);
    else if (!this.#further.delete(address)) this.#mappings.delete(address);
  }

  /** Forgets everything. @returns what was alive; of several mappings at one address the newest, as often as there are any. */
  takeAll(): LiveMapping[] {
    const all: LiveMapping[] = [];
    for (const mapping of this.#mappings.values()) {
      const count = 1 + (this.#further.get(mapping.address) ?? 0);
      for (let i = 0; i < count; i++) all.push(mapping);
    }
    this.#mappings.clear();
    this.#further.clear();
    return all;
  }
}
