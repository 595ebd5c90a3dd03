/** Family `iommu-cpus`: per-CPU caches of addresses and the depot that CPUs share. */
import { iommuFamily } from '../iommu-bench.ts';

export default iommuFamily('iommu-cpus');
