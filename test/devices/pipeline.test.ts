/** Camera, GPU and display on shared buffers, all in small batches, so that a missing wait shows as a torn frame. */
import { describe, expect, it } from 'vitest';
import type { HazardFacts } from '../../src/base/hazards.ts';
import { Camera } from '../../src/devices/camera.ts';
import { Display } from '../../src/devices/display.ts';
import { Gpu } from '../../src/devices/gpu.ts';
import { frameLayout } from '../../src/devices/shared/frame-layout.ts';
import { RandomChooser } from '../../src/sim/chooser.ts';
import { Prng } from '../../src/sim/prng.ts';
import { Bench, pattern } from './bench.ts';
import { converted } from './converted.ts';

const SIZE = { width: 16, height: 8 };
const SOURCE = frameLayout('NV12', SIZE);
const TARGET = frameLayout('XR24', SIZE);
/** Frames of the film, and how many of them are shown: the GPU is slower than the camera. */
const FRAMES = 30;
const SHOWN = 6;

/** What the film's frames must look like on the screen. */
const EXPECTED = Array.from({ length: FRAMES }, (_, n) =>
  converted(pattern(SOURCE.sizeBytes, n), SOURCE, TARGET).join(),
);

interface Variant {
  readonly seed: number;
  /** Whether the buffer goes back to the camera when the GPU is done with it, or at once. */
  readonly waitsForGpu: boolean;
}

/** @returns for each picture that was shown its number in the film, -1 for one that is none; and what was found. */
function play({ seed, waitsForGpu }: Variant): { shown: number[]; hazards: HazardFacts[] } {
  const bench = new Bench({ chooser: new RandomChooser(new Prng(seed).fork('schedule')), hazards: 'record' });
  const { sim } = bench;
  const shown: number[] = [];
  const mode = { pixelClockKhz: 200_000, hdisplay: 16, htotal: 20, vdisplay: 8, vtotal: 10 };
  const params = { ...SIZE, format: 'NV12', frameRate: { numerator: 500_000, denominator: 1 }, startupNs: 0 } as const;
  const camera = new Camera(
    bench.device('camera0', { behindIommu: true }),
    { ...params, lineTimeNs: 240, linesPerBatch: 2 },
    { source: (n) => (n < FRAMES ? pattern(SOURCE.sizeBytes, n) : 'end') },
  );
  const gpu = new Gpu(bench.device('gpu0', { behindIommu: true }), {
    launchNs: 20,
    pixelNs: 24,
    bytesPerNs: 100,
    rowsPerBatch: 2,
  });
  const display = new Display(
    bench.device('display0', { behindIommu: true }),
    { mode, strideAlignBytes: 64, linesPerBatch: 2, selfRefresh: false },
    {
      onScanout: ({ bytes }) => {
        shown.push(EXPECTED.indexOf(bytes?.join() ?? ''));
        return undefined;
      },
    },
  );
  sim.run(function* () {
    const input = bench.buffer('camera', SOURCE.sizeBytes, { scattered: true });
    yield* camera.qbuf(yield* camera.importBuffer(input));
    const src = yield* gpu.importBuffer(input, { access: 'read' });
    const outputs = [];
    for (const name of ['screen0', 'screen1']) {
      const buf = bench.buffer(name, TARGET.sizeBytes, { scattered: true });
      const fb = yield* display.importFramebuffer(buf, { ...SIZE, strideBytes: 64, format: 'XR24' });
      outputs.push({ fb, dst: yield* gpu.importBuffer(buf, { access: 'write' }) });
    }
    display.enable();
    yield* camera.streamOn();
    for (let n = 0; n < SHOWN; n++) {
      const { buffer, sequence } = yield* camera.dqbuf();
      const { fb, dst } = outputs[n % 2] ?? expect.fail('no such buffer');
      const fence = yield* gpu.submitConvert(src, dst, { source: SOURCE, target: TARGET, frame: sequence });
      if (waitsForGpu) yield* fence;
      yield* camera.qbuf(buffer);
      yield* display.pageFlip(fb);
    }
    yield* display.waitVblank();
    yield* display.release();
    yield* gpu.release();
    yield* camera.release();
  });
  bench.expectNothingLeft();
  return { shown, hazards: sim.hazards };
}

describe('camera, GPU and display', () => {
  it('show whole frames in order, in any schedule, when every step waits for the one before', () => {
    for (let seed = 1; seed <= 10; seed++) {
      const { shown, hazards } = play({ seed, waitsForGpu: true });
      expect(hazards).toEqual([]);
      expect(shown).not.toContain(-1);
      expect(shown).toEqual(shown.toSorted((a, b) => a - b));
      expect(new Set(shown).size).toBe(SHOWN);
    }
  });

  it('show a torn frame when the camera gets its buffer back before the GPU has read it, and the report names the fence', () => {
    const { shown, hazards } = play({ seed: 1, waitsForGpu: false });
    expect(shown).toContain(-1);
    expect(hazards[0]).toMatchObject({
      hazard: 'access.write-while-reading',
      first: { who: 'gpu0', action: 'read' },
      second: { who: 'camera0', action: 'write' },
      fence: 'gpu0:1',
      work: "job 'convert'",
      remedy: "camera0: wait for fence gpu0:1 (job 'convert') before writing",
    });
    expect(new Set(hazards.map(({ hazard }) => hazard))).toEqual(new Set(['access.write-while-reading']));
  });
});
