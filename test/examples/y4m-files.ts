/** Small YUV4MPEG2 files, whole and broken, for the tests of the reader. */
import { mkdtempSync, readdirSync, readlinkSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished } from 'vitest';
import { FilmError } from '../../examples/film/film-error.ts';
import { openY4m } from '../../examples/film/y4m.ts';

/** A frame of 4x2: 8 of Y, 2 of U, 2 of V. */
export const FRAME = 'FRAME\nYYYYYYYYUUVV';
export const HEADER = 'YUV4MPEG2 W4 H2 F30:1 Ip A1:1 C420jpeg';

/** A new directory that goes when the running test ends. */
export function scratch(): string {
  const dir = mkdtempSync(join(tmpdir(), 'y4m-test-'));
  onTestFinished(() => rmSync(dir, { recursive: true }));
  return dir;
}

/** A file of these bytes, one a character, that goes when the running test ends. */
export function fileOf(text: string): string {
  const path = join(scratch(), 'film.y4m');
  writeFileSync(path, text, 'latin1');
  return path;
}

/** The fault for which the file is refused, or `'none'`. Fails the test if more than a line is told. */
export function faultOf(path: string): string {
  try {
    openY4m(path).close();
  } catch (error) {
    if (!(error instanceof FilmError)) throw error;
    expect(error.path).toBe(path);
    expect(error.message).toBe(`${path.replace('\0', '?')}: ${error.fault}`);
    expect(error.message).not.toMatch(/\p{Cc}/u);
    return error.fault;
  }
  return 'none';
}

/** The fault of a film with this header line and one whole frame of 4x2. */
export function faultOfHeader(header: string): string {
  return faultOf(fileOf(`${header}\n${FRAME}`));
}

/** How often the file at `path` is open in this process (Linux). Other files may come and go in other threads. */
export function openCount(path: string): number {
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === realpathSync(path);
    } catch {
      return false; // closed since it was listed
    }
  }).length;
}
