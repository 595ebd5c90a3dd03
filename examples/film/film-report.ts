/** What the film example prints, and the pictures it writes. */
import { basename } from 'node:path';
import process from 'node:process';
import { describeHazard, type HazardFacts } from '../../src/index.ts';
import { expected, type FilmRun, type FrameRecord, type Omission } from './film-run.ts';
import { writeComparison, writePng } from './png.ts';
import { xrgbStride } from './rig.ts';
import type { Film } from './y4m.ts';

/** Rows of the table that are printed of a long film, from its start. */
const ROWS_SHOWN = 24;
/** Frames that become pictures: of a run that is right, and of one that is not. */
const PICTURES_OF_CORRECT = 2;
const PICTURES_OF_BROKEN = 8;

/** Both runs of one film. */
export interface FilmRuns {
  readonly omit: Omission;
  readonly correct: FilmRun;
  readonly broken: FilmRun;
  /** Where the pictures go. */
  readonly directory: string;
}

/** Prints both runs and writes their pictures. @returns whether they show what they must. */
export function printFilm(film: Film, { omit, correct, broken, directory }: FilmRuns): boolean {
  const print = (...lines: readonly string[]) => process.stdout.write(`${lines.join('\n')}\n`);
  const { width, height, frameCount } = film;
  const verdicts = [verdict(correct, true), verdict(broken, false)] as const;
  print(`${basename(film.path)}: ${width}x${height}, ${frameCount} frames`, '', ...correct.addresses);
  print('', 'Correct run', ...runLines(correct), `=> ${verdicts[0].text}`);
  print('', `The same without ${OMITTED[omit]}`, ...runLines(broken), `=> ${verdicts[1].text}`);
  if (broken.hazards.length > 0) print('', ...hazardLines(broken.hazards));
  print('', 'Pictures:', ...writePictures(film, directory, correct, broken).map((name) => `  ${name}`));
  return verdicts.every(({ ok }) => ok);
}

const OMITTED: Record<Omission, string> = {
  'begin-read': 'DMA_BUF_SYNC_START before the luma is read (begin-read)',
  'end-write': 'DMA_BUF_SYNC_END after the stamp is written (end-write)',
};

/** The table of a run, one row a frame, then what it comes to. */
function runLines(run: FilmRun): string[] {
  const rows = run.frames.slice(0, ROWS_SHOWN).map(row);
  const more = run.frames.length - rows.length;
  const wrong = run.frames.filter(isWrong);
  return [
    'frame   captured  converted      shown   CRC shown  expected   stale bytes',
    ...rows,
    ...(more > 0 ? [`  ... and ${more} more frames`] : []),
    `${run.frames.length} frames, ${wrong.length} of them wrong, ${run.hazards.length} hazard(s), ` +
      `${run.droppedFrames} dropped, ${run.leftBytes} bytes of buffers left`,
  ];
}

/** The first report of each kind, and how often it came. */
function hazardLines(hazards: readonly HazardFacts[]): string[] {
  const kinds = [...new Set(hazards.map((facts) => facts.hazard))];
  return kinds.flatMap((kind) => {
    const ofKind = hazards.filter((facts) => facts.hazard === kind);
    const [first] = ofKind;
    const again = ofKind.length > 1 ? [`  (and ${ofKind.length - 1} more like it)`] : [];
    return first === undefined ? [] : [describeHazard(first), ...again];
  });
}

/** Whether the run shows what it must: right and silent, or wrong exactly where stale bytes were reported. */
function verdict(run: FilmRun, isCorrectProgram: boolean): { readonly ok: boolean; readonly text: string } {
  const wrong = numbers(run.frames.filter(isWrong));
  const stale = numbers(run.frames.filter((frame) => frame.staleBytes > 0));
  if (isCorrectProgram) {
    const ok = wrong === '' && run.hazards.length === 0;
    return { ok, text: ok ? 'every frame is right, no hazard' : `NOT right: frames ${wrong}` };
  }
  const ok = wrong === stale;
  if (ok && wrong === '')
    return { ok, text: 'no frame is wrong, by luck: old lines had left the cache, or equal the new' };
  const text = `wrong frames: ${wrong}; frames with stale bytes: ${stale}`;
  return { ok, text: ok ? `${text}: the same` : `${text}: NOT the same` };
}

/** Writes pictures of the first frames of both runs into `directory`. @returns their names. */
function writePictures(film: Film, directory: string, correct: FilmRun, broken: FilmRun): string[] {
  const { width, height } = film;
  const strideBytes = xrgbStride(film);
  const names: string[] = [];
  const write = (prefix: string, frames: readonly FrameRecord[]) => {
    for (const { frame, picture } of frames) {
      if (picture === null) continue;
      const name = `${directory}/${prefix}-${String(frame).padStart(4, '0')}.png`;
      writePng(name, { xrgb: picture, width, height, strideBytes });
      names.push(name);
    }
  };
  write('correct', correct.frames.slice(0, PICTURES_OF_CORRECT));
  const wrong = broken.frames.filter((frame) => isWrong(frame) && frame.picture !== null).slice(0, PICTURES_OF_BROKEN);
  write('stale', wrong);
  for (const { frame, picture } of wrong.slice(-1)) {
    const name = `${directory}/compare-${String(frame).padStart(4, '0')}.png`;
    const right = { xrgb: expected(film, frame), width, height, strideBytes };
    writeComparison(name, right, { ...right, xrgb: picture as Uint8Array });
    names.push(name);
  }
  return names;
}

function row(record: FrameRecord): string {
  const { frame, capturedNs, convertedNs, shownNs, crcShown, crcExpected, staleBytes } = record;
  const times = [capturedNs, convertedNs, shownNs].map((ns) => `${(ns / 1e6).toFixed(3)} ms`.padStart(11)).join('');
  const crcs = [crcShown, crcExpected].map((crc) => crc.toString(16).padStart(8, '0')).join('   ');
  return `${String(frame).padStart(5)}${times}    ${crcs}  ${isWrong(record) ? 'WRONG' : '     '} ${staleBytes || ''}`.trimEnd();
}

function isWrong({ crcShown, crcExpected }: FrameRecord): boolean {
  return crcShown !== crcExpected;
}

/** The numbers of frames, runs of them as `3-7`. */
function numbers(frames: readonly FrameRecord[]): string {
  const runs: { first: number; last: number }[] = [];
  for (const { frame } of frames) {
    const run = runs.at(-1);
    if (run !== undefined && run.last === frame - 1) run.last = frame;
    else runs.push({ first: frame, last: frame });
  }
  return runs.map(({ first, last }) => (first === last ? `${first}` : `${first}-${last}`)).join(' ');
}
