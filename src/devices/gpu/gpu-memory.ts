/**
 * Memory as one job sees it: GPU virtual addresses of its context. Page by page through the context's table, in runs as
 * long as there are, then through the device's port.
 *
 * A fault is data: the first one stops the job's accesses, is recorded, and fails the job's fence when the job is over.
 */
import type { DmaAddr } from '../../base/addr.ts';
import type { Device } from '../../dma-api/device.ts';
import type { GpuAddr, GpuContext } from './gpu-context.ts';

/** An access that a job was refused. */
export interface GpuFault {
  readonly gpu: string;
  readonly context: string;
  readonly job: string;
  /** First byte refused. */
  readonly gpuVa: GpuAddr;
  readonly access: 'read' | 'write';
  /** By the context's table, or, `'dma'`, behind it: see `gpu.dev.port.faults`. */
  readonly reason: 'unmapped' | 'read-only' | 'dma';
  readonly timeNs: number;
}

/** Given to a job when it runs. Plain throughout: an access acts at this instant, time is the job's. */
export class GpuMemory {
  /** Whether memory holds bytes; if not (tag mode), pass `null` and compute nothing. */
  readonly storesBytes: boolean;
  readonly #dev: Device;
  readonly #context: GpuContext;
  readonly #job: string;
  #fault: GpuFault | null = null;

  /** @internal */
  constructor(dev: Device, context: GpuContext, job: string) {
    this.storesBytes = dev.coherency.memory.storesBytes;
    this.#dev = dev;
    this.#context = context;
    this.#job = job;
  }

  /** Why the job's accesses have stopped, or `null`. */
  get fault(): GpuFault | null {
    return this.#fault;
  }

  /**
   * Reads `length` bytes at `gpuVa` into `out` from `outOffset`; see `DmaPort.read`.
   *
   * @returns bytes done: fewer after a fault, 0 for every access after that.
   */
  read(gpuVa: GpuAddr, out: Uint8Array | null, outOffset: number, length: number): number {
    const { port, coherency } = this.#dev;
    return coherency.asOneAccess(() =>
      this.#walk('read', gpuVa, length, (address, done, step) => port.read(address, out, outOffset + done, step)),
    );
  }

  /** Writes; as {@link read}. See `DmaPort.write`. */
  write(gpuVa: GpuAddr, src: Uint8Array | null, srcOffset: number, length: number): number {
    const { port, coherency } = this.#dev;
    return coherency.asOneAccess(() =>
      this.#walk('write', gpuVa, length, (address, done, step) => port.write(address, src, srcOffset + done, step)),
    );
  }

  #walk(
    access: 'read' | 'write',
    gpuVa: GpuAddr,
    length: number,
    move: (address: DmaAddr, done: number, step: number) => number,
  ): number {
    const context = this.#context;
    let done = 0;
    while (done < length && this.#fault === null) {
      const at = gpuVa + done;
      const address = context.translate(at);
      if (address === undefined) this.#refuse(at, access, 'unmapped');
      else if (access === 'write' && !context.isWritable(at)) this.#refuse(at, access, 'read-only');
      else {
        const step = context.runBytes(at, length - done);
        const moved = move(address, done, step);
        done += moved;
        if (moved < step) this.#refuse(at + moved, access, 'dma');
      }
    }
    return done;
  }

  #refuse(gpuVa: number, access: 'read' | 'write', reason: GpuFault['reason']): void {
    const { name: gpu, sim } = this.#dev;
    const timeNs = sim.now;
    this.#fault = { gpu, context: this.#context.name, job: this.#job, gpuVa: gpuVa as GpuAddr, access, reason, timeNs };
  }
}
