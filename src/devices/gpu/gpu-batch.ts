/**
 * A list of commands as a user-level driver keeps it: to the program, what was added is done; to the kernel it does not exist until
 * {@link GpuBatch.flush}. So whoever asks the kernel about a buffer in it is told that it is idle.
 *
 * The trap: between `add` and `flush` somebody asks whether a buffer of the batch is idle (poll, the begin of a bracket, a sync file, a
 * submission with implicit fences), and then
 *
 * 1. reads what the batch is still to write: he gets what was there before; or
 * 2. writes what the batch is still to read or to write: it will work on something else than was there when it was recorded.
 *
 * This is hazard `fence.unsubmitted-batch`, at the access. Who has not asked does not believe, and what was ordered before the job was
 * added is in order: both are silent. The cure is to flush, then to ask or to wait.
 *
 * Whoever prepares work long before it is to be done, and so wants others to work with the buffer in between, keeps the jobs
 * in a list of his own and submits them when it is time.
 *
 * @see the thread on EGL and X in linaro-mm-sig, 2011: user space batches, and the kernel believes
 */

import type { Site } from '../../base/site.ts';
import type { BatchFacts } from '../../base/watch-hazards.ts';
import type { AccessWatch, Activity, WatchedAccess } from '../../cache/activity.ts';
import type { Device } from '../../dma-api/device.ts';
import type { DmaFence } from '../../dmabuf/dma-fence.ts';
import { lift, type MaybeOp, type Op } from '../../sim/op.ts';
import type { Task } from '../../sim/task.ts';
import { buffersOf, type GpuBuffer, type GpuJob } from './gpu-job.ts';

/** How to open a {@link GpuBatch}. */
export interface GpuBatchOptions {
  /** As reports call it. Default: `batch1`, `batch2`, … */
  readonly name?: string;
  /** Whether its jobs take part in implicit synchronisation when they are submitted. Default true. */
  readonly synced?: boolean;
}

/** What a batch needs of its GPU. */
interface BatchTarget {
  /** @throws {ErrnoError} `EINVAL` a buffer of another GPU. */
  check(job: GpuJob): void;
  submit(job: GpuJob, orderedAt: number | undefined): MaybeOp<{ readonly fence: DmaFence }>;
}

interface Recorded {
  readonly job: GpuJob;
  readonly orderedAt: number | undefined;
  readonly uses: readonly RecordedUse[];
}

/** Made by `gpu.batch`. */
export class GpuBatch {
  readonly name: string;
  readonly #dev: Device;
  readonly #target: BatchTarget;
  #recorded: Recorded[] = [];

  /** @internal */
  constructor(dev: Device, name: string, target: BatchTarget) {
    this.name = name;
    this.#dev = dev;
    this.#target = target;
  }

  /** Jobs that were added and not submitted. */
  get pendingJobs(): number {
    return this.#recorded.length;
  }

  /** Records a job. Plain; nothing is submitted. @throws {ErrnoError} `EINVAL` a buffer that is not of this GPU (never retry). */
  add(job: GpuJob): void {
    this.#target.check(job);
    const { activity } = this.#dev.coherency;
    const orderedAt = activity?.moment;
    const uses: RecordedUse[] = [];
    if (activity !== null && orderedAt !== undefined) {
      const writes = new Set(job.writes);
      for (const buffer of buffersOf(job)) {
        uses.push(new RecordedUse(this.#title, { activity, buffer, writes: writes.has(buffer), orderedAt }));
      }
    }
    this.#recorded.push({ job, orderedAt, uses });
  }

  /**
   * Submits what was added, in that order. Waits for reservation locks, not for the jobs. Each charges a barrier.
   *
   * @returns the fences of the jobs, each with a reference for the caller.
   * @throws {ErrnoError} `EINVAL` a buffer was released since; what submitting throws. Jobs before that one are submitted, that one and the
   *   rest stay in the batch ({@link discard} gives them up).
   */
  *flush(): Op<DmaFence[]> {
    const fences: DmaFence[] = [];
    for (let next = this.#recorded.shift(); next !== undefined; next = this.#recorded.shift()) {
      let submitted = false;
      try {
        const { fence } = yield* lift(this.#target.submit(next.job, next.orderedAt));
        fences.push(fence);
        submitted = true;
      } finally {
        if (submitted) for (const use of next.uses) use.end();
        else this.#recorded.unshift(next);
      }
    }
    return fences;
  }

  /** Forgets what was added and not submitted. Plain. */
  discard(): void {
    for (const { uses } of this.#recorded) for (const use of uses) use.end();
    this.#recorded = [];
  }

  /** @internal `buffer` is about to be released: its memory is not the batch's affair any more. */
  forget(buffer: GpuBuffer): void {
    for (const { uses } of this.#recorded) for (const use of uses) if (use.buffer === buffer) use.end();
  }

  get #title(): string {
    return `batch '${this.name}' of ${this.#dev.name}`;
  }
}

/** One buffer of one recorded job, under watch until the job is submitted. */
class RecordedUse implements AccessWatch {
  readonly pieces: AccessWatch['pieces'];
  readonly buffer: GpuBuffer;
  readonly #batch: string;
  readonly #writes: boolean;
  readonly #orderedAt: number;
  /** Who asked since, and when in ns. */
  readonly #asked = new Map<Task<unknown>, number>();
  readonly #reported = new Set<string>();
  readonly #ends: (() => void)[];

  constructor(
    batch: string,
    use: {
      readonly activity: Activity;
      readonly buffer: GpuBuffer;
      readonly writes: boolean;
      readonly orderedAt: number;
    },
  ) {
    this.#batch = batch;
    this.buffer = use.buffer;
    this.#writes = use.writes;
    this.#orderedAt = use.orderedAt;
    this.pieces = use.buffer.import.physPieces();
    this.#ends = [use.activity.watch(this), this.buffer.buf.resv.onQuery(() => this.#noteAsked())];
  }

  touched({ kind, accessor, work }: WatchedAccess): BatchFacts | null {
    if (kind === 'read' && !this.#writes) return null;
    if (work !== null && work.orderedAt < this.#orderedAt) return null;
    const { sim, name } = this.buffer.buf;
    const task = work === null ? sim.currentTask : work.task;
    const askedNs = task === null ? undefined : this.#asked.get(task);
    if (askedNs === undefined || this.#reported.has(accessor.name)) return null;
    this.#reported.add(accessor.name);
    const site: Site | null = work === null ? sim.site() : work.site;
    return {
      hazard: 'fence.unsubmitted-batch',
      batch: this.#batch,
      buf: name,
      who: accessor.name,
      what: `was asked for its fences at ${askedNs} ns and is ${kind === 'read' ? 'read' : 'written'}`,
      site: site?.text ?? '',
      timeNs: sim.now,
      remedy: `flush ${this.#batch} before asking whether ${name} is idle`,
    };
  }

  end(): void {
    for (const end of this.#ends) end();
  }

  #noteAsked(): undefined {
    const { currentTask, now } = this.buffer.buf.sim;
    if (currentTask !== null && !this.#asked.has(currentTask)) this.#asked.set(currentTask, now);
  }
}
