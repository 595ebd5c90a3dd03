import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { decode } from 'fast-png';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FilmError } from '../../examples/film/film-error.ts';
import { writeComparison, writePng } from '../../examples/film/png.ts';

let dir = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'png-test-'));
});
afterEach(() => {
  rmSync(dir, { recursive: true });
});

/** Two pixels beside each other: red, and a dark one of B 1, G 2, R 3. */
const PAIR = { xrgb: Uint8Array.of(0, 0, 255, 255, 1, 2, 3, 255), width: 2, height: 1 };

describe('writePng', () => {
  it('writes a file that decodes to the same colours, without the padding of the rows', () => {
    const path = join(dir, 'picture.png');
    const side = fc.integer({ min: 1, max: 8 });
    fc.assert(
      fc.property(side, side, fc.nat(9), fc.infiniteStream(fc.nat(255)), (width, height, padding, stream) => {
        const strideBytes = width * 4 + padding;
        const xrgb = Uint8Array.from({ length: strideBytes * height }, () => stream.next().value as number);
        writePng(path, { xrgb, width, height, strideBytes });
        const png = decode(readFileSync(path), { checkCrc: true });
        expect(png).toMatchObject({ width, height, channels: 3, depth: 8 });
        for (let pixel = 0; pixel < width * height; pixel++) {
          const at = Math.floor(pixel / width) * strideBytes + (pixel % width) * 4;
          const [b, g, r] = xrgb.subarray(at, at + 3);
          expect([...png.data.subarray(pixel * 3, pixel * 3 + 3)]).toEqual([r, g, b]);
        }
      }),
      { numRuns: 40 },
    );
  });

  it('makes the directory and leaves nothing in it but the picture', () => {
    writePng(join(dir, 'a', 'b', 'picture.png'), PAIR);
    expect(readdirSync(join(dir, 'a', 'b'))).toEqual(['picture.png']);
  });

  it('replaces an earlier picture', () => {
    const path = join(dir, 'picture.png');
    writeFileSync(path, 'old');
    writePng(path, PAIR);
    expect([...decode(readFileSync(path)).data]).toEqual([255, 0, 0, 3, 2, 1]);
  });

  it('leaves what was there, and no temporary file, when the file cannot take its name', () => {
    const path = join(dir, 'picture.png');
    mkdirSync(path);
    writeFileSync(join(path, 'kept'), '');
    expect(() => writePng(path, PAIR)).toThrow(FilmError);
    expect(() => writePng(path, PAIR)).toThrow(`${path}: cannot be written: is a directory (EISDIR)`);
    expect(readdirSync(dir)).toEqual(['picture.png']);
    expect(readdirSync(path)).toEqual(['kept']);
  });

  it('names the file when a part of its path is not a directory', () => {
    writeFileSync(join(dir, 'file'), 'kept');
    const path = join(dir, 'file', 'picture.png');
    expect(() => writePng(path, PAIR)).toThrow(new RegExp(`^${path}: cannot be written: .*\\((EEXIST|ENOTDIR)\\)$`));
    expect(readFileSync(join(dir, 'file'), 'latin1')).toBe('kept');
  });

  it('writes nothing when the picture is shorter than its size or its stride below a row', () => {
    const path = join(dir, 'picture.png');
    expect(() => writePng(path, { ...PAIR, height: 2 })).toThrow('8 bytes are given, the rows need 16');
    expect(() => writePng(path, { ...PAIR, strideBytes: 7 })).toThrow('strideBytes is 7, a row needs 8');
    expect(readdirSync(dir)).toEqual([]);
  });
});

describe('writeComparison', () => {
  it('puts correct, wrong and difference side by side, twice as large, and counts the wrong pixels', () => {
    const path = join(dir, 'comparison.png');
    const wrong = { ...PAIR, xrgb: PAIR.xrgb.with(5, 200) };
    expect(writeComparison(path, PAIR, wrong)).toBe(1);
    const png = decode(readFileSync(path));
    expect(png).toMatchObject({ width: 3 * 2 * 2 + 2 * 4, height: 2 });
    const row = (y: number) =>
      Array.from({ length: 20 }, (_, x) => [...png.data.subarray((y * 20 + x) * 3, (y * 20 + x) * 3 + 3)]);
    const gap = Array.from({ length: 4 }, () => [0, 0, 0]);
    const red = [255, 0, 0];
    const expected = [
      [red, red, [3, 2, 1], [3, 2, 1]],
      gap,
      [red, red, [3, 200, 1], [3, 200, 1]],
      gap,
      [[63, 0, 0], [63, 0, 0], red, red],
    ].flat();
    expect(row(0)).toEqual(expected);
    expect(row(1)).toEqual(expected);
  });

  it('leaves a large picture as it is', () => {
    const path = join(dir, 'comparison.png');
    const picture = { xrgb: new Uint8Array(400 * 4), width: 400, height: 1 };
    expect(writeComparison(path, picture, picture)).toBe(0);
    expect(decode(readFileSync(path))).toMatchObject({ width: 1208, height: 1 });
  });

  it('compares pictures of differing stride by their pixels', () => {
    const padded = { xrgb: Uint8Array.of(...PAIR.xrgb, 9, 9, 9, 9), width: 2, height: 1, strideBytes: 12 };
    expect(writeComparison(join(dir, 'comparison.png'), PAIR, padded)).toBe(0);
  });

  it('counts a pixel whose fourth byte alone is wrong', () => {
    const wrong = { ...PAIR, xrgb: PAIR.xrgb.with(3, 0) };
    expect(writeComparison(join(dir, 'comparison.png'), PAIR, wrong)).toBe(1);
  });

  it('refuses pictures of differing size', () => {
    const path = join(dir, 'comparison.png');
    expect(() => writeComparison(path, PAIR, { ...PAIR, width: 1 })).toThrow('correct is 2x1, wrong is 1x1');
    expect(readdirSync(dir)).toEqual([]);
  });
});
