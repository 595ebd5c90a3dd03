/** PNG files of XRGB8888 pictures. Each is either written as a whole or not there. */
import { closeSync, mkdirSync, openSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { encode } from 'fast-png';
import { FilmError, fileSystemFault } from './film-error.ts';
import type { PictureSize } from './i420.ts';
import { checkRows } from './rows-crc.ts';

/** A picture as it lies in memory: pixels of B, G, R and a byte without meaning. */
export interface XrgbPicture extends PictureSize {
  readonly xrgb: Uint8Array;
  /** Bytes from row to row. Default: as tight as it goes. */
  readonly strideBytes?: number;
}

/** Pixels of R, G, B without padding, as PNG wants them. */
interface RgbCanvas extends PictureSize {
  readonly rgb: Uint8Array;
}

/** Below this width a comparison is drawn with pixels of 2 x 2. */
const SMALL_WIDTH = 400;
const GAP_PIXELS = 4;

/**
 * Writes `picture` to `path`, in a directory that is made if need be. The file appears in one step: the bytes go to a
 * temporary file beside it, which then takes its name, and which is removed if anything fails.
 *
 * @throws {RangeError} `xrgb` ends before the last row or the stride is below a row. @throws {FilmError} the file cannot
 * be written; what was at `path` is untouched.
 */
export function writePng(path: string, picture: XrgbPicture): void {
  const canvas = blank(picture);
  draw(canvas, picture, { left: 0, scale: 1, colourAt: rgbOf(picture) });
  writeCanvas(path, canvas);
}

/**
 * Writes three pictures side by side to `path`: `correct`, `wrong`, and the correct one dimmed with every differing
 * pixel in red. Small ones are drawn twice as large. Returns the number of pixels that differ in any of their four
 * bytes.
 *
 * @throws as {@link writePng} does, and {RangeError} when the two differ in size.
 */
export function writeComparison(path: string, correct: XrgbPicture, wrong: XrgbPicture): number {
  const { width, height } = correct;
  if (wrong.width !== width || wrong.height !== height) {
    throw new RangeError(`correct is ${width}x${height}, wrong is ${wrong.width}x${wrong.height}`);
  }
  const scale = width < SMALL_WIDTH ? 2 : 1;
  const canvas = blank({ width: 3 * width * scale + 2 * GAP_PIXELS, height: height * scale });
  const correctAt = rgbOf(correct);
  const wrongAt = rgbOf(wrong);
  const differs = differenceOf(correct, wrong);
  let wrongPixels = 0;
  for (let pixel = 0; pixel < width * height; pixel++) {
    if (differs(pixel % width, Math.floor(pixel / width))) wrongPixels++;
  }
  const marked: ColourAt = (x, y) => (differs(x, y) ? 0xff0000 : dimmed(correctAt(x, y)));
  for (const [column, colourAt] of [correctAt, wrongAt, marked].entries()) {
    draw(canvas, correct, { left: column * (width * scale + GAP_PIXELS), scale, colourAt });
  }
  writeCanvas(path, canvas);
  return wrongPixels;
}

/** Colour of the pixel at `x`, `y` as 0xRRGGBB. */
type ColourAt = (x: number, y: number) => number;

function rgbOf(picture: XrgbPicture): ColourAt {
  const { xrgb } = picture;
  const stride = checkedStride(picture);
  return (x, y) => {
    const at = y * stride + x * 4;
    return (xrgb[at + 2] as number) * 0x10000 + (xrgb[at + 1] as number) * 0x100 + (xrgb[at] as number);
  };
}

function differenceOf(a: XrgbPicture, b: XrgbPicture): (x: number, y: number) => boolean {
  const strideA = checkedStride(a);
  const strideB = checkedStride(b);
  return (x, y) => [0, 1, 2, 3].some((i) => a.xrgb[y * strideA + x * 4 + i] !== b.xrgb[y * strideB + x * 4 + i]);
}

function checkedStride({ xrgb, width, height, strideBytes = width * 4 }: XrgbPicture): number {
  checkRows(xrgb, { rowBytes: width * 4, rowCount: height, strideBytes });
  return strideBytes;
}

function dimmed(colour: number): number {
  return (colour >> 2) & 0x3f3f3f;
}

function blank({ width, height }: PictureSize): RgbCanvas {
  return { width, height, rgb: new Uint8Array(width * height * 3) };
}

/** Draws a picture of `size` at the top of `canvas`, from its column `left` on, each pixel `scale` wide and high. */
function draw(
  canvas: RgbCanvas,
  size: PictureSize,
  { left, scale, colourAt }: { left: number; scale: number; colourAt: ColourAt },
): void {
  for (let y = 0; y < size.height * scale; y++) {
    for (let x = 0; x < size.width * scale; x++) {
      const colour = colourAt(Math.floor(x / scale), Math.floor(y / scale));
      const at = (y * canvas.width + left + x) * 3;
      canvas.rgb[at] = colour >> 16;
      canvas.rgb[at + 1] = (colour >> 8) & 0xff;
      canvas.rgb[at + 2] = colour & 0xff;
    }
  }
}

function writeCanvas(path: string, { width, height, rgb }: RgbCanvas): void {
  const png = encode({ width, height, data: rgb, channels: 3, depth: 8 });
  const temporary = join(dirname(path), `.${basename(path)}.${process.pid}.tmp`);
  let temporaryIsOurs = false;
  try {
    mkdirSync(dirname(path), { recursive: true });
    const fd = openSync(temporary, 'wx');
    temporaryIsOurs = true;
    try {
      writeFileSync(fd, png);
    } finally {
      closeSync(fd);
    }
    renameSync(temporary, path);
  } catch (error) {
    if (temporaryIsOurs) rmSync(temporary, { force: true });
    throw new FilmError(path, `cannot be written: ${fileSystemFault(error)}`, error);
  }
}
