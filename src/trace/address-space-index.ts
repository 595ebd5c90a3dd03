/** The live mappings of one owner in one space, by address: found in a few steps, entered and taken out with one move of memory. */
import type { AddressPieces } from './address-book.ts';
import { pieceAt } from './address-pieces.ts';

/** @internal A mapping, with the bounds of its pieces. */
interface Bounded {
  readonly pieces: AddressPieces;
  readonly low: number;
  readonly high: number;
}

/** @internal See the head of this file. Plain throughout. */
export class AddressSpaceIndex<T extends Bounded> {
  /** The piece that the last {@link find} found. */
  piece = 0;
  /** Ascending by `low`; equal ones in the order they came. */
  readonly #entries: T[] = [];
  /** No mapping was ever wider. */
  #widest = 0;
  #isUsed = false;

  /** Whether there ever was a mapping. */
  get isUsed(): boolean {
    return this.#isUsed;
  }

  /** A mapping begins. */
  add(entry: T): void {
    this.#isUsed = true;
    this.#widest = Math.max(this.#widest, entry.high - entry.low);
    const at = this.#behind(entry.low);
    if (at === this.#entries.length) this.#entries.push(entry);
    else this.#entries.splice(at, 0, entry);
  }

  /** It ends. */
  remove(entry: T): void {
    let at = this.#behind(entry.low) - 1;
    while (at >= 0 && this.#entries[at] !== entry) at--;
    if (at >= 0) this.#entries.splice(at, 1);
  }

  /** The mapping that `address` lies in: the last one that began nearest below. {@link piece} tells where in it. */
  find(address: number): T | undefined {
    for (let i = this.#behind(address) - 1; i >= 0; i--) {
      const entry = this.#entries[i] as T;
      if (entry.low + this.#widest <= address) return undefined;
      if (address >= entry.high) continue;
      const piece = pieceAt(entry.pieces, address, this.piece);
      if (piece < 0) continue;
      this.piece = piece;
      return entry;
    }
    return undefined;
  }

  /** The mappings with a byte, or a gap between their pieces, in `[from, to)`; the highest first. */
  *near(from: number, to: number): Generator<T, undefined> {
    for (let i = this.#behind(to - 1) - 1; i >= 0; i--) {
      const entry = this.#entries[i] as T;
      if (entry.low + this.#widest <= from) return undefined;
      if (entry.high > from) yield entry;
    }
    return undefined;
  }

  /** Index of the first mapping that begins behind `low`. */
  #behind(low: number): number {
    let first = 0;
    let last = this.#entries.length;
    while (first < last) {
      const middle = (first + last) >>> 1;
      if ((this.#entries[middle] as T).low > low) last = middle;
      else first = middle + 1;
    }
    return first;
  }
}
