/**
 * What a user process makes of a captured frame and draws into the converted one, so that a wrong byte can be seen:
 *
 * ```
 * +---------------------------+
 * | F12                       |   number of the frame
 * | Y97.3                     |   mean luma
 * |                  +------+ |   what the CPU saw: every fourth luma sample in each direction. Stale cache lines
 * |                  | inset| |   are foreign stripes here
 * |                  +------+ |
 * | |||  barcode ||           |   CRC-32 of all luma bytes, highest bit first, 1 is white
 * +---------------------------+
 * ```
 *
 * One differing luma byte always gives another CRC-32, so another barcode, and the barcode is always there: the stamped
 * picture then differs. Where the barcode has no room for 32 cells in a row (below 32 pixels) it takes two rows of 16;
 * of the rest, what would leave the picture or cover an earlier part is left out.
 */
import { drawDots, drawNumber, type GreyPicture } from './digits.ts';
import type { PictureSize } from './i420.ts';
import { checkRows, rowsCrc32 } from './rows-crc.ts';

/** Least width and height of a picture that takes a stamp, in pixels. */
export const SMALLEST_STAMPED_SIDE = 16;

/** What there is to know about the luma samples of a frame. */
export interface LumaStats {
  /** Not rounded. */
  readonly mean: number;
  readonly min: number;
  readonly max: number;
  /** CRC-32 of the samples, row by row, without padding. */
  readonly crc32: number;
}

/** Bytes to write into the row `y` of an XRGB8888 picture, from its pixel `x` on. */
export interface RowSpan {
  readonly x: number;
  readonly y: number;
  /** Whole pixels: B, G, R, 0xff. */
  readonly bytes: Uint8Array;
}

/** What a stamp shows, and the size of the picture it is for. */
export interface StampContent extends PictureSize {
  /** A whole number from 0 up. */
  readonly frameNumber: number;
  readonly stats: LumaStats;
  readonly thumbnail: GreyPicture;
}

/**
 * Statistics of the luma samples at the start of `luma`, `strideBytes` from row to row. Every sample is read once.
 *
 * @throws {RangeError} an empty size, a stride below the width, or `luma` ends before the last row.
 */
export function lumaStats(luma: Uint8Array, size: PictureSize, strideBytes: number = size.width): LumaStats {
  const { width, height } = size;
  const crc32 = rowsCrc32(luma, { rowBytes: width, rowCount: height, strideBytes });
  let sum = 0;
  let min = 255;
  let max = 0;
  for (let y = 0; y < height; y++) {
    for (let at = y * strideBytes; at < y * strideBytes + width; at++) {
      const sample = luma[at] as number;
      sum += sample;
      if (sample < min) min = sample;
      if (sample > max) max = sample;
    }
  }
  return { mean: sum / (width * height), min, max, crc32 };
}

/** Every fourth sample of every fourth row of `luma`, the first among them. Contract as that of {@link lumaStats}. */
export function lumaThumbnail(luma: Uint8Array, size: PictureSize, strideBytes: number = size.width): GreyPicture {
  checkRows(luma, { rowBytes: size.width, rowCount: size.height, strideBytes });
  const width = Math.ceil(size.width / 4);
  const height = Math.ceil(size.height / 4);
  const grey = new Uint8Array(width * height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) grey[y * width + x] = luma[4 * y * strideBytes + 4 * x] as number;
  }
  return { width, height, grey };
}

/**
 * The stamp as spans, none of which overlaps another or leaves the picture. The same content gives the same bytes.
 *
 * @throws {RangeError} a picture below {@link SMALLEST_STAMPED_SIDE} in one direction, or a bad `frameNumber`.
 */
export function stampOf({ width, height, frameNumber, stats, thumbnail }: StampContent): RowSpan[] {
  if (!(Number.isInteger(width) && Number.isInteger(height) && Math.min(width, height) >= SMALLEST_STAMPED_SIDE)) {
    const least = `${SMALLEST_STAMPED_SIDE}x${SMALLEST_STAMPED_SIDE}`;
    throw new RangeError(`the picture is ${width}x${height}, a stamp needs ${least} at least`);
  }
  if (!Number.isSafeInteger(frameNumber) || frameNumber < 0) {
    throw new RangeError(`frameNumber is ${frameNumber}, a whole number from 0 up is needed`);
  }
  const margin = Math.floor(Math.min(width, height) / 72);
  const dot = Math.max(1, margin);
  const bars = barcode(stats.crc32, { width, height });
  const inset = framed(thumbnail);
  const number = drawNumber(`F${frameNumber}`, dot);
  const mean = drawNumber(`Y${stats.mean.toFixed(1)}`, dot);
  const barsTop = height - margin - bars.height;
  const wanted: readonly Placed[] = [
    { picture: bars, x: margin, y: barsTop },
    { picture: inset, x: width - margin - inset.width, y: barsTop - margin - inset.height },
    { picture: number, x: margin, y: margin },
    { picture: mean, x: margin, y: margin + number.height },
  ];
  const placed: Placed[] = [];
  for (const part of wanted) {
    if (isInside(part, { width, height }) && !placed.some((other) => overlap(part, other))) placed.push(part);
  }
  return placed.flatMap(spansOf);
}

/**
 * The stamp for frame `frameNumber` from its luma samples, `strideBytes` from row to row: what the user process draws.
 *
 * @throws as {@link lumaStats} and {@link stampOf} do.
 */
export function stampFor(
  frameNumber: number,
  luma: Uint8Array,
  size: PictureSize,
  strideBytes: number = size.width,
): RowSpan[] {
  const { width, height } = size;
  const stats = lumaStats(luma, size, strideBytes);
  return stampOf({ width, height, frameNumber, stats, thumbnail: lumaThumbnail(luma, size, strideBytes) });
}

/**
 * Writes `spans` into an XRGB8888 picture, `strideBytes` from row to row: what the user process does inside the
 * simulation, for the picture outside.
 *
 * @throws {RangeError} a span leaves its row or the picture; nothing is written then.
 */
export function applyStamp(xrgb: Uint8Array, strideBytes: number, spans: readonly RowSpan[]): void {
  for (const { x, y, bytes } of spans) {
    const end = x * 4 + bytes.length;
    if (x < 0 || y < 0 || end > strideBytes || y * strideBytes + end > xrgb.length) {
      throw new RangeError(`a span of ${bytes.length} bytes at ${x},${y} leaves the picture (stride ${strideBytes})`);
    }
  }
  for (const { x, y, bytes } of spans) xrgb.set(bytes, y * strideBytes + x * 4);
}

/** A part of the stamp and where its upper left corner goes. */
interface Placed {
  readonly picture: GreyPicture;
  readonly x: number;
  readonly y: number;
}

function barcode(bits: number, { width, height }: PictureSize): GreyPicture {
  const columns = width >= 32 ? 32 : 16;
  const raster = {
    columns,
    rows: 32 / columns,
    dotWidth: Math.max(1, Math.floor(width / 64)),
    dotHeight: Math.max(1, Math.floor(height / 36)),
  };
  return drawDots(raster, (column, row) => ((bits >>> (31 - row * columns - column)) & 1) === 1);
}

/** `inner` with a line of white around it. */
function framed(inner: GreyPicture): GreyPicture {
  const width = inner.width + 2;
  const height = inner.height + 2;
  const grey = new Uint8Array(width * height).fill(0xff);
  for (let y = 0; y < inner.height; y++) {
    grey.set(inner.grey.subarray(y * inner.width, (y + 1) * inner.width), (y + 1) * width + 1);
  }
  return { width, height, grey };
}

function isInside({ picture, x, y }: Placed, { width, height }: PictureSize): boolean {
  return x >= 0 && y >= 0 && x + picture.width <= width && y + picture.height <= height;
}

function overlap(a: Placed, b: Placed): boolean {
  const beside = a.x + a.picture.width <= b.x || b.x + b.picture.width <= a.x;
  const above = a.y + a.picture.height <= b.y || b.y + b.picture.height <= a.y;
  return !beside && !above;
}

function spansOf({ picture, x, y }: Placed): RowSpan[] {
  return Array.from({ length: picture.height }, (_, row) => {
    const bytes = new Uint8Array(picture.width * 4).fill(0xff);
    for (let column = 0; column < picture.width; column++) {
      bytes.fill(picture.grey[row * picture.width + column] as number, column * 4, column * 4 + 3);
    }
    return { x, y: y + row, bytes };
  });
}
