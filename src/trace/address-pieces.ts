/** Sums over ranges in a row: what a mapping is made of, on each side. */
import type { AddressPieces } from './address-book.ts';

/** One range. Plain. */
export function onePiece(base: number, sizeBytes: number): AddressPieces {
  return { base: Float64Array.of(base), size: Float64Array.of(sizeBytes) };
}

/** Bytes of all of them. Plain. */
export function bytesOfPieces({ size }: AddressPieces): number {
  let sum = 0;
  for (let i = 0; i < size.length; i++) sum += size[i] as number;
  return sum;
}

/** Which piece `address` lies in; -1: in none. Plain. @param hint - a piece to look at first, and then the one behind it. */
export function pieceAt({ base, size }: AddressPieces, address: number, hint = 0): number {
  for (let i = hint; i < Math.min(hint + 2, base.length); i++) {
    const at = base[i] as number;
    if (address >= at && address < at + (size[i] as number)) return i;
  }
  for (let i = 0; i < base.length; i++) {
    const at = base[i] as number;
    if (address >= at && address < at + (size[i] as number)) return i;
  }
  return -1;
}

/** How many bytes lie before `address`, in the order of the pieces; -1: it lies in none. Plain. */
export function offsetInPieces(pieces: AddressPieces, address: number): number {
  const piece = pieceAt(pieces, address);
  if (piece < 0) return -1;
  let offset = address - (pieces.base[piece] as number);
  for (let i = 0; i < piece; i++) offset += pieces.size[i] as number;
  return offset;
}

/** The address of the byte that has `offset` bytes before it; -1: there are no so many. Plain. */
export function addressInPieces({ base, size }: AddressPieces, offset: number): number {
  let left = offset;
  for (let i = 0; i < base.length; i++) {
    if (left < (size[i] as number)) return (base[i] as number) + left;
    left -= size[i] as number;
  }
  return -1;
}

/** The pieces of `sizeBytes` bytes from `offset` on; fewer where they end. Plain. */
export function slicePieces(pieces: AddressPieces, offset: number, sizeBytes: number): AddressPieces {
  const { base, size } = pieces;
  if (offset === 0 && sizeBytes >= bytesOfPieces(pieces)) return pieces;
  const bases: number[] = [];
  const sizes: number[] = [];
  let from = 0;
  for (let i = 0; i < base.length && from < offset + sizeBytes; i++) {
    const bytes = size[i] as number;
    const skip = Math.max(0, offset - from);
    const end = Math.min(bytes, offset + sizeBytes - from);
    if (skip < end) {
      bases.push((base[i] as number) + skip);
      sizes.push(end - skip);
    }
    from += bytes;
  }
  return { base: Float64Array.from(bases), size: Float64Array.from(sizes) };
}
