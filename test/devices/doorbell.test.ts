/** What the CPU wrote through a write-combined mapping is in memory when a device is told to begin. */
import { describe, expect, it } from 'vitest';
import type { CameraParams } from '../../src/devices/camera/camera-params.ts';
import { Camera } from '../../src/devices/camera.ts';
import { Display } from '../../src/devices/display.ts';
import { Gpu } from '../../src/devices/gpu.ts';
import type { DmaBuf } from '../../src/dmabuf/dma-buf.ts';
import { Bench } from './bench.ts';

const APP = { name: 'app', kind: 'cpu', via: 'mmap', beforeRead: '', afterWrite: 'dsb' } as const;
const SIZE = { width: 16, height: 8 };

/** A byte of the buffer waits in the write-combining buffer. */
function scribble(bench: Bench, buf: DmaBuf): void {
  const { phys } = bench.buffers.find(({ name }) => name === buf.name)?.priv[0] ?? expect.fail('no memory');
  bench.coherency.cpuWrite(phys, Uint8Array.of(0x5a), 0, 1, 'write-combined', APP);
  expect([bench.coherency.pendingLines, bench.bytesOf(buf)[0]]).toEqual([1, 0]);
}

function expectDrained(bench: Bench, buf: DmaBuf): void {
  expect([bench.coherency.pendingLines, bench.bytesOf(buf)[0]]).toEqual([0, 0x5a]);
}

describe('a write-combining buffer is drained', () => {
  it('by a job that is submitted, inside a task and outside', () => {
    const bench = new Bench();
    const gpu = new Gpu(bench.device('gpu0'), { launchNs: 100, pixelNs: 1, bytesPerNs: 1 });
    const buf = bench.buffer('buf', 4096);
    bench.sim.run(function* () {
      const buffer = yield* gpu.importBuffer(buf);
      scribble(bench, buf);
      const seen = new Uint8Array(1);
      yield* yield* gpu.submitSynced({
        name: 'read',
        reads: [buffer],
        run: (m) => void m.read(buffer.gpuVa, seen, 0, 1),
      });
      expect([...seen]).toEqual([0x5a]);
      expectDrained(bench, buf);
      yield* gpu.release();
    });
    bench.fill(buf, Uint8Array.of(0));
    scribble(bench, buf);
    gpu.submit({ name: 'outside', run() {} });
    expectDrained(bench, buf);
    bench.sim.run();
  });

  it('by a flip that is asked for', () => {
    const bench = new Bench();
    const mode = { pixelClockKhz: 200_000, hdisplay: 16, htotal: 20, vdisplay: 8, vtotal: 10 };
    const display = new Display(bench.device('display0'), { mode, strideAlignBytes: 32 });
    const buf = bench.buffer('fb', 4096);
    bench.sim.run(function* () {
      const fb = yield* display.importFramebuffer(buf, { ...SIZE, strideBytes: 64, format: 'XR24' });
      display.enable();
      scribble(bench, buf);
      const flip = display.queueFlip(fb);
      expectDrained(bench, buf);
      yield* flip;
      yield* display.release();
    });
  });

  it('by a buffer that a camera is given, also when the buffer is mapped already', () => {
    const bench = new Bench();
    const rate = { frameRate: { numerator: 500_000, denominator: 1 }, lineTimeNs: 10, startupNs: 0 };
    const params: CameraParams = { ...SIZE, format: 'NV12', ...rate };
    const camera = new Camera(bench.device('camera0'), params, { source: () => new Uint8Array(192) });
    const buf = bench.buffer('frame', 4096);
    bench.sim.run(function* () {
      const buffer = yield* camera.importBuffer(buf);
      scribble(bench, buf);
      yield* camera.qbuf(buffer);
      expectDrained(bench, buf);
      yield* camera.streamOn();
      yield* camera.dqbuf();
      scribble(bench, buf);
      yield* camera.qbuf(buffer);
      expectDrained(bench, buf);
      yield* camera.release();
    });
  });

  it('by one barrier a submission, which the submitter pays', () => {
    const bench = new Bench();
    let barriers = 0;
    const { barrier } = bench.coherency;
    bench.coherency.barrier = (by) => {
      barriers++;
      barrier.call(bench.coherency, by);
    };
    const gpu = new Gpu(bench.device('gpu0'), { launchNs: 100, pixelNs: 1, bytesPerNs: 1 });
    bench.sim.run(function* () {
      const buffer = yield* gpu.importBuffer(bench.buffer('buf', 4096));
      barriers = 0;
      gpu.submit({ name: 'a', writes: [buffer], run() {} });
      yield* yield* gpu.submitSynced({ name: 'b', writes: [buffer], run() {} });
      expect(barriers).toBe(2);
      yield* gpu.release();
    });
  });
});
