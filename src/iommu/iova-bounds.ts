/**
 * How long a free run is at most that begins at a multiple of a power of two: one bound for each power. They may be too high, never too low.
 *
 * @internal
 */

/** Powers of two told apart: alignments of 1 to 2^20 pages, 4 GiB; what is aligned more widely uses the last. @internal */
export const ORDERS = 21;
const SIZES = Float64Array.from({ length: ORDERS }, (_, order) => 2 ** order);

/** The bound that tells of runs aligned to `align` pages. @internal */
export function orderOf(align: number): number {
  return align < 2 ** (ORDERS - 1) ? 31 - Math.clz32(align) : ORDERS - 1;
}

/** Pages of the run from `first` to `last` that are left when it must begin at a multiple of 2^`order`; below 1: none. @internal */
export function alignedRun(first: number, last: number, order: number): number {
  const size = SIZES[order] as number;
  const over = first % size;
  return last + 1 - (over === 0 ? first : first - over + size);
}

/** Raises `bounds` so that they allow for the free run from `first` to `last`. @internal */
export function raiseBounds(bounds: Float64Array, first: number, last: number): void {
  for (let order = 0; order < ORDERS; order++) {
    const run = alignedRun(first, last, order);
    if (run <= 0) return;
    if ((bounds[order] as number) < run) bounds[order] = run;
  }
}
