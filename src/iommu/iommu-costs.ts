/** What an IOMMU's work costs in simulated time. */

/** Times in ns; fractions allowed. */
export interface IommuCosts {
  /** A translation that the IOTLB knows. */
  readonly iotlbHitNs: number;
  /** One descriptor read of a walk; a walk reads one a level. */
  readonly walkPerLevelNs: number;
  /** Each call that maps. */
  readonly mapFixedNs: number;
  /** Each leaf written. */
  readonly mapPerPageNs: number;
  /** Each call that unmaps. */
  readonly unmapFixedNs: number;
  /** Each leaf cleared. */
  readonly unmapPerPageNs: number;
  /** Each invalidation that is waited for (SMMUv3: the CMD_SYNC round trip). */
  readonly invalidateFixedNs: number;
  /** Each leaf invalidated (SMMUv3: one TLBI command). */
  readonly invalidatePerPageNs: number;
}

/** Everything is free: what an IOMMU without a platform has. */
export const freeIommuCosts: IommuCosts = {
  iotlbHitNs: 0,
  walkPerLevelNs: 0,
  mapFixedNs: 0,
  mapPerPageNs: 0,
  unmapFixedNs: 0,
  unmapPerPageNs: 0,
  invalidateFixedNs: 0,
  invalidatePerPageNs: 0,
};
