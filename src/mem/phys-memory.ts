/**
 * Physical memory: regions of address space and the bytes behind them.
 *
 * This is the storage itself, below caches and buses: an access costs no time and is never stale. Rules:
 * 1. Regions never overlap; each is page aligned. An access may cross from one into an adjacent one.
 * 2. Untouched memory reads as zeros and takes no host memory; a write creates the chunk it falls into.
 * 3. An access is checked as a whole before the first byte moves: it succeeds or changes nothing.
 * 4. With `bytes: false` (tag mode) nothing is stored: writes vanish, reads give zeros; addresses are still checked.
 * 5. Set-up comes first: RAM regions, then {@link Memblock} reservations, then allocators. Building the page allocator
 *    ends set-up; regions without page frames may come and go later.
 *
 * Inaccuracies: no ECC, no bus errors of a powered-down BAR, no side effects of reading device registers.
 */
import { hex, type Nanos, PAGE_SIZE, type PhysAddr, physAddr } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import { ErrnoError } from '../base/errors.ts';
import type { TraceBus } from '../trace/trace-bus.ts';
import type { FailHook } from './attempt.ts';
import { MemLedger } from './ledger.ts';
import { MemRegion, type RegionSpec } from './mem-region.ts';
import { Memblock } from './memblock.ts';
import { CHUNK_BYTES, copyPiece, offsetInChunk, readPiece, type SparseBytes } from './sparse-bytes.ts';

/** What a {@link PhysMemory} is made of. */
export interface PhysMemoryOptions {
  readonly trace: TraceBus;
  /** The current simulated time; stamps allocations. */
  readonly now: () => Nanos;
  /** `false`: tag mode, no bytes are stored. Default `true`. */
  readonly bytes?: boolean;
  /** Asked before every allocation; see {@link PhysMemory.failNext}. */
  readonly failNext?: FailHook;
}

/** All physical memory of one machine. Plain throughout: nothing waits, nothing is charged. */
export class PhysMemory {
  /** Every live allocation of every allocator of this memory. */
  readonly ledger: MemLedger;
  /** Ranges of RAM set aside before the page allocator exists. */
  readonly memblock: Memblock;
  /** Whether bytes are stored (false in tag mode). */
  readonly storesBytes: boolean;
  /**
   * Asked once before every allocation by pages, CMA and carve-outs; `true` makes it fail with `ENOMEM`. Fault
   * injection; `undefined` asks nobody.
   */
  failNext: FailHook | undefined;
  /** Ascending by address. */
  readonly #regions: MemRegion[] = [];
  /** The region of the last access. */
  #last: MemRegion | undefined;

  constructor(options: PhysMemoryOptions) {
    this.ledger = new MemLedger(options.trace, options.now);
    this.memblock = new Memblock(this.#regions);
    this.storesBytes = options.bytes ?? true;
    this.failNext = options.failNext;
  }

  /** The regions, ascending by address. */
  get regions(): readonly MemRegion[] {
    return this.#regions;
  }

  /** Host memory that stores bytes, in bytes: 0 until the first write. */
  get allocatedBytes(): number {
    return this.#regions.reduce((sum, region) => sum + (region.storage?.allocatedBytes ?? 0), 0);
  }

  /**
   * Adds a region of zeroed memory.
   *
   * @throws {InvariantError} not page aligned, empty, name taken, overlap with a region (both are named), or RAM after
   * set-up has ended.
   */
  addRegion(spec: RegionSpec): MemRegion {
    const region = new MemRegion(spec, this.storesBytes);
    const at = this.#regions.findIndex((other) => other.base >= region.end);
    for (const other of this.#regions) {
      assert(region.end <= other.base || region.base >= other.end, 'addRegion: %s overlaps %s', region, other);
      assert(region.name !== other.name, 'addRegion: name %s is taken by %s', region.name, other);
    }
    assert(
      region.kind !== 'ram' || !this.memblock.sealed,
      'addRegion: %s comes after the page allocator was built',
      region,
    );
    this.#regions.splice(at < 0 ? this.#regions.length : at, 0, region);
    return region;
  }

  /**
   * Takes a region and its bytes out (a device is unplugged). Later accesses there fail with `EFAULT`.
   *
   * @throws {InvariantError} not a region of this memory, or RAM, which stays.
   */
  removeRegion(region: MemRegion): void {
    const at = this.#regions.indexOf(region);
    assert(at >= 0, 'removeRegion: %s is no region of this memory', region);
    assert(region.kind !== 'ram', 'removeRegion: %s is RAM, which stays', region);
    this.#regions.splice(at, 1);
    this.#last = undefined;
  }

  /** The region that `phys` lies in, or `undefined`. */
  regionAt(phys: PhysAddr): MemRegion | undefined {
    return this.#regionOf(phys);
  }

  /** Whether the kernel has a struct page for the frame of `phys`. @see Linux 6.1 `include/linux/mmzone.h` pfn_valid */
  hasPage(phys: PhysAddr): boolean {
    return this.regionAt(phys)?.hasPages ?? false;
  }

  /**
   * The address of the memory that really answers for `phys`: behind a remap window the page it leads to, else `phys`.
   *
   * @throws {ErrnoError} `EFAULT` outside any region, or nothing is mapped in the window there (never retry).
   * @throws {InvariantError} the window's resolver answered an unaligned address or one in another window.
   */
  resolve(phys: PhysAddr): PhysAddr {
    return physAddr(this.#behind(phys));
  }

  /**
   * Copies `length` bytes at `phys` into `out` from `outOffset`.
   *
   * @throws {ErrnoError} `EFAULT` a byte outside any region; the text has its address; `out` is unchanged.
   * @throws {InvariantError} `out` is too short.
   */
  read(phys: PhysAddr, out: Uint8Array, outOffset: number, length: number): void {
    checkSlice('read', out, outOffset, length);
    const simple = this.#inOneChunk(phys, length);
    if (simple !== undefined) {
      readPiece(simple.storage, phys, out, outOffset, length);
      return;
    }
    this.#checkRange('read', phys, length);
    for (let done = 0; done < length; ) {
      const at = this.#behind(phys + done);
      const step = Math.min(length - done, this.#contiguous(phys + done));
      readPiece(this.#storageAt(at), at, out, outOffset + done, step);
      done += step;
    }
  }

  /**
   * Copies `length` bytes of `src` from `srcOffset` to `phys`.
   *
   * @throws {ErrnoError} `EFAULT` a byte outside any region; the text has its address; memory is unchanged.
   * @throws {InvariantError} `src` is too short.
   */
  write(phys: PhysAddr, src: Uint8Array, srcOffset: number, length: number): void {
    checkSlice('write', src, srcOffset, length);
    const simple = this.#inOneChunk(phys, length);
    if (simple !== undefined) {
      simple.storage?.writePiece(phys, src, srcOffset, length);
      return;
    }
    this.#checkRange('write', phys, length);
    if (!this.storesBytes) return;
    for (let done = 0; done < length; ) {
      const at = this.#behind(phys + done);
      const step = Math.min(length - done, this.#contiguous(phys + done));
      this.#storageAt(at)?.writePiece(at, src, srcOffset + done, step);
      done += step;
    }
  }

  /**
   * Copies `length` bytes from `src` to `dst`; the ranges may overlap (not through different windows).
   *
   * @throws {ErrnoError} `EFAULT` a byte of either range outside any region; memory is unchanged.
   */
  copy(dst: PhysAddr, src: PhysAddr, length: number): void {
    const from = this.#inOneChunk(src, length);
    const to = this.#inOneChunk(dst, length);
    if (from !== undefined && to !== undefined) {
      copyPiece(to.storage, dst, from.storage, src, length);
      return;
    }
    this.#checkRange('copy', src, length);
    this.#checkRange('copy', dst, length);
    if (!this.storesBytes || dst === src) return;
    if (dst > src && dst < src + length) this.#copyDown(dst, src, length);
    else this.#copyUp(dst, src, length);
  }

  /**
   * Sets `length` bytes at `phys` to `byte` (0..255). Zeroing untouched memory takes no host memory.
   *
   * @throws {ErrnoError} `EFAULT` a byte outside any region; memory is unchanged.
   * @throws {InvariantError} `byte` is no byte.
   */
  fill(phys: PhysAddr, length: number, byte: number): void {
    assert(Number.isInteger(byte) && byte >= 0 && byte < 256, 'fill: byte %s is not in 0..255', byte);
    this.#checkRange('fill', phys, length);
    if (!this.storesBytes) return;
    for (let done = 0; done < length; ) {
      const at = this.#behind(phys + done);
      const step = Math.min(length - done, this.#contiguous(phys + done));
      const offset = offsetInChunk(at);
      this.#storageAt(at)
        ?.chunk(at, byte !== 0)
        ?.fill(byte, offset, offset + step);
      done += step;
    }
  }

  /**
   * The stored bytes around `phys`, for loops over cache lines: valid from {@link chunkOffset} at least to the end of
   * the page, for as long as the region stays. `undefined`: all zeros (untouched and not `forWrite`, or tag mode, where
   * a write has to be dropped). Allocates nothing but an untouched chunk `forWrite`.
   *
   * @throws {ErrnoError} `EFAULT` outside any region, or nothing is mapped in the window there (never retry).
   */
  chunkFor(phys: PhysAddr, forWrite: boolean): Uint8Array | undefined {
    const at = this.#behind(phys);
    return this.#storageAt(at)?.chunk(at, forWrite);
  }

  /** {@link chunkFor} as 32-bit words; the index of `phys` (a multiple of 4) is {@link chunkOffset} / 4. */
  wordsFor(phys: PhysAddr, forWrite: boolean): Int32Array | undefined {
    const at = this.#behind(phys);
    return this.#storageAt(at)?.words(at, forWrite);
  }

  /** The index of `phys` in what {@link chunkFor} returns for it. @throws {ErrnoError} `EFAULT` as there. */
  chunkOffset(phys: PhysAddr): number {
    return offsetInChunk(this.#behind(phys));
  }

  #regionOf(phys: number): MemRegion | undefined {
    const last = this.#last;
    if (last !== undefined && phys >= last.base && phys < last.end) return last;
    for (const region of this.#regions) {
      if (phys >= region.base && phys < region.end) {
        this.#last = region;
        return region;
      }
    }
    return undefined;
  }

  /** {@link resolve} for numbers. */
  #behind(phys: number): number {
    const region = this.#regionOf(phys);
    if (region === undefined) throw outside('access', phys);
    return region.resolve === undefined ? phys : this.#throughWindow(region, phys);
  }

  #throughWindow(window: MemRegion, phys: number): number {
    const offset = phys - window.base;
    const inPage = offset % PAGE_SIZE;
    const page = window.resolve?.(offset - inPage);
    if (page === undefined) {
      throw new ErrnoError('EFAULT', 'window', `${window} has nothing mapped at ${hex(phys)}`);
    }
    assert(page % PAGE_SIZE === 0, 'window %s: resolves %s to the unaligned %s', window, hex(phys), hex(page));
    const target = this.#regions.find((region) => page >= region.base && page < region.end);
    if (target === undefined) throw outside(`window ${window.name}`, page);
    assert(target.resolve === undefined, 'window %s: resolves %s into the window %s', window, hex(phys), target);
    return page + inPage;
  }

  /** Bytes from `phys` on that lie in one chunk, at least 1. `phys` lies in a region. */
  #contiguous(phys: number): number {
    const region = this.#regionOf(phys);
    if (region === undefined || region.resolve !== undefined) return PAGE_SIZE - (phys % PAGE_SIZE);
    return Math.min(CHUNK_BYTES - offsetInChunk(phys), region.end - phys);
  }

  #checkRange(op: string, phys: number, length: number): void {
    assert(Number.isSafeInteger(length) && length >= 0, '%s: length %s is no whole number >= 0', op, length);
    assert(Number.isSafeInteger(phys) && phys >= 0, '%s: %s is no physical address', op, phys);
    const end = phys + length;
    let at: number = phys;
    while (at < end) {
      const region = this.#regionOf(at);
      if (region === undefined) throw outside(op, at);
      const stop = Math.min(end, region.end);
      if (region.resolve === undefined) at = stop;
      for (; at < stop; at += PAGE_SIZE - (at % PAGE_SIZE)) this.#throughWindow(region, at);
    }
  }

  #copyUp(dst: number, src: number, length: number): void {
    for (let done = 0; done < length; ) {
      const to = dst + done;
      const from = src + done;
      const step = Math.min(length - done, this.#contiguous(to), this.#contiguous(from));
      this.#copyPiece(to, from, step);
      done += step;
    }
  }

  /** Piece by piece from the end, for a destination that lies inside and above the source. */
  #copyDown(dst: number, src: number, length: number): void {
    for (let left = length; left > 0; ) {
      const step = Math.min(left, this.#contiguousBefore(dst + left), this.#contiguousBefore(src + left));
      left -= step;
      this.#copyPiece(dst + left, src + left, step);
    }
  }

  /** Bytes before `end` that lie in one chunk, at least 1. */
  #contiguousBefore(end: number): number {
    const last = end - 1;
    const region = this.#regionOf(last);
    if (region === undefined || region.resolve !== undefined) return (last % PAGE_SIZE) + 1;
    return Math.min(offsetInChunk(last), last - region.base) + 1;
  }

  #copyPiece(dst: number, src: number, length: number): void {
    const to = this.#behind(dst);
    const from = this.#behind(src);
    copyPiece(this.#storageAt(to), to, this.#storageAt(from), from, length);
  }

  /** What stores the bytes at `phys`, which is no window. */
  #storageAt(phys: number): SparseBytes | undefined {
    return this.#regionOf(phys)?.storage;
  }

  /** The region of [phys, phys + length) if that lies in one chunk of it and is no window; else look closer. */
  #inOneChunk(phys: number, length: number): MemRegion | undefined {
    const region = this.#regionOf(phys);
    if (region === undefined || region.resolve !== undefined || phys + length > region.end) return undefined;
    return Number.isInteger(length) && length > 0 && offsetInChunk(phys) + length <= CHUNK_BYTES ? region : undefined;
  }
}

function checkSlice(op: string, bytes: Uint8Array, offset: number, length: number): void {
  assert(
    Number.isInteger(offset) && offset >= 0 && length <= bytes.length - offset,
    '%s: %s bytes from offset %s do not fit an array of %s',
    op,
    length,
    offset,
    bytes.length,
  );
}

function outside(op: string, phys: number): ErrnoError {
  return new ErrnoError('EFAULT', op, `physical address ${hex(phys)} lies in no region`);
}
