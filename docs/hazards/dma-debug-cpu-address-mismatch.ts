/** A driver frees coherent memory with the CPU address of something else. */
import { armSoc, dmaAllocCoherent, dmaFreeCoherent, pfnToPhys, type Simulator } from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const soc = armSoc({ hazards: 'record' });
  const nic = soc.addDevice({ name: 'nic0', coherent: false, iommu: true });
  const buffer = pfnToPhys(soc.pages.allocPages({ order: 0, owner: 'driver' }));
  const ring = dmaAllocCoherent(nic, 4096);
  if (ring === null) throw new Error('no memory');
  dmaFreeCoherent(nic, ring, nearMiss ? {} : { phys: buffer });
  return soc.sim;
}
