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

/** Where a buffer's bytes are. Belongs to one mapping at a time. */
export class SgTable {
  /** Extents on the CPU side. */
  readonly origNents: number;
  /** @internal The device it is mapped for; `null` while it is not mapped. */
  mappedFor: { readonly name: string } | null = null;
  #nents = 0;
  readonly #phys: Float64Array;
  readonly #length: Float64Array;
  readonly #dmaAddress: Float64Array;
  readonly #dmaLength: Float64Array;

  /**
   * @param extents - in the order of the buffer's bytes; lengths are whole numbers above 0.
   * @throws {InvariantError} no extent, or one whose address or length is out of range.
   */
  constructor(extents: readonly Extent[]) {
    assert(extents.length > 0, 'SgTable: there must be at least one extent');
    for (const [i, { phys, length }] of extents.entries()) {
      assert(isWhole(phys, 0), 'SgTable: extents[%s].phys %s is no whole number >= 0', i, phys);
      assert(isWhole(length, 1), 'SgTable: extents[%s].length %s is no whole number > 0', i, length);
    }
    this.origNents = extents.length;
    this.#phys = Float64Array.from(extents, (extent) => extent.phys);
    this.#length = Float64Array.from(extents, (extent) => extent.length);
    this.#dmaAddress = new Float64Array(extents.length);
    this.#dmaLength = new Float64Array(extents.length);
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

  /** Bytes of the whole buffer. */
  get sizeBytes(): number {
    let sum = 0;
    for (let i = 0; i < this.origNents; i++) sum += this.#length[i] as number;
    return sum;
  }

  /** Physical address of extent `i`. @throws {InvariantError} `i` is not in [0, origNents). */
  physAddress(i: number): PhysAddr {
    return this.#phys[checkIndex('extent', i, this.origNents)] as PhysAddr;
  }

  /** Bytes of extent `i`. @throws {InvariantError} `i` is not in [0, origNents). */
  length(i: number): number {
    return this.#length[checkIndex('extent', i, this.origNents)] as number;
  }

  /**
   * Address of segment `i` as the device sees it; means nothing to another device, and nothing after the unmap.
   *
   * @throws {InvariantError} `i` is not in [0, nents).
   * @see Linux 6.1 `include/linux/scatterlist.h` sg_dma_address
   */
  dmaAddress(i: number): DmaAddr {
    return this.#dmaAddress[checkIndex('segment', i, this.#nents)] as DmaAddr;
  }

  /**
   * Bytes of segment `i` on the device side.
   *
   * @throws {InvariantError} `i` is not in [0, nents).
   * @see Linux 6.1 `include/linux/scatterlist.h` sg_dma_len
   */
  dmaLength(i: number): number {
    return this.#dmaLength[checkIndex('segment', i, this.#nents)] as number;
  }

  /** The CPU side as objects, for tests and printing. */
  extents(): Extent[] {
    return Array.from({ length: this.origNents }, (_, i) => ({ phys: this.physAddress(i), length: this.length(i) }));
  }

  /** The device side as objects, for tests and printing; empty while not mapped. */
  segments(): Segment[] {
    return Array.from({ length: this.#nents }, (_, i) => ({ address: this.dmaAddress(i), length: this.dmaLength(i) }));
  }

  /** A table of the same memory that is not mapped. */
  clone(): SgTable {
    return new SgTable(this.extents());
  }

  /** @internal Appends a segment on the device side; for the DMA API's back ends. */
  addSegment(address: number, length: number): void {
    assert(this.#nents < this.origNents, 'SgTable: more segments than its %s extents', this.origNents);
    const i = this.#nents++;
    this.#dmaAddress[i] = address;
    this.#dmaLength[i] = length;
  }

  /** @internal Makes the last segment longer. */
  extendSegment(length: number): void {
    const i = this.#nents - 1;
    this.#dmaLength[i] = (this.#dmaLength[i] as number) + length;
  }

  /** @internal The device side is no more. */
  dropSegments(): void {
    this.#nents = 0;
    this.mappedFor = null;
  }
}

function isWhole(value: number, least: number): boolean {
  return Number.isSafeInteger(value) && value >= least;
}

function checkIndex(what: string, i: number, count: number): number {
  assert(Number.isInteger(i) && i >= 0 && i < count, 'SgTable: %s %s is not in [0, %s)', what, i, count);
  return i;
}
