/** Family `iommu-fault`: what a device reaches through a VT-d unit, and what is reported when it is refused. */

import { type Family, firstDifference, type Mismatch } from '../family.ts';
import { FaultBench } from '../fault-bench.ts';
import type { VectorCase } from '../vector-case.ts';

const family: Family = {
  family: 'iommu-fault',
  run(vector: VectorCase): Mismatch | null {
    const bench = new FaultBench(vector.setup);
    for (const [index, op] of vector.ops.entries()) {
      const difference = firstDifference(`${op.op}.result`, op.result, bench.step(op));
      if (difference !== null) return { op: index, ...difference };
    }
    return null;
  },
};
export default family;
