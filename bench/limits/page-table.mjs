/**
 * A bare IOMMU page table and IOTLB: 4 levels of 512, 4 KiB pages, two 32-bit words an entry, no checks but those a table
 * needs. Addresses are doubles.
 */
const ENTRIES = 512;
const PAGES_PER_ROOT_ENTRY = 2 ** 27;

/** Entry `e` of table `t` is the words `(t * 512 + e) * 2` (low) and the one after it (high). */
export class PageTable {
  constructor(tables = 4096) {
    this.words = new Uint32Array(tables * ENTRIES * 2);
    this.used = 1;
    this.root = this.allocate();
  }

  allocate() {
    if ((this.used + 1) * ENTRIES * 2 > this.words.length) {
      const wider = new Uint32Array(this.words.length * 2);
      wider.set(this.words);
      this.words = wider;
    }
    return this.used++;
  }

  /** The table that an entry leads to; made if there is none. */
  step(at) {
    if (this.words[at] === 0) {
      const table = this.allocate();
      this.words[at] = 3;
      this.words[at + 1] = table;
      return table;
    }
    return this.words[at + 1];
  }

  /** Maps up to `count` pages, as far as the last table goes. @returns how many; -17 when one is mapped. */
  map(page, phys, count, prot) {
    const top = (page / PAGES_PER_ROOT_ENTRY) | 0;
    const low = (page - top * PAGES_PER_ROOT_ENTRY) | 0;
    let table = this.step((this.root * ENTRIES + top) * 2);
    table = this.step((table * ENTRIES + (low >>> 18)) * 2);
    table = this.step((table * ENTRIES + ((low >>> 9) & 511)) * 2);
    const first = low & 511;
    const mapped = count < ENTRIES - first ? count : ENTRIES - first;
    const { words } = this;
    let at = (table * ENTRIES + first) * 2;
    for (let i = 0; i < mapped; i++) if (words[at + 2 * i] !== 0) return -17;
    let lowWord = phys >>> 0;
    let highWord = (phys / 2 ** 32) >>> 0;
    for (let i = 0; i < mapped; i++, at += 2) {
      words[at] = (lowWord | prot | 3) >>> 0;
      words[at + 1] = highWord;
      lowWord = (lowWord + 4096) >>> 0;
      if (lowWord === 0) highWord++;
    }
    return mapped;
  }

  /** Where the entry of `page` is; -1 when a table is missing. */
  find(page) {
    const { words } = this;
    const top = (page / PAGES_PER_ROOT_ENTRY) | 0;
    const low = (page - top * PAGES_PER_ROOT_ENTRY) | 0;
    let at = (this.root * ENTRIES + top) * 2;
    if ((words[at] & 3) !== 3) return -1;
    at = (words[at + 1] * ENTRIES + (low >>> 18)) * 2;
    if ((words[at] & 3) !== 3) return -1;
    at = (words[at + 1] * ENTRIES + ((low >>> 9) & 511)) * 2;
    if ((words[at] & 3) !== 3) return -1;
    return (words[at + 1] * ENTRIES + (low & 511)) * 2;
  }

  /** Unmaps up to `count` pages, as far as the last table goes. @returns how many. */
  unmap(page, count) {
    let at = this.find(page);
    if (at < 0) return 0;
    const { words } = this;
    const room = ENTRIES - (page % ENTRIES);
    const most = count < room ? count : room;
    let done = 0;
    for (; done < most && words[at] !== 0; done++, at += 2) {
      words[at] = 0;
      words[at + 1] = 0;
    }
    return done;
  }

  /** The physical address of `page`; -1: not mapped. */
  walk(page) {
    const at = this.find(page);
    if (at < 0 || this.words[at] === 0) return -1;
    return this.words[at + 1] * 2 ** 32 + ((this.words[at] & 0xfffff000) >>> 0);
  }
}

const TLB_ENTRIES = 2048;
const WAYS = 4;
const SETS = TLB_ENTRIES / WAYS;

/** Set-associative, replaced in turn. */
export class Iotlb {
  constructor() {
    this.pages = new Float64Array(TLB_ENTRIES).fill(-1);
    this.phys = new Float64Array(TLB_ENTRIES);
    this.turn = new Uint8Array(SETS);
  }

  lookup(page) {
    const first = (page & (SETS - 1)) * WAYS;
    for (let i = first; i < first + WAYS; i++) if (this.pages[i] === page) return this.phys[i];
    return -1;
  }

  fill(page, phys) {
    const set = page & (SETS - 1);
    const way = this.turn[set];
    this.turn[set] = (way + 1) % WAYS;
    this.pages[set * WAYS + way] = page;
    this.phys[set * WAYS + way] = phys;
  }

  invalidate(page, count) {
    if (count >= TLB_ENTRIES) {
      this.pages.fill(-1);
      return;
    }
    for (let p = page; p < page + count; p++) {
      const first = (p & (SETS - 1)) * WAYS;
      for (let i = first; i < first + WAYS; i++) if (this.pages[i] === p) this.pages[i] = -1;
    }
  }
}

/** One device's way to memory. */
export class Port {
  constructor(tables) {
    this.table = new PageTable(tables);
    this.tlb = new Iotlb();
  }

  translate(page) {
    let phys = this.tlb.lookup(page);
    if (phys >= 0) return phys;
    phys = this.table.walk(page);
    if (phys < 0) throw new Error(`fault at page ${page}`);
    this.tlb.fill(page, phys);
    return phys;
  }

  unmap(page, count) {
    for (let done = 0; done < count; ) done += this.table.unmap(page + done, count - done);
    this.tlb.invalidate(page, count);
  }
}
