import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { alignDown, alignUp, formatBytes, GIB, KIB, MIB, ms, pagesFor, seconds, us } from '../../src/base/units.ts';

describe('times', () => {
  it('are whole nanoseconds, rounded to the nearest', () => {
    expect([us(5), us(0.1234), ms(1.5), ms(0.0000004), seconds(2), seconds(1e-9)]).toEqual([
      5000, 123, 1_500_000, 0, 2_000_000_000, 1,
    ]);
  });

  it('are refused when negative, not a number or too long', () => {
    for (const make of [us, ms, seconds]) {
      for (const bad of [-1, Number.NaN, Infinity, 1e13]) expect(() => make(bad)).toThrow('nanos:');
    }
  });
});

describe('sizes', () => {
  it('are powers of 1024', () => {
    expect([KIB, MIB, GIB]).toEqual([1024, 1024 ** 2, 1024 ** 3]);
  });

  it('align up and down to any step, above 32 bits as well', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 ** 51 }), fc.integer({ min: 1, max: 2 ** 20 }), (value, step) => {
        const up = alignUp(value, step);
        const down = alignDown(value, step);
        expect([up % step, down % step]).toEqual([0, 0]);
        expect(down <= value && value < down + step && value <= up && up < value + step).toBe(true);
      }),
    );
  });

  it('are counted in whole pages', () => {
    expect([0, 1, 4096, 4097, 2 ** 40].map(pagesFor)).toEqual([0, 1, 1, 2, 2 ** 28]);
  });

  it('print with the largest unit that fits, to one decimal', () => {
    expect([0, 1023, 1024, 1536, MIB, 1.5 * MIB, 2 * GIB, 5000 * GIB].map(formatBytes)).toEqual([
      '0 B',
      '1023 B',
      '1 KiB',
      '1.5 KiB',
      '1 MiB',
      '1.5 MiB',
      '2 GiB',
      '5000 GiB',
    ]);
  });
});
