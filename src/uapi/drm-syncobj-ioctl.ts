/**
 * The requests of DRM for sync objects.
 *
 * @see Linux 6.1 `include/uapi/drm/drm.h`; `drivers/gpu/drm/drm_syncobj.c`
 */
import { ErrnoError } from '../base/errors.ts';
import { seconds } from '../base/units.ts';
import type { DmaFence } from '../dmabuf/dma-fence.ts';
import { dmaFenceUnwrapMerge } from '../dmabuf/dma-fence-unwrap.ts';
import type { Op } from '../sim/op.ts';
import type { DrmFile } from './drm-file.ts';
import { type DrmRequest, drmOp } from './drm-request.ts';
import {
  DRM_IOCTL_SYNCOBJ_CREATE,
  DRM_IOCTL_SYNCOBJ_DESTROY,
  DRM_IOCTL_SYNCOBJ_EVENTFD,
  DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE,
  DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD,
  DRM_IOCTL_SYNCOBJ_QUERY,
  DRM_IOCTL_SYNCOBJ_RESET,
  DRM_IOCTL_SYNCOBJ_SIGNAL,
  DRM_IOCTL_SYNCOBJ_TIMELINE_SIGNAL,
  DRM_IOCTL_SYNCOBJ_TIMELINE_WAIT,
  DRM_IOCTL_SYNCOBJ_TRANSFER,
  DRM_IOCTL_SYNCOBJ_WAIT,
  DRM_SYNCOBJ,
} from './drm-syncobj-requests.ts';
import { EventFd } from './eventfd.ts';
import { openFileOrNull } from './fd-lookup.ts';
import { asDeadline, type FenceFile, fenceFileAt, fenceFileFor } from './fence-file.ts';
import type { IoctlCall } from './ioctl.ts';
import { struct } from './ioctl.ts';
import type { SizedFor } from './sized-ioctl.ts';
import type { Syncobj } from './syncobj.ts';
import { raiseEventfdAt } from './syncobj-eventfd.ts';
import { SyncobjFile } from './syncobj-file.ts';
import { type SyncobjPoint, waitForSyncobjs } from './syncobj-wait.ts';

const U32 = struct({ value: 'u32' });
const U64 = struct({ value: 'u64' });
/** A wait that ends later than this ends never. */
const NEVER_NS = 2 ** 52;
/** How long a transfer waits for its source to exist. */
const SUBMIT_TIMEOUT_NS = seconds(5);
const WAIT_FLAGS = DRM_SYNCOBJ.waitAll | DRM_SYNCOBJ.waitForSubmit | DRM_SYNCOBJ.waitDeadline;

/** @internal Every request, by its number. */
export const DRM_SYNCOBJ_REQUESTS: readonly (readonly [number, DrmRequest])[] = [
  drmOp(DRM_IOCTL_SYNCOBJ_CREATE, create),
  drmOp(DRM_IOCTL_SYNCOBJ_DESTROY, (file, { args }) => {
    need(file, 'binary');
    refuse('DRM_IOCTL_SYNCOBJ_DESTROY', 'pad', args.pad);
    file.syncobjs.destroy(args.handle);
  }),
  drmOp(DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD, handleToFd),
  drmOp(DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE, fdToHandle),
  drmOp(DRM_IOCTL_SYNCOBJ_WAIT, wait),
  drmOp(DRM_IOCTL_SYNCOBJ_RESET, (file, sized) => {
    for (const syncobj of arrayOf(file, sized, 'DRM_IOCTL_SYNCOBJ_RESET')) syncobj.replaceFence(null);
  }),
  drmOp(DRM_IOCTL_SYNCOBJ_SIGNAL, (file, sized) => {
    for (const syncobj of arrayOf(file, sized, 'DRM_IOCTL_SYNCOBJ_SIGNAL')) syncobj.signal();
  }),
  drmOp(DRM_IOCTL_SYNCOBJ_TIMELINE_WAIT, timelineWait),
  drmOp(DRM_IOCTL_SYNCOBJ_QUERY, query),
  drmOp(DRM_IOCTL_SYNCOBJ_TRANSFER, transfer),
  drmOp(DRM_IOCTL_SYNCOBJ_TIMELINE_SIGNAL, timelineSignal),
  drmOp(DRM_IOCTL_SYNCOBJ_EVENTFD, eventfd),
];

function create(file: DrmFile, sized: SizedFor<typeof DRM_IOCTL_SYNCOBJ_CREATE>): void {
  need(file, 'binary');
  const { flags } = sized.args;
  refuse('DRM_IOCTL_SYNCOBJ_CREATE', 'flags', flags & ~DRM_SYNCOBJ.createSignaled);
  const handle = file.syncobjs.create((flags & DRM_SYNCOBJ.createSignaled) !== 0);
  tell(file, handle, () => sized.answer({ handle }));
}

function handleToFd(file: DrmFile, sized: SizedFor<typeof DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD>): void {
  need(file, 'binary');
  const op = 'DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD';
  const { handle, flags, pad } = sized.args;
  refuse(op, 'pad', pad);
  refuse(op, 'flags', flags & ~DRM_SYNCOBJ.syncFile);
  const make = (): FenceFile | SyncobjFile => {
    if (flags === 0) {
      const syncobj = file.syncobjs.get(handle);
      if (syncobj === null) throw new ErrnoError('EINVAL', op, `client has no sync object ${handle}`);
      return new SyncobjFile(syncobj);
    }
    const fence = existing(file.syncobjs.find(handle), 0, op);
    try {
      return fenceFileFor(sized.call.process, fence, op);
    } finally {
      fence.put();
    }
  };
  sized.call.process.fds.publish(make, (fd) => sized.answer({ fd }), { cloexec: true });
}

function fdToHandle(file: DrmFile, sized: SizedFor<typeof DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE>): void {
  need(file, 'binary');
  const op = 'DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE';
  const { handle, flags, fd, pad } = sized.args;
  refuse(op, 'pad', pad);
  refuse(op, 'flags', flags & ~DRM_SYNCOBJ.syncFile);
  const { process } = sized.call;
  if (flags !== 0) {
    const source = fenceFileAt(process, fd);
    if (source === null) throw new ErrnoError('EINVAL', op, `fd ${fd} is no sync file`);
    file.syncobjs.find(handle).replaceFence(source.syncFile.fence);
    return;
  }
  const source = openFileOrNull(process.fds, fd);
  if (!(source instanceof SyncobjFile)) throw new ErrnoError('EINVAL', op, `fd ${fd} is no sync object`);
  const added = file.syncobjs.add(source.syncobj);
  tell(file, added, () => sized.answer({ handle: added }));
}

function* wait(file: DrmFile, sized: SizedFor<typeof DRM_IOCTL_SYNCOBJ_WAIT>): Op<void> {
  need(file, 'binary');
  const { flags, count_handles: count, handles } = sized.args;
  refuse('DRM_IOCTL_SYNCOBJ_WAIT', 'flags', flags & ~WAIT_FLAGS);
  if (count === 0) return;
  const points = find(file, sized.call, handles, count).map((syncobj) => ({ syncobj, point: 0 }));
  sized.answer({ first_signaled: yield* waitFor(file, sized, points) });
}

function* timelineWait(file: DrmFile, sized: SizedFor<typeof DRM_IOCTL_SYNCOBJ_TIMELINE_WAIT>): Op<void> {
  need(file, 'timeline');
  const { flags, count_handles: count, handles, points } = sized.args;
  refuse('DRM_IOCTL_SYNCOBJ_TIMELINE_WAIT', 'flags', flags & ~(WAIT_FLAGS | DRM_SYNCOBJ.waitAvailable));
  if (count === 0) return;
  const syncobjs = find(file, sized.call, handles, count);
  const numbers = pointsAt(sized.call, points, count);
  const wanted = syncobjs.map((syncobj, i) => ({ syncobj, point: numbers[i] ?? 0 }));
  sized.answer({ first_signaled: yield* waitFor(file, sized, wanted) });
}

function* waitFor(
  file: DrmFile,
  { args }: SizedFor<typeof DRM_IOCTL_SYNCOBJ_WAIT> | SizedFor<typeof DRM_IOCTL_SYNCOBJ_TIMELINE_WAIT>,
  points: readonly SyncobjPoint[],
): Op<number> {
  const { flags, timeout_nsec: until, deadline_nsec: deadline } = args;
  return yield* waitForSyncobjs(file.device.sim, points, {
    all: (flags & DRM_SYNCOBJ.waitAll) !== 0,
    forSubmit: (flags & DRM_SYNCOBJ.waitForSubmit) !== 0,
    available: (flags & DRM_SYNCOBJ.waitAvailable) !== 0,
    untilNs: until > NEVER_NS ? Infinity : until,
    deadlineNs: (flags & DRM_SYNCOBJ.waitDeadline) === 0 ? null : asDeadline(deadline),
  });
}

function query(file: DrmFile, { call, args }: SizedFor<typeof DRM_IOCTL_SYNCOBJ_QUERY>): void {
  need(file, 'timeline');
  const { flags, count_handles: count, handles, points } = args;
  refuse('DRM_IOCTL_SYNCOBJ_QUERY', 'flags', flags & ~DRM_SYNCOBJ.lastSubmitted);
  checkCount('DRM_IOCTL_SYNCOBJ_QUERY', count);
  for (const [i, syncobj] of find(file, call, handles, count).entries()) {
    const value = flags === 0 ? syncobj.reached() : syncobj.submitted();
    call.memory.copyTo(points + i * U64.sizeBytes, U64.encode({ value }));
  }
}

/** Waits for the source with `DRM_SYNCOBJ.waitForSubmit`, at most 5 s. */
function* transfer(file: DrmFile, { args }: SizedFor<typeof DRM_IOCTL_SYNCOBJ_TRANSFER>): Op<void> {
  need(file, 'timeline');
  const op = 'DRM_IOCTL_SYNCOBJ_TRANSFER';
  refuse(op, 'pad', args.pad);
  const dst = file.syncobjs.find(args.dst_handle).get();
  try {
    refuse(op, 'flags', args.flags & ~DRM_SYNCOBJ.waitForSubmit);
    const src = file.syncobjs.find(args.src_handle);
    const point = unsigned(args.src_point);
    const { sim } = file.device;
    if (args.flags !== 0) {
      const options = { all: true, forSubmit: true, available: true, deadlineNs: null };
      const untilNs = sim.now + SUBMIT_TIMEOUT_NS;
      yield* waitForSyncobjs(sim, [{ syncobj: src, point }], { ...options, untilNs });
    }
    const fence = existing(src, point, op);
    try {
      if (args.dst_point === 0) dst.replaceFence(fence);
      else addFlat(dst, fence, unsigned(args.dst_point));
    } finally {
      fence.put();
    }
  } finally {
    dst.put();
  }
}

/** A link of a chain must not be a chain itself. */
function addFlat(dst: Syncobj, fence: DmaFence, point: number): void {
  const flat = dmaFenceUnwrapMerge(dst.sim, [fence]);
  dst.addPoint(flat, point);
  flat.put();
}

function timelineSignal(file: DrmFile, { call, args }: SizedFor<typeof DRM_IOCTL_SYNCOBJ_TIMELINE_SIGNAL>): void {
  need(file, 'timeline');
  const { flags, count_handles: count, handles, points } = args;
  refuse('DRM_IOCTL_SYNCOBJ_TIMELINE_SIGNAL', 'flags', flags);
  checkCount('DRM_IOCTL_SYNCOBJ_TIMELINE_SIGNAL', count);
  const syncobjs = find(file, call, handles, count);
  const numbers = pointsAt(call, points, count);
  for (const [i, syncobj] of syncobjs.entries()) syncobj.signalPoint(numbers[i] ?? 0);
}

function eventfd(file: DrmFile, { call, args }: SizedFor<typeof DRM_IOCTL_SYNCOBJ_EVENTFD>): void {
  need(file, 'timeline');
  const op = 'DRM_IOCTL_SYNCOBJ_EVENTFD';
  const { handle, flags, point, fd, pad } = args;
  refuse(op, 'flags', flags & ~DRM_SYNCOBJ.waitAvailable);
  refuse(op, 'pad', pad);
  const syncobj = file.syncobjs.find(handle);
  const target = call.process.fds.file(fd, op);
  if (!(target instanceof EventFd)) throw new ErrnoError('EINVAL', op, `fd ${fd} is no eventfd`);
  raiseEventfdAt(syncobj, unsigned(point), target, flags !== 0);
}

function arrayOf(
  file: DrmFile,
  { call, args }: SizedFor<typeof DRM_IOCTL_SYNCOBJ_RESET>,
  op: string,
): readonly Syncobj[] {
  need(file, 'binary');
  refuse(op, 'pad', args.pad);
  checkCount(op, args.count_handles);
  return find(file, call, args.handles, args.count_handles);
}

/** @throws {ErrnoError} `EFAULT` bad memory; `ENOENT` a handle that the client does not have (never retry). */
function find(file: DrmFile, call: IoctlCall, address: number, count: number): Syncobj[] {
  const bytes = call.memory.copyFrom(address, count * U32.sizeBytes);
  return Array.from({ length: count }, (_, i) => file.syncobjs.find(U32.decode(bytes.subarray(4 * i)).value));
}

/** The points at `address`; all 0 when that is 0. */
function pointsAt(call: IoctlCall, address: number, count: number): number[] {
  if (address === 0) return [];
  const bytes = call.memory.copyFrom(address, count * U64.sizeBytes);
  return Array.from({ length: count }, (_, i) => unsigned(U64.decode(bytes.subarray(8 * i)).value));
}

/** The fence of `point`, with a reference. @throws {ErrnoError} `EINVAL` it does not exist (retry when it does). */
function existing(syncobj: Syncobj, point: number, op: string): DmaFence {
  const fence = syncobj.findFence(point);
  if (fence === null) throw new ErrnoError('EINVAL', op, `there is no point ${point}; signal or submit it first`);
  return fence;
}

function need({ device: { driver } }: DrmFile, what: 'binary' | 'timeline'): void {
  if (driver.syncobj === 'timeline' || driver.syncobj === what) return;
  throw new ErrnoError('EOPNOTSUPP', 'ioctl', `${driver.name} has no sync objects of kind ${what}`);
}

function refuse(op: string, field: string, bits: number): void {
  if (bits !== 0) throw new ErrnoError('EINVAL', op, `${field}: 0x${bits.toString(16)} is unknown or not 0`);
}

function checkCount(op: string, count: number): void {
  if (count === 0) throw new ErrnoError('EINVAL', op, 'count_handles: 0 handles');
}

/** Tells the process of a new handle; it is closed again when that fails. */
function tell(file: DrmFile, handle: number, answer: () => void): void {
  let told = false;
  try {
    answer();
    told = true;
  } finally {
    if (!told) file.syncobjs.destroy(handle);
  }
}

function unsigned(value: number): number {
  return value < 0 ? value + 2 ** 64 : value;
}
