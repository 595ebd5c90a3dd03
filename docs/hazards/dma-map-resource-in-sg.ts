/** An exporter puts what dmaMapResource answered into a table. */
import {
  armSoc,
  dmaMappingError,
  dmaMapResource,
  dmaMapSgtable,
  pfnToPhys,
  physAddr,
  SgTable,
  type Simulator,
} from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const soc = armSoc({ hazards: 'record', lints: true });
  const nic = soc.addDevice({ name: 'nic0', coherent: true, iommu: true });
  const bar = dmaMapResource(nic, physAddr(0x2000_0000), 4096, 'bidirectional');
  if (dmaMappingError(nic, bar)) return soc.sim;
  const page = pfnToPhys(soc.pages.allocPages({ order: 0, owner: 'driver' }));
  const sgt = new SgTable([{ phys: nearMiss ? page : physAddr(bar), length: 4096 }]);
  dmaMapSgtable(nic, sgt, 'bidirectional');
  return soc.sim;
}
