/**
 * Waiting for sync objects: for one or for all of them, also before there is anything to wait for.
 *
 * @see Linux 6.1 `drivers/gpu/drm/drm_syncobj.c` drm_syncobj_array_wait_timeout
 */
import { ErrnoError } from '../base/errors.ts';
import type { DmaFence } from '../dmabuf/dma-fence.ts';
import type { Op } from '../sim/op.ts';
import { settle } from '../sim/settle.ts';
import type { Simulator } from '../sim/simulator.ts';
import { Sleeper } from './signals.ts';
import type { Syncobj } from './syncobj.ts';

/** @internal One thing to wait for. */
export interface SyncobjPoint {
  readonly syncobj: Syncobj;
  /** 0: whatever it holds. */
  readonly point: number;
}

/** @internal How to wait. */
export interface SyncobjWaitOptions {
  /** For all; else for the first. */
  readonly all: boolean;
  /** What does not exist yet is waited for; else it is EINVAL. */
  readonly forSubmit: boolean;
  /** It is enough that it exists. */
  readonly available: boolean;
  /** When to give up, in ns of simulated time. Past, or 0: at once. */
  readonly untilNs: number;
  /** When everybody would like it signalled, or `null`. Came with Linux 6.6. */
  readonly deadlineNs: number | null;
}

/**
 * @internal Waits for `points`, of which it holds references meanwhile.
 *
 * @returns the index of the first that is ready.
 * @throws {ErrnoError} `EINVAL` one does not exist (retry when it does); `ETIME` the time is up; `EINTR` a signal came (retry).
 */
export function* waitForSyncobjs(
  sim: Simulator,
  points: readonly SyncobjPoint[],
  options: SyncobjWaitOptions,
): Op<number> {
  const wait = new ArrayWait(sim, points, options);
  try {
    return yield* wait.run();
  } finally {
    wait.end();
  }
}

class ArrayWait {
  readonly #sim: Simulator;
  readonly #points: readonly SyncobjPoint[];
  readonly #options: SyncobjWaitOptions;
  readonly #fences: (DmaFence | null)[];
  readonly #sleeper: Sleeper;
  #isWatched = false;

  constructor(sim: Simulator, points: readonly SyncobjPoint[], options: SyncobjWaitOptions) {
    this.#sim = sim;
    this.#points = points;
    this.#options = options;
    this.#sleeper = new Sleeper(sim, () => 'wait queue wait for sync objects');
    for (const { syncobj } of points) syncobj.get();
    this.#fences = points.map(() => null);
  }

  *run(): Op<number> {
    yield* settle(this.#sim);
    this.#find();
    this.#checkSubmitted();
    this.#hurry();
    for (;;) {
      this.#sleeper.arm();
      const first = this.#firstReady();
      if (first !== null) return first;
      const left = this.#options.untilNs - this.#sim.now;
      if (left <= 0) throw new ErrnoError('ETIME', 'syncobj wait', 'the time is up');
      if (!this.#isWatched) this.#watch();
      // What became ready while it began to watch has triggered it.
      yield* this.#sleeper.sleep('syncobj wait', left);
    }
  }

  end(): void {
    this.#sleeper.end();
    for (const { syncobj } of this.#points) syncobj.unlisten(this.#changed);
    for (const fence of this.#fences) {
      fence?.removeCallback(this.#sleeper.wake);
      fence?.put();
    }
    for (const { syncobj } of this.#points) syncobj.put();
  }

  /** Looks for what did not exist so far. */
  #find(): void {
    for (const [i, { syncobj, point }] of this.#points.entries()) {
      if (this.#fences[i] !== null) continue;
      const fence = syncobj.findFence(point);
      this.#fences[i] = fence;
      if (fence !== null && this.#isWatched) this.#follow(fence);
    }
  }

  #checkSubmitted(): void {
    const { forSubmit, available } = this.#options;
    const missing = this.#fences.indexOf(null);
    if (missing < 0 || forSubmit || available) return;
    const point = this.#points[missing]?.point ?? 0;
    const why = `handle number ${missing} has no point ${point}; signal or submit it first, or ask with WAIT_FOR_SUBMIT`;
    throw new ErrnoError('EINVAL', 'syncobj wait', why);
  }

  #hurry(): void {
    const { deadlineNs } = this.#options;
    if (deadlineNs === null) return;
    for (const fence of this.#fences) fence?.setDeadline(deadlineNs);
  }

  /** The first that is ready if that is enough, or `null`. */
  #firstReady(): number | null {
    const { all, available } = this.#options;
    let first: number | null = null;
    let ready = 0;
    for (const [i, fence] of this.#fences.entries()) {
      if (fence === null || !(available || fence.isSignaled())) continue;
      first ??= i;
      ready++;
    }
    return ready === this.#fences.length || (ready > 0 && !all) ? first : null;
  }

  #watch(): void {
    this.#isWatched = true;
    for (const fence of this.#fences) if (fence !== null) this.#follow(fence);
    for (const { syncobj } of this.#points) syncobj.listen(this.#changed);
  }

  #follow(fence: DmaFence): void {
    if (this.#options.available || !fence.addCallback(this.#sleeper.wake)) this.#sleeper.wake();
  }

  readonly #changed = {
    changed: (): undefined => {
      this.#find();
    },
  };
}
