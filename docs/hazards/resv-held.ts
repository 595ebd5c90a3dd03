/** An importer attaches under the reservation lock, which the exporter may want. */
import { armSoc, HazardError, type Simulator } from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const soc = armSoc({ hazards: 'throw' }); // going on would wait for itself for ever
  const gpu = soc.addDevice({ name: 'gpu0', coherent: false, iommu: true });
  soc.sim.run(function* () {
    const frame = soc.systemHeap.alloc(4096, 'frame');
    try {
      if (nearMiss) yield* frame.attach(gpu);
      else yield* frame.resv.withLock(() => frame.attach(gpu));
    } catch (error) {
      if (!(error instanceof HazardError)) throw error;
    }
  });
  return soc.sim;
}
