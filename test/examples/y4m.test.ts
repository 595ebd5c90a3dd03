import { readFileSync, truncateSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { openY4m } from '../../examples/film/y4m.ts';
import { FRAME, faultOf, faultOfHeader, fileOf, HEADER, openCount } from './y4m-files.ts';

const ALLIUM = 'examples/film/allium-256x144.y4m';

describe('openY4m', () => {
  it('reads size, rate and all frames of the film of the examples', () => {
    const film = openY4m(ALLIUM);
    expect(film).toMatchObject({ path: ALLIUM, width: 256, height: 144, chroma: '420jpeg', frameBytes: 55_296 });
    expect(film.framesPerSecond).toEqual({ num: 30, den: 1 });
    expect(film.frameCount).toBe(8);
    const bytes = readFileSync(ALLIUM);
    const headerBytes = bytes.indexOf('\n') + 1;
    for (let index = 0; index < 8; index++) {
      const at = headerBytes + index * (6 + 55_296) + 6;
      expect(bytes.subarray(at, at + 55_296).equals(film.readFrame(index))).toBe(true);
    }
    film.close();
  });

  it('finds each frame where the markers carry parameters of differing length', () => {
    const film = openY4m(fileOf(`${HEADER}\nFRAME Ip Xone\naaaaaaaabbcc${FRAME}FRAME \nddddddddeeff`));
    const frames = [2, 0, 1].map((index) => Buffer.from(film.readFrame(index)).toString());
    expect(frames).toEqual(['ddddddddeeff', 'aaaaaaaabbcc', 'YYYYYYYYUUVV']);
    film.close();
  });

  it.each(['420', '420jpeg', '420mpeg2', '420paldv'])('takes C%s', (chroma) => {
    const film = openY4m(fileOf(`YUV4MPEG2 C${chroma} H2 W4\n${FRAME}`));
    expect(film.chroma).toBe(chroma);
    film.close();
  });

  it('takes a film without C as 4:2:0, unless XYSCSS says otherwise', () => {
    expect(faultOfHeader('YUV4MPEG2 W4 H2')).toBe('none');
    expect(faultOfHeader('YUV4MPEG2 W4 H2 XYSCSS=420MPEG2')).toBe('none');
    expect(faultOfHeader('YUV4MPEG2 W4 H2 XYSCSS=444')).toMatch('this is 4:4:4 (C444)');
  });

  it('lets the last of a repeated field count', () => {
    expect(faultOfHeader('YUV4MPEG2 W5 W4 H2')).toBe('none');
    expect(faultOfHeader('YUV4MPEG2 W4 H2 W5')).toMatch('the width is 5');
  });

  it('takes an interlaced film as frames, and looks at no comment', () => {
    expect(faultOfHeader('YUV4MPEG2 W4 H2 F30000:1001 It A0:0 Xanything goes')).toBe('none');
  });

  it.each([
    ['', { num: 25, den: 1 }],
    [' F0:0', { num: 25, den: 1 }],
    [' F30000:1001', { num: 30_000, den: 1001 }],
  ])('reads the frame rate "%s" as a fraction, 25 where it is unknown', (field, rate) => {
    const film = openY4m(fileOf(`YUV4MPEG2 W4 H2${field}\n${FRAME}`));
    expect(film.framesPerSecond).toEqual(rate);
    film.close();
  });

  it('opens any number of whole frames and refuses the same film cut anywhere', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 4 }), fc.nat(), (count, cut) => {
        const whole = `${HEADER}\n${FRAME.repeat(count)}`;
        const film = openY4m(fileOf(whole));
        expect(film.frameCount).toBe(count);
        film.close();
        const length = cut % whole.length;
        const atFrame = length > HEADER.length + 1 && (length - HEADER.length - 1) % FRAME.length === 0;
        expect(faultOf(fileOf(whole.slice(0, length))) === 'none').toBe(atFrame);
      }),
      { numRuns: 60 },
    );
  });
});

describe('Film', () => {
  it('refuses an index that is no frame', () => {
    const film = openY4m(fileOf(`${HEADER}\n${FRAME}${FRAME}`));
    for (const index of [-1, 2, 0.5, Number.NaN]) {
      expect(() => film.readFrame(index)).toThrow(RangeError(`index is ${index}, the film has frames 0 to 1`));
    }
    film.close();
  });

  it('tells that the file shrank since it was opened', () => {
    const path = fileOf(`${HEADER}\n${FRAME}`);
    const film = openY4m(path);
    truncateSync(path, HEADER.length + 1 + 6 + 5);
    expect(() => film.readFrame(0)).toThrow(`${path}: frame 0: the file shrank, only 5 of 12 bytes are left`);
    film.close();
  });

  it('gives the file back when closed, once, and reads no more', () => {
    const path = fileOf(`${HEADER}\n${FRAME}`);
    const film = openY4m(path);
    expect(openCount(path)).toBe(1);
    film.close();
    film.close();
    expect(openCount(path)).toBe(0);
    expect(() => film.readFrame(0)).toThrow('the film is closed');
  });
});
