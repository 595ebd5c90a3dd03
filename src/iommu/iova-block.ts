/**
 * A few neighbouring ranges of an `IovaTree`, ascending, in typed arrays: a leaf of the tree.
 *
 * @internal
 */
import { ORDERS } from './iova-bounds.ts';
import type { IovaNode } from './iova-node.ts';

/** Ranges a block holds at most before it is split. @internal */
export const BLOCK_RANGES = 16;

/** @internal See the head of this file. Page numbers are those of the IOVA space. */
export class IovaBlock {
  /** First page of each range. */
  readonly lo = new Float64Array(BLOCK_RANGES + 1);
  /** Last page of each range. */
  readonly hi = new Float64Array(BLOCK_RANGES + 1);
  /** 1 = reserved, never freed. */
  readonly reserved = new Uint8Array(BLOCK_RANGES + 1);
  /** Of the free runs that end below a range of this block. */
  readonly bounds = new Float64Array(ORDERS);
  count = 0;
  parent: IovaNode | null = null;
  previous: IovaBlock | null = null;
  next: IovaBlock | null = null;

  /** Puts a range at `index`, moving later ones up. */
  insert(index: number, lo: number, hi: number, reserved: boolean): void {
    const { count } = this;
    for (let i = count; i > index; i--) {
      this.lo[i] = this.lo[i - 1] as number;
      this.hi[i] = this.hi[i - 1] as number;
      this.reserved[i] = this.reserved[i - 1] as number;
    }
    this.lo[index] = lo;
    this.hi[index] = hi;
    this.reserved[index] = reserved ? 1 : 0;
    this.count = count + 1;
  }

  /** Takes the range at `index` out, moving later ones down. */
  remove(index: number): void {
    const count = --this.count;
    for (let i = index; i < count; i++) {
      this.lo[i] = this.lo[i + 1] as number;
      this.hi[i] = this.hi[i + 1] as number;
      this.reserved[i] = this.reserved[i + 1] as number;
    }
  }

  /** Moves the upper half of the ranges into a new block, its neighbour above. */
  split(): IovaBlock {
    const upper = new IovaBlock();
    const keep = this.count >> 1;
    upper.lo.set(this.lo.subarray(keep, this.count));
    upper.hi.set(this.hi.subarray(keep, this.count));
    upper.reserved.set(this.reserved.subarray(keep, this.count));
    upper.bounds.set(this.bounds);
    upper.count = this.count - keep;
    this.count = keep;
    upper.previous = this;
    upper.next = this.next;
    if (this.next !== null) this.next.previous = upper;
    this.next = upper;
    return upper;
  }

  /** Leaves the row of blocks. */
  unlink(): void {
    if (this.previous !== null) this.previous.next = this.next;
    if (this.next !== null) this.next.previous = this.previous;
  }

  /** Last page of the range in front of `index`; -1 in front of the first range of all. */
  lastBelow(index: number): number {
    if (index > 0) return this.hi[index - 1] as number;
    const { previous } = this;
    return previous === null ? -1 : (previous.hi[previous.count - 1] as number);
  }

  /** First page of the range behind `index`; `none` behind the last of all. */
  firstAbove(index: number, none: number): number {
    if (index + 1 < this.count) return this.lo[index + 1] as number;
    return this.next === null ? none : (this.next.lo[0] as number);
  }

  /** Index of the last range that begins at or below `page`, or -1. */
  indexOf(page: number): number {
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.lo[middle] as number) <= page) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }
}
