/**
 * Bare loops for page tables, IOTLB and IO address spaces: the phases of `iommu.bench.ts`.
 *
 *     node page-table-ops.mjs table 48|32 OPERATION     prints { "value": pages or blocks a second }
 *     node page-table-ops.mjs tlb hit|miss              prints { "value": translations a second }
 *     node page-table-ops.mjs domain OPERATION          prints { "value": pages a second }
 *     node --expose-gc page-table-ops.mjs memory        prints { "value": bytes for 1 GiB in pages of 4 KiB }
 */
import process from 'node:process';
import { cpuSeconds } from './cpu-seconds.mjs';
import { Iotlb } from './page-table.mjs';
import { LruTlb, Pair, Pair32 } from './page-table-pair.mjs';

const PROT = 0x7c0;
const PAGES = 65_536;
const BLOCKS = 8192;
const BLOCKS_32 = 1024;
const PAGES_PER_BLOCK = 512;

/** Numbers 0 to `count` - 1 in an order that looks random and is the same everywhere. */
function shuffled(count) {
  const order = Int32Array.from({ length: count }, (_, i) => i);
  let seed = 12_345;
  for (let i = count - 1; i > 0; i--) {
    seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
    const j = seed % (i + 1);
    const other = order[j];
    order[j] = order[i];
    order[i] = other;
  }
  return order;
}

/** Counts the time of one phase of a round over all rounds but the first ones, which warm up. */
function measure(rounds, warmUp, operations, phases) {
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

function table(bits, operation) {
  const pt = bits === '48' ? new Pair() : new Pair32();
  const base = bits === '48' ? 0x7_0000_0000 : 0x4_0000;
  const order = shuffled(PAGES);
  const blocks = bits === '48' ? BLOCKS : BLOCKS_32;
  let sum = 0;
  const mapPages = () => {
    let total = 0;
    for (let i = 0; i < PAGES; i++) total += pt.map(base + i, 0x8000_0000 + order[i] * 4096, 1, PROT);
    sum += total;
  };
  const unmapPages = () => {
    let total = 0;
    for (let i = 0; i < PAGES; i++) total += pt.unmap(base + i, 1);
    sum += total;
  };
  const mapRun = () => {
    for (let i = 0; i < PAGES; ) i += pt.map(base + i, 0x8000_0000 + i * 4096, PAGES - i, PROT);
  };
  const unmapRun = () => {
    for (let i = 0; i < PAGES; ) i += pt.unmap(base + i, PAGES - i);
    sum++;
  };
  const mapBlocks = () => {
    let total = 0;
    for (let i = 0; i < blocks; i++)
      total += pt.mapBlock(base + i * PAGES_PER_BLOCK, 0x8000_0000 + i * 0x20_0000, PROT);
    sum += total;
  };
  const unmapBlocks = () => {
    let total = 0;
    for (let i = 0; i < blocks; i++) total += pt.unmapBlock(base + i * PAGES_PER_BLOCK);
    sum += total;
  };
  const walk = () => {
    let total = 0;
    for (let i = 0; i < PAGES; i++) total += pt.walk((base + i) * 4096 + 8);
    sum += total;
  };
  const walkRandom = () => {
    let total = 0;
    for (let i = 0; i < PAGES; i++) total += pt.walk((base + order[i]) * 4096 + 8);
    sum += total;
  };
  const walkBlocks = () => {
    let total = 0;
    for (let i = 0; i < blocks; i++) total += pt.walk((base + i * PAGES_PER_BLOCK) * 4096 + 4096);
    sum += total;
  };
  const nothing = () => {};
  const phases = {
    map4k: [nothing, mapPages, unmapPages],
    unmap4k: [mapPages, unmapPages, nothing],
    walk4k: [mapPages, walk, unmapPages],
    walkrandom4k: [mapPages, walkRandom, unmapPages],
    maprun: [nothing, mapRun, unmapRun],
    unmaprun: [mapRun, unmapRun, nothing],
    map2m: [nothing, mapBlocks, unmapBlocks],
    unmap2m: [mapBlocks, unmapBlocks, nothing],
    walk2m: [mapBlocks, walkBlocks, unmapBlocks],
  }[operation];
  const [before, timed, after] = phases;
  const ofBlocks = operation.endsWith('2m');
  const rounds = ofBlocks ? (blocks === BLOCKS ? 600 : 3000) : operation.endsWith('run') ? 600 : 90;
  const value = measure(rounds, rounds / 3, ofBlocks ? blocks : PAGES, {
    before,
    timed,
    after,
  });
  if (!(sum > 0)) throw new Error('no address');
  if (pt.walk(base * 4096) !== -1) throw new Error('a page is left');
  return value;
}

function tlb(operation) {
  const pt = new Pair(256);
  const cache = new LruTlb();
  const asid = 7;
  const first = 0xc0000;
  const pages = operation === 'hit' ? 1024 : 8192;
  for (let i = 0; i < pages; i++) pt.map(first + i, 0x4000_0000 + i * 4096, 1, PROT);
  const translate = (page) => {
    const known = cache.lookup(page, asid);
    if (known >= 0) return known;
    const phys = pt.walk(page * 4096);
    if (phys < 0) throw new Error(`fault at page ${page}`);
    cache.fill(page, asid, phys);
    return phys;
  };
  let sum = 0;
  const rounds = operation === 'hit' ? 200 : 25;
  const timed = () => {
    let total = 0;
    for (let round = 0; round < rounds; round++) for (let i = 0; i < pages; i++) total += translate(first + i);
    sum += total;
  };
  const value = measure(40, 10, rounds * pages, { before() {}, timed, after() {} });
  if (!(sum > 0)) throw new Error('no address');
  return value;
}

function domain(operation) {
  const pt = new Pair();
  const cache = new Iotlb();
  const base = 0x7_0000_0000;
  const unmap = (page, count) => {
    for (let done = 0; done < count; ) done += pt.unmap(page + done, count - done);
    cache.invalidate(page, count);
  };
  const single = () => {
    for (let i = 0; i < PAGES; i++) {
      pt.map(base + i, 0x8000_0000 + i * 4096, 1, PROT);
      unmap(base + i, 1);
    }
  };
  const run64 = () => {
    for (let i = 0; i < PAGES; i += 64) {
      pt.map(base + i, 0x8000_0000 + i * 4096, 64, PROT);
      unmap(base + i, 64);
    }
  };
  const scattered = () => {
    for (let i = 0; i < 4 * PAGES; i++) pt.map(base + i, 0x8000_0000 + 2 * i * 4096, 1, PROT);
    unmap(base, 4 * PAGES);
  };
  const gib = () => {
    for (let i = 0; i < 4 * PAGES; ) i += pt.map(base + i, 0x8000_1000 + i * 4096, 4 * PAGES - i, PROT);
    unmap(base, 4 * PAGES);
  };
  const timed = { single, run64, scattered, gib }[operation];
  const isGib = operation === 'scattered' || operation === 'gib';
  return measure(isGib ? 20 : 60, isGib ? 5 : 15, isGib ? 4 * PAGES : PAGES, { before() {}, timed, after() {} });
}

function memory() {
  const gib = 3;
  const used = () => {
    // Array buffers are given back one collection later.
    for (let i = 0; i < 3; i++) globalThis.gc();
    const { heapUsed, arrayBuffers } = process.memoryUsage();
    return heapUsed + arrayBuffers;
  };
  const start = used();
  const pt = new Pair(4);
  const base = 0x7_0000_0000;
  for (let i = 0; i < gib * 4 * PAGES; ) i += pt.map(base + i, 0x8000_1000 + i * 4096, gib * 4 * PAGES - i, PROT);
  const bytes = used() - start;
  if (pt.walk(base * 4096) < 0) throw new Error('no page');
  return bytes / gib;
}

const [what, ...rest] = process.argv.slice(2);
console.log(JSON.stringify({ value: { table, tlb, domain, memory }[what](...rest) }));
