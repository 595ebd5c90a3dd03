/**
 * A mapped buffer as one device reaches it: a range of bytes [offset, offset + length) is found in the segments of the
 * table and accessed at their device addresses. Neighbouring segments count as one run.
 */
import type { DmaAddr } from '../../base/addr.ts';
import { assert } from '../../base/assert.ts';
import type { Device } from '../../dma-api/device.ts';
import type { SgTable } from '../../dma-api/sg-table.ts';

/** Made from a mapped table; valid until the table is unmapped. Plain throughout. */
export class SgWindow {
  /** Bytes on the device side. */
  readonly sizeBytes: number;
  readonly #dev: Device;
  /** Run `i` holds bytes [#starts[i], #starts[i + 1]) of the buffer at #addresses[i]. */
  readonly #starts: number[] = [];
  readonly #addresses: DmaAddr[] = [];

  constructor(dev: Device, sgt: SgTable) {
    this.#dev = dev;
    let end = -1;
    let size = 0;
    for (let i = 0; i < sgt.nents; i++) {
      const address = sgt.dmaAddress(i);
      const length = sgt.dmaLength(i);
      if (address !== end) {
        this.#starts.push(size);
        this.#addresses.push(address);
      }
      size += length;
      end = address + length;
    }
    this.#starts.push(size);
    this.sizeBytes = size;
  }

  /** Bytes from the start of the buffer on that the device sees without a gap. @see drm_prime_get_contiguous_size */
  get contiguousBytes(): number {
    return this.#starts[1] ?? 0;
  }

  /** Runs without a gap, as the device sees them. */
  get runs(): number {
    return this.#addresses.length;
  }

  /**
   * The device reads; see `DmaPort.read`. All of it is one access in reports.
   *
   * @returns bytes done; less than `length` after a fault.
   * @throws {InvariantError} the range does not lie in the buffer.
   */
  read(offset: number, out: Uint8Array | null, outOffset: number, length: number): number {
    const { port, coherency } = this.#dev;
    return coherency.asOneAccess(() =>
      this.#walk(offset, length, (address, done, step) => port.read(address, out, outOffset + done, step)),
    );
  }

  /** The device writes; as {@link read}. See `DmaPort.write`. */
  write(offset: number, src: Uint8Array | null, srcOffset: number, length: number): number {
    const { port, coherency } = this.#dev;
    return coherency.asOneAccess(() =>
      this.#walk(offset, length, (address, done, step) => port.write(address, src, srcOffset + done, step)),
    );
  }

  /** What the device would read: no time, no state change, no hazard. As {@link read} otherwise. */
  peek(offset: number, out: Uint8Array, outOffset: number, length: number): number {
    const { port } = this.#dev;
    return this.#walk(offset, length, (address, done, step) => port.peek(address, out, outOffset + done, step));
  }

  #walk(offset: number, length: number, access: (address: DmaAddr, done: number, step: number) => number): number {
    assert(
      offset >= 0 && length >= 0 && offset + length <= this.sizeBytes,
      'access: [%s, %s) does not lie in the %s bytes of the buffer',
      offset,
      offset + length,
      this.sizeBytes,
    );
    let done = 0;
    for (let run = this.#runOf(offset); done < length; run++) {
      const start = this.#starts[run] as number;
      const within = offset + done - start;
      const step = Math.min(length - done, (this.#starts[run + 1] as number) - start - within);
      const moved = access(((this.#addresses[run] as number) + within) as DmaAddr, done, step);
      done += moved;
      if (moved < step) break;
    }
    return done;
  }

  #runOf(offset: number): number {
    let low = 0;
    let high = this.#addresses.length - 1;
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if ((this.#starts[middle] as number) <= offset) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}
