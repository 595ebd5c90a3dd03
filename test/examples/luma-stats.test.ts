import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { rowsCrc32 } from '../../examples/film/rows-crc.ts';
import { lumaStats, lumaThumbnail } from '../../examples/film/stamp.ts';

describe('lumaStats', () => {
  it('gives mean, least, greatest and the sum of the samples, and looks at no padding', () => {
    const luma = Uint8Array.of(10, 20, 255, 30, 41, 0);
    const stats = lumaStats(luma, { width: 2, height: 2 }, 3);
    expect(stats).toEqual({ mean: 25.25, min: 10, max: 41, crc32: crc32(Uint8Array.of(10, 20, 30, 41)) });
  });

  it('agrees with sorted samples for any picture', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 300 }), (luma) => {
        const sorted = [...luma].sort((a, b) => a - b);
        const stats = lumaStats(luma, { width: luma.length, height: 1 });
        expect([stats.min, stats.max]).toEqual([sorted[0], sorted.at(-1)]);
        expect(stats.mean).toBeCloseTo(sorted.reduce((sum, sample) => sum + sample, 0) / sorted.length, 9);
        expect(stats.crc32).toBe(crc32(luma));
      }),
    );
  });

  it('refuses an empty size, a short array and a stride below a row', () => {
    expect(() => lumaStats(new Uint8Array(4), { width: 0, height: 2 })).toThrow('2 rows of 0 bytes are no picture');
    expect(() => lumaStats(new Uint8Array(3), { width: 2, height: 2 })).toThrow('3 bytes are given, the rows need 4');
    expect(() => lumaStats(new Uint8Array(9), { width: 2, height: 2 }, 1)).toThrow('strideBytes is 1, a row needs 2');
  });
});

describe('lumaThumbnail', () => {
  it('takes every fourth sample of every fourth row, past the padding', () => {
    const luma = Uint8Array.from({ length: 10 * 8 }, (_, at) => at);
    const thumbnail = lumaThumbnail(luma, { width: 8, height: 8 }, 10);
    expect(thumbnail).toEqual({ width: 2, height: 2, grey: Uint8Array.of(0, 4, 40, 44) });
  });
});

describe('rowsCrc32', () => {
  it('is the sum of the rows without their padding', () => {
    const bytes = Uint8Array.of(1, 2, 99, 3, 4, 99);
    expect(rowsCrc32(bytes, { rowBytes: 2, rowCount: 2, strideBytes: 3 })).toBe(crc32(Uint8Array.of(1, 2, 3, 4)));
  });
});
