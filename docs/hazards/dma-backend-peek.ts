/** A driver looks whether the IOMMU makes its addresses, to guess whether it has to sync. */
import {
  armSoc,
  dmaMappingError,
  dmaMapSingle,
  dmaNeedSync,
  dmaSyncSingleForDevice,
  pfnToPhys,
  type Simulator,
} from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const soc = armSoc({ hazards: 'record', lints: true });
  const nic = soc.addDevice({ name: 'nic0', coherent: true, iommu: true });
  const page = pfnToPhys(soc.pages.allocPages({ order: 0, owner: 'driver' }));
  const address = dmaMapSingle(nic, page, 4096, 'to-device');
  if (dmaMappingError(nic, address)) return soc.sim;
  const mustSync = nearMiss ? dmaNeedSync(nic, address) : nic.dmaOps.constructor.name !== 'DmaDirect';
  if (mustSync) dmaSyncSingleForDevice(nic, address, 4096, 'to-device');
  return soc.sim;
}
