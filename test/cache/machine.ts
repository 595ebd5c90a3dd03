/** A coherency domain to try things on: memory, a cache, the usual accessors, and hazards that are recorded. */
import { type PhysAddr, physAddr } from '../../src/base/addr.ts';
import type { Accessor, HazardFacts, HazardPolicy, LostWriteFacts, StaleReadFacts } from '../../src/base/hazards.ts';
import { KIB } from '../../src/base/units.ts';
import { freeCacheCosts } from '../../src/cache/cache-costs.ts';
import { CoherencyDomain, type CoherencyOptions, type DevicePort } from '../../src/cache/coherency.ts';
import type { MemoryAttribute } from '../../src/cache/cpu-port.ts';
import { CpuView } from '../../src/cache/cpu-view.ts';
import type { DeviceCache, DeviceCacheOptions } from '../../src/cache/device-cache.ts';
import { PhysMemory } from '../../src/mem/phys-memory.ts';
import type { Chooser } from '../../src/sim/chooser.ts';
import { Simulator } from '../../src/sim/simulator.ts';

/** Where RAM begins. */
export const BASE = physAddr(0x8000_0000);
/** Bytes in a line. */
export const LINE = 64;

export const app: Accessor = {
  name: 'app',
  kind: 'cpu',
  via: 'mmap of fd 4',
  beforeRead: "buf.beginCpuAccess('from-device')",
  afterWrite: "buf.endCpuAccess('to-device')",
};
export const kernel: Accessor = {
  name: 'kernel',
  kind: 'cpu',
  via: 'vmap',
  beforeRead: 'invalidate_kernel_vmap_range',
  afterWrite: 'flush_kernel_vmap_range',
};
export const cameraDma: Accessor = { name: 'camera0', kind: 'device', via: 'dma', beforeRead: '', afterWrite: '' };
/** A device that goes straight to memory. */
export const camera: DevicePort = { snoops: false, accessor: cameraDma };
/** A DMA-coherent device. */
export const nic: DevicePort = { snoops: true, accessor: { ...cameraDma, name: 'nic0' } };

/** A device that does not snoop but sees the system cache. */
export const isp: DevicePort = { snoops: false, seesSystemCache: true, accessor: { ...cameraDma, name: 'isp0' } };
export const gpuDma: Accessor = {
  ...{ name: 'gpu0', kind: 'device', via: 'dma' },
  beforeRead: 'gpu.invalidateCaches()',
  afterWrite: 'gpu.flushCaches()',
};

export interface MachineOptions extends Partial<CoherencyOptions> {
  readonly gpu?: Omit<DeviceCacheOptions, 'accessor'>;
  readonly chooser?: Chooser;
  readonly bytes?: boolean;
  readonly policy?: HazardPolicy;
  readonly ramBytes?: number;
}

export class Machine {
  readonly sim: Simulator;
  readonly memory: PhysMemory;
  readonly domain: CoherencyDomain;
  readonly #gpuOptions: Omit<DeviceCacheOptions, 'accessor'>;
  #gpu: DevicePort | undefined;

  constructor(options: MachineOptions = {}) {
    const { bytes = true, policy = 'record', ramBytes = 64 * KIB, gpu = {}, chooser, ...rest } = options;
    this.#gpuOptions = gpu;
    this.sim = new Simulator({ hazards: policy, ...(chooser === undefined ? {} : { chooser }) });
    this.memory = new PhysMemory({ trace: this.sim.trace, now: () => this.sim.now, bytes });
    this.memory.addRegion({ name: 'ram', kind: 'ram', base: BASE, bytes: ramBytes });
    this.domain = new CoherencyDomain(this.sim, this.memory, { costs: freeCacheCosts, ...rest });
  }

  /** A device with a cache of its own, made when it is first asked for. */
  get gpu(): DevicePort {
    if (this.#gpu !== undefined) return this.#gpu;
    const { snoops = false, seesSystemCache = false } = this.#gpuOptions;
    const cache = this.domain.addDeviceCache({ ...this.#gpuOptions, accessor: gpuDma });
    this.#gpu = { snoops, seesSystemCache, accessor: gpuDma, cache };
    return this.#gpu;
  }

  /** The cache of {@link gpu}. */
  get gpuCache(): DeviceCache {
    const { cache } = this.gpu;
    if (cache === undefined) throw new Error('the GPU has no cache');
    return cache;
  }

  /** A view of the first `sizeBytes` of RAM. */
  view(attribute: MemoryAttribute, accessor: Accessor = app, sizeBytes = 4 * KIB): CpuView {
    return new CpuView(this.domain, { extents: [{ phys: BASE, sizeBytes }], attribute, accessor });
  }

  /** What `port` reads. */
  deviceGets(phys: PhysAddr, length: number, port: DevicePort = camera): Uint8Array {
    const out = new Uint8Array(length);
    this.domain.deviceRead(phys, out, 0, length, port);
    return out;
  }

  /** `port` writes `length` bytes of `value`. */
  devicePuts(phys: PhysAddr, length: number, value: number, port: DevicePort = camera): void {
    this.domain.deviceWrite(phys, bytesOf(length, value), 0, length, port);
  }

  /** The hazards since the last call. */
  takeHazards(): HazardFacts[] {
    return this.sim.hazards.splice(0);
  }

  /** The one hazard since the last call, a stale read. */
  takeStale(): StaleReadFacts {
    const [facts, ...more] = this.takeHazards();
    if (facts === undefined || more.length > 0 || !('staleLines' in facts)) throw new Error('no single stale read');
    return facts;
  }

  /** The one hazard since the last call, a lost write. */
  takeLost(): LostWriteFacts {
    const [facts, ...more] = this.takeHazards();
    if (facts === undefined || more.length > 0 || !('lostLines' in facts)) throw new Error('no single lost write');
    return facts;
  }
}

/** `length` bytes of `value`. */
export function bytesOf(length: number, value: number): Uint8Array {
  return new Uint8Array(length).fill(value);
}

/** The address `offset` bytes into RAM. */
export function at(offset: number): PhysAddr {
  return physAddr(BASE + offset);
}
