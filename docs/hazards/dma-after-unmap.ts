/** A driver ends a mapping that the device still writes to. */
import { armSoc, dmaMappingError, dmaMapSingle, dmaUnmapSingle, pfnToPhys, type Simulator } from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const soc = armSoc({ hazards: 'record' });
  const nic = soc.addDevice({ name: 'nic0', coherent: true, iommu: true });
  const page = pfnToPhys(soc.pages.allocPages({ order: 0, owner: 'driver' }));
  const address = dmaMapSingle(nic, page, 4096, 'from-device');
  if (dmaMappingError(nic, address)) return soc.sim;
  if (nearMiss) nic.port.write(address, Uint8Array.of(1), 0, 1);
  dmaUnmapSingle(nic, address, 4096, 'from-device');
  if (!nearMiss) nic.port.write(address, Uint8Array.of(1), 0, 1);
  return soc.sim;
}
