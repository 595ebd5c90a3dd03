/**
 * Family `dma-debug`: which misuses of the DMA API the checker complains about.
 *
 * The cases do not record addresses. Here they follow from the ops: all single mappings are of one buffer (of places beside each other when a
 * note says so), an unmap or sync is of the mapping made last that fits best, and an unmap of exactly half of a mapping is of its second half.
 */
import { type DmaAddr, PAGE_SIZE, type PhysAddr } from '../../../src/base/addr.ts';
import { Device } from '../../../src/dma-api/device.ts';
import type { DmaDirection } from '../../../src/dma-api/direction.ts';
import { dmaAllocCoherent, dmaFreeCoherent } from '../../../src/dma-api/dma-alloc.ts';
import type { DmaAllocation } from '../../../src/dma-api/dma-allocation.ts';
import { DmaDebug } from '../../../src/dma-api/dma-debug.ts';
import { dmaMapSg, dmaSyncSgForCpu, dmaSyncSgForDevice, dmaUnmapSg } from '../../../src/dma-api/dma-map.ts';
import {
  dmaMapPage,
  dmaMappingError,
  dmaMapResource,
  dmaMapSingle,
  dmaSyncSingleForCpu,
  dmaSyncSingleForDevice,
  dmaUnmapPage,
  dmaUnmapResource,
  dmaUnmapSingle,
} from '../../../src/dma-api/dma-single.ts';
import type { KernelMemory } from '../../../src/dma-api/kernel-memory.ts';
import { DMA_MAPPING_ERROR } from '../../../src/dma-api/mapping-error.ts';
import { SgTable } from '../../../src/dma-api/sg-table.ts';
import { armSoc } from '../../../src/platform/arm-soc.ts';
import type { Machine } from '../../../src/platform/machine.ts';
import { type Family, firstDifference, type Mismatch } from '../family.ts';
import { type Json, type JsonObject, stringIn, type VectorCase, type VectorOp } from '../vector-case.ts';

const MIB = 2 ** 20;
/** No RAM. */
const DEVICE_MEMORY = 0x1000_0000 as PhysAddr;
const DIRECTIONS: Readonly<Record<string, DmaDirection>> = {
  DMA_TO_DEVICE: 'to-device',
  DMA_FROM_DEVICE: 'from-device',
  DMA_BIDIRECTIONAL: 'bidirectional',
};
/** Codes of our own for what the kernel reports under another name. */
const KERNEL_LABELS: Readonly<Record<string, string>> = { 'sync-out-of-range': 'sync-not-mapped' };

const family: Family = {
  family: 'dma-debug',
  run(vector: VectorCase): Mismatch | null {
    const replay = new Replay(vector);
    for (const [index, op] of vector.ops.entries()) {
      const difference = firstDifference(`${op.op}.result`, op.result, replay.step(op));
      if (difference !== null) return { op: index, ...difference };
    }
    const difference = firstDifference('result', vector.result, replay.result());
    return difference === null ? null : { op: null, ...difference };
  },
};
export default family;

interface Mapped {
  readonly address: DmaAddr;
  readonly sizeBytes: number;
  readonly dir: DmaDirection;
  live: boolean;
}

class Replay {
  readonly #machine: Machine;
  readonly #dev: Device;
  readonly #other: Device;
  readonly #debug: DmaDebug;
  readonly #notes: string;
  readonly #buffer: PhysAddr;
  readonly #lists: PhysAddr;
  readonly #mapped: Mapped[] = [];
  #sgt: SgTable | null = null;
  #allocation: DmaAllocation | null = null;

  constructor({ ops }: VectorCase) {
    this.#notes = ops.map((op) => whatOf(op.args)).join('; ');
    this.#machine = armSoc({ ramBytes: 64 * MIB, cmaBytes: 8 * MIB, hazards: 'record' });
    const { sim, coherency, pages } = this.#machine;
    this.#debug = new DmaDebug(sim);
    const limits = {
      dmaMaskBits: 64,
      maxSegmentSizeBytes: numberAfter(this.#notes, /max_seg_size\D*/) ?? 65536,
      segBoundaryBytes: this.#boundary() ?? 2 ** 32,
    };
    const options = { coherency, coherent: true, pages, dmaDebug: this.#debug, ...limits };
    this.#dev = new Device(sim, { name: 'dbg', ...options });
    this.#other = new Device(sim, { name: 'other', ...options });
    const owner = 'test';
    this.#buffer = (pages.allocPages({ order: 4, owner }) * PAGE_SIZE) as PhysAddr;
    this.#lists = (pages.allocPages({ order: 10, owner }) * PAGE_SIZE) as PhysAddr;
  }

  step({ op, args, result }: VectorOp): Json | undefined {
    switch (op) {
      case 'dma_map_single':
      case 'dma_map_page':
      case 'dma_map_resource':
        return this.#map(op, args, result);
      case 'dma_unmap_single':
      case 'dma_unmap_page':
      case 'dma_unmap_resource':
        return this.#unmap(op, args);
      case 'dma_mapping_error':
        dmaMappingError(this.#dev, this.#last().address);
        return undefined;
      case 'dma_sync_single_for_cpu':
      case 'dma_sync_single_for_device':
        return this.#sync(op, args);
      case 'dma_alloc_coherent':
        return this.#alloc(sizeOf(args));
      case 'dma_free_coherent':
        return this.#free(args);
      case 'driver_probe':
        this.#debug.driverProbe(this.#dev);
        return undefined;
      case 'driver_unbind':
        this.#debug.driverUnbind(this.#dev);
        return undefined;
      case 'note':
        return undefined;
      default:
        return this.#list(op, args);
    }
  }

  result(): JsonObject {
    const complaints: Record<string, number> = {};
    for (const { hazard } of this.#machine.sim.hazards) {
      const code = hazard.slice(hazard.indexOf('.') + 1);
      const label = KERNEL_LABELS[code] ?? code;
      complaints[label] = (complaints[label] ?? 0) + 1;
    }
    return { complaints, stack_traces: this.#machine.sim.hazards.length };
  }

  #map(op: string, args: JsonObject, result: JsonObject | undefined): Json {
    const sizeBytes = sizeOf(args);
    const dir = dirOf(args);
    const address = this.#mapBy(op, sizeBytes, dir);
    this.#mapped.push({ address, sizeBytes, dir, live: true });
    if (result?.['mapping_error_checked'] === false) return { mapping_error_checked: false, error: null };
    return { mapping_error_checked: true, error: dmaMappingError(this.#dev, address) };
  }

  #mapBy(op: string, sizeBytes: number, dir: DmaDirection): DmaAddr {
    if (op === 'dma_map_resource') return dmaMapResource(this.#dev, DEVICE_MEMORY, sizeBytes, dir);
    if (op === 'dma_map_page') return dmaMapPage(this.#dev, this.#buffer, sizeBytes, dir);
    return dmaMapSingle(this.#dev, this.#memory(sizeBytes), sizeBytes, dir);
  }

  #unmap(op: string, args: JsonObject): undefined {
    const sizeBytes = sizeOf(args);
    const dir = dirOf(args);
    const dev = /another device|other device/.test(this.#notes) ? this.#other : this.#dev;
    const address = this.#addressToUnmap(args, sizeBytes, dir);
    if (op === 'dma_unmap_single') dmaUnmapSingle(dev, address, sizeBytes, dir);
    else if (op === 'dma_unmap_page') dmaUnmapPage(dev, address, sizeBytes, dir);
    else dmaUnmapResource(dev, address, sizeBytes, dir);
  }

  #addressToUnmap(args: JsonObject, sizeBytes: number, dir: DmaDirection): DmaAddr {
    const what = whatOf(args);
    if (/MAPPING_ERROR|invalid|error address/i.test(this.#notes)) return DMA_MAPPING_ERROR;
    if (/sg segment/.test(what) && this.#sgt !== null) return this.#sgt.dmaAddress(0);
    const live = this.#mapped.filter((each) => each.live);
    const fit = live.find((each) => each.sizeBytes === sizeBytes && each.dir === dir) ?? live.at(-1);
    const mapped = fit ?? this.#last();
    const isHalf = mapped.live && mapped.sizeBytes === 2 * sizeBytes;
    mapped.live = false;
    return isHalf ? ((mapped.address + sizeBytes) as DmaAddr) : mapped.address;
  }

  #sync(op: string, args: JsonObject): undefined {
    const what = whatOf(args);
    const offset = typeof args['offset'] === 'number' ? args['offset'] : 0;
    const sizeBytes = typeof args['size'] === 'number' ? args['size'] : 64;
    const base = /never mapped/.test(what) ? this.#buffer + 8 * PAGE_SIZE : this.#last().address;
    const sync = op === 'dma_sync_single_for_cpu' ? dmaSyncSingleForCpu : dmaSyncSingleForDevice;
    sync(this.#dev, (base + offset) as DmaAddr, sizeBytes, 'dir' in args ? dirOf(args) : this.#last().dir);
  }

  #alloc(sizeBytes: number): undefined {
    this.#allocation = dmaAllocCoherent(this.#dev, sizeBytes);
    if (this.#allocation === null) throw new Error('no coherent memory');
    const { address, dir } = this.#allocation;
    this.#mapped.push({ address, sizeBytes, dir, live: true });
  }

  /** Of an allocation; without one, of a mapping, which no call of ours could do: its complaint is that of the wrong function. */
  #free(args: JsonObject): undefined {
    const isOther = /address/i.test(this.#notes);
    const allocation = this.#allocation ?? dmaAllocCoherent(this.#dev, PAGE_SIZE);
    if (allocation === null) throw new Error('no coherent memory');
    const sizeBytes = 'size' in args ? sizeOf(args) : allocation.sizeBytes;
    const phys = isOther ? { phys: this.#buffer } : {};
    const address = this.#allocation === null ? { address: this.#last().address } : {};
    dmaFreeCoherent(this.#dev, allocation, { sizeBytes, ...phys, ...address });
  }

  #list(op: string, args: JsonObject): Json | undefined {
    const entries = Number(args['entries']);
    this.#sgt ??= this.#makeList(entries);
    const sgt = this.#sgt;
    const dir = 'dir' in args ? dirOf(args) : (this.#mapped.at(-1)?.dir ?? 'bidirectional');
    if (op === 'dma_map_sg') {
      this.#mapped.push({ address: DMA_MAPPING_ERROR, sizeBytes: 0, dir, live: false });
      return { ret: dmaMapSg(this.#dev, sgt, dir, {}, entries) };
    }
    if (op === 'dma_unmap_sg') dmaUnmapSg(this.#dev, sgt, dir, {}, entries);
    else if (op === 'dma_sync_sg_for_cpu') dmaSyncSgForCpu(this.#dev, sgt, dir, entries);
    else if (op === 'dma_sync_sg_for_device') dmaSyncSgForDevice(this.#dev, sgt, dir, entries);
    else throw new Error(`op ${op} is not known`);
    return undefined;
  }

  /** Entries with room between them; each lies across a boundary, where the case is about one. */
  #makeList(entries: number): SgTable {
    const boundary = this.#boundary();
    const length = numberAfter(this.#notes, /entry length\D*/) ?? PAGE_SIZE;
    const first = boundary === null ? this.#lists : this.#lists + boundary - length / 2;
    const step = Math.max(boundary ?? 0, 2 * PAGE_SIZE * Math.ceil(length / PAGE_SIZE));
    return new SgTable(Array.from({ length: entries }, (_, i) => ({ phys: (first + i * step) as PhysAddr, length })));
  }

  /** Bytes between boundaries that segments must not cross, as a note says: a mask or a size. */
  #boundary(): number | null {
    const value = numberAfter(this.#notes, /boundary[^0-9]*/);
    if (value === null) return null;
    return value % 2 === 1 ? value + 1 : value;
  }

  /** What is mapped next: the buffer, or the place after the last mapping when a note says that they differ. */
  #memory(sizeBytes: number): KernelMemory {
    const phys = this.#buffer;
    if (/vmalloc/.test(this.#notes)) return { kind: 'vmalloc', phys };
    if (/stack/.test(this.#notes)) return { kind: 'stack', phys };
    if (/kernel text/.test(this.#notes)) return { kind: 'text', phys };
    const isBeside = /halves|adjacent|different|neighbou?r|next line|two lines/.test(this.#notes);
    return isBeside ? ((phys + this.#mapped.length * sizeBytes) as PhysAddr) : phys;
  }

  #last(): Mapped {
    const never = { address: Number(this.#buffer) as DmaAddr, sizeBytes: 0, dir: 'from-device' as const, live: false };
    return this.#mapped.at(-1) ?? never;
  }
}

/** What an op says in words; some have no arguments at all. */
function whatOf(args: JsonObject | undefined): string {
  const what = args?.['what'];
  return typeof what === 'string' ? what : '';
}

function sizeOf(args: JsonObject): number {
  return typeof args['size'] === 'number' ? args['size'] : PAGE_SIZE;
}

function dirOf(args: JsonObject): DmaDirection {
  const dir = DIRECTIONS[stringIn(args, 'dir')];
  if (dir === undefined) throw new Error(`no direction: ${stringIn(args, 'dir')}`);
  return dir;
}

/** The number that follows `label` in `text`, decimal or hexadecimal, or `null`. */
function numberAfter(text: string, label: RegExp): number | null {
  const found = new RegExp(`${label.source}(0x[0-9a-f]+|\\d+)`, 'i').exec(text);
  return found === null ? null : Number(found[1]);
}
