import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ErrnoError } from '../../src/base/errors.ts';
import { IovaAllocator } from '../../src/iommu/iova.ts';
import { RangeWalk } from './range-walk.ts';

const LOW_END = 2 ** 20 - 1;

describe('IovaAllocator', () => {
  it('hands out the highest place below the limit, aligned to the size rounded up to a power of two', () => {
    const iovas = new IovaAllocator();
    expect(iovas.alloc(1, LOW_END)).toBe(0xfffff);
    expect(iovas.alloc(3, LOW_END)).toBe(0xffffc);
    expect(iovas.alloc(16, LOW_END)).toBe(0xfffe0);
    expect([...iovas.ranges()].map((range) => range.firstPfn)).toEqual([0xfffe0, 0xffffc, 0xfffff]);
  });

  it('goes on below the last place, and comes back to the part above only when nothing is left there', () => {
    const iovas = new IovaAllocator({ startPfn: 0xffff0 });
    expect([iovas.alloc(3, LOW_END), iovas.alloc(1, LOW_END), iovas.alloc(8, LOW_END)]).toEqual([
      0xffffc, 0xffffb, 0xffff0,
    ]);
    expect(iovas.alloc(1, LOW_END)).toBe(0xfffff);
    expect(iovas.alloc(1, LOW_END)).toBe(0xffffa);
  });

  it('hands out page 0 when the space begins there', () => {
    const iovas = new IovaAllocator({ startPfn: 0 });
    expect([iovas.alloc(4, 3), iovas.tryAlloc(1, 3)]).toEqual([0, -1]);
  });

  it('joins freed ranges with their free neighbours', () => {
    const iovas = new IovaAllocator({ startPfn: 0xffff0 });
    const [a, b] = [iovas.alloc(8, LOW_END), iovas.alloc(8, LOW_END)];
    expect(iovas.tryAlloc(16, LOW_END)).toBe(-1);
    expect([iovas.free(b), iovas.free(a)]).toEqual([8, 8]);
    expect(iovas.alloc(16, LOW_END)).toBe(0xffff0);
  });

  it('names the largest free run when nothing fits', () => {
    const iovas = new IovaAllocator({ startPfn: 0xffff0 });
    iovas.reserve(0xffff8, 0xffff9);
    const failure = () => iovas.alloc(16, LOW_END);
    expect(failure).toThrow(ErrnoError);
    expect(failure).toThrow(/ENOMEM.*largest free run has 8 pages/);
  });

  it('never hands out reserved pages or pages below the start, and counts what it passed', () => {
    const iovas = new IovaAllocator({ startPfn: 8 });
    iovas.reserve(12, 13);
    iovas.reserve(10, 15);
    expect([...iovas.ranges()].map((r) => [r.firstPfn, r.lastPfn])).toEqual([
      [10, 11],
      [12, 13],
      [14, 15],
    ]);
    expect([iovas.alloc(2, 15), iovas.rangesPassed]).toEqual([8, 4]);
    expect(iovas.tryAlloc(1, 15)).toBe(-1);
    expect(() => iovas.free(12)).toThrow(/no allocated range/);
    expect([iovas.isUsed(9), iovas.isUsed(16)]).toEqual([true, false]);
  });

  it('fails at once for the size that failed below 4 GiB, until something there is freed', () => {
    const iovas = new IovaAllocator({ startPfn: 0xffff0 });
    const first = iovas.alloc(8, LOW_END);
    expect(iovas.tryAlloc(16, LOW_END)).toBe(-1);
    expect(iovas.rangesPassed).toBeGreaterThan(0);
    expect(iovas.tryAlloc(16, LOW_END)).toBe(-1);
    expect(iovas.rangesPassed).toBe(0);
    expect(iovas.alloc(16, 2 ** 36 - 1)).toBe(2 ** 36 - 16);
    iovas.free(first);
    expect(iovas.alloc(16, LOW_END)).toBe(0xffff0);
  });

  it('refuses sizes, limits and addresses that are none', () => {
    const iovas = new IovaAllocator();
    expect(() => iovas.alloc(0, LOW_END)).toThrow(/pageCount/);
    expect(() => iovas.alloc(1, -1)).toThrow(/limitPfn/);
    expect(() => iovas.free(77)).toThrow(/page 77/);
    expect(() => iovas.reserve(5, 4)).toThrow(/no range/);
  });

  it('gives the same addresses as a walk from range to range, and no page twice', () => {
    const step = fc.oneof(
      fc.record({ op: fc.constant('alloc' as const), size: fc.integer({ min: 1, max: 24 }), wide: fc.boolean() }),
      fc.record({ op: fc.constant('alloc' as const), size: fc.integer({ min: 1, max: 24 }), wide: fc.boolean() }),
      fc.record({ op: fc.constant('free' as const), pick: fc.nat() }),
    );
    const reserved = fc.tuple(fc.integer({ min: 10, max: 180 }), fc.nat(9));
    fc.assert(
      fc.property(fc.array(reserved, { maxLength: 4 }), fc.array(step, { maxLength: 250 }), (holes, steps) => {
        const iovas = new IovaAllocator({ startPfn: 3, dma32EndPfn: 128 });
        const walk = new RangeWalk(3, 128);
        const bitmap = new Uint8Array(400);
        const set = (first: number, count: number, to: number) => {
          for (let page = first; page < first + count; page++) {
            expect(bitmap[page]).toBe(1 - to);
            bitmap[page] = to;
          }
        };
        for (const [first, more] of holes) {
          iovas.reserve(first, first + more);
          walk.reserve(first, first + more);
          for (let page = first; page <= first + more; page++) bitmap[page] = 1;
        }
        const live: [first: number, size: number][] = [];
        for (const step of steps) {
          if (step.op === 'alloc') {
            const limit = step.wide ? 255 : 127;
            const first = iovas.tryAlloc(step.size, limit);
            expect(first).toBe(walk.alloc(step.size, limit));
            if (first < 0) continue;
            set(first, step.size, 1);
            live.push([first, step.size]);
          } else if (live.length > 0) {
            const [gone] = live.splice(step.pick % live.length, 1);
            if (gone === undefined) continue;
            expect(iovas.free(gone[0])).toBe(gone[1]);
            walk.free(gone[0]);
            set(gone[0], gone[1], 0);
          }
        }
        const used = [...iovas.ranges()].reduce((sum, range) => sum + range.lastPfn - range.firstPfn + 1, 0);
        expect(used).toBe(bitmap.reduce((sum, bit) => sum + bit, 0));
      }),
      { numRuns: 150 },
    );
  });
});
