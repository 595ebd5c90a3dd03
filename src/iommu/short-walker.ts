/**
 * Reading a page table of short descriptors as the hardware's walker does: at most two descriptors, bits in `short-descriptor.ts`.
 *
 * A walk ignores the bits of an IOVA above `ias`; map and unmap refuse them.
 *
 * @internal
 */
import type { Iova, PhysAddr } from '../base/addr.ts';
import type { IoPgtableDumpLeaf, IoPgtableLeaf, TablePages } from './io-pgtable.ts';
import {
  leafBytes,
  PAGE_LEVEL,
  SECTION_BYTES,
  SECTION_LEVEL,
  type ShortEncoding,
  SMALL_PAGE_BYTES,
} from './short-descriptor.ts';
import { checkShort, dumpShort, type ShortView, shortLeaves } from './short-inspect.ts';
import { PAGE_ENTRIES, ShortTableArena } from './short-table-arena.ts';

/** A format of short descriptors: name, sizes and bits. @internal */
export interface ShortFormat {
  readonly name: string;
  readonly pgsizeBitmap: number;
  readonly ias: number;
  readonly oas: number;
  readonly encoding: ShortEncoding;
  /** Tables lie below this address. */
  readonly endTables: number;
}

/** The reading half of a page table of short descriptors. @internal */
export class ShortWalker implements ShortView {
  readonly format: string;
  readonly pgsizeBitmap: number;
  readonly granuleBytes: number;
  readonly ias: number;
  readonly oas: number;
  /** The tables; for inspection only. */
  readonly arena: ShortTableArena;
  readonly encoding: ShortEncoding;
  protected readonly endIova: number;
  protected readonly endPhys: number;
  private readonly rootMask: number;

  /** @throws {ErrnoError} `ENOMEM` no pages for the top-level table (retry later). */
  constructor(format: ShortFormat, pages: TablePages) {
    const { pgsizeBitmap, ias, oas, encoding } = format;
    const smallest = pgsizeBitmap & -pgsizeBitmap;
    this.format = format.name;
    this.pgsizeBitmap = pgsizeBitmap;
    this.granuleBytes = smallest === 0 ? SMALL_PAGE_BYTES : smallest;
    this.ias = ias;
    this.oas = oas;
    this.endIova = 2 ** ias;
    this.endPhys = 2 ** oas;
    this.encoding = encoding;
    const rootEntries = this.endIova / SECTION_BYTES;
    this.rootMask = rootEntries - 1;
    this.arena = new ShortTableArena(pages, rootEntries, format.endTables);
  }

  get tablePages(): number {
    return this.arena.used;
  }

  iovaToPhys(iova: Iova): PhysAddr {
    const { words, child } = this.arena;
    const root = this.rootIndex(iova);
    const table = child[root] as number;
    const level = table === 0 ? SECTION_LEVEL : PAGE_LEVEL;
    const descriptor = words[table === 0 ? root : table + pageIndex(iova)] as number;
    return descriptor === 0 ? (0 as PhysAddr) : this.physOf(descriptor, level, iova);
  }

  contains(iova: Iova): boolean {
    return iova >= 0 && iova < this.endIova;
  }

  walk(iova: Iova, leaf: IoPgtableLeaf): boolean {
    const { words, child } = this.arena;
    const root = this.rootIndex(iova);
    const table = child[root] as number;
    const level = table === 0 ? SECTION_LEVEL : PAGE_LEVEL;
    leaf.level = level;
    leaf.reads = level;
    const descriptor = words[table === 0 ? root : table + pageIndex(iova)] as number;
    if (descriptor === 0) return false;
    leaf.sizeBytes = leafBytes(descriptor, level);
    leaf.phys = this.physOf(descriptor, level, iova);
    leaf.prot = this.encoding.access(descriptor, level);
    return true;
  }

  leaves(): IterableIterator<IoPgtableDumpLeaf> {
    return shortLeaves(this);
  }

  dump(iova: Iova): string {
    return dumpShort(this, iova);
  }

  check(): void {
    checkShort(this);
  }

  /** Index of `iova` in the top-level table. */
  protected rootIndex(iova: number): number {
    return Math.floor(iova / SECTION_BYTES) & this.rootMask;
  }

  private physOf(descriptor: number, level: number, iova: number): PhysAddr {
    const offset = iova & (leafBytes(descriptor, level) - 1);
    return (this.encoding.address(descriptor, level) + offset) as PhysAddr;
  }
}

/** Index of `iova` in a table of level 2. @internal */
export function pageIndex(iova: number): number {
  return Math.floor(iova / SMALL_PAGE_BYTES) & (PAGE_ENTRIES - 1);
}
