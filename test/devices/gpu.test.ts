import { describe, expect, it } from 'vitest';
import { iova, physAddr } from '../../src/base/addr.ts';
import { DeadlockError, ErrnoError, HazardError } from '../../src/base/errors.ts';
import type { GpuAddr } from '../../src/devices/gpu/gpu-context.ts';
import type { GpuBuffer, GpuJob } from '../../src/devices/gpu/gpu-job.ts';
import { type GpuParams, videoCore6 } from '../../src/devices/gpu/gpu-params.ts';
import { Gpu } from '../../src/devices/gpu.ts';
import { DmaResvUsage, type DmaResvUsageValue } from '../../src/dmabuf/dma-resv.ts';
import { RandomChooser } from '../../src/sim/chooser.ts';
import type { Op } from '../../src/sim/op.ts';
import { Prng } from '../../src/sim/prng.ts';
import { Bench, errnoMessage, expectBytes, failing, pattern } from './bench.ts';

const PARAMS: GpuParams = { launchNs: 100, pixelNs: 1, bytesPerNs: 1000 };

function setUp(behindIommu = false) {
  const bench = new Bench();
  const dev = bench.device('gpu0', { behindIommu });
  return { bench, sim: bench.sim, dev, gpu: new Gpu(dev, PARAMS) };
}

/** A job that reads `length` bytes of `buffer` from `at` on. */
function reading(buffer: GpuBuffer, at: number, length: number, seen: Uint8Array | null = null): GpuJob {
  return {
    name: 'reading',
    context: buffer.context,
    reads: [buffer],
    run: (memory) => {
      memory.read((buffer.gpuVa + at) as GpuAddr, seen, 0, length);
    },
  };
}

describe('Gpu.submit', () => {
  it('runs jobs one at a time in order, each after its own waits', () => {
    const { bench, sim, gpu } = setUp();
    const gate = bench.fence();
    const log: string[] = [];
    const job = (name: string, ns: number): GpuJob => ({
      name,
      *run() {
        log.push(`${name} begins @${sim.now}`);
        yield* sim.delay(ns);
        log.push(`${name} ends @${sim.now}`);
      },
    });
    sim.after(1000, () => {
      gate.signal();
      return undefined;
    });
    const fences = sim.run(function* () {
      const list = [gpu.submit({ ...job('a', 10), waits: [gate] }), gpu.submit(job('b', 20)), gpu.submit(job('c', 0))];
      expect(gpu.pendingJobs).toBe(3);
      yield* list[1] ?? sim.delay(0);
      expect([sim.now, list.map(({ signaled }) => signaled)]).toEqual([1230, [true, true, false]]);
      yield* list[2] ?? sim.delay(0);
      return list.map(({ name, error }) => `${name} ${error}`);
    });
    expect(log).toEqual([
      'a begins @1100',
      'a ends @1110',
      'b begins @1210',
      'b ends @1230',
      'c begins @1330',
      'c ends @1330',
    ]);
    expect(fences).toEqual(['gpu0:1 null', 'gpu0:2 null', 'gpu0:3 null']);
  });

  it('finishes its work when nobody waits for it, and starts again after a pause', () => {
    const { sim, gpu } = setUp();
    const first = gpu.submit({ name: 'first', run() {} });
    sim.run();
    expect([sim.now, first.signaled]).toEqual([100, true]);
    const second = gpu.submit({ name: 'second', run() {} });
    sim.run();
    expect([sim.now, second.signaled]).toEqual([200, true]);
  });

  it('is named in the deadlock that a fence nobody signals makes', () => {
    const { bench, sim, gpu } = setUp();
    gpu.submit({ name: 'stuck', waits: [bench.fence()], run() {} });
    expect(() => sim.run()).toThrow(DeadlockError);
    expect(() => sim.run()).toThrow(/task gpu0 waits for fence test1:1/);
  });

  it('names its engine as the one that has to signal the fence of a job, also after a job that threw', () => {
    const { bench, sim, gpu } = setUp();
    gpu.submit({
      name: 'broken',
      run() {
        throw new Error('shader bug');
      },
    });
    const stuck = gpu.submit({ name: 'stuck', waits: [bench.fence()], run() {} });
    expect(() => sim.run()).toThrow('shader bug');
    expect(() => sim.run(() => stuck)).toThrow(/task main waits for fence gpu0:2, which task gpu0 has to signal/);
  });

  it('has a timeline of its own, so that fences of two GPUs are never taken for each other', () => {
    const { bench, sim, gpu } = setUp();
    const other = new Gpu(bench.device('gpu1'), PARAMS);
    const buf = bench.buffer('buf', 4096);
    sim.run(function* () {
      const [mine, theirs] = [yield* gpu.importBuffer(buf), yield* other.importBuffer(buf)];
      const first = yield* gpu.submitSynced({ name: 'read', reads: [mine], run() {} });
      const second = yield* other.submitSynced({ name: 'read', reads: [theirs], run() {} });
      expect(first.context.id).not.toBe(second.context.id);
      const kept = buf.resv.fences(DmaResvUsage.read);
      expect([kept.length, kept[0] === first, kept[1] === second]).toEqual([2, true, true]);
      yield* gpu.release();
      yield* other.release();
    });
    bench.expectNothingLeft();
  });

  it('starts a job though a fence it waited for carries an error', () => {
    const { bench, sim, gpu } = setUp();
    const failed = bench.fence();
    failed.setError('EIO');
    failed.signal();
    const fence = gpu.submit({ name: 'job', waits: [failed], run() {} });
    sim.run();
    expect([fence.signaled, fence.error]).toEqual([true, null]);
  });

  it('signals the fence with EIO when the job throws, and runs the next one', () => {
    const { sim, gpu } = setUp();
    const broken = gpu.submit({
      name: 'broken',
      run() {
        throw new Error('shader bug');
      },
    });
    const next = gpu.submit({ name: 'next', run() {} });
    expect(() => sim.run()).toThrow('shader bug');
    sim.run();
    expect([broken.error, next.signaled, next.error]).toEqual(['EIO', true, null]);
  });

  it('refuses buffers of another GPU', () => {
    const { bench, sim, gpu } = setUp();
    const other = new Gpu(bench.device('gpu1'), PARAMS);
    sim.run(function* () {
      const foreign = yield* other.importBuffer(bench.buffer('buf', 4096));
      expect(errnoMessage('EINVAL', () => gpu.submit(reading(foreign, 0, 4)))).toContain('buf is no buffer of gpu0');
      expect(errnoMessage('EINVAL', () => gpu.submitSynced(reading(foreign, 0, 4)))).toContain('gpu0');
      expect(yield* failing(() => gpu.releaseBuffer(foreign))).toContain('buf is no buffer of gpu0');
      yield* other.release();
    });
    expect(gpu.pendingJobs).toBe(0);
    bench.expectNothingLeft();
  });
});

describe('Gpu memory', () => {
  it('reads and writes buffers through both translations, wherever their pages are', () => {
    for (const behindIommu of [false, true]) {
      const { bench, sim, gpu } = setUp(behindIommu);
      const buf = bench.buffer('buf', 5 * 4096, { scattered: true });
      bench.fill(buf, pattern(buf.sizeBytes, 3));
      const out = new Uint8Array(10_000);
      sim.run(function* () {
        const buffer = yield* gpu.importBuffer(buf);
        yield* gpu.submit(reading(buffer, 4000, 10_000, out));
        yield* gpu.submit({
          name: 'writing',
          writes: [buffer],
          run: (memory) => {
            memory.write((buffer.gpuVa + 8190) as GpuAddr, Uint8Array.of(1, 2, 3, 4), 0, 4);
          },
        });
        yield* gpu.release();
      });
      expectBytes(out, pattern(buf.sizeBytes, 3).subarray(4000, 14_000));
      expect([...bench.bytesOf(buf).subarray(8190, 8194)]).toEqual([1, 2, 3, 4]);
      bench.expectNothingLeft();
    }
  });

  it('gives one address different meanings in different contexts', () => {
    const { bench, sim, gpu } = setUp();
    const second = gpu.createContext('second');
    const [a, b] = [bench.buffer('a', 4096), bench.buffer('b', 4096)];
    bench.fill(a, Uint8Array.of(0xaa));
    bench.fill(b, Uint8Array.of(0xbb));
    const seen = [new Uint8Array(1), new Uint8Array(1)] as const;
    sim.run(function* () {
      const inFirst = yield* gpu.importBuffer(a);
      const inSecond = yield* gpu.importBuffer(b, { context: second });
      expect(inFirst.gpuVa).toBe(inSecond.gpuVa);
      gpu.submit(reading(inFirst, 0, 1, seen[0]));
      yield* gpu.submit(reading(inSecond, 0, 1, seen[1]));
    });
    expect([...seen[0], ...seen[1]]).toEqual([0xaa, 0xbb]);
  });

  it('records an access to an unmapped address with its context and fails the job with EFAULT', () => {
    const { bench, sim, gpu } = setUp();
    const { fence, next, buffer } = sim.run(function* () {
      const buffer = yield* gpu.importBuffer(bench.buffer('buf', 4096));
      const fence = gpu.submit({ ...reading(buffer, 4000, 200), frame: { stage: 'read', number: 1 } });
      const next = gpu.submit(reading(buffer, 0, 4));
      yield* next;
      return { fence, next, buffer };
    });
    expect([fence.error, next.error, bench.frames]).toEqual(['EFAULT', null, []]);
    expect(gpu.faults).toEqual([
      {
        gpu: 'gpu0',
        context: 'gpu0/context0',
        job: 'reading',
        gpuVa: buffer.gpuVa + 4096,
        access: 'read',
        reason: 'unmapped',
        timeNs: 100,
      },
    ]);
  });

  it('faults when a device address is taken for a GPU address, and does nothing afterwards', () => {
    const { bench, sim, gpu } = setUp();
    const done: number[] = [];
    sim.run(function* () {
      const buffer = yield* gpu.importBuffer(bench.buffer('buf', 4096));
      const wrong = buffer.import.sgt?.dmaAddress(0) ?? 0;
      yield* gpu.submit({
        name: 'confused',
        writes: [buffer],
        run: (memory) => {
          done.push(memory.write((wrong + 0) as GpuAddr, pattern(4, 0), 0, 4));
          done.push(memory.write(buffer.gpuVa, pattern(4, 0), 0, 4));
        },
      });
    });
    expect(done).toEqual([0, 0]);
    expect(gpu.faults.map(({ gpuVa, access, reason }) => [gpuVa, access, reason])).toEqual([
      [0x8000_0000, 'write', 'unmapped'],
    ]);
  });

  it('refuses writes to what was imported for reading', () => {
    const { bench, sim, gpu } = setUp();
    const fence = sim.run(function* () {
      const buffer = yield* gpu.importBuffer(bench.buffer('buf', 4096), { access: 'read' });
      const fence = gpu.submit({
        name: 'scribble',
        run: (memory) => {
          memory.write(buffer.gpuVa, pattern(4, 0), 0, 4);
        },
      });
      yield* fence;
      return { error: fence.error };
    });
    expect(fence.error).toBe('EFAULT');
    expect(gpu.faults[0]?.reason).toBe('read-only');
  });

  it('tells a fault behind its table apart: EIO, with a record at its port', () => {
    const { bench, sim, dev, gpu } = setUp(true);
    const error = sim.run(function* () {
      const buffer = yield* gpu.importBuffer(bench.buffer('buf', 3 * 4096));
      dev.iommuGroup?.domain?.unmap(iova((buffer.import.sgt?.dmaAddress(0) ?? 0) + 4096), 4096);
      const fence = gpu.submit(reading(buffer, 0, 3 * 4096));
      yield* fence;
      expect(gpu.faults).toMatchObject([{ reason: 'dma', gpuVa: buffer.gpuVa + 4096 }]);
      return fence.error;
    });
    expect([error, dev.port.faultCount]).toEqual(['EIO', 1]);
  });

  it('charges what translation costs to the job', () => {
    const costs = { iotlbHitNs: 3, walkPerLevelNs: 10, mapFixedNs: 0, mapPerPageNs: 0, unmapFixedNs: 0 };
    const iommuCosts = { ...costs, unmapPerPageNs: 0, invalidateFixedNs: 0, invalidatePerPageNs: 0 };
    const bench = new Bench({ iommuCosts });
    const gpu = new Gpu(bench.device('gpu0', { behindIommu: true }), PARAMS);
    bench.sim.run(function* () {
      const buffer = yield* gpu.importBuffer(bench.buffer('buf', 4096));
      yield* gpu.submit(reading(buffer, 0, 4096));
    });
    expect(bench.sim.now).toBeGreaterThan(100);
  });

  it('ends the run with the hazard when a job reads stale bytes, and still signals', () => {
    const { bench, sim, gpu } = setUp();
    const fence = sim.run(function* () {
      const buffer = yield* gpu.importBuffer(bench.buffer('buf', 4096));
      const app = { name: 'app', kind: 'cpu', via: 'mmap', beforeRead: '', afterWrite: 'end' } as const;
      bench.coherency.cpuWrite(physAddr(0x8000_0000), Uint8Array.of(1), 0, 1, 'cached', app);
      return [gpu.submit(reading(buffer, 0, 64, new Uint8Array(64)))];
    });
    expect(() => sim.run()).toThrow(HazardError);
    expect([sim.hazards[0]?.hazard, fence[0]?.error, gpu.pendingJobs]).toEqual(['device-read.stale', 'EIO', 0]);
  });
});

describe('Gpu.submitSynced', () => {
  it('leaves its fence as READ and as WRITE, and waits for writers and for all users', () => {
    const { bench, sim, gpu } = setUp();
    const [from, to] = [bench.buffer('from', 4096), bench.buffer('to', 4096)];
    const foreign = {
      reader: bench.fenceOn(from, DmaResvUsage.read),
      writer: bench.fenceOn(from, DmaResvUsage.write),
      user: bench.fenceOn(to, DmaResvUsage.read),
      book: bench.fenceOn(to, DmaResvUsage.bookkeep),
    };
    const fence = sim.run(function* () {
      const [src, dst] = [yield* gpu.importBuffer(from), yield* gpu.importBuffer(to)];
      return [yield* gpu.submitSynced({ name: 'copy', reads: [src], writes: [dst], run() {} })];
    })[0];
    const names = (buf: typeof from, usage: DmaResvUsageValue) => buf.resv.fences(usage).map(({ name }) => name);
    expect(names(from, DmaResvUsage.write)).toEqual(['test2:1']);
    expect(names(from, DmaResvUsage.read)).toEqual(['test1:1', 'test2:1', 'gpu0:1']);
    expect(names(to, DmaResvUsage.write)).toEqual(['gpu0:1']);
    sim.runUntil(1000);
    foreign.writer.signal();
    sim.runUntil(2000);
    expect(fence?.signaled).toBe(false);
    foreign.user.signal();
    sim.run();
    expect([fence?.signaled, sim.now, foreign.reader.signaled, foreign.book.signaled]).toEqual([
      true,
      2100,
      false,
      false,
    ]);
    expect(to.resv.testSignaled(DmaResvUsage.read)).toBe(true);
  });

  it('is WRITE on a buffer that it reads and writes', () => {
    const { bench, sim, gpu } = setUp();
    const buf = bench.buffer('buf', 4096);
    sim.run(function* () {
      const buffer = yield* gpu.importBuffer(buf);
      yield* gpu.submitSynced({ name: 'in place', reads: [buffer], writes: [buffer], run() {} });
      expect(buf.resv.fences(DmaResvUsage.write)).toHaveLength(1);
      yield* gpu.release();
    });
    bench.expectNothingLeft();
  });

  it('orders two GPUs that work on the same buffers in opposite directions, in any schedule', () => {
    for (let seed = 1; seed <= 30; seed++) {
      const bench = new Bench({ chooser: new RandomChooser(new Prng(seed).fork('schedule')) });
      const { sim } = bench;
      const gpus = [0, 1].map((i) => new Gpu(bench.device(`gpu${i}`), PARAMS));
      const [a, b] = [bench.buffer('a', 4096), bench.buffer('b', 4096)];
      const busy: string[] = [];
      let most = 0;
      const work = function* (gpu: Gpu, turned: boolean): Op<void> {
        const imports = [yield* gpu.importBuffer(turned ? b : a), yield* gpu.importBuffer(turned ? a : b)];
        for (let i = 0; i < 3; i++) {
          yield* gpu.submitSynced({
            name: 'copy',
            reads: imports.slice(0, 1),
            writes: imports.slice(1),
            *run() {
              most = Math.max(most, busy.push(gpu.dev.name));
              yield* sim.delay(10);
              busy.pop();
            },
          });
        }
        yield* gpu.release();
      };
      gpus.forEach((gpu, i) => {
        sim.spawn(`driver${i}`, () => work(gpu, i === 1));
      });
      sim.run();
      expect([most, sim.now]).toEqual([1, 6 * 110]);
      bench.expectNothingLeft();
    }
  });

  it('leaves no lock and no job when its task is killed while it waits for a lock', () => {
    const { bench, sim, gpu } = setUp();
    const [a, b] = [bench.buffer('a', 4096), bench.buffer('b', 4096)];
    sim.run(function* () {
      const buffers = [yield* gpu.importBuffer(a), yield* gpu.importBuffer(b)];
      yield* b.resv.lock();
      const task = sim.spawn('driver', () => gpu.submitSynced({ name: 'job', reads: buffers, run() {} }));
      yield* sim.delay(5);
      expect([a.resv.isLocked, gpu.pendingJobs]).toEqual([true, 0]);
      task.kill();
      yield* task.exit;
      expect([a.resv.isLocked, gpu.pendingJobs]).toEqual([false, 0]);
      b.resv.unlock();
      yield* gpu.release();
    });
    bench.expectNothingLeft();
  });

  it('carries a job to its end though the task that submitted it is killed', () => {
    const { bench, sim, gpu } = setUp();
    const buf = bench.buffer('buf', 4096);
    sim.run(function* () {
      const buffer = yield* gpu.importBuffer(buf);
      const task = sim.spawn('app', function* () {
        yield* yield* gpu.submitSynced({ name: 'job', writes: [buffer], run: () => sim.delay(50) });
      });
      yield* sim.delay(120);
      task.kill();
      yield* task.exit;
      expect(buf.resv.testSignaled(DmaResvUsage.write)).toBe(false);
      yield* gpu.release();
      expect(sim.now).toBe(150);
    });
    bench.expectNothingLeft();
  });
});

describe('Gpu buffers', () => {
  it('stay until the jobs that use them are over', () => {
    const { bench, sim, gpu } = setUp(true);
    sim.run(function* () {
      const buffer = yield* gpu.importBuffer(bench.buffer('buf', 4096));
      const fence = gpu.submit({ ...reading(buffer, 0, 4), waits: [], run: () => sim.delay(400) });
      const second = sim.spawn('second', () => failing(() => gpu.releaseBuffer(buffer)));
      yield* gpu.releaseBuffer(buffer);
      expect([sim.now, fence.signaled, gpu.context.mappingCount]).toEqual([500, true, 0]);
      expect(yield* second.done).toContain('EINVAL: buf is no buffer of gpu0');
    });
    bench.expectNothingLeft();
  });

  it('leave nothing when mapping fails after attach, or the segments are no whole pages', () => {
    const { bench, sim, gpu } = setUp(true);
    const refusing = bench.buffer('refusing', 4096, {
      ops: {
        mapDmaBuf() {
          throw new ErrnoError('ENOMEM', 'map');
        },
      },
    });
    expect(errnoMessage('ENOMEM', () => sim.run(() => gpu.importBuffer(refusing)))).toBe('map: ENOMEM');
    const direct = new Gpu(bench.device('gpu1'), PARAMS);
    const crooked = bench.buffer('crooked', 4096);
    Object.assign(crooked.priv[0] ?? {}, { phys: physAddr(0x8000_0800) });
    errnoMessage('EINVAL', () => sim.run(() => direct.importBuffer(crooked)));
    expect([gpu.context.mappingCount, direct.context.mappingCount, gpu.buffers.length]).toEqual([0, 0, 0]);
    bench.expectNothingLeft();
  });

  it('leave nothing when the import is killed in the exporter', () => {
    const { bench, sim, gpu } = setUp(true);
    const slow = bench.buffer('slow', 4096, {
      ops: {
        *mapDmaBuf() {
          yield* sim.delay(1e6);
          throw new ErrnoError('EIO', 'map');
        },
      },
    });
    sim.run(function* () {
      const task = sim.spawn('importer', () => gpu.importBuffer(slow));
      yield* sim.delay(10);
      expect(slow.attachments).toHaveLength(1);
      task.kill();
      yield* task.exit;
    });
    bench.expectNothingLeft();
  });

  it('refuses parameters out of range, by name', () => {
    const { dev } = setUp();
    const bad = (params: Partial<GpuParams>) => () => new Gpu(dev, { ...videoCore6, ...params });
    expect(bad({ launchNs: 0.5 })).toThrow('launchNs: 0.5');
    expect(bad({ pixelNs: Number.NaN })).toThrow('pixelNs: NaN');
    expect(bad({ bytesPerNs: 0 })).toThrow('bytesPerNs: 0');
    expect(bad({ rowsPerBatch: 3 })).toThrow('rowsPerBatch: 3');
  });
});
