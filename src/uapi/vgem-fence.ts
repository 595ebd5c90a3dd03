/**
 * Fences that a process attaches to an object of vgem: until it signals one, everybody else waits for it. To try importers with.
 *
 * 1. A fence for writing goes in only when no fence is pending, one for reading when no writer is.
 * 2. Who forgets to signal one does not hang the others: it ends after 10 s with an error, and the late signal is ETIMEDOUT.
 * 3. When the client is gone, all its fences signal.
 *
 * **Inaccuracies.** In Linux 6.1 a fence that ends like that has no error (`fenceTimeoutError: null`).
 *
 * @see Linux 6.1 `drivers/gpu/drm/vgem/vgem_fence.c`; `include/uapi/drm/vgem_drm.h`
 */
import { ErrnoError } from '../base/errors.ts';
import { DmaFence } from '../dmabuf/dma-fence.ts';
import { allocDmaFenceContext } from '../dmabuf/dma-fence-world.ts';
import { DmaResvUsage } from '../dmabuf/dma-resv.ts';
import type { Op } from '../sim/op.ts';
import type { Timer } from '../sim/timer.ts';
import type { DrmDevice } from './drm-device.ts';
import type { GemObject } from './drm-gem.ts';

/** @internal The fence is for a write. @see Linux 6.1 `include/uapi/drm/vgem_drm.h` VGEM_FENCE_WRITE */
export const VGEM_FENCE_WRITE = 1;

interface Attached {
  readonly fence: DmaFence;
  readonly timer: Timer;
}

/** @internal The fences of one client, by number from 1 on; numbers do not come again. */
export class VgemFences {
  readonly #device: DrmDevice;
  readonly #fences = new Map<number, Attached>();
  #last = 0;

  constructor(device: DrmDevice) {
    this.#device = device;
  }

  /**
   * Attaches a new fence to `object`. Waits for its reservation lock.
   *
   * @returns its number.
   * @throws {ErrnoError} `EBUSY` rule 1 (retry when the other has signalled).
   * @see Linux 6.1 vgem_fence_attach_ioctl
   */
  *attach(object: GemObject, writes: boolean): Op<number> {
    const { resv } = object;
    if (!resv.testSignaled(writes ? DmaResvUsage.read : DmaResvUsage.write)) {
      throw new ErrnoError('EBUSY', 'DRM_IOCTL_VGEM_FENCE_ATTACH', `${object.name} has a pending fence that conflicts`);
    }
    const attached = this.#create();
    let complete = false;
    try {
      yield* resv.withLock(() => {
        resv.reserveFences(1);
        resv.addFence(attached.fence, writes ? DmaResvUsage.write : DmaResvUsage.read);
      });
      complete = true;
    } finally {
      if (!complete) end(attached);
    }
    this.#last++;
    this.#fences.set(this.#last, attached);
    return this.#last;
  }

  /**
   * Signals fence `id`. Plain.
   *
   * @throws {ErrnoError} `ENOENT` there is none, or it was signalled before; `ETIMEDOUT` its time was up before (never retry).
   * @see Linux 6.1 vgem_fence_signal_ioctl
   */
  signal(id: number): void {
    const attached = this.#fences.get(id);
    if (attached === undefined) throw new ErrnoError('ENOENT', 'DRM_IOCTL_VGEM_FENCE_SIGNAL', `no fence ${id}`);
    this.#fences.delete(id);
    const isLate = attached.fence.signaled;
    this.#device.coherency.barrier(); // what the CPU wrote leaves it before anybody is told
    end(attached);
    if (isLate)
      throw new ErrnoError('ETIMEDOUT', 'DRM_IOCTL_VGEM_FENCE_SIGNAL', `the time of fence ${id} was up before`);
  }

  /** Rule 3. */
  release(): void {
    for (const attached of this.#fences.values()) end(attached);
    this.#fences.clear();
  }

  #create(): Attached {
    const { sim, driver } = this.#device;
    const ops = { getDriverName: () => driver.name, getTimelineName: () => 'unbound' };
    const fence = new DmaFence(sim, allocDmaFenceContext(sim, `${driver.name} fence`), 1, ops);
    const timer = sim.after(driver.fenceTimeoutNs, () => {
      if (driver.fenceTimeoutError !== null) fence.setError(driver.fenceTimeoutError);
      fence.signal();
      return undefined;
    });
    return { fence, timer };
  }
}

function end({ fence, timer }: Attached): void {
  timer.cancel();
  if (!fence.signaled) fence.signal();
  fence.put();
}
