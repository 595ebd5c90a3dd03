/** An importer moves to newer rules, where mapping needs the lock. */
import { armSoc, dmaBufCore, linux62, type Simulator } from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const soc = armSoc({ hazards: 'record' });
  const gpu = soc.addDevice({ name: 'gpu0', coherent: false, iommu: true });
  dmaBufCore(soc.sim).profile = linux62;
  soc.sim.run(function* () {
    const att = yield* soc.systemHeap.alloc(4096, 'frame').attach(gpu);
    if (nearMiss) yield* att.mapUnlocked('to-device');
    else yield* att.map('to-device');
  });
  return soc.sim;
}
