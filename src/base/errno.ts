/**
 * The errno values the modelled kernel can return, with Linux's numbers for the generic architecture.
 *
 * @see Linux 6.1 `include/uapi/asm-generic/errno-base.h`, `errno.h`
 */
export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  E2BIG: 7,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  EINVAL: 22,
  ENFILE: 23,
  EMFILE: 24,
  ENOTTY: 25,
  EFBIG: 27,
  ENOSPC: 28,
  ESPIPE: 29,
  EPIPE: 32,
  ERANGE: 34,
  EDEADLK: 35,
  ENOSYS: 38,
  ETIME: 62,
  EBADFD: 77,
  EOVERFLOW: 75,
  ENOTSOCK: 88,
  EMSGSIZE: 90,
  EOPNOTSUPP: 95,
  EADDRINUSE: 98,
  ETIMEDOUT: 110,
  EALREADY: 114,
  ECANCELED: 125,
  EREMOTEIO: 121,
} as const;

/** The symbol of an errno, as it is written in C: `'EBUSY'`. */
export type ErrnoCode = keyof typeof ERRNO;
