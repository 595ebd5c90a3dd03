import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { convertI420, convertNv12, nv12Bytes, packNv12 } from '../../examples/film/i420.ts';

/** One colour, as the pixel [B, G, R, X] of a 2x2 picture. */
function pixelOf(y: number, u: number, v: number): number[] {
  return [...convertI420(Uint8Array.of(y, y, y, y, u, v), { width: 2, height: 2 }).subarray(0, 4)];
}

const sides = fc.integer({ min: 1, max: 9 }).map((half) => 2 * half);
/** A picture of random samples. */
const pictures = fc.tuple(sides, sides).chain(([width, height]) =>
  fc.record({
    size: fc.constant({ width, height }),
    i420: fc.uint8Array({ minLength: width * height * 1.5, maxLength: width * height * 1.5 }),
  }),
);

describe('convertI420', () => {
  // By hand from the formula; X is always 0xff.
  it.each([
    ['black', [16, 128, 128], [0, 0, 0]],
    ['white', [235, 128, 128], [255, 255, 255]], // 298 * 219 + 128 = 65390; 65390 >> 8 = 255
    ['middle grey', [126, 128, 128], [128, 128, 128]], // 298 * 110 + 128 = 32908 = 128.5 * 256
    ['red', [82, 90, 240], [0, 1, 255]],
    ['green', [145, 54, 34], [1, 255, 0]],
    ['blue', [41, 240, 110], [255, 0, 0]],
    ['blacker than black', [0, 128, 128], [0, 0, 0]],
    ['whiter than white', [255, 128, 128], [255, 255, 255]],
  ] as const)('converts %s', (_name, [y, u, v], bgr) => {
    expect(pixelOf(y, u, v)).toEqual([...bgr, 0xff]);
  });

  it('stays within 1 of the conversion in real numbers for every sample', () => {
    const clip = (value: number) => Math.min(255, Math.max(0, value));
    let worst = 0;
    for (let y = 0; y < 256; y += 5) {
      for (let u = 0; u < 256; u += 3) {
        for (let v = 0; v < 256; v += 3) {
          const luma = ((y - 16) * 255) / 219;
          const exact = [
            luma + ((u - 128) * 255 * 1.772) / 224,
            luma - ((u - 128) * 255 * 0.344136) / 224 - ((v - 128) * 255 * 0.714136) / 224,
            luma + ((v - 128) * 255 * 1.402) / 224,
          ];
          const pixel = pixelOf(y, u, v);
          exact.forEach((value, i) => {
            worst = Math.max(worst, Math.abs(clip(value) - (pixel[i] as number)));
          });
        }
      }
    }
    expect(worst).toBeLessThan(1);
  });

  it('gives each 2x2 block its own chroma and each pixel its own luma', () => {
    // 4x2: two blocks, the left one grey, the right one red.
    const i420 = Uint8Array.of(16, 126, 82, 82, 235, 16, 82, 82, 128, 90, 128, 240);
    const grey = (value: number) => [value, value, value, 255];
    const red = [0, 1, 255, 255];
    const expected = [...grey(0), ...grey(128), ...red, ...red, ...grey(255), ...grey(0), ...red, ...red];
    expect([...convertI420(i420, { width: 4, height: 2 })]).toEqual(expected);
  });

  it('leaves the padding of its rows 0 and changes nothing else', () => {
    fc.assert(
      fc.property(pictures, fc.integer({ min: 0, max: 70 }), ({ size, i420 }, padding) => {
        const rowBytes = size.width * 4;
        const tight = convertI420(i420, size);
        const padded = convertI420(i420, size, rowBytes + padding);
        expect(padded).toHaveLength((rowBytes + padding) * size.height);
        for (let y = 0; y < size.height; y++) {
          const at = y * (rowBytes + padding);
          expect(padded.subarray(at, at + rowBytes)).toEqual(tight.subarray(y * rowBytes, (y + 1) * rowBytes));
          expect(padded.subarray(at + rowBytes, at + rowBytes + padding).every((byte) => byte === 0)).toBe(true);
        }
      }),
      { numRuns: 50 },
    );
  });

  it('refuses odd sizes, other lengths and a stride below a row', () => {
    const size = { width: 4, height: 2 };
    expect(() => convertI420(new Uint8Array(12), { width: 3, height: 2 })).toThrow('width is 3, an even number');
    expect(() => convertI420(new Uint8Array(12), { width: 4, height: 0 })).toThrow('height is 0, an even number');
    expect(() => convertI420(new Uint8Array(11), size)).toThrow('i420 has 11 bytes, 4x2 needs 12');
    expect(() => convertI420(new Uint8Array(12), size, 15)).toThrow('strideBytes is 15, a row needs 16');
  });
});

describe('packNv12', () => {
  it('puts U and V in turn below the luma, row by row, with zeros as padding', () => {
    const i420 = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8, 100, 101, 200, 201);
    const nv12 = packNv12(i420, { width: 4, height: 2 }, 6);
    expect([...nv12]).toEqual([1, 2, 3, 4, 0, 0, 5, 6, 7, 8, 0, 0, 100, 200, 101, 201, 0, 0]);
    expect(nv12).toHaveLength(nv12Bytes(2, 6));
  });

  it('loses nothing: the conversion of the packed picture is that of the planar one, whatever the strides', () => {
    fc.assert(
      fc.property(pictures, fc.nat(70), fc.nat(70), ({ size, i420 }, inPadding, outPadding) => {
        const strides = { nv12: size.width + inPadding, xrgb: size.width * 4 + outPadding };
        const nv12 = packNv12(i420, size, strides.nv12);
        expect(convertNv12(nv12, size, strides)).toEqual(convertI420(i420, size, strides.xrgb));
      }),
      { numRuns: 100 },
    );
  });

  it('refuses a stride below a row and another length', () => {
    expect(() => packNv12(new Uint8Array(12), { width: 4, height: 2 }, 3)).toThrow('strideBytes is 3, a row needs 4');
    expect(() => packNv12(new Uint8Array(13), { width: 4, height: 2 })).toThrow('i420 has 13 bytes, 4x2 needs 12');
  });
});

describe('convertNv12', () => {
  it('refuses a buffer whose length is not that of its stride', () => {
    const strides = { nv12: 6, xrgb: 16 };
    expect(() => convertNv12(new Uint8Array(12), { width: 4, height: 2 }, strides)).toThrow(
      'nv12 has 12 bytes, 4x2 needs 18',
    );
  });
});
