/** A driver unmaps where nothing was ever mapped. */
import { IommuProt, iova, MIB, pc, physAddr, type Simulator } from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const machine = pc({ hazards: 'record' });
  const domain = machine.iommu?.allocDomain({ name: 'guest' }); // VT-d
  if (domain === undefined) throw new Error('no IOMMU');
  const rights = IommuProt.read + IommuProt.write;
  domain.map(iova(2 * MIB), physAddr(8 * MIB), 4096, rights);
  domain.unmap(iova((nearMiss ? 2 : 1024) * MIB), 4096);
  return machine.sim;
}
