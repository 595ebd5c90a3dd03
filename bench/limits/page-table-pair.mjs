/**
 * The bare page table for single operations: as `page-table.mjs`, with blocks. 4 levels of 512, two 32-bit words an entry, 4 KiB
 * pages and 2 MiB blocks; a page refuses to replace anything, a block replaces a table, a part of a block splits it, the range unmapped is
 * gathered. Addresses are doubles, pages are numbers of 4 KiB.
 */
const ENTRIES = 512;
const TABLE_WORDS = ENTRIES * 2;
const T32 = 2 ** 32;
const PER_T32 = 1 / T32;
const PAGES_PER_ROOT_ENTRY = 2 ** 27;
const PER_ROOT_ENTRY = 1 / PAGES_PER_ROOT_ENTRY;

/** Entry `e` of table `t` is the words `(t * 512 + e) * 2` (low) and the one after it (high). Low bits: 3 table or page, 1 block. */
export class Pair {
  constructor(tables = 4096) {
    this.words = new Uint32Array(tables * TABLE_WORDS);
    this.top = 1;
    this.free = [];
    this.root = this.allocate();
    this.first = Number.POSITIVE_INFINITY;
    this.end = 0;
  }

  allocate() {
    if (this.free.length > 0) {
      const table = this.free.pop();
      this.words.fill(0, table * TABLE_WORDS, (table + 1) * TABLE_WORDS);
      return table;
    }
    if ((this.top + 1) * TABLE_WORDS > this.words.length) {
      const wider = new Uint32Array(this.words.length * 2);
      wider.set(this.words);
      this.words = wider;
    }
    return this.top++;
  }

  /** The table that an entry leads to, made if there is none; -17: a block. */
  step(at) {
    const low = this.words[at];
    if ((low & 3) === 3) return this.words[at + 1];
    if (low !== 0) return -17;
    const table = this.allocate();
    this.words[at] = 3;
    this.words[at + 1] = table;
    return table;
  }

  /** Where the entry of a 2 MiB block is, with the tables above it made; negative: an error. */
  blockEntry(page) {
    const top = (page * PER_ROOT_ENTRY) | 0;
    const low = (page - top * PAGES_PER_ROOT_ENTRY) | 0;
    let table = this.step((this.root * ENTRIES + top) * 2);
    if (table < 0) return table;
    table = this.step((table * ENTRIES + (low >>> 18)) * 2);
    return table < 0 ? table : (table * ENTRIES + ((low >>> 9) & 511)) * 2;
  }

  /** The same if all tables are there, else -1. */
  findBlock(page) {
    const { words } = this;
    const top = (page * PER_ROOT_ENTRY) | 0;
    const low = (page - top * PAGES_PER_ROOT_ENTRY) | 0;
    let at = (this.root * ENTRIES + top) * 2;
    if ((words[at] & 3) !== 3) return -1;
    at = (words[at + 1] * ENTRIES + (low >>> 18)) * 2;
    if ((words[at] & 3) !== 3) return -1;
    return (words[at + 1] * ENTRIES + ((low >>> 9) & 511)) * 2;
  }

  /** Maps up to `count` pages, as far as the last table goes. @returns how many, or a negative error. */
  map(page, phys, count, prot) {
    const above = this.blockEntry(page);
    if (above < 0) return above;
    const table = this.step(above);
    if (table < 0) return table;
    const index = page & 511;
    const mapped = count < ENTRIES - index ? count : ENTRIES - index;
    const { words } = this;
    let at = (table * ENTRIES + index) * 2;
    for (let i = 0; i < mapped; i++) if (words[at + 2 * i] !== 0) return -17;
    let lowWord = phys >>> 0;
    let highWord = (phys * PER_T32) >>> 0;
    for (let i = 0; i < mapped; i++, at += 2) {
      words[at] = (lowWord | prot | 3) >>> 0;
      words[at + 1] = highWord;
      lowWord = (lowWord + 4096) >>> 0;
      if (lowWord === 0) highWord++;
    }
    return mapped;
  }

  /** Maps a block of 512 pages. @returns 512, or a negative error. */
  mapBlock(page, phys, prot) {
    const at = this.blockEntry(page);
    if (at < 0) return at;
    const { words } = this;
    const present = words[at];
    if (present !== 0) {
      if ((present & 3) === 1) return -17;
      this.free.push(words[at + 1]);
    }
    words[at] = (phys | prot | 1) >>> 0;
    words[at + 1] = (phys * PER_T32) >>> 0;
    return ENTRIES;
  }

  /** Unmaps up to `count` pages, as far as the last table goes. @returns how many. */
  unmap(page, count) {
    const above = this.findBlock(page);
    if (above < 0) return 0;
    const { words } = this;
    const descriptor = words[above];
    if ((descriptor & 3) !== 3) return descriptor === 0 ? 0 : this.split(above, page & 511, count);
    const index = page & 511;
    const most = count < ENTRIES - index ? count : ENTRIES - index;
    let at = (words[above + 1] * ENTRIES + index) * 2;
    let done = 0;
    for (; done < most && words[at] !== 0; done++, at += 2) {
      words[at] = 0;
      words[at + 1] = 0;
    }
    this.gather(page, done);
    return done;
  }

  /** Unmaps a block, or the table in its place. @returns 512; 0: a hole. */
  unmapBlock(page) {
    const at = this.findBlock(page);
    if (at < 0 || this.words[at] === 0) return 0;
    const { words } = this;
    if ((words[at] & 3) === 3) this.free.push(words[at + 1]);
    words[at] = 0;
    words[at + 1] = 0;
    this.gather(page, ENTRIES);
    return ENTRIES;
  }

  /** Puts a table in place of a block, without `count` of its pages. */
  split(at, index, count) {
    const gone = Math.min(count, ENTRIES - index);
    const table = this.allocate();
    const { words } = this;
    const attributes = words[at] & 0xffc;
    const high = words[at + 1];
    let low = words[at] & 0xffe00000;
    for (let i = 0, to = table * TABLE_WORDS; i < ENTRIES; i++, to += 2, low += 4096) {
      if (i >= index && i < index + gone) continue;
      words[to] = (low | attributes | 3) >>> 0;
      words[to + 1] = high;
    }
    words[at] = 3;
    words[at + 1] = table;
    return gone;
  }

  gather(page, count) {
    if (page < this.first) this.first = page;
    if (page + count > this.end) this.end = page + count;
  }

  /** The physical address of the byte address `iova`; -1: not mapped. */
  walk(iova) {
    const { words } = this;
    const high = (iova * PER_T32) | 0;
    const low = iova | 0;
    let at = (this.root * ENTRIES + (high >>> 7)) * 2;
    if ((words[at] & 3) !== 3) return -1;
    at = words[at + 1] * TABLE_WORDS + (((high << 3) | (low >>> 29)) & 0x3fe);
    if ((words[at] & 3) !== 3) return -1;
    at = words[at + 1] * TABLE_WORDS + ((low >>> 20) & 0x3fe);
    let entry = words[at];
    if ((entry & 3) !== 3) {
      return (entry & 3) === 1 ? words[at + 1] * T32 + (((entry & 0xffe00000) | (low & 0x1fffff)) >>> 0) : -1;
    }
    at = words[at + 1] * TABLE_WORDS + ((low >>> 11) & 0x3fe);
    entry = words[at];
    return (entry & 3) === 3 ? words[at + 1] * T32 + (((entry & 0xfffff000) | (low & 0xfff)) >>> 0) : -1;
  }
}

/** The same with 3 levels, for input addresses of 32 bits. */
export class Pair32 extends Pair {
  blockEntry(page) {
    const table = this.step((this.root * ENTRIES + (page >>> 18)) * 2);
    return table < 0 ? table : (table * ENTRIES + ((page >>> 9) & 511)) * 2;
  }

  findBlock(page) {
    const { words } = this;
    const at = (this.root * ENTRIES + (page >>> 18)) * 2;
    return (words[at] & 3) !== 3 ? -1 : (words[at + 1] * ENTRIES + ((page >>> 9) & 511)) * 2;
  }

  walk(iova) {
    const { words } = this;
    const low = iova | 0;
    let at = this.root * TABLE_WORDS + ((low >>> 29) & 6);
    if ((words[at] & 3) !== 3) return -1;
    at = words[at + 1] * TABLE_WORDS + ((low >>> 20) & 0x3fe);
    let entry = words[at];
    if ((entry & 3) !== 3) {
      return (entry & 3) === 1 ? words[at + 1] * T32 + (((entry & 0xffe00000) | (low & 0x1fffff)) >>> 0) : -1;
    }
    at = words[at + 1] * TABLE_WORDS + ((low >>> 11) & 0x3fe);
    entry = words[at];
    return (entry & 3) === 3 ? words[at + 1] * T32 + (((entry & 0xfffff000) | (low & 0xfff)) >>> 0) : -1;
  }
}

const TLB_ENTRIES = 2048;
const WAYS = 4;
const SETS = TLB_ENTRIES / WAYS;
const ASIDS = 65_536;

/** The bare IOTLB with what a real one needs: address-space ids, least recently used out first, counted hits. */
export class LruTlb {
  constructor() {
    this.keys = new Float64Array(TLB_ENTRIES).fill(-1);
    this.phys = new Float64Array(TLB_ENTRIES);
    this.ages = new Float64Array(TLB_ENTRIES);
    this.clock = 0;
    this.hits = 0;
    this.misses = 0;
  }

  lookup(page, asid) {
    const key = page * ASIDS + asid;
    const first = (page & (SETS - 1)) * WAYS;
    for (let i = first; i < first + WAYS; i++) {
      if (this.keys[i] !== key) continue;
      this.hits++;
      this.ages[i] = ++this.clock;
      return this.phys[i];
    }
    this.misses++;
    return -1;
  }

  fill(page, asid, phys) {
    const first = (page & (SETS - 1)) * WAYS;
    const { ages } = this;
    let oldest = first;
    for (let i = first + 1; i < first + WAYS; i++) if (ages[i] < ages[oldest]) oldest = i;
    this.keys[oldest] = page * ASIDS + asid;
    this.phys[oldest] = phys;
    ages[oldest] = ++this.clock;
  }
}
