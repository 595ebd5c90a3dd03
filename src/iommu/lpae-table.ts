/**
 * Changing an LPAE page table: map, unmap, split, free, with the invalidations in the kernel's order. Reading it is `lpae-walker.ts`.
 *
 * Levels count as in the architecture: a leaf at level 3 is a page, above it a block.
 *
 * @see Linux 6.1 `drivers/iommu/io-pgtable-arm.c`
 * @internal
 */
import type { Iova, PhysAddr } from '../base/addr.ts';
import { ERRNO } from '../base/errno.ts';
import type { IoPgtable, IoPgtableTlb, TablePages } from './io-pgtable.ts';
import type { IotlbGather } from './iotlb-gather.ts';
import type { LpaeFormat } from './lpae-format.ts';
import { descriptorAddress, hasSize, LAST_LEVEL, levelBytes } from './lpae-geometry.ts';
import { LpaeWalker } from './lpae-walker.ts';

const T32 = 2 ** 32;
const T52 = 2 ** 52;
const TYPE_BLOCK = 1;
const TYPE_TABLE = 3;
const LOW_ADDRESS = 0xffff_f000;
const LOW_ATTRIBUTES = 0xffc;
/** Execute-never, bits 54..53, and the dirty-bit modifier, 51: the only upper attributes that leaves use. */
const HIGH_ATTRIBUTES = 0x68_0000;
/** Stands for the level of a page size that no level of this table has: a walk for it ends behind the last level. */
const NO_LEVEL = LAST_LEVEL + 1;
const READ_OR_WRITE = 3;

/** One page table of an LPAE format. @internal */
export class LpaeTable<Registers> extends LpaeWalker implements IoPgtable {
  readonly registers: Registers;
  mapped = 0;
  warnings = 0;
  private readonly tlb: IoPgtableTlb;
  private readonly endPhys: number;
  /** Block sizes that may be mapped at level 2 and 1, or -1. */
  private readonly block2: number;
  private readonly block1: number;
  private prot = -1;
  private protLow = 0;
  private protHigh = 0;

  /** @throws {ErrnoError} `ENOMEM` no page for the top-level table (retry later). */
  constructor(format: LpaeFormat<Registers>, pages: TablePages, tlb: IoPgtableTlb) {
    super(format, pages);
    const { geometry } = format;
    this.registers = format.registers;
    this.tlb = tlb;
    this.endPhys = 2 ** geometry.oas;
    this.block2 = this.levelOf(levelBytes(geometry, 2)) === 2 ? levelBytes(geometry, 2) : -1;
    this.block1 = this.levelOf(levelBytes(geometry, 1)) === 1 ? levelBytes(geometry, 1) : -1;
  }

  mapPages(iova: Iova, paddr: PhysAddr, pgsize: number, pgcount: number, prot: number): number {
    this.mapped = 0;
    const level = this.levelFor(pgsize);
    if (level < 0) return this.warn(-ERRNO.EINVAL);
    if (iova < this.firstIova || iova >= this.endIova || paddr >= this.endPhys) return this.warn(-ERRNO.ERANGE);
    if ((prot & READ_OR_WRITE) === 0) return -ERRNO.EINVAL;
    if (prot !== this.prot) this.encode(prot);
    let entry = this.find(iova, level);
    if (entry < 0) entry = this.grow(iova, level);
    if (entry < 0) return entry;
    const { words } = this.arena;
    if (pgcount !== 1 || words[2 * entry] !== 0 || this.folds) return this.mapRun(entry, level, iova, paddr, pgcount);
    words[2 * entry] = (paddr & LOW_ADDRESS) | this.protLow | this.typeAt(level);
    words[2 * entry + 1] = (paddr / T32) | this.protHigh;
    this.mapped = pgsize;
    return 0;
  }

  unmapPages(iova: Iova, pgsize: number, pgcount: number, gather: IotlbGather): number {
    const level = this.levelFor(pgsize);
    if (level < 0 || pgcount === 0 || iova < this.firstIova || iova >= this.endIova) return this.warn(0);
    const entry = this.find(iova, level);
    if (entry < 0) return this.unmapInBlock(iova, level, pgcount, gather);
    const { words, child } = this.arena;
    const isTable = level !== LAST_LEVEL && child[entry] !== 0;
    if (pgcount !== 1 || words[2 * entry] === 0 || isTable) return this.clear(entry, pgcount, level, iova, gather);
    words[2 * entry] = 0;
    words[2 * entry + 1] = 0;
    if (!gather.queued) this.tlb.tlbAddPage(gather, iova, pgsize, 1);
    return pgsize;
  }

  free(): void {
    this.tlb.tlbFlushAll();
    const { arena, geometry } = this;
    for (let entry = 0; entry < 2 ** geometry.pgdBits; entry++) {
      const slot = arena.child[entry] as number;
      if (slot !== 0) this.freeTables(slot, this.startLevel + 1);
    }
    arena.freeRoot();
  }

  private levelFor(pgsize: number): number {
    if (pgsize === this.granuleBytes) return LAST_LEVEL;
    return pgsize === this.block2 ? 2 : pgsize === this.block1 ? 1 : this.levelOf(pgsize);
  }

  /** As {@link find}, with the tables that are missing added. @returns the entry, or a negative errno. */
  private grow(iova: number, level: number): number {
    const { arena } = this;
    const position = iova < 0 ? iova + T52 : iova;
    let entry = ((position * this.perTop) | 0) & this.topMask;
    for (let at = this.startLevel; at < level; at++) {
      if (at === LAST_LEVEL) return this.warn(-ERRNO.EINVAL);
      const below = arena.child[entry] as number;
      const slot = below === 0 ? this.addTable(entry) : below;
      if (slot < 0) return slot;
      entry = slot * this.entries + this.wideIndex(position, this.bits * (LAST_LEVEL - 1 - at));
    }
    return entry;
  }

  /** Writes `pgcount` leaves from `entry` on, as far as the table goes; tables in the way are freed. @returns 0 or a negative errno. */
  private mapRun(entry: number, level: number, iova: number, paddr: number, pgcount: number): number {
    const { words, child } = this.arena;
    const size = this.levelBytes[level] as number;
    const room = this.entries - (entry & this.mask);
    const count = pgcount < room ? pgcount : room;
    for (let word = entry << 1, end = word + (count << 1); word < end; word += 2) {
      if (words[word] === 0) continue;
      const e = word >>> 1;
      if (child[e] === 0) return this.warn(-ERRNO.EEXIST);
      this.dropTable(e, level, iova + (e - entry) * size);
    }
    this.write(entry, count, paddr, level);
    this.mapped = count * size;
    return 0;
  }

  /** Level whose leaves have `pgsize` bytes, {@link NO_LEVEL}, or -1 when `pgsize` is not allowed. */
  private levelOf(pgsize: number): number {
    if (!(pgsize > 0) || !hasSize(this.pgsizeBitmap, pgsize)) return -1;
    for (let level = this.startLevel; level <= LAST_LEVEL; level++) if (this.levelBytes[level] === pgsize) return level;
    return NO_LEVEL;
  }

  private warn(result: number): number {
    this.warnings++;
    return result;
  }

  private encode(prot: number): void {
    this.prot = prot;
    this.protLow = this.encoding.low(prot);
    this.protHigh = this.encoding.high(prot);
  }

  /** Puts a new table under `entry`. @returns its slot; `-EEXIST` a block is there (warns); `-ENOMEM`. */
  private addTable(entry: number): number {
    if (this.arena.words[2 * entry] !== 0) return this.warn(-ERRNO.EEXIST);
    const slot = this.arena.alloc();
    if (slot < 0) return -ERRNO.ENOMEM;
    this.link(entry, slot);
    return slot;
  }

  private link(entry: number, slot: number): void {
    const { words, child, phys } = this.arena;
    const table = phys[slot] as number;
    const high = Math.floor(table / T32);
    words[2 * entry] = table | this.foldedBits(high) | TYPE_TABLE;
    words[2 * entry + 1] = (high & 0xffff) | this.encoding.tableHigh;
    child[entry] = slot;
  }

  private foldedBits(high: number): number {
    return this.folds ? ((high >>> 16) & 0xf) << 12 : 0;
  }

  private typeAt(level: number): number {
    return level === LAST_LEVEL ? this.encoding.pageType : TYPE_BLOCK;
  }

  private write(entry: number, count: number, paddr: number, level: number): void {
    const step = this.levelBytes[level] as number;
    if (this.folds) return this.writeFolded(entry, count, paddr, step, this.protLow | this.typeAt(level));
    const { words } = this.arena;
    const attributes = this.protLow | this.typeAt(level);
    const lowStep = step | 0;
    let word = entry << 1;
    for (let left = count; left > 0; ) {
      // Up to the next 4 GiB border the upper half stays the same. Whole numbers throughout: a double as index is slow.
      const border = Math.ceil((T32 - (paddr % T32)) / step) | 0;
      const part = left < border ? left : border;
      const high = (paddr / T32) | this.protHigh;
      let low = paddr & LOW_ADDRESS;
      for (const end = word + (part << 1); word < end; word += 2) {
        words[word] = low | attributes;
        words[word + 1] = high;
        low = (low + lowStep) | 0;
      }
      left -= part;
      paddr += part * step;
    }
  }

  /** As {@link write} for the 64 KiB granule: address bits 51..48 stand in bits 15..12. */
  private writeFolded(entry: number, count: number, paddr: number, step: number, attributes: number): void {
    const { words } = this.arena;
    for (let i = 0; i < count; i++) {
      const address = paddr + i * step;
      const high = Math.floor(address / T32);
      words[2 * (entry + i)] = (address & 0xffff_0000) | this.foldedBits(high) | attributes;
      words[2 * (entry + i) + 1] = (high & 0xffff) | this.protHigh;
    }
  }

  /** Clears up to `pgcount` entries, as far as the table goes, until the first hole (warns). @returns bytes unmapped. */
  private clear(entry: number, pgcount: number, level: number, iova: number, gather: IotlbGather): number {
    const size = this.levelBytes[level] as number;
    const room = this.entries - (entry & this.mask);
    const end = entry + (pgcount < room ? pgcount : room);
    let at = entry;
    while (at < end) {
      const stop = this.clearLeaves(at, end, level);
      if (stop > at && !gather.queued) {
        const first = (iova + (at - entry) * size) as Iova;
        this.tlb.tlbAddPage(gather, first, size, stop - at);
      }
      at = stop;
      if (at === end) break;
      if (this.arena.words[2 * at] === 0) {
        this.warnings++;
        break;
      }
      this.dropTable(at, level, iova + (at - entry) * size);
      at++;
    }
    return (at - entry) * size;
  }

  /** Clears leaves from `entry` on. @returns the first entry that is none, or `end`. */
  private clearLeaves(entry: number, end: number, level: number): number {
    const { words, child } = this.arena;
    const first = entry << 1;
    const last = end << 1;
    let word = first;
    if (level === LAST_LEVEL) while (word < last && words[word] !== 0) word += 2;
    else while (word < last && words[word] !== 0 && child[word >>> 1] === 0) word += 2;
    words.fill(0, first, word);
    return word >>> 1;
  }

  /** Takes the table under `entry` out, says so, and frees it with all below. */
  private dropTable(entry: number, level: number, iova: number): void {
    const { words, child } = this.arena;
    const slot = child[entry] as number;
    this.forgetTables();
    words[2 * entry] = 0;
    words[2 * entry + 1] = 0;
    child[entry] = 0;
    this.tlb.tlbFlushWalk(iova as Iova, this.levelBytes[level] as number, this.granuleBytes);
    this.freeTables(slot, level + 1);
  }

  private freeTables(slot: number, level: number): void {
    const { arena } = this;
    if (level < LAST_LEVEL) {
      const first = slot * this.entries;
      for (let entry = first; entry < first + this.entries; entry++) {
        const below = arena.child[entry] as number;
        if (below !== 0) this.freeTables(below, level + 1);
      }
    }
    arena.free(slot);
  }

  /**
   * No table leads to `level`: there is a hole (warns), or a block that is split into tables of smaller leaves until the pages to
   * be unmapped are leaves themselves. Those are gathered even when the gather is queued, as the kernel does.
   */
  private unmapInBlock(iova: number, level: number, pgcount: number, gather: IotlbGather): number {
    const { arena } = this;
    const position = iova < 0 ? iova + T52 : iova;
    let entry = ((position * this.perTop) | 0) & this.topMask;
    for (let at = this.startLevel; at < level; at++) {
      let slot = arena.child[entry] as number;
      if (slot === 0) {
        if (arena.words[2 * entry] === 0 || at === LAST_LEVEL) return this.warn(0);
        slot = this.split(entry, at + 1);
        if (slot < 0) return 0;
      }
      entry = slot * this.entries + this.wideIndex(position, this.bits * (LAST_LEVEL - 1 - at));
    }
    const count = Math.min(pgcount, this.entries - (entry & this.mask));
    const size = this.levelBytes[level] as number;
    arena.words.fill(0, 2 * entry, 2 * (entry + count));
    this.tlb.tlbAddPage(gather, iova as Iova, size, count);
    return count * size;
  }

  /** Replaces the block at `entry` by a table of leaves at `level` that map the same. @returns its slot, or -1: no page left. */
  private split(entry: number, level: number): number {
    const slot = this.arena.alloc();
    if (slot < 0) return -1;
    const { words } = this.arena;
    const low = words[2 * entry] as number;
    const high = words[2 * entry + 1] as number;
    this.prot = -1;
    this.protLow = low & LOW_ATTRIBUTES;
    this.protHigh = high & HIGH_ATTRIBUTES;
    const paddr = descriptorAddress(this.geometry, low, high);
    this.write(slot * this.entries, this.entries, paddr, level);
    this.link(entry, slot);
    return slot;
  }
}
