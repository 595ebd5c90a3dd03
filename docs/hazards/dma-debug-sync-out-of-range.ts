/** A driver syncs more than it mapped. */
import {
  armSoc,
  dmaMappingError,
  dmaMapSingle,
  dmaSyncSingleForCpu,
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
  dmaSyncSingleForCpu(nic, address, nearMiss ? 1500 : 1536, 'from-device');
  return soc.sim;
}
