/** Two descriptors of 32 bytes share a cache line, and the device writes both. */
import { armSoc, dmaMapSingle, pfnToPhys, physAddr, type Simulator } from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const soc = armSoc({ hazards: 'record' });
  const nic = soc.addDevice({ name: 'nic0', coherent: false, iommu: true });
  const buffer = pfnToPhys(soc.pages.allocPages({ order: 0, owner: 'driver' }));
  dmaMapSingle(nic, buffer, 32, 'from-device');
  dmaMapSingle(nic, physAddr(buffer + (nearMiss ? 64 : 32)), 32, 'from-device');
  return soc.sim;
}
