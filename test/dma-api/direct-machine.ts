/** Devices without an IOMMU, over memory of which they may reach a part: RAM on both sides of 16 MiB and of 4 GiB. */
import { type PhysAddr, physAddr } from '../../src/base/addr.ts';
import type { Accessor, HazardPolicy } from '../../src/base/hazards.ts';
import { GIB, MIB } from '../../src/base/units.ts';
import { freeCacheCosts } from '../../src/cache/cache-costs.ts';
import { CoherencyDomain } from '../../src/cache/coherency.ts';
import { CoherentPool } from '../../src/dma-api/coherent-pool.ts';
import { Device, type DeviceOptions } from '../../src/dma-api/device.ts';
import { Swiotlb, type SwiotlbOptions } from '../../src/dma-api/swiotlb.ts';
import { CmaArea } from '../../src/mem/cma.ts';
import { PageAllocator } from '../../src/mem/page-allocator.ts';
import { PhysMemory } from '../../src/mem/phys-memory.ts';
import { Simulator } from '../../src/sim/simulator.ts';

/** First byte of RAM that a 32-bit device does not reach. */
export const HIGH = physAddr(4 * GIB);

const CPU: Accessor = {
  name: 'app',
  kind: 'cpu',
  via: 'linear map',
  beforeRead: 'dmaSyncSingleForCpu',
  afterWrite: 'dmaSyncSingleForDevice',
};

export interface DirectMachineOptions {
  /** `null`: there is no pool. Default a pool of 256 slots that ends at 64 MiB. */
  readonly swiotlb?: Partial<SwiotlbOptions> | null;
  /** Default none. */
  readonly cma?: { readonly base: number; readonly bytes: number };
  readonly policy?: HazardPolicy;
  readonly bytes?: boolean;
  /** Bytes of each zone's coherent pool; default 0: there is none. */
  readonly coherentPoolBytes?: number;
}

export class DirectMachine {
  readonly sim: Simulator;
  readonly memory: PhysMemory;
  readonly coherency: CoherencyDomain;
  readonly swiotlb: Swiotlb | null;
  readonly cma: CmaArea | null;
  readonly pages: PageAllocator;
  readonly coherentPool: CoherentPool | null;

  constructor(options: DirectMachineOptions = {}) {
    const { swiotlb = {}, cma, coherentPoolBytes = 0 } = options;
    this.sim = new Simulator({ hazards: options.policy ?? 'throw' });
    this.memory = new PhysMemory({ trace: this.sim.trace, now: () => this.sim.now, bytes: options.bytes ?? true });
    this.memory.addRegion({ kind: 'ram', name: 'low', base: physAddr(0), bytes: 64 * MIB });
    this.memory.addRegion({ kind: 'ram', name: 'high', base: HIGH, bytes: 16 * MIB });
    this.memory.addRegion({ kind: 'ram', name: 'top', base: physAddr(16 * GIB), bytes: 4 * MIB });
    this.memory.addRegion({ kind: 'bar', name: 'bar0', base: physAddr(8 * GIB), bytes: MIB });
    this.coherency = new CoherencyDomain(this.sim, this.memory, { costs: freeCacheCosts });
    const pool = { coherency: this.coherency, slots: 256, below: physAddr(64 * MIB), ...swiotlb };
    this.swiotlb = swiotlb === null ? null : new Swiotlb(this.sim, pool);
    const area = cma === undefined ? null : { name: 'cma', base: physAddr(cma.base), bytes: cma.bytes };
    this.cma = area === null ? null : new CmaArea(this.memory, area);
    this.pages = new PageAllocator(this.memory);
    this.coherentPool =
      coherentPoolBytes === 0
        ? null
        : new CoherentPool(this.coherency, this.pages, { bytesPerZone: coherentPoolBytes });
  }

  device(options: Partial<DeviceOptions> = {}): Device {
    const { coherency, pages, swiotlb, cma, coherentPool } = this;
    return new Device(this.sim, {
      name: 'dev0',
      coherency,
      coherent: true,
      pages,
      ...(swiotlb === null ? {} : { swiotlb }),
      ...(cma === null ? {} : { cma }),
      ...(coherentPool === null ? {} : { coherentPool }),
      ...options,
    });
  }

  cpuWrites(phys: PhysAddr, length: number, value: number): void {
    const bytes = this.memory.storesBytes ? new Uint8Array(length).fill(value) : null;
    this.coherency.cpuWrite(phys, bytes, 0, length, 'cached', CPU);
  }

  cpuReads(phys: PhysAddr, length: number): Uint8Array {
    const out = new Uint8Array(length);
    this.coherency.cpuRead(phys, out, 0, length, 'cached', CPU);
    return out;
  }
}
