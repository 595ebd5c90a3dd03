import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { iova, physAddr } from '../../src/base/addr.ts';
import { GIB, MIB } from '../../src/base/units.ts';
import { Iotlb } from '../../src/iommu/iotlb.ts';

const RW = 3;

function translate(tlb: Iotlb, asid: number, address: number): number {
  const handle = tlb.lookup(asid, iova(address));
  return handle < 0 ? -1 : tlb.physAt(handle, iova(address));
}

describe('Iotlb', () => {
  it('keeps an entry until it is invalidated, and tells what it covers', () => {
    const tlb = new Iotlb();
    tlb.fill(1, iova(0x1234), physAddr(0x8234), 4096, 1);
    const handle = tlb.lookup(1, iova(0x1ffe));
    expect([tlb.physAt(handle, iova(0x1ffe)), tlb.sizeAt(handle), tlb.protAt(handle)]).toEqual([0x8ffe, 4096, 1]);
    expect(tlb.bytesLeft(handle, iova(0x1ffe))).toBe(2);
    expect(tlb.invalidatePage(1, iova(0x1000))).toBe(1);
    expect(tlb.lookup(1, iova(0x1234))).toBe(-1);
    expect([tlb.hits, tlb.misses, tlb.invalidations, tlb.size]).toEqual([1, 1, 1, 0]);
  });

  it('tells address spaces apart', () => {
    const tlb = new Iotlb();
    tlb.fill(1, iova(0x1000), physAddr(0x8000), 4096, RW);
    tlb.fill(2, iova(0x1000), physAddr(0x9000), 4096, RW);
    expect([translate(tlb, 1, 0x1000), translate(tlb, 2, 0x1000), translate(tlb, 3, 0x1000)]).toEqual([
      0x8000, 0x9000, -1,
    ]);
    expect(tlb.invalidateAsid(1)).toBe(1);
    expect([translate(tlb, 1, 0x1000), translate(tlb, 2, 0x1000)]).toEqual([-1, 0x9000]);
    expect(tlb.invalidateAll()).toBe(1);
  });

  it('drops a block when one page of it is invalidated', () => {
    const tlb = new Iotlb();
    tlb.fill(1, iova(4 * MIB), physAddr(GIB), 2 * MIB, RW);
    expect(translate(tlb, 1, 6 * MIB - 1)).toBe(GIB + 2 * MIB - 1);
    expect(tlb.invalidateRange(1, iova(5 * MIB), 4096)).toBe(1);
    expect(translate(tlb, 1, 4 * MIB)).toBe(-1);
  });

  it('answers from the page when a stale block covers the same address', () => {
    const tlb = new Iotlb();
    tlb.fill(1, iova(0), physAddr(GIB), 2 * MIB, RW);
    tlb.fill(1, iova(0x3000), physAddr(0x7000), 4096, RW);
    expect([translate(tlb, 1, 0x3004), translate(tlb, 1, 0x4004)]).toEqual([0x7004, GIB + 0x4004]);
  });

  it('pushes the least recently used entry of a full set out', () => {
    const tlb = new Iotlb({ entries: 2, ways: 2 });
    tlb.fill(1, iova(0x1000), physAddr(0x1000), 4096, RW);
    tlb.fill(1, iova(0x2000), physAddr(0x2000), 4096, RW);
    translate(tlb, 1, 0x1000);
    tlb.fill(1, iova(0x3000), physAddr(0x3000), 4096, RW);
    expect([...tlb.entries()].map((entry) => entry.iova)).toEqual([0x1000, 0x3000]);
  });

  it('holds entries of the sign-extended upper half', () => {
    const tlb = new Iotlb();
    tlb.fill(1, iova(-4096), physAddr(0x5000), 4096, RW);
    expect(translate(tlb, 1, -1)).toBe(0x5fff);
    expect([...tlb.entries()]).toEqual([{ asid: 1, iova: -4096, phys: 0x5000, sizeBytes: 4096, prot: RW }]);
    expect(tlb.invalidateRange(1, iova(-8192), 8192)).toBe(1);
  });

  it('refuses a shape that has no power of two of sets, and a size that is no leaf', () => {
    expect(() => new Iotlb({ entries: 12, ways: 4 })).toThrow(/power of two/);
    expect(() => new Iotlb({ entries: 16, ways: 0 })).toThrow(/ways/);
    expect(() => new Iotlb().fill(1, iova(0), physAddr(0), 12288, RW)).toThrow(/leaf size/);
  });

  it('answers as a plain list of entries does, while nothing is pushed out', () => {
    const step = fc.record({
      op: fc.constantFrom('fill', 'fill', 'fill', 'page', 'range', 'asid', 'all'),
      asid: fc.integer({ min: 1, max: 2 }),
      page: fc.integer({ min: -8, max: 8 }),
      size: fc.constantFrom(4096, 65536),
      frame: fc.nat(1000),
      pages: fc.integer({ min: 1, max: 200 }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const tlb = new Iotlb({ entries: 64, ways: 64 });
        let model: { asid: number; start: number; size: number; phys: number }[] = [];
        const without = (asid: number, start: number, bytes: number) =>
          model.filter((e) => e.asid !== asid || e.start >= start + bytes || e.start + e.size <= start);
        for (const { op, asid, page, size, frame, pages } of steps) {
          const start = page * size;
          if (op === 'fill') {
            tlb.fill(asid, iova(start), physAddr(frame * size), size, RW);
            model = model.filter((e) => e.asid !== asid || e.start !== start || e.size !== size);
            model.push({ asid, start, size, phys: frame * size });
          } else if (op === 'page') {
            tlb.invalidatePage(asid, iova(start));
            model = without(asid, start, 1);
          } else if (op === 'range') {
            tlb.invalidateRange(asid, iova(start), pages * 4096);
            model = without(asid, start, pages * 4096);
          } else if (op === 'asid') {
            tlb.invalidateAsid(asid);
            model = model.filter((e) => e.asid !== asid);
          } else {
            tlb.invalidateAll();
            model = [];
          }
          expect(tlb.size).toBe(model.length);
          for (const at of [start, start + 4096, start + 65535, 0]) {
            const covering = model.filter((e) => e.asid === asid && at >= e.start && at < e.start + e.size);
            const smallest = covering.sort((a, b) => a.size - b.size)[0];
            expect(translate(tlb, asid, at)).toBe(smallest === undefined ? -1 : smallest.phys + at - smallest.start);
          }
        }
      }),
      { numRuns: 100 },
    );
  });
});
