/**
 * A whole machine, wired: memory, caches, IOMMU, heaps, and the places where devices and processes go in.
 * Presets (`armSoc`) make one; everything of it hangs on its simulator.
 */
import { type PhysAddr, physAddr } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import type { CacheCosts } from '../cache/cache-costs.ts';
import { CoherencyDomain } from '../cache/coherency.ts';
import type { CacheGeometry } from '../cache/cpu-cache.ts';
import { Device, type DeviceOptions } from '../dma-api/device.ts';
import { IommuDmaDomain } from '../dma-api/dma-iommu.ts';
import { CmaHeap, SystemHeap } from '../dmabuf/dma-heap.ts';
import { Iommu } from '../iommu/iommu.ts';
import type { IommuCosts } from '../iommu/iommu-costs.ts';
import { IommuDomain } from '../iommu/iommu-domain.ts';
import { CmaArea } from '../mem/cma.ts';
import { PageAllocator } from '../mem/page-allocator.ts';
import { PhysMemory } from '../mem/phys-memory.ts';
import { Simulator, type SimulatorOptions } from '../sim/simulator.ts';
import { Process, type ProcessOptions } from '../uapi/process.ts';

/** What a preset says of its machine. */
export interface MachineSpec {
  readonly ram: readonly { readonly base: number; readonly bytes: number }[];
  /** Size of the area for contiguous memory, in bytes. */
  readonly cmaBytes: number;
  readonly cache: CacheGeometry;
  readonly cacheCosts: CacheCosts;
  /** `null`: there is none. */
  readonly iommuCosts: IommuCosts | null;
  /** What a system call charges, in ns. */
  readonly syscallNs: number;
}

/** What a user decides, whatever the preset. */
export interface MachineOptions extends SimulatorOptions {
  /** False: memory holds no bytes, only versions; for large sweeps. Default true. */
  readonly bytes?: boolean;
  /** False: stale and lost bytes are not explained, at no cost. Default true. */
  readonly shadow?: boolean;
}

/** What to say of a device that is added; see {@link DeviceOptions}. */
export interface DeviceSpec extends Omit<DeviceOptions, 'coherency' | 'iommu'> {
  /** Behind the machine's IOMMU, in a domain of its own. Default false. */
  readonly iommu?: boolean;
}

/** One simulated machine. */
export class Machine {
  readonly sim: Simulator;
  readonly memory: PhysMemory;
  readonly coherency: CoherencyDomain;
  readonly pages: PageAllocator;
  readonly cma: CmaArea;
  /** `/dev/dma_heap/system`: pages from anywhere. */
  readonly systemHeap: SystemHeap;
  /** `/dev/dma_heap/reserved`: contiguous memory. */
  readonly cmaHeap: CmaHeap;
  /** Its IOMMU, or `null`. */
  readonly iommu: Iommu | null;
  readonly #syscallNs: number;
  readonly #devices: Device[] = [];
  readonly #processes: Process[] = [];

  /** @throws {InvariantError} regions that overlap, or a CMA area that does not fit. */
  constructor(spec: MachineSpec, options: MachineOptions = {}) {
    const sim = new Simulator(options);
    this.sim = sim;
    this.memory = new PhysMemory({ trace: sim.trace, now: () => sim.now, bytes: options.bytes ?? true });
    for (const [i, { base, bytes }] of spec.ram.entries()) {
      this.memory.addRegion({ kind: 'ram', name: `ram${i}`, base: physAddr(base), bytes });
    }
    this.cma = new CmaArea(this.memory, { name: 'reserved', bytes: spec.cmaBytes, below: lowEnd(spec) });
    this.pages = new PageAllocator(this.memory);
    const { cacheCosts: costs, cache } = spec;
    this.coherency = new CoherencyDomain(sim, this.memory, { costs, cache, shadow: options.shadow ?? true });
    this.systemHeap = new SystemHeap(sim, this.pages, this.coherency);
    this.cmaHeap = new CmaHeap(sim, this.cma, this.coherency);
    this.iommu = spec.iommuCosts === null ? null : this.#makeIommu(spec.iommuCosts);
    this.#syscallNs = spec.syscallNs;
  }

  /** Its devices, in the order they were added. */
  get devices(): readonly Device[] {
    return this.#devices;
  }

  /** Its processes, in the order they were added. */
  get processes(): readonly Process[] {
    return this.#processes;
  }

  /**
   * Adds a device. Plain.
   *
   * @throws {InvariantError} its name is taken, an option of it is out of range, or it wants an IOMMU and the machine has none.
   * @throws {ErrnoError} `ENOMEM` no page for its page table, `ENOSPC` no address-space id (retry later). Nothing is added then.
   */
  addDevice(spec: DeviceSpec): Device {
    const { iommu, ...rest } = spec;
    const isTaken = this.#devices.some((device) => device.name === spec.name);
    assert(!isTaken, 'addDevice: name %s is taken', spec.name);
    const options: DeviceOptions = { ...rest, coherency: this.coherency };
    const device = iommu === true ? this.#deviceBehindIommu(options) : new Device(this.sim, options);
    this.#devices.push(device);
    return device;
  }

  /** Starts a process. Plain. @throws {InvariantError} an option is out of range. */
  addProcess(options: Omit<ProcessOptions, 'syscallNs'>): Process {
    const process = new Process(this.sim, this.coherency, { ...options, syscallNs: this.#syscallNs });
    this.#processes.push(process);
    return process;
  }

  #deviceBehindIommu(options: DeviceOptions): Device {
    assert(this.iommu !== null, 'addDevice %s: this machine has no IOMMU', options.name);
    const domain = new IommuDomain(this.iommu, { name: options.name });
    let complete = false;
    try {
      const device = new Device(this.sim, { ...options, iommu: new IommuDmaDomain(domain) });
      complete = true;
      return device;
    } finally {
      if (!complete) domain.free();
    }
  }

  #makeIommu(costs: IommuCosts): Iommu {
    const pages = {
      alloc: (order: number) => this.pages.allocPages({ order, owner: 'iommu tables' }),
      free: (frame: Parameters<PageAllocator['freePages']>[0], order: number) =>
        this.pages.freePages(frame, 2 ** order),
    };
    return new Iommu(this.sim, { name: 'smmu0', pages, costs });
  }
}

/** End of the RAM below 4 GiB: contiguous memory lies where 32-bit devices reach it. */
function lowEnd(spec: MachineSpec): PhysAddr {
  return physAddr(Math.min(2 ** 32, Math.max(...spec.ram.map(({ base, bytes }) => base + bytes))));
}
