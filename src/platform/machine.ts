/**
 * A whole machine, wired: memory, caches, IOMMU, heaps, and the places where devices and processes go in.
 * Presets (`armSoc`) make one; everything of it hangs on its simulator.
 */
import { type PhysAddr, physAddr } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import type { CacheCosts } from '../cache/cache-costs.ts';
import { CoherencyDomain, type CoherencyOptions } from '../cache/coherency.ts';
import type { CacheGeometry } from '../cache/cpu-cache.ts';
import type { SystemCacheOptions } from '../cache/domain-caches.ts';
import { CoherentPool } from '../dma-api/coherent-pool.ts';
import { Device, type DeviceOptions } from '../dma-api/device.ts';
import { DmaDebug, type DmaDebugOptions } from '../dma-api/dma-debug.ts';
import { Swiotlb, type SwiotlbForce } from '../dma-api/swiotlb.ts';
import { CmaHeap, SystemHeap } from '../dmabuf/dma-heap.ts';
import { Iommu, type IommuOptions } from '../iommu/iommu.ts';
import { IommuGroup } from '../iommu/iommu-group.ts';
import { CmaArea } from '../mem/cma.ts';
import { PageAllocator } from '../mem/page-allocator.ts';
import { PhysMemory } from '../mem/phys-memory.ts';
import { AdversarialChooser } from '../sim/adversarial-chooser.ts';
import { Prng } from '../sim/prng.ts';
import { Simulator, type SimulatorOptions } from '../sim/simulator.ts';
import { addStockNodes } from '../uapi/node-setup.ts';
import { Process, type ProcessOptions } from '../uapi/process.ts';

/** What a preset says of its machine. */
export interface MachineSpec {
  readonly ram: readonly { readonly base: number; readonly bytes: number }[];
  /** Size of the area for contiguous memory, in bytes. */
  readonly cmaBytes: number;
  readonly cache: CacheGeometry;
  /** A cache between that of the CPUs and memory. Default: there is none. */
  readonly systemCache?: SystemCacheOptions;
  /** Line buffers for write-combining, of each CPU. Default 10. */
  readonly writeBuffers?: number;
  readonly cacheCosts: CacheCosts;
  /** `null`: there is none. */
  readonly iommu: Omit<IommuOptions, 'pages'> | null;
  /** Slots of 2 KiB of the bounce pool, a multiple of 128; 0: there is none. Default 0. */
  readonly swiotlbSlots?: number;
  /** What a system call charges, in ns. */
  readonly syscallNs: number;
}

/** What a user decides, whatever the preset. */
export interface MachineOptions extends SimulatorOptions {
  /** False: memory holds no bytes, only versions; for large sweeps. Default true. */
  readonly bytes?: boolean;
  /** False: stale and lost bytes are not explained, at no cost. Default true. */
  readonly shadow?: boolean;
  /** What is different in the CPUs' cache, its policies above all; the rest stays as the preset has it. */
  readonly cache?: CacheGeometry;
  /** A cache between that of the CPUs and memory; `null`: none. Default: the preset's. */
  readonly systemCache?: SystemCacheOptions | null;
  /** Line buffers for write-combining, of each CPU. Default: the preset's. */
  readonly writeBuffers?: number;
  /**
   * A number: tasks run in any order, and hardware does what it is allowed to do, as an {@link AdversarialChooser} with this seed chooses. What
   * happened replays with `chooser: new ReplayChooser(machine.sim.choices)`. Instead of a `chooser`. Default: none.
   */
  readonly adversary?: number;
  /** False: what drivers ask of the DMA API is not checked, at no cost; or how it is checked. Default true. */
  readonly dmaDebug?: boolean | DmaDebugOptions;
  /**
   * True: what the DMA API unmaps is invalidated later, all at once; until then a device may still reach it. Default false.
   *
   * @see `Documentation/admin-guide/kernel-parameters.txt` iommu.strict
   */
  readonly lazyIommu?: boolean;
  /** Which mappings go through the bounce pool: those that have to (`'auto'`, default), all, or none: then there is no pool. */
  readonly swiotlb?: SwiotlbForce;
}

/** What to say of a device that is added; see {@link DeviceOptions}. */
export interface DeviceSpec extends Omit<DeviceOptions, 'coherency' | 'iommuGroup' | 'pages' | 'cma' | 'dmaDebug'> {
  /** Behind the machine's IOMMU: in a group of its own (`true`), or together with others in this one. Default false. */
  readonly iommu?: boolean | IommuGroup;
}

/** One simulated machine. */
export class Machine {
  readonly sim: Simulator;
  readonly memory: PhysMemory;
  readonly coherency: CoherencyDomain;
  readonly pages: PageAllocator;
  readonly cma: CmaArea;
  /** Uncached memory for coherent allocations that can not wait; takes its pages when it is first asked. */
  readonly coherentPool: CoherentPool;
  /** `/dev/dma_heap/system`: pages from anywhere. */
  readonly systemHeap: SystemHeap;
  /** `/dev/dma_heap/reserved`: contiguous memory. */
  readonly cmaHeap: CmaHeap;
  /** Its bounce pool, or `null`. */
  readonly swiotlb: Swiotlb | null;
  /** Its IOMMU, or `null`. */
  readonly iommu: Iommu | null;
  /** Its checker of the DMA API, or `null`. */
  readonly dmaDebug: DmaDebug | null;
  readonly #syscallNs: number;
  readonly #lazy: boolean;
  readonly #devices: Device[] = [];
  /** Groups that were made for one device, and end with it. */
  readonly #ownGroups = new Set<IommuGroup>();
  readonly #processes: Process[] = [];

  /** @throws {InvariantError} regions that overlap, a CMA area that does not fit, a cache out of range, `adversary` beside a `chooser`. */
  constructor(spec: MachineSpec, options: MachineOptions = {}) {
    const sim = new Simulator({ watch: options.shadow ?? true, ...options, ...chooserOf(options) });
    this.sim = sim;
    this.memory = new PhysMemory({ trace: sim.trace, now: () => sim.now, bytes: options.bytes ?? true });
    for (const [i, { base, bytes }] of spec.ram.entries()) {
      this.memory.addRegion({ kind: 'ram', name: `ram${i}`, base: physAddr(base), bytes });
    }
    this.cma = new CmaArea(this.memory, { name: 'reserved', bytes: spec.cmaBytes, below: lowEnd(this.memory) });
    this.coherency = new CoherencyDomain(sim, this.memory, coherencyOf(spec, options));
    this.swiotlb = this.#makeSwiotlb(spec.swiotlbSlots ?? 0, options.swiotlb ?? 'auto');
    this.pages = new PageAllocator(this.memory);
    this.coherentPool = new CoherentPool(this.coherency, this.pages, { atFirstUse: true });
    this.systemHeap = new SystemHeap(sim, this.pages, this.coherency);
    this.cmaHeap = new CmaHeap(sim, this.cma, this.coherency);
    addStockNodes(sim, [this.systemHeap, this.cmaHeap], { coherency: this.coherency });
    this.iommu = spec.iommu === null ? null : this.#makeIommu(spec.iommu);
    const { dmaDebug = true } = options;
    this.dmaDebug = dmaDebug === false ? null : new DmaDebug(sim, dmaDebug === true ? {} : dmaDebug);
    this.#lazy = options.lazyIommu ?? false;
    this.#syscallNs = spec.syscallNs;
  }

  /** Its devices, in the order they were added. */
  get devices(): readonly Device[] {
    return this.#devices;
  }

  /** Its processes, in the order they were added, each with what it has forked behind it. */
  get processes(): readonly Process[] {
    return this.#processes.flatMap(withChildren);
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
    const bounce = this.swiotlb === null ? {} : { swiotlb: this.swiotlb };
    const checked = this.dmaDebug === null ? {} : { dmaDebug: this.dmaDebug };
    const { coherency, pages, cma, coherentPool } = this;
    const options: DeviceOptions = { coherentPool, ...bounce, ...rest, ...checked, coherency, pages, cma };
    const device = this.#makeDevice(options, iommu ?? false);
    this.#devices.push(device);
    return device;
  }

  /**
   * Takes a device out, as `device.destroy()`, which may have been called before; its name is free again. A group that was made for it ends,
   * too, with its page table and address-space id, unless somebody claimed it or attached another domain: then it is theirs to free. Plain.
   *
   * @throws {HazardError} `dma-debug.pending-at-unbind` as there; the device is gone all the same.
   * @throws {InvariantError} it is none of this machine's devices; nothing has happened.
   */
  removeDevice(device: Device): void {
    const at = this.#devices.indexOf(device);
    assert(at >= 0, 'removeDevice: %s is no device of this machine, or was removed before', device.name);
    this.#devices.splice(at, 1);
    try {
      if (!device.isRemoved) device.destroy();
    } finally {
      this.#endGroup(device.iommuGroup);
    }
  }

  /** Starts a process. Plain. @throws {InvariantError} an option is out of range. */
  addProcess(options: Omit<ProcessOptions, 'syscallNs'>): Process {
    const process = new Process(this.sim, this.coherency, { ...options, syscallNs: this.#syscallNs });
    this.#processes.push(process);
    return process;
  }

  #makeDevice(options: DeviceOptions, iommu: boolean | IommuGroup): Device {
    if (iommu === false) return new Device(this.sim, options);
    assert(this.iommu !== null, 'addDevice %s: this machine has no IOMMU', options.name);
    if (iommu !== true) return new Device(this.sim, { ...options, iommuGroup: iommu });
    const group = new IommuGroup(this.iommu, { name: options.name, defaultType: this.#lazy ? 'dma-fq' : 'dma' });
    let complete = false;
    try {
      const device = new Device(this.sim, { ...options, iommuGroup: group });
      this.#ownGroups.add(group);
      complete = true;
      return device;
    } finally {
      if (!complete) group.free();
    }
  }

  #endGroup(group: IommuGroup | null): void {
    if (group === null || group.devices.length > 0 || !this.#ownGroups.delete(group)) return;
    if (group.domain === group.defaultDomain && !group.isDmaOwnerClaimed) group.free();
  }

  #makeSwiotlb(slots: number, force: SwiotlbForce): Swiotlb | null {
    if (slots === 0 || force === 'noforce') return null;
    const { sim, coherency } = this;
    return new Swiotlb(sim, { coherency, slots, force, below: lowEnd(this.memory), currentCpu: () => sim.cpu });
  }

  #makeIommu(options: Omit<IommuOptions, 'pages'>): Iommu {
    const pages = {
      alloc: (order: number) => this.pages.allocPages({ order, owner: 'iommu tables' }),
      free: (frame: Parameters<PageAllocator['freePages']>[0], order: number) =>
        this.pages.freePages(frame, 2 ** order),
    };
    return new Iommu(this.sim, { ...options, pages });
  }
}

/** End of the RAM below 4 GiB: contiguous memory lies where 32-bit devices reach it. */
function lowEnd(memory: PhysMemory): PhysAddr {
  const ends = memory.regions.filter(({ base, hasPages }) => hasPages && base < 2 ** 32).map(({ end }) => end);
  return physAddr(Math.min(2 ** 32, Math.max(...ends)));
}

/** What the caches of the machine are: the preset's, and over it what the user decides. */
function coherencyOf(spec: MachineSpec, options: MachineOptions): CoherencyOptions {
  const { systemCache = spec.systemCache, writeBuffers = spec.writeBuffers } = options;
  return {
    costs: spec.cacheCosts,
    cache: { ...spec.cache, ...options.cache },
    shadow: options.shadow ?? true,
    ...(systemCache === undefined || systemCache === null ? {} : { systemCache }),
    ...(writeBuffers === undefined ? {} : { writeBuffers }),
  };
}

function chooserOf({ adversary, chooser }: MachineOptions): Pick<SimulatorOptions, 'chooser'> {
  if (adversary === undefined) return {};
  assert(chooser === undefined, 'adversary: %s is a chooser of its own, and chooser is another', adversary);
  return { chooser: new AdversarialChooser(new Prng(adversary)) };
}

function withChildren(process: Process): Process[] {
  return [process, ...process.children.flatMap(withChildren)];
}
