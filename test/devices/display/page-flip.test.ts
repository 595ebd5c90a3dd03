import { describe, expect, it } from 'vitest';
import type { DisplayParams } from '../../../src/devices/display/display-params.ts';
import type { FramebufferFormat } from '../../../src/devices/display/framebuffer.ts';
import { Display, type ScanoutFrame } from '../../../src/devices/display.ts';
import { DmaResvUsage } from '../../../src/dmabuf/dma-resv.ts';
import { Bench } from '../bench.ts';

/** 16x8 pixels; a line takes 100 ns, a frame 1000 ns, of which the first 200 are blanking. */
const PARAMS: DisplayParams = {
  mode: { pixelClockKhz: 200_000, hdisplay: 16, htotal: 20, vdisplay: 8, vtotal: 10 },
  strideAlignBytes: 32,
  linesPerBatch: 1,
};
const FORMAT: FramebufferFormat = { width: 16, height: 8, strideBytes: 64, format: 'XR24' };

/** A display behind an IOMMU where each line costs `lineNs`. */
function setUp(selfRefresh: boolean, lineNs: number) {
  const free = { walkPerLevelNs: 0, mapFixedNs: 0, mapPerPageNs: 0, unmapFixedNs: 0, unmapPerPageNs: 0 };
  const iommuCosts = { ...free, invalidateFixedNs: 0, invalidatePerPageNs: 0, iotlbHitNs: lineNs };
  const bench = new Bench({ iommuCosts });
  const shown: string[] = [];
  const onScanout = ({ framebuffer, sequence, underrun }: ScanoutFrame): undefined => {
    shown.push(`${framebuffer.buf.name} ${sequence}${underrun ? ' underrun' : ''}`);
  };
  const dev = bench.device('display0', { behindIommu: true });
  const display = new Display(dev, { ...PARAMS, selfRefresh }, { onScanout });
  const framebuffer = (name: string) => display.importFramebuffer(bench.buffer(name, 4096), FORMAT);
  return { bench, sim: bench.sim, display, shown, framebuffer };
}

describe('a flip with an explicit fence', () => {
  it("waits for the buffer's moves as well, but not for its writers", () => {
    const { bench, sim, display } = setUp(true, 0);
    const buf = bench.buffer('a', 4096);
    const [move, writer] = [bench.fence(), bench.fence()];
    const inFence = bench.fence();
    const done = sim.run(function* () {
      const fb = yield* display.importFramebuffer(buf, FORMAT);
      yield* buf.resv.withLock(() => {
        buf.resv.reserveFences(2);
        buf.resv.addFence(writer, DmaResvUsage.write);
        buf.resv.addFence(move, DmaResvUsage.kernel);
      });
      display.enable();
      const flip = display.queueFlip(fb, { inFence });
      inFence.signal();
      yield* sim.delay(2500);
      expect(flip.fired).toBe(false);
      move.signal();
      return yield* flip;
    });
    expect([done.vblankSequence, writer.signaled]).toEqual([3, false]);
  });
});

describe('a flip holds its fences', () => {
  function live(cancel: boolean): readonly [pending: number, done: number] {
    const { bench, sim, display, framebuffer } = setUp(true, 0);
    return sim.run(function* () {
      const inFence = bench.fence();
      display.enable();
      const flip = display.queueFlip(yield* framebuffer('a'), { inFence });
      const { refs } = inFence;
      inFence.put();
      yield* sim.delay(1500);
      expect(inFence.refs).toBe(refs - 1);
      if (cancel) yield* display.disable();
      else {
        inFence.signal();
        yield* flip;
      }
      return [refs, inFence.refs] as const;
    });
  }

  it('until it is latched, though whoever gave them is gone', () => {
    expect(live(false)).toEqual([2, 0]);
  });

  it('until it is cancelled', () => {
    expect(live(true)).toEqual([2, 0]);
  });
});

describe.each([true, false])('a flip with selfRefresh %s', (selfRefresh) => {
  it('cuts a frame off that is not over: an underrun, and the old framebuffer can be given up', () => {
    const { bench, sim, display, shown, framebuffer } = setUp(selfRefresh, 150);
    sim.run(function* () {
      const [a, b] = [yield* framebuffer('a'), yield* framebuffer('b')];
      display.enable();
      yield* display.pageFlip(a);
      yield* display.pageFlip(b);
      expect([display.underruns, shown]).toEqual([1, []]);
      yield* display.releaseFramebuffer(a);
      yield* sim.delay(1500);
      expect([display.underruns, shown]).toEqual([2, ['b 2 underrun']]);
      yield* display.release();
    });
    bench.expectNothingLeft();
  });

  it('is no underrun when the frame was over, and none of the old framebuffer comes after it', () => {
    const { bench, sim, display, shown, framebuffer } = setUp(selfRefresh, 10);
    sim.run(function* () {
      const [a, b] = [yield* framebuffer('a'), yield* framebuffer('b')];
      display.enable();
      yield* display.pageFlip(a);
      yield* sim.delay(1500);
      yield* display.pageFlip(b);
      yield* display.releaseFramebuffer(a);
      yield* sim.delay(1950);
      yield* display.release();
    });
    expect(shown).toEqual(selfRefresh ? ['a 1', 'b 3'] : ['a 1', 'a 2', 'b 3', 'b 4']);
    expect(display.underruns).toBe(0);
    bench.expectNothingLeft();
  });

  it('leaves nothing running when the display is disabled after it', () => {
    const { bench, sim, display, shown, framebuffer } = setUp(selfRefresh, 10);
    sim.run(function* () {
      const [a, b] = [yield* framebuffer('a'), yield* framebuffer('b')];
      display.enable();
      yield* display.pageFlip(a);
      yield* display.pageFlip(b);
      yield* display.release();
      yield* sim.delay(5000);
    });
    expect(shown).toEqual(['a 1']);
    bench.expectNothingLeft();
  });
});
