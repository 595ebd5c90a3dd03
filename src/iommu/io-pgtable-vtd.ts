/**
 * INTEL_VTD_S2: second-stage page tables of Intel VT-d in legacy mode, as Linux 6.1's driver writes them.
 *
 * Descriptor (VT-d specification 4.1, 9.8 "Second-Stage Paging Entries"), 64 bits, tables of 512:
 *
 * | bits | field | here |
 * |---|---|---|
 * | 51..12 | address | of the next table, or of the page |
 * | 11 | SNP, leaves only | with the quirk `VTD_FORCE_SNOOP` |
 * | 7 | PS | a leaf of 2 MiB or 1 GiB |
 * | 1 | W | tables always; leaves with `write` |
 * | 0 | R | always: the driver takes it for a present bit, so that what may be written may be read as well |
 *
 * Levels count as in the other formats, not as in the specification: a leaf at level 3 is a page (its level 1).
 *
 * The driver departs from the io-pgtable library:
 * 1. A 4 KiB page that is mapped already keeps its translation; the call warns once a page and succeeds.
 * 2. A superpage takes the place of a table of smaller ones, whatever is mapped in it.
 * 3. A run goes on across tables.
 * 4. Unmapping clears a range. What was a hole in it counts as unmapped, too. A superpage at its start goes as a whole.
 * 5. A table that the range covers wholly is unlinked. It is not free until the unmapping is invalidated, so it goes into the gather.
 * 6. It does not check for a leaf that the range covers only in part, nor for a table that leads there. {@link VtdTable.hasLargerLeaf} and
 *    {@link VtdTable.unmapSpan} do; a map or unmap that would go wrong warns and changes nothing.
 *
 * **Inaccuracies**: addresses to 48 bits (no five-level tables); no first-stage tables, no access and dirty flags.
 *
 * @see Linux 6.1 `drivers/iommu/intel/iommu.c` intel_iommu_map, intel_iommu_unmap
 */
import type { Iova, PhysAddr } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import { ERRNO } from '../base/errno.ts';
import { KIB } from '../base/units.ts';
import type { IoPgtable, IoPgtableConfig, IoPgtableTlb, TablePages } from './io-pgtable.ts';
import { IommuProt, UNMAP_INSIDE_LEAF, UNMAP_NO_TABLE } from './io-pgtable.ts';
import type { IotlbGather } from './iotlb-gather.ts';
import type { LpaeEncoding, LpaeFormat } from './lpae-format.ts';
import { descriptorAddress, hasSize, keepSizes, LAST_LEVEL, levelBytes, refuse } from './lpae-geometry.ts';
import { LpaeWalker } from './lpae-walker.ts';

const NAME = 'INTEL_VTD_S2';
const T32 = 2 ** 32;
const READ = 1;
const WRITE = 2;
const PAGE_SIZE_BIT = 1 << 7;
const SNOOP = 1 << 11;
const LOW_ADDRESS = 0xffff_f000;
const READ_OR_WRITE = IommuProt.read | IommuProt.write;
const BITS_PER_LEVEL = 9;
const PAGE_SHIFT = 12;
const MAX_ADDRESS_BITS = 48;

/**
 * Builds an empty second-stage table.
 *
 * @throws {ErrnoError} `EINVAL` a quirk of another format, no 4 KiB pages, or an input size outside 22 to 48 bits (never retry); `ENOMEM` no page
 * for the top-level table (retry later).
 */
export function createVtdS2(cfg: IoPgtableConfig, pages: TablePages, tlb: IoPgtableTlb): VtdTable {
  return new VtdTable(cfg, pages, tlb);
}

/** What a driver programs for such a table (VT-d specification 4.1, 9.3 "Context Entry"). */
export interface VtdS2Registers {
  readonly kind: 'intel-vtd-s2';
  /** AW, the number of levels: 0 = two, 1 = three (39 bits), 2 = four (48 bits). */
  readonly addressWidth: number;
}

/** One second-stage table. */
export class VtdTable extends LpaeWalker implements IoPgtable {
  readonly registers: VtdS2Registers;
  mapped = 0;
  warnings = 0;
  readonly #pages: TablePages;
  readonly #tlb: IoPgtableTlb;
  readonly #endPhys: number;
  readonly #leafBits: number;
  /** Whether a superpage was ever mapped: if not, nobody needs to look for one. */
  #hasHadSuperpages = false;

  constructor(cfg: IoPgtableConfig, pages: TablePages, tlb: IoPgtableTlb) {
    const format = vtdFormat(cfg);
    super(format, pages);
    this.registers = format.registers;
    this.#pages = pages;
    this.#tlb = tlb;
    this.#endPhys = 2 ** this.oas;
    this.#leafBits = READ | (cfg.quirks.includes('VTD_FORCE_SNOOP') ? SNOOP : 0);
  }

  mapPages(iova: Iova, paddr: PhysAddr, pgsize: number, pgcount: number, prot: number): number {
    this.mapped = 0;
    const level = this.#levelOf(pgsize);
    const sizeBytes = pgsize * pgcount;
    if (level < 0) return this.#warn(-ERRNO.EINVAL);
    if (iova < 0 || iova + sizeBytes > this.endIova) return -ERRNO.EFAULT;
    if (paddr + sizeBytes > this.#endPhys) return this.#warn(-ERRNO.ERANGE);
    if ((prot & READ_OR_WRITE) === 0) return -ERRNO.EINVAL;
    const bits = this.#leafBits | ((prot & IommuProt.write) !== 0 ? WRITE : 0);
    const entry = this.find(iova, level);
    if (entry < 0 || (entry & this.mask) + pgcount > this.entries) {
      const error = this.#mapRange(iova, paddr, sizeBytes, level, bits);
      if (error !== 0) return error;
    } else if (level === LAST_LEVEL) {
      this.#writePages(entry, pgcount, paddr, bits);
    } else {
      if (this.#holdsLeaf(entry, pgcount, level)) return this.#warn(-ERRNO.EEXIST);
      this.#writeSuperpages(entry, pgcount, iova, paddr, level, bits);
    }
    this.mapped = sizeBytes;
    return 0;
  }

  unmapPages(iova: Iova, pgsize: number, pgcount: number, gather: IotlbGather): number {
    const level = this.#levelOf(pgsize);
    if (level < 0 || pgcount === 0) return this.#warn(0);
    const sizeBytes = pgsize * pgcount;
    const entry = iova >= 0 && iova < this.endIova ? this.find(iova, level) : -1;
    if (entry >= 0 && this.#isWithinTable(entry, pgcount, level)) {
      this.#tlb.tlbAddPage(gather, iova, sizeBytes, 1);
      const { words } = this.arena; // For a page or two a loop is faster than fill().
      for (let word = 2 * entry, end = word + 2 * pgcount; word < end; word++) words[word] = 0;
      return sizeBytes;
    }
    const span = this.unmapSpan(iova, sizeBytes);
    if (span < 0) return this.#warn(0);
    this.#tlb.tlbAddPage(gather, iova, span, 1);
    this.forgetTables();
    this.#clear(0, this.startLevel, 0, iova, iova + span, gather);
    return span;
  }

  hasLargerLeaf(iova: Iova, sizeBytes: number): boolean {
    if (!this.#hasHadSuperpages) return false;
    const end = Math.min(iova + sizeBytes, this.endIova);
    for (let at = Math.max(0, iova); at < end; ) {
      const level = this.#stopLevel(at);
      if (level < LAST_LEVEL && this.arena.words[2 * this.find(at, level)] !== 0) return true;
      // A page table at level 3 spans what one entry at level 2 does.
      const step = this.levelBytes[Math.min(level, LAST_LEVEL - 1)] as number;
      at = (Math.floor(at / step) + 1) * step;
    }
    return false;
  }

  unmapSpan(iova: Iova, sizeBytes: number): number {
    if (iova < 0 || iova + sizeBytes > this.endIova) return UNMAP_NO_TABLE;
    const level = this.#stopLevel(iova);
    let span = sizeBytes;
    if (level < LAST_LEVEL) {
      const bytes = this.levelBytes[level] as number;
      const isLeaf = this.arena.words[2 * this.find(iova, level)] !== 0;
      if (isLeaf && iova % bytes !== 0) return UNMAP_INSIDE_LEAF;
      if (!isLeaf && bytes > sizeBytes) return UNMAP_NO_TABLE;
      span = Math.max(span, bytes);
    }
    return this.#hasHadSuperpages && this.#endsInsideLeaf(iova + span) ? UNMAP_INSIDE_LEAF : span;
  }

  /** Outside the input range nothing is mapped. */
  override iovaToPhys(iova: Iova): PhysAddr {
    return this.contains(iova) ? super.iovaToPhys(iova) : (0 as PhysAddr);
  }

  override check(): void {
    const tables = this.#checkTable(0, this.startLevel);
    const { belowRoot } = this.arena;
    assert(tables === belowRoot, '%s: %s tables are linked, %s in use', NAME, tables, belowRoot);
  }

  free(): void {
    this.#tlb.tlbFlushAll();
    this.forgetTables();
    this.#freeBelow(0, this.startLevel);
    this.arena.freeRoot();
  }

  /** Level whose leaves have `pgsize` bytes, or -1. */
  #levelOf(pgsize: number): number {
    if (pgsize === this.granuleBytes) return LAST_LEVEL;
    if (pgsize === 2 ** 21 && (this.pgsizeBitmap & pgsize) !== 0) return LAST_LEVEL - 1;
    if (!(pgsize > 0) || !hasSize(this.pgsizeBitmap, pgsize)) return -1;
    return this.levelBytes.indexOf(pgsize);
  }

  #warn(result: number): number {
    this.warnings++;
    return result;
  }

  /** Level of the last descriptor on the way to `iova`: {@link LAST_LEVEL}, or that of a superpage or of an entry that leads nowhere. */
  #stopLevel(iova: number): number {
    if (this.find(iova, LAST_LEVEL) >= 0) return LAST_LEVEL;
    const { child } = this.arena;
    let level = this.startLevel;
    let entry = this.find(iova, level);
    while (level < LAST_LEVEL && child[entry] !== 0) {
      level++;
      entry = this.find(iova, level);
    }
    return level;
  }

  /** True when a superpage goes on behind `end`, the first byte behind a range. */
  #endsInsideLeaf(end: number): boolean {
    const level = this.#stopLevel(end - 1);
    if (level === LAST_LEVEL || this.arena.words[2 * this.find(end - 1, level)] === 0) return false;
    return end % (this.levelBytes[level] as number) !== 0;
  }

  /** True when a superpage is mapped in `count` entries of one table from `entry` on, or below them (below level 2 are pages). */
  #holdsLeaf(entry: number, count: number, level: number): boolean {
    if (!this.#hasHadSuperpages) return false;
    const { words, child } = this.arena;
    for (let e = entry; e < entry + count; e++) {
      if (words[2 * e] === 0) continue;
      const slot = child[e] as number;
      if (slot === 0) return true;
      if (level + 1 < LAST_LEVEL && this.#holdsLeaf(slot * this.entries, this.entries, level + 1)) return true;
    }
    return false;
  }

  /** True for pages of one table that are not all of it, and for one superpage: nothing else lies in the range. */
  #isWithinTable(entry: number, count: number, level: number): boolean {
    if (level === LAST_LEVEL) return count < this.entries && (entry & this.mask) + count <= this.entries;
    return count === 1 && this.arena.words[2 * entry] !== 0 && this.arena.child[entry] === 0;
  }

  /** Any range: tables are added first, so that a lack of memory leaves no page written. @returns 0 or a negative errno. */
  #mapRange(iova: number, paddr: number, sizeBytes: number, level: number, bits: number): number {
    const tableBytes = (this.levelBytes[level] as number) * this.entries;
    const end = iova + sizeBytes;
    for (let at = iova; at < end; at = (Math.floor(at / tableBytes) + 1) * tableBytes) {
      const entry = this.#grow(at, level);
      if (entry < 0) return entry;
    }
    if (level !== LAST_LEVEL && this.#hasHadSuperpages && this.hasLargerLeaf(iova as Iova, sizeBytes)) {
      return this.#warn(-ERRNO.EEXIST);
    }
    for (let at = iova; at < end; ) {
      const stop = Math.min(end, (Math.floor(at / tableBytes) + 1) * tableBytes);
      const entry = this.find(at, level);
      const count = (stop - at) / (this.levelBytes[level] as number);
      if (level === LAST_LEVEL) this.#writePages(entry, count, paddr + (at - iova), bits);
      else this.#writeSuperpages(entry, count, at, paddr + (at - iova), level, bits);
      at = stop;
    }
    return 0;
  }

  /** As `find`, with the tables that are missing added. @returns the entry, or a negative errno. */
  #grow(iova: number, level: number): number {
    const { arena } = this;
    let entry = this.find(iova, this.startLevel);
    for (let at = this.startLevel; at < level; at++) {
      if (arena.child[entry] === 0) {
        if (arena.words[2 * entry] !== 0) return this.#warn(-ERRNO.EEXIST);
        const slot = arena.alloc();
        if (slot < 0) return -ERRNO.ENOMEM;
        const table = arena.phys[slot] as number;
        arena.words[2 * entry] = table | READ | WRITE;
        arena.words[2 * entry + 1] = Math.floor(table / T32);
        arena.child[entry] = slot;
      }
      entry = this.find(iova, at + 1);
    }
    return entry;
  }

  #writePages(entry: number, count: number, paddr: number, bits: number): void {
    const { words } = this.arena;
    let at = paddr;
    for (let word = 2 * entry, end = word + 2 * count; word < end; word += 2) {
      if (words[word] === 0) {
        words[word] = (at & LOW_ADDRESS) | bits;
        words[word + 1] = at / T32;
      } else {
        this.warnings++;
      }
      at += 2 ** PAGE_SHIFT;
    }
  }

  #writeSuperpages(entry: number, count: number, iova: number, paddr: number, level: number, bits: number): void {
    const { arena } = this;
    const bytes = this.levelBytes[level] as number;
    this.#hasHadSuperpages = true;
    for (let i = 0; i < count; i++) {
      const e = entry + i;
      const address = paddr + i * bytes;
      const slot = arena.child[e] as number;
      arena.child[e] = 0;
      arena.words[2 * e] = (address & LOW_ADDRESS) | bits | PAGE_SIZE_BIT;
      arena.words[2 * e + 1] = Math.floor(address / T32);
      if (slot === 0) continue;
      this.forgetTables();
      this.#tlb.tlbFlushWalk((iova + i * bytes) as Iova, bytes, this.granuleBytes);
      this.#freeBelow(slot, level + 1);
      arena.free(slot);
    }
  }

  /** Clears `[first, end)` in the table `slot`, whose entries at `level` begin at address `base`. */
  #clear(slot: number, level: number, base: number, first: number, end: number, gather: IotlbGather): void {
    const { words, child } = this.arena;
    const bytes = this.levelBytes[level] as number;
    const from = slot * this.entries;
    const low = Math.max(0, Math.floor((first - base) / bytes));
    const high = Math.min(this.entries, Math.ceil((end - base) / bytes));
    for (let i = low; i < high; i++) {
      const entry = from + i;
      if (words[2 * entry] === 0) continue;
      const start = base + i * bytes;
      const below = child[entry] as number;
      if (below !== 0 && (start < first || start + bytes > end)) {
        this.#clear(below, level + 1, start, first, end, gather);
        continue;
      }
      words[2 * entry] = 0;
      words[2 * entry + 1] = 0;
      child[entry] = 0;
      if (below !== 0) this.#unlink(below, level + 1, gather);
    }
  }

  /** Hands the table `slot` and all below to `gather`. */
  #unlink(slot: number, level: number, gather: IotlbGather): void {
    const { arena } = this;
    if (level < LAST_LEVEL) {
      for (let e = slot * this.entries, end = e + this.entries; e < end; e++) {
        const below = arena.child[e] as number;
        if (below !== 0) this.#unlink(below, level + 1, gather);
      }
    }
    gather.addTable(this.#pages, arena.unlink(slot), arena.order);
  }

  #freeBelow(slot: number, level: number): void {
    if (level === LAST_LEVEL) return;
    const { arena } = this;
    for (let e = slot * this.entries, end = e + this.entries; e < end; e++) {
      const below = arena.child[e] as number;
      if (below === 0) continue;
      this.#freeBelow(below, level + 1);
      arena.free(below);
    }
  }

  /** @returns tables below `slot`. */
  #checkTable(slot: number, level: number): number {
    const { words, child, phys } = this.arena;
    let tables = 0;
    for (let index = 0; index < this.entries; index++) {
      const entry = slot * this.entries + index;
      const low = words[2 * entry] as number;
      const below = child[entry] as number;
      const isLeaf = low !== 0 && below === 0;
      const isSuperpage = (low & PAGE_SIZE_BIT) !== 0;
      const where = `${NAME}: level ${level} [${index}]`;
      assert(low === 0 || (low & READ) !== 0, '%s is in use without its read bit', where);
      assert(!isLeaf || isSuperpage === level < LAST_LEVEL, '%s is no leaf of its level', where);
      if (below === 0) continue;
      const named = descriptorAddress(this.geometry, low, words[2 * entry + 1] as number);
      assert(level < LAST_LEVEL && named === phys[below], '%s names another table', where);
      tables += 1 + this.#checkTable(below, level + 1);
    }
    return tables;
  }
}

function vtdFormat(cfg: IoPgtableConfig): LpaeFormat<VtdS2Registers> {
  const quirk = cfg.quirks.find((name) => name !== 'VTD_FORCE_SNOOP');
  if (quirk !== undefined) refuse(NAME, `quirk ${quirk} belongs to another format`);
  const levels = Math.ceil((cfg.ias - PAGE_SHIFT) / BITS_PER_LEVEL);
  if (!(levels >= 2 && cfg.ias <= MAX_ADDRESS_BITS)) refuse(NAME, `ias ${cfg.ias} is not in 22 to ${MAX_ADDRESS_BITS}`);
  const shape = {
    ias: cfg.ias,
    oas: Math.min(cfg.oas, MAX_ADDRESS_BITS),
    granuleBytes: 4 * KIB,
    bitsPerLevel: BITS_PER_LEVEL,
    startLevel: LAST_LEVEL + 1 - levels,
    pgdBits: BITS_PER_LEVEL,
    pgsizeBitmap: 0,
  };
  const sizes = [3, 2, 1].filter((level) => level >= shape.startLevel).map((level) => levelBytes(shape, level));
  const pgsizeBitmap = keepSizes(cfg.pgsizeBitmap, sizes);
  if (!hasSize(pgsizeBitmap, 4 * KIB)) refuse(NAME, `page sizes ${cfg.pgsizeBitmap} lack 4 KiB`);
  const geometry = { ...shape, pgsizeBitmap };
  const registers = { kind: 'intel-vtd-s2', addressWidth: levels - 2 } as const;
  return { name: NAME, geometry, encoding: VTD_ENCODING, registers, upperHalf: false };
}

const VTD_ENCODING: LpaeEncoding = {
  pageType: 1,
  tableHigh: 0,
  low: (prot) => READ | ((prot & IommuProt.write) !== 0 ? WRITE : 0),
  high: () => 0,
  access: (low) => low & READ_OR_WRITE,
};
