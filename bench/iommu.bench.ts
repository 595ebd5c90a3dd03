/**
 * Page tables, IOTLB and IO address spaces, an operation at a time.
 *
 *     node iommu.bench.js table FORMAT OPERATION     prints { "value": pages or blocks a second }
 *     node iommu.bench.js tlb hit|miss               prints { "value": translations a second }
 *     node iommu.bench.js domain OPERATION           prints { "value": pages a second }
 *     node --expose-gc iommu.bench.js memory         prints { "value": bytes of this program for 1 GiB in pages of 4 KiB }
 *
 * The bare loops in `limits/page-table-ops.mjs` do the same with the same addresses.
 */
import process from 'node:process';
import {
  allocIoPgtable,
  GIB,
  Iommu,
  IommuDomain,
  IommuProt,
  type IoPgtableFormat,
  type IoPgtableTlb,
  IotlbGather,
  type Iova,
  iova,
  isIoPgtableFormat,
  MIB,
  PAGE_SIZE,
  type Pfn,
  type PhysAddr,
  pfn,
  physAddr,
  Simulator,
  type TablePages,
  Translation,
} from '../src/index.ts';
import { cpuSeconds } from './limits/cpu-seconds.mjs';

const PROT = IommuProt.read | IommuProt.write | IommuProt.cache;
const PAGES = 65_536;
const BLOCKS = 8192;
const BLOCKS_32 = 1024;
const BLOCK = 2 * MIB;
const BASE = 0x7000_0000_0000;
const PHYS = 0x8000_0000;

/** Frames in ascending order, freed ones first. */
class Frames implements TablePages {
  readonly #free: Pfn[] = [];
  #next = 0x1_0000;

  alloc(order: number): Pfn {
    const freed = order === 0 ? this.#free.pop() : undefined;
    if (freed !== undefined) return freed;
    const frame = pfn(this.#next);
    this.#next += 2 ** order;
    return frame;
  }

  free(frame: Pfn, order: number): void {
    if (order === 0) this.#free.push(frame);
  }
}

/** Gathers as a driver does. */
const TLB: IoPgtableTlb = {
  tlbFlushAll: () => undefined,
  tlbFlushWalk: () => undefined,
  tlbAddPage(gather, at, granuleBytes, count) {
    gather.add(at, granuleBytes * count, granuleBytes);
  },
};

/** Numbers 0 to `count` - 1 in an order that looks random and is the same everywhere. */
function shuffled(count: number): Int32Array {
  const order = Int32Array.from({ length: count }, (_, i) => i);
  let seed = 12_345;
  for (let i = count - 1; i > 0; i--) {
    seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
    const j = seed % (i + 1);
    const other = order[j] ?? 0;
    order[j] = order[i] ?? 0;
    order[i] = other;
  }
  return order;
}

interface Phases {
  before(): void;
  timed(): void;
  after(): void;
}

const nothing = (): void => undefined;

/** Counts the time of one phase of a round over all rounds but the first ones, which warm up. */
function measure(rounds: number, warmUp: number, operations: number, phases: Phases): number {
  let seconds = 0;
  for (let round = 0; round < warmUp + rounds; round++) {
    phases.before();
    const start = cpuSeconds();
    phases.timed();
    if (round >= warmUp) seconds += cpuSeconds() - start;
    phases.after();
  }
  return (rounds * operations) / seconds;
}

/** What a table is asked to do, each over all pages or blocks. */
function passes(format: IoPgtableFormat) {
  const is32 = format.startsWith('ARM_32');
  const config = {
    pgsizeBitmap: 0x4020_1000,
    ias: is32 ? 32 : 48,
    oas: is32 ? 40 : 48,
    coherentWalk: true,
    quirks: [],
  };
  const table = allocIoPgtable(format, config, new Frames(), TLB);
  const base = is32 ? GIB : BASE;
  // Addresses are made beforehand: checking them is not the table's work.
  const order = [...shuffled(PAGES)];
  const pages = order.map((_, i) => iova(base + i * PAGE_SIZE));
  const frames = order.map((_, i) => physAddr(PHYS + i * PAGE_SIZE));
  const shuffledFrames = order.map((frame) => physAddr(PHYS + frame * PAGE_SIZE));
  const inPages = order.map((_, i) => iova(base + i * PAGE_SIZE + 8));
  const inShuffledPages = order.map((page) => iova(base + page * PAGE_SIZE + 8));
  const count = is32 ? BLOCKS_32 : BLOCKS;
  const blocks = order.slice(0, count).map((_, i) => iova(base + i * BLOCK));
  const blockFrames = blocks.map((_, i) => physAddr(PHYS + i * BLOCK));
  const inBlocks = blocks.map((at) => iova(at + PAGE_SIZE));
  const gather = new IotlbGather();
  let sum = 0;
  const walkAll = (addresses: readonly Iova[]): void => {
    let total = 0;
    for (let i = 0; i < addresses.length; i++) total += table.iovaToPhys(addresses[i] as Iova);
    sum += total;
  };
  return {
    blockCount: count,
    /** @throws {Error} nothing was done. */
    check(): void {
      if (!(sum > 0)) throw new Error('no address');
      if (table.warnings > 0 || table.iovaToPhys(iova(base)) !== 0) throw new Error('a page is left');
    },
    mapPages(): void {
      let failed = 0;
      for (let i = 0; i < PAGES; i++)
        failed += table.mapPages(pages[i] as Iova, shuffledFrames[i] as PhysAddr, PAGE_SIZE, 1, PROT);
      sum += failed;
    },
    unmapPages(): void {
      let bytes = 0;
      gather.reset();
      for (let i = 0; i < PAGES; i++) bytes += table.unmapPages(pages[i] as Iova, PAGE_SIZE, 1, gather);
      sum += bytes;
    },
    mapRun(): void {
      for (let i = 0; i < PAGES; i += table.mapped / PAGE_SIZE)
        table.mapPages(pages[i] as Iova, frames[i] as PhysAddr, PAGE_SIZE, PAGES - i, PROT);
    },
    unmapRun(): void {
      gather.reset();
      for (let i = 0; i < PAGES; ) i += table.unmapPages(pages[i] as Iova, PAGE_SIZE, PAGES - i, gather) / PAGE_SIZE;
      sum++;
    },
    mapBlocks(): void {
      let failed = 0;
      for (let i = 0; i < count; i++)
        failed += table.mapPages(blocks[i] as Iova, blockFrames[i] as PhysAddr, BLOCK, 1, PROT);
      sum += failed;
    },
    unmapBlocks(): void {
      let bytes = 0;
      gather.reset();
      for (let i = 0; i < count; i++) bytes += table.unmapPages(blocks[i] as Iova, BLOCK, 1, gather);
      sum += bytes;
    },
    walk: () => walkAll(inPages),
    walkRandom: () => walkAll(inShuffledPages),
    walkBlocks: () => walkAll(inBlocks),
  };
}

function table(format: string, operation: string): number {
  if (!isIoPgtableFormat(format)) throw new Error(`no format ${format}`);
  const pass = passes(format);
  const { mapPages, unmapPages, mapRun, unmapRun, mapBlocks, unmapBlocks, walk, walkRandom, walkBlocks } = pass;
  const phases: { readonly [operation: string]: Phases } = {
    map4k: { before: nothing, timed: mapPages, after: unmapPages },
    unmap4k: { before: mapPages, timed: unmapPages, after: nothing },
    walk4k: { before: mapPages, timed: walk, after: unmapPages },
    walkrandom4k: { before: mapPages, timed: walkRandom, after: unmapPages },
    maprun: { before: nothing, timed: mapRun, after: unmapRun },
    unmaprun: { before: mapRun, timed: unmapRun, after: nothing },
    map2m: { before: nothing, timed: mapBlocks, after: unmapBlocks },
    unmap2m: { before: mapBlocks, timed: unmapBlocks, after: nothing },
    walk2m: { before: mapBlocks, timed: walkBlocks, after: unmapBlocks },
  };
  const chosen = phases[operation];
  if (chosen === undefined) throw new Error(`no operation ${operation}: one of ${Object.keys(phases).join(', ')}`);
  const ofBlocks = operation.endsWith('2m');
  const rounds = ofBlocks ? (pass.blockCount === BLOCKS ? 600 : 3000) : operation.endsWith('run') ? 600 : 90;
  const value = measure(rounds, rounds / 3, ofBlocks ? pass.blockCount : PAGES, chosen);
  pass.check();
  return value;
}

function makeDomain(): { readonly iommu: Iommu; readonly domain: IommuDomain } {
  const iommu = new Iommu(new Simulator(), { name: 'smmu0', pages: new Frames() });
  return { iommu, domain: new IommuDomain(iommu) };
}

/** Translations of pages that the IOTLB knows, or of four times as many as it holds: each is walked. */
function tlb(operation: string): number {
  const { iommu, domain } = makeDomain();
  const pages = operation === 'hit' ? 1024 : 8192;
  const base = 0xc000_0000;
  const addresses = Array.from({ length: pages }, (_, i) => iova(base + i * PAGE_SIZE));
  for (const [i, at] of addresses.entries()) domain.map(at, physAddr(0x4000_0000 + i * PAGE_SIZE), PAGE_SIZE, PROT);
  const out = new Translation('dev0');
  let sum = 0;
  const rounds = operation === 'hit' ? 200 : 25;
  const timed = (): void => {
    let total = 0;
    for (let round = 0; round < rounds; round++) {
      for (let i = 0; i < pages; i++) {
        iommu.translateDeferred(domain, addresses[i] as Iova, 'read', out);
        total += out.phys;
      }
    }
    sum += total;
  };
  const value = measure(40, 10, rounds * pages, { before: nothing, timed, after: nothing });
  const { hits, misses } = iommu.iotlb;
  if (!(sum > 0) || (operation === 'hit' ? misses > pages : hits > 0))
    throw new Error(`${hits} hits, ${misses} misses`);
  return value;
}

/** Maps and unmaps through a domain with strict invalidation. */
function domain(operation: string): number {
  const { domain } = makeDomain();
  const count = 4 * PAGES;
  const addresses = Array.from({ length: count }, (_, i) => iova(BASE + i * PAGE_SIZE));
  const frames = Array.from({ length: 2 * count }, (_, i) => physAddr(PHYS + i * PAGE_SIZE));
  const map = (page: number, frame: number, count: number): void =>
    domain.map(addresses[page] as Iova, frames[frame] as PhysAddr, count * PAGE_SIZE, PROT);
  const unmap = (page: number, count: number): void => {
    if (domain.unmap(addresses[page] as Iova, count * PAGE_SIZE) !== count * PAGE_SIZE) throw new Error('a hole');
  };
  const cases: { readonly [operation: string]: () => void } = {
    single() {
      for (let i = 0; i < PAGES; i++) {
        map(i, i, 1);
        unmap(i, 1);
      }
    },
    run64() {
      for (let i = 0; i < PAGES; i += 64) {
        map(i, i, 64);
        unmap(i, 64);
      }
    },
    scattered() {
      for (let i = 0; i < count; i++) map(i, 2 * i, 1);
      unmap(0, count);
    },
    gib() {
      // One frame off a block, so that it is pages that are mapped.
      map(0, 1, count);
      unmap(0, count);
    },
  };
  const timed = cases[operation];
  if (timed === undefined) throw new Error(`no operation ${operation}: one of ${Object.keys(cases).join(', ')}`);
  const isGib = operation === 'scattered' || operation === 'gib';
  return measure(isGib ? 20 : 60, isGib ? 5 : 15, isGib ? count : PAGES, { before: nothing, timed, after: nothing });
}

/** Host memory of a page table with 3 GiB mapped, for each. */
function memory(): number {
  const gib = 3;
  const used = (): number => {
    if (globalThis.gc === undefined) throw new Error('needs --expose-gc');
    // Array buffers are given back one collection later.
    for (let i = 0; i < 3; i++) globalThis.gc();
    const { heapUsed, arrayBuffers } = process.memoryUsage();
    return heapUsed + arrayBuffers;
  };
  const { domain } = makeDomain();
  const start = used();
  domain.map(iova(BASE), physAddr(PHYS + PAGE_SIZE), gib * GIB, PROT);
  const bytes = used() - start;
  if (domain.iovaToPhys(iova(BASE)) === null) throw new Error('no page');
  return bytes / gib;
}

const [what, first = '', second = ''] = process.argv.slice(2);
const cases: { readonly [what: string]: () => number } = {
  table: () => table(first, second),
  tlb: () => tlb(first),
  domain: () => domain(first),
  memory,
};
const run = cases[what ?? ''];
if (run === undefined) throw new Error(`no case ${what}: table, tlb, domain or memory`);
console.log(JSON.stringify({ value: run() }));
