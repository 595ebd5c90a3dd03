/**
 * What it shows: a film goes camera → GPU → display through shared buffers, byte by byte, on an Arm SoC whose devices do not
 * look into the CPU cache. A user process reads the luma of each captured frame and stamps each converted one, both through
 * its cached mapping. It runs twice: correct, then with one call left out.
 * What to expect: the correct run shows every frame as a conversion outside the simulation computes it. The broken run is
 * wrong exactly in the frames with stale bytes, and the report names the missing call. Pictures of both are in `out/`.
 *
 *     npm start -- [FILE.y4m] [--omit begin-read|end-write]
 */
import process from 'node:process';
import { DMA_BUF_IOCTL_SYNC, DMA_BUF_SYNC, type Op, POLL } from '../src/index.ts';
import { FilmError } from './film/film-error.ts';
import { printFilm } from './film/film-report.ts';
import { type FrameTimes, type Omission, runFilm } from './film/film-run.ts';
import { filmOptions, UsageError } from './film/options.ts';
import { nextFrame, type Rig } from './film/rig.ts';
import { SMALLEST_STAMPED_SIDE, stampFor } from './film/stamp.ts';
import { openY4m } from './film/y4m.ts';

/** The user process: each access to a mapping stands between START and END, or it is a bug. */
function* app(rig: Rig, omit: Omission | null, tell: (frame: FrameTimes) => undefined): Op<void> {
  const { camera, gpu, display, soc, strides } = rig;
  const { read, rw, start, end } = DMA_BUF_SYNC;
  const sync = (fd: number, flags: number) => rig.app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags });
  for (let shown = 0; ; shown++) {
    const captured = yield* nextFrame(camera);
    if (captured === null) return;
    const { buffer, sequence: frame, timestampNs: capturedNs } = captured;
    const src = rig.captured(buffer.index);
    const dst = rig.converted(shown);

    if (omit !== 'begin-read') yield* sync(src.fd, start | read); // drops old lines from the CPU cache
    const readNs = soc.sim.now;
    const luma = src.pixels.read(0, strides.nv12 * rig.nv12.height);
    yield* sync(src.fd, end | read);

    yield* gpu.submitConvert(src.gpu, dst.gpu, { source: rig.nv12, target: rig.xrgb, frame });
    yield* rig.app.poll([{ fd: dst.fd, events: POLL.out }]); // waits for the GPU
    yield* sync(dst.fd, start | rw); // drops old lines: before it waits, so the wait comes first
    const convertedNs = soc.sim.now;
    for (const { x, y, bytes } of stampFor(frame, luma, rig.nv12, strides.nv12)) {
      dst.pixels.write(y * strides.xrgb + x * 4, bytes);
    }
    if (omit !== 'end-write') yield* sync(dst.fd, end | rw); // writes dirty lines to memory

    yield* camera.qbuf(buffer); // the GPU has read it: its fence was waited for above
    const { timestampNs: shownNs } = yield* display.pageFlip(dst.framebuffer, { frame });
    tell({ frame, capturedNs, readNs, convertedNs, shownNs });
  }
}

function main(args: readonly string[]): boolean {
  const { path, omit } = filmOptions(args);
  const film = openY4m(path, { smallestSide: SMALLEST_STAMPED_SIDE });
  try {
    const correct = runFilm(film, app, null);
    const broken = runFilm(film, app, omit);
    return printFilm(film, { omit, correct, broken, directory: 'out' });
  } finally {
    film.close();
  }
}

try {
  process.exitCode = main(process.argv.slice(2)) ? 0 : 1;
} catch (error) {
  if (!(error instanceof FilmError || error instanceof UsageError)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
}
