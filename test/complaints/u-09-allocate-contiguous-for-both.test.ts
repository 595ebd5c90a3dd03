/** The fix of U-08: allocate from the contiguous heap and import into both, without a copy. */
import { describe, expect, it } from 'vitest';
import { Display, fragmentPages, Gpu, reducedBlankingMode, videoCore6 } from '../../src/index.ts';
import { bytesOf, deviceOf, failing, machineOf, reports, wrong } from './scene.ts';

const SIZE = { width: 64, height: 64, strideBytes: 256, format: 'XR24' } as const;
const BYTES = SIZE.strideBytes * SIZE.height;

/** Draws with the GPU into a buffer of `heap` and shows it. */
function drawAndShow(heap: 'systemHeap' | 'cmaHeap') {
  const machine = machineOf('arm');
  const gpu = new Gpu(deviceOf(machine, 'arm', 'gpu0'), videoCore6);
  const shown: Uint8Array[] = [];
  const display = new Display(
    deviceOf(machine, 'arm', 'display0', { iommu: false }),
    { mode: reducedBlankingMode(64, 64, 60), strideAlignBytes: 64 },
    { onScanout: ({ bytes }) => void shown.push(bytes?.slice() ?? bytesOf(0, 0)) as undefined },
  );
  fragmentPages(machine.pages, machine.sim.prng.fork('uptime'), { freeFraction: 0.1, maxFreeOrder: 0 });
  const error = machine.sim.run(function* () {
    const buf = machine[heap].alloc(BYTES, 'scanout');
    const target = yield* gpu.importBuffer(buf, { access: 'write' });
    const outcome = yield* failing(function* () {
      const framebuffer = yield* display.importFramebuffer(buf, SIZE);
      yield* gpu.submitSynced({
        name: 'draw',
        writes: [target],
        run: (memory) => void memory.write(target.gpuVa, bytesOf(0x5a, BYTES), 0, BYTES),
      });
      display.enable();
      yield* display.pageFlip(framebuffer);
      yield* machine.sim.delay(40_000_000);
    });
    yield* display.release();
    yield* gpu.release();
    buf.put();
    return outcome;
  });
  return { error, wrongBytes: shown.map((frame) => wrong(frame, 0x5a)), found: reports(machine.sim) };
}

describe('U-09: "allocate on the display’s side instead, it is still zero-copy"', () => {
  it('shows what the GPU drew from the contiguous heap, in the very same memory', () => {
    const { error, wrongBytes, found } = drawAndShow('cmaHeap');
    expect([error, wrongBytes[0], found]).toEqual(['none', 0, []]);
  });

  it('shows nothing from the system heap: the display refuses the pieces', () => {
    const { error, wrongBytes } = drawAndShow('systemHeap');
    expect([error.includes('EINVAL'), wrongBytes]).toEqual([true, []]);
  });
});
