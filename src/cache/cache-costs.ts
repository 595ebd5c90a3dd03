/** What accesses of a CPU and cache maintenance cost. The constants live in the platform presets. */

/**
 * Costs in ns of simulated time; fractions are allowed.
 *
 * Public figures a preset can be built from: `clflushopt`/`clwb` on x86 3.2–3.7 ns a dirty and 2.6–3.2 ns a clean line,
 * `clflush` 45–61 and 38–42 ns (measured); clean or invalidate by address on arm64 5–20 ns a line plus 100–300 ns a
 * `dsb` (assumed; that the wait is about two thirds of an entry's cost is published: linux-arm-kernel 2025-12
 * "dma-mapping: arm64: support batched cache sync"); a CPU copy out of uncached memory 38 MB/s (LicheeRV), 67 MB/s against
 * 333 MB/s cached (Zynq-7000, ikwzm/udmabuf#120), 130 MB/s (ZCU102, ikwzm/udmabuf#97), which is 60 to 210 ns for each
 * access of 8 bytes; a plain copy runs at 7–13 GB/s out of cache, so 5–10 ns a missed line.
 */
export interface CacheCosts {
  /** A line that is in the cache, read or written. */
  readonly hitLineNs: number;
  /** A line that has to be fetched, with the write-back of the one it replaces. */
  readonly missLineNs: number;
  /** The same for a line that the system cache has. Default {@link missLineNs}. */
  readonly systemHitLineNs?: number;
  /** One load or store that goes past the cache. */
  readonly uncachedAccessNs: number;
  /** Bytes of such a load or store: 4 to 64. */
  readonly uncachedAccessBytes: number;
  /** A line written through the write-combining buffer. */
  readonly wcLineNs: number;
  /** Cleaning a line by address, or cleaning and invalidating it. */
  readonly cleanLineNs: number;
  /** Invalidating a line by address. */
  readonly invalidateLineNs: number;
  /** A barrier that waits until all of this has reached memory (`dsb`, `mfence`). */
  readonly barrierNs: number;
}

/** Everything is free: for tests that look at bytes only. */
export const freeCacheCosts: CacheCosts = {
  hitLineNs: 0,
  missLineNs: 0,
  uncachedAccessNs: 0,
  uncachedAccessBytes: 8,
  wcLineNs: 0,
  cleanLineNs: 0,
  invalidateLineNs: 0,
  barrierNs: 0,
};
