/**
 * Calls on an IOMMU domain that the kernel's driver does not check, and that corrupt memory there: found before anything has changed,
 * and reported as hazards. Formats whose tables check by themselves (the io-pgtable library) never come here.
 *
 * @internal
 */
import type { Iova } from '../base/addr.ts';
import type { IommuMisuseFacts } from '../base/hazards.ts';
import { UNMAP_INSIDE_LEAF, UNMAP_NO_TABLE } from './io-pgtable.ts';
import type { IommuDomain } from './iommu-domain.ts';
import type { PageSizes } from './page-sizes.ts';

/** Reports a mapping over a superpage. @returns true when the policy is to go on; the call must not be made. @internal */
export function hasUnsafeMap(domain: IommuDomain, iova: Iova, sizeBytes: number): boolean {
  if (domain.pgtable.hasLargerLeaf?.(iova, sizeBytes) !== true) return false;
  report(domain, iova, sizeBytes, {
    hazard: 'iommu.map-over-superpage',
    what: 'a superpage is mapped there, which the driver would take for a table and write into',
    remedy: 'unmap the superpage first',
  });
  return true;
}

/** Reports a mapping of nothing in caching mode. @internal */
export function reportMapNothing(domain: IommuDomain, iova: Iova): void {
  report(domain, iova, 0, {
    hazard: 'iommu.map-nothing',
    what: 'nothing is mapped, and the driver stops the kernel when it invalidates nothing in caching mode',
    remedy: 'do not map 0 bytes',
  });
}

/**
 * Reports an unmapping that would clear more than it should. Looks at each step that the caller's loop will make.
 *
 * @returns true when the policy is to go on; the call must not be made.
 * @internal
 */
export function hasUnsafeUnmap(domain: IommuDomain, sizes: PageSizes, iova: Iova, sizeBytes: number): boolean {
  const { pgtable } = domain;
  for (let done = 0; done < sizeBytes; ) {
    sizes.pick(iova + done, iova + done, sizeBytes - done);
    const at = (iova + done) as Iova;
    const span = pgtable.unmapSpan?.(at, sizes.pgsize * sizes.count) ?? 0;
    if (span === UNMAP_NO_TABLE) {
      report(domain, at, sizeBytes - done, {
        hazard: 'iommu.unmap-without-table',
        what: 'nothing was ever mapped near there, and the driver would clear up to 512 GiB from there on',
        remedy: 'unmap only what was mapped',
      });
      return true;
    }
    if (span === UNMAP_INSIDE_LEAF) {
      report(domain, at, sizeBytes - done, {
        hazard: 'iommu.unmap-inside-superpage',
        what: 'a superpage lies only in part in the range, and the driver would take it for a table and clear it',
        remedy: 'unmap from the first byte of the superpage, or map with pages of the size to be unmapped',
      });
      return true;
    }
    if (span === 0) return false;
    done += span;
  }
  return false;
}

function report(
  domain: IommuDomain,
  iova: Iova,
  sizeBytes: number,
  facts: Pick<IommuMisuseFacts, 'hazard' | 'what' | 'remedy'>,
): void {
  const { sim } = domain.iommu;
  sim.report({ ...facts, domain: domain.name, iova, sizeBytes, timeNs: sim.now });
}
