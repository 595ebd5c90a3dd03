/** A driver hands to the device what the device only writes, as if it read it. */
import {
  armSoc,
  dmaMappingError,
  dmaMapSingle,
  dmaSyncSingleForDevice,
  pfnToPhys,
  type Simulator,
} from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const soc = armSoc({ hazards: 'record' });
  const nic = soc.addDevice({ name: 'nic0', coherent: false, iommu: true });
  const buffer = pfnToPhys(soc.pages.allocPages({ order: 0, owner: 'driver' }));
  const address = dmaMapSingle(nic, buffer, 1500, 'from-device');
  if (dmaMappingError(nic, address)) return soc.sim;
  dmaSyncSingleForDevice(nic, address, 1500, nearMiss ? 'from-device' : 'to-device');
  return soc.sim;
}
