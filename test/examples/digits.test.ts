import { describe, expect, it } from 'vitest';
import { drawNumber } from '../../examples/film/digits.ts';

describe('drawNumber', () => {
  it('draws digits of 3x5 dots with a border, as large as asked', () => {
    const { width, height, grey } = drawNumber('7.', 1);
    const rows = Array.from({ length: height }, (_, y) =>
      [...grey.subarray(y * width, (y + 1) * width)].map((value) => (value === 255 ? '#' : ' ')).join(''),
    );
    expect(rows).toEqual(['         ', ' ###     ', '   #     ', '  #      ', '  #      ', '  #   #  ', '         ']);
    const large = drawNumber('7.', 3);
    expect([large.width, large.height]).toEqual([27, 21]);
    expect(large.grey.filter((value) => value === 255)).toHaveLength(8 * 9);
  });

  it('draws each digit unlike every other', () => {
    const pictures = [...'0123456789'].map((digit) => drawNumber(digit, 1).grey.join());
    expect(new Set(pictures).size).toBe(10);
  });

  it('refuses what it has no glyph for', () => {
    expect(() => drawNumber('1e3', 1)).toThrow('text is "1e3", there is no glyph for "e"');
  });
});
