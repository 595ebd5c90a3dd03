/** What the work of an SMMUv3 costs. */
import type { IommuCosts } from '../iommu/iommu-costs.ts';

/**
 * SMMUv3 of an Arm Morello board with coherent walks, from `dma_map_benchmark` figures: map 0.1 µs for 4 KiB and 0.8 µs for 1 MiB, unmap
 * 0.6 and 21.2 µs, one thread, strict (lore.kernel.org/linux-iommu/20260106162200.2223655-1-smostafa@google.com). Hence a leaf written
 * (0.8 - 0.1) / 255 = 3 ns; unmap fixed 0.52 µs, which is the CMD_SYNC round trip, and 81 ns a leaf, of which 78 for its TLBI. The
 * map figure contains the DMA API's own work and the IOVA allocator's. IOTLB hit: 3 cycles of a 1 GHz SMMU (gem5 v24.0,
 * `src/dev/arm/SMMUv3.py`, main TLB). Walk: a dependent memory read of 60 to 120 ns a level.
 */
export const smmuV3Costs: IommuCosts = {
  iotlbHitNs: 3,
  walkPerLevelNs: 90,
  mapFixedNs: 97,
  mapPerPageNs: 3,
  unmapFixedNs: 0,
  unmapPerPageNs: 3,
  invalidateFixedNs: 519,
  invalidatePerPageNs: 78,
};
