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

const EMPTY = -1;
const MIN_SHIFT = 12;
/** Size classes: 2^12 … 2^43 bytes. */
const CLASSES = 32;
/** Bytes of a class, and its reciprocal: both exact, and much faster than a power. */
const CLASS_BYTES = Float64Array.from({ length: CLASSES }, (_, sizeClass) => 2 ** (sizeClass + MIN_SHIFT));
const PER_BYTE = CLASS_BYTES.map((bytes) => 1 / bytes);

/** Cached translations of all address spaces of one IOMMU. Plain: charges nothing, the IOMMU does. */
export class Iotlb {
  /** Lookups that found an entry. */
  hits = 0;
  /** Lookups that found none. */
  misses = 0;
  /** Invalidations asked for. */
  invalidations = 0;
  readonly ways: number;
  private readonly setMask: number;
  /** Page number in units of the entry's own size. */
  private readonly pages: Float64Array;
  /** asid * CLASSES + size class, or {@link EMPTY}. */
  private readonly tags: Int32Array;
  /** Physical address minus IOVA. */
  private readonly deltas: Float64Array;
  /** First IOVA behind the entry. */
  private readonly ends: Float64Array;
  private readonly prots: Uint8Array;
  private readonly ages: Float64Array;
  private readonly live = new Int32Array(CLASSES);
  /** Classes with entries, smallest first. */
  private classes: number[] = [];
  private clock = 0;

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
    this.setMask = sets - 1;
    this.pages = new Float64Array(entries);
    this.tags = new Int32Array(entries).fill(EMPTY);
    this.deltas = new Float64Array(entries);
    this.ends = new Float64Array(entries);
    this.prots = new Uint8Array(entries);
    this.ages = new Float64Array(entries);
  }

  /** Entries in use. */
  get size(): number {
    return this.live.reduce((sum, count) => sum + count, 0);
  }

  /**
   * Looks for the entry that covers `iova` in address space `asid`; counts a hit or a miss.
   *
   * @returns a handle for {@link physAt}, {@link sizeAt} and {@link protAt} that holds until the next fill or invalidation, or -1.
   */
  lookup(asid: number, iova: Iova): number {
    const { classes, tags, pages } = this;
    for (let c = 0; c < classes.length; c++) {
      const sizeClass = classes[c] as number;
      const page = Math.floor(iova * (PER_BYTE[sizeClass] as number));
      const tag = asid * CLASSES + sizeClass;
      const first = this.firstOf(asid, page);
      for (let slot = first, end = first + this.ways; slot < end; slot++) {
        if (tags[slot] === tag && pages[slot] === page) {
          this.hits++;
          this.ages[slot] = ++this.clock;
          return slot;
        }
      }
    }
    this.misses++;
    return -1;
  }

  /** What `iova` translates to in the entry `handle`. */
  physAt(handle: number, iova: Iova): PhysAddr {
    return (iova + (this.deltas[handle] as number)) as PhysAddr;
  }

  /** Bytes that the entry `handle` covers. */
  sizeAt(handle: number): number {
    return CLASS_BYTES[(this.tags[handle] as number) & (CLASSES - 1)] as number;
  }

  /** Bytes from `iova` to the end of the entry `handle`. */
  bytesLeft(handle: number, iova: Iova): number {
    return (this.ends[handle] as number) - iova;
  }

  /** `IommuProt` read and write bits of the entry `handle`. */
  protAt(handle: number): number {
    return this.prots[handle] as number;
  }

  /**
   * Remembers that `iova` translates to `phys` within a leaf of `sizeBytes` (a power of two from 4 KiB to 8 TiB). Replaces an entry
   * for the same leaf, else an empty place, else the least recently used of its set. @returns the entry's handle.
   */
  fill(asid: number, iova: Iova, phys: PhysAddr, sizeBytes: number, prot: number): number {
    const sizeClass = classOf(sizeBytes);
    const page = Math.floor(iova * (PER_BYTE[sizeClass] as number));
    const tag = asid * CLASSES + sizeClass;
    const slot = this.victim(this.firstOf(asid, page), tag, page);
    const before = this.tags[slot] as number;
    // What replaces an entry of its own size class changes no count.
    if (before === EMPTY || (before & (CLASSES - 1)) !== sizeClass) {
      if (before !== EMPTY) this.drop(slot);
      this.count(sizeClass, 1);
    }
    this.tags[slot] = tag;
    this.pages[slot] = page;
    this.deltas[slot] = phys - iova;
    this.ends[slot] = (page + 1) * sizeBytes;
    this.prots[slot] = prot;
    this.ages[slot] = ++this.clock;
    return slot;
  }

  /** Drops every entry of `asid` that covers a byte of `[iova, iova + sizeBytes)`. @returns how many. */
  invalidateRange(asid: number, iova: Iova, sizeBytes: number): number {
    this.invalidations++;
    let dropped = 0;
    for (const sizeClass of this.classes) {
      const perByte = PER_BYTE[sizeClass] as number;
      const first = Math.floor(iova * perByte);
      const last = Math.floor((iova + sizeBytes - 1) * perByte);
      const tag = asid * CLASSES + sizeClass;
      if ((last - first + 1) * this.ways > this.tags.length) {
        dropped += this.dropWhere((slot) => this.tags[slot] === tag && this.isBetween(slot, first, last));
        continue;
      }
      for (let page = first; page <= last; page++) {
        const at = this.find(this.firstOf(asid, page), tag, page);
        if (at < 0) continue;
        this.drop(at);
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
    return this.dropWhere((slot) => Math.floor((this.tags[slot] as number) / CLASSES) === asid);
  }

  /** Drops everything. @returns how many entries. */
  invalidateAll(): number {
    this.invalidations++;
    return this.dropWhere((slot) => this.tags[slot] !== EMPTY);
  }

  /** All entries, in order of set and way. Looks only: ages and counters stay. */
  *entries(): IterableIterator<IotlbEntry> {
    for (let slot = 0; slot < this.tags.length; slot++) {
      const tag = this.tags[slot] as number;
      if (tag === EMPTY) continue;
      const sizeBytes = this.sizeAt(slot);
      const start = (this.pages[slot] as number) * sizeBytes;
      yield {
        asid: Math.floor(tag / CLASSES),
        iova: iovaOf(start),
        phys: physAddr(start + (this.deltas[slot] as number)),
        sizeBytes,
        prot: this.prots[slot] as number,
      };
    }
  }

  /** First place of the set for `page`; address spaces are spread, so that equal addresses do not meet in one set. */
  private firstOf(asid: number, page: number): number {
    return (((page | 0) + asid * 97) & this.setMask) * this.ways;
  }

  private find(first: number, tag: number, page: number): number {
    for (let slot = first; slot < first + this.ways; slot++) {
      if (this.tags[slot] === tag && this.pages[slot] === page) return slot;
    }
    return -1;
  }

  private victim(first: number, tag: number, page: number): number {
    const { tags, ages } = this;
    let oldest = first;
    let least = Infinity;
    for (let slot = first, end = first + this.ways; slot < end; slot++) {
      const held = tags[slot] as number;
      if (held === tag && this.pages[slot] === page) return slot;
      const age = held === EMPTY ? -1 : (ages[slot] as number);
      if (age >= least) continue;
      least = age;
      oldest = slot;
    }
    return oldest;
  }

  private isBetween(slot: number, first: number, last: number): boolean {
    const page = this.pages[slot] as number;
    return page >= first && page <= last;
  }

  private dropWhere(isGone: (slot: number) => boolean): number {
    let dropped = 0;
    for (let slot = 0; slot < this.tags.length; slot++) {
      if (!isGone(slot)) continue;
      this.drop(slot);
      dropped++;
    }
    return dropped;
  }

  private drop(slot: number): void {
    const sizeClass = (this.tags[slot] as number) & (CLASSES - 1);
    this.tags[slot] = EMPTY;
    this.count(sizeClass, -1);
  }

  private count(sizeClass: number, change: 1 | -1): void {
    const before = this.live[sizeClass] as number;
    this.live[sizeClass] = before + change;
    if (before !== 0 && before + change !== 0) return;
    this.classes = [...this.live.keys()].filter((sizeClass) => this.live[sizeClass] !== 0);
  }
}

/** Size class of a leaf. @throws {InvariantError} `sizeBytes` is no power of two from 4 KiB to 8 TiB. */
function classOf(sizeBytes: number): number {
  const sizeClass = sizeBytes < 2 ** 31 ? 31 - MIN_SHIFT - Math.clz32(sizeBytes) : Math.log2(sizeBytes) - MIN_SHIFT;
  if (CLASS_BYTES[sizeClass] !== sizeBytes) assert(false, 'Iotlb.fill: %s is no leaf size', sizeBytes);
  return sizeClass;
}
