import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { iova, physAddr } from '../../../src/base/addr.ts';
import { SgWindow } from '../../../src/devices/shared/sg-window.ts';
import { dmaMapSgtable } from '../../../src/dma-api/dma-map.ts';
import { SgTable } from '../../../src/dma-api/sg-table.ts';
import { Bench, pattern } from '../bench.ts';

/** A table of extents of these lengths; an extent follows the one before at once where `gap` is 0. */
function table(parts: readonly { readonly length: number; readonly gap: number }[]): SgTable {
  let at = 0x8000_0000;
  return new SgTable(
    parts.map(({ length, gap }) => {
      const phys = physAddr(at + gap);
      at = phys + length;
      return { phys, length };
    }),
  );
}

const parts = fc.array(fc.record({ length: fc.integer({ min: 1, max: 40 }), gap: fc.constantFrom(0, 0, 5) }), {
  minLength: 1,
  maxLength: 8,
});

describe('SgWindow', () => {
  it('reads back any range that was written, through the segments of the device, like one array', () => {
    const bench = new Bench();
    const dev = bench.device('dev');
    fc.assert(
      fc.property(parts, fc.nat(), fc.nat(), (list, a, b) => {
        const sgt = table(list);
        dmaMapSgtable(dev, sgt, 'bidirectional');
        const window = new SgWindow(dev, sgt);
        const size = list.reduce((sum, { length }) => sum + length, 0);
        expect(window.sizeBytes).toBe(size);
        const offset = a % size;
        const length = b % (size - offset + 1);
        const model = pattern(size, a % 7);
        expect(window.write(0, model, 0, size)).toBe(size);
        const news = pattern(length, 50);
        expect(window.write(offset, news, 0, length)).toBe(length);
        model.set(news, offset);
        const out = new Uint8Array(size + 2);
        expect(window.read(0, out, 1, size)).toBe(size);
        expect(out.subarray(1, size + 1)).toEqual(model);
        const part = new Uint8Array(length);
        expect(window.peek(offset, part, 0, length)).toBe(length);
        expect(part).toEqual(model.subarray(offset, offset + length));
      }),
      { numRuns: 60 },
    );
  });

  it('counts neighbouring segments as one run', () => {
    const dev = new Bench().device('dev');
    const sgt = table([
      { length: 10, gap: 0 },
      { length: 20, gap: 0 },
      { length: 30, gap: 1 },
    ]);
    dmaMapSgtable(dev, sgt, 'to-device');
    const window = new SgWindow(dev, sgt);
    expect([sgt.nents, window.runs, window.contiguousBytes]).toEqual([3, 2, 30]);
  });

  it('stops at a fault and tells how much was done', () => {
    const bench = new Bench();
    const dev = bench.device('dev', { behindIommu: true });
    const sgt = table([{ length: 8192, gap: 0 }]);
    dmaMapSgtable(dev, sgt, 'bidirectional');
    dev.iommuGroup?.domain?.unmap(iova(sgt.dmaAddress(0) + 4096), 4096);
    expect(new SgWindow(dev, sgt).read(100, null, 0, 8000)).toBe(3996);
    expect(dev.port.faultCount).toBe(1);
  });

  it('refuses a range outside the buffer', () => {
    const dev = new Bench().device('dev');
    const sgt = table([{ length: 10, gap: 0 }]);
    dmaMapSgtable(dev, sgt, 'to-device');
    const window = new SgWindow(dev, sgt);
    expect(() => window.read(5, null, 0, 6)).toThrow('[5, 11) does not lie in the 10 bytes');
    expect(() => window.read(-1, null, 0, 1)).toThrow('does not lie in');
  });
});
