/**
 * A cache inside a device (the L2 of a GPU), between its MMU and the bus, so physically tagged.
 *
 *     device engine --> its MMU, the IOMMU --> device cache --> port (snoops or not) --> memory
 *                                              old lines hit     flush()
 *
 * Rules:
 * 1. A read hits whatever line is there, old or not. A write stays there until {@link DeviceCache.flush} or until the line leaves.
 * 2. Nobody looks into it, and nobody else's write drops its lines: not even for a device that snoops the CPUs (I/O coherence goes one
 *    way). So a job begins with an invalidate, after others wrote, and ends with a flush, before others read.
 * 3. What it misses it gets, and what it writes back it puts, the way its port goes: see `DevicePort`.
 *
 * Use: make it with `domain.addDeviceCache(options)` and give it to the device's port, `{ snoops, accessor, cache }`; all accesses by
 * that port go through it then. The accessor's remedies are the calls that run the two operations: `beforeRead: 'gpu.invalidateCaches()'`,
 * `afterWrite: 'gpu.flushCaches()'`; reports quote them. It takes no simulated time by itself: the device's model asks for
 * {@link DeviceCacheCounts} and charges.
 *
 * Inaccuracies: whole lines are written back, though many GPUs keep a mask of written bytes: so a line that is shared with
 * somebody else loses his bytes. Lines are as large as the CPUs'.
 *
 * @see Linux 6.1 `drivers/gpu/drm/v3d/v3d_gem.c` v3d_clean_caches, v3d_invalidate_caches; `drivers/gpu/drm/panfrost/panfrost_gpu.c`
 */
import { type PhysAddr, physAddr } from '../base/addr.ts';
import type { Accessor } from '../base/hazards.ts';
import type { AccessBracket } from './access-bracket.ts';
import type { CacheCounters } from './cache-counters.ts';
import type { CacheGeometry, CpuCache } from './cpu-cache.ts';

/** How to make a {@link DeviceCache}. */
export interface DeviceCacheOptions {
  /** Who flushes and invalidates, as reports name him: the device. */
  readonly accessor: Accessor;
  /** Default 128 KiB: 256 sets of 8 ways. Lines are as large as the CPUs'. */
  readonly geometry?: Omit<CacheGeometry, 'lineBytes'>;
  /** Whether its misses look into the cache of the CPUs; as the port's. Default false. */
  readonly snoops?: boolean;
  /** Whether they look into the system cache; as the port's. Default: if it snoops. */
  readonly seesSystemCache?: boolean;
}

/** What a call did, in lines: what a model charges by. */
export interface DeviceCacheCounts {
  /** Written back. */
  readonly cleaned: number;
  /** Dropped. */
  readonly invalidated: number;
}

const START = physAddr(0);
/** All that a physical address can reach. */
const ALL_BYTES = 2 ** 52;

/** A cache of a device; made by `CoherencyDomain.addDeviceCache`. Plain throughout: nothing waits, nothing is charged. */
export class DeviceCache {
  readonly #lines: CpuCache;
  readonly #accessor: Accessor;
  readonly #bracket: AccessBracket;

  /** @internal */
  constructor(lines: CpuCache, accessor: Accessor, bracket: AccessBracket) {
    this.#lines = lines;
    this.#accessor = accessor;
    this.#bracket = bracket;
  }

  /** What it did so far. */
  get counters(): Readonly<CacheCounters> {
    return this.#lines.counters;
  }

  /** Lines that memory does not know of. */
  get dirtyLines(): number {
    return this.#lines.dirtyLines;
  }

  /** Lines it holds. */
  get validLines(): number {
    return this.#lines.validLines;
  }

  /**
   * Writes all dirty lines back and keeps them.
   *
   * @throws {HazardError} `*-write.lost` old lines went over newer bytes; the flush is done.
   */
  flush(): DeviceCacheCounts {
    return this.#all((cache) => cache.clean(START, ALL_BYTES));
  }

  /**
   * Drops all lines; what was written since the last flush is gone.
   *
   * @throws {HazardError} `*-write.lost` bytes that nobody else had are gone; the invalidate is done.
   */
  invalidate(): DeviceCacheCounts {
    return this.#all((cache) => cache.invalidate(START, ALL_BYTES));
  }

  /** Writes all dirty lines back, then drops all. @throws {HazardError} as {@link flush}. */
  flushInvalidate(): DeviceCacheCounts {
    return this.#all((cache) => cache.cleanInvalidate(START, ALL_BYTES));
  }

  /** @internal The port's read of contiguous real memory. */
  read(phys: PhysAddr, out: Uint8Array | null, outOffset: number, length: number): void {
    if (this.#lines.bytes.length === 0) out?.fill(0, outOffset, outOffset + length);
    this.#lines.read(phys, out, outOffset, length);
  }

  /** @internal The port's write. */
  write(phys: PhysAddr, src: Uint8Array | null, srcOffset: number, length: number): void {
    this.#lines.write(phys, src, srcOffset, length);
  }

  /** @internal Puts what it holds of contiguous real memory over `out`. No effect. */
  overlay(phys: PhysAddr, out: Uint8Array, outOffset: number, length: number): void {
    this.#lines.overlay(phys, out, outOffset, length);
  }

  #all(act: (cache: CpuCache) => void): DeviceCacheCounts {
    const { cleaned, invalidated } = this.#lines.counters;
    this.#bracket.begin(this.#accessor, START, 0, false);
    act(this.#lines);
    this.#bracket.leave();
    const { counters } = this.#lines;
    return { cleaned: counters.cleaned - cleaned, invalidated: counters.invalidated - invalidated };
  }
}
