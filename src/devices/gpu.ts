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
 * Time parameters: {@link GpuParams}.
 *
 * **Inaccuracies.** One engine, no preemption, no reset: a job whose fence never comes blocks the ring for good. No caches of
 * its own. A failed fence that a job waited for does not stop the job.
 *
 * @see Linux 6.1 `drivers/gpu/drm/scheduler/sched_main.c`; `Documentation/driver-api/dma-buf.rst`
 */

import { ErrnoError } from '../base/errors.ts';
import type { Device } from '../dma-api/device.ts';
import type { DmaDirection } from '../dma-api/direction.ts';
import type { DmaBuf } from '../dmabuf/dma-buf.ts';
import type { DmaFence } from '../dmabuf/dma-fence.ts';
import { DmaFenceTimeline } from '../dmabuf/dma-fence-timeline.ts';
import { allocDmaFenceContext } from '../dmabuf/dma-fence-world.ts';
import { type DmaResv, DmaResvUsage, usageToWaitFor, withResvsLocked } from '../dmabuf/dma-resv.ts';
import { Signal } from '../sim/event.ts';
import { lift, type Op } from '../sim/op.ts';
import { settle } from '../sim/settle.ts';
import type { Simulator } from '../sim/simulator.ts';
import type { Task } from '../sim/task.ts';
import { type Conversion, ConvertScratch, checkConversion, runConversion } from './gpu/convert-job.ts';
import { GpuContext } from './gpu/gpu-context.ts';
import { GpuBuffer, type GpuJob } from './gpu/gpu-job.ts';
import { type GpuFault, GpuMemory } from './gpu/gpu-memory.ts';
import { checkGpuParams, type GpuParams } from './gpu/gpu-params.ts';
import { BufferImport } from './shared/buffer-import.ts';
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

interface Submission {
  readonly job: GpuJob;
  readonly fence: DmaFence;
}

/** One GPU. */
export class Gpu {
  readonly dev: Device;
  readonly params: GpuParams;
  /** Its first context. */
  readonly context: GpuContext;
  readonly #sim: Simulator;
  readonly #timeline: DmaFenceTimeline;
  readonly #ring: Submission[] = [];
  readonly #buffers: GpuBuffer[] = [];
  readonly #faults: GpuFault[] = [];
  readonly #scratch = new ConvertScratch();
  /** A job is over. */
  readonly #progress: Signal;
  /** The task of the present busy time; `null` while the ring is empty. It signals the fences of all jobs in the ring. */
  #engine: Task<void> | null = null;

  /** @throws {InvariantError} a parameter out of range. */
  constructor(dev: Device, params: GpuParams) {
    checkGpuParams(params);
    this.dev = dev;
    takesAnySegment(dev);
    this.params = params;
    this.#sim = dev.sim;
    this.context = this.createContext('context0');
    this.#timeline = new DmaFenceTimeline(dev.sim, allocDmaFenceContext(dev.sim, dev.name));
    this.#progress = new Signal(dev.sim, `${dev.name} job end`);
  }

  /** Buffers that are imported, in order of import. */
  get buffers(): readonly GpuBuffer[] {
    return this.#buffers;
  }

  /** Refused accesses so far, oldest first: at most one a job. */
  get faults(): readonly GpuFault[] {
    return this.#faults;
  }

  /** Jobs that are not over. */
  get pendingJobs(): number {
    return this.#ring.length;
  }

  /** Makes another address space. Plain. @param name - as fault records call it. */
  createContext(name: string): GpuContext {
    return new GpuContext(`${this.dev.name}/${name}`);
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
    while (buffer.jobs > 0) yield* this.#progress;
    this.#check(buffer, 'releaseBuffer');
    this.#buffers.splice(this.#buffers.indexOf(buffer), 1);
    buffer.context.unmapBuffer(buffer.gpuVa);
    yield* buffer.import.close();
  }

  /** Waits until all jobs are over and gives all buffers up. Nothing is left afterwards. */
  *release(): Op<void> {
    while (this.pendingJobs > 0) yield* this.#progress;
    yield* unwind(this.#buffers.map((buffer) => () => this.releaseBuffer(buffer)));
  }

  /**
   * Puts a job into the ring. Plain; it runs later. Reservations are the caller's affair.
   *
   * @returns its fence.
   * @throws {ErrnoError} `EINVAL` a buffer that is not of this GPU (never retry); nothing is submitted.
   */
  submit(job: GpuJob): DmaFence {
    const buffers = buffersOf(job);
    for (const buffer of buffers) this.#check(buffer, 'submit');
    for (const buffer of buffers) buffer.jobs++;
    const fence = this.#timeline.fence();
    this.#ring.push({ job, fence });
    if (this.#engine === null) this.#start();
    else fence.signaler = this.#engine;
    return fence;
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
    const buffers = buffersOf(job);
    for (const buffer of buffers) this.#check(buffer, 'submit');
    const written = new Set((job.writes ?? []).map((buffer) => buffer.buf.resv));
    const resvs = new Set(buffers.map((buffer) => buffer.buf.resv));
    return withResvsLocked(this.#sim, [...resvs], () => this.#submitLocked(job, resvs, written));
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

  *#submitLocked(job: GpuJob, resvs: ReadonlySet<DmaResv>, written: ReadonlySet<DmaResv>): Op<DmaFence> {
    yield* settle(this.#sim);
    const waits = [...(job.waits ?? [])];
    for (const resv of resvs) {
      waits.push(...resv.fences(usageToWaitFor(written.has(resv) ? 'write' : 'read')));
      resv.reserveFences(1);
    }
    const fence = this.submit({ ...job, waits });
    for (const resv of resvs) resv.addFence(fence, written.has(resv) ? DmaResvUsage.write : DmaResvUsage.read);
    return fence;
  }

  #check(buffer: GpuBuffer, op: string): void {
    if (this.#buffers.includes(buffer)) return;
    throw new ErrnoError('EINVAL', op, `${buffer.buf.name} is no buffer of ${this.dev.name}`);
  }

  #start(): void {
    this.#engine = this.#sim.spawn(this.dev.name, () => this.#work());
    for (const { fence } of this.#ring) fence.signaler = this.#engine;
  }

  /** Empties the ring. A task of its own for each busy time, so that an idle GPU is no task that waits. */
  *#work(): Op<void> {
    try {
      for (let next = this.#ring[0]; next !== undefined; next = this.#ring[0]) yield* this.#execute(next);
    } finally {
      this.#engine = null;
      if (this.#ring.length > 0) this.#start();
    }
  }

  *#execute({ job, fence }: Submission): Op<void> {
    const memory = new GpuMemory(this.dev, job.context ?? this.context, job.name);
    let complete = false;
    try {
      for (const wait of job.waits ?? []) yield* wait;
      yield* this.#sim.delay(this.params.launchNs);
      yield* lift(job.run(memory));
      yield* settle(this.#sim);
      complete = true;
    } finally {
      this.#finish(job, fence, complete, memory.fault);
    }
  }

  #finish(job: GpuJob, fence: DmaFence, complete: boolean, fault: GpuFault | null): void {
    this.#ring.shift();
    for (const buffer of buffersOf(job)) buffer.jobs--;
    if (fault !== null) {
      this.#faults.push(fault);
      fence.setError(fault.reason === 'dma' ? 'EIO' : 'EFAULT');
    } else if (!complete) fence.setError('EIO');
    else if (job.frame !== undefined) this.#traceFrame(job.frame.stage, job.frame.number ?? fence.seqno);
    fence.signal();
    this.#progress.notify();
  }

  #traceFrame(stage: string, frame: number): void {
    const { trace, now } = this.#sim;
    if (trace.enabled) trace.emit({ kind: 'device.frame', timeNs: now, device: this.dev.name, stage, frame });
  }
}

/** Each buffer once. */
function buffersOf({ reads = [], writes = [] }: GpuJob): GpuBuffer[] {
  return [...new Set([...reads, ...writes])];
}
