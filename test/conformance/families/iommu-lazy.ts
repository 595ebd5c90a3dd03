/** Family `iommu-lazy`: lazy invalidation: the flush queue, its timer, and the group's type. */
import { iommuFamily } from '../iommu-bench.ts';

export default iommuFamily('iommu-lazy');
