/**
 * Timelines that a process drives itself: it makes fences for values and moves the timeline on. For tests of everything that waits
 * for fences.
 *
 * 1. A fence has signalled once the timeline has reached its value, compared as 32-bit numbers that wrap around: a value more
 *    than 2^31 - 1 ahead counts as past.
 * 2. Two fences of one value are one fence, as long as it is pending.
 * 3. Closing the timeline fails what is left with `ENOENT`.
 *
 * @see Linux 6.1 `drivers/dma-buf/sw_sync.c`; `drivers/dma-buf/sync_debug.h`
 */
import { DmaFence } from '../dmabuf/dma-fence.ts';
import type { DmaFenceOps } from '../dmabuf/dma-fence-ops.ts';
import { allocDmaFenceContext, type DmaFenceContext } from '../dmabuf/dma-fence-world.ts';
import type { Simulator } from '../sim/simulator.ts';
import { fenceFileFor } from './fence-file.ts';
import { noIoctl, O, OpenFile } from './file.ts';
import { type IoctlCall, ioctlRequest } from './ioctl.ts';

/** Where a process opens a new timeline. */
export const SW_SYNC_PATH = '/sys/kernel/debug/sync/sw_sync';

/** A sync file, `fence`, that signals when the timeline reaches `value`. @see Linux 6.1 `drivers/dma-buf/sw_sync.c` struct sw_sync_create_fence_data */
export const SW_SYNC_IOC_CREATE_FENCE = ioctlRequest('SW_SYNC_IOC_CREATE_FENCE', 'rw', 'W', 0, {
  value: 'u32',
  name: 'char[32]',
  fence: 's32',
});

/** Moves the timeline on by `value`. */
export const SW_SYNC_IOC_INC = ioctlRequest('SW_SYNC_IOC_INC', 'w', 'W', 1, { value: 'u32' });

const LARGEST_STEP = 2 ** 31 - 1;

/** A timeline in the kernel. */
export class SwSyncTimeline {
  readonly #sim: Simulator;
  readonly #context: DmaFenceContext;
  readonly #ops: DmaFenceOps;
  /** Fences that have not signalled, by value; it holds no references. */
  #pending: DmaFence[] = [];
  #value = 0;

  /** @param name - shown as the timeline of its fences. */
  constructor(sim: Simulator, name: string) {
    this.#sim = sim;
    this.#context = allocDmaFenceContext(sim, name);
    this.#ops = {
      getDriverName: () => 'sw_sync',
      getTimelineName: () => name,
      signaled: (fence) => this.#isReached(fence.seqno),
      release: (fence) => this.#forget(fence),
    };
  }

  /** How far it is: 32 bits. */
  get value(): number {
    return this.#value;
  }

  /** The fence of `value`, with a reference for the caller. Plain. @see Linux 6.1 sync_pt_create */
  fence(value: number): DmaFence {
    const seqno = value >>> 0;
    const fence = new DmaFence(this.#sim, this.#context, seqno, this.#ops);
    if (fence.isSignaled()) return fence;
    const at = this.#pending.findIndex((one) => ((one.seqno - seqno) | 0) >= 0);
    const known = this.#pending[at];
    if (known?.seqno === seqno) {
      fence.put();
      return known.get();
    }
    this.#pending.splice(at < 0 ? this.#pending.length : at, 0, fence);
    return fence;
  }

  /** Moves on and signals what is reached, in order of the values. Plain. @see Linux 6.1 sync_timeline_signal */
  inc(step: number): void {
    let left = step >>> 0;
    for (; left > LARGEST_STEP; left -= LARGEST_STEP) this.#moveOn(LARGEST_STEP);
    this.#moveOn(left);
  }

  /** Fails what is pending. Plain. @see Linux 6.1 sw_sync_debugfs_release */
  close(): void {
    for (let fence = this.#pending.shift(); fence !== undefined; fence = this.#pending.shift()) {
      fence.setError('ENOENT');
      fence.signal();
    }
  }

  #moveOn(step: number): void {
    this.#value = (this.#value + step) >>> 0;
    for (let [fence] = this.#pending; fence !== undefined && this.#isReached(fence.seqno); [fence] = this.#pending) {
      this.#pending.shift();
      fence.signal();
    }
  }

  #isReached(seqno: number): boolean {
    return ((seqno - this.#value) | 0) <= 0;
  }

  #forget(fence: DmaFence): undefined {
    this.#pending = this.#pending.filter((one) => one !== fence);
  }
}

/** An open timeline; its last reference closes it. */
export class SwSyncFile extends OpenFile {
  readonly path = SW_SYNC_PATH;
  readonly timeline: SwSyncTimeline;

  /** @param name - of the process that opens it. */
  constructor(sim: Simulator, name: string, flags: number = O.rdwr) {
    super(flags);
    this.timeline = new SwSyncTimeline(sim, name);
  }

  /** @throws {ErrnoError} `ENOTTY` another request; `EFAULT` (never retry); `EMFILE`, `ENOMEM` (retry later). @see Linux 6.1 sw_sync_ioctl */
  override ioctl(call: IoctlCall): number {
    if (call.code === SW_SYNC_IOC_CREATE_FENCE.code) this.#createFence(call);
    else if (call.code === SW_SYNC_IOC_INC.code) this.timeline.inc(call.copyIn(SW_SYNC_IOC_INC.layout).value);
    else throw noIoctl(call);
    return 0;
  }

  protected override release(): void {
    this.timeline.close();
  }

  #createFence(call: IoctlCall): void {
    const { layout } = SW_SYNC_IOC_CREATE_FENCE;
    let asked = layout.decode(new Uint8Array());
    call.process.fds.publish(
      () => {
        asked = call.copyIn(layout);
        const fence = this.timeline.fence(asked.value);
        try {
          return fenceFileFor(call.process, fence, 'SW_SYNC_IOC_CREATE_FENCE');
        } finally {
          fence.put();
        }
      },
      (fence) => call.copyOut(layout, { ...asked, fence }),
      { cloexec: true },
    );
  }
}
