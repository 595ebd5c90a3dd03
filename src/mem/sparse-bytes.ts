/**
 * The bytes of one region of physical memory, stored in chunks that come into being at their first write.
 *
 * Chunk borders lie at multiples of {@link CHUNK_BYTES} of the *physical* address, so the place of an address inside
 * its chunk is the same in every region. Untouched memory reads as zeros and costs four bytes a chunk of address space.
 */
import type { PhysAddr } from '../base/addr.ts';
import { KIB } from '../base/units.ts';

/** Bytes in a chunk of stored memory: 256 KiB, a multiple of a page. */
export const CHUNK_BYTES = 256 * KIB;
const PER_BYTE = 1 / CHUNK_BYTES;

/** Where `phys` lies inside the chunk that stores it, in bytes. Not for addresses of a remap window. Plain, no checks. */
export function offsetInChunk(phys: number): number {
  return phys - Math.floor(phys * PER_BYTE) * CHUNK_BYTES;
}

/**
 * Sparse storage for addresses [base, base + bytes).
 *
 * @internal
 */
export class SparseBytes {
  readonly #firstChunk: number;
  /** For each chunk of address space 1 + its index in {@link #bytes}, or 0 while untouched. */
  readonly #slots: Uint32Array;
  readonly #bytes: Uint8Array[] = [];
  readonly #words: Int32Array[] = [];

  constructor(base: PhysAddr, bytes: number) {
    this.#firstChunk = Math.floor(base * PER_BYTE);
    this.#slots = new Uint32Array(Math.ceil((base + bytes) * PER_BYTE) - this.#firstChunk);
  }

  /** Host memory held by chunks, in bytes. */
  get allocatedBytes(): number {
    return this.#bytes.length * CHUNK_BYTES;
  }

  /** The chunk around `phys`; untouched: a new one of zeros if `forWrite`, else `undefined`. `phys` must lie inside. */
  chunk(phys: number, forWrite: boolean): Uint8Array | undefined {
    const slot = this.#slots[Math.floor(phys * PER_BYTE) - this.#firstChunk] as number;
    if (slot !== 0) return this.#bytes[slot - 1];
    return forWrite ? this.#bytes[this.#create(phys)] : undefined;
  }

  /** The same chunk seen as 32-bit words. */
  words(phys: number, forWrite: boolean): Int32Array | undefined {
    const slot = this.#slots[Math.floor(phys * PER_BYTE) - this.#firstChunk] as number;
    if (slot !== 0) return this.#words[slot - 1];
    return forWrite ? this.#words[this.#create(phys)] : undefined;
  }

  /** Copies bytes into the one chunk they fall into. */
  writePiece(phys: number, src: Uint8Array, srcOffset: number, length: number): void {
    const chunk = this.chunk(phys, true);
    if (chunk !== undefined) moveBytes(chunk, offsetInChunk(phys), src, srcOffset, length);
  }

  #create(phys: number): number {
    const buffer = new ArrayBuffer(CHUNK_BYTES);
    this.#words.push(new Int32Array(buffer));
    this.#slots[Math.floor(phys * PER_BYTE) - this.#firstChunk] = this.#bytes.push(new Uint8Array(buffer));
    return this.#bytes.length - 1;
  }
}

/** Copies bytes out of the one chunk they lie in; zeros where nothing is stored. @internal */
export function readPiece(
  from: SparseBytes | undefined,
  phys: number,
  out: Uint8Array,
  outOffset: number,
  length: number,
): void {
  const chunk = from?.chunk(phys, false);
  if (chunk === undefined) out.fill(0, outOffset, outOffset + length);
  else moveBytes(out, outOffset, chunk, offsetInChunk(phys), length);
}

/** Copies within one chunk of each side. Zeros onto untouched memory take no host memory. @internal */
export function copyPiece(
  to: SparseBytes | undefined,
  dst: number,
  from: SparseBytes | undefined,
  src: number,
  length: number,
): void {
  const source = from?.chunk(src, false);
  const target = to?.chunk(dst, source !== undefined);
  if (target === undefined) return;
  const offset = offsetInChunk(dst);
  if (source === undefined) target.fill(0, offset, offset + length);
  else moveBytes(target, offset, source, offsetInChunk(src), length);
}

/** Below this many bytes a loop beats making a view of the source. */
const LOOP_BYTES = 32;

function moveBytes(dst: Uint8Array, dstOffset: number, src: Uint8Array, srcOffset: number, length: number): void {
  if (dst === src) {
    dst.copyWithin(dstOffset, srcOffset, srcOffset + length);
  } else if (length < LOOP_BYTES) {
    for (let i = 0; i < length; i++) dst[dstOffset + i] = src[srcOffset + i] as number;
  } else if (length === src.length) {
    dst.set(src, dstOffset);
  } else {
    dst.set(src.subarray(srcOffset, srcOffset + length), dstOffset);
  }
}
