/** A bitmap font of 3x5 dots for numbers, and grey pictures to draw with it. */

/** A small grey picture, a byte a pixel, without padding. */
export interface GreyPicture {
  readonly width: number;
  readonly height: number;
  readonly grey: Uint8Array;
}

/** Five rows of three dots; `#` is lit. */
const GLYPHS: Readonly<Record<string, string>> = {
  '0': '### #.# #.# #.# ###',
  '1': '.#. ##. .#. .#. ###',
  '2': '### ..# ### #.. ###',
  '3': '### ..# .## ..# ###',
  '4': '#.# #.# ### ..# ..#',
  '5': '### #.. ### ..# ###',
  '6': '### #.. ### #.# ###',
  '7': '### ..# .#. .#. .#.',
  '8': '### #.# ### #.# ###',
  '9': '### #.# ### ..# ###',
  '.': '... ... ... ... .#.',
  // "frame" and "luma", before their numbers
  F: '### #.. ##. #.. #..',
  Y: '#.# #.# .#. .#. .#.',
};

const GLYPH_WIDTH = 3;
const GLYPH_HEIGHT = 5;

/**
 * Draws `text` in white on black, each dot `dotPixels` wide and high, with one dot of black between the characters and
 * around them all.
 *
 * @throws {RangeError} `text` has a character other than digits, `.`, `F` and `Y`.
 */
export function drawNumber(text: string, dotPixels: number): GreyPicture {
  const glyphs = [...text].map((char) => {
    const glyph = GLYPHS[char];
    if (glyph === undefined) throw new RangeError(`text is "${text}", there is no glyph for "${char}"`);
    return glyph;
  });
  const columns = glyphs.length * (GLYPH_WIDTH + 1) + 1;
  const rows = GLYPH_HEIGHT + 2;
  return drawDots({ columns, rows, dotWidth: dotPixels, dotHeight: dotPixels }, (column, row) => {
    const glyph = glyphs[Math.floor((column - 1) / (GLYPH_WIDTH + 1))] ?? '';
    const dot = (row - 1) * (GLYPH_WIDTH + 1) + ((column - 1) % (GLYPH_WIDTH + 1));
    return row > 0 && glyph[dot] === '#';
  });
}

/** A raster of `columns` x `rows` dots, each `dotWidth` x `dotHeight` pixels: white where `lit`, else black. */
export function drawDots(
  raster: { columns: number; rows: number; dotWidth: number; dotHeight: number },
  lit: (column: number, row: number) => boolean,
): GreyPicture {
  const width = raster.columns * raster.dotWidth;
  const height = raster.rows * raster.dotHeight;
  const grey = new Uint8Array(width * height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (lit(Math.floor(x / raster.dotWidth), Math.floor(y / raster.dotHeight))) grey[y * width + x] = 0xff;
    }
  }
  return { width, height, grey };
}
