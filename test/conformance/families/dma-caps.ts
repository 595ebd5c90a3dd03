/** Family `dma-caps`: which masks a device may set, and what it is told about its DMA under each. */
import { hex } from '../../../src/base/addr.ts';
import type { Device } from '../../../src/dma-api/device.ts';
import {
  dmaAddressingLimited,
  dmaCanMmap,
  dmaGetCacheAlignment,
  dmaGetMask,
  dmaGetMergeBoundary,
  dmaGetRequiredMask,
  dmaMaxMappingSize,
  dmaOptMappingSize,
} from '../../../src/dma-api/dma-query.ts';
import { dmaBench, maskBits, maskText, returned } from '../dma-bench.ts';
import { type Family, firstDifference, type Mismatch } from '../family.ts';
import { type JsonObject, stringIn, type VectorCase, type VectorOp } from '../vector-case.ts';

const family: Family = {
  family: 'dma-caps',
  run(vector: VectorCase): Mismatch | null {
    const { device } = dmaBench(vector.setup);
    for (const [index, op] of vector.ops.entries()) {
      const difference = firstDifference(`${op.op}.result`, op.result, step(device, op));
      if (difference !== null) return { op: index, ...difference };
    }
    return null;
  },
};
export default family;

function step(device: Device, { op, args }: VectorOp): JsonObject {
  switch (op) {
    case 'dma_set_mask':
      return { ret: returned(() => device.setStreamingDmaMask(maskBits(stringIn(args, 'mask')))) };
    case 'dma_set_coherent_mask':
      return { ret: returned(() => device.setCoherentDmaMask(maskBits(stringIn(args, 'mask')))) };
    case 'dma_query':
      return {
        dma_get_mask: maskText(dmaGetMask(device)),
        dma_get_required_mask: maskText(dmaGetRequiredMask(device)),
        dma_max_mapping_size: sizeText(dmaMaxMappingSize(device)),
        dma_opt_mapping_size: sizeText(dmaOptMappingSize(device)),
        dma_addressing_limited: dmaAddressingLimited(device),
        dma_can_mmap: dmaCanMmap(device),
        dma_get_merge_boundary: hex(dmaGetMergeBoundary(device)),
        dma_get_cache_alignment: dmaGetCacheAlignment(device),
      };
    default:
      throw new Error(`unknown operation ${op}`);
  }
}

/** No limit is the largest size. */
function sizeText(bytes: number): string {
  return bytes === Number.POSITIVE_INFINITY ? maskText(64) : hex(bytes);
}
