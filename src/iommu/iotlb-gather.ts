/** A range of unmapped addresses whose IOTLB entries still have to go. */

/**
 * Collects what several unmaps made stale, so that one invalidation serves them all.
 *
 * @see Linux 6.1 `include/linux/iommu.h` struct iommu_iotlb_gather
 */
export class IotlbGather {
  /** First byte; meaningless while {@link pgsize} is 0. */
  start = Number.POSITIVE_INFINITY;
  /** First byte behind the range. */
  end = Number.NEGATIVE_INFINITY;
  /** Size of the leaves gathered, in bytes; 0 = nothing gathered. */
  pgsize = 0;
  /** The invalidation is left to a flush queue: page tables do not gather leaves. */
  queued: boolean;

  constructor(queued = false) {
    this.queued = queued;
  }

  /** True when `[iova, iova + sizeBytes)` of leaves of `pgsize` cannot join what is gathered: other leaf size, or not adjoining. */
  isDisjoint(iova: number, sizeBytes: number, pgsize: number): boolean {
    return this.pgsize !== 0 && (this.pgsize !== pgsize || iova > this.end || iova + sizeBytes < this.start);
  }

  /** Adds `[iova, iova + sizeBytes)` of leaves of `pgsize` bytes. */
  add(iova: number, sizeBytes: number, pgsize: number): void {
    this.pgsize = pgsize;
    if (iova < this.start) this.start = iova;
    if (iova + sizeBytes > this.end) this.end = iova + sizeBytes;
  }

  /** Forgets what was gathered; {@link queued} stays. */
  reset(): void {
    this.start = Number.POSITIVE_INFINITY;
    this.end = Number.NEGATIVE_INFINITY;
    this.pgsize = 0;
  }
}
