/**
 * Domains whose unit marks the pages that devices write to, for live migration.
 *
 *     clean, writable --write: walk sets the mark--> dirty, writable --readAndClearDirty--> clean, writable
 *
 * | format | the mark | switched off |
 * |---|---|---|
 * | ARM stage 1 | DBM (bit 51) says that hardware manages the page; AP[2] (bit 7) clear = written | it goes on: the rights depend on it |
 * | ARM stage 2 | DBM (bit 51); S2AP[1] (bit 7) set = written | as stage 1 |
 * | VT-d second stage | D (bit 9), with A (bit 8) | nothing is marked |
 *
 * Rules (Arm ARM DDI 0487, D8.5 "Hardware management of the dirty state"; VT-d specification 4.1, 3.7.2 "Accessed and dirty flags"):
 * 1. The walk for a write marks the leaf and caches the right to write. The walk for a read of a clean page does not cache it, so that the
 *    first write walks again.
 * 2. A cached right to write hides further writes from the table. Whoever clears a mark must invalidate before he trusts it:
 *    {@link TrackedDomain.readAndClearDirty} does, {@link TrackedDomain.readAndClearDirtyFast} leaves it to the caller.
 * 3. A leaf is marked as a whole: a large page that was written counts as written everywhere.
 *
 * @see Linux 6.7 `drivers/iommu/iommu.c`, `include/linux/iommu.h` struct iommu_dirty_ops; Linux 6.11 `drivers/iommu/io-pgtable-arm.c`
 * arm_lpae_read_and_clear_dirty; Linux 6.7 `drivers/iommu/intel/iommu.c` intel_iommu_read_and_clear_dirty
 */
import { hex, type Iova } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import { ErrnoError } from '../base/errors.ts';
import { type ContextLeaf, type ContextWalker, MARK_ON_WRITE, neededRight } from './context-walk.ts';
import type { DmaAccess } from './fault.ts';
import { IommuProt, type IoPgtable, type IoPgtableQuirk } from './io-pgtable.ts';
import type { DirtyRequest } from './ioas-domain.ts';
import type { Iommu } from './iommu.ts';
import { IommuDomain, type IommuDomainOptions } from './iommu-domain.ts';
import { IotlbGather } from './iotlb-gather.ts';
import { LeafCursor } from './leaf-cursor.ts';
import { LPAE_DBM_HIGH } from './lpae-format.ts';
import { LpaeWalker } from './lpae-walker.ts';

const AP_READ_ONLY = 1 << 7;
const S2AP_WRITE = 1 << 7;
const VTD_WRITE = 1 << 1;
const VTD_ACCESSED = 1 << 8;
const VTD_DIRTY = 1 << 9;

/** How one format marks a leaf, on the low and high word of its descriptor. */
interface DirtyBits {
  readonly quirk: IoPgtableQuirk | null;
  /** Marks are made only while tracking is on. */
  readonly canBeOff: boolean;
  isTracked(low: number, high: number): boolean;
  isDirty(low: number): boolean;
  mark(low: number): number;
  clear(low: number): number;
}

const STAGE_1: DirtyBits = {
  quirk: 'ARM_HD',
  canBeOff: false,
  isTracked: (_low, high) => (high & LPAE_DBM_HIGH) !== 0,
  isDirty: (low) => (low & AP_READ_ONLY) === 0,
  mark: (low) => low & ~AP_READ_ONLY,
  clear: (low) => low | AP_READ_ONLY,
};

const STAGE_2: DirtyBits = {
  quirk: 'ARM_HD',
  canBeOff: false,
  isTracked: (_low, high) => (high & LPAE_DBM_HIGH) !== 0,
  isDirty: (low) => (low & S2AP_WRITE) !== 0,
  mark: (low) => low | S2AP_WRITE,
  clear: (low) => low & ~S2AP_WRITE,
};

const VTD: DirtyBits = {
  quirk: null,
  canBeOff: true,
  isTracked: (low) => (low & VTD_WRITE) !== 0,
  isDirty: (low) => (low & VTD_DIRTY) !== 0,
  mark: (low) => low | VTD_DIRTY | VTD_ACCESSED,
  clear: (low) => low & ~VTD_DIRTY,
};

const FORMATS: ReadonlyMap<string, DirtyBits> = new Map([
  ['ARM_64_LPAE_S1', STAGE_1],
  ['ARM_64_LPAE_S2', STAGE_2],
  ['INTEL_VTD_S2', VTD],
]);

/** What to read; see {@link TrackedDomain.readAndClearDirty}. */
export interface DirtyReadOptions {
  /** Bytes that a bit stands for, a power of two; default: the domain's smallest page. */
  readonly pageBytes?: number;
  /** Index of the bit for the first page; default 0. */
  readonly firstBit?: number;
  /** Leave the marks; default false. */
  readonly noClear?: boolean;
}

/** A domain with {@link IommuDomain}'s calls whose written pages are marked. Plain throughout: nothing waits. */
export class TrackedDomain extends IommuDomain {
  override readonly walker: ContextWalker;
  readonly #view: LpaeWalker;
  readonly #bits: DirtyBits;
  readonly #cursor = new LeafCursor();
  #isOn = false;

  /**
   * Makes an empty domain, with tracking switched off.
   *
   * @throws {ErrnoError} `EOPNOTSUPP` the unit or the format marks no written pages (never retry); others as `new IommuDomain`.
   */
  constructor(iommu: Iommu, options: IommuDomainOptions = {}) {
    const format = options.format ?? iommu.format;
    const bits = FORMATS.get(format);
    if (!iommu.dirtyTracking) throw noTracking(`unit ${iommu.name}`);
    if (bits === undefined || options.type === 'identity' || options.type === 'blocked')
      throw noTracking(`a domain of format ${format}${options.type === undefined ? '' : ` and type ${options.type}`}`);
    super(iommu, { ...options, quirks: [...(options.quirks ?? []), ...(bits.quirk === null ? [] : [bits.quirk])] });
    this.#bits = bits;
    this.#view = viewOf(this.pgtable);
    this.walker = { walk: (iova, access, leaf) => this.#walk(iova, access, leaf) };
  }

  /** Tracking is switched on. */
  get isTracking(): boolean {
    return this.#isOn;
  }

  /** Switches tracking. Marks that are there already stay. @see Linux 6.7 iommu_dirty_ops.set_dirty_tracking */
  setDirtyTracking(on: boolean): void {
    if (this.#isOn === on) return;
    this.#isOn = on;
    // What is cached was filled under the other rule.
    if (this.#bits.canBeOff) this.flushIotlbAll();
  }

  /**
   * Sets the bit of each page in `[iova, iova + sizeBytes)` that was written since its mark was last cleared, clears the marks unless `noClear`,
   * and invalidates what would hide the next write. Other bits stay as they are. Charges the invalidation.
   *
   * @param bitmap - bit 0 of byte 0 first.
   * @throws {ErrnoError} `EINVAL` tracking is off, `pageBytes` is no power of two, or the range is not aligned to the smallest page or not
   * all in the input range (never retry). Nothing is cleared then.
   * @throws {InvariantError} the bitmap is too short.
   */
  readAndClearDirty(iova: Iova, sizeBytes: number, bitmap: Uint8Array, options: DirtyReadOptions = {}): void {
    const gather = new IotlbGather();
    this.readAndClearDirtyFast(iova, sizeBytes, bitmap, options, gather);
    this.iotlbSync(gather);
  }

  /** As {@link readAndClearDirty}, but leaves the invalidation to the caller: `iotlbSync` with the same `gather`. */
  readAndClearDirtyFast(
    iova: Iova,
    sizeBytes: number,
    bitmap: Uint8Array,
    options: DirtyReadOptions,
    gather: IotlbGather,
  ): void {
    const { granuleBytes } = this.pgtable;
    const { pageBytes = granuleBytes, firstBit = 0, noClear = false } = options;
    const request = { iova, sizeBytes, bitmap, pageBytes, firstBit, noClear };
    this.#checkRequest(request);
    const cursor = this.#cursor;
    const { words } = this.#view.arena;
    const end = iova + sizeBytes;
    if (sizeBytes === 0) return;
    let isLeaf = cursor.seek(this.#view, iova);
    for (; cursor.start < end; isLeaf = cursor.next(this.#view)) {
      if (!isLeaf) continue;
      const low = words[2 * cursor.entry] as number;
      const high = words[2 * cursor.entry + 1] as number;
      if (!this.#bits.isTracked(low, high) || !this.#bits.isDirty(low)) continue;
      setBits(request, Math.max(iova, cursor.start), Math.min(end, cursor.start + cursor.bytes));
      if (noClear) continue;
      words[2 * cursor.entry] = this.#bits.clear(low);
      this.#gatherLeaf(gather);
    }
  }

  #gatherLeaf(gather: IotlbGather): void {
    const { start, bytes } = this.#cursor;
    if (gather.isDisjoint(start, bytes, bytes)) this.iotlbSync(gather);
    gather.add(start, bytes, bytes);
  }

  #walk(iova: Iova, access: DmaAccess, leaf: ContextLeaf): boolean {
    if (!this.pgtable.walk(iova, leaf)) return leaf.refuse('unmapped', this.stage);
    if ((leaf.prot & neededRight(access)) === 0) return leaf.refuse('permission', this.stage);
    if ((this.#bits.canBeOff && !this.#isOn) || (leaf.prot & IommuProt.write) === 0) return true;
    const { words } = this.#view.arena;
    this.#cursor.seek(this.#view, iova);
    const word = 2 * this.#cursor.entry;
    const low = words[word] as number;
    if (!this.#bits.isTracked(low, words[word + 1] as number) || this.#bits.isDirty(low)) return true;
    if (access === 'write') words[word] = this.#bits.mark(low);
    else leaf.prot = (leaf.prot & ~IommuProt.write) | MARK_ON_WRITE;
    return true;
  }

  #checkRequest(request: DirtyRequest): void {
    const { iova, sizeBytes, bitmap, pageBytes, firstBit } = request;
    const { granuleBytes } = this.pgtable;
    const op = 'iommu_read_and_clear_dirty';
    if (!this.#isOn) throw new ErrnoError('EINVAL', op, `tracking of ${this.name} is off; switch it on first`);
    if (!(pageBytes >= 1) || !Number.isInteger(Math.log2(pageBytes)))
      throw new ErrnoError('EINVAL', op, `pageBytes ${pageBytes} is no power of two`);
    if (
      !Number.isSafeInteger(sizeBytes) ||
      sizeBytes < 0 ||
      iova % granuleBytes !== 0 ||
      sizeBytes % granuleBytes !== 0
    )
      throw new ErrnoError('EINVAL', op, `iova and sizeBytes must be multiples of ${granuleBytes} bytes`);
    if (
      sizeBytes > 0 &&
      !(this.pgtable.contains(iova as Iova) && this.pgtable.contains((iova + sizeBytes - 1) as Iova))
    )
      throw new ErrnoError('EINVAL', op, `${sizeBytes} bytes from ${hex(iova)} leave what ${this.name} translates`);
    const bits = Math.ceil(firstBit + sizeBytes / pageBytes);
    assert(bits <= 8 * bitmap.length, '%s: %s bits do not fit a bitmap of %s bytes', op, bits, bitmap.length);
  }
}

function setBits(request: DirtyRequest, start: number, end: number): void {
  const { iova, pageBytes, firstBit, bitmap } = request;
  const first = Math.floor(firstBit + (start - iova) / pageBytes);
  const last = Math.ceil(firstBit + (end - iova) / pageBytes) - 1;
  for (let bit = first; bit <= last; bit++) {
    const byte = Math.floor(bit / 8);
    bitmap[byte] = (bitmap[byte] as number) | (1 << (bit - 8 * byte));
  }
}

function viewOf(table: IoPgtable): LpaeWalker {
  assert(table instanceof LpaeWalker, 'dirty tracking: %s has no tables of 64-bit descriptors', table.format);
  return table;
}

function noTracking(what: string): ErrnoError {
  return new ErrnoError('EOPNOTSUPP', 'iommu_domain_alloc', `${what} marks no written pages`);
}
