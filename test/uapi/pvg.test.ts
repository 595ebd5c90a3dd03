/** A software producer with fences and a GPU: who waits for whom, and what each sees. */
import { describe, expect, it } from 'vitest';
import { Display } from '../../src/devices/display.ts';
import { DMA_BUF_SYNC } from '../../src/dmabuf/dma-buf-sync.ts';
import type { Op } from '../../src/sim/op.ts';
import { DMA_BUF_IOCTL_SYNC } from '../../src/uapi/dma-buf-file.ts';
import { DRM_IOCTL_GEM_CLOSE } from '../../src/uapi/drm-ioctl.ts';
import { POLL } from '../../src/uapi/file.ts';
import { counted, ms, Render, ROW_BYTES, word, wordAt } from './render.ts';
import { outcome } from './system.ts';

/** 1 MiB. */
const ROWS = 256;
const { start, end, read, rw } = DMA_BUF_SYNC;
const numbers = Array.from({ length: ROWS }, (_, i) => i);
const inverse = (i: number): number => ~i >>> 0;

describe('a buffer of the software card in the GPU', () => {
  it('PVG-01: the GPU reads what the CPU wrote, row by row, although its producer has let go of it', () => {
    const r = new Render();
    r.run(function* () {
      const { app, card } = r;
      const { handle, fd, map, gpu } = yield* r.share(ROWS);
      for (let i = 0; i < ROWS; i++) map.write(i * ROW_BYTES, word(i));
      map.munmap();
      yield* app.ioctl(card, DRM_IOCTL_GEM_CLOSE, { handle });
      yield* app.close(fd);
      const seen = [];
      for (let i = 0; i < ROWS; i++) seen.push(yield* r.gpuRead(gpu, i));
      expect(seen).toEqual(numbers);
    });
  });

  it('PVG-02: the producer sees what the GPU wrote, row by row', () => {
    const r = new Render();
    r.run(function* () {
      const { map, gpu } = yield* r.share(ROWS);
      for (let i = 0; i < ROWS; i++) yield* r.gpuWrite(gpu, i, i);
      expect(numbers.map((i) => wordAt(map.read(i * ROW_BYTES, 4)))).toEqual(numbers);
    });
  });

  it('PVG-03: two mappings of it, one by the object and one by the descriptor, agree both ways', () => {
    const r = new Render();
    r.run(function* () {
      const { fd, map } = yield* r.share(ROWS);
      const aperture = yield* r.app.mmap(fd);
      for (let i = 0; i < ROWS; i++) aperture.write(i * ROW_BYTES, word(i));
      const seen = [];
      for (let i = 0; i < ROWS; i++) {
        seen.push(wordAt(map.read(i * ROW_BYTES, 4)));
        map.write(i * ROW_BYTES, word(inverse(i)));
      }
      expect(seen).toEqual(numbers);
      expect(numbers.map((i) => wordAt(aperture.read(i * ROW_BYTES, 4)))).toEqual(numbers.map(inverse));
    });
  });

  it('PVG-04: what the GPU copies in the producer sees, and what it writes instead the GPU copies out', () => {
    const r = new Render();
    const rows = 64;
    r.run(function* () {
      const { fd, map, gpu } = yield* r.share(rows);
      const native = yield* r.native(rows);
      for (let i = 0; i < rows; i++) yield* r.gpuWrite(native, i, i);
      yield* r.blit(native, gpu, rows);
      yield* r.app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: start | rw });
      for (let i = 0; i < rows; i++) {
        expect(wordAt(map.read(i * ROW_BYTES, 4))).toBe(i);
        map.write(i * ROW_BYTES, word(inverse(i)));
      }
      yield* r.app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: end | rw });
      yield* r.blit(gpu, native, rows);
      for (let i = 0; i < rows; i++) expect(yield* r.gpuRead(native, i)).toBe(inverse(i));
    });
  });

  it('PVG-07: the same row by row, each with a bracket of its own', () => {
    const r = new Render();
    const rows = 64;
    r.run(function* () {
      const { fd, map, gpu } = yield* r.share(rows);
      const native = yield* r.native(rows);
      for (let i = 0; i < rows; i++) {
        yield* r.gpuWrite(native, i, i);
        yield* r.blit(native, gpu, 1, i);
        yield* r.app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: start | rw });
        expect(wordAt(map.read(i * ROW_BYTES, 4))).toBe(i);
        map.write(i * ROW_BYTES, word(inverse(i)));
        yield* r.app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: end | rw });
        yield* r.blit(gpu, native, 1, i);
        expect(yield* r.gpuRead(native, i)).toBe(inverse(i));
      }
    });
  });
});

describe('a job of the GPU in the buffer of the software card', () => {
  it('PVG-08: a bracket for reading opens when the job is over', () => {
    const r = new Render();
    r.run(function* () {
      const { fd, map, gpu } = yield* r.share();
      const fence = yield* r.count(gpu, ms(5));
      expect(fence.signaled).toBe(false);
      yield* r.app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: start | read });
      expect(fence.signaled).toBe(true);
      expect(r.sim.now).toBeGreaterThanOrEqual(ms(5));
      expect(map.read(0, ROW_BYTES)).toEqual(counted());
      yield* r.app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: end | read });
    });
  });

  it('PVG-09: poll says busy for reading and writing until the job is over', () => {
    const r = new Render();
    r.run(function* () {
      const { fd, map, gpu } = yield* r.share();
      const fence = yield* r.count(gpu, ms(5));
      const seen = new Set<string>();
      for (let busy = yield* r.busy(fd); busy !== ''; busy = yield* r.busy(fd)) {
        expect(fence.signaled).toBe(false);
        seen.add(busy);
        yield* r.sim.delay(ms(1));
      }
      expect([...seen]).toEqual(['RW']);
      expect(map.read(0, ROW_BYTES)).toEqual(counted());
    });
  });

  it('PVG-10: a poll that waits at most 10 s comes back when the job is over', () => {
    const r = new Render();
    r.run(function* () {
      const { fd, map, gpu } = yield* r.share();
      yield* r.count(gpu, ms(5));
      const request = { fd, events: POLL.in, revents: 0 };
      expect(yield* r.app.poll([request], ms(10_000))).toBe(1);
      expect(request.revents).toBe(POLL.in);
      expect(r.sim.now).toBeLessThan(ms(6));
      expect(map.read(0, ROW_BYTES)).toEqual(counted());
    });
  });
});

describe('a fence that the producer attaches', () => {
  /** The GPU, as another process drives it, gets at the buffer while the producer has a write fence on it. */
  function behindFence(waitNs: number, look: (r: Render, shared: Parameters<typeof r.blit>[0]) => Op<number>): void {
    const r = new Render();
    r.run(function* () {
      const { handle, map, gpu } = yield* r.share();
      expect(yield* r.gpuRead(gpu)).toBe(0);
      const fence = yield* r.attachFence(handle);
      let seen = -1;
      const child = r.sim.spawn('child', function* () {
        seen = yield* look(r, gpu);
      });
      yield* r.sim.delay(waitNs);
      expect([seen, child.outcome]).toEqual([-1, null]);
      map.write(0, word(7));
      yield* r.sim.delay(waitNs);
      map.write(0, word(4711));
      yield* r.signalFence(fence);
      yield* child.done;
      expect(seen).toBe(4711);
    });
  }

  it('PVG-11: holds up a read of the GPU: it sees all that was filled in, never a part', () => {
    behindFence(ms(1), (r, gpu) => r.gpuRead(gpu));
  });

  it('PVG-13: holds up a copy of the GPU although the producer begins 50 ms later', () => {
    behindFence(ms(50), function* (r, gpu) {
      const native = yield* r.native();
      yield* yield* r.blit(gpu, native);
      return yield* r.gpuRead(native);
    });
  });

  it('PVG-14: holds up a flip, which does not block; it happens at the next vblank after the signal', () => {
    const r = new Render();
    const mode = { pixelClockKhz: 200_000, hdisplay: 16, htotal: 20, vdisplay: 8, vtotal: 10 };
    const display = new Display(r.system.device('display0'), { mode, strideAlignBytes: 32 });
    r.run(function* () {
      const shared = [yield* r.share(), yield* r.share()];
      const format = { width: 16, height: 8, strideBytes: 64, format: 'XR24' } as const;
      const framebuffers = [];
      for (const { gpu } of shared) framebuffers.push(yield* display.importFramebuffer(gpu.buf, format));
      const [first, second] = framebuffers;
      if (first === undefined || second === undefined) throw new Error('no framebuffers');
      display.enable();
      yield* display.pageFlip(first);
      const fence = yield* r.attachFence(shared[1]?.handle ?? 0);
      const asked = r.sim.now;
      const flip = display.queueFlip(second);
      expect(r.sim.now).toBe(asked);
      let last = yield* display.waitVblank();
      for (let i = 0; i < 5; i++) {
        last = yield* display.waitVblank();
        expect([display.flipPending, display.current]).toEqual([true, first]);
      }
      yield* r.signalFence(fence);
      expect((yield* flip).vblankSequence).toBe(last.vblankSequence + 1);
      expect(display.current).toBe(second);
      yield* display.release();
    });
  });

  it('PVG-16: and forgets does not hang the GPU: its time is up after 10 s, and the late signal is an error', () => {
    const r = new Render();
    r.run(function* () {
      const { handle, fd, map, gpu } = yield* r.share();
      const fence = yield* r.attachFence(handle);
      const job = yield* r.count(gpu, 0);
      yield* r.sim.delay(ms(9000));
      expect([job.signaled, wordAt(map.read(4, 4)), yield* r.busy(fd)]).toEqual([false, 0, 'RW']);
      yield* job;
      expect(r.sim.now).toBeGreaterThanOrEqual(ms(10_000));
      expect([map.read(0, ROW_BYTES), yield* r.busy(fd)]).toEqual([counted(), '']);
      expect(yield* outcome(() => r.signalFence(fence))).toBe('ETIMEDOUT');
    });
  });

  it('PVG-18: keeps the memory as it is until it signals; a bracket then waits for the job behind it, too', () => {
    const r = new Render();
    r.run(function* () {
      const { handle, fd, map, gpu } = yield* r.share();
      const fence = yield* r.attachFence(handle);
      const child = r.sim.spawn('child', () => r.count(gpu, ms(5)));
      yield* r.sim.delay(ms(1000));
      expect([child.outcome, map.read(0, ROW_BYTES), yield* r.busy(fd)]).toEqual([
        'returned',
        new Uint8Array(ROW_BYTES),
        'RW',
      ]);
      yield* r.signalFence(fence);
      yield* r.app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: start | read });
      expect(map.read(0, ROW_BYTES)).toEqual(counted());
      yield* r.app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: end | read });
    });
  });
});
