/**
 * Reading an LPAE page table as the hardware's walker does.
 *
 * Descriptor (Arm ARM DDI 0487, D8.3 "VMSAv8-64 translation table format descriptors"):
 * `63..52 upper attributes | 47..12 address | 11..2 lower attributes | 1..0 type`; type 1 = block, 3 = table or, at level 3, page.
 * What the attribute bits mean is the format's business (`LpaeEncoding`).
 *
 * A walk ignores the bits of an IOVA above `ias`, which hardware uses only to choose between TTBR0 and TTBR1; map and unmap
 * refuse them. Indices are taken from the address as a double scaled by powers of two: exact, and without 64-bit integers.
 * The tables of levels 2 and 3 that were used last are remembered, since neighbours follow each other: a page beside the last one takes
 * no walk at all. What a walk reports (levels, reads) is that of hardware without such caches.
 * Members are `protected`, not `#`: V8 inlines a function by the size of its bytecode, and `#` triples it.
 *
 * @internal
 */
import type { Iova, PhysAddr } from '../base/addr.ts';
import type { IoPgtableDumpLeaf, IoPgtableLeaf, TablePages } from './io-pgtable.ts';
import type { LpaeEncoding, LpaeFormat } from './lpae-format.ts';
import { descriptorAddress, LAST_LEVEL, type LpaeGeometry, levelBytes } from './lpae-geometry.ts';
import { checkLpae, dumpLpae, type LpaeView, lpaeLeaves } from './lpae-inspect.ts';
import { TableArena } from './table-arena.ts';

const T32 = 2 ** 32;
const T52 = 2 ** 52;
const LOW_ADDRESS = 0xffff_f000;
const NO_REGION = -1;

/** The reading half of an LPAE page table. @internal */
export class LpaeWalker implements LpaeView {
  readonly format: string;
  readonly geometry: LpaeGeometry;
  readonly pgsizeBitmap: number;
  readonly granuleBytes: number;
  readonly ias: number;
  readonly oas: number;
  readonly firstIova: number;
  /** The table pages; for inspection only. */
  readonly arena: TableArena;
  protected readonly encoding: LpaeEncoding;
  protected readonly startLevel: number;
  protected readonly endIova: number;
  /** Address bits that one level resolves, and the descriptors of a table. */
  protected readonly bits: number;
  protected readonly entries: number;
  protected readonly mask: number;
  protected readonly pageShift: number;
  protected readonly perPage: number;
  /** Of the top level: 1 / bytes of an entry, index mask, and the bits of a page number below its index. */
  protected readonly perTop: number;
  protected readonly topMask: number;
  protected readonly topShift: number;
  /** Indices above this bit of a page number do not lie wholly in its low 32 bits. */
  protected readonly wideShift: number;
  /** 64 KiB granule: address bits 51..48 stand in bits 15..12. */
  protected readonly folds: boolean;
  protected readonly levelBytes: readonly number[];
  /** Of a table at level 3 and at level 2: 1 / bytes that it maps. */
  private readonly perTable3: number;
  private readonly perTable2: number;
  /** Number of the region that the last table used at a level maps, or -1; and the table's first entry. */
  private region3 = NO_REGION;
  private base3 = 0;
  private region2 = NO_REGION;
  private base2 = 0;
  /** Bits of a page number below the entry that {@link descend} ended at. */
  private reached = 0;

  /** @throws {ErrnoError} `ENOMEM` no page for the top-level table (retry later). */
  constructor(format: LpaeFormat<unknown>, pages: TablePages) {
    const { geometry } = format;
    this.format = format.name;
    this.geometry = geometry;
    this.pgsizeBitmap = geometry.pgsizeBitmap;
    this.granuleBytes = geometry.granuleBytes;
    this.ias = geometry.ias;
    this.oas = geometry.oas;
    this.firstIova = format.upperHalf ? -(2 ** geometry.ias) : 0;
    this.endIova = this.firstIova + 2 ** geometry.ias;
    this.encoding = format.encoding;
    this.startLevel = geometry.startLevel;
    this.bits = geometry.bitsPerLevel;
    this.entries = 2 ** geometry.bitsPerLevel;
    this.mask = this.entries - 1;
    this.pageShift = geometry.bitsPerLevel + 3;
    this.perPage = 1 / geometry.granuleBytes;
    this.levelBytes = [0, 1, 2, 3].map((level) => levelBytes(geometry, level));
    this.perTable3 = 1 / levelBytes(geometry, LAST_LEVEL - 1);
    this.perTable2 = 1 / levelBytes(geometry, LAST_LEVEL - 2);
    this.perTop = 1 / levelBytes(geometry, geometry.startLevel);
    this.topMask = 2 ** geometry.pgdBits - 1;
    this.topShift = geometry.bitsPerLevel * (LAST_LEVEL - geometry.startLevel);
    this.wideShift = 32 - geometry.bitsPerLevel;
    this.folds = geometry.granuleBytes === 2 ** 16;
    this.arena = new TableArena(pages, this.entries, 2 ** geometry.pgdBits);
  }

  get tablePages(): number {
    return this.arena.belowRoot;
  }

  iovaToPhys(iova: Iova): PhysAddr {
    const position = iova < 0 ? iova + T52 : iova;
    let shift = 0;
    let entry = 0;
    if (((position * this.perTable3) | 0) === this.region3) {
      entry = this.base3 + (((position * this.perPage) | 0) & this.mask);
    } else {
      entry = this.descend(position, LAST_LEVEL);
      shift = this.reached;
    }
    const { words } = this.arena;
    const low = words[2 * entry] as number;
    if (low === 0) return 0 as PhysAddr;
    const high = words[2 * entry + 1] as number;
    if (this.folds) return this.foldedAddress(low, high, position, LAST_LEVEL - shift / this.bits);
    const inside = (1 << (shift + this.pageShift)) - 1;
    return ((high & 0xffff) * T32 + (((low & LOW_ADDRESS) | (position & inside)) >>> 0)) as PhysAddr;
  }

  walk(iova: Iova, leaf: IoPgtableLeaf): boolean {
    const position = iova < 0 ? iova + T52 : iova;
    const entry = this.descend(position, LAST_LEVEL);
    const level = LAST_LEVEL - this.reached / this.bits;
    leaf.level = level;
    leaf.reads = level - this.startLevel + 1;
    const { words } = this.arena;
    const low = words[2 * entry] as number;
    if (low === 0) return false;
    const high = words[2 * entry + 1] as number;
    const sizeBytes = this.levelBytes[level] as number;
    leaf.sizeBytes = sizeBytes;
    leaf.phys = this.folds
      ? this.foldedAddress(low, high, position, level)
      : (((high & 0xffff) * T32 + (((low & LOW_ADDRESS) | (position & (sizeBytes - 1))) >>> 0)) as PhysAddr);
    leaf.prot = this.encoding.access(low, high);
    return true;
  }

  contains(iova: Iova): boolean {
    return iova >= this.firstIova && iova < this.endIova;
  }

  leaves(): IterableIterator<IoPgtableDumpLeaf> {
    return lpaeLeaves(this);
  }

  dump(iova: Iova): string {
    return dumpLpae(this, iova);
  }

  check(): void {
    checkLpae(this);
  }

  /** The entry for `iova` at `level`, or a negative number when no table leads there. */
  protected find(iova: number, level: number): number {
    const position = iova < 0 ? iova + T52 : iova;
    if (level === LAST_LEVEL) {
      if (((position * this.perTable3) | 0) === this.region3)
        return this.base3 + (((position * this.perPage) | 0) & this.mask);
    } else if (level === LAST_LEVEL - 1 && ((position * this.perTable2) | 0) === this.region2) {
      return this.base2 + ((((position * this.perPage) | 0) >>> this.bits) & this.mask);
    }
    const entry = this.descend(position, level);
    return this.reached === this.bits * (LAST_LEVEL - level) ? entry : -1;
  }

  /** Must be called before any table is freed. */
  protected forgetTables(): void {
    this.region3 = NO_REGION;
    this.region2 = NO_REGION;
  }

  /** Walks down to `level`, or as far as tables lead. Sets {@link reached}. @returns the last entry. */
  private descend(position: number, level: number): number {
    if (level < LAST_LEVEL || ((position * this.perTable2) | 0) !== this.region2)
      return this.descendFromTop(position, level);
    const page = (position * this.perPage) | 0;
    const { bits, mask } = this;
    const entry = this.base2 + ((page >>> bits) & mask);
    const slot = this.arena.child[entry] as number;
    this.reached = slot === 0 ? bits : 0;
    if (slot === 0) return entry;
    this.region3 = (position * this.perTable3) | 0;
    this.base3 = slot << bits;
    return (slot << bits) + (page & mask);
  }

  private descendFromTop(position: number, level: number): number {
    const { child } = this.arena;
    const { bits } = this;
    const page = (position * this.perPage) | 0;
    const stop = bits * (LAST_LEVEL - level);
    let shift = this.topShift;
    let entry = ((position * this.perTop) | 0) & this.topMask;
    while (shift > stop) {
      const slot = child[entry] as number;
      if (slot === 0) break;
      shift -= bits;
      const index = shift > this.wideShift ? this.wideIndex(position, shift) : (page >>> shift) & this.mask;
      entry = (slot << bits) + index;
      if (shift === 0) {
        this.region3 = (position * this.perTable3) | 0;
        this.base3 = slot << bits;
      } else if (shift === bits) {
        this.region2 = (position * this.perTable2) | 0;
        this.base2 = slot << bits;
      }
    }
    this.reached = shift;
    return entry;
  }

  /** What `position` leads to in a leaf of the 64 KiB granule at `level`. */
  private foldedAddress(low: number, high: number, position: number, level: number): PhysAddr {
    const sizeBytes = this.levelBytes[level] as number;
    const offset = position - Math.floor(position / sizeBytes) * sizeBytes;
    return (descriptorAddress(this.geometry, low, high) + offset) as PhysAddr;
  }

  /** Index into a table whose leaves have `shift` bits of page number below it; right for any shift, slower than shifting. */
  protected wideIndex(position: number, shift: number): number {
    return ((position / 2 ** (shift + this.pageShift)) | 0) & this.mask;
  }
}
