import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { drawNumber, type GreyPicture } from '../../examples/film/digits.ts';
import { convertI420, type PictureSize } from '../../examples/film/i420.ts';
import { rowsCrc32 } from '../../examples/film/rows-crc.ts';
import { applyStamp, lumaStats, lumaThumbnail, type RowSpan, stampOf } from '../../examples/film/stamp.ts';
import { openY4m } from '../../examples/film/y4m.ts';

const sizes = fc.record({
  width: fc.integer({ min: 8, max: 40 }).map((half) => 2 * half),
  height: fc.integer({ min: 8, max: 40 }).map((half) => 2 * half),
});
/** The luma plane of a picture and one other value for one of its samples. */
const changes = sizes.chain((size) =>
  fc.record({
    size: fc.constant(size),
    luma: fc.uint8Array({ minLength: size.width * size.height, maxLength: size.width * size.height }),
    at: fc.nat(size.width * size.height - 1),
    flip: fc.integer({ min: 1, max: 255 }),
  }),
);

function stampOfLuma(luma: Uint8Array, size: PictureSize, frameNumber = 7): RowSpan[] {
  return stampOf({ ...size, frameNumber, stats: lumaStats(luma, size), thumbnail: lumaThumbnail(luma, size) });
}

/** `spans` on a picture of one colour that the stamp does not use, without padding. */
function drawn({ width, height }: PictureSize, spans: readonly RowSpan[]): Uint8Array {
  const xrgb = new Uint8Array(width * height * 4);
  for (let at = 0; at < xrgb.length; at += 4) xrgb.set([30, 90, 200, 255], at);
  applyStamp(xrgb, width * 4, spans);
  return xrgb;
}

/** What the 32 cells of the barcode say, read back from the picture of 64x64 (cells of 1x1 at the lower left). */
function barcodeOf64(xrgb: Uint8Array): number {
  let bits = 0;
  for (let x = 0; x < 32; x++) bits = (bits << 1) | (xrgb[(63 * 64 + x) * 4] === 255 ? 1 : 0);
  return bits >>> 0;
}

describe('stampOf', () => {
  it('gives another picture, with another CRC-32, whenever a single luma byte differs', () => {
    fc.assert(
      fc.property(changes, ({ size, luma, at, flip }) => {
        const other = luma.with(at, (luma[at] as number) ^ flip);
        const before = drawn(size, stampOfLuma(luma, size));
        const after = drawn(size, stampOfLuma(other, size));
        expect(Buffer.compare(before, after)).not.toBe(0);
        expect(crc32(after)).not.toBe(crc32(before));
      }),
      { numRuns: 200 },
    );
  });

  it('fits every even size from 16 to 200 without overlap, and always has all 32 cells of the barcode', () => {
    const stats = { mean: 97.31, min: 0, max: 255, crc32: 0 };
    for (let width = 16; width <= 200; width += 2) {
      for (let height = 16; height <= 200; height += 2) {
        const thumbnail: GreyPicture = {
          width: Math.ceil(width / 4),
          height: Math.ceil(height / 4),
          grey: new Uint8Array(Math.ceil(width / 4) * Math.ceil(height / 4)),
        };
        const spans = stampOf({ width, height, frameNumber: 12, stats, thumbnail });
        const taken = new Uint8Array(width * height);
        for (const { x, y, bytes } of spans) {
          const pixels = bytes.length / 4;
          if (x < 0 || y < 0 || x + pixels > width || y >= height) throw new Error(`${width}x${height}: leaves`);
          for (let i = 0; i < pixels; i++) (taken[y * width + x + i] as number) += 1;
        }
        if (taken.some((count) => count > 1)) throw new Error(`${width}x${height}: overlaps`);
        const inverse = stampOf({ width, height, frameNumber: 12, stats: { ...stats, crc32: 0xffff_ffff }, thumbnail });
        const cellPixels = Math.max(1, Math.floor(width / 64)) * Math.max(1, Math.floor(height / 36));
        expect(differingPixels(spans, inverse)).toBe(32 * cellPixels);
      }
    }
  });

  it('writes the CRC-32 of the luma as 32 cells, highest bit first', () => {
    const size = { width: 64, height: 64 };
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 4096, maxLength: 4096 }), (luma) => {
        expect(barcodeOf64(drawn(size, stampOfLuma(luma, size)))).toBe(crc32(luma));
      }),
      { numRuns: 20 },
    );
  });

  it('shows what the CPU saw in a white frame above the barcode', () => {
    const size = { width: 64, height: 64 };
    const luma = Uint8Array.from({ length: 4096 }, (_, at) => (at % 64) + 2 * Math.floor(at / 64));
    const xrgb = drawn(size, stampOfLuma(luma, size));
    const left = 64 - 18;
    const top = 64 - 1 - 18;
    const at = (x: number, y: number) => [...xrgb.subarray((y * 64 + x) * 4, (y * 64 + x) * 4 + 4)];
    for (let i = 0; i < 18; i++) {
      const edge = [at(left + i, top), at(left + i, top + 17), at(left, top + i), at(left + 17, top + i)];
      expect(edge).toEqual(Array.from({ length: 4 }, () => [255, 255, 255, 255]));
    }
    for (let i = 0; i < 16; i++) {
      const grey = 4 * i + 2 * 4 * (15 - i);
      expect(at(left + 1 + i, top + 1 + 15 - i)).toEqual([grey, grey, grey, 255]);
    }
  });

  it('shows the number of the frame at the upper left and the mean luma below it', () => {
    const size = { width: 256, height: 144 };
    const luma = new Uint8Array(256 * 144).fill(97);
    const xrgb = drawn(size, stampOfLuma(luma, size, 12));
    const number = drawNumber('F12', 2);
    const mean = drawNumber('Y97.0', 2);
    expect(greyAt(xrgb, size, { left: 2, top: 2, ...number })).toEqual(number.grey);
    expect(greyAt(xrgb, size, { left: 2, top: 2 + number.height, ...mean })).toEqual(mean.grey);
  });

  it('refuses a picture that is too small and a frame number that is none', () => {
    const content = { frameNumber: 0, stats: { mean: 0, min: 0, max: 0, crc32: 0 } };
    const thumbnail = { width: 1, height: 1, grey: new Uint8Array(1) };
    expect(() => stampOf({ ...content, thumbnail, width: 14, height: 16 })).toThrow(
      'the picture is 14x16, a stamp needs 16x16 at least',
    );
    for (const frameNumber of [-1, 1.5, Number.NaN]) {
      const bad = { ...content, thumbnail, width: 16, height: 16, frameNumber };
      expect(() => stampOf(bad)).toThrow(`frameNumber is ${frameNumber}`);
    }
  });
});

describe('applyStamp', () => {
  it('writes each span at its place and nothing else', () => {
    const xrgb = new Uint8Array(3 * 12);
    applyStamp(xrgb, 12, [{ x: 1, y: 2, bytes: Uint8Array.of(1, 2, 3, 4) }]);
    expect([...xrgb]).toEqual([...Array(28).fill(0), 1, 2, 3, 4, 0, 0, 0, 0]);
  });

  it('writes nothing when one span leaves the picture', () => {
    const good = { x: 0, y: 0, bytes: Uint8Array.of(1, 2, 3, 4) };
    for (const [x, y] of [
      [2, 0],
      [0, 2],
      [-1, 0],
      [0, -1],
    ] as const) {
      const xrgb = new Uint8Array(16);
      const spans = [good, { x, y, bytes: Uint8Array.of(5, 6, 7, 8) }];
      expect(() => applyStamp(xrgb, 8, spans)).toThrow(`a span of 4 bytes at ${x},${y} leaves the picture (stride 8)`);
      expect(xrgb.every((byte) => byte === 0)).toBe(true);
    }
  });

  it('stamps every frame of the film of the examples differently', () => {
    const film = openY4m('examples/film/allium-256x144.y4m');
    const sums = Array.from({ length: film.frameCount }, (_, index) => {
      const i420 = film.readFrame(index);
      const xrgb = convertI420(i420, film, 1088);
      applyStamp(xrgb, 1088, stampOfLuma(i420.subarray(0, 256 * 144), film, index));
      return rowsCrc32(xrgb, { rowBytes: 1024, rowCount: 144, strideBytes: 1088 });
    });
    film.close();
    expect(new Set(sums).size).toBe(8);
  });
});

/** Number of pixels in which two stamps for one picture size differ. */
function differingPixels(a: readonly RowSpan[], b: readonly RowSpan[]): number {
  expect(a.length).toBe(b.length);
  let count = 0;
  a.forEach((span, index) => {
    const other = b[index]?.bytes ?? new Uint8Array();
    for (let at = 0; at < span.bytes.length; at += 4) if (span.bytes[at] !== other[at]) count++;
  });
  return count;
}

/** The blue bytes of an area of a picture without padding. */
function greyAt(
  xrgb: Uint8Array,
  picture: PictureSize,
  area: PictureSize & { readonly left: number; readonly top: number },
): Uint8Array {
  return Uint8Array.from({ length: area.width * area.height }, (_, i) => {
    const x = area.left + (i % area.width);
    const y = area.top + Math.floor(i / area.width);
    return xrgb[(y * picture.width + x) * 4] as number;
  });
}
