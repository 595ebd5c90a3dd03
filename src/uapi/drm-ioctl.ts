/**
 * The requests of DRM for buffers, by their number. Each copies its struct in, asks the client, and copies the answer out.
 *
 * @see Linux 6.1 `include/uapi/drm/drm.h`, `drm_mode.h`, `vgem_drm.h`; `drivers/gpu/drm/drm_ioctl.c`
 */
import { ErrnoError } from '../base/errors.ts';
import type { Op } from '../sim/op.ts';
import { DRM_CAP, type DrmDriver } from './drm-device.ts';
import { dumbLayout } from './drm-dumb.ts';
import type { DrmFile } from './drm-file.ts';
import { type DrmRequest, drmOp } from './drm-request.ts';
import { DRM_SYNCOBJ_REQUESTS } from './drm-syncobj-ioctl.ts';
import { O } from './file.ts';
import { ioctlRequest } from './ioctl.ts';
import type { SizedFor } from './sized-ioctl.ts';
import { VGEM_FENCE_WRITE } from './vgem-fence.ts';

/** Closes a handle. */
export const DRM_IOCTL_GEM_CLOSE = ioctlRequest('DRM_IOCTL_GEM_CLOSE', 'w', 'd', 0x09, { handle: 'u32', pad: 'u32' });

/** Gives an object a name that all clients of its device know. */
export const DRM_IOCTL_GEM_FLINK = ioctlRequest('DRM_IOCTL_GEM_FLINK', 'rw', 'd', 0x0a, { handle: 'u32', name: 'u32' });

/** A new handle for the object of that name. */
export const DRM_IOCTL_GEM_OPEN = ioctlRequest('DRM_IOCTL_GEM_OPEN', 'rw', 'd', 0x0b, {
  name: 'u32',
  handle: 'u32',
  size: 'u64',
});

/** The value of a capability, `DRM_CAP`. */
export const DRM_IOCTL_GET_CAP = ioctlRequest('DRM_IOCTL_GET_CAP', 'rw', 'd', 0x0c, {
  capability: 'u64',
  value: 'u64',
});

/** A descriptor of the dma-buf of an object. */
export const DRM_IOCTL_PRIME_HANDLE_TO_FD = ioctlRequest('DRM_IOCTL_PRIME_HANDLE_TO_FD', 'rw', 'd', 0x2d, {
  handle: 'u32',
  flags: 'u32',
  fd: 's32',
});

/** The handle of a dma-buf's object. */
export const DRM_IOCTL_PRIME_FD_TO_HANDLE = ioctlRequest('DRM_IOCTL_PRIME_FD_TO_HANDLE', 'rw', 'd', 0x2e, {
  handle: 'u32',
  flags: 'u32',
  fd: 's32',
});

/** A new object for pixels. */
export const DRM_IOCTL_MODE_CREATE_DUMB = ioctlRequest('DRM_IOCTL_MODE_CREATE_DUMB', 'rw', 'd', 0xb2, {
  height: 'u32',
  width: 'u32',
  bpp: 'u32',
  flags: 'u32',
  handle: 'u32',
  pitch: 'u32',
  size: 'u64',
});

/** Where to mmap an object in the client's file. */
export const DRM_IOCTL_MODE_MAP_DUMB = ioctlRequest('DRM_IOCTL_MODE_MAP_DUMB', 'rw', 'd', 0xb3, {
  handle: 'u32',
  pad: 'u32',
  offset: 'u64',
});

/** Closes a handle, as GEM_CLOSE. */
export const DRM_IOCTL_MODE_DESTROY_DUMB = ioctlRequest('DRM_IOCTL_MODE_DESTROY_DUMB', 'rw', 'd', 0xb4, {
  handle: 'u32',
});

/** Attaches a new fence to an object of vgem. Flag 1: for a write. */
export const DRM_IOCTL_VGEM_FENCE_ATTACH = ioctlRequest('DRM_IOCTL_VGEM_FENCE_ATTACH', 'rw', 'd', 0x41, {
  handle: 'u32',
  flags: 'u32',
  out_fence: 'u32',
  pad: 'u32',
});

/** Signals such a fence. */
export const DRM_IOCTL_VGEM_FENCE_SIGNAL = ioctlRequest('DRM_IOCTL_VGEM_FENCE_SIGNAL', 'w', 'd', 0x42, {
  fence: 'u32',
  flags: 'u32',
});

/** Flags of DRM_IOCTL_PRIME_HANDLE_TO_FD. */
const PRIME_FLAGS = O.cloexec | O.rdwr;
/** Import and export. */
const PRIME_BOTH = 3;
/** Width and height of a pointer that every driver takes. */
const CURSOR_SIZE = 64;

/** @internal Every request, by its number. */
export const DRM_REQUESTS: ReadonlyMap<number, DrmRequest> = new Map([
  drmOp(DRM_IOCTL_GEM_CLOSE, (file, { args }) => file.deleteHandle(args.handle)),
  drmOp(DRM_IOCTL_GEM_FLINK, (file, sized) => sized.answer({ name: file.object(sized.args.handle).flink() })),
  drmOp(DRM_IOCTL_GEM_OPEN, gemOpen),
  drmOp(DRM_IOCTL_GET_CAP, (file, sized) => {
    sized.answer({ value: capability(file.device.driver, sized.args.capability) });
  }),
  drmOp(DRM_IOCTL_PRIME_HANDLE_TO_FD, handleToFd),
  drmOp(DRM_IOCTL_PRIME_FD_TO_HANDLE, fdToHandle),
  drmOp(DRM_IOCTL_MODE_CREATE_DUMB, createDumb),
  drmOp(DRM_IOCTL_MODE_MAP_DUMB, mapDumb),
  drmOp(DRM_IOCTL_MODE_DESTROY_DUMB, (file, { args }) => file.deleteHandle(args.handle)),
  drmOp(DRM_IOCTL_VGEM_FENCE_ATTACH, attachFence),
  drmOp(DRM_IOCTL_VGEM_FENCE_SIGNAL, signalFence),
  ...DRM_SYNCOBJ_REQUESTS,
]);

function gemOpen(file: DrmFile, sized: SizedFor<typeof DRM_IOCTL_GEM_OPEN>): void {
  const { name } = sized.args;
  const object = file.device.byName(name);
  if (object === null) throw new ErrnoError('ENOENT', 'DRM_IOCTL_GEM_OPEN', `no object is called ${name}`);
  const handle = file.createHandle(object);
  tell(file, handle, () => sized.answer({ handle, size: object.sizeBytes }));
}

function handleToFd(file: DrmFile, sized: SizedFor<typeof DRM_IOCTL_PRIME_HANDLE_TO_FD>): void {
  const { handle, flags } = sized.args;
  if ((flags & ~PRIME_FLAGS) !== 0) {
    const why = `flags: 0x${flags.toString(16)} has more than O_CLOEXEC and O_RDWR`;
    throw new ErrnoError('EINVAL', 'DRM_IOCTL_PRIME_HANDLE_TO_FD', why);
  }
  const make = () => file.exportHandle(handle, flags);
  sized.call.process.fds.publish(make, (fd) => sized.answer({ fd }), { cloexec: (flags & O.cloexec) !== 0 });
}

function* fdToHandle(file: DrmFile, sized: SizedFor<typeof DRM_IOCTL_PRIME_FD_TO_HANDLE>): Op<void> {
  const buf = sized.call.process.fds.get(sized.args.fd);
  try {
    sized.answer({ handle: yield* file.importBuf(buf) });
  } finally {
    buf.put();
  }
}

function createDumb(file: DrmFile, sized: SizedFor<typeof DRM_IOCTL_MODE_CREATE_DUMB>): void {
  const { width, height, bpp } = sized.args;
  const { pitch, size } = dumbLayout(width, height, bpp);
  const object = file.device.createObject(size);
  const handle = file.createHandle(object);
  object.put();
  tell(file, handle, () => sized.answer({ handle, pitch, size }));
}

function mapDumb(file: DrmFile, sized: SizedFor<typeof DRM_IOCTL_MODE_MAP_DUMB>): void {
  const object = file.object(sized.args.handle, 'DRM_IOCTL_MODE_MAP_DUMB');
  if (object.imported !== null) {
    const why = `${object.name} was imported; map the fd it came from`;
    throw new ErrnoError('EINVAL', 'DRM_IOCTL_MODE_MAP_DUMB', why);
  }
  sized.answer({ offset: object.mmapOffset() });
}

function* attachFence(file: DrmFile, sized: SizedFor<typeof DRM_IOCTL_VGEM_FENCE_ATTACH>): Op<void> {
  checkFences(file);
  const { handle, flags, pad } = sized.args;
  if ((flags & ~VGEM_FENCE_WRITE) !== 0 || pad !== 0) {
    throw new ErrnoError('EINVAL', 'DRM_IOCTL_VGEM_FENCE_ATTACH', `flags 0x${flags.toString(16)}, pad ${pad}`);
  }
  const object = file.object(handle, 'DRM_IOCTL_VGEM_FENCE_ATTACH');
  sized.answer({ out_fence: yield* file.fences.attach(object, (flags & VGEM_FENCE_WRITE) !== 0) });
}

function signalFence(file: DrmFile, { args }: SizedFor<typeof DRM_IOCTL_VGEM_FENCE_SIGNAL>): void {
  checkFences(file);
  if (args.flags !== 0) throw new ErrnoError('EINVAL', 'DRM_IOCTL_VGEM_FENCE_SIGNAL', `flags ${args.flags}`);
  file.fences.signal(args.fence);
}

function checkFences({ path, device }: DrmFile): void {
  if (!device.driver.fences) throw new ErrnoError('EINVAL', 'ioctl', `${path} has no fences of its own`);
}

/** Tells the process of a new handle; it is closed again when that fails. */
function tell(file: DrmFile, handle: number, answer: () => void): void {
  let told = false;
  try {
    answer();
    told = true;
  } finally {
    if (!told) file.deleteHandle(handle);
  }
}

/**
 * The value of capability `which`.
 *
 * @throws {ErrnoError} `EOPNOTSUPP` it is one of setting modes, which the driver does not; `EINVAL` unknown.
 * @see Linux 6.1 `drivers/gpu/drm/drm_ioctl.c` drm_getcap
 */
function capability(driver: DrmDriver, which: number): number {
  const given = driver.caps[which];
  switch (which) {
    case DRM_CAP.prime:
      return given ?? PRIME_BOTH;
    case DRM_CAP.timestampMonotonic:
      return 1;
    case DRM_CAP.syncobj:
      return driver.syncobj === 'none' ? 0 : 1;
    case DRM_CAP.syncobjTimeline:
      return driver.syncobj === 'timeline' ? 1 : 0;
    default:
  }
  if (!driver.modeset) throw new ErrnoError('EOPNOTSUPP', 'DRM_IOCTL_GET_CAP', `${driver.name} sets no modes`);
  switch (which) {
    case DRM_CAP.dumbBuffer:
    case DRM_CAP.vblankHighCrtc:
    case DRM_CAP.addfb2Modifiers:
    case DRM_CAP.crtcInVblankEvent:
      return given ?? 1;
    case DRM_CAP.cursorWidth:
    case DRM_CAP.cursorHeight:
      return given ?? CURSOR_SIZE;
    case DRM_CAP.dumbPreferredDepth:
    case DRM_CAP.dumbPreferShadow:
    case DRM_CAP.asyncPageFlip:
    case DRM_CAP.pageFlipTarget:
      return given ?? 0;
    default:
      throw new ErrnoError('EINVAL', 'DRM_IOCTL_GET_CAP', `capability ${which} is unknown`);
  }
}
