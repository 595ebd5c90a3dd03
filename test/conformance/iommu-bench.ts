/** A device behind a VT-d unit as the cases of `iommu-sg-map`, `iommu-lazy` and `iommu-cpus` describe it, and what they do with it. */
import { dmaAddr, hex, iova as iovaOf, type PhysAddr, physAddr } from '../../src/base/addr.ts';
import { ErrnoError } from '../../src/base/errors.ts';
import { GIB, ms } from '../../src/base/units.ts';
import { freeCacheCosts } from '../../src/cache/cache-costs.ts';
import { CoherencyDomain } from '../../src/cache/coherency.ts';
import { Device } from '../../src/dma-api/device.ts';
import type { DmaDirection } from '../../src/dma-api/direction.ts';
import { dmaAllocCoherent, dmaFreeCoherent } from '../../src/dma-api/dma-alloc.ts';
import type { DmaAttrs } from '../../src/dma-api/dma-attrs.ts';
import { dmaMapSgtable, dmaUnmapSgtable } from '../../src/dma-api/dma-map.ts';
import {
  dmaMapPage,
  dmaMappingError,
  dmaMapResource,
  dmaUnmapPage,
  dmaUnmapResource,
} from '../../src/dma-api/dma-single.ts';
import { type Extent, SgTable } from '../../src/dma-api/sg-table.ts';
import { Swiotlb } from '../../src/dma-api/swiotlb.ts';
import { Iommu } from '../../src/iommu/iommu.ts';
import { type IommuDefaultType, IommuGroup } from '../../src/iommu/iommu-group.ts';
import { PageAllocator } from '../../src/mem/page-allocator.ts';
import { PhysMemory } from '../../src/mem/phys-memory.ts';
import { Simulator } from '../../src/sim/simulator.ts';
import { FrameCounter } from '../iommu/frame-counter.ts';
import { type Family, firstDifference } from './family.ts';
import {
  addressIn,
  arrayIn,
  isObject,
  type Json,
  type JsonObject,
  numberIn,
  parseAddress,
  stringIn,
  type VectorCase,
  type VectorOp,
} from './vector-case.ts';

const DIRECTIONS: Readonly<Record<string, DmaDirection>> = {
  DMA_BIDIRECTIONAL: 'bidirectional',
  DMA_TO_DEVICE: 'to-device',
  DMA_FROM_DEVICE: 'from-device',
};
const DOMAIN_TYPES: Readonly<Record<string, IommuDefaultType>> = {
  IOMMU_DOMAIN_DMA: 'dma',
  IOMMU_DOMAIN_DMA_FQ: 'dma-fq',
  IOMMU_DOMAIN_IDENTITY: 'identity',
};
/** RAM of the recorded machine. */
const RAM = [
  { base: 0, bytes: 2 * GIB },
  { base: 4 * GIB, bytes: GIB },
];
/** What `map_many` and its like map. */
const SAMPLE_PAGE = physAddr(0x2000_0000);

/** What a live id stands for; `first` and `last` are bytes of its (first) segment. */
interface Live {
  readonly first: number;
  readonly last: number;
  end(): void;
}

/** Replays one case. Every operation answers with what the kernel's is compared with. */
class IommuBench {
  readonly #sim = new Simulator();
  readonly #iommu: Iommu;
  readonly #group: IommuGroup;
  readonly #memory: PhysMemory;
  readonly #device: Device;
  readonly #live = new Map<number, Live>();

  constructor({ setup, ops }: VectorCase) {
    const device = objectIn(setup, 'device');
    const cmdline = stringIn(objectIn(setup, 'boot'), 'cmdline');
    this.#memory = new PhysMemory({ trace: this.#sim.trace, now: () => this.#sim.now });
    for (const { base, bytes } of RAM) {
      this.#memory.addRegion({ kind: 'ram', name: `ram${base}`, base: physAddr(base), bytes });
    }
    const coherency = new CoherencyDomain(this.#sim, this.#memory, { costs: freeCacheCosts, shadow: false });
    const swiotlb = poolOf(this.#sim, coherency, setup);
    const allocates = ops.some(({ op }) => op === 'dma_alloc_coherent');
    this.#iommu = new Iommu(this.#sim, {
      name: 'dmar0',
      pages: new FrameCounter(),
      format: 'INTEL_VTD_S2',
      pgsizeBitmap: addressIn(device, 'pgsize_bitmap'),
      ias: maskBits(device, 'aperture_end'),
    });
    this.#group = new IommuGroup(this.#iommu, { name: 'group0', defaultType: domainTypeOf(device) });
    this.#device = new Device(this.#sim, {
      name: 'dev0',
      coherency,
      coherent: true,
      iommuGroup: this.#group,
      ...(allocates ? { pages: new PageAllocator(this.#memory) } : {}),
      ...(swiotlb === null ? {} : { swiotlb }),
      pci: device['pci'] === true,
      untrusted: setup['untrusted'] === true,
      forceDac: cmdline.split(' ').includes('iommu.forcedac=1'),
      dmaMaskBits: maskBits(device, 'dma_mask'),
      coherentDmaMaskBits: maskBits(device, 'coherent_dma_mask'),
      busDmaLimit: addressIn(device, 'bus_dma_limit'),
      maxSegmentSizeBytes: numberIn(device, 'max_seg_size'),
      segBoundaryBytes: 2 ** maskBits(device, 'seg_boundary'),
      minAlignMask: addressIn(device, 'min_align_mask'),
      reservedIova: reservedOf(device),
    });
  }

  /** Runs one operation. @returns its result as the vectors write it; `null`: it has none. */
  step({ op, args }: VectorOp): JsonObject | null {
    switch (op) {
      case 'dma_map_sg':
      case 'dma_map_sgtable':
        return this.#mapSg(op, args);
      case 'dma_map_page':
        return this.#mapPage(args);
      case 'dma_map_resource':
        return this.#mapResource(args);
      case 'dma_alloc_coherent':
        return this.#alloc(args);
      case 'dma_unmap_sg':
      case 'dma_unmap_page':
      case 'dma_unmap_resource':
      case 'dma_free_coherent':
        return this.#unmap(numberIn(args, 'id'));
      case 'iommu_iova_to_phys':
        return { phys: this.#physOf(addressIn(args, 'iova')) };
      case 'map_many':
        return this.#mapMany(args);
      case 'unmap_many':
        return this.#unmapMany(arrayIn(args, 'ids'));
      case 'repeat_map_unmap':
        return this.#repeat(args);
      case 'msleep':
        return this.#counted(() => this.#sim.runUntil(this.#sim.now + ms(numberIn(args, 'ms'))));
      case 'run_on_cpu':
        this.#sim.runOnCpu(numberIn(args, 'cpu'));
        return null;
      case 'group_type_write':
        return this.#writeType(stringIn(args, 'value'));
      default:
        throw new Error(`unknown operation ${op}`);
    }
  }

  #mapSg(op: string, args: JsonObject): JsonObject {
    const sgt = new SgTable(arrayIn(args, 'sg').map(extentOf));
    const dir = directionIn(args);
    try {
      dmaMapSgtable(this.#device, sgt, dir, attrsIn(args));
    } catch (error) {
      if (!(error instanceof ErrnoError)) throw error;
      return { ret: op === 'dma_map_sg' ? 0 : `-${error.code}` };
    }
    const segs = sgt.segments().map(({ address, length }): Json => [hex(address), length]);
    const first = sgt.dmaAddress(0);
    const end = () => dmaUnmapSgtable(this.#device, sgt, dir);
    this.#live.set(numberIn(args, 'id'), { first, last: first + sgt.dmaLength(0) - 1, end });
    return op === 'dma_map_sg' ? { ret: sgt.nents, segs } : { ret: 0, nents: sgt.nents, segs };
  }

  #mapPage(args: JsonObject): JsonObject {
    const phys = physAddr(addressIn(args, 'page') + numberIn(args, 'offset'));
    return this.#single(numberIn(args, 'id'), phys, numberIn(args, 'size'), directionIn(args), attrsIn(args));
  }

  #single(id: number, phys: PhysAddr, sizeBytes: number, dir: DmaDirection, attrs: DmaAttrs = {}): JsonObject {
    const device = this.#device;
    const address = dmaMapPage(device, phys, sizeBytes, dir, attrs);
    if (dmaMappingError(device, address)) return { ret: 'DMA_MAPPING_ERROR' };
    const end = () => dmaUnmapPage(device, address, sizeBytes, dir);
    this.#live.set(id, { first: address, last: address + sizeBytes - 1, end });
    return { dma_addr: hex(address) };
  }

  #mapResource(args: JsonObject): JsonObject {
    const device = this.#device;
    const dir = directionIn(args);
    const sizeBytes = numberIn(args, 'size');
    const address = dmaMapResource(device, physAddr(addressIn(args, 'phys')), sizeBytes, dir);
    if (dmaMappingError(device, address)) return { ret: 'DMA_MAPPING_ERROR' };
    const end = () => dmaUnmapResource(device, address, sizeBytes, dir);
    this.#live.set(numberIn(args, 'id'), { first: address, last: address + sizeBytes - 1, end });
    return { dma_addr: hex(address) };
  }

  #alloc(args: JsonObject): JsonObject {
    const sizeBytes = numberIn(args, 'size');
    const allocation = dmaAllocCoherent(this.#device, sizeBytes);
    if (allocation === null) return { ret: null };
    const { address, cpu } = allocation;
    const bytes = cpu?.peek(0, sizeBytes) ?? null;
    const end = () => dmaFreeCoherent(this.#device, allocation);
    this.#live.set(numberIn(args, 'id'), { first: address, last: address + sizeBytes - 1, end });
    return { dma_addr: hex(address), zeroed: bytes?.every((byte) => byte === 0) ?? false };
  }

  #unmap(id: number): JsonObject {
    const live = this.#take(id);
    const phys = (): Json => [this.#physOf(live.first), this.#physOf(live.last)];
    const before = phys();
    const counts = this.#counted(() => live.end());
    return { iova: [hex(live.first), hex(live.last)], phys_before: before, phys_after: phys(), ...counts };
  }

  #mapMany(args: JsonObject): JsonObject {
    const [firstId, count, size] = ['first_id', 'count', 'size'].map((name) => numberIn(args, name));
    const addresses: Json[] = [];
    for (let i = 0; i < (count ?? 0); i++) {
      const { dma_addr: address, ret } = this.#single((firstId ?? 0) + i, SAMPLE_PAGE, size ?? 0, 'bidirectional');
      addresses.push(address ?? ret ?? null);
    }
    return { dma_addrs: addresses };
  }

  #unmapMany(ids: readonly Json[]): JsonObject {
    let flushDuring: number | null = null;
    const counts = this.#counted(() => {
      const { flushIotlbAllCount: before } = this.#iommu;
      for (const [index, id] of ids.entries()) {
        this.#take(Number(id)).end();
        if (flushDuring === null && this.#iommu.flushIotlbAllCount > before) flushDuring = index;
      }
    });
    return { flush_during_unmap_number: flushDuring, ...counts };
  }

  #repeat(args: JsonObject): JsonObject {
    const addresses: Json[] = [];
    for (let i = 0; i < numberIn(args, 'count'); i++) {
      const { dma_addr: address, ret } = this.#single(-1, SAMPLE_PAGE, numberIn(args, 'size'), 'bidirectional');
      addresses.push(address ?? ret ?? null);
      if (address === undefined) continue;
      const before = this.#iommu.flushIotlbAllCount;
      this.#take(-1).end();
      if (this.#iommu.flushIotlbAllCount > before) addresses.push('flush');
    }
    return { dma_addrs: addresses };
  }

  #writeType(value: string): JsonObject {
    let ret: Json = 0;
    const counts = this.#counted(() => {
      try {
        this.#group.writeType(value);
      } catch (error) {
        if (!(error instanceof ErrnoError)) throw error;
        ret = `-${error.code}`;
      }
    });
    return { ret, type: this.#group.typeText, ...counts };
  }

  /** How often the driver's two invalidation callbacks ran in `body`. */
  #counted(body: () => void): JsonObject {
    const { flushIotlbAllCount, iotlbSyncCount } = this.#iommu;
    body();
    return {
      flush_iotlb_all: this.#iommu.flushIotlbAllCount - flushIotlbAllCount,
      iotlb_sync: this.#iommu.iotlbSyncCount - iotlbSyncCount,
    };
  }

  #take(id: number): Live {
    const live = this.#live.get(id);
    if (live === undefined) throw new Error(`id ${id} is not mapped`);
    this.#live.delete(id);
    return live;
  }

  #physOf(address: number): string {
    return hex(this.#group.defaultDomain?.iovaToPhys(iovaOf(dmaAddr(address))) ?? 0);
  }
}

/** A family whose cases an {@link IommuBench} replays. Only what was recorded of an operation is compared. */
export function iommuFamily(name: string): Family {
  return {
    family: name,
    run(vector) {
      const bench = new IommuBench(vector);
      for (const [index, op] of vector.ops.entries()) {
        const got = bench.step(op);
        if (op.result === undefined) continue;
        const difference = firstDifference(`${op.op}.result`, op.result, recordedPart(op.result, got ?? {}));
        if (difference !== null) return { op: index, ...difference };
      }
      return null;
    },
  };
}

/** What families differ in is how much of an answer they recorded; whether something failed always counts. */
function recordedPart(recorded: JsonObject, got: JsonObject): JsonObject {
  const kept = Object.entries(got).filter(([key]) => key === 'ret' || Object.hasOwn(recorded, key));
  return Object.fromEntries(kept);
}

function poolOf(sim: Simulator, coherency: CoherencyDomain, setup: JsonObject): Swiotlb | null {
  const pool = setup['swiotlb'];
  if (!isObject(pool)) return null;
  return new Swiotlb(sim, {
    coherency,
    base: physAddr(addressIn(pool, 'start')),
    slots: numberIn(pool, 'nslabs'),
    areas: numberIn(pool, 'nareas'),
    force: pool['force'] === true ? 'force' : 'auto',
  });
}

function reservedOf(device: JsonObject): { first: number; last: number }[] {
  const windows = device['pci_windows'] === undefined ? [] : arrayIn(device, 'pci_windows');
  const regions = device['resv_regions'] === undefined ? [] : arrayIn(device, 'resv_regions');
  return [
    ...windows.map((window) => ({ first: addressAt(window, 0), last: addressAt(window, 1) })),
    ...regions.map((region) => ({
      first: addressAt(region, 0),
      last: addressAt(region, 0) + addressAt(region, 1) - 1,
    })),
  ];
}

function addressAt(list: Json, index: number): number {
  if (!Array.isArray(list)) throw new Error(`no list: ${JSON.stringify(list)}`);
  return parseAddress(String(list[index]));
}

function extentOf(entry: Json): Extent {
  if (!Array.isArray(entry)) throw new Error(`no scatterlist entry: ${JSON.stringify(entry)}`);
  const [page, offset, length] = entry;
  return { phys: physAddr(parseAddress(String(page)) + Number(offset)), length: Number(length) };
}

function domainTypeOf(device: JsonObject): IommuDefaultType {
  const name = stringIn(device, 'domain_type');
  const type = DOMAIN_TYPES[name];
  if (type === undefined) throw new Error(`no default domain is of type ${name}`);
  return type;
}

/** Bits of the mask in `from[key]`, 0 to 64. */
function maskBits(from: JsonObject, key: string): number {
  const mask = addressIn(from, key);
  const bits = mask < 0 ? 64 : Math.log2(mask + 1);
  if (!Number.isInteger(bits)) throw new Error(`field ${key} is no mask: ${hex(mask)}`);
  return bits;
}

function directionIn(args: JsonObject): DmaDirection {
  const dir = DIRECTIONS[stringIn(args, 'dir')];
  if (dir === undefined) throw new Error(`no direction: ${JSON.stringify(args['dir'])}`);
  return dir;
}

function attrsIn(args: JsonObject): DmaAttrs {
  const attrs = args['attrs'] === undefined ? [] : arrayIn(args, 'attrs');
  return attrs.includes('DMA_ATTR_SKIP_CPU_SYNC') ? { skipCpuSync: true } : {};
}

function objectIn(from: JsonObject, key: string): JsonObject {
  const value = from[key];
  if (!isObject(value)) throw new Error(`field ${key} is no object: ${JSON.stringify(value)}`);
  return value;
}
