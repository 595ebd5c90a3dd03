/**
 * A user process: descriptors, ioctls and mappings of shared buffers. What a program does with a real fd, it does here.
 *
 * System calls that can wait are operations. Each charges `syscallNs`, also when it fails, and holds a reference of the
 * buffer while it lasts, so that a close in the meantime does not pull the buffer away.
 *
 * **Inaccuracies.** `close` and `dup`, which are the descriptor table's, and `munmap` charge no `syscallNs`.
 *
 * @see Linux 6.1 `drivers/dma-buf/dma-buf.c` dma_buf_ioctl, dma_buf_mmap_internal, dma_buf_llseek
 */
import { PAGE_SIZE, type VirtAddr } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import { ErrnoError } from '../base/errors.ts';
import type { Accessor } from '../base/hazards.ts';
import { alignUp } from '../base/units.ts';
import type { CoherencyDomain } from '../cache/coherency.ts';
import { CpuView } from '../cache/cpu-view.ts';
import type { Extent } from '../dma-api/sg-table.ts';
import type { DmaBuf } from '../dmabuf/dma-buf.ts';
import { DMA_BUF_SYNC, describeSync } from '../dmabuf/dma-buf-sync.ts';
import { lift, type Op } from '../sim/op.ts';
import type { Simulator } from '../sim/simulator.ts';
import { FdTable } from './fd-table.ts';
import { UserMapping } from './user-mapping.ts';

/** `_IOW('b', 0, struct dma_buf_sync)`. @see Linux 6.1 `include/uapi/linux/dma-buf.h` */
export const DMA_BUF_IOCTL_SYNC = 0x40086200;

/** Where `lseek` counts from. @see lseek(2) */
export const SEEK = { set: 0, cur: 1, end: 2 } as const;

/** How to make a {@link Process}. */
export interface ProcessOptions {
  readonly name: string;
  /** What each system call charges, in ns. Default 0. */
  readonly syscallNs?: number;
  /** `RLIMIT_NOFILE`. Default 1024. */
  readonly maxFds?: number;
}

/** Which part of a file to map. */
export interface MmapRange {
  /** Bytes from the file's start, a multiple of a page. Default 0. */
  readonly offset?: number;
  /** Bytes; rounded up to whole pages. Default: all from `offset` on. */
  readonly length?: number;
}

/** First address that mmap gives out. */
const MMAP_BASE = 0x7f00_0000_0000;

/** One process of the machine. */
export class Process {
  readonly name: string;
  /** Its descriptors. */
  readonly fds: FdTable;
  readonly #sim: Simulator;
  readonly #coherency: CoherencyDomain;
  readonly #syscallNs: number;
  readonly #mappings = new Set<UserMapping>();
  #nextAddress = MMAP_BASE;

  /** @throws {InvariantError} `maxFds` is no whole number >= 3. */
  constructor(sim: Simulator, coherency: CoherencyDomain, options: ProcessOptions) {
    this.name = options.name;
    this.fds = new FdTable(options.maxFds);
    this.#sim = sim;
    this.#coherency = coherency;
    this.#syscallNs = options.syscallNs ?? 0;
  }

  /** Its mappings, oldest first. */
  get mappings(): readonly UserMapping[] {
    return [...this.#mappings];
  }

  /**
   * Does `request` on `fd`: {@link DMA_BUF_IOCTL_SYNC} with the flags of `DMA_BUF_SYNC` as argument. May wait for the
   * exporter and for fences.
   *
   * @throws {ErrnoError} `EBADF` not open; `ENOTTY` an unknown request, or no dma-buf; `EINVAL` wrong flags (never retry); what
   *   the exporter throws.
   * @see Linux 6.1 `drivers/dma-buf/dma-buf.c` dma_buf_ioctl
   */
  *ioctl(fd: number, request: number, argument: number): Op<void> {
    this.#sim.charge(this.#syscallNs);
    const buf = this.fds.peek(fd, 'ioctl', 'ENOTTY');
    if (request !== DMA_BUF_IOCTL_SYNC) throw new ErrnoError('ENOTTY', 'ioctl', `request 0x${request.toString(16)}`);
    buf.get();
    try {
      yield* buf.ioctlSync(argument);
    } finally {
      buf.put();
    }
  }

  /**
   * The buffer's size: the only thing a dma-buf can be asked by seeking. Plain.
   *
   * @param whence - {@link SEEK}: `end` gives the size, `set` 0, both with `offset` 0 only.
   * @throws {ErrnoError} `EBADF` not open; `ESPIPE` no dma-buf; `EINVAL` any other offset or `whence` (never retry).
   * @see Linux 6.1 `drivers/dma-buf/dma-buf.c` dma_buf_llseek
   */
  lseek(fd: number, offset: number, whence: number): number {
    this.#sim.charge(this.#syscallNs);
    const buf = this.fds.peek(fd, 'lseek', 'ESPIPE');
    const isAsked = whence === SEEK.end || whence === SEEK.set;
    if (!isAsked || offset !== 0) throw new ErrnoError('EINVAL', 'lseek', `offset ${offset}, whence ${whence}`);
    return whence === SEEK.end ? buf.sizeBytes : 0;
  }

  /**
   * Maps the buffer behind `fd`; the mapping holds a reference of its own, so the fd may be closed. May wait for the
   * exporter.
   *
   * @throws {ErrnoError} `EBADF` not open; `ENODEV` no dma-buf; `EINVAL` an exporter without mmap, an offset off a page, length 0,
   *   or a range beyond the buffer (never retry); what the exporter throws. Nothing is mapped then.
   * @throws {InvariantError} the exporter gave fewer bytes than the buffer has.
   * @see Linux 6.1 `drivers/dma-buf/dma-buf.c` dma_buf_mmap_internal
   */
  *mmap(fd: number, range: MmapRange = {}): Op<UserMapping> {
    this.#sim.charge(this.#syscallNs);
    const buf = this.fds.peek(fd, 'mmap', 'ENODEV');
    if (buf.ops.mmap === undefined) throw new ErrnoError('EINVAL', 'mmap', `${buf.exporterName} has no mmap`);
    const { offset, length } = checkedRange(buf, range);
    buf.get();
    let complete = false;
    try {
      const { extents, attribute } = yield* lift(buf.ops.mmap(buf));
      const accessor = this.#accessor(fd, buf);
      const view = new CpuView(this.#coherency, { extents: slice(extents, offset, length), attribute, accessor });
      const mapping = this.#enter(view, buf);
      complete = true;
      return mapping;
    } finally {
      if (!complete) buf.put();
    }
  }

  /**
   * Ends the process: unmaps everything, closes every descriptor, gives reserved numbers back. Plain.
   *
   * @throws {InvariantError} a mapping or descriptor has the last reference of a buffer that a device is attached to. That
   *   one is kept, everything else is given back; the first such error is thrown at the end (retry after the detach).
   * @see _exit(2)
   */
  exit(): void {
    const errors: unknown[] = [];
    const attempt = (step: () => void): void => {
      try {
        step();
      } catch (error) {
        errors.push(error);
      }
    };
    for (const mapping of this.mappings) attempt(() => mapping.munmap());
    for (const fd of this.fds.open) attempt(() => this.fds.close(fd));
    for (const fd of this.fds.reserved) this.fds.unreserve(fd);
    if (errors.length > 0) throw errors[0];
  }

  /** The mapping takes over one reference of `buf`. */
  #enter(view: CpuView, buf: DmaBuf): UserMapping {
    const mapping: UserMapping = new UserMapping(this.#nextAddress as VirtAddr, view, () => {
      buf.put();
      this.#mappings.delete(mapping);
    });
    this.#nextAddress += view.sizeBytes;
    this.#mappings.add(mapping);
    return mapping;
  }

  #accessor(fd: number, buf: DmaBuf): Accessor {
    const sync = (flags: number) => `ioctl(${fd}, DMA_BUF_IOCTL_SYNC, ${describeSync(flags)}) on ${buf.name}`;
    return {
      name: this.name,
      kind: 'cpu',
      via: `mmap of fd ${fd} (${buf.name})`,
      beforeRead: sync(DMA_BUF_SYNC.start | DMA_BUF_SYNC.read),
      afterWrite: sync(DMA_BUF_SYNC.end | DMA_BUF_SYNC.write),
    };
  }
}

/** The range in bytes, in whole pages, or EINVAL. Bounds use the buffer's size in whole pages, as Linux does. */
function checkedRange(buf: DmaBuf, range: MmapRange): { offset: number; length: number } {
  const offset = range.offset ?? 0;
  const wholePages = Math.floor(buf.sizeBytes / PAGE_SIZE) * PAGE_SIZE;
  const wanted = range.length ?? wholePages - offset;
  const fits = Number.isSafeInteger(offset) && offset >= 0 && offset % PAGE_SIZE === 0 && Number.isSafeInteger(wanted);
  const length = alignUp(wanted, PAGE_SIZE);
  if (fits && wanted > 0 && offset + length <= wholePages) return { offset, length };
  throw new ErrnoError('EINVAL', 'mmap', `offset ${offset}, length ${wanted} of ${buf.name} (${buf.sizeBytes} bytes)`);
}

function slice(
  extents: readonly Extent[],
  offset: number,
  length: number,
): { phys: Extent['phys']; sizeBytes: number }[] {
  const parts: { phys: Extent['phys']; sizeBytes: number }[] = [];
  let start = 0;
  for (const extent of extents) {
    const from = Math.max(offset, start);
    const to = Math.min(offset + length, start + extent.length);
    if (from < to) parts.push({ phys: (extent.phys + from - start) as Extent['phys'], sizeBytes: to - from });
    start += extent.length;
  }
  assert(start >= offset + length, 'mmap: the exporter gave extents of %s bytes for %s', start, offset + length);
  return parts;
}
