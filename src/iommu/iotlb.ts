/**
 * The IOTLB: translations that an IOMMU remembers, set-associative, least recently used first out.
 *
 * It is a copy and can be stale: an entry lives until it is invalidated or pushed out, whatever becomes of the page table
 * meanwhile. Entries of different sizes share the sets; each is found by its own page number. When a stale block and a newer
 * page cover one address, the smaller entry answers (the architecture leaves it open; Arm ARM DDI 0487, D8.14 "TLB conflicts").
 *
 * **Inaccuracies**: one level of cache, no walk caches, no prefetch; a fill is instantaneous.
 */
import { type Iova, iova as iovaOf, type PhysAddr, physAddr } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import type { Translation } from './translation.ts';

/** Size of an {@link Iotlb}. */
export interface IotlbOptions {
  /** Entries in all; default 2,048. `entries / ways` must be a power of two. */
  readonly entries?: number;
  /** Entries that an address can be in; default 4. */
  readonly ways?: number;
}

/** One entry, as {@link Iotlb.entries} shows it. */
export interface IotlbEntry {
  readonly asid: number;
  readonly iova: Iova;
  readonly phys: PhysAddr;
  readonly sizeBytes: number;
  /** `IommuProt` read and write bits at the time of the fill. */
  readonly prot: number;
}

/** See {@link Iotlb.translate}. @internal */
export const IOTLB_MISS = -1;
/** See {@link Iotlb.translate}. @internal */
export const IOTLB_DENIED = -2;

const EMPTY = -1;
const MIN_SHIFT = 12;
/** Size classes: 2^12 … 2^43 bytes. */
const CLASSES = 32;
/** Bytes of a class, and its reciprocal: both exact, and much faster than a power. */
const CLASS_BYTES = Float64Array.from({ length: CLASSES }, (_, sizeClass) => 2 ** (sizeClass + MIN_SHIFT));
const PER_BYTE = CLASS_BYTES.map((bytes) => 1 / bytes);
/**
 * The numbers of an entry lie side by side: page number in units of its own size, physical address minus IOVA, first IOVA behind it.
 * {@link Iotlb.translate} has these as literals, since a bundler makes variables of constants.
 */
const FIELDS = 3;
const PAGE = 0;
const DELTA = 1;
const END = 2;

/** Cached translations of all address spaces of one IOMMU. Plain: charges nothing, the IOMMU does. */
export class Iotlb {
  /** Lookups that found none. */
  misses = 0;
  /** Invalidations asked for. */
  invalidations = 0;
  readonly ways: number;
  readonly #setMask: number;
  /** asid * CLASSES + size class, or {@link EMPTY}. */
  readonly #tags: Int32Array;
  /** {@link FIELDS} of each entry. */
  readonly #fields: Float64Array;
  /** When an entry was used last. */
  readonly #ages: Float64Array;
  readonly #prots: Uint8Array;
  /** Classes that were ever filled, smallest first, and as a mask. */
  readonly #classes: number[] = [];
  #classMask = 0;
  /** The smallest of them (any while there is none), which most lookups need only: the class, and its pages per byte. */
  #smallest = 0;
  #perSmallest = PER_BYTE[0] as number;
  #size = 0;
  /** Counts uses: hits and fills. */
  #clock = 0;
  #fills = 0;

  /** @throws {InvariantError} `entries / ways` is no power of two. */
  constructor(options: IotlbOptions = {}) {
    const entries = options.entries ?? 2048;
    this.ways = options.ways ?? 4;
    const sets = entries / this.ways;
    assert(Number.isInteger(this.ways) && this.ways > 0, 'Iotlb: ways %s is no whole number above 0', this.ways);
    assert(
      sets >= 1 && Number.isInteger(Math.log2(sets)),
      'Iotlb: %s entries / %s ways is no power of two',
      entries,
      this.ways,
    );
    this.#setMask = sets - 1;
    this.#tags = new Int32Array(entries).fill(EMPTY);
    this.#fields = new Float64Array(FIELDS * entries);
    this.#ages = new Float64Array(entries);
    this.#prots = new Uint8Array(entries);
  }

  /** Entries in use. */
  get size(): number {
    return this.#size;
  }

  /** Lookups that found an entry. */
  get hits(): number {
    return this.#clock - this.#fills;
  }

  /**
   * Looks for the entry that covers `iova` in address space `asid`; counts a hit or a miss.
   *
   * @returns a handle for {@link physAt}, {@link sizeAt} and {@link protAt} that holds until the next fill or invalidation, or `IOTLB_MISS`.
   */
  lookup(asid: number, iova: Iova): number {
    return this.#lookupFrom(0, asid, iova);
  }

  /** What `iova` translates to in address space `asid`, or -1: no entry covers it. Counts nothing, and changes nothing. */
  peek(asid: number, iova: Iova): number {
    for (const sizeClass of this.#classes) {
      const page = Math.floor(iova * (PER_BYTE[sizeClass] as number));
      const slot = this.#find(this.#firstOf(asid, page), asid * CLASSES + sizeClass, page);
      if (slot >= 0) return this.physAt(slot, iova);
    }
    return -1;
  }

  /**
   * As {@link lookup}; an entry that gives `right` (an `IommuProt` bit) fills `out.phys` and `out.runBytes`.
   *
   * @returns the handle; `IOTLB_MISS`; or {@link IOTLB_DENIED} - handle for an entry that forbids the access.
   * @internal
   */
  translate(asid: number, iova: Iova, right: number, out: Translation): number {
    // One flat function for the smallest class: what a device does for each piece of a transfer.
    const tags = this.#tags;
    const fields = this.#fields;
    const page = Math.floor(iova * this.#perSmallest);
    const tag = asid * 32 + this.#smallest;
    let slot = this.#firstOf(asid, page);
    for (let way = this.ways; way > 0; way--, slot++) {
      if (tags[slot] !== tag) continue;
      const at = 3 * slot;
      if (fields[at] !== page) continue;
      this.#ages[slot] = ++this.#clock;
      if (((this.#prots[slot] as number) & right) === 0) return IOTLB_DENIED - slot;
      out.phys = (iova + (fields[at + 1] as number)) as PhysAddr;
      out.runBytes = (fields[at + 2] as number) - iova;
      return slot;
    }
    slot = this.#lookupFrom(1, asid, iova);
    if (slot < 0) return IOTLB_MISS;
    if ((this.protAt(slot) & right) === 0) return IOTLB_DENIED - slot;
    out.phys = this.physAt(slot, iova);
    out.runBytes = this.bytesLeft(slot, iova);
    return slot;
  }

  /** What `iova` translates to in the entry `handle`. */
  physAt(handle: number, iova: Iova): PhysAddr {
    return (iova + (this.#fields[FIELDS * handle + DELTA] as number)) as PhysAddr;
  }

  /** Bytes that the entry `handle` covers. */
  sizeAt(handle: number): number {
    return CLASS_BYTES[(this.#tags[handle] as number) & (CLASSES - 1)] as number;
  }

  /** Bytes from `iova` to the end of the entry `handle`. */
  bytesLeft(handle: number, iova: Iova): number {
    return (this.#fields[FIELDS * handle + END] as number) - iova;
  }

  /** `IommuProt` read and write bits of the entry `handle`. */
  protAt(handle: number): number {
    return this.#prots[handle] as number;
  }

  /**
   * Remembers that `iova` translates to `phys` within a leaf of `sizeBytes` (a power of two from 4 KiB to 8 TiB). Replaces an entry
   * for the same leaf, else an empty place, else the least recently used of its set. @returns the entry's handle.
   */
  fill(asid: number, iova: Iova, phys: PhysAddr, sizeBytes: number, prot: number): number {
    const sizeClass = classOf(sizeBytes);
    const page = Math.floor(iova * (PER_BYTE[sizeClass] as number));
    const tag = asid * CLASSES + sizeClass;
    const slot = this.#victim(this.#firstOf(asid, page), tag, page);
    if (this.#tags[slot] === EMPTY) this.#size++;
    if (((this.#classMask >>> sizeClass) & 1) === 0) this.#addClass(sizeClass);
    this.#tags[slot] = tag;
    this.#prots[slot] = prot;
    const fields = this.#fields;
    const at = FIELDS * slot;
    fields[at + PAGE] = page;
    fields[at + DELTA] = phys - iova;
    fields[at + END] = (page + 1) * sizeBytes;
    this.#ages[slot] = ++this.#clock;
    this.#fills++;
    return slot;
  }

  /** Drops every entry of `asid` that covers a byte of `[iova, iova + sizeBytes)`. @returns how many. */
  invalidateRange(asid: number, iova: Iova, sizeBytes: number): number {
    this.invalidations++;
    let dropped = 0;
    for (const sizeClass of this.#classes) {
      const perByte = PER_BYTE[sizeClass] as number;
      const first = Math.floor(iova * perByte);
      const last = Math.floor((iova + sizeBytes - 1) * perByte);
      const tag = asid * CLASSES + sizeClass;
      if ((last - first + 1) * this.ways > this.#tags.length) {
        dropped += this.#dropWhere((slot) => this.#tags[slot] === tag && this.#isBetween(slot, first, last));
        continue;
      }
      for (let page = first; page <= last; page++) {
        const at = this.#find(this.#firstOf(asid, page), tag, page);
        if (at < 0) continue;
        this.#drop(at);
        dropped++;
      }
    }
    return dropped;
  }

  /** Drops the entry of `asid` that covers `iova`, if any, of any size. @returns how many. */
  invalidatePage(asid: number, iova: Iova): number {
    return this.invalidateRange(asid, iova, 1);
  }

  /** Drops all entries of `asid`. @returns how many. */
  invalidateAsid(asid: number): number {
    this.invalidations++;
    return this.#dropWhere((slot) => Math.floor((this.#tags[slot] as number) / CLASSES) === asid);
  }

  /** Drops everything. @returns how many entries. */
  invalidateAll(): number {
    this.invalidations++;
    return this.#dropWhere((slot) => this.#tags[slot] !== EMPTY);
  }

  /** All entries, in order of set and way. Looks only: ages and counters stay. */
  *entries(): IterableIterator<IotlbEntry> {
    for (let slot = 0; slot < this.#tags.length; slot++) {
      const tag = this.#tags[slot] as number;
      if (tag === EMPTY) continue;
      const sizeBytes = this.sizeAt(slot);
      const start = this.#pageAt(slot) * sizeBytes;
      yield {
        asid: Math.floor(tag / CLASSES),
        iova: iovaOf(start),
        phys: physAddr(start + (this.#fields[FIELDS * slot + DELTA] as number)),
        sizeBytes,
        prot: this.#prots[slot] as number,
      };
    }
  }

  /** First place of the set for `page`; address spaces are spread, so that equal addresses do not meet in one set. */
  #firstOf(asid: number, page: number): number {
    return (((page | 0) + asid * 97) & this.#setMask) * this.ways;
  }

  /** Looks through the classes from index `from` on; counts a miss or a hit. @returns a handle, or `IOTLB_MISS`. */
  #lookupFrom(from: number, asid: number, iova: Iova): number {
    const classes = this.#classes;
    for (let c = from; c < classes.length; c++) {
      const sizeClass = classes[c] as number;
      const page = Math.floor(iova * (PER_BYTE[sizeClass] as number));
      const slot = this.#find(this.#firstOf(asid, page), asid * CLASSES + sizeClass, page);
      if (slot < 0) continue;
      this.#ages[slot] = ++this.#clock;
      return slot;
    }
    this.misses++;
    return IOTLB_MISS;
  }

  #pageAt(slot: number): number {
    return this.#fields[FIELDS * slot + PAGE] as number;
  }

  #find(first: number, tag: number, page: number): number {
    for (let slot = first; slot < first + this.ways; slot++) {
      if (this.#tags[slot] === tag && this.#pageAt(slot) === page) return slot;
    }
    return -1;
  }

  #victim(first: number, tag: number, page: number): number {
    const tags = this.#tags;
    const fields = this.#fields;
    const ages = this.#ages;
    let oldest = first;
    let least = Infinity;
    for (let slot = first, end = first + this.ways; slot < end; slot++) {
      const held = tags[slot] as number;
      if (held === tag && fields[FIELDS * slot + PAGE] === page) return slot;
      const age = held === EMPTY ? -1 : (ages[slot] as number);
      if (age >= least) continue;
      least = age;
      oldest = slot;
    }
    return oldest;
  }

  #isBetween(slot: number, first: number, last: number): boolean {
    const page = this.#pageAt(slot);
    return page >= first && page <= last;
  }

  #dropWhere(isGone: (slot: number) => boolean): number {
    let dropped = 0;
    for (let slot = 0; slot < this.#tags.length; slot++) {
      if (!isGone(slot)) continue;
      this.#drop(slot);
      dropped++;
    }
    return dropped;
  }

  #drop(slot: number): void {
    this.#tags[slot] = EMPTY;
    this.#size--;
  }

  /** A class stays for good: which sizes a unit maps hardly changes. */
  #addClass(sizeClass: number): void {
    const classes = this.#classes;
    this.#classMask |= 1 << sizeClass;
    classes.push(sizeClass);
    classes.sort((a, b) => a - b);
    this.#smallest = classes[0] as number;
    this.#perSmallest = PER_BYTE[this.#smallest] as number;
  }
}

/** Size class of a leaf. @throws {InvariantError} `sizeBytes` is no power of two from 4 KiB to 8 TiB. */
function classOf(sizeBytes: number): number {
  const sizeClass = sizeBytes < 2 ** 31 ? 31 - MIN_SHIFT - Math.clz32(sizeBytes) : Math.log2(sizeBytes) - MIN_SHIFT;
  if (CLASS_BYTES[sizeClass] !== sizeBytes) assert(false, 'Iotlb.fill: %s is no leaf size', sizeBytes);
  return sizeClass;
}
