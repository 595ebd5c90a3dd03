/** A driver maps memory that is contiguous only for the CPU. */
import { armSoc, dmaMapSingle, pfnToPhys, type Simulator } from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const soc = armSoc({ hazards: 'record' });
  const nic = soc.addDevice({ name: 'nic0', coherent: false, iommu: true });
  const buffer = pfnToPhys(soc.pages.allocPages({ order: 0, owner: 'driver' }));
  dmaMapSingle(nic, nearMiss ? buffer : { kind: 'vmalloc', phys: buffer }, 64, 'to-device');
  return soc.sim;
}
