/** A GPU whose own cache nobody looks into. */
import { describe, expect, it } from 'vitest';
import type { HazardFacts } from '../../../src/base/hazards.ts';
import type { GpuCacheParams } from '../../../src/devices/gpu/gpu-cache.ts';
import type { GpuJob } from '../../../src/devices/gpu/gpu-job.ts';
import { Gpu } from '../../../src/devices/gpu.ts';
import type { Op } from '../../../src/sim/op.ts';
import { Bench } from '../bench.ts';

const APP = { name: 'app', kind: 'cpu', via: 'mmap', beforeRead: '', afterWrite: '' } as const;
const PARAMS = { launchNs: 100, pixelNs: 1, bytesPerNs: 1000 };

/** The CPU, whose view is uncached, and two buffers' worth of jobs; `coherent`: the GPU's misses look into the CPU's cache. */
class Scene {
  readonly bench = new Bench({ hazards: 'record' });
  readonly sim = this.bench.sim;
  readonly gpu: Gpu;
  readonly buffer;
  readonly seen: number[] = [];

  constructor(cache: GpuCacheParams | undefined, coherent = false) {
    const dev = this.bench.device('gpu0', { coherent });
    this.gpu = new Gpu(dev, { ...PARAMS, ...(cache === undefined ? {} : { cache }) });
    this.buffer = this.sim.run(() => this.gpu.importBuffer(this.bench.buffer('buf', 4096)));
  }

  /** A job that notes what it reads. */
  reading(): GpuJob {
    const { buffer, seen } = this;
    return {
      name: 'reading',
      reads: [buffer],
      run(memory) {
        const byte = new Uint8Array(1);
        memory.read(buffer.gpuVa, byte, 0, 1);
        seen.push(byte[0] ?? -1);
      },
    };
  }

  writing(value: number): GpuJob {
    const { buffer } = this;
    return {
      name: 'writing',
      writes: [buffer],
      run: (memory) => void memory.write(buffer.gpuVa, Uint8Array.of(value), 0, 1),
    };
  }

  cpuReads(): number {
    const out = new Uint8Array(1);
    this.bench.coherency.cpuRead(this.#phys, out, 0, 1, 'uncached', APP);
    return out[0] ?? -1;
  }

  cpuWrites(value: number): void {
    this.bench.coherency.cpuWrite(this.#phys, Uint8Array.of(value), 0, 1, 'uncached', APP);
  }

  play(body: () => Op<void>): readonly HazardFacts[] {
    this.sim.run(body);
    return this.sim.hazards;
  }

  get #phys() {
    return this.bench.buffers[0]?.priv[0]?.phys ?? expect.fail('no memory');
  }
}

const found = (hazards: readonly HazardFacts[]): string[] =>
  hazards.map(({ hazard, remedy }) => `${hazard}: ${remedy}`);

describe('a GPU with a cache', () => {
  it.each([true, false])(
    'is seen and sees when its jobs flush and invalidate, as they do by default (snoops: %s)',
    (coherent) => {
      const s = new Scene({}, coherent);
      const hazards = s.play(function* () {
        for (const value of [1, 2, 3]) {
          s.cpuWrites(value);
          yield* yield* s.gpu.submitSynced(s.reading());
          yield* yield* s.gpu.submitSynced(s.writing(10 * value));
          expect([s.cpuReads(), s.gpu.dirtyLines]).toEqual([10 * value, 0]);
        }
      });
      expect([s.seen, hazards]).toEqual([[1, 2, 3], []]);
    },
  );

  it.each([true, false])('keeps what it wrote until its driver flushes, also when it snoops (%s)', (coherent) => {
    const s = new Scene({ maintenance: 'manual' }, coherent);
    const hazards = s.play(function* () {
      yield* yield* s.gpu.submitSynced(s.writing(7));
      expect([s.cpuReads(), s.gpu.dirtyLines]).toEqual([0, 1]);
      s.gpu.flushCaches();
      expect([s.cpuReads(), s.gpu.dirtyLines]).toEqual([7, 0]);
    });
    expect(found(hazards)).toEqual([expect.stringMatching(/^cpu-read\.stale: .*gpu\.flushCaches\(\)/)]);
  });

  it('reads what it has read before until its driver invalidates', () => {
    const s = new Scene({ maintenance: 'manual' });
    const hazards = s.play(function* () {
      s.cpuWrites(1);
      yield* yield* s.gpu.submitSynced(s.reading());
      s.cpuWrites(2);
      yield* yield* s.gpu.submitSynced(s.reading());
      s.gpu.invalidateCaches();
      yield* yield* s.gpu.submitSynced(s.reading());
    });
    expect(s.seen).toEqual([1, 1, 2]);
    expect(found(hazards)).toEqual([expect.stringMatching(/^device-read\.stale: .*gpu\.invalidateCaches\(\)/)]);
  });

  it('loses what was not flushed when its driver invalidates', () => {
    const s = new Scene({ maintenance: 'manual' });
    const hazards = s.play(function* () {
      yield* yield* s.gpu.submitSynced(s.writing(7));
      s.gpu.invalidateCaches();
    });
    expect(hazards.map(({ hazard }) => hazard)).toEqual(['device-write.lost']);
  });

  it('flushes what a broken job has left before the next one', () => {
    const s = new Scene({});
    const broken: GpuJob = {
      ...s.writing(5),
      run(memory) {
        memory.write(s.buffer.gpuVa, Uint8Array.of(5), 0, 1);
        throw new Error('shader bug');
      },
    };
    s.sim.run(() => void s.gpu.submit(broken));
    expect(() => s.sim.run()).toThrow('shader bug');
    const hazards = s.play(function* () {
      yield* yield* s.gpu.submitSynced(s.reading());
    });
    expect([s.seen, s.cpuReads(), hazards]).toEqual([[5], 5, []]);
  });

  it('takes the time of the lines it writes back, before the fence', () => {
    const s = new Scene({ flushLineNs: 50 });
    s.play(function* () {
      yield* yield* s.gpu.submitSynced(s.writing(7));
      expect(s.sim.now).toBe(150);
      yield* yield* s.gpu.submitSynced(s.reading());
      expect(s.sim.now).toBe(250);
    });
  });

  it('finds unordered accesses as one without', () => {
    const s = new Scene({});
    const hazards = s.play(function* () {
      const fence = s.gpu.submit(s.writing(7));
      s.cpuReads();
      yield* fence;
    });
    expect(hazards.map(({ hazard }) => hazard)).toEqual(['access.read-while-writing']);
  });
});

it('a GPU without one has nothing to flush', () => {
  const s = new Scene(undefined);
  s.play(function* () {
    yield* yield* s.gpu.submitSynced(s.writing(7));
    s.gpu.invalidateCaches();
    s.gpu.flushCaches();
    expect([s.gpu.dirtyLines, s.cpuReads()]).toEqual([0, 7]);
  });
  expect(() => new Scene({ flushLineNs: -1 })).toThrow('cache.flushLineNs: -1');
});
