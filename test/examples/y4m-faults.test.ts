import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openY4m } from '../../examples/film/y4m.ts';
import { FRAME, faultOf, faultOfHeader, fileOf, HEADER, openCount, scratch } from './y4m-files.ts';

describe('openY4m refuses, and names the fault of,', () => {
  it.each([
    ['a header without width', 'YUV4MPEG2 H2', 'the header has no width (W)'],
    ['a header without height', 'YUV4MPEG2 W4', 'the header has no height (H)'],
    ['a width of zero', 'YUV4MPEG2 W0 H2', 'the width is 0'],
    ['a height of zero', 'YUV4MPEG2 W4 H00', 'the height is 0'],
    ['a width that is no number', 'YUV4MPEG2 W4x H2', 'the width is "4x", which is not a number'],
    ['a negative height', 'YUV4MPEG2 W4 H-2', 'the height is "-2", which is not a number'],
    ['an odd width', 'YUV4MPEG2 W5 H2', 'the width is 5, an even one is needed for 4:2:0'],
    ['an odd height', 'YUV4MPEG2 W4 H3', 'the height is 3, an even one is needed for 4:2:0'],
    [
      'a huge width',
      'YUV4MPEG2 W99999999999999999999 H2',
      'the width is 99999999999999999999, at most 16384 is handled',
    ],
    ['a frame rate of zero', 'YUV4MPEG2 W4 H2 F0:1', 'the frame rate is "0:1", a fraction like 30:1 is needed'],
    ['a frame rate over zero', 'YUV4MPEG2 W4 H2 F30:0', 'the frame rate is "30:0", a fraction like 30:1 is needed'],
    [
      'a frame rate that is no fraction',
      'YUV4MPEG2 W4 H2 F29.97',
      'the frame rate is "29.97", a fraction like 30:1 is needed',
    ],
  ])('%s', (_what, header, fault) => {
    expect(faultOfHeader(header)).toBe(fault);
  });

  it.each([
    ['444', '4:4:4 (C444)'],
    ['422', '4:2:2 (C422)'],
    ['411', '4:1:1 (C411)'],
    ['mono', 'luma only (Cmono)'],
    ['mono12', 'luma only with 12 bits a sample (Cmono12)'],
    ['420p10', '4:2:0 with 10 bits a sample (C420p10)'],
    ['422p16', '4:2:2 with 16 bits a sample (C422p16)'],
    ['444alpha', '4:4:4 with alpha (C444alpha)'],
    ['', '""'],
    ['420jpeg\r', '"420jpeg?"'],
  ])('the sample format C%s', (chroma, name) => {
    const fault = faultOfHeader(`YUV4MPEG2 W4 H2 C${chroma}`);
    expect(fault).toBe(`4:2:0 with 8 bits a sample is needed, this is ${name}`);
  });

  it('a file that does not exist', () => {
    expect(faultOf(join(scratch(), 'missing.y4m'))).toBe('no such file or directory (ENOENT)');
    expect(faultOf('')).toBe('no such file or directory (ENOENT)');
  });

  it('a path below a file', () => {
    expect(faultOf(join(fileOf('x'), 'film.y4m'))).toBe('a part of the path is not a directory (ENOTDIR)');
  });

  it('a directory', () => {
    expect(faultOf(scratch())).toBe('is a directory, a film file is needed');
  });

  it('a device and a pipe, without waiting for either', () => {
    const pipe = join(scratch(), 'pipe.y4m');
    execFileSync('mkfifo', [pipe]);
    expect(faultOf(pipe)).toBe('is not a regular file');
    expect(faultOf('/dev/zero')).toBe('is not a regular file');
  });

  it('a path that cannot be one', () => {
    expect(faultOf('film\0.y4m')).toMatch(/null bytes/);
  });

  it('an empty file', () => {
    expect(faultOf(fileOf(''))).toBe('is empty');
  });

  it('a file of another kind', () => {
    expect(faultOf(fileOf('\x89PNG\r\n\x1a\n'))).toMatch(/^is not a YUV4MPEG2 film: it begins with ".PNG\?\?\?\?"$/);
    expect(faultOf(fileOf('YUV4MPEG3 W4 H2\n'))).toMatch('is not a YUV4MPEG2 film');
    expect(faultOf(fileOf(`YUV4MPEG2W4 H2\n${FRAME}`))).toMatch('is not a YUV4MPEG2 film');
    expect(faultOf(fileOf('YUV4'))).toMatch('is not a YUV4MPEG2 film');
  });

  it('a header without end', () => {
    expect(faultOf(fileOf('YUV4MPEG2 W4 H2'))).toBe("the header has no end in the file's 15 bytes");
    expect(faultOf(fileOf(`YUV4MPEG2 W4 H2 X${'x'.repeat(5000)}\n${FRAME}`))).toBe(
      'the header is longer than 4096 bytes',
    );
  });

  it('a film without frames', () => {
    expect(faultOf(fileOf(`${HEADER}\n`))).toBe('has a header but no frames');
  });

  it('a last frame that is cut off in its samples', () => {
    const fault = faultOf(fileOf(`${HEADER}\n${FRAME}${FRAME.slice(0, -3)}`));
    expect(fault).toBe('the last frame, 1 (from 0), is cut off: 9 of its 12 bytes are there');
  });

  it('a last frame that is cut off in its marker', () => {
    const fault = 'the last frame, 1 (from 0), is cut off: only a part of its marker is there';
    expect(faultOf(fileOf(`${HEADER}\n${FRAME}FRA`))).toBe(fault);
    expect(faultOf(fileOf(`${HEADER}\n${FRAME}FRAME Xab`))).toBe(fault);
  });

  it('something else where a frame marker should be', () => {
    const fault = 'frame 1 (from 0): "FRAME" is needed at byte 57, "fRAME?" is there';
    expect(faultOf(fileOf(`${HEADER}\n${FRAME}fRAME\nYYYYYYYYUUVV`))).toBe(fault);
    expect(faultOf(fileOf(`${HEADER}\n${FRAME}FRAMED\nYYYYYYYYUUVV`))).toMatch('"FRAMED" is there');
    expect(faultOf(fileOf(`${HEADER}\n${FRAME}\n`))).toMatch('"?" is there');
  });

  it('a frame marker without end', () => {
    const fault = faultOf(fileOf(`${HEADER}\nFRAME ${'x'.repeat(5000)}`));
    expect(fault).toBe('frame 0 (from 0): its marker line is longer than 4096 bytes');
  });

  it('a film smaller than is needed', () => {
    const path = fileOf(`${HEADER}\n${FRAME}`);
    expect(() => openY4m(path, { smallestSide: 16 })).toThrow(`${path}: 4x2 is too small, 16x16 is needed at least`);
  });

  it('a name with a control character, on one line all the same', () => {
    expect(() => openY4m('/missing/a\nb')).toThrow('/missing/a?b: no such file or directory (ENOENT)');
  });

  it('a broken film without keeping it open', () => {
    const path = fileOf(`${HEADER}\nFRAM`);
    expect(faultOf(path)).not.toBe('none');
    expect(openCount(path)).toBe(0);
  });
});
