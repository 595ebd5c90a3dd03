import { describe, expect, it } from 'vitest';
import { PAGE_SIZE, type Pfn, pfn, physAddr } from '../../src/base/addr.ts';
import { dmaMapSgtable, dmaUnmapSgtable } from '../../src/dma-api/dma-map.ts';
import { SgTable } from '../../src/dma-api/sg-table.ts';
import { bench, invariant } from '../bench.ts';

const pages = (...frames: number[]): Pfn[] => frames.map((frame) => pfn(frame));
const shape = (sgt: SgTable): number[][] => sgt.extents().map(({ phys, length }) => [phys, length]);

describe('SgTable', () => {
  it('keeps extents in the order of the bytes and sums their lengths', () => {
    const sgt = new SgTable([
      { phys: physAddr(0x5000), length: 10 },
      { phys: physAddr(0x1003), length: 4093 },
    ]);
    expect(shape(sgt)).toEqual([
      [0x5000, 10],
      [0x1003, 4093],
    ]);
    expect([sgt.origNents, sgt.nents, sgt.sizeBytes]).toEqual([2, 0, 4103]);
  });

  it.each([
    ['SgTable: there must be at least one extent', []],
    ['extents[0].length 0 is', [{ phys: physAddr(0), length: 0 }]],
    ['extents[1].length 1.5 is', [1, 1.5].map((length) => ({ phys: physAddr(0), length }))],
    ['extents[0].length NaN is', [{ phys: physAddr(0), length: Number.NaN }]],
    ['extents[0].length -4096 is', [{ phys: physAddr(0), length: -4096 }]],
  ])('refuses bad extents: %s', (message, extents) => {
    expect(() => new SgTable(extents)).toThrow(invariant(message));
  });

  it('has no device side before it is mapped', () => {
    const sgt = new SgTable([{ phys: physAddr(0), length: 1 }]);
    expect(sgt.segments()).toEqual([]);
    expect(() => sgt.dmaAddress(0)).toThrow(invariant('segment 0 is not in [0, 0)'));
    expect(() => sgt.dmaLength(0)).toThrow(invariant('segment 0 is not in [0, 0)'));
  });

  it.each([-1, 2, 0.5, Number.NaN])('refuses %s as the index of one of two extents', (i) => {
    const sgt = SgTable.fromPages(pages(1, 3), { sizeBytes: 2 * PAGE_SIZE });
    expect(() => sgt.physAddress(i)).toThrow(invariant(`extent ${i} is not in [0, 2)`));
    expect(() => sgt.length(i)).toThrow(invariant(`extent ${i} is not in [0, 2)`));
  });

  it('is cloned as a table of the same memory that is not mapped, while the original stays mapped', () => {
    const { device, sgt } = {
      device: bench().device('cam'),
      sgt: new SgTable([{ phys: physAddr(0x4000_0000), length: 64 }]),
    };
    dmaMapSgtable(device, sgt, 'to-device');
    const copy = sgt.clone();
    expect(shape(copy)).toEqual(shape(sgt));
    expect([sgt.nents, copy.nents]).toEqual([1, 0]);
    dmaMapSgtable(device, copy, 'to-device');
    dmaUnmapSgtable(device, copy, 'to-device');
    expect(sgt.nents).toBe(1);
    dmaUnmapSgtable(device, sgt, 'to-device');
  });
});

describe('SgTable.fromPages', () => {
  it('makes neighbouring pages one extent and no others', () => {
    const sgt = SgTable.fromPages(pages(4, 5, 6, 9, 8, 7, 7), { sizeBytes: 7 * PAGE_SIZE });
    expect(shape(sgt)).toEqual([
      [4 * PAGE_SIZE, 3 * PAGE_SIZE],
      [9 * PAGE_SIZE, PAGE_SIZE],
      [8 * PAGE_SIZE, PAGE_SIZE],
      [7 * PAGE_SIZE, PAGE_SIZE],
      [7 * PAGE_SIZE, PAGE_SIZE],
    ]);
  });

  it.each([
    ['within one page', 100, 200, [[4 * PAGE_SIZE + 100, 200]]],
    [
      'from inside the first page to inside the last',
      4000,
      5000,
      [
        [4 * PAGE_SIZE + 4000, 96],
        [9 * PAGE_SIZE, 4096],
        [11 * PAGE_SIZE, 808],
      ],
    ],
    ['from a later page on', 4096 + 1, 10, [[9 * PAGE_SIZE + 1, 10]]],
    [
      'to the last byte',
      4095,
      8193,
      [
        [4 * PAGE_SIZE + 4095, 1],
        [9 * PAGE_SIZE, 4096],
        [11 * PAGE_SIZE, 4096],
      ],
    ],
  ])('takes the bytes %s', (_where, offset, sizeBytes, expected) => {
    expect(shape(SgTable.fromPages(pages(4, 9, 11), { offset, sizeBytes }))).toEqual(expected);
  });

  it.each([
    ['offset -1 is', { offset: -1, sizeBytes: 1 }],
    ['offset 0.5 is', { offset: 0.5, sizeBytes: 1 }],
    ['sizeBytes 0 is', { sizeBytes: 0 }],
    ['sizeBytes NaN is', { sizeBytes: Number.NaN }],
    ['2 pages do not hold 8193 bytes from offset 0', { sizeBytes: 8193 }],
    ['2 pages do not hold 8192 bytes from offset 1', { offset: 1, sizeBytes: 8192 }],
  ])('refuses a range that is none: %s', (message, range) => {
    expect(() => SgTable.fromPages(pages(1, 2), range)).toThrow(invariant(message));
  });
});
