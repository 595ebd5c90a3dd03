/** A driver ends a list with another count than it mapped. */
import { armSoc, dmaMapSg, dmaUnmapSg, pfnToPhys, SgTable, type Simulator } from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const soc = armSoc({ hazards: 'record' });
  const nic = soc.addDevice({ name: 'nic0', coherent: false });
  const frames = [1, 2, 3].map(() => soc.pages.allocPages({ order: 0, owner: 'driver' }));
  const sgt = new SgTable(frames.map((frame) => ({ phys: pfnToPhys(frame), length: 4096 })));
  dmaMapSg(nic, sgt, 'to-device');
  dmaUnmapSg(nic, sgt, 'to-device', {}, nearMiss ? 3 : 2);
  return soc.sim;
}
