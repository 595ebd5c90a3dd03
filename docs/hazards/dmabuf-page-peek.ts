/** An importer looks for the pages behind a table that a dma-buf gave it. */
import { armSoc, type Simulator } from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const soc = armSoc({ hazards: 'record' });
  const gpu = soc.addDevice({ name: 'gpu0', coherent: false, iommu: true });
  soc.sim.run(function* () {
    const att = yield* soc.systemHeap.alloc(4096, 'frame').attach(gpu);
    const sgt = yield* att.mapUnlocked('to-device');
    if (nearMiss) sgt.dmaAddress(0);
    else sgt.physAddress(0);
  });
  return soc.sim;
}
