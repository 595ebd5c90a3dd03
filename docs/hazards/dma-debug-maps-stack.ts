/** A driver maps a variable on its stack. */
import { armSoc, dmaMapSingle, pfnToPhys, type Simulator } from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const soc = armSoc({ hazards: 'record' });
  const nic = soc.addDevice({ name: 'nic0', coherent: false, iommu: true });
  const buffer = pfnToPhys(soc.pages.allocPages({ order: 0, owner: 'driver' }));
  dmaMapSingle(nic, nearMiss ? buffer : { kind: 'stack', phys: buffer, inLinearMap: true }, 64, 'to-device');
  return soc.sim;
}
