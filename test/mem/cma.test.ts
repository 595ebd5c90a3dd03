import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PAGE_SIZE, pfn, physAddr } from '../../src/base/addr.ts';
import { GIB, MIB } from '../../src/base/units.ts';
import { CmaArea } from '../../src/mem/cma.ts';
import { PageAllocator } from '../../src/mem/page-allocator.ts';
import { errnoOf, machine } from './machine.ts';

const who = { owner: 'test' };

function area(basePage: number, pageCount: number, maxAlignOrder?: number) {
  const { memory, clock } = machine([[0, 64 * MIB]]);
  const cma = new CmaArea(memory, {
    name: 'reserved',
    base: physAddr(basePage * PAGE_SIZE),
    bytes: pageCount * PAGE_SIZE,
    ...(maxAlignOrder === undefined ? {} : { maxAlignOrder }),
  });
  return { memory, clock, cma };
}

describe('CmaArea', () => {
  it('is RAM with page frames that the page allocator does not have', () => {
    const { memory, cma } = area(1024, 1024);
    const pages = new PageAllocator(memory);
    expect(memory.hasPage(cma.base)).toBe(true);
    expect(pages.pages).toBe(15 * 1024);
    expect(() => pages.allocAt(pfn(1024), 1, who)).toThrow(/EBUSY/);
  });

  it('lies at the highest 4 MiB border below its limit when it has no base', () => {
    const { memory } = machine([
      [0, 2 * GIB],
      [4 * GIB, GIB],
    ]);
    expect(new CmaArea(memory, { name: 'high', bytes: 64 * MIB }).base).toBe(5 * GIB - 64 * MIB);
    const low = new CmaArea(memory, { name: 'low', bytes: 62 * MIB, below: physAddr(4 * GIB) });
    expect(low.base).toBe(2 * GIB - 64 * MIB);
  });

  it('aligns frame numbers, not places in the area', () => {
    const { cma } = area(1027, 64);
    expect(cma.alloc(1, who)).toBe(1027);
    expect(cma.alloc(4, who)).toBe(1028);
    expect(cma.alloc(16, who)).toBe(1040);
    expect(cma.alloc(2, who)).toBe(1032);
  });

  it('aligns large ranges to 2^maxAlignOrder pages only', () => {
    expect([area(1040, 512, 4), area(1040, 512)].map(({ cma }) => cma.alloc(200, who))).toEqual([1040, 1280]);
  });

  it('fails when only alignment is in the way, and tells what is free', () => {
    const { cma, memory } = area(1024, 512);
    cma.alloc(1, who);
    const error = errnoOf('ENOMEM', () => cma.alloc(511, { owner: 'camera0' }));
    expect(error.message).toBe(
      'cmaAlloc: ENOMEM: camera0 wants 511 pages (2 MiB) from cma area reserved: 511 pages (2 MiB) free, largest free run 511 pages (2 MiB)',
    );
    errnoOf('ENOMEM', () => cma.alloc(2 ** 40, who));
    expect(cma.usedPages).toBe(1);
    expect(memory.ledger.liveCount).toBe(1);
  });

  it('refuses a double free, a foreign frame, part of a range and a wrong size, and changes nothing', () => {
    const { cma, clock } = area(1024, 64);
    const first = cma.alloc(4, { owner: 'display0' });
    expect(() => cma.free(pfn(first + 1), 3)).toThrow(/not the start/);
    expect(() => cma.free(first, 3)).toThrow(/4 page\(s\), not 3/);
    expect(() => cma.free(pfn(5), 1)).toThrow(/not in area reserved/);
    expect(cma.usedPages).toBe(4);
    clock.ns = 70;
    cma.free(first, 4);
    expect(() => cma.free(first, 4)).toThrow('display0 freed it at 70 ns');
    expect([cma.usedPages, cma.largestFreePages]).toEqual([0, 64]);
  });

  it('refuses bad sizes and places, names the argument, and reserves nothing', () => {
    const { memory, cma } = area(1024, 64);
    expect(() => cma.alloc(0, who)).toThrow(/pageCount 0/);
    expect(() => cma.alloc(1, { owner: '' })).toThrow(/owner/);
    expect(() => cma.allocAt(pfn(1080), 9, who)).toThrow(/not in area/);
    cma.allocAt(pfn(1030), 2, who);
    errnoOf('EBUSY', () => cma.allocAt(pfn(1028), 3, who));
    expect(cma.freeRuns()).toEqual([
      { first: 1024, count: 6 },
      { first: 1032, count: 56 },
    ]);
    expect(() => new CmaArea(memory, { name: 'x', bytes: 4096, maxAlignOrder: 31 })).toThrow(/maxAlignOrder 31/);
    expect(() => new CmaArea(memory, { name: 'x', bytes: 4096, base: cma.base })).toThrow(/cma x.*overlaps/);
    expect(memory.memblock.reserved).toHaveLength(1);
  });

  it('fails the allocations that the fault injection hook picks', () => {
    const { memory, cma } = area(1024, 64);
    memory.failNext = ({ kind, allocator }) => kind === 'cma' && allocator === 'reserved';
    expect(errnoOf('ENOMEM', () => cma.alloc(1, who)).message).toContain('injected');
    expect(cma.usedPages).toBe(0);
  });

  it('agrees with a naive bitmap on every place, failure and count', () => {
    const command = fc.record({ frees: fc.boolean(), n: fc.oneof(fc.nat(9), fc.nat(300)), which: fc.nat() });
    const shape = fc.record({ basePage: fc.integer({ min: 1, max: 700 }), count: fc.integer({ min: 1, max: 500 }) });
    fc.assert(
      fc.property(shape, fc.nat(8), fc.array(command, { maxLength: 60 }), ({ basePage, count }, order, commands) => {
        const { cma } = area(basePage, count, order);
        const used = new Array<boolean>(count).fill(false);
        const live: { first: number; count: number }[] = [];
        for (const { frees, n, which } of commands) {
          if (frees) {
            const [victim] = live.splice(which % Math.max(1, live.length), 1);
            if (victim === undefined) continue;
            cma.free(pfn(victim.first), victim.count);
            used.fill(false, victim.first - basePage, victim.first - basePage + victim.count);
          } else {
            const expected = naivePlace(used, basePage, n + 1, order);
            if (expected < 0) {
              errnoOf('ENOMEM', () => cma.alloc(n + 1, who));
            } else {
              expect(cma.alloc(n + 1, who)).toBe(basePage + expected);
              used.fill(true, expected, expected + n + 1);
              live.push({ first: basePage + expected, count: n + 1 });
            }
          }
          expect(cma.usedPages).toBe(used.filter(Boolean).length);
          expect(cma.largestFreePages).toBe(longestRun(used));
        }
        for (const { first, count: pageCount } of live) cma.free(pfn(first), pageCount);
        expect(cma.freeRuns()).toEqual([{ first: basePage, count }]);
      }),
      { numRuns: 150 },
    );
  });
});

/** The lowest place, tried one by one. */
function naivePlace(used: readonly boolean[], base: number, count: number, maxOrder: number): number {
  let align = 1;
  for (let order = 0; order < maxOrder && align < count; order++) align *= 2;
  for (let start = 0; start + count <= used.length; start++) {
    if ((base + start) % align !== 0) continue;
    if (used.slice(start, start + count).every((bit) => !bit)) return start;
  }
  return -1;
}

function longestRun(used: readonly boolean[]): number {
  let longest = 0;
  let run = 0;
  for (const bit of used) {
    run = bit ? 0 : run + 1;
    longest = Math.max(longest, run);
  }
  return longest;
}
