/** What a cache counts: for reports, what-if tables and tests. */

/** What a cache did since it was made. Lines, unless the name says bytes. */
export interface CacheCounters {
  /** Lines found by reads and writes. */
  hits: number;
  /** Lines not found by reads and writes. */
  misses: number;
  /** Dirty lines written back by clean operations and snoops. */
  cleaned: number;
  /** Lines dropped by invalidate operations and snoops. */
  invalidated: number;
  /** Lines dropped to make room. */
  evictions: number;
  /** Bytes written to memory, for whatever reason. */
  writtenBackBytes: number;
}
