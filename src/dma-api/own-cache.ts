/**
 * A device's own cache, for devices whose model has none: a DSP or an accelerator whose driver flushes and invalidates by hand. What it does and
 * does not do is in `device-cache.ts`; here its two calls get a cost and a place in the log that causes are found in.
 */
import { assert } from '../base/assert.ts';
import type { Accessor } from '../base/hazards.ts';
import type { CacheCounters } from '../cache/cache-counters.ts';
import type { CoherencyDomain } from '../cache/coherency.ts';
import type { CacheGeometry } from '../cache/cpu-cache.ts';
import type { DeviceCache } from '../cache/device-cache.ts';
import type { Simulator } from '../sim/simulator.ts';
import { onePiece } from '../trace/address-pieces.ts';
import type { DmaPort } from './dma-port.ts';

/** The cache of a device. */
export interface OwnCacheParams {
  /** Default 128 KiB: 256 sets of 8 ways. Lines are as large as the CPUs'. */
  readonly geometry?: Omit<CacheGeometry, 'lineBytes'>;
  /** Time to write a line back, in ns; a fraction is allowed. Default 0. */
  readonly flushLineNs?: number;
}

/** The device it is in. */
interface CachedDevice {
  readonly name: string;
  readonly sim: Simulator;
  readonly coherency: CoherencyDomain;
  readonly coherent: boolean;
  readonly seesSystemCache: boolean;
  readonly port: DmaPort;
}

/** What the program calls, as reports quote it. @internal */
export interface OwnCacheCalls {
  readonly flush: string;
  readonly invalidate: string;
}

/** All that a physical address can reach. */
const ALL_BYTES = 2 ** 52;

/** Made with its device: `addDevice({ cache: {} })`. Plain throughout: what it costs is charged. */
export class OwnCache {
  readonly #device: CachedDevice;
  readonly #lines: DeviceCache;
  readonly #flushLineNs: number;
  readonly #calls: OwnCacheCalls;

  /** @internal From now on all accesses of `device` go through it. @throws {InvariantError} a parameter out of range. */
  constructor(device: CachedDevice, { geometry, flushLineNs = 0 }: OwnCacheParams, calls = callsOf(device)) {
    assert(flushLineNs >= 0 && flushLineNs < Infinity, 'cache.flushLineNs: %s is no time', flushLineNs);
    const { coherency, coherent: snoops, seesSystemCache, port } = device;
    const accessor: Accessor = { ...port.accessor, beforeRead: calls.invalidate, afterWrite: calls.flush };
    this.#calls = calls;
    this.#device = device;
    this.#flushLineNs = flushLineNs;
    const shape = geometry === undefined ? {} : { geometry };
    this.#lines = coherency.addDeviceCache({ accessor, snoops, seesSystemCache, ...shape });
    port.useCache(this.#lines, accessor);
  }

  /** What it did so far, in lines. */
  get counters(): Readonly<CacheCounters> {
    return this.#lines.counters;
  }

  /** Lines that memory does not know of. */
  get dirtyLines(): number {
    return this.#lines.dirtyLines;
  }

  /**
   * Writes all that the device has written back and keeps it: before others read. Charges `flushLineNs` a line.
   *
   * @returns the lines written back.
   * @throws {HazardError} `*-write.lost` old lines went over newer bytes; the flush is done and charged.
   */
  flush(): number {
    this.#note('device-flush', this.#calls.flush);
    const before = this.#lines.counters.cleaned;
    const cleaned = () => this.#lines.counters.cleaned - before;
    try {
      this.#lines.flush();
    } finally {
      this.#device.sim.charge(cleaned() * this.#flushLineNs);
    }
    return cleaned();
  }

  /**
   * Drops all lines: before the device reads what others have written. What it wrote since the last {@link flush} is gone.
   *
   * @returns the lines dropped.
   * @throws {HazardError} `*-write.lost` bytes that nobody else had are gone; the invalidate is done.
   */
  invalidate(): number {
    this.#note('device-invalidate', this.#calls.invalidate);
    return this.#lines.invalidate().invalidated;
  }

  #note(op: 'device-flush' | 'device-invalidate', call: string): void {
    const { sim, name: device } = this.#device;
    if (!sim.syncs.enabled) return;
    const phys = onePiece(0, ALL_BYTES);
    const who = { by: `${device} driver`, device, object: '', dir: 'none' } as const;
    sim.syncs.note({ timeNs: sim.now, op, call, ...who, phys, skipped: false, site: sim.site() });
  }
}

function callsOf({ name }: CachedDevice): OwnCacheCalls {
  return { flush: `${name}.cache.flush()`, invalidate: `${name}.cache.invalidate()` };
}
