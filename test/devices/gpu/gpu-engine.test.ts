/** Jobs that hang. */
import { describe, expect, it } from 'vitest';
import type { GpuBuffer, GpuJob } from '../../../src/devices/gpu/gpu-job.ts';
import { type GpuParams, videoCore6 } from '../../../src/devices/gpu/gpu-params.ts';
import { Gpu } from '../../../src/devices/gpu.ts';
import { DmaResvUsage } from '../../../src/dmabuf/dma-resv.ts';
import { Event } from '../../../src/sim/event.ts';
import { Bench } from '../bench.ts';

const PARAMS: GpuParams = { launchNs: 100, pixelNs: 1, bytesPerNs: 1000, jobTimeoutNs: 5000 };

function setUp(params: GpuParams = PARAMS) {
  const bench = new Bench();
  const gpu = new Gpu(bench.device('gpu0'), params);
  /** A job that writes 1, hangs, and would write 2. */
  const hanging = (buffer: GpuBuffer): GpuJob => ({
    name: 'hanging',
    writes: [buffer],
    *run(memory) {
      memory.write(buffer.gpuVa, Uint8Array.of(1), 0, 1);
      yield* new Event(bench.sim, 'a lost interrupt');
      memory.write(buffer.gpuVa, Uint8Array.of(2), 0, 1);
    },
  });
  const importing = () => bench.sim.run(() => gpu.importBuffer(bench.buffer('buf', 4096)));
  return { bench, sim: bench.sim, gpu, hanging, importing };
}

describe('a job that hangs', () => {
  it('ends when its time is up: its fence signals with ETIMEDOUT, the engine is reset, and the ring goes on', () => {
    const { bench, sim, gpu, hanging, importing } = setUp();
    const buffer = importing();
    sim.run(function* () {
      const hung = yield* gpu.submitSynced(hanging(buffer));
      const next = yield* gpu.submitSynced({ name: 'next', reads: [buffer], run: () => sim.delay(10) });
      yield* next;
      expect([sim.now, hung.signaled, hung.error, next.error]).toEqual([
        100 + 5000 + 100 + 10,
        true,
        'ETIMEDOUT',
        null,
      ]);
      expect([gpu.resets, gpu.pendingJobs, bench.bytesOf(buffer.buf)[0]]).toEqual([1, 0, 1]);
      expect(buffer.buf.resv.testSignaled(DmaResvUsage.bookkeep)).toBe(true);
      yield* gpu.release();
    });
    bench.expectNothingLeft();
  });

  it('does not hang who waits for the buffer by a bracket', () => {
    const { sim, gpu, hanging, importing } = setUp();
    const buffer = importing();
    sim.run(function* () {
      yield* gpu.submitSynced(hanging(buffer));
      yield* buffer.buf.beginCpuAccess('from-device');
      expect(sim.now).toBe(5100);
      yield* buffer.buf.endCpuAccess('from-device');
      yield* gpu.release();
    });
  });

  it('is not what a job does that waits for fences longer than that, or that is done just in time', () => {
    const { bench, sim, gpu } = setUp();
    const late = bench.fence();
    sim.run(function* () {
      sim.after(20_000, () => {
        late.signal();
        return undefined;
      });
      const waiting = gpu.submit({ name: 'waiting', waits: [late], run: () => sim.delay(4999) });
      yield* waiting;
      expect([waiting.error, gpu.resets, sim.now]).toEqual([null, 0, 25_099]);
    });
  });

  it('blocks the ring for good without a limit', () => {
    const { sim, gpu, hanging, importing } = setUp(videoCore6);
    const buffer = importing();
    const hung = gpu.submit(hanging(buffer));
    expect(() => sim.run(() => hung)).toThrow(/task gpu0 waits for .*a lost interrupt/);
  });

  it('may throw in its time: the error ends the run as without a limit, and the fence carries EIO', () => {
    const { sim, gpu } = setUp();
    const broken = gpu.submit({
      name: 'broken',
      run() {
        throw new Error('shader bug');
      },
    });
    expect(() => sim.run()).toThrow('shader bug');
    expect([broken.signaled, broken.error, gpu.resets]).toEqual([true, 'EIO', 0]);
  });
});

it('refuses a limit that is no whole number of ns above 0', () => {
  for (const jobTimeoutNs of [0, -1, 0.5]) expect(() => setUp({ ...PARAMS, jobTimeoutNs })).toThrow(/jobTimeoutNs/);
});
