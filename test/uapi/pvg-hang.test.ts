/** A producer that forgets to signal its fence hangs nobody for good. */
import { describe, expect, it } from 'vitest';
import { Display } from '../../src/devices/display.ts';
import { ms, Render, wordAt } from './render.ts';
import { outcome } from './system.ts';

const READ = 0;

describe('a fence that the producer attaches and forgets', () => {
  it('PVG-15: for reading does not hold up a read of the GPU, and a write no longer than 10 s', () => {
    const r = new Render();
    r.run(function* () {
      const { handle, gpu, map } = yield* r.share();
      const fence = yield* r.attachFence(handle, READ);
      expect(yield* r.gpuRead(gpu)).toBe(0);
      expect(r.sim.now).toBeLessThan(ms(1));
      yield* r.gpuWrite(gpu, 4711);
      expect(r.sim.now).toBeGreaterThanOrEqual(ms(10_000));
      expect(wordAt(map.read(0, 4))).toBe(4711);
      expect(yield* outcome(() => r.signalFence(fence))).toBe('ETIMEDOUT');
    });
  });

  it('PVG-17: holds up a flip for 10 s; the display goes on afterwards', () => {
    const r = new Render();
    const mode = { pixelClockKhz: 200_000, hdisplay: 16, htotal: 20, vdisplay: 8, vtotal: 10 };
    const display = new Display(r.system.device('display0'), { mode, strideAlignBytes: 32 });
    r.run(function* () {
      const format = { width: 16, height: 8, strideBytes: 64, format: 'XR24' } as const;
      const { handle, gpu } = yield* r.share();
      const first = yield* display.importFramebuffer(gpu.buf, format);
      const second = yield* display.importFramebuffer((yield* r.share()).gpu.buf, format);
      display.enable();
      const fence = yield* r.attachFence(handle);
      yield* display.pageFlip(first);
      expect(r.sim.now).toBeGreaterThanOrEqual(ms(10_000));
      expect(yield* outcome(() => r.signalFence(fence))).toBe('ETIMEDOUT');
      yield* display.pageFlip(second);
      expect(r.sim.now).toBeLessThan(ms(10_001));
      yield* display.release();
    });
  });

  it('takes the hung job of a GPU along: its time limit ends it, and the fence that others see says so', () => {
    const r = new Render({ jobTimeoutNs: ms(500) });
    r.run(function* () {
      const { fd, gpu } = yield* r.share();
      const hung = yield* r.count(gpu, ms(60_000));
      yield* r.app.poll([{ fd, events: 1, revents: 0 }], -1);
      expect([hung.error, r.gpu.resets]).toEqual(['ETIMEDOUT', 1]);
      expect(r.sim.now).toBeLessThan(ms(501));
      yield* r.gpuWrite(gpu, 1);
      expect(r.sim.now).toBeLessThan(ms(502));
    });
  });
});
