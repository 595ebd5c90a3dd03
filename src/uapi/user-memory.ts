/**
 * What a process lends the kernel for one system call: the memory that its pointers refer to. An address that nothing lies at,
 * or memory that is too short, is EFAULT, as is writing what can only be read.
 *
 * @see Linux 6.1 `include/linux/uaccess.h` copy_from_user, copy_to_user
 */
import { ErrnoError } from '../base/errors.ts';

/** Where the first piece lies, and how far apart pieces are: behind each there is a page that is not mapped. */
const FIRST_ADDRESS = 0x5555_0000_0000;
const GAP_BYTES = 0x1000;

interface Piece {
  readonly address: number;
  readonly bytes: Uint8Array;
  readonly writable: boolean;
}

/** Memory of a process that the kernel can reach by address. Plain throughout. */
export class CallMemory {
  readonly #pieces: Piece[] = [];
  #next = FIRST_ADDRESS;

  /** Puts `bytes` into the address space: what the kernel writes appears in them. @returns their address. */
  place(bytes: Uint8Array, writable = true): number {
    const address = this.#next;
    this.#pieces.push({ address, bytes, writable });
    this.#next = address + Math.ceil(bytes.length / GAP_BYTES) * GAP_BYTES + GAP_BYTES;
    return address;
  }

  /** Copies in. @throws {ErrnoError} `EFAULT` (never retry). */
  copyFrom(address: number, length: number): Uint8Array {
    if (length === 0) return new Uint8Array();
    const piece = this.#at(address);
    const from = address - piece.address;
    if (from + length > piece.bytes.length) throw fault(address, length);
    return piece.bytes.slice(from, from + length);
  }

  /** Copies out; when the memory ends too early, what fits is written before it fails. @throws {ErrnoError} `EFAULT` (never retry). */
  copyTo(address: number, bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    const piece = this.#at(address);
    const from = address - piece.address;
    if (!piece.writable) throw fault(address, bytes.length);
    const room = piece.bytes.length - from;
    piece.bytes.set(bytes.subarray(0, room), from);
    if (bytes.length > room) throw fault(address, bytes.length);
  }

  /** The final zero is not part of the string. @throws {ErrnoError} `EFAULT`; `EINVAL` no zero in `limit` bytes (never retry). */
  copyString(address: number, limit: number): string {
    const piece = this.#at(address);
    const bytes = piece.bytes.subarray(address - piece.address);
    const end = bytes.subarray(0, limit).indexOf(0);
    if (end >= 0) return new TextDecoder().decode(bytes.subarray(0, end));
    if (bytes.length < limit) throw fault(address, limit);
    throw new ErrnoError('EINVAL', 'strndup_user', `the string is longer than ${limit - 1} bytes`);
  }

  #at(address: number): Piece {
    const piece = this.#pieces.find((one) => address >= one.address && address < one.address + one.bytes.length);
    if (piece === undefined) throw fault(address, 1);
    return piece;
  }
}

function fault(address: number, length: number): ErrnoError {
  return new ErrnoError('EFAULT', 'copy_user', `the process has no ${length} bytes at 0x${address.toString(16)}`);
}
