/**
 * Changing a page table of short descriptors: map, unmap, split, free, with the invalidations in the kernel's order. Reading it is
 * `short-walker.ts`.
 *
 * Level 1 has a descriptor for each MiB of input, level 2 one for each 4 KiB. What differs from the LPAE tables:
 * 1. A run goes on over the borders of tables; it stops at the first page that fails, and what came before stays.
 * 2. Page sizes are not compared with `pgsizeBitmap`. A size of n MiB, or of n times 4 KiB below, writes n equal descriptors, marked
 *    as one large leaf when n is above 1: right for 16, and for other n a request that the caller answers for. A count of 0 is `-EINVAL`
 *    without a warning.
 * 3. Splitting a section keeps its attributes and loses its address: the rest of it then translates to memory from address 0 on. Linux 6.1
 *    does that; unmap sections whole.
 * 4. Splitting a large leaf invalidates its size from the unmapped address on, not from its own start.
 *
 * @see Linux 6.1 `drivers/iommu/io-pgtable-arm-v7s.c`
 * @internal
 */
import type { Iova, PhysAddr } from '../base/addr.ts';
import { ERRNO } from '../base/errno.ts';
import type { IoPgtable, IoPgtableTlb, TablePages } from './io-pgtable.ts';
import type { IotlbGather } from './iotlb-gather.ts';
import {
  entryBytes,
  fromLarge,
  isLarge,
  isShortTable,
  LARGE_COUNT,
  PAGE_LEVEL,
  SECTION_BYTES,
  SECTION_LEVEL,
  SMALL_PAGE_BYTES,
  toLarge,
} from './short-descriptor.ts';
import { PAGE_ENTRIES } from './short-table-arena.ts';
import { pageIndex, type ShortFormat, ShortWalker } from './short-walker.ts';

const READ_OR_WRITE = 3;

/** One page table of short descriptors. @internal */
export class ShortTable<Registers> extends ShortWalker implements IoPgtable {
  readonly registers: Registers;
  mapped = 0;
  warnings = 0;
  private readonly tlb: IoPgtableTlb;

  /**
   * @param registers - makes what the driver programs from the address of the top-level table.
   * @throws {ErrnoError} `ENOMEM` no pages for the top-level table (retry later).
   */
  constructor(format: ShortFormat, pages: TablePages, tlb: IoPgtableTlb, registers: (rootPhys: number) => Registers) {
    super(format, pages);
    this.tlb = tlb;
    this.registers = registers(this.arena.rootPhys);
  }

  mapPages(iova: Iova, paddr: PhysAddr, pgsize: number, pgcount: number, prot: number): number {
    this.mapped = 0;
    if (!this.contains(iova) || paddr >= this.endPhys) return this.warn(-ERRNO.ERANGE);
    if ((prot & READ_OR_WRITE) === 0 || pgcount === 0) return -ERRNO.EINVAL;
    if (!(pgsize >= SMALL_PAGE_BYTES)) return this.warn(-ERRNO.EINVAL);
    const level = pgsize >= SECTION_BYTES ? SECTION_LEVEL : PAGE_LEVEL;
    const count = Math.floor(pgsize / entryBytes(level));
    const leaf = this.encoding.leaf(prot, level);
    const bits = count > 1 ? toLarge(leaf, level) : leaf;
    for (let left = pgcount; left > 0; left--) {
      const at = iova + this.mapped;
      const ret = this.mapOne(at, level, count, bits | this.encoding.place(paddr + this.mapped, level));
      if (ret !== 0) return ret;
      this.mapped += pgsize;
    }
    return 0;
  }

  unmapPages(iova: Iova, pgsize: number, pgcount: number, gather: IotlbGather): number {
    if (!this.contains(iova) || !(pgsize >= SMALL_PAGE_BYTES)) return this.warn(0);
    let unmapped = 0;
    for (let left = pgcount; left > 0; left--) {
      if (!this.unmapOne(iova + unmapped, pgsize, gather)) break;
      unmapped += pgsize;
    }
    return unmapped;
  }

  free(): void {
    this.tlb.tlbFlushAll();
    for (const table of this.arena.child) if (table !== 0) this.arena.free(table);
    this.arena.freeRoot();
  }

  private warn(result: number): number {
    this.warnings++;
    return result;
  }

  /** Writes one page of `count` descriptors. @returns 0 or a negative errno. */
  private mapOne(iova: number, level: number, count: number, descriptor: number): number {
    const root = this.rootIndex(iova);
    if (level === SECTION_LEVEL) return this.write(root, this.arena.rootEntries, level, count, iova, descriptor);
    const table = this.tableFor(root);
    if (table < 0) return table;
    return this.write(table + pageIndex(iova), table + PAGE_ENTRIES, level, count, iova, descriptor);
  }

  /** The table under the level-1 entry `root`, added if there is none. @returns its offset, or a negative errno. */
  private tableFor(root: number): number {
    const { arena } = this;
    const present = arena.child[root] as number;
    if (present !== 0) return present;
    if (arena.words[root] !== 0) return this.warn(-ERRNO.EEXIST);
    const table = arena.alloc();
    if (table < 0) return -ERRNO.ENOMEM;
    this.link(root, table);
    return table;
  }

  private link(root: number, table: number): void {
    const { arena, encoding } = this;
    arena.words[root] = encoding.table(arena.physOf(table));
    arena.child[root] = table;
  }

  /** Writes `count` equal descriptors from `first` on, none at or behind `end`; tables in the way are freed. @returns 0 or `-EEXIST`. */
  private write(first: number, end: number, level: number, count: number, iova: number, descriptor: number): number {
    const { words } = this.arena;
    const stop = Math.min(first + count, end);
    for (let e = first; e < stop; e++) {
      const present = words[e] as number;
      if (present === 0) continue;
      if (level !== SECTION_LEVEL || !isShortTable(present)) return this.warn(-ERRNO.EEXIST);
      words[e] = 0;
      this.dropTable(e, iova + (e - first) * SECTION_BYTES);
    }
    // 1 or 16 of them: a loop is faster than fill().
    for (let e = first; e < stop; e++) words[e] = descriptor;
    return 0;
  }

  /** Frees the table that the cleared entry `root` named, and says so first. */
  private dropTable(root: number, iova: number): void {
    const { child } = this.arena;
    const table = child[root] as number;
    child[root] = 0;
    this.tlb.tlbFlushWalk(iova as Iova, SECTION_BYTES, SMALL_PAGE_BYTES);
    this.arena.free(table);
  }

  /** Unmaps one page of `pgsize` bytes. @returns false when nothing was unmapped. */
  private unmapOne(iova: number, pgsize: number, gather: IotlbGather): boolean {
    const { arena } = this;
    const root = this.rootIndex(iova);
    const sections = Math.floor(pgsize / SECTION_BYTES);
    if (!this.prepare(root, 0, arena.rootEntries, SECTION_LEVEL, sections, iova)) return false;
    if (sections > 0) {
      this.clear(root, arena.rootEntries, SECTION_LEVEL, sections, iova, gather);
      return true;
    }
    const table = arena.child[root] as number;
    if (table === 0) return this.splitSection(root, iova, pgsize, gather);
    const entry = table + pageIndex(iova);
    const pages = Math.floor(pgsize / SMALL_PAGE_BYTES);
    if (!this.prepare(entry, table, table + PAGE_ENTRIES, PAGE_LEVEL, pages, iova)) return false;
    this.clear(entry, table + PAGE_ENTRIES, PAGE_LEVEL, pages, iova, gather);
    return true;
  }

  /**
   * Looks at `count` entries, at least one, of the table in `[start, end)`; a large leaf of which less than two entries go is split.
   *
   * @returns false when one is a hole (warns).
   */
  private prepare(first: number, start: number, end: number, level: number, count: number, iova: number): boolean {
    const { words } = this.arena;
    const stop = Math.min(first + Math.max(1, count), end);
    for (let e = first; e < stop; e++) {
      if (words[e] !== 0) continue;
      this.warnings++;
      return false;
    }
    if (count <= 1 && isLarge(words[first] as number, level))
      this.splitLarge(first - ((first - start) % LARGE_COUNT), end, level, iova);
    return true;
  }

  /** Makes the 16 descriptors from `first` on sections or small pages of their own, and invalidates as rule 4 says. */
  private splitLarge(first: number, end: number, level: number, iova: number): void {
    const { words } = this.arena;
    const step = entryBytes(level);
    const single = fromLarge(words[first] as number, level);
    for (let i = 0; i < LARGE_COUNT && first + i < end; i++) words[first + i] = single + i * step;
    const large = LARGE_COUNT * step;
    this.tlb.tlbFlushWalk(iova as Iova, large, large);
  }

  /** Clears `count` entries from `first` on, none at or behind `end`, then frees their tables and gathers leaves. */
  private clear(first: number, end: number, level: number, count: number, iova: number, gather: IotlbGather): void {
    const { words, child } = this.arena;
    const step = entryBytes(level);
    const stop = Math.min(first + count, end);
    for (let e = first; e < stop; e++) words[e] = 0;
    let run = 0;
    for (let i = 0; level === SECTION_LEVEL && i < count; i++) {
      if (first + i >= end || child[first + i] === 0) continue;
      this.gatherRun(gather, iova + run * step, step, i - run);
      this.dropTable(first + i, iova + i * step);
      run = i + 1;
    }
    this.gatherRun(gather, iova + run * step, step, count - run);
  }

  private gatherRun(gather: IotlbGather, iova: number, size: number, count: number): void {
    if (count > 0 && !gather.queued) this.tlb.tlbAddPage(gather, iova as Iova, size, count);
  }

  /**
   * Puts a table in place of the section at `root`, with leaves of `pgsize` for all of it but the one at `iova`; see rule 3. That one is
   * gathered even when the gather is queued, as the kernel does.
   *
   * @returns false when no table is left.
   */
  private splitSection(root: number, iova: number, pgsize: number, gather: IotlbGather): boolean {
    const { arena, encoding } = this;
    const table = arena.alloc();
    if (table < 0) return false;
    const { words } = arena;
    const count = Math.floor(pgsize / SMALL_PAGE_BYTES);
    const leaf = encoding.leaf(encoding.protOf(words[root] as number, SECTION_LEVEL), PAGE_LEVEL);
    const bits = count > 1 ? toLarge(leaf, PAGE_LEVEL) : leaf;
    const hole = pageIndex(iova);
    for (let i = 0; i < PAGE_ENTRIES; i += count) {
      if (i === hole) continue;
      words.fill(bits + i * SMALL_PAGE_BYTES, table + i, table + Math.min(i + count, PAGE_ENTRIES));
    }
    this.link(root, table);
    this.tlb.tlbAddPage(gather, iova as Iova, pgsize, 1);
    return true;
  }
}
