/** A driver gives the device a piece across a boundary that it cannot cross. */
import { armSoc, dmaMapSg, pfnToPhys, physAddr, SgTable, type Simulator } from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const soc = armSoc({ hazards: 'record' });
  const nic = soc.addDevice({ name: 'nic0', coherent: false, segBoundaryBytes: 4096 });
  const pages = pfnToPhys(soc.pages.allocPages({ order: 1, owner: 'driver' }));
  const phys = physAddr(pages + (nearMiss ? 4096 : 2048));
  dmaMapSg(nic, new SgTable([{ phys, length: 4096 }]), 'to-device');
  return soc.sim;
}
