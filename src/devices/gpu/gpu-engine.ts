/**
 * The ring of a GPU and the engine that empties it: jobs one at a time, in order, each when what it waits for has signalled.
 *
 * 1. A job that runs longer than `jobTimeoutNs` is ended there: what it still has to access it does not, the engine is reset, its fence
 *    carries `ETIMEDOUT`, and the next job begins. Its waits do not count, as fences that others promised end by themselves.
 * 2. A job holds references of the fences that it waits for until it is over.
 * 3. A job is at work, as `activity.ts` has it, from the end of its waits and of those before it, until just before its fence signals.
 *
 * @see Linux 6.1 `drivers/gpu/drm/scheduler/sched_main.c` drm_sched_main, drm_sched_job_timedout
 */
import type { Work } from '../../cache/activity.ts';
import type { Device } from '../../dma-api/device.ts';
import type { DmaFence } from '../../dmabuf/dma-fence.ts';
import { DmaFenceTimeline } from '../../dmabuf/dma-fence-timeline.ts';
import { allocDmaFenceContext } from '../../dmabuf/dma-fence-world.ts';
import { timeout } from '../../sim/combinators.ts';
import { Signal } from '../../sim/event.ts';
import { lift, type Op } from '../../sim/op.ts';
import { settle } from '../../sim/settle.ts';
import type { Task } from '../../sim/task.ts';
import type { GpuCache } from './gpu-cache.ts';
import type { GpuContext } from './gpu-context.ts';
import { buffersOf, type GpuJob } from './gpu-job.ts';
import { type GpuFault, GpuMemory } from './gpu-memory.ts';
import type { GpuParams } from './gpu-params.ts';

interface Submission {
  readonly job: GpuJob;
  readonly fence: DmaFence;
  readonly work: Work | null;
}

/** @internal One for each GPU. Plain throughout, but for what it does itself. */
export class GpuEngine {
  /** A job is over. */
  readonly progress: Signal;
  /** Refused accesses, oldest first. */
  readonly faults: GpuFault[] = [];
  /** Times it was reset. */
  resets = 0;
  readonly #dev: Device;
  readonly #params: GpuParams;
  readonly #context: GpuContext;
  /** A cache that the engine itself maintains. */
  readonly #cache: GpuCache | null;
  readonly #timeline: DmaFenceTimeline;
  readonly #ring: Submission[] = [];
  /** The task of the present busy time; `null` while the ring is empty. It signals the fences of all jobs in the ring. */
  #engine: Task<void> | null = null;

  /** @param context - of jobs that name none. @param cache - what jobs' accesses go through, if anything. */
  constructor(dev: Device, params: GpuParams, context: GpuContext, cache: GpuCache | null) {
    this.#dev = dev;
    this.#cache = cache?.isAutomatic === true ? cache : null;
    this.#params = params;
    this.#context = context;
    this.#timeline = new DmaFenceTimeline(dev.sim, allocDmaFenceContext(dev.sim, dev.name));
    this.progress = new Signal(dev.sim, `${dev.name} job end`);
  }

  /** Jobs that are not over. */
  get pendingJobs(): number {
    return this.#ring.length;
  }

  /** Puts a job into the ring. @param orderedAt - see `WorkSpec.orderedAt`. @returns its fence. */
  push(job: GpuJob, orderedAt?: number): DmaFence {
    for (const buffer of buffersOf(job)) buffer.jobs++;
    for (const wait of job.waits ?? []) wait.get();
    const fence = this.#timeline.fence();
    this.#ring.push({ job, fence, work: this.#takeOn(job, fence, orderedAt) });
    if (this.#engine === null) this.#start();
    else fence.signaler = this.#engine;
    return fence;
  }

  #takeOn({ name, waits = [] }: GpuJob, fence: DmaFence, orderedAt: number | undefined): Work | null {
    const { coherency, port } = this.#dev;
    if (coherency.activity === null) return null;
    return coherency.activity.submit({
      accessor: port.accessor,
      name: `job '${name}'`,
      fence: fence.name,
      remedy: `wait for fence ${fence.name} (job '${name}')`,
      waits,
      after: this.#ring.at(-1)?.work ?? null,
      ...(orderedAt === undefined ? {} : { orderedAt }),
    });
  }

  #start(): void {
    const { sim, name } = this.#dev;
    this.#engine = sim.spawn(name, () => this.#work());
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

  *#execute(submission: Submission): Op<void> {
    const { job, work } = submission;
    const { sim, coherency } = this.#dev;
    const memory = new GpuMemory(this.#dev, job.context ?? this.#context, job.name);
    let outcome: 'complete' | 'broken' | 'hung' = 'broken';
    try {
      for (const wait of job.waits ?? []) yield* wait;
      coherency.activity?.begin(work);
      yield* sim.delay(this.#params.launchNs);
      this.#cache?.begin();
      const inTime = yield* this.#run(job, memory);
      this.#cache?.flush();
      yield* settle(sim);
      outcome = inTime ? 'complete' : 'hung';
    } finally {
      coherency.activity?.end(work);
      this.#finish(submission, outcome, memory.fault);
    }
  }

  /** @returns false when its time was up. */
  *#run(job: GpuJob, memory: GpuMemory): Op<boolean> {
    const { jobTimeoutNs } = this.#params;
    if (jobTimeoutNs === undefined) {
      yield* lift(job.run(memory));
      return true;
    }
    const body = this.#body(job, memory);
    return !(yield* timeout(this.#dev.sim, jobTimeoutNs, body)).timedOut;
  }

  *#body(job: GpuJob, memory: GpuMemory): Op<void> {
    yield* lift(job.run(memory));
  }

  #finish({ job, fence }: Submission, outcome: 'complete' | 'broken' | 'hung', fault: GpuFault | null): void {
    this.#ring.shift();
    for (const buffer of buffersOf(job)) buffer.jobs--;
    for (const wait of job.waits ?? []) wait.put();
    if (outcome === 'hung') this.resets++;
    if (fault !== null) {
      this.faults.push(fault);
      fence.setError(fault.reason === 'dma' ? 'EIO' : 'EFAULT');
    } else if (outcome === 'hung') fence.setError('ETIMEDOUT');
    else if (outcome === 'broken') fence.setError('EIO');
    else if (job.frame !== undefined) this.#traceFrame(job.frame.stage, job.frame.number ?? fence.seqno);
    fence.signal();
    this.progress.notify();
  }

  #traceFrame(stage: string, frame: number): void {
    const { sim, name: device } = this.#dev;
    if (sim.trace.enabled) sim.trace.emit({ kind: 'device.frame', timeNs: sim.now, device, stage, frame });
  }
}
