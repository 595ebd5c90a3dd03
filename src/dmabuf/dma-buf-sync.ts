/** The flags of `DMA_BUF_IOCTL_SYNC`. @see Linux 6.1 `include/uapi/linux/dma-buf.h` */
import { ErrnoError } from '../base/errors.ts';
import type { DmaDirection } from '../dma-api/direction.ts';

/** Bits of the flags; `start` is the absence of `end`. */
export const DMA_BUF_SYNC = { read: 1, write: 2, rw: 3, start: 0, end: 4 } as const;

/**
 * The DMA direction that a bracket stands for: reading is `'from-device'`, writing `'to-device'`.
 *
 * @throws {ErrnoError} `EINVAL` neither read nor write, unknown bits, or no whole number >= 0 (never retry).
 */
export function syncDirection(flags: number): DmaDirection {
  const known = DMA_BUF_SYNC.rw | DMA_BUF_SYNC.end;
  if (!Number.isInteger(flags) || flags < 0 || flags > known) {
    throw new ErrnoError('EINVAL', 'DMA_BUF_IOCTL_SYNC', `flags ${flags}: bits other than READ, WRITE and END`);
  }
  switch (flags & DMA_BUF_SYNC.rw) {
    case DMA_BUF_SYNC.read:
      return 'from-device';
    case DMA_BUF_SYNC.write:
      return 'to-device';
    case DMA_BUF_SYNC.rw:
      return 'bidirectional';
    default:
      throw new ErrnoError('EINVAL', 'DMA_BUF_IOCTL_SYNC', `flags ${flags}: neither READ nor WRITE`);
  }
}

/** Valid flags in the words of the C header: `'DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ'`. */
export function describeSync(flags: number): string {
  const access = ['', 'READ', 'WRITE', 'RW'][flags & DMA_BUF_SYNC.rw] ?? '';
  const step = (flags & DMA_BUF_SYNC.end) !== 0 ? 'END' : 'START';
  return `DMA_BUF_SYNC_${step} | DMA_BUF_SYNC_${access}`;
}

/** @internal The call with valid flags as a program writes it, in short: `'ioctl(DMA_BUF_IOCTL_SYNC, START | READ)'`. */
export function syncCallText(flags: number): string {
  return `ioctl(DMA_BUF_IOCTL_SYNC, ${describeSync(flags).replaceAll('DMA_BUF_SYNC_', '')})`;
}
