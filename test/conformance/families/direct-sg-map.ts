/** Family `direct-sg-map`: addresses without an IOMMU, physical, shifted by the bus, or of a bounce buffer. */
import { type DmaAddr, dmaAddr, hex, physAddr } from '../../../src/base/addr.ts';
import type { DmaDirection } from '../../../src/dma-api/direction.ts';
import type { DmaAttrs } from '../../../src/dma-api/dma-attrs.ts';
import { dmaMapSgtable, dmaUnmapSgtable } from '../../../src/dma-api/dma-map.ts';
import { dmaNeedSync } from '../../../src/dma-api/dma-query.ts';
import {
  dmaMapPage,
  dmaMappingError,
  dmaMapResource,
  dmaUnmapPage,
  dmaUnmapResource,
} from '../../../src/dma-api/dma-single.ts';
import { type Extent, SgTable } from '../../../src/dma-api/sg-table.ts';
import { attrsIn, type DmaBench, directionIn, dmaBench, maskBits, objectIn, returned } from '../dma-bench.ts';
import { type Family, firstDifference, type Mismatch } from '../family.ts';
import {
  addressIn,
  arrayIn,
  type Json,
  type JsonObject,
  numberIn,
  parseAddress,
  stringIn,
  type VectorCase,
  type VectorOp,
} from '../vector-case.ts';

/** What an id stands for while it is mapped. */
interface Mapping {
  readonly dir: DmaDirection;
  readonly sgt?: SgTable;
  readonly address: DmaAddr;
  readonly size: number;
}

const family: Family = {
  family: 'direct-sg-map',
  run(vector: VectorCase): Mismatch | null {
    const replay = new Replay(vector.setup);
    const mask = objectIn(vector.setup, 'dma_set_mask');
    const asked = firstDifference('dma_set_mask.ret', mask['ret'], replay.setMask(stringIn(mask, 'mask')));
    if (asked !== null) return { op: null, ...asked };
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
  readonly #mappings = new Map<number, Mapping>();

  constructor(setup: JsonObject) {
    this.#bench = dmaBench(setup);
  }

  setMask(mask: string): Json {
    return returned(() => this.#bench.device.setStreamingDmaMask(maskBits(mask)));
  }

  step(op: VectorOp): JsonObject | undefined {
    const { device } = this.#bench;
    const { args } = op;
    switch (op.op) {
      case 'dma_map_sg':
      case 'dma_map_sgtable':
        return this.#mapSg(op);
      case 'dma_map_page': {
        const phys = physAddr(addressIn(args, 'page') + numberIn(args, 'offset'));
        const address = dmaMapPage(device, phys, numberIn(args, 'size'), directionIn(args), attrsIn(args));
        return this.#mapped(args, address);
      }
      case 'dma_map_resource': {
        const phys = physAddr(addressIn(args, 'phys'));
        return this.#mapped(args, dmaMapResource(device, phys, numberIn(args, 'size'), directionIn(args)));
      }
      case 'dma_need_sync':
        return { ret: dmaNeedSync(device, dmaAddr(addressIn(args, 'dma_addr'))) };
      case 'dma_unmap_sg':
      case 'dma_unmap_page':
      case 'dma_unmap_resource':
        return this.#unmap(op.op, numberIn(args, 'id'), attrsIn(args));
      default:
        throw new Error(`unknown operation ${op.op}`);
    }
  }

  #mapSg({ op, args }: VectorOp): JsonObject {
    const sgt = new SgTable(arrayIn(args, 'sg').map(extentOf));
    const dir = directionIn(args);
    const ret = returned(() => dmaMapSgtable(this.#bench.device, sgt, dir, attrsIn(args)));
    if (ret !== 0) return { ret: op === 'dma_map_sg' ? 0 : ret };
    this.#mappings.set(numberIn(args, 'id'), { dir, sgt, address: sgt.dmaAddress(0), size: sgt.sizeBytes });
    const segs = sgt.segments().map(({ address, length }) => [hex(address), length]);
    return op === 'dma_map_sg' ? { ret: sgt.nents, segs } : { ret, nents: sgt.nents, segs };
  }

  #mapped(args: JsonObject, address: DmaAddr): JsonObject {
    if (dmaMappingError(this.#bench.device, address)) return { ret: 'DMA_MAPPING_ERROR' };
    this.#mappings.set(numberIn(args, 'id'), { dir: directionIn(args), address, size: numberIn(args, 'size') });
    return { dma_addr: hex(address) };
  }

  #unmap(op: string, id: number, attrs: DmaAttrs): undefined {
    const { device } = this.#bench;
    const mapping = this.#mappings.get(id);
    if (mapping === undefined) throw new Error(`${op} of ${id}, which is not mapped`);
    this.#mappings.delete(id);
    const { dir, sgt, address, size } = mapping;
    if (sgt !== undefined) dmaUnmapSgtable(device, sgt, dir, attrs);
    else if (op === 'dma_unmap_page') dmaUnmapPage(device, address, size, dir, attrs);
    else dmaUnmapResource(device, address, size, dir, attrs);
    return undefined;
  }
}

function extentOf(entry: Json): Extent {
  const [page, offset, length] = Array.isArray(entry) ? entry : [];
  if (typeof page !== 'string' || typeof offset !== 'number' || typeof length !== 'number') {
    throw new Error(`no [page, offset, length]: ${JSON.stringify(entry)}`);
  }
  return { phys: physAddr(parseAddress(page) + offset), length };
}
