/** A driver merges a merged fence with another. */
import { allocDmaFenceContext, DmaFence, DmaFenceArray, dmaFenceUnwrapMerge, Simulator } from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const sim = new Simulator({ hazards: 'record' });
  const gpu = allocDmaFenceContext(sim, 'gpu0');
  const [one, two, three] = [1, 2, 3].map((seqno) => new DmaFence(sim, gpu, seqno)) as [DmaFence, DmaFence, DmaFence];
  const merged = new DmaFenceArray(sim, [one, two]);
  if (nearMiss) dmaFenceUnwrapMerge(sim, [merged, three]);
  else new DmaFenceArray(sim, [merged, three]);
  return sim;
}
