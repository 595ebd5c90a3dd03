/**
 * Mapping a scatterlist.
 *
 * @internal
 */
import type { Iova, PhysAddr } from '../base/addr.ts';
import type { IommuDomain } from './iommu-domain.ts';

/** Memory extents in a row of addresses, as {@link IommuDomain.mapSg} takes them. An `SgTable` is one. */
export interface IommuExtents {
  readonly origNents: number;
  physAddress(i: number): PhysAddr;
  /** In bytes. */
  length(i: number): number;
}

/** See {@link IommuDomain.mapSg}. @internal */
export function mapExtents(domain: IommuDomain, iova: Iova, extents: IommuExtents, prot: number): number {
  let done = 0;
  for (let i = 0; i < extents.origNents; ) {
    const phys = extents.physAddress(i);
    let run = extents.length(i++);
    if (run === 0) continue;
    while (i < extents.origNents && extents.physAddress(i) === phys + run) run += extents.length(i++);
    let isMapped = false;
    try {
      domain.map((iova + done) as Iova, phys, run, prot);
      isMapped = true;
    } finally {
      if (!isMapped && done > 0) domain.unmap(iova, done);
    }
    done += run;
  }
  return done;
}
