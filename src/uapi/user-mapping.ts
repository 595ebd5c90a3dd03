/**
 * Memory that a process has mapped: its bytes are read and written through the caches, as the mapping's type says.
 *
 * Inaccuracies: pages are mapped at once, without faults.
 */
import { hex, type VirtAddr } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import { ErrnoError } from '../base/errors.ts';
import type { CpuView } from '../cache/cpu-view.ts';

/** Made by `process.mmap`; valid until {@link UserMapping.munmap}. Plain throughout. */
export class UserMapping {
  /** Where the process sees it. */
  readonly address: VirtAddr;
  readonly sizeBytes: number;
  readonly #view: CpuView;
  readonly #unmap: () => void;
  #mapped = true;

  /** @internal */
  constructor(address: VirtAddr, view: CpuView, unmap: () => void) {
    this.address = address;
    this.sizeBytes = view.sizeBytes;
    this.#view = view;
    this.#unmap = unmap;
  }

  /** Whether it is still mapped. */
  get mapped(): boolean {
    return this.#mapped;
  }

  /**
   * Reads `length` bytes from `offset`; what a load would see, stale or not. Charges the accesses.
   *
   * @throws {ErrnoError} `EFAULT` out of the mapping; nothing has happened (never retry).
   * @throws {HazardError} `cpu-read.stale` under policy `'throw'`; the read is done.
   * @throws {InvariantError} it was unmapped, or a number is no whole number >= 0.
   */
  read(offset: number, length: number): Uint8Array {
    this.#check('read', offset, length);
    const out = new Uint8Array(length);
    this.readInto(out, offset);
    return out;
  }

  /** {@link read}, into memory of the caller's: `out.length` bytes. Same errors; `out` holds what was read. */
  readInto(out: Uint8Array, offset: number): void {
    this.#check('read', offset, out.length);
    this.#view.read(offset, out);
  }

  /**
   * Writes `bytes` at `offset`. Charges the accesses.
   *
   * @throws {ErrnoError} `EFAULT` out of the mapping; nothing has happened (never retry).
   * @throws {HazardError} `*-write.lost` under policy `'throw'`; the write is done.
   * @throws {InvariantError} it was unmapped, or `offset` is no whole number >= 0.
   */
  write(offset: number, bytes: Uint8Array): void {
    this.#check('write', offset, bytes.length);
    this.#view.write(offset, bytes);
  }

  /** Reads without charging and without changing any state: what {@link read} would give. @throws {ErrnoError} `EFAULT`. */
  peek(offset: number, length: number): Uint8Array {
    this.#check('peek', offset, length);
    return this.#view.peek(offset, length);
  }

  /**
   * Gives the mapping's reference of the buffer back and ends it.
   *
   * @throws {InvariantError} it was unmapped before (never retry); it has the last reference and a device is attached: it
   *   stays mapped and keeps its reference (retry after the detach).
   * @see munmap(2)
   */
  munmap(): void {
    this.#checkMapped('munmap');
    this.#unmap();
    this.#mapped = false;
  }

  #check(op: string, offset: number, length: number): void {
    this.#checkMapped(op);
    assert(Number.isSafeInteger(offset) && offset >= 0, '%s: offset %s is no whole number >= 0', op, offset);
    assert(Number.isSafeInteger(length) && length >= 0, '%s: length %s is no whole number >= 0', op, length);
    if (offset + length <= this.sizeBytes) return;
    const range = `${length} bytes at offset ${offset} leave the mapping of ${this.sizeBytes} bytes`;
    throw new ErrnoError('EFAULT', op, range);
  }

  #checkMapped(op: string): void {
    assert(this.#mapped, '%s: the mapping at %s was unmapped before', op, hex(this.address));
  }
}
