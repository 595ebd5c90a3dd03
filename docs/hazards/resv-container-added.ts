/** A driver adds a merged fence to a reservation. */
import {
  allocDmaFenceContext,
  DmaFence,
  DmaFenceArray,
  DmaResv,
  DmaResvUsage,
  dmaFenceUnwrap,
  Simulator,
} from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const sim = new Simulator({ hazards: 'record' });
  const gpu = allocDmaFenceContext(sim, 'gpu0');
  const resv = new DmaResv(sim, 'frame');
  const merged = new DmaFenceArray(sim, [new DmaFence(sim, gpu, 1), new DmaFence(sim, gpu, 2)]);
  sim.run(() =>
    resv.withLock(() => {
      resv.reserveFences(2);
      const fences = nearMiss ? [...dmaFenceUnwrap(merged)] : [merged];
      for (const fence of fences) resv.addFence(fence, DmaResvUsage.write);
    }),
  );
  return sim;
}
