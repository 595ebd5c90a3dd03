/** A driver ends a mapping of pages as one of device memory. */
import {
  armSoc,
  dmaMappingError,
  dmaMapSingle,
  dmaUnmapPage,
  dmaUnmapResource,
  pfnToPhys,
  type Simulator,
} from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const soc = armSoc({ hazards: 'record' });
  const nic = soc.addDevice({ name: 'nic0', coherent: false, iommu: true });
  const buffer = pfnToPhys(soc.pages.allocPages({ order: 0, owner: 'driver' }));
  const address = dmaMapSingle(nic, buffer, 4096, 'to-device');
  if (dmaMappingError(nic, address)) return soc.sim;
  if (nearMiss) dmaUnmapPage(nic, address, 4096, 'to-device');
  else dmaUnmapResource(nic, address, 4096, 'to-device');
  return soc.sim;
}
