/** The machine and the device that `direct-sg-map`, `swiotlb` and `dma-caps` describe in `setup`, and words of the vectors' own. */
import { dmaAddr, physAddr } from '../../src/base/addr.ts';
import { ErrnoError } from '../../src/base/errors.ts';
import { freeCacheCosts } from '../../src/cache/cache-costs.ts';
import { CoherencyDomain } from '../../src/cache/coherency.ts';
import { Device } from '../../src/dma-api/device.ts';
import type { DmaDirection } from '../../src/dma-api/direction.ts';
import type { DmaAttrs } from '../../src/dma-api/dma-attrs.ts';
import type { DmaRange } from '../../src/dma-api/dma-range.ts';
import { Swiotlb } from '../../src/dma-api/swiotlb.ts';
import { Iommu } from '../../src/iommu/iommu.ts';
import { IommuGroup } from '../../src/iommu/iommu-group.ts';
import { PhysMemory } from '../../src/mem/phys-memory.ts';
import { Simulator } from '../../src/sim/simulator.ts';
import { FrameCounter } from '../iommu/frame-counter.ts';
import {
  addressIn,
  arrayIn,
  booleanIn,
  isObject,
  type Json,
  type JsonObject,
  numberIn,
  stringIn,
} from './vector-case.ts';

/** The recorded machine: 2 GiB of memory below 4 GiB, the rest above. */
const LOW_END = 0x8000_0000;
const HIGH_START = 2 ** 32;
const END = 0x1_4000_0000;

const DIRECTIONS: Readonly<Record<string, DmaDirection>> = {
  DMA_BIDIRECTIONAL: 'bidirectional',
  DMA_TO_DEVICE: 'to-device',
  DMA_FROM_DEVICE: 'from-device',
};

/** One case's machine. */
export interface DmaBench {
  readonly memory: PhysMemory;
  readonly coherency: CoherencyDomain;
  readonly swiotlb: Swiotlb | null;
  readonly device: Device;
}

/** Builds the machine of `setup`; the device has the masks that hold before the first operation of its own. */
export function dmaBench(setup: JsonObject): DmaBench {
  const spec = objectIn(setup, 'device');
  const sim = new Simulator({ hazards: 'record' });
  const memory = new PhysMemory({ trace: sim.trace, now: () => sim.now });
  const end = setup['max_pfn_phys'] === undefined ? END : addressIn(setup, 'max_pfn_phys');
  addRam(memory, 0, LOW_END);
  addRam(memory, HIGH_START, end);
  const coherency = new CoherencyDomain(sim, memory, { costs: freeCacheCosts, shadow: false });
  const swiotlb = poolOf(sim, coherency, setup);
  const iommuGroup = spec['domain_type'] === undefined ? null : groupOf(sim, spec);
  const device = new Device(sim, {
    name: 'dev0',
    coherency,
    coherent: true,
    ...(iommuGroup === null ? {} : { iommuGroup }),
    ...(swiotlb === null ? {} : { swiotlb }),
    busDmaLimit: addressIn(spec, 'bus_dma_limit'),
    dmaRanges: rangesOf(spec),
    maxSegmentSizeBytes: numberIn(spec, 'max_seg_size'),
    segBoundaryBytes: 2 ** maskBits(stringIn(spec, 'seg_boundary')),
    minAlignMask: addressIn(spec, 'min_align_mask'),
    pci: booleanIn(spec, 'pci'),
  });
  return { memory, coherency, swiotlb, device };
}

/** The bits of a mask: 32 of `0xffffffff`. @throws {Error} it has a hole. */
export function maskBits(text: string): number {
  const mask = BigInt(text);
  const bits = mask === 0n ? 0 : mask.toString(2).length;
  if (mask !== (1n << BigInt(bits)) - 1n) throw new Error(`the mask ${text} has a hole`);
  return bits;
}

/** The mask of so many bits. */
export function maskText(bits: number): string {
  return `0x${((1n << BigInt(bits)) - 1n).toString(16)}`;
}

/** The direction in `args`. */
export function directionIn(args: JsonObject, key = 'dir'): DmaDirection {
  const dir = DIRECTIONS[stringIn(args, key)];
  if (dir === undefined) throw new Error(`unknown direction ${stringIn(args, key)}`);
  return dir;
}

/** The attributes in `args`; none if the field is absent. */
export function attrsIn(args: JsonObject): DmaAttrs {
  const names = args['attrs'] === undefined ? [] : arrayIn(args, 'attrs');
  const known = ['DMA_ATTR_SKIP_CPU_SYNC', 'DMA_ATTR_NO_WARN'];
  const odd = names.find((name) => typeof name !== 'string' || !known.includes(name));
  if (odd !== undefined) throw new Error(`unknown attribute ${JSON.stringify(odd)}`);
  return { skipCpuSync: names.includes('DMA_ATTR_SKIP_CPU_SYNC'), noWarn: names.includes('DMA_ATTR_NO_WARN') };
}

/** What the kernel answers: 0, or the errno that `body` throws. */
export function returned(body: () => void): Json {
  try {
    body();
    return 0;
  } catch (error) {
    if (error instanceof ErrnoError) return `-${error.code}`;
    throw error;
  }
}

/** The object in `from[key]`. @throws {Error} it is none. */
export function objectIn(from: JsonObject, key: string): JsonObject {
  const value = from[key];
  if (!isObject(value)) throw new Error(`field ${key} is no object: ${JSON.stringify(value)}`);
  return value;
}

function addRam(memory: PhysMemory, base: number, end: number): void {
  if (end <= base) return;
  memory.addRegion({ kind: 'ram', name: `ram at ${base}`, base: physAddr(base), bytes: end - base });
}

function poolOf(sim: Simulator, coherency: CoherencyDomain, setup: JsonObject): Swiotlb | null {
  const spec = setup['swiotlb'];
  if (!isObject(spec)) return null;
  return new Swiotlb(sim, {
    coherency,
    base: physAddr(addressIn(spec, 'start')),
    slots: numberIn(spec, 'nslabs'),
    areas: numberIn(spec, 'nareas'),
    force: booleanIn(spec, 'force') ? 'force' : 'auto',
  });
}

function groupOf(sim: Simulator, spec: JsonObject): IommuGroup {
  const iommu = new Iommu(sim, {
    name: 'dmar0',
    pages: new FrameCounter(),
    format: 'INTEL_VTD_S2',
    pgsizeBitmap: addressIn(spec, 'pgsize_bitmap'),
    ias: maskBits(stringIn(spec, 'aperture_end')),
  });
  return new IommuGroup(iommu, { name: 'group0', defaultType: 'dma' });
}

function rangesOf(spec: JsonObject): DmaRange[] {
  if (spec['dma_range_map'] === undefined) return [];
  return arrayIn(spec, 'dma_range_map').map((range) => {
    if (!isObject(range)) throw new Error(`no range: ${JSON.stringify(range)}`);
    return {
      cpuStart: physAddr(addressIn(range, 'cpu_start')),
      dmaStart: dmaAddr(addressIn(range, 'dma_start')),
      sizeBytes: addressIn(range, 'size'),
    };
  });
}
