/** A driver maps over what a page of 2 MiB maps already. */
import { ErrnoError, IommuProt, iova, MIB, pc, physAddr, type Simulator } from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const machine = pc({ hazards: 'record' });
  const domain = machine.iommu?.allocDomain({ name: 'guest' }); // VT-d
  if (domain === undefined) throw new Error('no IOMMU');
  const rights = IommuProt.read + IommuProt.write;
  domain.map(iova(2 * MIB), physAddr(8 * MIB), 2 * MIB, rights);
  try {
    domain.map(iova((nearMiss ? 4 : 2) * MIB), physAddr(16 * MIB), 4096, rights);
  } catch (error) {
    if (!(error instanceof ErrnoError)) throw error; // EEXIST
  }
  return machine.sim;
}
