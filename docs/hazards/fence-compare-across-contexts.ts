/** A driver asks which of two engines' fences is later. */
import { allocDmaFenceContext, DmaFence, Simulator } from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const sim = new Simulator({ hazards: 'record' });
  const gpu = allocDmaFenceContext(sim, 'gpu0');
  const other = nearMiss ? gpu : allocDmaFenceContext(sim, 'gpu1');
  new DmaFence(sim, gpu, 2).isLater(new DmaFence(sim, other, 1));
  return sim;
}
