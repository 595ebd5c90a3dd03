/** A driver signals a fence after it gave its reference back. */
import { allocDmaFenceContext, DmaFence, Simulator } from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const sim = new Simulator({ hazards: 'record' });
  const gpu = allocDmaFenceContext(sim, 'gpu0');
  const job = new DmaFence(sim, gpu, 1);
  if (nearMiss) job.signal();
  job.put();
  if (!nearMiss) job.signal();
  return sim;
}
