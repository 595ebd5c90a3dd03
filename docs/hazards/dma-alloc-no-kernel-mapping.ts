/** A driver touches memory that it asked to have no kernel mapping. */
import { armSoc, dmaAllocAttrs, type Simulator } from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const soc = armSoc({ hazards: 'record' });
  const nic = soc.addDevice({ name: 'nic0', coherent: false, iommu: true });
  const memory = dmaAllocAttrs(nic, 4096, { noKernelMapping: !nearMiss });
  memory?.write(0, Uint8Array.of(1));
  return soc.sim;
}
