/**
 * A CPU's view of memory: a list of physical extents seen in a row, with an attribute and the one who looks.
 *
 * What `mmap`, `vmap` or a kernel's linear map give. The view has no bytes of its own; every access goes through the
 * domain's gate and finds whatever copy its attribute leads to.
 */
import { type PhysAddr, physAddr } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import { ErrnoError } from '../base/errors.ts';
import type { Accessor } from '../base/hazards.ts';
import { checkRange } from './access-range.ts';
import type { CoherencyDomain } from './coherency.ts';
import type { MemoryAttribute } from './cpu-port.ts';

/** A run of physical memory. */
export interface PhysExtent {
  readonly phys: PhysAddr;
  /** At least 1. */
  readonly sizeBytes: number;
}

/** What a {@link CpuView} shows and how. */
export interface CpuViewOptions {
  /** In the order of the view; need not be aligned. */
  readonly extents: readonly PhysExtent[];
  readonly attribute: MemoryAttribute;
  /** Who reads and writes through it. */
  readonly accessor: Accessor;
}

/** A mapping of memory for CPUs of one domain. Plain throughout: nothing waits. */
export class CpuView {
  readonly domain: CoherencyDomain;
  readonly attribute: MemoryAttribute;
  readonly accessor: Accessor;
  /** Bytes it shows. */
  readonly sizeBytes: number;
  /** Offset in the view of each extent, then its end. */
  readonly #starts: Float64Array;
  readonly #phys: Float64Array;

  /** @throws {InvariantError} no extents, or one of no size. @throws {ErrnoError} `EFAULT` an extent is no memory. */
  constructor(domain: CoherencyDomain, options: CpuViewOptions) {
    const { extents, attribute, accessor } = options;
    assert(extents.length > 0, 'CpuView: extents is empty');
    this.domain = domain;
    this.attribute = attribute;
    this.accessor = accessor;
    this.#phys = Float64Array.from(extents, (extent) => extent.phys);
    this.#starts = new Float64Array(extents.length + 1);
    let sizeBytes = 0;
    for (const [i, extent] of extents.entries()) {
      assert(
        Number.isSafeInteger(extent.sizeBytes) && extent.sizeBytes > 0,
        'CpuView: extents[%s].sizeBytes %s is no whole number > 0',
        i,
        extent.sizeBytes,
      );
      checkRange(domain.memory, `CpuView: extents[${i}]`, extent.phys, null, 0, extent.sizeBytes);
      if (attribute === 'cached') domain.mapCached(extent.phys, extent.sizeBytes);
      sizeBytes += extent.sizeBytes;
      this.#starts[i + 1] = sizeBytes;
    }
    this.sizeBytes = sizeBytes;
  }

  /**
   * Reads `length` bytes at `offset` into `out` from `outOffset` (`out` may be `null`: nothing is copied). Charges.
   *
   * @throws {ErrnoError} `EFAULT` beyond the view: nothing has happened; or memory was unplugged since: what lies before
   *   it is done (never retry).
   * @throws {HazardError} `cpu-read.stale`, `*-write.lost`, `access.*` or `fence.unsubmitted-batch`; the read is done.
   */
  read(offset: number, out: Uint8Array | null, outOffset = 0, length = (out?.length ?? 0) - outOffset): void {
    this.#check('read', offset, length);
    const { domain, attribute, accessor } = this;
    this.#inPieces(offset, length, (phys, done, step) => {
      domain.cpuRead(phys, out, outOffset + done, step, attribute, accessor);
    });
  }

  /**
   * Writes `length` bytes of `src` from `srcOffset` at `offset` (`src` may be `null` in tag mode). Charges.
   *
   * @throws {ErrnoError} `EFAULT` beyond the view: nothing has happened; or memory was unplugged since: what lies before
   *   it is done (never retry).
   * @throws {HazardError} `*-write.lost`, `access.*` or `fence.unsubmitted-batch`; the write is done.
   */
  write(offset: number, src: Uint8Array | null, srcOffset = 0, length = (src?.length ?? 0) - srcOffset): void {
    this.#check('write', offset, length);
    const { domain, attribute, accessor } = this;
    this.#inPieces(offset, length, (phys, done, step) => {
      domain.cpuWrite(phys, src, srcOffset + done, step, attribute, accessor);
    });
  }

  /** What a read of `length` bytes at `offset` would return now. No time, no state change. @throws {ErrnoError} `EFAULT`. */
  peek(offset: number, length = 1): Uint8Array {
    this.#check('peek', offset, length);
    const out = new Uint8Array(length);
    this.#inPieces(offset, length, (phys, done, step) => {
      this.domain.peek(phys, out, done, step, this.attribute);
    });
    return out;
  }

  /** Puts `bytes` at `offset` where everyone sees them: memory and every copy. No time. @throws {ErrnoError} `EFAULT`. */
  poke(offset: number, bytes: Uint8Array): void {
    this.#check('poke', offset, bytes.length);
    this.#inPieces(offset, bytes.length, (phys, done, step) => {
      this.domain.poke(phys, bytes.subarray(done, done + step));
    });
  }

  /** The physical address of the byte at `offset`. @throws {ErrnoError} `EFAULT` beyond the view. */
  physAt(offset: number): PhysAddr {
    this.#check('physAt', offset, 1);
    const i = this.#extentOf(offset);
    return physAddr((this.#phys[i] as number) + offset - (this.#starts[i] as number));
  }

  #check(op: string, offset: number, length: number): void {
    assert(Number.isSafeInteger(length) && length >= 0, '%s: length %s is no whole number >= 0', op, length);
    assert(Number.isSafeInteger(offset), '%s: offset %s is no whole number', op, offset);
    if (offset >= 0 && offset + length <= this.sizeBytes) return;
    throw new ErrnoError('EFAULT', op, `${length} bytes at offset ${offset} leave the view of ${this.sizeBytes} bytes`);
  }

  /** Calls `act` for each run of [offset, offset + length), all of them as one access. */
  #inPieces(offset: number, length: number, act: (phys: PhysAddr, done: number, step: number) => void): void {
    if (length === 0) return;
    let i = this.#extentOf(offset);
    const first = ((this.#phys[i] as number) + offset - (this.#starts[i] as number)) as PhysAddr;
    if (offset + length <= (this.#starts[i + 1] as number)) {
      act(first, 0, length);
      return;
    }
    this.domain.asOneAccess(() => {
      for (let done = 0; done < length; i++) {
        const inside = offset + done - (this.#starts[i] as number);
        const step = Math.min(length - done, (this.#starts[i + 1] as number) - offset - done);
        act(((this.#phys[i] as number) + inside) as PhysAddr, done, step);
        done += step;
      }
    });
  }

  /** Index of the extent that `offset` lies in. */
  #extentOf(offset: number): number {
    let low = 0;
    let high = this.#phys.length - 1;
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if ((this.#starts[middle] as number) <= offset) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}
