/**
 * Makes the caches and buffers of a coherency domain, puts them one below the other, and what works on them around.
 *
 * The system cache is one of two kinds the Arm architecture knows. Before the point of coherency (default) maintenance by address
 * reaches through it; CPU accesses past the cache and devices that do not see it go past it. Beyond the point of coherency maintenance
 * does not know of it: all of the CPUs' accesses and of the devices that see it go through it, and a device that goes past it needs
 * `CoherencyDomain.maintainSystemCache`. A snooping device sees it always. CPU misses bring lines into it; devices only use those
 * that are there.
 *
 * @see Arm DDI 0487 D7.5 "Cache support", system level caches
 */
import type { PhysAddr } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import type { Accessor } from '../base/hazards.ts';
import type { PhysMemory } from '../mem/phys-memory.ts';
import type { Simulator } from '../sim/simulator.ts';
import { AccessBracket, HARDWARE } from './access-bracket.ts';
import { contiguousRun } from './access-range.ts';
import { Activity } from './activity.ts';
import type { CacheCosts } from './cache-costs.ts';
import { type CacheGeometry, CpuCache } from './cpu-cache.ts';
import { CpuPort } from './cpu-port.ts';
import { DeviceCache, type DeviceCacheOptions } from './device-cache.ts';
import { type DomainCopies, type Looks, looksOf } from './domain-copies.ts';
import { FreeHardware } from './free-hardware.ts';
import { Maintenance } from './maintenance.ts';
import { OuterLevel } from './outer-level.ts';
import { PortLevel } from './port-level.ts';
import { Shadow } from './shadow.ts';
import { WriteBuffers } from './write-buffers.ts';
import { WriteCombiningBuffer } from './write-combining.ts';

/** A cache between that of the CPUs and memory. Its lines are as large as the CPUs'. */
export interface SystemCacheOptions extends Omit<CacheGeometry, 'lineBytes'> {
  /**
   * Whether it lies beyond the point of coherency, so that maintenance by address does not reach it: see `CoherencyDomain`. Default false:
   * it lies before that point, and maintenance reaches through it to memory.
   */
  readonly beyondPointOfCoherency?: boolean;
}

/** What a domain is made of; `CoherencyOptions` says what each means. */
export interface DomainSpec {
  readonly costs: CacheCosts;
  readonly cache?: CacheGeometry;
  readonly systemCache?: SystemCacheOptions;
  readonly writeBuffers?: number;
  readonly shadow?: boolean;
  readonly logEntries?: number;
}

/** The parts of one domain. @internal */
export class DomainCaches {
  readonly copies: DomainCopies;
  /** All caches, those of devices too. */
  readonly all: CpuCache[] = [];
  readonly shadow: Shadow | undefined;
  readonly activity: Activity | null;
  readonly hardware: FreeHardware | undefined;
  readonly cpu: CpuPort;
  readonly bracket: AccessBracket;
  readonly maintenance: Maintenance;
  /** Where accesses of CPUs look that go past their cache. */
  readonly past: Looks;
  readonly #sim: Simulator;

  /** @param nobody - who acts before anybody did. @throws {InvariantError} a geometry or count outside its range. */
  constructor(sim: Simulator, memory: PhysMemory, spec: DomainSpec, nobody: Accessor) {
    const { costs, systemCache, shadow = true, logEntries = 65536, writeBuffers: entries = 10 } = spec;
    const isBeyond = systemCache?.beyondPointOfCoherency ?? false;
    assert(Number.isInteger(entries) && entries >= 1, 'write-combining: entries %s is no whole number >= 1', entries);
    this.#sim = sim;
    this.past = looksOf(false, isBeyond);
    const cache = this.#make(memory, spec.cache ?? {});
    const { lineBytes } = cache;
    if (shadow) this.shadow = new Shadow(sim, { memory, lineBytes, logEntries, nobody });
    const system = systemCache === undefined ? undefined : this.#make(memory, { ...systemCache, lineBytes });
    const buffers = new WriteBuffers(sim, () => this.#makeBuffer(entries, isBeyond));
    this.copies = { memory, cache, system, buffers };
    this.#add(cache, 'cpu cache');
    if (system !== undefined) this.#add(system, 'system cache');
    if (system !== undefined) cache.lower = new OuterLevel(system);
    if (sim.hardwareIsFree) this.hardware = new FreeHardware(sim, this.copies);
    this.cpu = new CpuPort(this.copies, this.shadow, costs, this.past);
    this.activity = shadow ? new Activity(sim) : null;
    this.bracket = new AccessBracket(sim, this);
    this.maintenance = new Maintenance(sim, this.copies, { ...this, costs, isBeyond });
  }

  /** One more cache, of a device whose port goes the same way. */
  addDeviceCache(options: DeviceCacheOptions): DeviceCache {
    const { geometry, accessor, snoops = false, seesSystemCache } = options;
    const { memory, cache } = this.copies;
    const lines = this.#make(memory, { sets: 256, ways: 8, ...geometry, lineBytes: cache.lineBytes });
    lines.lower = new PortLevel(this.copies, this.shadow, looksOf(snoops, seesSystemCache));
    this.#add(lines, 'device cache');
    this.hardware?.addDeviceCache(lines);
    return new DeviceCache(lines, accessor, this.bracket);
  }

  /** Hardware does `op` to the lines of [phys, phys + length), which was checked. */
  onLines(op: 'fetch' | 'cleanInvalidate', phys: PhysAddr, length: number): void {
    const { memory, cache } = this.copies;
    this.bracket.enter(HARDWARE);
    for (let done = 0, step = 0; done < length; done += step) {
      step = contiguousRun(memory, phys + done, length - done);
      cache[op](memory.resolve((phys + done) as PhysAddr), step);
    }
    this.bracket.leave();
  }

  #add(cache: CpuCache, place: 'cpu cache' | 'system cache' | 'device cache'): void {
    this.all.push(cache);
    this.shadow?.watch(cache, place);
  }

  #make(memory: PhysMemory, geometry: CacheGeometry): CpuCache {
    const isRandom = geometry.replacement === 'random';
    const random = isRandom ? this.#sim.prng.fork(`cache ${this.#sim.part(RandomCaches).count++}`) : undefined;
    return new CpuCache(memory, geometry, random);
  }

  #makeBuffer(entries: number, isBeyond: boolean): WriteCombiningBuffer {
    const { memory, cache } = this.copies;
    const buffer = new WriteCombiningBuffer(memory, entries, cache.lineBytes);
    if (isBeyond) buffer.lower = new PortLevel(this.copies, this.shadow, looksOf(false, true));
    this.shadow?.watchBuffer(buffer);
    return buffer;
  }
}

/** How many caches of a world replace at random. */
class RandomCaches {
  count = 0;
}
