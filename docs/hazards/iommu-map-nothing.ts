/** A driver maps 0 bytes, in a guest whose hypervisor wants to hear of everything that is mapped. */
import { Iommu, IommuProt, iova, pfn, physAddr, Simulator } from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const sim = new Simulator({ hazards: 'record' });
  const pages = { alloc: () => pfn(16), free() {} };
  const dmar = new Iommu(sim, { name: 'dmar0', pages, format: 'INTEL_VTD_S2', cachingMode: true });
  dmar.allocDomain({ name: 'guest' }).map(iova(0), physAddr(8 * 4096), nearMiss ? 4096 : 0, IommuProt.read);
  return sim;
}
