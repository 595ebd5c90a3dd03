/** A driver maps RAM as if it were the registers of a device. */
import { armSoc, dmaMapPage, dmaMapResource, pfnToPhys, type Simulator } from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const soc = armSoc({ hazards: 'record' });
  const nic = soc.addDevice({ name: 'nic0', coherent: false, iommu: true });
  const buffer = pfnToPhys(soc.pages.allocPages({ order: 0, owner: 'driver' }));
  if (nearMiss) dmaMapPage(nic, buffer, 4096, 'to-device');
  else dmaMapResource(nic, buffer, 4096, 'to-device');
  return soc.sim;
}
