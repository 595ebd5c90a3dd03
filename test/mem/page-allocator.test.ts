import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PAGE_SIZE, pfn } from '../../src/base/addr.ts';
import { ErrnoError } from '../../src/base/errors.ts';
import { GIB, MIB } from '../../src/base/units.ts';
import { type FrameBlocks, PageAllocator, type PageAllocatorOptions } from '../../src/mem/page-allocator.ts';
import { type ZoneName, zonelist } from '../../src/mem/zone.ts';
import { errnoOf, machine } from './machine.ts';

const owner = 'test';

function allocator(ram: readonly (readonly [number, number])[], options: PageAllocatorOptions = {}) {
  const { memory, clock } = machine(ram);
  return { memory, clock, pages: new PageAllocator(memory, options) };
}

/** Every frame of the blocks, in order. */
function framesOf({ firsts, pageCounts }: FrameBlocks): number[] {
  return [...firsts].flatMap((first, i) => Array.from({ length: pageCounts[i] ?? 0 }, (_, k) => first + k));
}

describe('PageAllocator placement', () => {
  it('hands out the lowest block first, dividing it from below', () => {
    const { pages } = allocator([[0, 4 * MIB]], { reuse: 'buddy' });
    const got = [0, 0, 1, 3, 0].map((order) => pages.allocPages({ order, owner }));
    expect(got).toEqual([0, 1, 2, 8, 4]);
  });

  it('takes the block freed last when several of one order are free', () => {
    const { pages } = allocator([[0, 4 * MIB]], { reuse: 'buddy' });
    const got = Array.from({ length: 8 }, () => pages.allocPages({ order: 0, owner }));
    expect(got).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    for (const frame of [2, 6, 4]) pages.freePages(pfn(frame), 1);
    expect([4, 6, 2].map(() => pages.allocPages({ order: 0, owner }))).toEqual([4, 6, 2]);
  });

  it('hands a frame just freed to the next request of its size, though it has been joined with its neighbours', () => {
    const { pages } = allocator([[0, 4 * MIB]]);
    pages.allocBulk({ pageCount: 6, orders: [0], owner });
    for (const frame of [4, 5]) pages.freePages(pfn(frame), 1);
    expect(pages.freePageCount()).toBe(1020);
    expect(pages.allocPages({ order: 0, owner: 'next' })).toBe(5);
    expect(pages.allocPages({ order: 0, owner: 'next' })).toBe(4);
  });

  it('does not hand out a frame freed last that was taken otherwise meanwhile', () => {
    const { pages } = allocator([[0, 4 * MIB]]);
    pages.freePages(pages.allocPages({ order: 0, owner }), 1);
    expect(pages.allocPages({ order: 10, owner })).toBe(0);
    errnoOf('ENOMEM', () => pages.allocPages({ order: 0, owner }));
  });

  it('gives back what a size that is no power of two leaves over, and takes it back whole', () => {
    const { pages } = allocator([[0, 4 * MIB]]);
    const before = pages.freeBlocks();
    const first = pages.allocPages({ pageCount: 5, owner });
    expect(pages.freePageCount()).toBe(1019);
    expect(pages.allocPages({ order: 0, owner })).toBe(5);
    pages.freePages(pfn(5), 1);
    pages.freePages(first, 5);
    expect(pages.freeBlocks()).toEqual(before);
  });

  it('falls back to lower zones in order, and never to higher ones', () => {
    const { pages } = allocator(
      [
        [16 * MIB - PAGE_SIZE, 2 * PAGE_SIZE],
        [4 * GIB - PAGE_SIZE, 2 * PAGE_SIZE],
        [5 * GIB, 4 * MIB],
      ],
      { movableBytes: 4 * MIB },
    );
    const zones = (zone: ZoneName, n: number) =>
      Array.from({ length: n }, () => pages.zoneOf(pages.allocPages({ order: 0, zone, owner })));
    pages.allocPages({ order: 10, zone: 'MOVABLE', owner });
    expect(zones('MOVABLE', 1)).toEqual(['NORMAL']);
    expect(zones('NORMAL', 1)).toEqual(['DMA32']);
    expect(zones('DMA32', 2)).toEqual(['DMA32', 'DMA']);
    expect(errnoOf('ENOMEM', () => zones('MOVABLE', 1)).message).toContain('MOVABLE, NORMAL, DMA32, DMA');
    expect(pages.zoneOf(pfn(3))).toBeUndefined();
  });

  it('keeps a request for DMA32 out of NORMAL even when only that has room', () => {
    const { pages } = allocator([[4 * GIB, 4 * MIB]]);
    const error = errnoOf('ENOMEM', () => pages.allocPages({ order: 0, zone: 'DMA32', owner }));
    expect(error.message).toContain('no zone up to DMA32: 0 pages (0 B) free');
    expect(pages.freePageCount('DMA32')).toBe(0);
    expect(pages.freePageCount()).toBe(1024);
  });

  it('sets up a machine of 64 GiB without touching its frames', () => {
    const { memory, pages } = allocator([
      [0, 2 * GIB],
      [4 * GIB, 62 * GIB],
    ]);
    expect(pages.freePageCount()).toBe((64 * GIB) / PAGE_SIZE);
    expect(pages.buddyInfo().map(({ zone, counts }) => [zone, counts[10]])).toEqual([
      ['DMA', 4],
      ['DMA32', 508],
      ['NORMAL', 15872],
    ]);
    expect(memory.allocatedBytes).toBe(0);
  });
});

describe('PageAllocator.allocBulk', () => {
  it('takes the largest orders first and falls to lower ones, never back', () => {
    const { pages } = allocator([[0, 4 * MIB]], { reuse: 'buddy' });
    const blocks = pages.allocBulk({ pageCount: 256 * 2 + 16 + 3, owner });
    expect([...blocks.pageCounts]).toEqual([256, 256, 16, 1, 1, 1]);
    expect(new Set(framesOf(blocks)).size).toBe(531);
  });

  it('gathers scattered single pages when nothing larger is left', () => {
    const { pages } = allocator([[0, 4 * MIB]]);
    const before = pages.freeBlocks();
    const all = pages.allocBulk({ pageCount: 1024, orders: [0], owner });
    for (let frame = 0; frame < 1024; frame += 2) pages.freePages(pfn(frame), 1);
    const scattered = pages.allocBulk({ pageCount: 512, owner: 'heap' });
    expect([...scattered.pageCounts].every((count) => count === 1)).toBe(true);
    expect(framesOf(scattered).sort((a, b) => a - b)).toEqual(Array.from({ length: 512 }, (_, i) => 2 * i));
    pages.freeBulk(scattered);
    for (const frame of framesOf(all)) if (frame % 2 === 1) pages.freePages(pfn(frame), 1);
    expect(pages.freeBlocks()).toEqual(before);
  });

  it('takes nothing when the pages do not suffice', () => {
    const { memory, pages } = allocator([[0, 4 * MIB]]);
    const before = pages.freeBlocks();
    const error = errnoOf('ENOMEM', () => pages.allocBulk({ pageCount: 1025, owner }));
    expect(error.message).toContain('1024 pages (4 MiB) free');
    expect(pages.freeBlocks()).toEqual(before);
    expect(memory.ledger.liveCount).toBe(0);
  });

  it.each([[[8, 4]], [[4, 8, 0]], [[11, 0]], [[]]])('refuses the orders %j', (orders) => {
    const { pages } = allocator([[0, 4 * MIB]]);
    expect(() => pages.allocBulk({ pageCount: 1, orders, owner })).toThrow(/do not descend/);
  });
});

describe('PageAllocator errors', () => {
  it('tells on exhaustion what was wanted, what is free and the largest free run, and leaves no trace', () => {
    const { memory, pages } = allocator([[0, 4 * MIB]]);
    pages.allocBulk({ pageCount: 1024, orders: [0], owner });
    for (const frame of [10, 12, 13, 100]) pages.freePages(pfn(frame), 1);
    const before = [pages.freeBlocks(), memory.ledger.liveAllocations()];
    const error = errnoOf('ENOMEM', () => pages.allocPages({ order: 2, owner: 'camera0' }));
    expect(error.message).toBe(
      'allocPages: ENOMEM: camera0 wants 4 pages (16 KiB) from zone DMA: 4 pages (16 KiB) free, largest free run 2 pages (8 KiB)',
    );
    expect(pages.largestFreeRun()).toBe(2);
    expect([pages.freeBlocks(), memory.ledger.liveAllocations()]).toEqual(before);
  });

  it('answers ENOMEM to a request above the largest block', () => {
    const { pages } = allocator([[0, 8 * MIB]]);
    errnoOf('ENOMEM', () => pages.allocPages({ order: 11, owner }));
    errnoOf('ENOMEM', () => pages.allocPages({ pageCount: 1025, owner }));
    expect(pages.freePageCount()).toBe(2048);
  });

  it.each([{ order: -1 }, { order: 1.5 }, { pageCount: 0 }, { pageCount: 2.5 }])('refuses %j', (size) => {
    const { pages } = allocator([[0, 4 * MIB]]);
    expect(() => pages.allocPages({ ...size, owner })).toThrow(/order|pageCount/);
  });

  it('refuses an owner without a name, before anything is taken', () => {
    const { pages } = allocator([[0, 4 * MIB]]);
    expect(() => pages.allocPages({ order: 0, owner: '' })).toThrow(/owner/);
    expect(pages.freePageCount()).toBe(1024);
  });

  it('tells of a double free who freed the frame first and when', () => {
    const { clock, pages } = allocator([[0, 4 * MIB]]);
    const frame = pages.allocPages({ order: 1, owner: 'gpu0' });
    clock.ns = 900;
    pages.freePages(frame, 2);
    const before = pages.freeBlocks();
    expect(() => pages.freePages(frame, 2)).toThrow('frame 0x0 is not allocated: gpu0 freed it at 900 ns');
    expect(pages.freeBlocks()).toEqual(before);
  });

  it('refuses to free a frame never allocated, inside an allocation, with a wrong size, or of another allocator', () => {
    const { memory, pages } = allocator([[0, 4 * MIB]]);
    const frame = pages.allocPages({ order: 2, owner });
    memory.ledger.open('cma', pfn(5000), 1, { owner });
    expect(() => pages.freePages(pfn(99), 1)).toThrow(/0x63 is not allocated and never was/);
    expect(() => pages.freePages(pfn(frame + 2), 2)).toThrow(/lies in 4 page\(s\).*from frame 0x0 \(test\)/);
    expect(() => pages.freePages(frame, 2)).toThrow(/with 4 page\(s\), not 2/);
    expect(() => pages.freePages(pfn(5000), 1)).toThrow(/of kind cma/);
    expect(pages.freePageCount()).toBe(1020);
  });

  it('takes exact frames or answers EBUSY and takes none', () => {
    const { pages } = allocator([[0, 4 * MIB]]);
    const before = pages.freeBlocks();
    pages.allocAt(pfn(100), 3, { owner });
    errnoOf('EBUSY', () => pages.allocAt(pfn(98), 3, { owner }));
    expect(pages.freePageCount()).toBe(1021);
    expect(() => pages.allocAt(pfn(1023), 2, { owner })).toThrow(/no one zone/);
    pages.freePages(pfn(100), 3);
    expect(pages.freeBlocks()).toEqual(before);
  });

  it('fails each allocation that the fault injection hook picks, and takes nothing', () => {
    const { memory, pages } = allocator([[0, 4 * MIB]]);
    const seen: unknown[] = [];
    memory.failNext = (attempt) => seen.push(attempt) > 1;
    pages.allocPages({ order: 1, owner: 'a', site: 'probe' });
    expect(errnoOf('ENOMEM', () => pages.allocPages({ order: 0, owner: 'b' })).message).toContain('failure injected');
    errnoOf('ENOMEM', () => pages.allocBulk({ pageCount: 7, owner: 'c' }));
    errnoOf('ENOMEM', () => pages.allocAt(pfn(50), 1, { owner: 'd' }));
    expect(seen).toEqual([
      { kind: 'pages', allocator: 'pages', owner: 'a', pageCount: 2, site: 'probe' },
      { kind: 'pages', allocator: 'pages', owner: 'b', pageCount: 1 },
      { kind: 'pages', allocator: 'pages', owner: 'c', pageCount: 7 },
      { kind: 'pages', allocator: 'pages', owner: 'd', pageCount: 1 },
    ]);
    expect(pages.freePageCount()).toBe(1022);
  });
});

describe('PageAllocator against a bitmap', () => {
  const DMA_END = 4096;
  const DMA32_END = 1048576;
  const RAM = [
    [4000, 70],
    [4080, 300],
    [DMA32_END - 37, 1500],
    [DMA32_END + 1600, 900],
  ] as const;
  const MOVABLE_START = DMA32_END + 2048;
  const zoneOf = (frame: number): ZoneName =>
    frame < DMA_END ? 'DMA' : frame < DMA32_END ? 'DMA32' : frame < MOVABLE_START ? 'NORMAL' : 'MOVABLE';

  /** The first zone a request may use in which an aligned free range is, or undefined. */
  function fits(free: ReadonlySet<number>, pageCount: number, zone: ZoneName): ZoneName | undefined {
    const size = 2 ** Math.ceil(Math.log2(pageCount));
    const starts = [...free].filter((frame) => frame % size === 0);
    const whole = starts.filter((start) => {
      for (let i = 0; i < size; i++) if (!free.has(start + i)) return false;
      return true;
    });
    return zonelist(zone).find((name) => whole.some((frame) => zoneOf(frame) === name));
  }

  const zones = fc.constantFrom<ZoneName>('DMA', 'DMA32', 'NORMAL', 'MOVABLE');
  const command = fc.oneof(
    { weight: 5, arbitrary: fc.record({ op: fc.constant('alloc' as const), n: fc.nat(130), zone: zones }) },
    { weight: 1, arbitrary: fc.record({ op: fc.constant('alloc' as const), n: fc.nat(1050), zone: zones }) },
    { weight: 2, arbitrary: fc.record({ op: fc.constant('bulk' as const), n: fc.nat(600), zone: zones }) },
    { weight: 5, arbitrary: fc.record({ op: fc.constant('free' as const), n: fc.nat(), zone: zones }) },
  );

  it.each(['recent', 'buddy'] as const)('hands out what is free, exactly, and joins everything again (%s)', (reuse) => {
    fc.assert(
      fc.property(fc.array(command, { maxLength: 50 }), (commands) => {
        const { memory, pages } = allocator(
          RAM.map(([first, count]) => [first * PAGE_SIZE, count * PAGE_SIZE] as const),
          { movableBytes: 452 * PAGE_SIZE, reuse },
        );
        const start = pages.freeBlocks();
        const free = new Set(start.flatMap(({ first, count }) => Array.from({ length: count }, (_, i) => first + i)));
        expect(free.size).toBe(2770);
        const live: { first: number; count: number }[] = [];
        const taken = (first: number, count: number) => {
          for (let i = 0; i < count; i++) expect(free.delete(first + i)).toBe(true);
          live.push({ first, count });
        };
        for (const { op, n, zone } of commands) {
          if (op === 'free') {
            const [victim] = live.splice(n % Math.max(1, live.length), 1);
            if (victim === undefined) continue;
            pages.freePages(pfn(victim.first), victim.count);
            for (let i = 0; i < victim.count; i++) free.add(victim.first + i);
          } else if (op === 'alloc') {
            const pageCount = n + 1;
            const expected = pageCount > 1024 ? undefined : fits(free, pageCount, zone);
            if (expected === undefined) {
              errnoOf('ENOMEM', () => pages.allocPages({ pageCount, zone, owner }));
            } else {
              const first = pages.allocPages({ pageCount, zone, owner });
              expect(first % 2 ** Math.ceil(Math.log2(pageCount))).toBe(0);
              expect([zoneOf(first), pages.zoneOf(first)]).toEqual([expected, expected]);
              taken(first, pageCount);
            }
          } else {
            const usable = [...free].filter((frame) => zonelist(zone).includes(zoneOf(frame))).length;
            try {
              const { firsts, pageCounts } = pages.allocBulk({ pageCount: n + 1, zone, owner });
              firsts.forEach((first, i) => {
                taken(first, pageCounts[i] ?? 0);
                expect(zonelist(zone)).toContain(zoneOf(first));
              });
              expect(pageCounts.reduce((a, b) => a + b, 0)).toBe(n + 1);
            } catch (error) {
              expect(error).toBeInstanceOf(ErrnoError);
              expect(usable).toBeLessThan(n + 1);
            }
          }
          expect(pages.freePageCount()).toBe(free.size);
          expect(memory.ledger.liveBytes).toBe((2770 - free.size) * PAGE_SIZE);
        }
        for (const { first, count } of live) pages.freePages(pfn(first), count);
        expect(pages.freeBlocks()).toEqual(start);
        expect(memory.ledger.liveCount).toBe(0);
      }),
      { numRuns: 40 },
    );
  });
});
