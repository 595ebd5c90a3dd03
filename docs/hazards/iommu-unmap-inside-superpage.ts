/** A driver unmaps 4 KiB of a page of 2 MiB. */
import { IommuProt, iova, MIB, pc, physAddr, type Simulator } from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const machine = pc({ hazards: 'record' });
  const domain = machine.iommu?.allocDomain({ name: 'guest' }); // VT-d
  if (domain === undefined) throw new Error('no IOMMU');
  const rights = IommuProt.read + IommuProt.write;
  domain.map(iova(2 * MIB), physAddr(8 * MIB), 2 * MIB, rights);
  domain.unmap(iova(2 * MIB + (nearMiss ? 0 : 4096)), 4096);
  return machine.sim;
}
