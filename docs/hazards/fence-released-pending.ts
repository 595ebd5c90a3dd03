/** A driver gives its last reference to a fence back while somebody waits for it. */
import { allocDmaFenceContext, DmaFence, Simulator } from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const sim = new Simulator({ hazards: 'record' });
  const gpu = allocDmaFenceContext(sim, 'gpu0');
  const job = new DmaFence(sim, gpu, 1);
  sim.spawn('app', function* () {
    yield* job;
  });
  sim.spawn('gpu0', function* () {
    yield* sim.delay(100);
    if (nearMiss) job.signal();
    job.put();
  });
  sim.run();
  return sim;
}
