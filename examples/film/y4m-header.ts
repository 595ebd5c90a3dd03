/**
 * The header line of a YUV4MPEG2 file: `YUV4MPEG2 W256 H144 F30:1 Ip A1:1 C420jpeg`. Fields are a letter and a value,
 * in any order, separated by spaces; of a repeated one the last counts. The line ends with a newline.
 *
 * | field | here |
 * |---|---|
 * | `W`, `H` | needed, even, 2 to 16384 |
 * | `F` | frames per second as a fraction; missing or `0:0` means unknown and is taken as 25:1 |
 * | `C` | 8-bit 4:2:0 only; where missing, mjpegtools' `XYSCSS=`; where that is missing too, 4:2:0 |
 * | `I`, `A`, other `X` | not looked at: an interlaced film is handled as whole frames, pixels count as square |
 *
 * @see yuv4mpeg(5) of mjpegtools
 */
import { FilmError, printable } from './film-error.ts';

/** Where the chroma samples of a 4:2:0 film sit. The planes are laid out alike; nothing here depends on it. */
export type Chroma = '420' | '420jpeg' | '420mpeg2' | '420paldv';

/** What the header line says, checked. */
export interface Y4mHeader {
  /** Luma samples in a row; even. */
  readonly width: number;
  /** Rows of luma samples; even. */
  readonly height: number;
  /** A fraction of two positive whole numbers. */
  readonly framesPerSecond: { readonly num: number; readonly den: number };
  readonly chroma: Chroma;
}

/** Longest side, in samples: keeps a frame below the 2 GiB that one read can fetch. */
const MAX_SIDE = 16_384;

const CHROMAS: readonly Chroma[] = ['420', '420jpeg', '420mpeg2', '420paldv'];

/**
 * Reads the header line `line`, without its newline and with its magic already checked.
 *
 * @param path - names the file in errors.
 * @throws {FilmError} a size, frame rate or sample format that is missing, unreadable or not handled; never retry.
 */
export function parseY4mHeader(path: string, line: string): Y4mHeader {
  const fields = line.split(' ').slice(1);
  const value = (letter: string) => fields.findLast((f) => f.startsWith(letter))?.slice(letter.length);
  return {
    width: side(path, 'width', 'W', value('W')),
    height: side(path, 'height', 'H', value('H')),
    framesPerSecond: frameRate(path, value('F')),
    chroma: chromaOf(path, value('C') ?? value('XYSCSS=')?.toLowerCase() ?? '420'),
  };
}

function side(path: string, name: string, letter: string, text: string | undefined): number {
  if (text === undefined) throw new FilmError(path, `the header has no ${name} (${letter})`);
  if (!/^\d+$/.test(text)) throw new FilmError(path, `the ${name} is "${printable(text)}", which is not a number`);
  const samples = Number(text);
  if (samples === 0) throw new FilmError(path, `the ${name} is 0`);
  if (samples > MAX_SIDE) throw new FilmError(path, `the ${name} is ${text}, at most ${MAX_SIDE} is handled`);
  if (samples % 2 !== 0) throw new FilmError(path, `the ${name} is ${text}, an even one is needed for 4:2:0`);
  return samples;
}

function frameRate(path: string, text = '0:0'): { num: number; den: number } {
  const parts = /^(\d{1,9}):(\d{1,9})$/.exec(text);
  const num = Number(parts?.[1]);
  const den = Number(parts?.[2]);
  if (num === 0 && den === 0) return { num: 25, den: 1 };
  if (num > 0 && den > 0) return { num, den };
  throw new FilmError(path, `the frame rate is "${printable(text)}", a fraction like 30:1 is needed`);
}

function chromaOf(path: string, text: string): Chroma {
  const chroma = CHROMAS.find((c) => c === text);
  if (chroma !== undefined) return chroma;
  throw new FilmError(path, `4:2:0 with 8 bits a sample is needed, this is ${sampleFormat(text)}`);
}

/** `444p10` in words: `4:4:4 with 10 bits a sample (C444p10)`. */
function sampleFormat(text: string): string {
  const [, family = '', bits, alpha] = /^(4[0-4]{2}|mono)(?:p?(\d{1,2}))?(alpha)?$/.exec(text) ?? [];
  if (family === '') return `"${printable(text)}"`;
  const name = family === 'mono' ? 'luma only' : family.split('').join(':');
  const depth = bits === undefined ? '' : ` with ${bits} bits a sample`;
  return `${name}${depth}${alpha === undefined ? '' : ' with alpha'} (C${text})`;
}
