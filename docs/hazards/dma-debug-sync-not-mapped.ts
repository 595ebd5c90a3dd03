/** A driver syncs a buffer after it has ended its mapping. */
import {
  armSoc,
  dmaMappingError,
  dmaMapSingle,
  dmaSyncSingleForCpu,
  dmaUnmapSingle,
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
  if (nearMiss) dmaSyncSingleForCpu(nic, address, 1500, 'from-device');
  dmaUnmapSingle(nic, address, 1500, 'from-device');
  if (!nearMiss) dmaSyncSingleForCpu(nic, address, 1500, 'from-device');
  return soc.sim;
}
