/** Accesses that no fence orders: found whatever the timing, and silent as soon as somebody waits. */
import { describe, expect, it } from 'vitest';
import type { PhysAddr } from '../../src/base/addr.ts';
import type { HazardFacts } from '../../src/base/hazards.ts';
import type { CameraParams } from '../../src/devices/camera/camera-params.ts';
import { Camera } from '../../src/devices/camera.ts';
import { Display } from '../../src/devices/display.ts';
import type { GpuBuffer, GpuJob } from '../../src/devices/gpu/gpu-job.ts';
import { Gpu } from '../../src/devices/gpu.ts';
import type { DmaBuf } from '../../src/dmabuf/dma-buf.ts';
import type { Op } from '../../src/sim/op.ts';
import { Bench, pattern } from './bench.ts';

const APP = { name: 'app', kind: 'cpu', via: 'mmap', beforeRead: '', afterWrite: '' } as const;
const FORMAT = { width: 16, height: 8, strideBytes: 64, format: 'XR24' } as const;
/** A line takes 100 ns, a frame 1000 ns, of which the first 200 are blanking. */
const MODE = { pixelClockKhz: 200_000, hdisplay: 16, htotal: 20, vdisplay: 8, vtotal: 10 };

/** A compositor's machine, in which everything snoops, so that nothing is stale. */
class Scene {
  readonly bench = new Bench({ hazards: 'record' });
  readonly sim = this.bench.sim;
  readonly gpu = new Gpu(this.bench.device('gpu0', { coherent: true }), { launchNs: 0, pixelNs: 1, bytesPerNs: 1000 });
  readonly display: Display;
  /** The first byte of each line, for every picture that was shown. */
  readonly shown: string[] = [];

  constructor(selfRefresh = true) {
    const onScanout = ({ bytes }: { bytes: Uint8Array | null }): undefined => {
      this.shown.push(Array.from({ length: 8 }, (_, line) => bytes?.[64 * line]).join(''));
    };
    const params = { mode: MODE, strideAlignBytes: 32, linesPerBatch: 1, selfRefresh };
    this.display = new Display(this.bench.device('display0', { coherent: true }), params, { onScanout });
  }

  /** A job that writes the picture line by line, a line in `lineNs`. */
  draw(to: GpuBuffer, value: number, lineNs = 150): GpuJob {
    const { sim } = this;
    return {
      name: 'draw',
      writes: [to],
      *run(memory) {
        for (let line = 0; line < 8; line++) {
          yield* sim.delay(lineNs);
          memory.write((to.gpuVa + 64 * line) as GpuBuffer['gpuVa'], new Uint8Array(64).fill(value), 0, 64);
        }
      },
    };
  }

  cpu(kind: 'read' | 'write', buf: DmaBuf, line: number): void {
    const { coherency } = this.bench;
    const phys = ((this.bench.buffers.find(({ name }) => name === buf.name)?.priv[0]?.phys ?? 0) +
      64 * line) as PhysAddr;
    if (kind === 'read') coherency.cpuRead(phys, new Uint8Array(64), 0, 64, 'cached', APP);
    else coherency.cpuWrite(phys, new Uint8Array(64).fill(9), 0, 64, 'cached', APP);
  }

  /** Runs a program and gives everything back. @returns the hazards. */
  play(body: () => Op<void>): readonly HazardFacts[] {
    this.sim.run(body);
    this.sim.run(() => this.display.release());
    this.sim.run(() => this.gpu.release());
    this.bench.expectNothingLeft();
    expect(this.bench.coherency.activity?.workCount).toBe(0);
    return this.sim.hazards;
  }
}

const remedies = (hazards: readonly HazardFacts[]): string[] =>
  hazards.map(({ hazard, remedy }) => `${hazard}: ${remedy}`);

describe('U-26: a display that knows implicit fences only, and a GPU that leaves none', () => {
  function present(producer: 'explicit' | 'implicit', consumer: 'explicit' | 'implicit', atNs = 880) {
    const s = new Scene();
    const buf = s.bench.buffer('back', 4096);
    const hazards = s.play(function* () {
      const fb = yield* s.display.importFramebuffer(buf, FORMAT);
      const target = yield* s.gpu.importBuffer(buf);
      s.display.enable();
      yield* s.sim.delay(atNs);
      const job = s.draw(target, 1);
      const fence = producer === 'implicit' ? yield* s.gpu.submitSynced(job) : s.gpu.submit(job);
      yield* s.display.pageFlip(fb, consumer === 'explicit' ? { inFence: fence } : {});
      yield* s.display.waitVblank();
    });
    return { shown: s.shown, hazards };
  }

  it('shows a torn picture, and the report names the fence that nobody waited for', () => {
    const { shown, hazards } = present('explicit', 'implicit');
    expect(shown).toEqual(['11110000']);
    expect(remedies(hazards)).toEqual([
      "access.read-while-writing: display0: wait for fence gpu0:1 (job 'draw') before reading",
    ]);
    expect(hazards).toMatchObject([{ fence: 'gpu0:1', work: "job 'draw'" }]);
  });

  it('is found as well when the GPU happens to be fast enough this time', () => {
    const { shown, hazards } = present('explicit', 'implicit', 300);
    expect([shown, remedies(hazards)]).toEqual([
      ['11111111'],
      ["access.read-while-writing: display0: wait for fence gpu0:1 (job 'draw') before reading"],
    ]);
  });

  it.each([
    ['U-27: the fence is handed over explicitly', 'explicit', 'explicit'],
    ['the GPU leaves it on the buffer', 'implicit', 'implicit'],
    ['both', 'implicit', 'explicit'],
  ] as const)('shows the whole picture when %s', (_, producer, consumer) => {
    const { shown, hazards } = present(producer, consumer);
    expect([shown, hazards]).toEqual([['11111111'], []]);
  });
});

describe('a CPU and a job of the GPU', () => {
  function program(body: (s: Scene, target: GpuBuffer) => Op<void>): readonly HazardFacts[] {
    const s = new Scene();
    return s.play(function* () {
      yield* body(s, yield* s.gpu.importBuffer(s.bench.buffer('buf', 4096)));
    });
  }

  it('conflict when the CPU reads before the fence, also when it is so early that it would not tear', () => {
    for (const ns of [0, 1, 149, 151, 1000]) {
      const hazards = program(function* (s, target) {
        s.gpu.submit(s.draw(target, 1));
        yield* s.sim.delay(ns);
        s.cpu('read', target.buf, 0);
        yield* s.sim.delay(5000);
      });
      expect([ns, ...remedies(hazards)]).toEqual([
        ns,
        "access.read-while-writing: app: wait for fence gpu0:1 (job 'draw') before reading",
      ]);
    }
  });

  it('do not when it waits for the fence, or reads lines that the job does not write', () => {
    const hazards = program(function* (s, target) {
      s.cpu('write', target.buf, 0);
      const fence = s.gpu.submit(s.draw(target, 1));
      s.cpu('read', target.buf, 8);
      s.cpu('write', target.buf, 9);
      yield* fence;
      s.cpu('read', target.buf, 0);
      s.cpu('write', target.buf, 0);
    });
    expect(hazards).toEqual([]);
  });

  it('do not while the job waits for a fence of the CPU, nor does a job behind that one', () => {
    const hazards = program(function* (s, target) {
      const filled = s.bench.fence();
      s.gpu.submit({ ...s.draw(target, 1), waits: [filled] });
      const last = s.gpu.submit(s.draw(target, 2));
      s.cpu('write', target.buf, 0);
      yield* s.sim.delay(500);
      s.cpu('write', target.buf, 1);
      filled.signal();
      yield* last;
      s.cpu('read', target.buf, 0);
    });
    expect(hazards).toEqual([]);
  });

  it('are in order for a job that ended by its time limit', () => {
    const s = new Scene();
    const gpu = new Gpu(s.bench.device('gpu1', { coherent: true }), { ...s.gpu.params, jobTimeoutNs: 400 });
    const hazards = s.play(function* () {
      const target = yield* gpu.importBuffer(s.bench.buffer('buf', 4096));
      yield* gpu.submit(s.draw(target, 1));
      s.cpu('write', target.buf, 0);
      s.cpu('write', target.buf, 7);
      yield* gpu.release();
    });
    expect([hazards, gpu.resets]).toEqual([[], 1]);
  });
});

describe('a CPU and a display', () => {
  function program(selfRefresh: boolean, body: (s: Scene, buf: DmaBuf) => Op<void>): readonly HazardFacts[] {
    const s = new Scene(selfRefresh);
    const buf = s.bench.buffer('front', 4096);
    return s.play(function* () {
      const front = yield* s.display.importFramebuffer(buf, FORMAT);
      const back = yield* s.display.importFramebuffer(s.bench.buffer('back', 4096), FORMAT);
      s.cpu('write', buf, 0);
      s.display.enable();
      const flip = s.display.queueFlip(front);
      yield* body(s, buf);
      yield* flip;
      yield* s.display.waitVblank();
      yield* s.sim.delay(100);
      yield* s.display.pageFlip(back);
      s.cpu('write', buf, 0);
      yield* s.sim.delay(2000);
    });
  }

  it('conflict when the CPU draws into what is about to be shown, or is being fetched', () => {
    for (const ns of [0, 999, 1250, 1900]) {
      const hazards = program(true, function* (s, buf) {
        yield* s.sim.delay(ns);
        s.cpu('write', buf, 0);
        s.cpu('write', buf, 7);
      });
      expect([ns, ...remedies(hazards)]).toEqual([
        ns,
        'access.write-while-reading: app: wait for the scanout of front on display0, or for a page flip away from it, before writing',
      ]);
    }
  });

  it('do not when the panel has the whole picture in its memory', () => {
    const hazards = program(true, function* (s, buf) {
      yield* s.sim.delay(1950);
      s.cpu('write', buf, 0);
    });
    expect(hazards).toEqual([]);
  });

  it('conflict as long as a panel without a memory shows the buffer', () => {
    const hazards = program(false, function* (s, buf) {
      yield* s.sim.delay(1950);
      s.cpu('write', buf, 0);
    });
    expect(remedies(hazards)).toEqual([
      'access.write-while-reading: app: wait for a page flip of display0 away from front before writing',
    ]);
  });

  it('do not when the CPU only looks', () => {
    const hazards = program(false, function* (s, buf) {
      for (let i = 0; i < 20; i++) {
        s.cpu('read', buf, i % 8);
        yield* s.sim.delay(100);
      }
    });
    expect(hazards).toEqual([]);
  });
});

describe('a CPU and a camera', () => {
  const PARAMS: CameraParams = {
    ...{ width: 16, height: 8, format: 'NV12', startupNs: 0, lineTimeNs: 100, linesPerBatch: 2 },
    frameRate: { numerator: 500_000, denominator: 1 },
  };

  function program(body: (s: Scene, camera: Camera, buf: DmaBuf) => Op<void>): readonly HazardFacts[] {
    const s = new Scene();
    const device = s.bench.device('camera0', { coherent: true });
    const camera = new Camera(device, PARAMS, { source: (n) => pattern(192, n) });
    return s.play(function* () {
      const buf = s.bench.buffer('frame', 4096);
      const buffer = yield* camera.importBuffer(buf);
      yield* camera.qbuf(buffer);
      s.cpu('write', buf, 0);
      yield* camera.streamOn();
      yield* body(s, camera, buf);
      yield* camera.release();
      s.cpu('write', buf, 0);
    });
  }

  it('conflict when the CPU reads a buffer that the camera has', () => {
    for (const ns of [0, 250, 799]) {
      const hazards = program(function* (s, camera, buf) {
        yield* s.sim.delay(ns);
        s.cpu('read', buf, 0);
        yield* camera.dqbuf();
      });
      expect([ns, ...remedies(hazards)]).toEqual([
        ns,
        'access.read-while-writing: app: dequeue frame from camera0 (dqbuf) before reading',
      ]);
    }
  });

  it('conflict again when the buffer was given back', () => {
    const hazards = program(function* (s, camera, buf) {
      yield* camera.qbuf((yield* camera.dqbuf()).buffer);
      s.cpu('read', buf, 0);
      yield* camera.dqbuf();
    });
    expect(remedies(hazards)).toEqual([
      'access.read-while-writing: app: dequeue frame from camera0 (dqbuf) before reading',
    ]);
  });

  it('do not when it reads what it has dequeued, and gives the buffer back afterwards', () => {
    const hazards = program(function* (s, camera, buf) {
      for (let i = 0; i < 3; i++) {
        const { buffer } = yield* camera.dqbuf();
        s.cpu('read', buf, 0);
        s.cpu('write', buf, 1);
        yield* camera.qbuf(buffer);
      }
      yield* s.sim.delay(100);
    });
    expect(hazards).toEqual([]);
  });

  it('do not when the stream was stopped in the middle of a frame', () => {
    const hazards = program(function* (s, camera, buf) {
      yield* s.sim.delay(450);
      yield* camera.streamOff();
      s.cpu('read', buf, 0);
      s.cpu('write', buf, 1);
    });
    expect(hazards).toEqual([]);
  });
});
