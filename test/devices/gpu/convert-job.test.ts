import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { GpuParams } from '../../../src/devices/gpu/gpu-params.ts';
import { Gpu } from '../../../src/devices/gpu.ts';
import { type FrameLayout, frameLayout } from '../../../src/devices/shared/frame-layout.ts';
import { Bench, expectBytes, failing, pattern } from '../bench.ts';
import { converted } from '../converted.ts';

const PARAMS: GpuParams = { launchNs: 100, pixelNs: 1, bytesPerNs: 1000 };

interface Case {
  readonly format: 'NV12' | 'I420';
  readonly width: number;
  readonly height: number;
  readonly padding: number;
  readonly rowsPerBatch: number | undefined;
  readonly scattered: boolean;
  readonly behindIommu: boolean;
  readonly seed: number;
}

const side = fc.integer({ min: 1, max: 40 }).map((half) => 2 * half);
const cases: fc.Arbitrary<Case> = fc.record({
  format: fc.constantFrom('NV12' as const, 'I420' as const),
  width: side,
  height: side,
  padding: fc.integer({ min: 0, max: 6 }).map((n) => 4 * n),
  rowsPerBatch: fc.constantFrom(undefined, 2, 6, 100),
  scattered: fc.boolean(),
  behindIommu: fc.boolean(),
  seed: fc.nat(),
});

describe('Gpu.submitConvert', () => {
  it('gives what the formula gives, for every layout, batch size and kind of memory', () => {
    fc.assert(
      fc.property(cases, (c) => {
        const bench = new Bench();
        const { width, height } = c;
        const source = frameLayout(c.format, { width, height, strideBytes: width + c.padding });
        const target = frameLayout('XR24', { width, height, strideBytes: 4 * width + c.padding });
        const { rowsPerBatch } = c;
        const params = rowsPerBatch === undefined ? PARAMS : { ...PARAMS, rowsPerBatch };
        const gpu = new Gpu(bench.device('gpu0', { behindIommu: c.behindIommu }), params);
        const from = bench.buffer('from', source.sizeBytes, { scattered: c.scattered });
        const to = bench.buffer('to', target.sizeBytes, { scattered: c.scattered });
        const picture = pattern(source.sizeBytes, c.seed);
        bench.fill(from, picture);
        bench.sim.run(function* () {
          const src = yield* gpu.importBuffer(from, { access: 'read' });
          const dst = yield* gpu.importBuffer(to, { access: 'write' });
          const fence = yield* gpu.submitConvert(src, dst, { source, target });
          yield* fence;
          expect([fence.error, gpu.faults]).toEqual([null, []]);
          yield* gpu.release();
        });
        expectBytes(bench.bytesOf(to), converted(picture, source, target));
        bench.expectNothingLeft();
      }),
      { numRuns: 60 },
    );
  });

  it('clips at both ends', () => {
    const bench = new Bench();
    const gpu = new Gpu(bench.device('gpu0'), PARAMS);
    const size = { width: 256, height: 2 };
    const [source, target] = [frameLayout('I420', size), frameLayout('XR24', size)];
    const [from, to] = [bench.buffer('from', source.sizeBytes), bench.buffer('to', target.sizeBytes)];
    for (const [u, v] of [
      [0, 0],
      [0, 255],
      [255, 0],
      [255, 255],
    ] as const) {
      const picture = Uint8Array.from({ length: 512 }, (_, i) => i & 0xff);
      const chroma = [new Uint8Array(128).fill(u), new Uint8Array(128).fill(v)];
      const bytes = Uint8Array.of(...picture, ...(chroma[0] ?? []), ...(chroma[1] ?? []));
      bench.fill(from, bytes);
      bench.sim.run(function* () {
        const [src, dst] = [yield* gpu.importBuffer(from), yield* gpu.importBuffer(to)];
        yield* yield* gpu.submitConvert(src, dst, { source, target });
        yield* gpu.release();
      });
      expectBytes(bench.bytesOf(to), converted(bytes, source, target));
    }
  });

  it('leaves padding zero though a picture of another stride was converted before', () => {
    const bench = new Bench();
    const gpu = new Gpu(bench.device('gpu0'), PARAMS);
    const source = frameLayout('NV12', { width: 8, height: 4 });
    const from = bench.buffer('from', source.sizeBytes);
    bench.fill(from, pattern(source.sizeBytes, 1));
    const outputs = [32, 40, 32, 48].map((strideBytes, i) => {
      const target = frameLayout('XR24', { width: 8, height: 4, strideBytes });
      const to = bench.buffer(`to${i}`, target.sizeBytes);
      bench.sim.run(function* () {
        const [src, dst] = [yield* gpu.importBuffer(from), yield* gpu.importBuffer(to)];
        yield* yield* gpu.submitConvert(src, dst, { source, target });
      });
      return [bench.bytesOf(to), converted(bench.bytesOf(from), source, target)];
    });
    for (const [is, should] of outputs) expect(is).toEqual(should);
  });

  it('reads a batch when its time begins and writes it when its time is over', () => {
    const bench = new Bench();
    const { sim } = bench;
    const size = { width: 16, height: 8 };
    const [source, target] = [frameLayout('NV12', size), frameLayout('XR24', size)];
    const gpu = new Gpu(bench.device('gpu0'), { ...PARAMS, rowsPerBatch: 4 });
    const [from, to] = [bench.buffer('from', source.sizeBytes), bench.buffer('to', target.sizeBytes)];
    const white = new Uint8Array(source.sizeBytes).fill(235).fill(128, 128);
    const black = new Uint8Array(source.sizeBytes).fill(16).fill(128, 128);
    bench.fill(from, white);
    sim.run(function* () {
      const [src, dst] = [yield* gpu.importBuffer(from), yield* gpu.importBuffer(to)];
      const fence = yield* gpu.submitConvert(src, dst, { source, target });
      yield* sim.delay(100 + 32); // in the middle of the first batch of 64 ns
      bench.fill(from, black);
      expect(bench.bytesOf(to)[0]).toBe(0);
      yield* sim.delay(32);
      yield* sim.delay(0);
      expect([bench.bytesOf(to)[0], bench.bytesOf(to)[64 * 4], fence.signaled]).toEqual([255, 0, false]);
      yield* fence;
      expect(sim.now).toBe(100 + 64 + 64);
      const xrgb = bench.bytesOf(to);
      expect([xrgb[0], xrgb[3], xrgb[64 * 4], xrgb[64 * 4 + 3]]).toEqual([255, 255, 0, 255]);
    });
  });

  it('takes the time of memory when that is longer than the shader', () => {
    const bench = new Bench();
    const size = { width: 16, height: 8 };
    const [source, target] = [frameLayout('NV12', size), frameLayout('XR24', size)];
    const gpu = new Gpu(bench.device('gpu0'), { ...PARAMS, bytesPerNs: 0.5 });
    bench.sim.run(function* () {
      const src = yield* gpu.importBuffer(bench.buffer('from', source.sizeBytes));
      const dst = yield* gpu.importBuffer(bench.buffer('to', target.sizeBytes));
      yield* yield* gpu.submitConvert(src, dst, { source, target, frame: 7 });
    });
    expect(bench.frames).toEqual([`gpu0 converted 7 @${100 + 2 * (192 + 512)}`]);
  });

  it('moves no bytes in tag mode and takes the same time', () => {
    const bench = new Bench({ bytes: false });
    const size = { width: 16, height: 8 };
    const [source, target] = [frameLayout('NV12', size), frameLayout('XR24', size)];
    const gpu = new Gpu(bench.device('gpu0', { behindIommu: true }), PARAMS);
    bench.sim.run(function* () {
      const src = yield* gpu.importBuffer(bench.buffer('from', source.sizeBytes));
      const dst = yield* gpu.importBuffer(bench.buffer('to', target.sizeBytes));
      yield* yield* gpu.submitConvert(src, dst, { source, target });
      yield* gpu.release();
    });
    expect(bench.frames).toEqual(['gpu0 converted 1 @228']);
    bench.expectNothingLeft();
  });

  it('refuses pictures that do not go together, with both numbers', () => {
    const bench = new Bench();
    const gpu = new Gpu(bench.device('gpu0'), PARAMS);
    const nv12 = frameLayout('NV12', { width: 16, height: 8 });
    const xrgb = frameLayout('XR24', { width: 16, height: 8 });
    bench.sim.run(function* () {
      const [src, dst] = [
        yield* gpu.importBuffer(bench.buffer('from', 192)),
        yield* gpu.importBuffer(bench.buffer('to', 512)),
      ];
      const other = yield* gpu.importBuffer(bench.buffer('other', 512), { context: gpu.createContext('b') });
      const refused = (source: FrameLayout, target: FrameLayout, to = dst) =>
        failing(() => gpu.submitConvert(src, to, { source, target }));
      expect(yield* refused(xrgb, nv12)).toContain('EINVAL: from XR24 to NV12');
      expect(yield* refused(nv12, frameLayout('XR24', { width: 8, height: 8 }))).toContain('from 16x8 to 8x8');
      expect(yield* refused(nv12, frameLayout('XR24', { width: 16, height: 8, strideBytes: 66 }))).toContain('66');
      const taller = frameLayout('NV12', { width: 16, height: 10 });
      const tallerTarget = frameLayout('XR24', { width: 16, height: 10 });
      expect(yield* refused(taller, tallerTarget)).toContain('from has 192 bytes, its picture needs 240');
      const wider = frameLayout('XR24', { width: 16, height: 8, strideBytes: 68 });
      expect(yield* refused(nv12, wider)).toContain('to has 512 bytes, its picture needs 544');
      expect(yield* refused(nv12, xrgb, other)).toContain('source in context gpu0/context0, target in gpu0/b');
      expect(gpu.pendingJobs).toBe(0);
    });
  });
});
