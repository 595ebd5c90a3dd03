import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { IovaSpace } from '../../src/iommu/iova-space.ts';
import { RcacheModel } from './rcache-model.ts';

const LOW_END = 2 ** 20 - 1;
/** Random programs; 50 times as many with DMABUF_SIM_RUNS=50. */
const RUNS = 200 * Number(process.env['DMABUF_SIM_RUNS'] ?? 1);

/** A space whose CPU the test chooses. */
function bench(startPfn = 1) {
  const on = { cpu: 0 };
  return { on, iovas: new IovaSpace(on, { startPfn }) };
}

const allocMany = (iovas: IovaSpace, count: number, pages = 1) =>
  Array.from({ length: count }, () => iovas.allocFast(pages, LOW_END, true));

describe('IovaSpace', () => {
  it('hands the range freed last out first, without a look at the tree', () => {
    const { iovas } = bench();
    const [a = 0, b = 0, c = 0] = allocMany(iovas, 3);
    for (const first of [a, c, b]) iovas.freeFast(first, 1);
    expect(iovas.cachedRanges).toBe(3);
    expect([...iovas.tree.ranges()]).toHaveLength(3);
    expect(allocMany(iovas, 4)).toEqual([b, c, a, c - 1]);
  });

  it('takes a power of two of pages for a request below 32, and exactly what was asked for from 32 on', () => {
    const { iovas } = bench();
    iovas.allocFast(5, LOW_END, true);
    iovas.allocFast(31, LOW_END, true);
    iovas.allocFast(33, LOW_END, true);
    expect([...iovas.tree.ranges()].map((range) => range.lastPfn - range.firstPfn + 1)).toEqual([33, 32, 8]);
  });

  it('serves a request from a freed range of the same power of two, however many pages that had been', () => {
    const { iovas } = bench();
    const first = iovas.allocFast(5, LOW_END, true);
    iovas.freeFast(first, 5);
    expect(iovas.allocFast(8, LOW_END, true)).toBe(first);
  });

  it('keeps ranges of up to 32 pages and frees larger ones at once', () => {
    const { iovas } = bench();
    iovas.freeFast(iovas.allocFast(32, LOW_END, true), 32);
    iovas.freeFast(iovas.allocFast(33, LOW_END, true), 33);
    expect(iovas.cachedRanges).toBe(1);
    expect([...iovas.tree.ranges()]).toHaveLength(1);
  });

  it('passes over a kept range above the limit, and the newest one fills the gap it takes from', () => {
    const { iovas } = bench();
    const [high = 0, low = 0, lowest = 0] = allocMany(iovas, 3);
    for (const first of [lowest, low, high]) iovas.freeFast(first, 1);
    expect(iovas.allocFast(1, low, true)).toBe(low);
    expect(allocMany(iovas, 2)).toEqual([high, lowest]);
  });

  it('searches the tree when every kept range is too high, and leaves them where they are', () => {
    const { iovas } = bench();
    const [first = 0] = allocMany(iovas, 1);
    iovas.freeFast(first, 1);
    expect(iovas.allocFast(1, 0xfff, true)).toBe(0xfff);
    expect(allocMany(iovas, 1)).toEqual([first]);
  });

  it('hands a range freed on one CPU out on that CPU only', () => {
    const { iovas, on } = bench();
    const [first = 0] = allocMany(iovas, 1);
    iovas.freeFast(first, 1);
    on.cpu = 1;
    expect(allocMany(iovas, 1)).toEqual([first - 1]);
    on.cpu = 0;
    expect(allocMany(iovas, 1)).toEqual([first]);
  });

  it('shares the 128th to 254th freed range with other CPUs when one CPU frees its 255th', () => {
    const { iovas, on } = bench();
    const live = allocMany(iovas, 255);
    for (const first of live.slice(0, 254)) iovas.freeFast(first, 1);
    on.cpu = 1;
    expect(allocMany(iovas, 1)).toEqual([LOW_END - 255]);
    on.cpu = 0;
    iovas.freeFast(live[254] ?? 0, 1);
    on.cpu = 1;
    expect(allocMany(iovas, 128)).toEqual([...live.slice(127, 254).reverse(), LOW_END - 256]);
  });

  it('empties the caches of all CPUs and the depot when the space is full, and only if it may', () => {
    const { iovas, on } = bench(LOW_END - 511);
    const live = allocMany(iovas, 512);
    expect(iovas.allocFast(1, LOW_END, true)).toBe(-1);
    for (const first of live.slice(0, 300)) iovas.freeFast(first, 1);
    on.cpu = 1;
    for (const first of live.slice(300)) iovas.freeFast(first, 1);
    expect(iovas.allocFast(64, LOW_END, false)).toBe(-1);
    expect(iovas.cachedRanges).toBe(512);
    expect(iovas.allocFast(64, LOW_END, true)).toBe(LOW_END - 63);
    expect(iovas.cachedRanges).toBe(0);
  });

  it('frees the oldest of what does not fit when 32 full magazines are shared already', () => {
    const { iovas } = bench();
    const kept = (2 + 32) * 127;
    const live = allocMany(iovas, kept + 1);
    for (const first of live.slice(0, kept)) iovas.freeFast(first, 1);
    expect(iovas.cachedRanges).toBe(kept);
    iovas.freeFast(live[kept] ?? 0, 1);
    expect(iovas.cachedRanges).toBe(kept + 1 - 127);
    expect([...iovas.tree.ranges()]).toHaveLength(kept + 1 - 127);
  });

  it('fails for a limit below the request, and refuses counts that are none', () => {
    const { iovas } = bench();
    iovas.freeFast(iovas.allocFast(4, LOW_END, true), 4);
    expect(iovas.allocFast(4, 2, true)).toBe(-1);
    expect(iovas.allocFast(1, 0, true)).toBe(-1);
    expect(() => iovas.allocFast(0, LOW_END, true)).toThrow(/pageCount 0/);
    expect(() => iovas.allocFast(1.5, LOW_END, true)).toThrow(/pageCount 1.5/);
  });

  it('gives the addresses of a plain model in random programs, and no page twice', () => {
    const many = fc.integer({ min: 1, max: 90 });
    const pages = fc.oneof(fc.constantFrom(1, 1, 2, 3), fc.integer({ min: 1, max: 40 }));
    const where = fc.constantFrom(0, 1, 2);
    const step = fc.oneof(
      fc.record({
        op: fc.constant('alloc' as const),
        cpu: where,
        pages,
        count: many,
        limit: fc.nat(3),
        flush: fc.boolean(),
      }),
      fc.record({ op: fc.constant('free' as const), cpu: where, pick: fc.nat(), count: many }),
    );
    const program = fc.record({ steps: fc.array(step, { maxLength: 60 }), hole: fc.integer({ min: 10, max: 900 }) });
    fc.assert(
      fc.property(program, ({ steps, hole }) => {
        const on = { cpu: 0 };
        const iovas = new IovaSpace(on, { startPfn: 3, dma32EndPfn: 600 });
        const model = new RcacheModel(3, 600);
        iovas.tree.reserve(hole, hole + 5);
        model.tree.reserve(hole, hole + 5);
        const used = new Set<number>([0, 1, 2, 3, 4, 5].map((page) => hole + page));
        const live: [first: number, pages: number][] = [];
        for (const step of steps) {
          on.cpu = step.cpu;
          for (let i = 0; i < step.count; i++) {
            if (step.op === 'alloc') {
              const limit = [599, 599, 1199, 300][step.limit] ?? 0;
              const first = iovas.allocFast(step.pages, limit, step.flush);
              expect(first).toBe(model.alloc(step.cpu, step.pages, limit, step.flush));
              if (first < 0) break;
              expect(first + step.pages - 1).toBeLessThanOrEqual(limit);
              for (let page = first; page < first + step.pages; page++) {
                expect(used.has(page)).toBe(false);
                used.add(page);
              }
              live.push([first, step.pages]);
            } else {
              const [gone] = live.splice(step.pick % Math.max(1, live.length), 1);
              if (gone === undefined) break;
              iovas.freeFast(...gone);
              model.free(step.cpu, ...gone);
              for (let page = gone[0]; page < gone[0] + gone[1]; page++) used.delete(page);
            }
          }
        }
      }),
      { numRuns: RUNS },
    );
  });
});
