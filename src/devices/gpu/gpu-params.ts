/** What a GPU is made of, and its presets. */
import { assert } from '../../base/assert.ts';
import type { GpuCacheParams } from './gpu-cache.ts';

/** Time parameters of a `Gpu`. */
export interface GpuParams {
  /** From the end of the waits of a job to its first access, in ns. */
  readonly launchNs: number;
  /** Time of the shader for one pixel, in ns; a fraction is allowed. */
  readonly pixelNs: number;
  /** Bytes it moves from and to memory in a ns (so GB/s); a conversion takes the longer of the two times. */
  readonly bytesPerNs: number;
  /** Rows that a conversion reads, works on and writes at once; even. Default: all. */
  readonly rowsPerBatch?: number;
  /** A job that runs longer, in ns from its launch, is ended with `ETIMEDOUT` and the engine is reset. Default: jobs may run for ever. */
  readonly jobTimeoutNs?: number;
  /** A cache of its own. Default: none, all accesses go straight to the bus. */
  readonly cache?: GpuCacheParams;
}

/**
 * A small GPU of an Arm board, of the size of VideoCore VI: 500 MHz (published), 2 pixels a clock (assumed), 4 GB/s of
 * shared 32-bit LPDDR4 (assumed), 20 us to start a job (assumed).
 */
export const videoCore6: GpuParams = { launchNs: 20_000, pixelNs: 1, bytesPerNs: 4 };

/** @internal @throws {InvariantError} a parameter out of its range, named. */
export function checkGpuParams({ launchNs, pixelNs, bytesPerNs, rowsPerBatch = 2, jobTimeoutNs = 1 }: GpuParams): void {
  assert(Number.isSafeInteger(launchNs) && launchNs >= 0, 'launchNs: %s is no whole number >= 0', launchNs);
  assert(
    Number.isSafeInteger(jobTimeoutNs) && jobTimeoutNs > 0,
    'jobTimeoutNs: %s is no whole number > 0',
    jobTimeoutNs,
  );
  assert(pixelNs >= 0 && pixelNs < Infinity, 'pixelNs: %s is no time', pixelNs);
  assert(bytesPerNs > 0, 'bytesPerNs: %s is not above 0', bytesPerNs);
  assert(
    Number.isInteger(rowsPerBatch) && rowsPerBatch > 0 && rowsPerBatch % 2 === 0,
    'rowsPerBatch: %s is no even number > 0',
    rowsPerBatch,
  );
}
