/** Where an address space puts what has no fixed address. */
import { PAGE_SIZE } from '../base/addr.ts';
import { ErrnoError } from '../base/errors.ts';
import { alignUp } from '../base/units.ts';
import type { IoasAreas } from './ioas-areas.ts';
import { IOAS_LAST, type IoasRange, type IoasRanges } from './ioas-ranges.ts';

/** First and last page stay free, so that neither address 0 nor the last one is ever handed out. */
const EVERYWHERE: IoasRange = { start: PAGE_SIZE, last: IOAS_LAST - PAGE_SIZE };

/**
 * The lowest place in an allowed range that is neither reserved nor mapped. It is aligned to the length rounded up to a power of two, but
 * to no more than the memory itself is, so that large pages fit both; the offset in a page is that of the memory.
 *
 * @param wanted - `address`: where the memory begins.
 * @throws {ErrnoError} `ENOSPC` there is none (retry after an unmap); `EOVERFLOW` longer than half of all addresses (never retry).
 * @see Linux 6.2 `drivers/iommu/iommufd/io_pagetable.c` iopt_alloc_iova
 * @internal
 */
export function placeAutomatically(
  op: string,
  areas: IoasAreas,
  reserved: IoasRanges,
  allowed: IoasRanges,
  wanted: { readonly sizeBytes: number; readonly address: number },
): number {
  const { sizeBytes, address } = wanted;
  if (sizeBytes > IOAS_LAST / 2) throw new ErrnoError('EOVERFLOW', op, `${sizeBytes} bytes are too many`);
  const inPage = address % PAGE_SIZE;
  const natural = 2 ** Math.ceil(Math.log2(sizeBytes));
  let align = PAGE_SIZE;
  while (align < natural && (address - inPage) % (2 * align) === 0) align *= 2;
  for (const span of allowed.isEmpty ? [EVERYWHERE] : allowed.joined()) {
    let at = place(span.start, align, inPage);
    while (at + sizeBytes - 1 <= span.last) {
      const last = at + sizeBytes - 1;
      const blocker = Math.max(areas.lastOverlap(at, last), reserved.lastOverlap(at, last));
      if (blocker < 0) return at;
      at = place(blocker + 1, align, inPage);
    }
  }
  throw new ErrnoError('ENOSPC', op, `no room for ${sizeBytes} bytes aligned to ${align}`);
}

/** The lowest aligned place plus `inPage` that is not below `from`. */
function place(from: number, align: number, inPage: number): number {
  return alignUp(Math.max(0, from - inPage), align) + inPage;
}
