/**
 * `/dev/dma_heap/NAME`: a process allocates shared buffers from a heap.
 *
 * Of a request only its number and size count: any letter will do, an unknown number is EINVAL. A longer struct is accepted and
 * what is behind the known fields ignored; the fields that a shorter one lacks are 0, and are not given back.
 *
 * @see Linux 6.1 `drivers/dma-buf/dma-heap.c` dma_heap_ioctl; `Documentation/userspace-api/dma-buf-alloc-exchange.rst`
 */
import { PAGE_SIZE } from '../base/addr.ts';
import { ErrnoError } from '../base/errors.ts';
import { alignUp } from '../base/units.ts';
import type { DmaBuf } from '../dmabuf/dma-buf.ts';
import type { DmaHeap } from '../dmabuf/dma-heap.ts';
import { O, OpenFile } from './file.ts';
import { type IoctlCall, ioctlParts, ioctlRequest } from './ioctl.ts';
import { memCgroups } from './mem-cgroup.ts';
import type { Process } from './process.ts';
import { SizedCall } from './sized-ioctl.ts';

/** Allocates `len` bytes. @see Linux 6.1 `include/uapi/linux/dma-heap.h` struct dma_heap_allocation_data */
export const DMA_HEAP_IOCTL_ALLOC = ioctlRequest('DMA_HEAP_IOCTL_ALLOC', 'rw', 'H', 0, {
  len: 'u64',
  fd: 'u32',
  fd_flags: 'u32',
  heap_flags: 'u64',
});

/** Flags that a new descriptor can get. */
const FD_FLAGS = O.cloexec | O.accmode;

/** A heap that a process has opened. */
export class DmaHeapFile extends OpenFile {
  readonly path: string;
  readonly heap: DmaHeap;
  #allocated = 0;

  constructor(heap: DmaHeap, flags: number = O.rdwr) {
    super(flags);
    this.heap = heap;
    this.path = `/dev/dma_heap/${heap.name}`;
  }

  /**
   * {@link DMA_HEAP_IOCTL_ALLOC}: a descriptor for a new, cleared buffer. Plain; charges the clearing.
   *
   * @throws {ErrnoError} `EINVAL` another request number, `fd` not 0, flags other than access mode and `O_CLOEXEC`, any heap flag,
   *   or a length that is 0 or wraps (never retry); `ENOMEM`, `EMFILE` (retry later); `EFAULT` (never retry). Nothing is left.
   * @see Linux 6.1 dma_heap_ioctl_allocate
   */
  override ioctl(call: IoctlCall): number {
    const { nr } = ioctlParts(call.code);
    if (nr !== 0) throw new ErrnoError('EINVAL', 'ioctl', `${this.path} has no request number ${nr}`);
    const sized = new SizedCall(call, DMA_HEAP_IOCTL_ALLOC);
    const { args } = sized;
    const cloexec = (args.fd_flags & O.cloexec) !== 0;
    call.process.fds.publish(
      () => this.#alloc(args, call.process),
      (fd) => sized.answer({ fd }),
      { cloexec },
    );
    return 0;
  }

  #alloc(args: { len: number; fd: number; fd_flags: number; heap_flags: number }, user: Process): DmaBuf {
    const { fd, fd_flags: fdFlags, heap_flags: heapFlags } = args;
    const why =
      fd !== 0
        ? `fd ${fd} is not 0`
        : (fdFlags & ~FD_FLAGS) !== 0
          ? `fd_flags 0x${fdFlags.toString(16)} has more than the access mode and O_CLOEXEC`
          : heapFlags !== 0
            ? `heap_flags ${heapFlags} is not 0`
            : '';
    if (why !== '') throw new ErrnoError('EINVAL', 'DMA_HEAP_IOCTL_ALLOC', why);
    const name = `${user.name} ${this.heap.name}${this.#allocated++}`;
    return memCgroups(user.sim).alloc(user, this.heap.name, (payer) =>
      this.heap.alloc(unsignedPages(args.len), name, fdFlags, payer),
    );
  }
}

/** Bytes of a 64-bit length, rounded up to pages when it is in the upper half, where not every number is exact; 0 if that wraps. */
function unsignedPages(len: number): number {
  if (len >= 0) return len;
  const pages = alignUp(len, PAGE_SIZE);
  return pages >= 0 ? 0 : pages + 2 ** 64;
}
