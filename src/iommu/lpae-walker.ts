/**
 * Reading an LPAE page table as the hardware's walker does.
 *
 * Descriptor (Arm ARM DDI 0487, D8.3 "VMSAv8-64 translation table format descriptors"):
 * `63..52 upper attributes | 47..12 address | 11..2 lower attributes | 1..0 type`; type 1 = block, 3 = table or, at level 3, page.
 * What the attribute bits mean is the format's business (`LpaeEncoding`).
 *
 * A walk ignores the bits of an IOVA above `ias`, which hardware uses only to choose between TTBR0 and TTBR1; map and unmap
 * refuse them. Indices are taken from the address as a double scaled by powers of two: exact, and without 64-bit integers.
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
    const { words, child } = this.arena;
    const bits = this.bits;
    const position = iova < 0 ? iova + T52 : iova;
    const page = (position * this.perPage) | 0;
    let shift = this.topShift;
    let entry = ((position * this.perTop) | 0) & this.topMask;
    while (shift > 0) {
      const slot = child[entry] as number;
      if (slot === 0) break;
      shift -= bits;
      const index = shift > this.wideShift ? this.wideIndex(position, shift) : (page >>> shift) & this.mask;
      entry = (slot << bits) + index;
    }
    const low = words[2 * entry] as number;
    if (low === 0) return 0 as PhysAddr;
    const high = words[2 * entry + 1] as number;
    if (this.folds) {
      const level = LAST_LEVEL - shift / bits;
      return (descriptorAddress(this.geometry, low, high) + this.offset(position, level)) as PhysAddr;
    }
    const inside = (1 << (shift + this.pageShift)) - 1;
    return ((high & 0xffff) * T32 + (((low & LOW_ADDRESS) | (position & inside)) >>> 0)) as PhysAddr;
  }

  walk(iova: Iova, leaf: IoPgtableLeaf): boolean {
    const { words, child } = this.arena;
    const bits = this.bits;
    const position = iova < 0 ? iova + T52 : iova;
    const page = (position * this.perPage) | 0;
    let level = this.startLevel;
    let shift = this.topShift;
    let entry = ((position * this.perTop) | 0) & this.topMask;
    for (; level < LAST_LEVEL; level++) {
      const slot = child[entry] as number;
      if (slot === 0) break;
      shift -= bits;
      const index = shift > this.wideShift ? this.wideIndex(position, shift) : (page >>> shift) & this.mask;
      entry = (slot << bits) + index;
    }
    leaf.level = level;
    leaf.reads = level - this.startLevel + 1;
    const low = words[2 * entry] as number;
    if (low === 0) return false;
    const high = words[2 * entry + 1] as number;
    leaf.sizeBytes = this.levelBytes[level] as number;
    leaf.phys = (descriptorAddress(this.geometry, low, high) + this.offset(position, level)) as PhysAddr;
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
    const { child } = this.arena;
    const bits = this.bits;
    const position = iova < 0 ? iova + T52 : iova;
    const page = (position * this.perPage) | 0;
    const stop = bits * (LAST_LEVEL - level);
    let shift = this.topShift;
    let entry = ((position * this.perTop) | 0) & this.topMask;
    while (shift > stop) {
      const slot = child[entry] as number;
      if (slot === 0) return -1;
      shift -= bits;
      const index = shift > this.wideShift ? this.wideIndex(position, shift) : (page >>> shift) & this.mask;
      entry = (slot << bits) + index;
    }
    return entry;
  }

  /** Index into a table whose leaves have `shift` bits of page number below it; right for any shift, slower than shifting. */
  protected wideIndex(position: number, shift: number): number {
    return ((position / 2 ** (shift + this.pageShift)) | 0) & this.mask;
  }

  /** Bytes from the start of the leaf at `level` to `position`. */
  protected offset(position: number, level: number): number {
    const bytes = this.levelBytes[level] as number;
    return position - Math.floor(position / bytes) * bytes;
  }
}
