/**
 * Bare loops for mapping and unmapping a scatterlist: the columns of the list, a page table, a stack of addresses, copies; no checks
 * but those a table needs.
 *
 *     node dma.mjs direct|translated|swiotlb scattered|contiguous PAGES     prints { "value": pages a second }
 */
import process from 'node:process';
import { cpuSeconds } from './cpu-seconds.mjs';
import { Port } from './page-table.mjs';

const PAGE = 4096;
const PROT = 0x7c0;
const BASE = 2 ** 32;
const [backEnd, layout, pagesText] = process.argv.slice(2);
const pages = Number(pagesText);
const whole = backEnd === 'swiotlb' ? 32 : pages;
const run = layout === 'scattered' ? 1 : Math.min(whole, pages);
const gap = layout === 'scattered' ? 2 : 1;
const count = pages / run;
const phys = Float64Array.from({ length: count }, (_, i) => BASE + i * run * gap * PAGE);
const lengths = new Float64Array(count).fill(run * PAGE);
const address = new Float64Array(count);
const segment = new Float64Array(count);

/** Addresses are those of memory. */
function direct() {
  for (let i = 0; i < count; i++) {
    address[i] = phys[i];
    segment[i] = lengths[i];
  }
}

const port = new Port(4096);
const first = 2 ** 24;

/** One run of IO addresses; the largest pages are 4 KiB. */
function translated() {
  let at = first;
  for (let i = 0; i < count; i++) {
    const n = lengths[i] / PAGE;
    for (let done = 0; done < n; ) done += port.table.map(at + done, phys[i] + done * PAGE, n - done, PROT);
    at += n;
  }
  address[0] = first * PAGE;
  segment[0] = (at - first) * PAGE;
  port.unmap(first, pages);
}

const memory = backEnd === 'swiotlb' ? new Uint8Array(pages * gap * PAGE) : new Uint8Array(0);
const pool = backEnd === 'swiotlb' ? new Uint8Array(64 * 2 ** 20) : memory;

/** Each entry is copied into the next free place of the pool, and back. */
function bounced() {
  let slot = 0;
  for (let i = 0; i < count; i++) {
    const from = phys[i] - BASE;
    pool.set(memory.subarray(from, from + lengths[i]), slot);
    address[i] = slot;
    segment[i] = lengths[i];
    slot += lengths[i];
  }
  for (let i = 0; i < count; i++) {
    const to = phys[i] - BASE;
    memory.set(pool.subarray(address[i], address[i] + lengths[i]), to);
  }
}

const round = { direct, translated, swiotlb: bounced }[backEnd];
if (round === undefined) throw new Error(`no back end ${backEnd}: direct, translated or swiotlb`);
const rounds = Math.max(2, Math.ceil((backEnd === 'swiotlb' ? 2e5 : 2e6) / pages));
for (let i = 0; i < Math.min(rounds, 200); i++) round();
const start = cpuSeconds();
for (let i = 0; i < rounds; i++) round();
const spent = cpuSeconds() - start;
if (segment[0] === 0) throw new Error('nothing was mapped');
console.log(JSON.stringify({ value: (rounds * pages) / spent }));
