/**
 * A GPU with one engine, contexts with page tables of their own, and fences.
 *
 * ```
 *  submit --> ring: job, job, job --> engine: wait for fences, launch, run --> signal the job's fence
 *                                       |
 *      GPU virtual address --> context's table --> dev.port: IOMMU or none --> memory
 * ```
 *
 * Rules:
 * 1. Jobs run one at a time, in the order of submission; so fences of a GPU signal in order.
 * 2. A job that waits for a fence holds up all behind it.
 * 3. {@link Gpu.submit} knows nothing of reservations. {@link Gpu.submitSynced} does: it waits for the writers of what the job
 *    reads and for all users of what it writes, and leaves the job's fence there, as READ and as WRITE.
 * 4. An access that leads nowhere is a record in {@link Gpu.faults} that names the context. The job's fence carries
 *    `EFAULT` for a fault in the context's table, `EIO` for one behind it, and signals in any case.
 *
 * 5. Work is given to it behind a barrier: what the CPU wrote before {@link Gpu.submit} is in memory, past its write buffers.
 *
 * Time parameters: {@link GpuParams}.
 *
 * **Inaccuracies.** One engine, no preemption: a job that waits for a fence which never comes blocks the ring for good; what
 * runs too long can be ended ({@link GpuParams.jobTimeoutNs}). At most one cache, for all contexts. A failed fence that a job
 * waited for does not stop the job.
 *
 * @see Linux 6.1 `drivers/gpu/drm/scheduler/sched_main.c`; `Documentation/driver-api/dma-buf.rst`
 */

import { ErrnoError } from '../base/errors.ts';
import type { Device } from '../dma-api/device.ts';
import type { DmaDirection } from '../dma-api/direction.ts';
import type { DmaBuf } from '../dmabuf/dma-buf.ts';
import type { DmaFence } from '../dmabuf/dma-fence.ts';
import { type DmaResv, DmaResvUsage, usageToWaitFor, withResvsLocked } from '../dmabuf/dma-resv.ts';
import type { Op } from '../sim/op.ts';
import { settle } from '../sim/settle.ts';
import type { Simulator } from '../sim/simulator.ts';
import { type Conversion, ConvertScratch, checkConversion, runConversion } from './gpu/convert-job.ts';
import { GpuBatch, type GpuBatchOptions } from './gpu/gpu-batch.ts';
import { GpuCache } from './gpu/gpu-cache.ts';
import { GpuContext } from './gpu/gpu-context.ts';
import { GpuEngine } from './gpu/gpu-engine.ts';
import { buffersOf, GpuBuffer, type GpuJob } from './gpu/gpu-job.ts';
import type { GpuFault } from './gpu/gpu-memory.ts';
import { checkGpuParams, type GpuParams } from './gpu/gpu-params.ts';
import { BufferImport } from './shared/buffer-import.ts';
import { ringDoorbell } from './shared/doorbell.ts';
import { takesAnySegment } from './shared/segment-limit.ts';
import { unwind } from './shared/unwind.ts';

/** How to import a buffer into a {@link Gpu}. */
export interface GpuImportOptions {
  /** What jobs will do with it; it is mapped for nothing else. Default `'read-write'`. */
  readonly access?: 'read' | 'write' | 'read-write';
  /** In whose address space. Default: the GPU's first context. */
  readonly context?: GpuContext;
}

const DIRECTIONS = { read: 'to-device', write: 'from-device', 'read-write': 'bidirectional' } as const satisfies Record<
  string,
  DmaDirection
>;

interface LockedResvs {
  readonly resvs: ReadonlySet<DmaResv>;
  /** Those of what the job writes. */
  readonly written: ReadonlySet<DmaResv>;
  readonly orderedAt: number | undefined;
}

/** One GPU. */
export class Gpu {
  readonly dev: Device;
  readonly params: GpuParams;
  /** Its first context. */
  readonly context: GpuContext;
  readonly #sim: Simulator;
  readonly #cache: GpuCache | null;
  readonly #engine: GpuEngine;
  readonly #buffers: GpuBuffer[] = [];
  readonly #batches = new Set<GpuBatch>();
  #batchesMade = 0;
  readonly #scratch = new ConvertScratch();

  /** @throws {InvariantError} a parameter out of range. */
  constructor(dev: Device, params: GpuParams) {
    checkGpuParams(params);
    this.dev = dev;
    takesAnySegment(dev);
    this.params = params;
    this.#sim = dev.sim;
    this.context = this.createContext('context0');
    this.#cache = params.cache === undefined ? null : new GpuCache(dev, params.cache);
    this.#engine = new GpuEngine(dev, params, this.context, this.#cache);
  }

  /** Buffers that are imported, in order of import. */
  get buffers(): readonly GpuBuffer[] {
    return this.#buffers;
  }

  /** Refused accesses so far, oldest first: at most one a job. */
  get faults(): readonly GpuFault[] {
    return this.#engine.faults;
  }

  /** Jobs that are not over. */
  get pendingJobs(): number {
    return this.#engine.pendingJobs;
  }

  /** Times its engine was reset, because a job took too long. */
  get resets(): number {
    return this.#engine.resets;
  }

  /** Lines of its cache that memory does not know of; 0 without a cache. */
  get dirtyLines(): number {
    return this.#cache?.dirtyLines ?? 0;
  }

  /**
   * Writes what jobs have left in the GPU's cache back to memory, where the caches of the CPU and others find it. Plain; charges
   * `cache.flushLineNs` a line. Does nothing without a cache. Jobs do it themselves unless {@link GpuParams.cache} says `'manual'`.
   *
   * @throws {HazardError} `*-write.lost` old lines went over newer bytes; the flush is done.
   */
  flushCaches(): void {
    this.#cache?.flush();
  }

  /**
   * Drops what the GPU's cache holds, so that jobs see what others have written since. What was not flushed is gone. Plain; costs
   * nothing. Does nothing without a cache. Jobs do it themselves unless {@link GpuParams.cache} says `'manual'`.
   *
   * @throws {HazardError} `device-write.lost` bytes that nobody else had are gone; the invalidate is done.
   */
  invalidateCaches(): void {
    this.#cache?.invalidate();
  }

  /** Makes another address space. Plain. @param name - as fault records call it. */
  createContext(name: string): GpuContext {
    return new GpuContext(`${this.dev.name}/${name}`, this.dev);
  }

  /**
   * Makes `buf` accessible to jobs: takes a reference, attaches, maps, enters it into the context's table. Waits for the
   * reservation lock and the exporter.
   *
   * @throws {ErrnoError} what the exporter and the DMA API throw; `EINVAL` the segments are no whole pages. Nothing is left.
   */
  *importBuffer(buf: DmaBuf, options: GpuImportOptions = {}): Op<GpuBuffer> {
    const { access = 'read-write', context = this.context } = options;
    const imported = yield* BufferImport.open(buf, this.dev, DIRECTIONS[access]);
    let buffer: GpuBuffer | null = null;
    try {
      const sgt = yield* imported.map();
      buffer = new GpuBuffer(imported, context, context.mapBuffer(sgt, { writable: access !== 'read' }));
    } finally {
      if (buffer === null) yield* imported.close();
    }
    this.#buffers.push(buffer);
    return buffer;
  }

  /**
   * Gives a buffer up: waits until its jobs are over, then takes it out of the table, unmaps, detaches, drops the reference.
   *
   * @throws {ErrnoError} `EINVAL` not a buffer of this GPU, or released before (never retry).
   */
  *releaseBuffer(buffer: GpuBuffer): Op<void> {
    this.#check(buffer, 'releaseBuffer');
    while (buffer.jobs > 0) yield* this.#engine.progress;
    this.#check(buffer, 'releaseBuffer');
    this.#buffers.splice(this.#buffers.indexOf(buffer), 1);
    for (const batch of this.#batches) batch.forget(buffer);
    buffer.context.unmapBuffer(buffer.gpuVa);
    yield* buffer.import.close();
  }

  /** Waits until all jobs are over and gives all buffers up. Nothing is left afterwards. */
  *release(): Op<void> {
    while (this.pendingJobs > 0) yield* this.#engine.progress;
    yield* unwind(this.#buffers.map((buffer) => () => this.releaseBuffer(buffer)));
  }

  /**
   * Puts a job into the ring and rings the doorbell, behind which all that the CPU has written is in memory. Plain; the job runs
   * later. Reservations are the caller's affair. Charges one barrier.
   *
   * @returns its fence.
   * @throws {ErrnoError} `EINVAL` a buffer that is not of this GPU (never retry); nothing is submitted.
   * @throws {HazardError} `*-write.lost` of what the barrier drained; nothing is submitted.
   */
  submit(job: GpuJob): DmaFence {
    return this.#submit(job);
  }

  /**
   * {@link submit} as a driver with implicit synchronisation does it: locks all reservations (in any order, without deadlock),
   * adds to the job's waits the writers of what it reads and all users of what it writes, leaves its fence in them (WRITE
   * where it writes, else READ), and unlocks. Waits for the locks only, not for the job.
   *
   * @throws {ErrnoError} as {@link submit}; no fence is added then.
   * @see Linux 6.1 drm_gem_lock_reservations; drm_sched_job_add_implicit_dependencies
   */
  submitSynced(job: GpuJob): Op<DmaFence> {
    return this.#submitSynced(job);
  }

  /**
   * Submits the conversion of an NV12 or I420 picture in `src` to XRGB8888 in `dst`, synchronised as {@link submitSynced}.
   * BT.601, limited range, in whole numbers, without interpolation of chroma. Waits for the locks only.
   *
   * @returns the fence of the job.
   * @throws {ErrnoError} `EINVAL` formats or sizes that do not go together, a buffer that is too small (both sizes are named),
   *   a stride that is no multiple of 4, or a buffer that is not of this GPU (never retry).
   */
  submitConvert(src: GpuBuffer, dst: GpuBuffer, conversion: Conversion): Op<DmaFence> {
    checkConversion(src, dst, conversion);
    const { source, target, frame } = conversion;
    const plan = { src, dst, source, target, params: this.params, scratch: this.#scratch };
    return this.submitSynced({
      name: 'convert',
      context: src.context,
      reads: [src],
      writes: [dst],
      frame: { stage: 'converted', ...(frame === undefined ? {} : { number: frame }) },
      run: (memory) => runConversion(this.#sim, memory, plan),
    });
  }

  /**
   * Opens a list of commands: what is added to it the kernel does not know until it is flushed. Plain. See `gpu-batch.ts`.
   *
   * @param options - `synced` false: jobs are submitted as by {@link submit}, not by {@link submitSynced}.
   */
  batch(options: GpuBatchOptions = {}): GpuBatch {
    const { synced = true } = options;
    const batch = new GpuBatch(this.dev, options.name ?? `batch${++this.#batchesMade}`, {
      check: (job) => this.#checkJob(job),
      submit: (job, at) => (synced ? this.#submitLater(job, at) : { fence: this.#submit(job, at) }),
    });
    this.#batches.add(batch);
    return batch;
  }

  #submit(job: GpuJob, orderedAt?: number): DmaFence {
    this.#checkJob(job);
    ringDoorbell(this.dev);
    return this.#engine.push(job, orderedAt);
  }

  *#submitLater(job: GpuJob, orderedAt: number | undefined): Op<{ readonly fence: DmaFence }> {
    return { fence: yield* this.#submitSynced(job, orderedAt) };
  }

  #submitSynced(job: GpuJob, orderedAt?: number): Op<DmaFence> {
    this.#checkJob(job);
    const written = new Set((job.writes ?? []).map((buffer) => buffer.buf.resv));
    const resvs = new Set(buffersOf(job).map((buffer) => buffer.buf.resv));
    return withResvsLocked(this.#sim, [...resvs], () => this.#submitLocked(job, { resvs, written, orderedAt }));
  }

  *#submitLocked(job: GpuJob, { resvs, written, orderedAt }: LockedResvs): Op<DmaFence> {
    yield* settle(this.#sim);
    const waits = [...(job.waits ?? [])];
    for (const resv of resvs) {
      waits.push(...resv.fences(usageToWaitFor(written.has(resv) ? 'write' : 'read')));
      resv.reserveFences(1);
    }
    const fence = this.#submit({ ...job, waits }, orderedAt);
    for (const resv of resvs) resv.addFence(fence, written.has(resv) ? DmaResvUsage.write : DmaResvUsage.read);
    return fence;
  }

  #checkJob(job: GpuJob): void {
    for (const buffer of buffersOf(job)) this.#check(buffer, 'submit');
  }

  #check(buffer: GpuBuffer, op: string): void {
    if (this.#buffers.includes(buffer)) return;
    throw new ErrnoError('EINVAL', op, `${buffer.buf.name} is no buffer of ${this.dev.name}`);
  }
}
