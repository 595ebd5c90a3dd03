/**
 * The cache inside a GPU, behind its MMU: what jobs write stays there until it is flushed, what they have read they may read again though
 * others have written since. Nobody else looks into it, also when the GPU snoops the caches of the CPU.
 *
 * With maintenance `'auto'` every job begins with an invalidate and ends, before its fence signals, with a flush, as drivers do it. With
 * `'manual'` that is left to whoever calls `gpu.invalidateCaches()` and `gpu.flushCaches()`.
 *
 * @see Linux 6.1 `drivers/gpu/drm/v3d/v3d_gem.c` v3d_clean_caches, v3d_invalidate_caches
 */
import { assert } from '../../base/assert.ts';
import type { Accessor } from '../../base/hazards.ts';
import type { CacheGeometry } from '../../cache/cpu-cache.ts';
import type { DeviceCache } from '../../cache/device-cache.ts';
import type { Device } from '../../dma-api/device.ts';
import { onePiece } from '../../trace/address-pieces.ts';

/** The cache of a GPU. */
export interface GpuCacheParams {
  /** Default 128 KiB: 256 sets of 8 ways. Lines are as large as the CPUs'. */
  readonly geometry?: Omit<CacheGeometry, 'lineBytes'>;
  /** Time to write a line back, in ns; a fraction is allowed. Default 0. */
  readonly flushLineNs?: number;
  /** Who flushes and invalidates; see the header of `gpu-cache.ts`. Default `'auto'`. */
  readonly maintenance?: 'auto' | 'manual';
}

/** All that a physical address can reach. */
const ALL_BYTES = 2 ** 52;

/** @internal One for a GPU that has one. Plain throughout: what it costs is charged. */
export class GpuCache {
  readonly isAutomatic: boolean;
  readonly #dev: Device;
  readonly #lines: DeviceCache;
  readonly #flushLineNs: number;

  /** From now on all accesses of `dev` go through it. @throws {InvariantError} a parameter out of range. */
  constructor(dev: Device, params: GpuCacheParams) {
    const { geometry, flushLineNs = 0, maintenance = 'auto' } = params;
    assert(flushLineNs >= 0 && flushLineNs < Infinity, 'cache.flushLineNs: %s is no time', flushLineNs);
    const calls = { beforeRead: 'gpu.invalidateCaches()', afterWrite: 'gpu.flushCaches()' };
    const accessor: Accessor = { ...dev.port.accessor, ...calls };
    this.isAutomatic = maintenance === 'auto';
    this.#dev = dev;
    this.#flushLineNs = flushLineNs;
    this.#lines = dev.coherency.addDeviceCache({
      accessor,
      snoops: dev.coherent,
      seesSystemCache: dev.seesSystemCache,
      ...(geometry === undefined ? {} : { geometry }),
    });
    dev.port.useCache(this.#lines, accessor);
  }

  /** Lines that memory does not know of. */
  get dirtyLines(): number {
    return this.#lines.dirtyLines;
  }

  /** @throws {HazardError} `*-write.lost` old lines went over newer bytes; the flush is done. */
  flush(): void {
    this.#note('device-flush', 'gpu.flushCaches()');
    const before = this.#lines.counters.cleaned;
    try {
      this.#lines.flush();
    } finally {
      this.#dev.sim.charge((this.#lines.counters.cleaned - before) * this.#flushLineNs);
    }
  }

  /** What a job begins with: an invalidate, behind a flush of what a broken job has left. @throws {HazardError} as {@link flush}. */
  begin(): void {
    if (this.#lines.dirtyLines > 0) this.flush();
    this.invalidate();
  }

  /** @throws {HazardError} `*-write.lost` bytes that nobody else had are gone; the invalidate is done. */
  invalidate(): void {
    this.#note('device-invalidate', 'gpu.invalidateCaches()');
    this.#lines.invalidate();
  }

  #note(op: 'device-flush' | 'device-invalidate', call: string): void {
    const { sim, name: device } = this.#dev;
    if (!sim.syncs.enabled) return;
    const phys = onePiece(0, ALL_BYTES);
    const who = { by: `${device} driver`, device, object: '', dir: 'none' } as const;
    sim.syncs.note({ timeNs: sim.now, op, call, ...who, phys, skipped: false, site: sim.site() });
  }
}
