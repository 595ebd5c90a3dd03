/** A driver maps the registers of another device as if they were memory. */
import { armSoc, dmaMapPage, dmaMapResource, physAddr, type Simulator } from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const soc = armSoc({ hazards: 'record' });
  const nic = soc.addDevice({ name: 'nic0', coherent: false, iommu: true });
  const doorbell = physAddr(0x2000_0000); // no RAM there
  if (nearMiss) dmaMapResource(nic, doorbell, 4096, 'to-device');
  else dmaMapPage(nic, doorbell, 4096, 'to-device');
  return soc.sim;
}
