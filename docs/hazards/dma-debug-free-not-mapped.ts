/** A driver ends a mapping twice. */
import { armSoc, dmaMappingError, dmaMapSingle, dmaUnmapSingle, pfnToPhys, type Simulator } from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const soc = armSoc({ hazards: 'record' });
  const nic = soc.addDevice({ name: 'nic0', coherent: false, iommu: true });
  const buffer = pfnToPhys(soc.pages.allocPages({ order: 0, owner: 'driver' }));
  const address = dmaMapSingle(nic, buffer, 1500, 'to-device');
  if (dmaMappingError(nic, address)) return soc.sim;
  dmaUnmapSingle(nic, address, 1500, 'to-device');
  if (!nearMiss) dmaUnmapSingle(nic, address, 1500, 'to-device');
  return soc.sim;
}
