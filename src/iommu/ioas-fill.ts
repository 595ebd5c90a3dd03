/** Putting an area into a page table and taking it out again. */
import { type Iova, PAGE_SIZE, type PhysAddr } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import type { IoasArea } from './ioas-areas.ts';
import type { PhysRun } from './ioas-backing.ts';
import type { IoasDomain } from './ioas-domain.ts';

/** First page of `area` in its pages, and how many. @internal */
export function pagesOf(area: IoasArea, start = area.iova, last = area.last): readonly [first: number, count: number] {
  const from = area.startByte + start - area.iova;
  const to = area.startByte + last - area.iova;
  const first = Math.floor(from / PAGE_SIZE);
  return [first, Math.floor(to / PAGE_SIZE) - first + 1];
}

/**
 * Pins the pages of `area` and maps them in `domain`, in runs as long as memory allows; a revoked buffer gives an empty area.
 *
 * @param hugePages - false: page by page.
 * @throws {ErrnoError} of the backing, the account or the page table; nothing is pinned or mapped then.
 * @internal
 */
export function fillArea(area: IoasArea, domain: IoasDomain, hugePages: boolean): void {
  const { pages } = area;
  if (pages.isRevoked) return;
  const [first, count] = pagesOf(area);
  pages.pin(first, count);
  const run: PhysRun = { phys: 0 as PhysAddr, sizeBytes: 0 };
  let done = 0;
  try {
    while (done < area.sizeBytes) {
      const at = area.startByte + done;
      const left = area.sizeBytes - done;
      pages.run(at, hugePages ? left : Math.min(left, PAGE_SIZE - (at % PAGE_SIZE)), run);
      domain.map((area.iova + done) as Iova, run.phys, run.sizeBytes, area.prot);
      done += run.sizeBytes;
    }
  } catch (error) {
    if (done > 0) domain.unmap(area.iova as Iova, done);
    pages.unpin(first, count);
    throw error;
  }
}

/** Ends {@link fillArea}: no device reaches the pages when they are unpinned. @internal */
export function unfillArea(area: IoasArea, domain: IoasDomain): void {
  if (area.pages.isRevoked) return;
  const unmapped = domain.unmap(area.iova as Iova, area.sizeBytes);
  assert(unmapped === area.sizeBytes, 'iopt_area_unfill_domain: %s of %s bytes were mapped', unmapped, area.sizeBytes);
  area.pages.unpin(...pagesOf(area));
}
