/**
 * A few neighbouring ranges of an `IovaAllocator`, ascending, in typed arrays.
 *
 * @internal
 */

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
  count = 0;
  /** Pages of the largest free run that ends below a range of this block. */
  gap = 0;

  /** Puts a range at `index`, moving later ones up. */
  insert(index: number, lo: number, hi: number, reserved: boolean): void {
    this.lo.copyWithin(index + 1, index, this.count);
    this.hi.copyWithin(index + 1, index, this.count);
    this.reserved.copyWithin(index + 1, index, this.count);
    this.lo[index] = lo;
    this.hi[index] = hi;
    this.reserved[index] = reserved ? 1 : 0;
    this.count++;
  }

  /** Takes the range at `index` out, moving later ones down. */
  remove(index: number): void {
    this.lo.copyWithin(index, index + 1, this.count);
    this.hi.copyWithin(index, index + 1, this.count);
    this.reserved.copyWithin(index, index + 1, this.count);
    this.count--;
  }

  /** Moves the upper half of the ranges into a new block. */
  split(): IovaBlock {
    const upper = new IovaBlock();
    const keep = this.count >> 1;
    upper.lo.set(this.lo.subarray(keep, this.count));
    upper.hi.set(this.hi.subarray(keep, this.count));
    upper.reserved.set(this.reserved.subarray(keep, this.count));
    upper.count = this.count - keep;
    this.count = keep;
    return upper;
  }

  /** Last page of the last range. */
  lastPage(): number {
    return this.hi[this.count - 1] as number;
  }

  /** Computes {@link gap} anew; `below` is the last page in use, or not to be used, in front of this block. */
  measure(below: number): void {
    let last = below;
    let gap = 0;
    for (let i = 0; i < this.count; i++) {
      const free = (this.lo[i] as number) - last - 1;
      if (free > gap) gap = free;
      last = this.hi[i] as number;
    }
    this.gap = gap;
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
