/** What the work of an Intel VT-d unit costs. */
import type { IommuCosts } from '../iommu/iommu-costs.ts';

/**
 * VT-d at 3.1 GHz with coherent walks, from "rIOMMU: Efficient IOMMU for I/O Devices that Employ Ring Buffers", ASPLOS'15, table 1
 * (cs.technion.ac.il/~dan/papers/riommu-asplos-2015.pdf): a strict unmap spends 2,127 cycles on the invalidation of the IOTLB, waited
 * for, hence 690 ns. An access that misses the IOTLB takes 330 ns longer (Neugebauer et al., "Understanding PCIe performance for
 * end host networking", SIGCOMM'18; from memory of the paper), hence 82 ns for each of four levels. The IOTLB hit and the writing of
 * leaves are not in these figures: those of the SMMUv3 are taken, which is an assumption.
 */
export const vtdCosts: IommuCosts = {
  iotlbHitNs: 3,
  walkPerLevelNs: 82,
  mapFixedNs: 97,
  mapPerPageNs: 3,
  unmapFixedNs: 0,
  unmapPerPageNs: 3,
  invalidateFixedNs: 690,
  invalidatePerPageNs: 0,
};
