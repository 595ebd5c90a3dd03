/** A driver maps one line for writing over and over. */
import { armSoc, dmaMapSingle, pfnToPhys, physAddr, type Simulator } from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const soc = armSoc({ hazards: 'record' });
  const nic = soc.addDevice({ name: 'nic0', coherent: false, iommu: true });
  const buffer = pfnToPhys(soc.pages.allocPages({ order: 0, owner: 'driver' }));
  for (let i = 0; i < 10; i++) dmaMapSingle(nic, physAddr(buffer + (nearMiss ? 64 * i : 0)), 64, 'from-device');
  return soc.sim;
}
