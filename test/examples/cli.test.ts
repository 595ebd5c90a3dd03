import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import process from 'node:process';
import { afterAll, describe, expect, it } from 'vitest';

const EXAMPLE = path.resolve('examples/01-camera-gpu-display.ts');
const TSX = import.meta.resolve('tsx');
const directory = mkdtempSync(path.join(tmpdir(), 'film-'));
afterAll(() => rmSync(directory, { recursive: true }));

/** Runs the example in a directory of its own, as `npm start -- ...args` does. */
function start(...args: readonly string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['--import', TSX, EXAMPLE, ...args], {
    cwd: directory,
    encoding: 'utf8',
  });
  return { status, stdout, stderr };
}

/** Writes a film of grey frames, cut to `bytes` if given. @returns its name. */
function film(name: string, header: string, frame: { readonly count: number; readonly bytes: number }, cutTo?: number) {
  const frames = Array.from({ length: frame.count }, () => ['FRAME\n', Buffer.alloc(frame.bytes, 128)]).flat();
  const whole = Buffer.concat([`YUV4MPEG2 ${header}\n`, ...frames].map((part) => Buffer.from(part)));
  writeFileSync(path.join(directory, name), whole.subarray(0, cutTo ?? whole.length));
  return name;
}

describe('npm start with a film that can not be shown', () => {
  it.each([
    [
      'a truncated one',
      film('cut.y4m', 'W16 H16 F30:1 C420jpeg', { count: 2, bytes: 384 }, 600),
      /cut off: 171 of its 384/,
    ],
    ['a 4:4:4 one', film('444.y4m', 'W16 H16 F30:1 C444', { count: 1, bytes: 768 }), /4:2:0/],
    ['one of odd size', film('odd.y4m', 'W17 H16 F30:1 C420jpeg', { count: 1, bytes: 408 }), /17/],
    ['one without frames', film('none.y4m', 'W16 H16 F30:1 C420jpeg', { count: 0, bytes: 384 }), /no frame/],
    ['a missing one', 'missing.y4m', /no such file/],
  ])('says in one line what is wrong with %s, exits with 1 and writes nothing', (_what, name, fault) => {
    const { status, stdout, stderr } = start(name);
    expect(stderr).toMatch(fault);
    expect(stderr.split('\n')).toHaveLength(2);
    expect(stderr.startsWith(`${name}: `)).toBe(true);
    expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
    expect(existsSync(path.join(directory, 'out'))).toBe(false);
  });

  it('refuses an unknown omission in one line', () => {
    const { status, stderr } = start('--omit', 'everything');
    expect({ status, lines: stderr.trimEnd().split('\n').length }).toEqual({ status: 1, lines: 1 });
    expect(stderr).toContain('begin-read and end-write');
  });
});

describe('npm start', () => {
  it('shows wrong frames exactly where it reports stale bytes when the END after the stamp is left out', () => {
    const name = film('grey.y4m', 'W64 H48 F25:1 C420jpeg', { count: 3, bytes: 4608 });
    const { status, stdout, stderr } = start(name, '--omit', 'end-write');
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toContain('=> every frame is right, no hazard');
    expect(stdout).toContain('=> wrong frames: 0-2; frames with stale bytes: 0-2: the same');
    expect(stdout).toMatch(/remedy: ioctl\(\d+, DMA_BUF_IOCTL_SYNC, DMA_BUF_SYNC_END \| DMA_BUF_SYNC_WRITE\)/);
    expect(readdirSync(path.join(directory, 'out'))).toContain('compare-0002.png');
  });
});
