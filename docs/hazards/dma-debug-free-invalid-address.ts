/** A driver ends a mapping that failed. */
import { armSoc, dmaMappingError, dmaMapSingle, dmaUnmapSingle, pfnToPhys, type Simulator } from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const soc = armSoc({ hazards: 'record' });
  // It reaches 256 MiB, and all RAM lies above.
  const nic = soc.addDevice({ name: 'nic0', coherent: false, dmaMaskBits: 28 });
  const buffer = pfnToPhys(soc.pages.allocPages({ order: 0, owner: 'driver' }));
  const address = dmaMapSingle(nic, buffer, 1500, 'to-device');
  if (!dmaMappingError(nic, address) || !nearMiss) dmaUnmapSingle(nic, address, 1500, 'to-device');
  return soc.sim;
}
