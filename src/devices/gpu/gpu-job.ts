/** What a GPU executes, and the buffers it works on. */
import type { DmaBuf } from '../../dmabuf/dma-buf.ts';
import type { DmaFence } from '../../dmabuf/dma-fence.ts';
import type { MaybeOp } from '../../sim/op.ts';
import type { BufferImport } from '../shared/buffer-import.ts';
import type { GpuAddr, GpuContext } from './gpu-context.ts';
import type { GpuMemory } from './gpu-memory.ts';

/** A buffer in an address space of a GPU; made by `gpu.importBuffer`. */
export class GpuBuffer {
  readonly buf: DmaBuf;
  readonly context: GpuContext;
  /** Where its first byte is in {@link context}. */
  readonly gpuVa: GpuAddr;
  /** @internal */
  readonly import: BufferImport;
  /** Jobs that use it and are not over. Only its GPU changes this. */
  jobs = 0;

  /** @internal */
  constructor(imported: BufferImport, context: GpuContext, gpuVa: GpuAddr) {
    this.buf = imported.buf;
    this.context = context;
    this.gpuVa = gpuVa;
    this.import = imported;
  }
}

/** One piece of work. */
export interface GpuJob {
  /** As fault records and reports call it: `'convert'`. */
  readonly name: string;
  /** Whose addresses it uses. Default: the GPU's first context. */
  readonly context?: GpuContext;
  /** It starts when all of them have signalled, with whatever error. The GPU takes references until the job is over. */
  readonly waits?: readonly DmaFence[];
  /** Buffers it reads and buffers it writes; they can not be released before it is over. */
  readonly reads?: readonly GpuBuffer[];
  readonly writes?: readonly GpuBuffer[];
  /** Traced as `device.frame` when it is over without a fault. Default number: its fence's sequence number. */
  readonly frame?: { readonly stage: string; readonly number?: number };
  /** Does the work: accesses memory and takes its time (`yield* sim.delay(…)`). */
  run(memory: GpuMemory): MaybeOp<void>;
}

/** @internal Each buffer of a job once. */
export function buffersOf({ reads = [], writes = [] }: GpuJob): GpuBuffer[] {
  return [...new Set([...reads, ...writes])];
}
