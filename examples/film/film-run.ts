/** One run of a film through the rig: what each frame became, compared with what it should have become. */
import { type HazardFacts, hex, type Op, type ScanoutFrame } from '../../src/index.ts';
import { convertI420 } from './i420.ts';
import { startProgress } from './progress.ts';
import { makeRig, type Rig, startRig, stopRig, xrgbStride } from './rig.ts';
import { rowsCrc32 } from './rows-crc.ts';
import { applyStamp, stampFor } from './stamp.ts';
import type { Film } from './y4m.ts';

/** The call that is left out, in the words of the command line. */
export type Omission = 'begin-read' | 'end-write';

/** Pictures are kept of so many frames at most. */
const PICTURES_KEPT = 16;

/** What the user process tells of one frame; times in ns. */
export interface FrameTimes {
  readonly frame: number;
  readonly capturedNs: number;
  /** When the process read it. */
  readonly readNs: number;
  readonly convertedNs: number;
  readonly shownNs: number;
}

/** One frame of a run. */
export interface FrameRecord extends FrameTimes {
  /** CRC-32 of what was scanned out, and of the conversion computed outside the simulation. */
  readonly crcShown: number;
  readonly crcExpected: number;
  /** Stale bytes that the process read of this frame, and that the display read of it. */
  readonly staleBytes: number;
  /** What was scanned out; of the first frames only. */
  readonly picture: Uint8Array | null;
}

/** One run. */
export interface FilmRun {
  readonly frames: readonly FrameRecord[];
  readonly droppedFrames: number;
  readonly hazards: readonly HazardFacts[];
  /** What each device sees as the address of the first captured and the first converted buffer. */
  readonly addresses: readonly string[];
  /** Allocations that were not given back. */
  readonly leftBytes: number;
}

/** The user process: handles the film frame by frame, and tells of each. */
export type UserProgram = (rig: Rig, omit: Omission | null, tell: (times: FrameTimes) => undefined) => Op<void>;

/** Runs `program` on a new machine. The same film and omission give the same run. */
export function runFilm(film: Film, program: UserProgram, omit: Omission | null): FilmRun {
  const progress = startProgress(omit === null ? 'correct run: frame' : `without ${omit}: frame`, film.frameCount);
  try {
    return simulate(film, program, omit, (done) => progress.update(done));
  } finally {
    progress.end();
  }
}

function simulate(
  film: Film,
  program: UserProgram,
  omit: Omission | null,
  progress: (framesDone: number) => void,
): FilmRun {
  const stride = xrgbStride(film);
  const scannedOut: { readonly crc: number; readonly picture: Uint8Array | null; readonly hazardsSoFar: number }[] = [];
  const parts = makeRig(film, ({ bytes }: ScanoutFrame) => {
    const pixels = bytes as Uint8Array;
    const crc = rowsCrc32(pixels, { rowBytes: film.width * 4, rowCount: film.height, strideBytes: stride });
    const picture = scannedOut.length < PICTURES_KEPT ? pixels.slice() : null;
    scannedOut.push({ crc, picture, hazardsSoFar: hazards.length });
  });
  const { sim, memory } = parts.soc;
  const { hazards } = sim;
  const times: FrameTimes[] = [];
  const addresses = sim.run(function* () {
    const rig = yield* startRig(parts);
    const seen = addressesOf(rig);
    yield* program(rig, omit, (told) => {
      times.push(told);
      progress(times.length);
    });
    yield* sim.delay(2 * rig.refreshNs); // the last frame is still being scanned out
    yield* stopRig(rig);
    return seen;
  });
  sim.run();
  const frames = times.map((told, i): FrameRecord => {
    const { crc, picture, hazardsSoFar } = scannedOut[i] as (typeof scannedOut)[number];
    const crcExpected = rowsCrc32(expected(film, told.frame), {
      ...{ rowBytes: film.width * 4, rowCount: film.height },
      strideBytes: stride,
    });
    const byDisplay = hazards.slice(scannedOut[i - 1]?.hazardsSoFar ?? 0, hazardsSoFar);
    const stale = staleBytes(byDisplay, 'device-read.stale') + staleBytes(hazards, 'cpu-read.stale', told.readNs);
    return { ...told, crcShown: crc, crcExpected, staleBytes: stale, picture };
  });
  const leftBytes = memory.ledger.liveBytes - tableBytes(memory.ledger.bytesByOwner());
  return { frames, droppedFrames: parts.camera.droppedFrames, hazards, addresses, leftBytes };
}

/** The picture that frame `index` should have become: converted and stamped without any simulation. */
export function expected(film: Film, index: number): Uint8Array {
  const i420 = film.readFrame(index);
  const stride = xrgbStride(film);
  const xrgb = convertI420(i420, film, stride);
  applyStamp(xrgb, stride, stampFor(index, i420, film));
  return xrgb;
}

/** Bytes that were read although newer ones existed: by reads of one kind, and of one instant if `atNs` is given. */
function staleBytes(hazards: readonly HazardFacts[], kind: HazardFacts['hazard'], atNs?: number): number {
  let sum = 0;
  for (const facts of hazards) {
    if (!('staleBytes' in facts) || facts.hazard !== kind) continue;
    if (atNs === undefined || facts.reader.timeNs === atNs) sum += facts.staleBytes;
  }
  return sum;
}

/** The root tables of the IOMMU domains live as long as the machine. */
function tableBytes(byOwner: ReadonlyMap<string, number>): number {
  return byOwner.get('iommu tables') ?? 0;
}

/** One buffer of each kind as everybody sees it. */
function addressesOf({ captured, converted }: Rig): string[] {
  return [captured(0), converted(0)].flatMap((shared) => {
    const { buf, pixels, gpu } = shared;
    const extents = buf.priv.memory.extents();
    const lines = [`${buf.name}, ${buf.sizeBytes} bytes, as it is seen by`];
    lines.push(`  memory     ${hex(extents[0]?.phys ?? 0)}  in ${extents.length} extent(s)`);
    for (const att of [...buf.attachments].reverse()) {
      for (const sgt of att.mappings.keys()) {
        lines.push(`  ${att.dev.name.padEnd(9)}  ${hex(sgt.dmaAddress(0))}  in ${sgt.nents} segment(s)`);
      }
    }
    lines.push(`  GPU jobs   ${hex(gpu.gpuVa)}  in the context's own address space`);
    lines.push(`  app        ${hex(pixels.address)}  through the CPU cache`);
    return lines;
  });
}
