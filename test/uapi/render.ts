/** A process with a software card `V`, whose buffers a GPU `G` works on. */
import type { GpuAddr } from '../../src/devices/gpu/gpu-context.ts';
import type { GpuBuffer, GpuJob } from '../../src/devices/gpu/gpu-job.ts';
import type { GpuParams } from '../../src/devices/gpu/gpu-params.ts';
import { Gpu } from '../../src/devices/gpu.ts';
import type { DmaFence } from '../../src/dmabuf/dma-fence.ts';
import type { Op } from '../../src/sim/op.ts';
import {
  DRM_IOCTL_MODE_MAP_DUMB,
  DRM_IOCTL_VGEM_FENCE_ATTACH,
  DRM_IOCTL_VGEM_FENCE_SIGNAL,
} from '../../src/uapi/drm-ioctl.ts';
import { POLL } from '../../src/uapi/file.ts';
import type { Process } from '../../src/uapi/process.ts';
import type { UserMapping } from '../../src/uapi/user-mapping.ts';
import { allocBuffer, CARDS, createDumb, handleToFd, System } from './system.ts';

export const ROW_BYTES = 4096;
const MS = 1_000_000;

/** One buffer of V, and what it is to G. */
export interface Shared {
  readonly handle: number;
  /** Its dma-buf. */
  readonly fd: number;
  /** V's mapping of its own object. */
  readonly map: UserMapping;
  readonly gpu: GpuBuffer;
}

export class Render {
  readonly system = new System();
  readonly sim = this.system.sim;
  readonly app: Process = this.system.machine.addProcess({ name: 'app' });
  readonly gpu: Gpu;
  card = -1;
  readonly #fences: DmaFence[] = [];

  constructor(params: Partial<GpuParams> = {}) {
    this.gpu = new Gpu(this.system.device('gpu0'), { launchNs: 100, pixelNs: 1, bytesPerNs: 4, ...params });
  }

  /** Runs `body` with V open; gives everything back at the end and checks that nothing is left. */
  run(body: () => Op<void>): void {
    this.sim.run(() => this.#all(body));
    this.sim.run();
    this.system.expectNothingLeft();
  }

  /** A buffer of V with `rows` rows, imported by G. */
  *share(rows = 1): Op<Shared> {
    const { app, card } = this;
    const handle = yield* createDumb(app, card, rows);
    const fd = yield* handleToFd(app, card, handle);
    const { offset } = yield* app.ioctl(card, DRM_IOCTL_MODE_MAP_DUMB, { handle });
    const map = yield* app.mmap(card, { offset, length: rows * ROW_BYTES });
    return { handle, fd, map, gpu: yield* this.importFd(fd) };
  }

  /** A buffer of the heap for G alone. */
  *native(rows = 1): Op<GpuBuffer> {
    const fd = yield* allocBuffer(this.app, rows * ROW_BYTES);
    const buffer = yield* this.importFd(fd);
    yield* this.app.close(fd);
    return buffer;
  }

  *importFd(fd: number): Op<GpuBuffer> {
    const buf = this.app.fds.get(fd);
    try {
      return yield* this.gpu.importBuffer(buf);
    } finally {
      buf.put();
    }
  }

  /** Gives a job to G. @returns its fence, which is put at the end. */
  *submit(job: GpuJob): Op<DmaFence> {
    const fence = yield* this.gpu.submitSynced(job);
    this.#fences.push(fence);
    return fence;
  }

  /** G reads the word at the start of a row; ready when its job is over. */
  *gpuRead(buffer: GpuBuffer, row = 0): Op<number> {
    const seen = new Uint8Array(4);
    const at = (buffer.gpuVa + row * ROW_BYTES) as GpuAddr;
    yield* yield* this.submit({
      name: 'read',
      reads: [buffer],
      run(memory) {
        memory.read(at, seen, 0, 4);
      },
    });
    return wordAt(seen);
  }

  *gpuWrite(buffer: GpuBuffer, value: number, row = 0): Op<void> {
    const at = (buffer.gpuVa + row * ROW_BYTES) as GpuAddr;
    const bytes = word(value);
    yield* yield* this.submit({
      name: 'write',
      writes: [buffer],
      run(memory) {
        memory.write(at, bytes, 0, 4);
      },
    });
  }

  /** Copies `rows` rows from `row` on. @returns the job's fence. */
  blit(from: GpuBuffer, to: GpuBuffer, rows = 1, row = 0): Op<DmaFence> {
    const run: GpuJob['run'] = (memory) => {
      const bytes = new Uint8Array(rows * ROW_BYTES);
      memory.read((from.gpuVa + row * ROW_BYTES) as GpuAddr, bytes, 0, bytes.length);
      memory.write((to.gpuVa + row * ROW_BYTES) as GpuAddr, bytes, 0, bytes.length);
    };
    return this.submit({ name: 'blit', reads: [from], writes: [to], run });
  }

  /** A job that takes `ns` and then has written 0, 1, 2, … 1023 at the start of `to`. @returns its fence. */
  count(to: GpuBuffer, ns: number, reads: readonly GpuBuffer[] = []): Op<DmaFence> {
    const { sim } = this;
    return this.submit({
      name: 'count',
      reads,
      writes: [to],
      *run(memory) {
        yield* sim.delay(ns);
        memory.write(to.gpuVa, counted(), 0, ROW_BYTES);
      },
    });
  }

  /** Which of reading and writing have to wait, as poll tells. */
  *busy(fd: number): Op<string> {
    const busy = [];
    for (const [name, events] of [['R', POLL.in] as const, ['W', POLL.out] as const]) {
      if ((yield* this.app.poll([{ fd, events }], 0)) === 0) busy.push(name);
    }
    return busy.join('');
  }

  /** V attaches a fence. @returns its number. */
  *attachFence(handle: number, flags = 1): Op<number> {
    return (yield* this.app.ioctl(this.card, DRM_IOCTL_VGEM_FENCE_ATTACH, { handle, flags })).out_fence;
  }

  *signalFence(fence: number): Op<void> {
    yield* this.app.ioctl(this.card, DRM_IOCTL_VGEM_FENCE_SIGNAL, { fence });
  }

  *#all(body: () => Op<void>): Op<void> {
    this.card = yield* this.app.open(CARDS[0]);
    yield* body();
    yield* this.gpu.release();
    for (const fence of this.#fences) fence.put();
    yield* this.app.kill();
  }
}

/** ms as ns. */
export const ms = (count: number): number => count * MS;

/** Little endian. */
export function word(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value >>> 0, true);
  return bytes;
}

export function wordAt(bytes: Uint8Array): number {
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
}

/** The words 0, 1, 2, … 1023. */
export function counted(): Uint8Array {
  const bytes = new Uint8Array(ROW_BYTES);
  for (let i = 0; i < ROW_BYTES / 4; i++) bytes.set(word(i), 4 * i);
  return bytes;
}
