/** Checks of an access as a whole, before it begins, and its pieces of contiguous real memory. */
import { hex, PAGE_SIZE, type PhysAddr } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import { ErrnoError } from '../base/errors.ts';
import type { PhysMemory } from '../mem/phys-memory.ts';

/**
 * Bytes from `phys` on, at most `left`, that lie in one piece of real memory: a page at a time in a remap window.
 *
 * @throws {ErrnoError} `EFAULT` `phys` lies in no region.
 * @internal
 */
export function contiguousRun(memory: PhysMemory, phys: number, left: number): number {
  const region = memory.regionAt(phys as PhysAddr);
  if (region === undefined) throw new ErrnoError('EFAULT', 'memory access', `${hex(phys)} lies in no region`);
  if (region.resolve === undefined) return Math.min(left, region.end - phys);
  return Math.min(left, PAGE_SIZE - (phys % PAGE_SIZE));
}

/**
 * Checks that [phys, phys + length) is memory and that `bytes`, if any, has room for `length` from `offset`.
 *
 * @throws {InvariantError} a length or offset that does not fit.
 * @throws {ErrnoError} `EFAULT` a byte outside any region, or not mapped in its window.
 * @internal
 */
export function checkRange(
  memory: PhysMemory,
  op: string,
  phys: PhysAddr,
  bytes: Uint8Array | null,
  offset: number,
  length: number,
): void {
  assert(Number.isSafeInteger(length) && length >= 0, '%s: length %s is no whole number >= 0', op, length);
  assert(
    bytes === null || (Number.isInteger(offset) && offset >= 0 && length <= bytes.length - offset),
    '%s: %s bytes from offset %s do not fit an array of %s',
    op,
    length,
    offset,
    bytes?.length,
  );
  for (let done = 0; done < length; ) {
    const step = contiguousRun(memory, phys + done, length - done);
    memory.resolve((phys + done) as PhysAddr);
    done += step;
  }
}

/** {@link checkRange} for bytes to be written: they may be missing only where memory holds none. @internal */
export function checkSource(
  memory: PhysMemory,
  op: string,
  phys: PhysAddr,
  src: Uint8Array | null,
  offset: number,
  length: number,
): void {
  assert(src !== null || !memory.storesBytes, '%s: src is null though memory stores bytes', op);
  checkRange(memory, op, phys, src, offset, length);
}
