/** Family `swiotlb`: where bounce buffers lie, when the pool is full, and who sees which bytes when. */
import { type DmaAddr, dmaAddr, hex, type PhysAddr, physAddr } from '../../../src/base/addr.ts';
import type { DmaDirection } from '../../../src/dma-api/direction.ts';
import type { DmaAttrs } from '../../../src/dma-api/dma-attrs.ts';
import {
  dmaMappingError,
  dmaMapSingle,
  dmaSyncSingleForCpu,
  dmaSyncSingleForDevice,
  dmaUnmapSingle,
} from '../../../src/dma-api/dma-single.ts';
import { attrsIn, type DmaBench, directionIn, dmaBench, maskBits, objectIn } from '../dma-bench.ts';
import { type Family, firstDifference, type Mismatch } from '../family.ts';
import {
  addressIn,
  isObject,
  type JsonObject,
  numberIn,
  stringIn,
  type VectorCase,
  type VectorOp,
} from '../vector-case.ts';

/** More bytes than these are recorded as a hash. */
const LONGEST_TEXT = 48;

/** What an id stands for while it is mapped. */
interface Mapping {
  readonly phys: PhysAddr;
  readonly size: number;
  readonly dir: DmaDirection;
  readonly address: DmaAddr;
}

const family: Family = {
  family: 'swiotlb',
  run(vector: VectorCase): Mismatch | null {
    const replay = new Replay(vector.setup);
    for (const [index, op] of vector.ops.entries()) {
      const difference = firstDifference(`${op.op}.result`, op.result, replay.step(op));
      if (difference !== null) return { op: index, ...difference };
    }
    return null;
  },
};
export default family;

class Replay {
  readonly #bench: DmaBench;
  readonly #everyMap: JsonObject | null;
  readonly #mappings = new Map<number, Mapping>();

  constructor(setup: JsonObject) {
    this.#bench = dmaBench(setup);
    this.#bench.device.setStreamingDmaMask(maskBits(stringIn(objectIn(setup, 'device'), 'dma_mask')));
    this.#everyMap = isObject(setup['every_map']) ? setup['every_map'] : null;
  }

  step({ op, args }: VectorOp): JsonObject | undefined {
    if (op === 'dma_map_single') return this.#map(args);
    const mapping = this.#mappings.get(numberIn(args, 'id'));
    if (mapping === undefined) throw new Error(`${op} of ${numberIn(args, 'id')}, which is not mapped`);
    const { device } = this.#bench;
    switch (op) {
      case 'dma_unmap_single':
        return this.#unmap(numberIn(args, 'id'), mapping, attrsIn(args));
      case 'cpu_write':
        this.#cpuWrite(physAddr(mapping.phys + numberIn(args, 'offset')), bytesOf(stringIn(args, 'bytes')));
        return this.#seen(mapping);
      case 'dev_write': {
        const bytes = bytesOf(stringIn(args, 'bytes'));
        device.port.write(dmaAddr(mapping.address + numberIn(args, 'offset')), bytes, 0, bytes.length);
        return this.#seen(mapping);
      }
      case 'dma_sync_single_for_cpu':
      case 'dma_sync_single_for_device': {
        const before = this.#warnings();
        const sync = op === 'dma_sync_single_for_cpu' ? dmaSyncSingleForCpu : dmaSyncSingleForDevice;
        sync(device, dmaAddr(mapping.address + numberIn(args, 'offset')), numberIn(args, 'size'), mapping.dir);
        return { warns: this.#warnings() - before, ...this.#seen(mapping) };
      }
      default:
        throw new Error(`unknown operation ${op}`);
    }
  }

  #map(args: JsonObject): JsonObject {
    const phys = physAddr(addressIn(args, 'phys'));
    const size = numberIn(args, 'size');
    const data = dataIn(args, size);
    if (data !== null) this.#cpuWrite(phys, data);
    const how = this.#everyMap ?? args;
    const dir = directionIn(how);
    const address = dmaMapSingle(this.#bench.device, phys, size, dir, attrsIn(how));
    if (dmaMappingError(this.#bench.device, address)) return { ret: 'DMA_MAPPING_ERROR' };
    const mapping = { phys, size, dir, address };
    this.#mappings.set(numberIn(args, 'id'), mapping);
    return { dma_addr: hex(address), ...this.#seen(mapping) };
  }

  #unmap(id: number, mapping: Mapping, attrs: DmaAttrs): JsonObject | undefined {
    this.#mappings.delete(id);
    dmaUnmapSingle(this.#bench.device, mapping.address, mapping.size, mapping.dir, attrs);
    return this.#everyMap === null ? { cpu: this.#cpuSees(mapping) } : undefined;
  }

  #cpuWrite(phys: PhysAddr, bytes: Uint8Array): void {
    const by = { name: 'test', kind: 'cpu', via: 'linear map', beforeRead: '', afterWrite: '' } as const;
    this.#bench.coherency.cpuWrite(phys, bytes, 0, bytes.length, 'cached', by);
  }

  /** What both sides see; cases that only look for places did not record it. */
  #seen(mapping: Mapping): JsonObject {
    if (this.#everyMap !== null) return {};
    const dev = new Uint8Array(mapping.size);
    this.#bench.device.port.peek(mapping.address, dev, 0, mapping.size);
    return { cpu: this.#cpuSees(mapping), dev: textOf(dev) };
  }

  #cpuSees({ phys, size }: Mapping): string {
    const cpu = new Uint8Array(size);
    this.#bench.coherency.peek(phys, cpu, 0, size, 'cached');
    return textOf(cpu);
  }

  #warnings(): number {
    return this.#bench.swiotlb?.warnings ?? 0;
  }
}

/** The bytes that the original holds before it is mapped: written out, or by rule. */
function dataIn(args: JsonObject, size: number): Uint8Array | null {
  if (args['data'] !== undefined) return bytesOf(stringIn(args, 'data'));
  if (args['data_rule'] === undefined) return null;
  const x = numberIn(objectIn(args, 'data_rule'), 'x');
  return Uint8Array.from({ length: size }, (_, j) => (x + j * 7 + (j >> 8)) & 255);
}

function bytesOf(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text, 'hex'));
}

function textOf(bytes: Uint8Array): string {
  return bytes.length <= LONGEST_TEXT ? Buffer.from(bytes).toString('hex') : `fnv:${fnv64(bytes)}`;
}

/** FNV-1a, 64 bits, in halves: the prime is 2^40 + 0x1b3. */
function fnv64(bytes: Uint8Array): string {
  let high = 0xcbf29ce4;
  let low = 0x84222325;
  for (const byte of bytes) {
    low = (low ^ byte) >>> 0;
    const product = low * 0x1b3;
    high = (Math.imul(high, 0x1b3) + Math.floor(product / 2 ** 32) + Math.imul(low, 0x100)) >>> 0;
    low = product % 2 ** 32;
  }
  return high.toString(16).padStart(8, '0') + low.toString(16).padStart(8, '0');
}
