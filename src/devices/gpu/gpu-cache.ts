/**
 * The cache inside a GPU, behind its MMU: what jobs write stays there until it is flushed, what they have read they may read again though
 * others have written since. Nobody else looks into it, also when the GPU snoops the caches of the CPU.
 *
 * With maintenance `'auto'` every job begins with an invalidate and ends, before its fence signals, with a flush, as drivers do it. With
 * `'manual'` that is left to whoever calls `gpu.invalidateCaches()` and `gpu.flushCaches()`.
 *
 * @see Linux 6.1 `drivers/gpu/drm/v3d/v3d_gem.c` v3d_clean_caches, v3d_invalidate_caches
 */
import type { Device } from '../../dma-api/device.ts';
import { OwnCache, type OwnCacheParams } from '../../dma-api/own-cache.ts';

/** The cache of a GPU. */
export interface GpuCacheParams extends OwnCacheParams {
  /** Who flushes and invalidates; see the header of `gpu-cache.ts`. Default `'auto'`. */
  readonly maintenance?: 'auto' | 'manual';
}

const CALLS = { flush: 'gpu.flushCaches()', invalidate: 'gpu.invalidateCaches()' };

/** @internal One for a GPU that has one. Plain throughout: what it costs is charged. */
export class GpuCache {
  readonly isAutomatic: boolean;
  readonly #own: OwnCache;

  /** From now on all accesses of `dev` go through it. @throws {InvariantError} a parameter out of range. */
  constructor(dev: Device, { maintenance = 'auto', ...params }: GpuCacheParams) {
    this.isAutomatic = maintenance === 'auto';
    this.#own = new OwnCache(dev, params, CALLS);
  }

  /** Lines that memory does not know of. */
  get dirtyLines(): number {
    return this.#own.dirtyLines;
  }

  /** @throws {HazardError} `*-write.lost` old lines went over newer bytes; the flush is done. */
  flush(): void {
    this.#own.flush();
  }

  /** What a job begins with: an invalidate, behind a flush of what a broken job has left. @throws {HazardError} as {@link flush}. */
  begin(): void {
    if (this.dirtyLines > 0) this.flush();
    this.invalidate();
  }

  /** @throws {HazardError} `*-write.lost` bytes that nobody else had are gone; the invalidate is done. */
  invalidate(): void {
    this.#own.invalidate();
  }
}
