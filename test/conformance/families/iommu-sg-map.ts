/** Family `iommu-sg-map`: the DMA API behind an IOMMU with strict invalidation, address by address. */
import { iommuFamily } from '../iommu-bench.ts';

export default iommuFamily('iommu-sg-map');
