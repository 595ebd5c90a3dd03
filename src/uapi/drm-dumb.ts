/**
 * Dumb buffers: plain memory for pixels, for who has no better way to get some.
 *
 * @see Linux 6.1 `drivers/gpu/drm/drm_dumb_buffers.c`, `drm_gem_shmem_helper.c` drm_gem_shmem_dumb_create
 */
import { PAGE_SIZE } from '../base/addr.ts';
import { ErrnoError } from '../base/errors.ts';
import { alignUp } from '../base/units.ts';

const U32 = 2 ** 32;

/** @internal How a dumb buffer lies in memory. */
export interface DumbLayout {
  /** Bytes from one line to the next. */
  readonly pitch: number;
  /** Bytes, whole pages. */
  readonly size: number;
}

/**
 * @internal Sizes of a dumb buffer. A line takes the bits it needs, rounded up to bytes; for the limits each pixel counts whole bytes.
 *
 * @throws {ErrnoError} `EINVAL` a number is 0, or the size does not fit in 32 bits (never retry).
 * @see Linux 6.1 drm_mode_create_dumb
 */
export function dumbLayout(width: number, height: number, bpp: number): DumbLayout {
  const stride = Math.ceil(bpp / 8) * width;
  const isPossible = width > 0 && height > 0 && bpp > 0 && bpp <= U32 - 9;
  // The size in whole pages must not wrap to 0.
  if (!isPossible || stride >= U32 || stride * height > U32 - PAGE_SIZE) {
    throw new ErrnoError('EINVAL', 'DRM_IOCTL_MODE_CREATE_DUMB', `${width} x ${height} pixels of ${bpp} bits`);
  }
  // The driver multiplies in 32 bits.
  const pitch = Math.ceil(((width * bpp) % U32) / 8);
  return { pitch, size: alignUp(pitch * height, PAGE_SIZE) };
}
