/**
 * A scatter-gather table: where a buffer lies in memory, and where one device sees it.
 *
 * The two sides are separate, as in Linux: `origNents` extents on the CPU side, `nents` segments on the device side after
 * mapping, and `nents` may be smaller when an IOMMU joins extents. Columns are typed arrays, read by index.
 *
 * @see Linux 6.1 `include/linux/scatterlist.h` struct sg_table
 */
import { type DmaAddr, PAGE_SIZE, type Pfn, type PhysAddr } from '../base/addr.ts';
import { assert } from '../base/assert.ts';

/** One run of memory, in bytes. */
export interface Extent {
  readonly phys: PhysAddr;
  readonly length: number;
}

/** One run of addresses as a device sees them, in bytes. */
export interface Segment {
  readonly address: DmaAddr;
  readonly length: number;
}

/**
 * The columns of a table, for the DMA API's own loops over extents: one row an extent or segment, no checks. A row of the device
 * side means something below `nents` only.
 */
interface SgColumns {
  readonly phys: Float64Array;
  readonly length: Float64Array;
  readonly dmaAddress: Float64Array;
  readonly dmaLength: Float64Array;
}

/** Where a buffer's bytes are. Belongs to one mapping at a time. */
export class SgTable {
  /** Extents on the CPU side. */
  readonly origNents: number;
  /** @internal The device it is mapped for; `null` while it is not mapped. */
  mappedFor: { readonly name: string } | null = null;
  /** @internal The table of the entries that were really mapped, when they are not all. */
  mappedPart: SgTable | null = null;
  /** @internal The table that it is a clone of, of the same buffer; itself, if of none. */
  readonly original: SgTable;
  /** @internal Told when somebody looks at where the buffer lies, who has no business to; `null`: everybody may look. */
  onPeek: (() => undefined) | null = null;
  /** @internal Its mapping's number in the address book; 0: it has none. */
  bookId = 0;
  /** @internal For the DMA API itself, which may look at both sides at any time. */
  readonly columns: SgColumns;
  /** Bytes of the whole buffer. */
  readonly sizeBytes: number;
  #nents = 0;

  /**
   * @param extents - in the order of the buffer's bytes; lengths are whole numbers above 0. Or another table of the same buffer.
   * @param entries - of another table, how many extents to take, from the first on. Default: all.
   * @throws {InvariantError} no extent, or one whose address or length is out of range.
   */
  constructor(extents: readonly Extent[] | SgTable, entries?: number) {
    const isShare = extents instanceof SgTable;
    const { phys, length } = isShare ? firstRows(extents, entries ?? extents.origNents) : rowsOf(extents);
    assert(phys.length > 0, 'SgTable: there must be at least one extent');
    this.origNents = phys.length;
    this.original = isShare ? extents.original : this;
    this.columns = {
      phys,
      length,
      dmaAddress: new Float64Array(phys.length),
      dmaLength: new Float64Array(phys.length),
    };
    let sum = 0;
    for (let i = 0; i < length.length; i++) sum += length[i] as number;
    this.sizeBytes = sum;
  }

  /**
   * The table of `sizeBytes` bytes that begin `offset` bytes into the first of `pfns`; neighbouring pages become one extent.
   *
   * @throws {InvariantError} the pages do not hold the bytes, or `offset` or `sizeBytes` is out of range.
   * @see Linux 6.1 `lib/scatterlist.c` sg_alloc_table_from_pages
   */
  static fromPages(pfns: ArrayLike<Pfn>, range: { readonly offset?: number; readonly sizeBytes: number }): SgTable {
    const offset = range.offset ?? 0;
    const { sizeBytes } = range;
    assert(isWhole(offset, 0), 'fromPages: offset %s is no whole number >= 0', offset);
    assert(isWhole(sizeBytes, 1), 'fromPages: sizeBytes %s is no whole number > 0', sizeBytes);
    const fits = offset + sizeBytes <= pfns.length * PAGE_SIZE;
    assert(fits, 'fromPages: %s pages do not hold %s bytes from offset %s', pfns.length, sizeBytes, offset);
    const extents: { phys: PhysAddr; length: number }[] = [];
    let left = sizeBytes;
    for (let i = Math.floor(offset / PAGE_SIZE); left > 0; i++) {
      const within = left === sizeBytes ? offset % PAGE_SIZE : 0;
      const phys = ((pfns[i] as Pfn) * PAGE_SIZE + within) as PhysAddr;
      const length = Math.min(PAGE_SIZE - within, left);
      const last = extents.at(-1);
      if (last !== undefined && last.phys + last.length === phys) last.length += length;
      else extents.push({ phys, length });
      left -= length;
    }
    return new SgTable(extents);
  }

  /** Segments on the device side; 0 while not mapped. May be below {@link origNents}. */
  get nents(): number {
    return this.#nents;
  }

  /**
   * Physical address of extent `i`.
   *
   * @throws {HazardError} `dmabuf.page-peek` under policy `'throw'`: an importer looks at the memory behind a table that a dma-buf gave it.
   * @throws {InvariantError} `i` is not in [0, origNents).
   */
  physAddress(i: number): PhysAddr {
    this.onPeek?.();
    return this.columns.phys[checkIndex('extent', i, this.origNents)] as PhysAddr;
  }

  /** Bytes of extent `i`. @throws {InvariantError} `i` is not in [0, origNents). */
  length(i: number): number {
    return this.columns.length[checkIndex('extent', i, this.origNents)] as number;
  }

  /**
   * Address of segment `i` as the device sees it; means nothing to another device, and nothing after the unmap.
   *
   * @throws {InvariantError} `i` is not in [0, nents).
   * @see Linux 6.1 `include/linux/scatterlist.h` sg_dma_address
   */
  dmaAddress(i: number): DmaAddr {
    return this.columns.dmaAddress[checkIndex('segment', i, this.#nents)] as DmaAddr;
  }

  /**
   * Bytes of segment `i` on the device side.
   *
   * @throws {InvariantError} `i` is not in [0, nents).
   * @see Linux 6.1 `include/linux/scatterlist.h` sg_dma_len
   */
  dmaLength(i: number): number {
    return this.columns.dmaLength[checkIndex('segment', i, this.#nents)] as number;
  }

  /** The CPU side as objects, for tests and printing. */
  extents(): Extent[] {
    return Array.from({ length: this.origNents }, (_, i) => ({ phys: this.physAddress(i), length: this.length(i) }));
  }

  /** The device side as objects, for tests and printing; empty while not mapped. */
  segments(): Segment[] {
    return Array.from({ length: this.#nents }, (_, i) => ({ address: this.dmaAddress(i), length: this.dmaLength(i) }));
  }

  /** A table of the same memory that is not mapped. @throws {HazardError} as {@link physAddress}. */
  clone(): SgTable {
    this.onPeek?.();
    return new SgTable(this);
  }

  /** @internal Whether it is one of several tables of one buffer. */
  get isShare(): boolean {
    return this.original !== this;
  }

  /** @internal Physical address of extent `i` for the DMA API itself, which may always look. */
  extentPhys(i: number): PhysAddr {
    return this.columns.phys[i] as PhysAddr;
  }

  /** @internal What stands in column `i` of the device side, mapped or not any more. */
  rawSegment(i: number): Segment {
    const { dmaAddress, dmaLength } = this.columns;
    return { address: dmaAddress[i] as DmaAddr, length: dmaLength[i] as number };
  }

  /** @internal Appends a segment on the device side; for the DMA API's back ends. */
  addSegment(address: number, length: number): void {
    const i = this.#nents;
    if (i === this.origNents) assert(false, 'SgTable: more segments than its %s extents', i);
    this.columns.dmaAddress[i] = address;
    this.columns.dmaLength[i] = length;
    this.#nents = i + 1;
  }

  /** @internal The first `count` rows of the device side, filled in place, are its segments now. */
  setSegments(count: number): void {
    if (!(count >= 0 && count <= this.origNents))
      assert(false, 'SgTable: %s segments of %s extents', count, this.origNents);
    this.#nents = count;
  }

  /** @internal The device side is no more. */
  dropSegments(): void {
    this.#nents = 0;
    this.mappedFor = null;
    this.mappedPart = null;
    this.onPeek = null;
  }
}

function isWhole(value: number, least: number): boolean {
  return Number.isSafeInteger(value) && value >= least;
}

function rowsOf(extents: readonly Extent[]): Pick<SgColumns, 'phys' | 'length'> {
  const phys = new Float64Array(extents.length);
  const lengths = new Float64Array(extents.length);
  let i = 0;
  for (const { phys: at, length } of extents) {
    if (!isWhole(at, 0)) assert(false, 'SgTable: extents[%s].phys %s is no whole number >= 0', i, at);
    if (!isWhole(length, 1)) assert(false, 'SgTable: extents[%s].length %s is no whole number > 0', i, length);
    phys[i] = at;
    lengths[i++] = length;
  }
  return { phys, length: lengths };
}

function firstRows({ columns }: SgTable, entries: number): Pick<SgColumns, 'phys' | 'length'> {
  return { phys: columns.phys.slice(0, entries), length: columns.length.slice(0, entries) };
}

function checkIndex(what: string, i: number, count: number): number {
  if (!(Number.isInteger(i) && i >= 0 && i < count)) assert(false, 'SgTable: %s %s is not in [0, %s)', what, i, count);
  return i;
}
