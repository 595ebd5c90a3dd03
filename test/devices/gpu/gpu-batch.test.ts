/** Commands that were recorded and not submitted: the kernel calls their buffers idle. */
import { describe, expect, it } from 'vitest';
import type { HazardFacts } from '../../../src/base/hazards.ts';
import type { GpuBatch } from '../../../src/devices/gpu/gpu-batch.ts';
import type { GpuBuffer, GpuJob } from '../../../src/devices/gpu/gpu-job.ts';
import { Gpu } from '../../../src/devices/gpu.ts';
import type { DmaBuf } from '../../../src/dmabuf/dma-buf.ts';
import { DmaResvUsage } from '../../../src/dmabuf/dma-resv.ts';
import type { Op } from '../../../src/sim/op.ts';
import { Bench, errnoMessage } from '../bench.ts';

const APP = { name: 'app', kind: 'cpu', via: 'mmap', beforeRead: '', afterWrite: '' } as const;
const PARAMS = { launchNs: 100, pixelNs: 1, bytesPerNs: 1000 };
const WRONG = 'fence.unsubmitted-batch';

/** A GPU that draws from `texture` to `target`, and a buffer it has nothing to do with. */
class Scene {
  readonly bench = new Bench({ hazards: 'record' });
  readonly sim = this.bench.sim;
  readonly gpu = new Gpu(this.bench.device('gpu0', { coherent: true }), PARAMS);
  readonly texture: GpuBuffer;
  readonly target: GpuBuffer;
  readonly other: GpuBuffer;

  constructor() {
    const imported = (name: string) => this.sim.run(() => this.gpu.importBuffer(this.bench.buffer(name, 4096)));
    this.texture = imported('texture');
    this.target = imported('target');
    this.other = imported('other');
  }

  /** Copies a byte. */
  draw(): GpuJob {
    const { texture, target } = this;
    return {
      name: 'draw',
      reads: [texture],
      writes: [target],
      run(memory) {
        const byte = new Uint8Array(1);
        memory.read(texture.gpuVa, byte, 0, 1);
        memory.write(target.gpuVa, byte, 0, 1);
      },
    };
  }

  batch(name = 'frame'): GpuBatch {
    const batch = this.gpu.batch({ name });
    batch.add(this.draw());
    return batch;
  }

  /** The CPU reads the first byte. */
  read({ buf }: GpuBuffer): number {
    const out = new Uint8Array(1);
    this.bench.coherency.cpuRead(this.#phys(buf), out, 0, 1, 'uncached', APP);
    return out[0] ?? -1;
  }

  write({ buf }: GpuBuffer, value: number): void {
    this.bench.coherency.cpuWrite(this.#phys(buf), Uint8Array.of(value), 0, 1, 'uncached', APP);
  }

  /** Runs a program and gives everything back. @returns the hazards. */
  play(body: () => Op<void>): HazardFacts[] {
    this.sim.run(body);
    this.sim.run(() => this.gpu.release());
    this.bench.expectNothingLeft();
    return this.sim.hazards;
  }

  #phys(buf: DmaBuf) {
    return this.bench.buffers.find(({ name }) => name === buf.name)?.priv[0]?.phys ?? expect.fail('no memory');
  }
}

const codes = (hazards: readonly HazardFacts[]): string[] => hazards.map(({ hazard }) => hazard);

describe('GpuBatch', () => {
  it('submits in order when it is flushed, with fences on the buffers, and is empty then', () => {
    const s = new Scene();
    const ran: string[] = [];
    const job = (name: string): GpuJob => ({ name, writes: [s.target], run: () => void ran.push(name) });
    s.play(function* () {
      const batch = s.gpu.batch();
      batch.add(job('a'));
      batch.add(job('b'));
      yield* s.sim.delay(1000);
      expect([batch.name, batch.pendingJobs, s.gpu.pendingJobs, ran]).toEqual(['batch1', 2, 0, []]);
      expect(s.target.buf.resv.testSignaled(DmaResvUsage.read)).toBe(true);
      const fences = yield* batch.flush();
      expect([batch.pendingJobs, s.gpu.pendingJobs, s.target.buf.resv.testSignaled(DmaResvUsage.write)]).toEqual([
        0,
        2,
        false,
      ]);
      for (const fence of fences) yield* fence;
      expect([fences.map(({ name }) => name), ran]).toEqual([
        ['gpu0:1', 'gpu0:2'],
        ['a', 'b'],
      ]);
      expect(yield* batch.flush()).toEqual([]);
    });
  });

  it('leaves reservations alone when it is not to be synced', () => {
    const s = new Scene();
    s.play(function* () {
      const batch = s.gpu.batch({ synced: false });
      batch.add(s.draw());
      const [fence] = yield* batch.flush();
      expect([fence?.signaled, s.target.buf.resv.testSignaled(DmaResvUsage.bookkeep)]).toEqual([false, true]);
      yield* fence ?? expect.fail('no fence');
    });
  });

  it('keeps what could not be submitted, until it is discarded', () => {
    const s = new Scene();
    s.play(function* () {
      const batch = s.batch();
      batch.add({ name: 'other', writes: [s.other], run() {} });
      batch.add(s.draw());
      yield* s.gpu.releaseBuffer(s.other);
      let message = '';
      try {
        yield* batch.flush();
      } catch (error) {
        message = String(error);
      }
      expect([message, batch.pendingJobs, s.gpu.pendingJobs]).toEqual([
        expect.stringContaining('EINVAL: other is no buffer of gpu0'),
        2,
        1,
      ]);
      batch.discard();
      expect([batch.pendingJobs, yield* batch.flush()]).toEqual([0, []]);
    });
    const foreign = new Scene();
    expect(errnoMessage('EINVAL', () => s.gpu.batch().add(foreign.draw()))).toContain('is no buffer of gpu0');
  });
});

describe('a buffer that a batch is to write', () => {
  it('is idle to the kernel; who asks and then reads it gets what was there before, and is told so', () => {
    const s = new Scene();
    const hazards = s.play(function* () {
      s.write(s.texture, 7);
      const batch = s.batch();
      expect(s.target.buf.resv.testSignaled(DmaResvUsage.write)).toBe(true);
      yield* s.target.buf.beginCpuAccess('from-device');
      expect(s.sim.now).toBe(0);
      expect(s.read(s.target)).toBe(0);
      s.read(s.target);
      yield* s.target.buf.endCpuAccess('from-device');
      batch.discard();
    });
    expect(hazards).toEqual([
      {
        hazard: WRONG,
        batch: "batch 'frame' of gpu0",
        buf: 'target',
        who: 'app',
        what: 'was asked for its fences at 0 ns and is read',
        site: '',
        timeNs: 0,
        remedy: "flush batch 'frame' of gpu0 before asking whether target is idle",
      },
    ]);
  });

  it('is right to read when the batch was flushed before the question', () => {
    const s = new Scene();
    const hazards = s.play(function* () {
      s.write(s.texture, 7);
      yield* s.batch().flush();
      yield* s.target.buf.beginCpuAccess('from-device');
      expect(s.read(s.target)).toBe(7);
      yield* s.target.buf.endCpuAccess('from-device');
    });
    expect(hazards).toEqual([]);
  });

  it('may be read by who asked before the job was added, and by who asked nobody', () => {
    const s = new Scene();
    const hazards = s.play(function* () {
      yield* s.target.buf.beginCpuAccess('from-device');
      const batch = s.batch();
      s.read(s.target);
      yield* s.target.buf.endCpuAccess('from-device');
      s.read(s.target);
      for (const fence of yield* batch.flush()) yield* fence;
    });
    expect(hazards).toEqual([]);
  });

  it('does not make other buffers suspect, nor what the batch only reads a thing not to be read', () => {
    const s = new Scene();
    const hazards = s.play(function* () {
      const batch = s.batch();
      for (const { buf } of [s.texture, s.target, s.other]) yield* buf.beginCpuAccess('bidirectional');
      s.read(s.other);
      s.write(s.other, 1);
      s.read(s.texture);
      batch.discard();
      s.read(s.target);
      s.write(s.texture, 1);
    });
    expect(hazards).toEqual([]);
  });

  it('is no longer suspect when it was released', () => {
    const s = new Scene();
    const hazards = s.play(function* () {
      const batch = s.batch();
      yield* s.target.buf.beginCpuAccess('from-device');
      yield* s.gpu.releaseBuffer(s.target);
      s.read(s.target);
      batch.discard();
    });
    expect(hazards).toEqual([]);
  });
});

describe('a buffer that a batch is to read', () => {
  it('is not to be written by who asked whether it is idle: the batch will draw something else', () => {
    const s = new Scene();
    const hazards = s.play(function* () {
      s.write(s.texture, 1);
      const batch = s.batch();
      yield* s.texture.buf.beginCpuAccess('to-device');
      s.write(s.texture, 2);
      yield* s.texture.buf.endCpuAccess('to-device');
      for (const fence of yield* batch.flush()) yield* fence;
      expect(s.read(s.target)).toBe(2);
    });
    expect(hazards).toMatchObject([{ hazard: WRONG, buf: 'texture', what: expect.stringContaining('is written') }]);
  });
});

describe('another device', () => {
  function second(s: Scene, body: (other: Gpu, target: GpuBuffer, batch: GpuBatch) => Op<void>): HazardFacts[] {
    const other = new Gpu(s.bench.device('gpu1', { coherent: true }), PARAMS);
    return s.play(function* () {
      const target = yield* other.importBuffer(s.target.buf, { access: 'read' });
      yield* body(other, target, s.batch());
      yield* other.release();
    });
  }
  const reading = (target: GpuBuffer): GpuJob => ({
    name: 'show',
    reads: [target],
    run: (memory) => void memory.read(target.gpuVa, new Uint8Array(1), 0, 1),
  });

  it('that relies on the fences of the buffer is trapped as well', () => {
    const hazards = second(new Scene(), function* (other, target, batch) {
      yield* yield* other.submitSynced(reading(target));
      batch.discard();
    });
    expect(hazards).toMatchObject([{ hazard: WRONG, who: 'gpu1', buf: 'target' }]);
  });

  it('waits for the fences of a batch that was flushed', () => {
    const hazards = second(new Scene(), function* (other, target, batch) {
      yield* batch.flush();
      yield* yield* other.submitSynced(reading(target));
    });
    expect(hazards).toEqual([]);
  });

  it('does no harm with a job that was submitted before', () => {
    const hazards = second(new Scene(), function* (other, target, batch) {
      batch.discard();
      const fence = yield* other.submitSynced(reading(target));
      batch.add({ name: 'later', writes: [], run() {} });
      yield* fence;
      batch.discard();
    });
    expect(hazards).toEqual([]);
  });

  it('of which two batches are in the order in which they were recorded, not flushed', () => {
    const s = new Scene();
    const hazards = s.play(function* () {
      const early = s.gpu.batch({ name: 'early' });
      early.add({ name: 'look', reads: [s.target], run: (m) => void m.read(s.target.gpuVa, new Uint8Array(1), 0, 1) });
      const late = s.batch('late');
      for (const fence of yield* early.flush()) yield* fence;
      for (const fence of yield* late.flush()) yield* fence;
    });
    expect(codes(hazards)).toEqual([]);
  });
});
