/**
 * Mapping and unmapping of a scatterlist through the DMA API.
 *
 *     node dma.bench.js direct|strict|lazy|swiotlb scattered|contiguous PAGES     prints { "value": pages a second }
 *
 * `direct`: no IOMMU; `strict`, `lazy`: behind one; `swiotlb`: every page is copied into the bounce pool and back. `scattered`: each
 * page by itself; `contiguous`: one run (at most 128 KiB each in the pool). A round maps and unmaps the list once.
 */
import process from 'node:process';
import { dmaMapSgtable, dmaUnmapSgtable, GIB, KIB, PAGE_SIZE, pc, physAddr, SgTable } from '../src/index.ts';
import { cpuSeconds } from './limits/cpu-seconds.mjs';

const [backEnd = 'direct', layout = 'scattered', pagesText = '256'] = process.argv.slice(2);
const PAGES = Number(pagesText);
const BASE = 4 * GIB;
/** Pages of one entry in the pool. */
const BOUNCED_RUN = (128 * KIB) / PAGE_SIZE;
const GOAL_PAGES = backEnd === 'swiotlb' ? 2e5 : 2e6;

function table(): SgTable {
  const whole = backEnd === 'swiotlb' ? BOUNCED_RUN : PAGES;
  const run = layout === 'scattered' ? 1 : Math.min(whole, PAGES);
  const gap = layout === 'scattered' ? 2 : 1;
  const extents = Array.from({ length: PAGES / run }, (_, i) => ({
    phys: physAddr(BASE + i * run * gap * PAGE_SIZE),
    length: run * PAGE_SIZE,
  }));
  return new SgTable(extents);
}

function main(): number {
  const machine = pc({
    highRamBytes: 4 * GIB,
    bytes: backEnd === 'swiotlb',
    shadow: false,
    lazyIommu: backEnd === 'lazy',
    swiotlb: backEnd === 'swiotlb' ? 'force' : 'auto',
    dmaDebug: false,
  });
  const iommu = backEnd === 'strict' || backEnd === 'lazy';
  const limits = { dmaMaskBits: 64, maxSegmentSizeBytes: 2 ** 32 - 1 };
  const dev = machine.addDevice({ name: 'dev0', coherent: true, iommu, ...limits });
  const sgt = table();
  const round = (): void => {
    dmaMapSgtable(dev, sgt, 'bidirectional');
    dmaUnmapSgtable(dev, sgt, 'bidirectional');
  };
  const rounds = Math.max(2, Math.ceil(GOAL_PAGES / PAGES));
  for (let i = 0; i < Math.min(rounds, 200); i++) round();
  const start = cpuSeconds();
  for (let i = 0; i < rounds; i++) round();
  return (rounds * PAGES) / (cpuSeconds() - start);
}

console.log(JSON.stringify({ value: main() }));
