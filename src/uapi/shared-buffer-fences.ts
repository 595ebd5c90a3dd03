/** How a program waits for explicit fences, as `shared-buffer.ts` does it: by sync files and by points of sync objects. */
import { ErrnoError } from '../base/errors.ts';
import type { Op } from '../sim/op.ts';
import { DRM_IOCTL_SYNCOBJ_TIMELINE_WAIT, DRM_SYNCOBJ } from './drm-syncobj-requests.ts';
import { POLL } from './file.ts';
import type { Process } from './process.ts';

/** A fence that somebody handed over explicitly. */
export type ExplicitFence =
  /** A sync file, by its descriptor; it stays the caller's. */
  | { readonly syncFile: number }
  /** A sync object of an open card; without `point` (or 0) what it holds now. A point that nobody has submitted yet is waited for. */
  | { readonly card: number; readonly handle: number; readonly point?: number };

/** An instant that never comes, in ns. */
const NEVER_NS = 2 ** 52;

/**
 * @internal Waits until `fence` has signalled, with whatever error; goes on after signals.
 *
 * @throws {ErrnoError} what `poll` and `DRM_IOCTL_SYNCOBJ_TIMELINE_WAIT` throw, but for `EINTR`; `EBADF` no such descriptor.
 */
export function* waitForExplicit(process: Process, fence: ExplicitFence): Op<void> {
  if ('syncFile' in fence) {
    yield* waitReady(process, fence.syncFile, POLL.in);
    return;
  }
  const args = {
    handles: cArray(fence.handle, 4),
    points: cArray(fence.point ?? 0, 8),
    count_handles: 1,
    timeout_nsec: NEVER_NS,
    flags: DRM_SYNCOBJ.waitAll | DRM_SYNCOBJ.waitForSubmit,
  };
  yield* retried(() => process.ioctl(fence.card, DRM_IOCTL_SYNCOBJ_TIMELINE_WAIT, { ...args }));
}

/** @internal Polls without limit; goes on after signals. @throws {ErrnoError} `EBADF` no such descriptor. */
export function* waitReady(process: Process, fd: number, events: number): Op<void> {
  const request = { fd, events, revents: 0 };
  yield* retried(() => process.poll([request], -1));
  if ((request.revents & POLL.nval) !== 0) throw new ErrnoError('EBADF', 'poll', `fd ${fd} is not open`);
}

/** @internal Makes `call` again for as long as a signal interrupts it. @throws whatever else it throws. */
export function* retried<T>(call: () => Op<T>): Op<T> {
  for (;;) {
    try {
      return yield* call();
    } catch (error) {
      if (!(error instanceof ErrnoError && error.code === 'EINTR')) throw error;
    }
  }
}

/** An array of C with one unsigned number. */
function cArray(value: number, bytes: 4 | 8): Uint8Array {
  const array = new Uint8Array(bytes);
  const view = new DataView(array.buffer);
  view.setUint32(0, value % 2 ** 32, true);
  if (bytes === 8) view.setUint32(4, Math.floor(value / 2 ** 32), true);
  return array;
}
