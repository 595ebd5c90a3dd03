/** Arguments that make no sense, request by request, with what Linux answers. */
import type { ErrnoCode } from '../../src/base/errno.ts';
import {
  DMA_BUF_IOCTL_EXPORT_SYNC_FILE,
  DMA_BUF_IOCTL_IMPORT_SYNC_FILE,
  DMA_BUF_IOCTL_SYNC,
} from '../../src/uapi/dma-buf-file.ts';
import { DMA_HEAP_IOCTL_ALLOC } from '../../src/uapi/dma-heap-file.ts';
import * as drm from '../../src/uapi/drm-ioctl.ts';
import * as so from '../../src/uapi/drm-syncobj-requests.ts';
import { SYNC_IOC_FILE_INFO, SYNC_IOC_MERGE, SYNC_IOC_SET_DEADLINE } from '../../src/uapi/fence-file.ts';
import { O } from '../../src/uapi/file.ts';
import { type Fields, type IoctlRequest, struct } from '../../src/uapi/ioctl.ts';
import { SW_SYNC_IOC_CREATE_FENCE, SW_SYNC_IOC_INC } from '../../src/uapi/sw-sync.ts';
import { UDMABUF_CREATE, UDMABUF_CREATE_LIST } from '../../src/uapi/udmabuf.ts';

/** One open file of each kind. */
export type Kind = 'heap' | 'vgem' | 'card' | 'timeline' | 'fence' | 'buffer' | 'eventfd' | 'memfd' | 'udmabuf';
export const KINDS: readonly Kind[] = [
  'heap',
  'vgem',
  'card',
  'timeline',
  'fence',
  'buffer',
  'eventfd',
  'memfd',
  'udmabuf',
];
export type Fds = Readonly<Record<Kind, number>>;

/** A handle and a descriptor that nobody has. */
export const NONE = 77;
const HANDLES = struct({ handle: 'u32' });
/** The first handle of its kind, which {@link setUp} makes. */
export const FIRST = 1;
const ONE = HANDLES.encode({ handle: FIRST });

/** One call. Arguments may name a descriptor by its kind. */
export type Case = readonly [
  what: string,
  on: Kind,
  request: IoctlRequest<Fields>,
  args: Readonly<Record<string, number | string | Uint8Array | Kind>>,
  code: ErrnoCode,
];

const BUFFERS: readonly Case[] = [
  ['a bracket without an access', 'buffer', DMA_BUF_IOCTL_SYNC, { flags: 0 }, 'EINVAL'],
  ['an unknown flag of a bracket', 'buffer', DMA_BUF_IOCTL_SYNC, { flags: 0x11 }, 'EINVAL'],
  ['a flag in the upper half', 'buffer', DMA_BUF_IOCTL_SYNC, { flags: 2 ** 32 + 1 }, 'EINVAL'],
  ['an export for no access', 'buffer', DMA_BUF_IOCTL_EXPORT_SYNC_FILE, { flags: 0 }, 'EINVAL'],
  ['an export for an unknown access', 'buffer', DMA_BUF_IOCTL_EXPORT_SYNC_FILE, { flags: 7 }, 'EINVAL'],
  ['an import for no access', 'buffer', DMA_BUF_IOCTL_IMPORT_SYNC_FILE, { flags: 0, fd: 'fence' }, 'EINVAL'],
  ['an import for an unknown access', 'buffer', DMA_BUF_IOCTL_IMPORT_SYNC_FILE, { flags: 8, fd: 'fence' }, 'EINVAL'],
  ['an import of a buffer', 'buffer', DMA_BUF_IOCTL_IMPORT_SYNC_FILE, { flags: 1, fd: 'buffer' }, 'EINVAL'],
  ['an import of nothing', 'buffer', DMA_BUF_IOCTL_IMPORT_SYNC_FILE, { flags: 1, fd: -1 }, 'EINVAL'],
  ['a heap buffer of 0 bytes', 'heap', DMA_HEAP_IOCTL_ALLOC, { len: 0, fd_flags: O.rdwr }, 'EINVAL'],
  ['a heap buffer whose size wraps', 'heap', DMA_HEAP_IOCTL_ALLOC, { len: -1, fd_flags: O.rdwr }, 'EINVAL'],
  ['a heap buffer larger than memory', 'heap', DMA_HEAP_IOCTL_ALLOC, { len: 2 ** 40, fd_flags: O.rdwr }, 'ENOMEM'],
  ['a heap request with a descriptor', 'heap', DMA_HEAP_IOCTL_ALLOC, { len: 4096, fd: 3 }, 'EINVAL'],
  ['flags a descriptor does not have', 'heap', DMA_HEAP_IOCTL_ALLOC, { len: 4096, fd_flags: O.nonblock }, 'EINVAL'],
  ['flags a heap does not have', 'heap', DMA_HEAP_IOCTL_ALLOC, { len: 4096, heap_flags: 1 }, 'EINVAL'],
  ['a buffer of what is no file in memory', 'udmabuf', UDMABUF_CREATE, { memfd: 'buffer', size: 4096 }, 'EBADFD'],
  ['a buffer of nothing', 'udmabuf', UDMABUF_CREATE, { memfd: NONE, size: 4096 }, 'EBADFD'],
  ['an offset off a page', 'udmabuf', UDMABUF_CREATE, { memfd: 'memfd', offset: 1, size: 4096 }, 'EINVAL'],
  ['a size off a page', 'udmabuf', UDMABUF_CREATE, { memfd: 'memfd', size: 4097 }, 'EINVAL'],
  ['no page at all', 'udmabuf', UDMABUF_CREATE, { memfd: 'memfd', size: 0 }, 'EINVAL'],
  ['a file that can shrink', 'udmabuf', UDMABUF_CREATE, { memfd: 'memfd', size: 4096 }, 'EINVAL'],
  ['an empty list', 'udmabuf', UDMABUF_CREATE_LIST, { count: 0 }, 'EINVAL'],
  ['a list that is too long', 'udmabuf', UDMABUF_CREATE_LIST, { count: 1025 }, 'EINVAL'],
  ['a list that is not there', 'udmabuf', UDMABUF_CREATE_LIST, { count: 1 }, 'EFAULT'],
];

const FENCES: readonly Case[] = [
  ['a merge with flags', 'fence', SYNC_IOC_MERGE, { fd2: 'fence', flags: 1 }, 'EINVAL'],
  ['a merge with a pad', 'fence', SYNC_IOC_MERGE, { fd2: 'fence', pad: 1 }, 'EINVAL'],
  ['a merge with nothing', 'fence', SYNC_IOC_MERGE, { fd2: NONE }, 'ENOENT'],
  ['a merge with a buffer', 'fence', SYNC_IOC_MERGE, { fd2: 'buffer' }, 'ENOENT'],
  ['a merge with a timeline', 'fence', SYNC_IOC_MERGE, { fd2: 'timeline' }, 'ENOENT'],
  ['a look with flags', 'fence', SYNC_IOC_FILE_INFO, { flags: 1 }, 'EINVAL'],
  ['a look with a pad', 'fence', SYNC_IOC_FILE_INFO, { pad: 1 }, 'EINVAL'],
  ['a deadline with a pad', 'fence', SYNC_IOC_SET_DEADLINE, { deadline_ns: 1, pad: 1 }, 'EINVAL'],
  ['a look that has memory nowhere', 'fence', SYNC_IOC_FILE_INFO, { num_fences: 1, sync_fence_info: 64 }, 'EFAULT'],
];

const OBJECTS: readonly Case[] = [
  ['a handle that is none', 'card', drm.DRM_IOCTL_GEM_CLOSE, { handle: NONE }, 'EINVAL'],
  ['handle 0', 'card', drm.DRM_IOCTL_GEM_CLOSE, { handle: 0 }, 'EINVAL'],
  ['a name for no object', 'card', drm.DRM_IOCTL_GEM_FLINK, { handle: NONE }, 'ENOENT'],
  ['an unknown name', 'card', drm.DRM_IOCTL_GEM_OPEN, { name: NONE }, 'ENOENT'],
  ['a capability of displays', 'vgem', drm.DRM_IOCTL_GET_CAP, { capability: 1 }, 'EOPNOTSUPP'],
  ['an unknown capability', 'card', drm.DRM_IOCTL_GET_CAP, { capability: NONE }, 'EINVAL'],
  ['an export of no object', 'card', drm.DRM_IOCTL_PRIME_HANDLE_TO_FD, { handle: NONE }, 'ENOENT'],
  ['an export with unknown flags', 'card', drm.DRM_IOCTL_PRIME_HANDLE_TO_FD, { handle: FIRST, flags: 1 }, 'EINVAL'],
  ['an import of nothing', 'card', drm.DRM_IOCTL_PRIME_FD_TO_HANDLE, { fd: NONE }, 'EBADF'],
  ['an import of a negative descriptor', 'card', drm.DRM_IOCTL_PRIME_FD_TO_HANDLE, { fd: -1 }, 'EBADF'],
  ['an import of a sync file', 'card', drm.DRM_IOCTL_PRIME_FD_TO_HANDLE, { fd: 'fence' }, 'EINVAL'],
  ['a picture without a width', 'card', drm.DRM_IOCTL_MODE_CREATE_DUMB, { height: 1, bpp: 32 }, 'EINVAL'],
  ['a picture without a height', 'card', drm.DRM_IOCTL_MODE_CREATE_DUMB, { width: 1, bpp: 32 }, 'EINVAL'],
  ['a picture without bits', 'card', drm.DRM_IOCTL_MODE_CREATE_DUMB, { width: 1, height: 1 }, 'EINVAL'],
  ['a picture that wraps', 'card', drm.DRM_IOCTL_MODE_CREATE_DUMB, { width: 65_536, height: 65_536, bpp: 8 }, 'EINVAL'],
  ['a place of no object', 'card', drm.DRM_IOCTL_MODE_MAP_DUMB, { handle: NONE }, 'ENOENT'],
  ['the end of no picture', 'card', drm.DRM_IOCTL_MODE_DESTROY_DUMB, { handle: NONE }, 'EINVAL'],
  ['a fence with unknown flags', 'vgem', drm.DRM_IOCTL_VGEM_FENCE_ATTACH, { handle: FIRST, flags: 2 }, 'EINVAL'],
  ['a fence with a pad', 'vgem', drm.DRM_IOCTL_VGEM_FENCE_ATTACH, { handle: FIRST, pad: 1 }, 'EINVAL'],
  ['a fence on no object', 'vgem', drm.DRM_IOCTL_VGEM_FENCE_ATTACH, { handle: NONE }, 'ENOENT'],
  ['a signal with flags', 'vgem', drm.DRM_IOCTL_VGEM_FENCE_SIGNAL, { fence: 1, flags: 1 }, 'EINVAL'],
  ['a signal of no fence', 'vgem', drm.DRM_IOCTL_VGEM_FENCE_SIGNAL, { fence: NONE }, 'ENOENT'],
];

const ARRAY = { handles: ONE, count_handles: 1 };
const LOST = { handles: HANDLES.encode({ handle: NONE }), count_handles: 1 };
const SYNCOBJS: readonly Case[] = [
  ['unknown flags of a new one', 'card', so.DRM_IOCTL_SYNCOBJ_CREATE, { flags: 2 }, 'EINVAL'],
  ['one on a card without any', 'vgem', so.DRM_IOCTL_SYNCOBJ_CREATE, {}, 'EOPNOTSUPP'],
  ['the end of none', 'card', so.DRM_IOCTL_SYNCOBJ_DESTROY, { handle: NONE }, 'EINVAL'],
  ['an end with a pad', 'card', so.DRM_IOCTL_SYNCOBJ_DESTROY, { handle: FIRST, pad: 1 }, 'EINVAL'],
  ['an export of none', 'card', so.DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD, { handle: NONE }, 'EINVAL'],
  ['an export with unknown flags', 'card', so.DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD, { handle: FIRST, flags: 4 }, 'EINVAL'],
  ['an export with a pad', 'card', so.DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD, { handle: FIRST, pad: 1 }, 'EINVAL'],
  [
    'a sync file of one that holds nothing',
    'card',
    so.DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD,
    { handle: FIRST, flags: 1 },
    'EINVAL',
  ],
  ['a sync file of none', 'card', so.DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD, { handle: NONE, flags: 1 }, 'ENOENT'],
  ['an import of a buffer', 'card', so.DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE, { fd: 'buffer' }, 'EINVAL'],
  ['an import of nothing', 'card', so.DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE, { fd: NONE }, 'EINVAL'],
  [
    'a sync file that is none',
    'card',
    so.DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE,
    { handle: FIRST, flags: 1, fd: 'buffer' },
    'EINVAL',
  ],
  [
    'a sync file for none',
    'card',
    so.DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE,
    { handle: NONE, flags: 1, fd: 'fence' },
    'ENOENT',
  ],
  ['a wait with unknown flags', 'card', so.DRM_IOCTL_SYNCOBJ_WAIT, { ...ARRAY, flags: 0x10 }, 'EINVAL'],
  ['a wait for none', 'card', so.DRM_IOCTL_SYNCOBJ_WAIT, LOST, 'ENOENT'],
  ['a wait for one that holds nothing', 'card', so.DRM_IOCTL_SYNCOBJ_WAIT, ARRAY, 'EINVAL'],
  [
    'a wait for handles that are nowhere',
    'card',
    so.DRM_IOCTL_SYNCOBJ_WAIT,
    { handles: 64, count_handles: 1 },
    'EFAULT',
  ],
  ['a reset of nothing', 'card', so.DRM_IOCTL_SYNCOBJ_RESET, { count_handles: 0 }, 'EINVAL'],
  ['a reset with a pad', 'card', so.DRM_IOCTL_SYNCOBJ_RESET, { ...ARRAY, pad: 1 }, 'EINVAL'],
  ['a reset of none', 'card', so.DRM_IOCTL_SYNCOBJ_RESET, LOST, 'ENOENT'],
  ['a signal of nothing', 'card', so.DRM_IOCTL_SYNCOBJ_SIGNAL, { count_handles: 0 }, 'EINVAL'],
  ['a signal with a pad', 'card', so.DRM_IOCTL_SYNCOBJ_SIGNAL, { ...ARRAY, pad: 1 }, 'EINVAL'],
  [
    'a signal of one and of none',
    'card',
    so.DRM_IOCTL_SYNCOBJ_SIGNAL,
    { handles: new Uint8Array([1, 0, 0, 0, NONE, 0, 0, 0]), count_handles: 2 },
    'ENOENT',
  ],
  [
    'a wait for points with unknown flags',
    'card',
    so.DRM_IOCTL_SYNCOBJ_TIMELINE_WAIT,
    { ...ARRAY, flags: 0x10 },
    'EINVAL',
  ],
  ['points that are nowhere', 'card', so.DRM_IOCTL_SYNCOBJ_TIMELINE_WAIT, { ...ARRAY, points: 64 }, 'EFAULT'],
  ['a question about nothing', 'card', so.DRM_IOCTL_SYNCOBJ_QUERY, { count_handles: 0 }, 'EINVAL'],
  ['a question with unknown flags', 'card', so.DRM_IOCTL_SYNCOBJ_QUERY, { ...ARRAY, flags: 2 }, 'EINVAL'],
  ['an answer to nowhere', 'card', so.DRM_IOCTL_SYNCOBJ_QUERY, { ...ARRAY, points: 64 }, 'EFAULT'],
  [
    'a transfer with a pad',
    'card',
    so.DRM_IOCTL_SYNCOBJ_TRANSFER,
    { src_handle: FIRST, dst_handle: FIRST, pad: 1 },
    'EINVAL',
  ],
  ['a transfer from none', 'card', so.DRM_IOCTL_SYNCOBJ_TRANSFER, { src_handle: NONE, dst_handle: FIRST }, 'ENOENT'],
  ['a transfer to none', 'card', so.DRM_IOCTL_SYNCOBJ_TRANSFER, { src_handle: FIRST, dst_handle: NONE }, 'ENOENT'],
  ['a transfer of nothing', 'card', so.DRM_IOCTL_SYNCOBJ_TRANSFER, { src_handle: FIRST, dst_handle: FIRST }, 'EINVAL'],
  ['points with flags', 'card', so.DRM_IOCTL_SYNCOBJ_TIMELINE_SIGNAL, { ...ARRAY, flags: 1 }, 'EINVAL'],
  ['points on none', 'card', so.DRM_IOCTL_SYNCOBJ_TIMELINE_SIGNAL, LOST, 'ENOENT'],
  ['points from nowhere', 'card', so.DRM_IOCTL_SYNCOBJ_TIMELINE_SIGNAL, { ...ARRAY, points: 64 }, 'EFAULT'],
  ['an eventfd that is none', 'card', so.DRM_IOCTL_SYNCOBJ_EVENTFD, { handle: FIRST, fd: 'buffer' }, 'EINVAL'],
  ['an eventfd that is not open', 'card', so.DRM_IOCTL_SYNCOBJ_EVENTFD, { handle: FIRST, fd: NONE }, 'EBADF'],
  ['an eventfd for none', 'card', so.DRM_IOCTL_SYNCOBJ_EVENTFD, { handle: NONE, fd: 'eventfd' }, 'ENOENT'],
  [
    'an eventfd with unknown flags',
    'card',
    so.DRM_IOCTL_SYNCOBJ_EVENTFD,
    { handle: FIRST, fd: 'eventfd', flags: 1 },
    'EINVAL',
  ],
  ['an eventfd with a pad', 'card', so.DRM_IOCTL_SYNCOBJ_EVENTFD, { handle: FIRST, fd: 'eventfd', pad: 1 }, 'EINVAL'],
];

/** All of them. */
export const SENSELESS: readonly Case[] = [...BUFFERS, ...FENCES, ...OBJECTS, ...SYNCOBJS];

/** Every request, with the file that knows it and arguments that fit. */
export const REQUESTS: readonly (readonly [
  Kind,
  IoctlRequest<Fields>,
  Readonly<Record<string, number | Uint8Array | Kind>>,
])[] = [
  ['buffer', DMA_BUF_IOCTL_SYNC, { flags: 1 }],
  ['buffer', DMA_BUF_IOCTL_EXPORT_SYNC_FILE, { flags: 1 }],
  ['buffer', DMA_BUF_IOCTL_IMPORT_SYNC_FILE, { flags: 1, fd: 'fence' }],
  ['heap', DMA_HEAP_IOCTL_ALLOC, { len: 4096, fd_flags: O.rdwr }],
  ['udmabuf', UDMABUF_CREATE, { memfd: 'memfd', size: 4096 }],
  ['udmabuf', UDMABUF_CREATE_LIST, { count: 1 }],
  ['timeline', SW_SYNC_IOC_CREATE_FENCE, { value: 9 }],
  ['timeline', SW_SYNC_IOC_INC, { value: 1 }],
  ['fence', SYNC_IOC_MERGE, { fd2: 'fence' }],
  ['fence', SYNC_IOC_FILE_INFO, {}],
  ['fence', SYNC_IOC_SET_DEADLINE, { deadline_ns: 9 }],
  ['card', drm.DRM_IOCTL_GEM_CLOSE, { handle: FIRST }],
  ['card', drm.DRM_IOCTL_GEM_FLINK, { handle: FIRST }],
  ['card', drm.DRM_IOCTL_GET_CAP, { capability: 5 }],
  ['card', drm.DRM_IOCTL_PRIME_HANDLE_TO_FD, { handle: FIRST }],
  ['card', drm.DRM_IOCTL_PRIME_FD_TO_HANDLE, { fd: 'buffer' }],
  ['card', drm.DRM_IOCTL_MODE_CREATE_DUMB, { width: 1, height: 1, bpp: 8 }],
  ['card', drm.DRM_IOCTL_MODE_MAP_DUMB, { handle: FIRST }],
  ['card', drm.DRM_IOCTL_MODE_DESTROY_DUMB, { handle: FIRST }],
  ['vgem', drm.DRM_IOCTL_VGEM_FENCE_ATTACH, { handle: FIRST }],
  ['card', so.DRM_IOCTL_SYNCOBJ_CREATE, {}],
  ['card', so.DRM_IOCTL_SYNCOBJ_DESTROY, { handle: FIRST }],
  ['card', so.DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD, { handle: FIRST }],
  ['card', so.DRM_IOCTL_SYNCOBJ_WAIT, { ...ARRAY }],
  ['card', so.DRM_IOCTL_SYNCOBJ_SIGNAL, { ...ARRAY }],
];
