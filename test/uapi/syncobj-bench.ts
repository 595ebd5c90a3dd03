/** A client with sync objects, and their requests in the words of a test. */
import { DmaFence } from '../../src/dmabuf/dma-fence.ts';
import type { DmaFenceOps } from '../../src/dmabuf/dma-fence-ops.ts';
import { allocDmaFenceContext } from '../../src/dmabuf/dma-fence-world.ts';
import { SyncFile } from '../../src/dmabuf/sync-file.ts';
import type { MaybeOp, Op } from '../../src/sim/op.ts';
import { vgemDriver } from '../../src/uapi/drm-device.ts';
import {
  DRM_IOCTL_SYNCOBJ_CREATE,
  DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE,
  DRM_IOCTL_SYNCOBJ_QUERY,
  DRM_IOCTL_SYNCOBJ_RESET,
  DRM_IOCTL_SYNCOBJ_SIGNAL,
  DRM_IOCTL_SYNCOBJ_TIMELINE_SIGNAL,
  DRM_IOCTL_SYNCOBJ_TIMELINE_WAIT,
  DRM_IOCTL_SYNCOBJ_TRANSFER,
  DRM_IOCTL_SYNCOBJ_WAIT,
  DRM_SYNCOBJ,
} from '../../src/uapi/drm-syncobj-requests.ts';
import { FenceFile } from '../../src/uapi/fence-file.ts';
import { DrmBench } from './drm-bench.ts';

export const { waitAll, waitForSubmit, waitAvailable, waitDeadline } = DRM_SYNCOBJ;

/** `values` as an array of C: 32 or 64 bits each. */
export function array(values: readonly number[], bytesEach: 4 | 8): Uint8Array {
  const bytes = new Uint8Array(values.length * bytesEach);
  const view = new DataView(bytes.buffer);
  for (const [i, value] of values.entries()) {
    view.setUint32(i * bytesEach, value % 2 ** 32, true);
    if (bytesEach === 8) view.setUint32(i * 8 + 4, Math.floor(value / 2 ** 32), true);
  }
  return bytes;
}

export class SyncobjBench extends DrmBench {
  readonly client = this.open(this.device({ ...vgemDriver, syncobj: 'timeline' }));
  /** Fences of {@link fence}, in order. */
  readonly fences: DmaFence[] = [];

  /** A new sync object. */
  createSyncobj(flags = 0): number {
    return this.ioctl(this.client, DRM_IOCTL_SYNCOBJ_CREATE, { flags }).handle;
  }

  /** A pending fence of a device. */
  fence(): DmaFence {
    const fence = new DmaFence(this.b.sim, allocDmaFenceContext(this.b.sim, 'device'), 1);
    this.fences.push(fence);
    return fence;
  }

  /** One whose driver can be asked to hurry. */
  fenceWith(ops: DmaFenceOps): DmaFence {
    return new DmaFence(this.b.sim, allocDmaFenceContext(this.b.sim, 'device'), 1, ops);
  }

  /** Puts `fence` into `handle`, for a task of its own. */
  *putFence(handle: number, fence: DmaFence): Op<void> {
    const fd = this.app.fds.install(new FenceFile(new SyncFile(this.b.sim, fence)));
    yield* this.app.ioctl(this.client, DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE, { handle, fd, flags: DRM_SYNCOBJ.syncFile });
    yield* this.app.close(fd);
  }

  *transferOp(src: number, srcPoint: number, dst: number, dstPoint: number): Op<void> {
    const args = { src_handle: src, src_point: srcPoint, dst_handle: dst, dst_point: dstPoint };
    yield* this.app.ioctl(this.client, DRM_IOCTL_SYNCOBJ_TRANSFER, args);
  }

  *signalLater(handle: number): Op<void> {
    yield* this.app.ioctl(this.client, DRM_IOCTL_SYNCOBJ_SIGNAL, { handles: array([handle], 4), count_handles: 1 });
  }

  *signalPointLater(handle: number, point: number): Op<void> {
    const where = { handles: array([handle], 4), points: array([point], 8) };
    yield* this.app.ioctl(this.client, DRM_IOCTL_SYNCOBJ_TIMELINE_SIGNAL, { ...where, count_handles: 1 });
  }

  /** Puts a pending fence into `handle`. */
  submit(handle: number): DmaFence {
    const fence = this.fence();
    const fd = this.app.fds.install(new FenceFile(new SyncFile(this.b.sim, fence)));
    this.ioctl(this.client, DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE, { handle, fd, flags: DRM_SYNCOBJ.syncFile });
    this.close(fd);
    return fence;
  }

  /** Makes a pending fence point `point` of `handle`. */
  submitPoint(handle: number, point: number): DmaFence {
    const source = this.createSyncobj();
    const fence = this.submit(source);
    this.transfer(source, 0, handle, point);
    return fence;
  }

  transfer(src: number, srcPoint: number, dst: number, dstPoint: number, flags = 0): string {
    const args = { src_handle: src, src_point: srcPoint, dst_handle: dst, dst_point: dstPoint, flags };
    return this.codeOf(() => this.app.ioctl(this.client, DRM_IOCTL_SYNCOBJ_TRANSFER, args));
  }

  wait(handles: readonly number[], flags = 0, untilNs = 0): string {
    const args = { handles: array(handles, 4), count_handles: handles.length, flags, timeout_nsec: untilNs };
    return this.codeOf(() => this.app.ioctl(this.client, DRM_IOCTL_SYNCOBJ_WAIT, args));
  }

  waitPoint(handle: number, point: number, flags = 0, untilNs = 0): string {
    return this.codeOf(() => this.timelineWait([handle], [point], flags, untilNs));
  }

  timelineWait(handles: readonly number[], points: readonly number[], flags = 0, untilNs = 0): MaybeOp<unknown> {
    const where = { handles: array(handles, 4), points: array(points, 8) };
    const args = { ...where, count_handles: handles.length, flags, timeout_nsec: untilNs };
    return this.app.ioctl(this.client, DRM_IOCTL_SYNCOBJ_TIMELINE_WAIT, args);
  }

  query(handle: number, flags = 0): number {
    const points = new Uint8Array(8);
    this.ioctl(this.client, DRM_IOCTL_SYNCOBJ_QUERY, { handles: array([handle], 4), points, count_handles: 1, flags });
    return new DataView(points.buffer).getUint32(0, true) + 2 ** 32 * new DataView(points.buffer).getUint32(4, true);
  }

  signal(handles: readonly number[]): void {
    this.ioctl(this.client, DRM_IOCTL_SYNCOBJ_SIGNAL, { handles: array(handles, 4), count_handles: handles.length });
  }

  reset(handles: readonly number[]): void {
    this.ioctl(this.client, DRM_IOCTL_SYNCOBJ_RESET, { handles: array(handles, 4), count_handles: handles.length });
  }

  signalPoints(handles: readonly number[], points: readonly number[]): void {
    const where = { handles: array(handles, 4), points: array(points, 8) };
    this.ioctl(this.client, DRM_IOCTL_SYNCOBJ_TIMELINE_SIGNAL, { ...where, count_handles: handles.length });
  }
}
