/**
 * Which page size a mapping uses: the choice that `iommu_pgsize` makes.
 *
 * @internal
 */

const T32 = 2 ** 32;

/** The page sizes of one domain. @internal */
export class PageSizes {
  /** Result of {@link pick}: bytes of a page. */
  pgsize = 0;
  /** Result of {@link pick}: pages of that size before another one becomes better. */
  count = 0;
  readonly smallest: number;
  /** The next larger size; infinite if there is none. */
  private readonly second: number;
  /** Ascending. */
  private readonly sizes: readonly number[];

  /** @param bitmap - one bit for each size in bytes, at least one. */
  constructor(bitmap: number) {
    const sizes: number[] = [];
    for (let rest = bitmap, size = 1; rest >= 1; rest = Math.floor(rest / 2), size *= 2)
      if (rest % 2 === 1) sizes.push(size);
    this.sizes = sizes;
    this.smallest = sizes[0] as number;
    this.second = sizes[1] ?? Number.POSITIVE_INFINITY;
  }

  /** True when `bytes` is a multiple of the smallest size. */
  isAligned(bytes: number): boolean {
    return isMultiple(bytes, this.smallest);
  }

  /**
   * The largest size that fits into `sizeBytes` and divides both addresses, and how many pages of it go before the next larger
   * size can take over. All three arguments are multiples of the smallest size; `sizeBytes` is above 0.
   *
   * @see Linux 6.1 `drivers/iommu/iommu.c` iommu_pgsize
   */
  pick(iova: number, phys: number, sizeBytes: number): void {
    const { sizes, smallest } = this;
    if (sizeBytes < this.second) {
      this.pgsize = smallest;
      this.count = sizeBytes / smallest;
      return;
    }
    let best = 0;
    while (best + 1 < sizes.length) {
      const larger = sizes[best + 1] as number;
      if (larger > sizeBytes || !isMultiple(iova, larger) || !isMultiple(phys, larger)) break;
      best++;
    }
    const pgsize = sizes[best] as number;
    let span = sizeBytes;
    const next = sizes[best + 1];
    if (next !== undefined && sizeBytes > next && isMultiple(iova - phys, next)) {
      // Both addresses reach a border of the next larger size together; stop there if a whole one follows.
      const toBorder = next - positiveRemainder(iova, next);
      if (toBorder + next <= sizeBytes) span = toBorder;
    }
    this.pgsize = pgsize;
    this.count = Math.floor(span / pgsize);
  }
}

/** True when the whole number `value` is a multiple of the power of two `size`. */
function isMultiple(value: number, size: number): boolean {
  return size < T32 ? (value & (size - 1)) === 0 : value % size === 0;
}

/** `value` modulo the power of two `size`, never negative. */
function positiveRemainder(value: number, size: number): number {
  return size < T32 ? value & (size - 1) : value - Math.floor(value / size) * size;
}
