/** A driver gives the device a longer piece than it takes. */
import { armSoc, dmaMapSg, pfnToPhys, physAddr, SgTable, type Simulator } from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const soc = armSoc({ hazards: 'record' });
  const nic = soc.addDevice({ name: 'nic0', coherent: false, maxSegmentSizeBytes: 4096 });
  const pages = pfnToPhys(soc.pages.allocPages({ order: 1, owner: 'driver' }));
  const pieces = nearMiss ? [4096, 4096] : [8192];
  const extents = pieces.map((length, i) => ({ phys: physAddr(pages + i * 4096), length }));
  dmaMapSg(nic, new SgTable(extents), 'to-device');
  return soc.sim;
}
