/** Numbers, flags and structs of DRM's requests for sync objects. @see Linux 6.1 `include/uapi/drm/drm.h` */
import { type IoctlRequest, ioctlRequest } from './ioctl.ts';

/** Flags. `waitDeadline` came with Linux 6.6. */
export const DRM_SYNCOBJ = {
  /** DRM_SYNCOBJ_CREATE_SIGNALED */
  createSignaled: 1,
  /** DRM_SYNCOBJ_HANDLE_TO_FD_FLAGS_EXPORT_SYNC_FILE, DRM_SYNCOBJ_FD_TO_HANDLE_FLAGS_IMPORT_SYNC_FILE */
  syncFile: 1,
  /** DRM_SYNCOBJ_QUERY_FLAGS_LAST_SUBMITTED */
  lastSubmitted: 1,
  /** DRM_SYNCOBJ_WAIT_FLAGS_WAIT_ALL */
  waitAll: 1,
  /** DRM_SYNCOBJ_WAIT_FLAGS_WAIT_FOR_SUBMIT */
  waitForSubmit: 2,
  /** DRM_SYNCOBJ_WAIT_FLAGS_WAIT_AVAILABLE */
  waitAvailable: 4,
  /** DRM_SYNCOBJ_WAIT_FLAGS_WAIT_DEADLINE */
  waitDeadline: 8,
} as const;

const ARRAY = { handles: 'ptr', count_handles: 'u32', pad: 'u32' } as const;
const TIMELINE_ARRAY = { handles: 'ptr', points: 'ptr', count_handles: 'u32', flags: 'u32' } as const;
const HANDLE_AND_FD = { handle: 'u32', flags: 'u32', fd: 's32', pad: 'u32' } as const;

/** A new object. */
export const DRM_IOCTL_SYNCOBJ_CREATE = ioctlRequest('DRM_IOCTL_SYNCOBJ_CREATE', 'rw', 'd', 0xbf, {
  handle: 'u32',
  flags: 'u32',
});

/** Closes a handle. */
export const DRM_IOCTL_SYNCOBJ_DESTROY = ioctlRequest('DRM_IOCTL_SYNCOBJ_DESTROY', 'rw', 'd', 0xc0, {
  handle: 'u32',
  pad: 'u32',
});

/** A descriptor for the object, or for a sync file of what it holds. */
export const DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD: IoctlRequest<typeof HANDLE_AND_FD> = ioctlRequest(
  'DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD',
  'rw',
  'd',
  0xc1,
  HANDLE_AND_FD,
);

/** A handle for the object behind a descriptor; or `handle` then holds what a sync file holds. */
export const DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE: IoctlRequest<typeof HANDLE_AND_FD> = ioctlRequest(
  'DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE',
  'rw',
  'd',
  0xc2,
  HANDLE_AND_FD,
);

/** Waits for what objects hold, until `timeout_nsec`, an instant. */
export const DRM_IOCTL_SYNCOBJ_WAIT = ioctlRequest('DRM_IOCTL_SYNCOBJ_WAIT', 'rw', 'd', 0xc3, {
  handles: 'ptr',
  timeout_nsec: 's64',
  count_handles: 'u32',
  flags: 'u32',
  first_signaled: 'u32',
  pad: 'u32',
  deadline_nsec: 'u64',
});

/** Objects hold nothing any more. */
export const DRM_IOCTL_SYNCOBJ_RESET = ioctlRequest('DRM_IOCTL_SYNCOBJ_RESET', 'rw', 'd', 0xc4, ARRAY);

/** Objects hold something that has signalled. */
export const DRM_IOCTL_SYNCOBJ_SIGNAL = ioctlRequest('DRM_IOCTL_SYNCOBJ_SIGNAL', 'rw', 'd', 0xc5, ARRAY);

/** Waits for points. `points` 0: all are point 0. */
export const DRM_IOCTL_SYNCOBJ_TIMELINE_WAIT = ioctlRequest('DRM_IOCTL_SYNCOBJ_TIMELINE_WAIT', 'rw', 'd', 0xca, {
  handles: 'ptr',
  points: 'ptr',
  timeout_nsec: 's64',
  count_handles: 'u32',
  flags: 'u32',
  first_signaled: 'u32',
  pad: 'u32',
  deadline_nsec: 'u64',
});

/** Which points were reached; or, with a flag, which were added. */
export const DRM_IOCTL_SYNCOBJ_QUERY = ioctlRequest('DRM_IOCTL_SYNCOBJ_QUERY', 'rw', 'd', 0xcb, TIMELINE_ARRAY);

/** Copies a point; point 0 is the whole object. */
export const DRM_IOCTL_SYNCOBJ_TRANSFER = ioctlRequest('DRM_IOCTL_SYNCOBJ_TRANSFER', 'rw', 'd', 0xcc, {
  src_handle: 'u32',
  dst_handle: 'u32',
  src_point: 'u64',
  dst_point: 'u64',
  flags: 'u32',
  pad: 'u32',
});

/** Adds points from the CPU. */
export const DRM_IOCTL_SYNCOBJ_TIMELINE_SIGNAL = ioctlRequest(
  'DRM_IOCTL_SYNCOBJ_TIMELINE_SIGNAL',
  'rw',
  'd',
  0xcd,
  TIMELINE_ARRAY,
);

/** Raises an eventfd at a point. Came with Linux 6.6. */
export const DRM_IOCTL_SYNCOBJ_EVENTFD = ioctlRequest('DRM_IOCTL_SYNCOBJ_EVENTFD', 'rw', 'd', 0xcf, {
  handle: 'u32',
  flags: 'u32',
  point: 'u64',
  fd: 's32',
  pad: 'u32',
});
