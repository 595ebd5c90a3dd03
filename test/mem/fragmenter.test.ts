import { describe, expect, it } from 'vitest';
import { PAGE_SIZE, physAddr } from '../../src/base/addr.ts';
import { MIB } from '../../src/base/units.ts';
import { CmaArea } from '../../src/mem/cma.ts';
import { fragmentCma, fragmentPages } from '../../src/mem/fragmenter.ts';
import { PageAllocator } from '../../src/mem/page-allocator.ts';
import { Prng } from '../../src/sim/prng.ts';
import { errnoOf, machine } from './machine.ts';

const owner = 'test';

function platform() {
  const { memory } = machine([[0, 32 * MIB]]);
  const cma = new CmaArea(memory, { name: 'reserved', base: physAddr(8 * MIB + 5 * PAGE_SIZE), bytes: 3 * MIB });
  return { memory, cma, pages: new PageAllocator(memory) };
}

describe('fragmentPages', () => {
  it.each([
    [0, 0.3],
    [3, 0.9],
    [9, 0.5],
  ])('leaves no request above 2^%i pages room and just that part free', (maxFreeOrder, freeFraction) => {
    const { pages, memory } = platform();
    const before = pages.freePageCount();
    const held = fragmentPages(pages, new Prng(1), { freeFraction, maxFreeOrder, owner: 'filler' });
    expect(pages.freePageCount()).toBe(Math.round(before * freeFraction));
    expect(held.heldPages).toBe(before - pages.freePageCount());
    expect(memory.ledger.bytesByOwner().get('filler')).toBe(held.heldPages * PAGE_SIZE);
    expect(pages.largestFreeRun()).toBeLessThanOrEqual(2 ** maxFreeOrder);
    errnoOf('ENOMEM', () => pages.allocPages({ pageCount: 2 ** maxFreeOrder + 1, owner }));
    pages.allocBulk({ pageCount: pages.freePageCount(), owner });
  });

  it('leaves the same blocks for the same seed and others for another', () => {
    const state = (seed: number) => {
      const { pages } = platform();
      fragmentPages(pages, new Prng(seed), { freeFraction: 0.5, maxFreeOrder: 2 });
      return pages.freeBlocks();
    };
    expect(state(7)).toEqual(state(7));
    expect(state(7)).not.toEqual(state(8));
  });

  it('gives everything back so that it joins again, once', () => {
    const { pages, memory } = platform();
    const kept = pages.allocPages({ order: 4, owner });
    const before = pages.freeBlocks();
    const held = fragmentPages(pages, new Prng(3), { freeFraction: 0.4, maxFreeOrder: 1 });
    expect(pages.freeBlocks()).not.toEqual(before);
    held.release();
    held.release();
    expect(held.heldPages).toBe(0);
    expect(pages.freeBlocks()).toEqual(before);
    expect(memory.ledger.liveCount).toBe(1);
    pages.freePages(kept, 16);
  });

  it('can leave all zones but one alone', () => {
    const { pages } = platform();
    const before = pages.freePageCount('DMA');
    fragmentPages(pages, new Prng(3), { freeFraction: 0, maxFreeOrder: 10, zone: 'DMA32' });
    expect(pages.freePageCount()).toBe(before);
    expect(pages.freePageCount('DMA')).toBe(before);
  });

  it('refuses what cannot be and names it, and holds nothing', () => {
    const { pages } = platform();
    const free = pages.freePageCount();
    const attempt = (freeFraction: number, maxFreeOrder: number) => () =>
      fragmentPages(pages, new Prng(1), { freeFraction, maxFreeOrder });
    expect(attempt(0.6, 0)).toThrow(/freeFraction 0.6 is above 0.5/);
    expect(attempt(1.5, 0)).toThrow(/freeFraction 1.5/);
    expect(attempt(0.5, 11)).toThrow(/maxFreeOrder 11/);
    expect(pages.freePageCount()).toBe(free);
  });

  it('holds nothing when an allocation on the way fails', () => {
    const { pages, memory } = platform();
    const before = pages.freeBlocks();
    let asked = 0;
    memory.failNext = () => ++asked === 50;
    errnoOf('ENOMEM', () => fragmentPages(pages, new Prng(1), { freeFraction: 0.5, maxFreeOrder: 0 }));
    expect(pages.freeBlocks()).toEqual(before);
    expect(memory.ledger.liveCount).toBe(0);
  });
});

describe('fragmentCma', () => {
  it.each([
    [0, 0.3],
    [3, 0.6],
    [9, 0.5],
  ])('leaves no request above 2^%i pages room and just that part free', (maxFreeOrder, freeFraction) => {
    const { cma } = platform();
    const held = fragmentCma(cma, new Prng(2), { freeFraction, maxFreeOrder });
    expect(held.heldPages).toBe(cma.pages - Math.round(cma.pages * freeFraction));
    expect(cma.usedPages).toBe(held.heldPages);
    for (let pageCount = 2 ** maxFreeOrder + 1; pageCount <= cma.pages; pageCount++) {
      errnoOf('ENOMEM', () => cma.alloc(pageCount, { owner }));
    }
    held.release();
    expect([cma.usedPages, cma.largestFreePages]).toEqual([0, cma.pages]);
  });

  it('leaves the same runs for the same seed and others for another', () => {
    const state = (seed: number) => {
      const { cma } = platform();
      fragmentCma(cma, new Prng(seed), { freeFraction: 0.5, maxFreeOrder: 2 });
      return cma.freeRuns();
    };
    expect(state(7)).toEqual(state(7));
    expect(state(7)).not.toEqual(state(8));
  });
});
