/** A GPU's scattered buffer is refused by a display that has no IOMMU. */
import { describe, expect, it } from 'vitest';
import { Display, fragmentPages, Gpu, type Machine, reducedBlankingMode, videoCore6 } from '../../src/index.ts';
import { deviceOf, failing, machineOf, reports } from './scene.ts';

const SIZE = { width: 64, height: 64, strideBytes: 256, format: 'XR24' } as const;
const BYTES = SIZE.strideBytes * SIZE.height;

function sharing(displayIommu: boolean) {
  const machine: Machine = machineOf('arm');
  const gpu = new Gpu(deviceOf(machine, 'arm', 'gpu0'), videoCore6);
  const dev = deviceOf(machine, 'arm', 'display0', { iommu: displayIommu });
  const display = new Display(dev, { mode: reducedBlankingMode(64, 64, 60), strideAlignBytes: 64 });
  fragmentPages(machine.pages, machine.sim.prng.fork('uptime'), { freeFraction: 0.1, maxFreeOrder: 0 });
  const error = machine.sim.run(function* () {
    const buf = machine.systemHeap.alloc(BYTES, 'scanout');
    yield* gpu.importBuffer(buf);
    const outcome = yield* failing(() => display.importFramebuffer(buf, SIZE));
    yield* display.release();
    yield* gpu.release();
    buf.put();
    return outcome;
  });
  return { error, left: [dev.name, display.framebuffers.length], found: reports(machine.sim) };
}

describe('U-08: "the render node draws into it, and the display will not take the buffer"', () => {
  it('is refused at import, and the error says in how many pieces it is and what would help', () => {
    const { error, left, found } = sharing(false);
    expect(error).toMatch(/EINVAL.*scanout: 4 separate segments, the first of 4096 bytes; scanout needs 16384 in one/);
    expect(error).toMatch(/contiguous memory or put the display behind an IOMMU/);
    expect([left, found]).toEqual([['display0', 0], []]);
  });

  it('is taken when the display is behind an IOMMU, which joins the pieces', () => {
    expect(sharing(true)).toMatchObject({ error: 'none', found: [] });
  });
});
