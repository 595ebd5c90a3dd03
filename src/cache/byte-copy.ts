/** Copies of a few bytes between arrays, without making a view for each. */

/** From this many bytes on a view costs less than a loop. */
const LOOP_BYTES = 256;

/** Copies `length` bytes. The arrays must differ or the ranges must not overlap. @internal */
export function copyBytes(
  dst: Uint8Array,
  dstOffset: number,
  src: Uint8Array,
  srcOffset: number,
  length: number,
): void {
  if (length >= LOOP_BYTES) dst.set(src.subarray(srcOffset, srcOffset + length), dstOffset);
  else for (let i = 0; i < length; i++) dst[dstOffset + i] = src[srcOffset + i] as number;
}

/**
 * All of the buffer behind `bytes` as 32-bit words, to be read at {@link wordIndex}; `undefined` if `length` bytes are
 * not worth it or the buffer is too large for 32-bit sums.
 *
 * @internal
 */
export function wordsOf(bytes: Uint8Array, length: number): Int32Array | undefined {
  if (length < LOOP_BYTES || bytes.buffer.byteLength >= 2 ** 31) return undefined;
  return new Int32Array(bytes.buffer, 0, bytes.buffer.byteLength >> 2);
}

/** Where the byte at `offset` of `bytes` begins a word of {@link wordsOf}, or -1 if it does not. @internal */
export function wordIndex(bytes: Uint8Array, offset: number): number {
  const at = bytes.byteOffset + offset;
  return (at & 3) === 0 ? at >> 2 : -1;
}
