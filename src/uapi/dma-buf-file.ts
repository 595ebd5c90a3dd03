/**
 * A dma-buf as a process sees it: a file that can be mapped, asked for its size, polled for its fences, named, and bracketed.
 *
 * A buffer and its file are one thing with one count of references; this adds what only system calls need.
 *
 * @see Linux 6.1 `drivers/dma-buf/dma-buf.c` dma_buf_fops; `include/uapi/linux/dma-buf.h`
 */
import { PAGE_SIZE, type PhysAddr } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import { ErrnoError } from '../base/errors.ts';
import type { Extent } from '../dma-api/sg-table.ts';
import type { DmaBuf } from '../dmabuf/dma-buf.ts';
import { beginAccess, endAccess } from '../dmabuf/dma-buf-cpu-access.ts';
import { bufferFdinfo } from '../dmabuf/dma-buf-info.ts';
import { callExporter } from '../dmabuf/dma-buf-locking.ts';
import { DMA_BUF_SYNC, describeSync, syncCallText, syncDirection } from '../dmabuf/dma-buf-sync.ts';
import type { DmaFence } from '../dmabuf/dma-fence.ts';
import { dmaFenceGetStub } from '../dmabuf/dma-fence-stub.ts';
import { dmaFenceUnwrap } from '../dmabuf/dma-fence-unwrap.ts';
import { DmaResvUsage, type DmaResvUsageValue } from '../dmabuf/dma-resv.ts';
import type { MaybeOp, Op } from '../sim/op.ts';
import { WaitQueue } from '../sim/wait-queue.ts';
import { fenceFileAt, fenceFileFor } from './fence-file.ts';
import { type FileStat, noIoctl, OpenFile, POLL, type PollTable, type VmaBacking, type VmaRequest } from './file.ts';
import { type IoctlCall, ioctlCode, ioctlRequest } from './ioctl.ts';
import { waitForFences } from './signals.ts';

/** Opens or closes a bracket of CPU access: `flags` are bits of `DMA_BUF_SYNC`. @see Linux 6.1 `include/uapi/linux/dma-buf.h` */
export const DMA_BUF_IOCTL_SYNC = ioctlRequest('DMA_BUF_IOCTL_SYNC', 'w', 'b', 0, { flags: 'u64' });
/** Names the buffer; the argument is the string itself. As programs of 32 bits number it. */
export const DMA_BUF_SET_NAME_A = ioctlCode('w', 'b', 1, 4);
/** {@link DMA_BUF_SET_NAME_A}, as programs of 64 bits number it. */
export const DMA_BUF_SET_NAME_B = ioctlCode('w', 'b', 1, 8);
/** A sync file for the fences that an access of `flags` (read, write) has to wait for: a snapshot. */
export const DMA_BUF_IOCTL_EXPORT_SYNC_FILE = ioctlRequest('DMA_BUF_IOCTL_EXPORT_SYNC_FILE', 'rw', 'b', 2, {
  flags: 'u32',
  fd: 's32',
});
/** Adds the fences of a sync file to the buffer, as those of an access of `flags` (read, write). */
export const DMA_BUF_IOCTL_IMPORT_SYNC_FILE = ioctlRequest('DMA_BUF_IOCTL_IMPORT_SYNC_FILE', 'w', 'b', 3, {
  flags: 'u32',
  fd: 's32',
});

/** Where `lseek` counts from. @see lseek(2) */
export const SEEK = { set: 0, cur: 1, end: 2 } as const;

/** Bytes of a name with its final zero. */
const NAME_BYTES = 32;

/** The file of a buffer; {@link dmaBufFile} gives it. Its references are the buffer's. */
export class DmaBufFile extends OpenFile {
  readonly buf: DmaBuf;
  readonly #queue: WaitQueue;
  /** Directions for which a fence is being watched. */
  #watched = 0;

  /** @internal Use {@link dmaBufFile}. */
  constructor(buf: DmaBuf) {
    super(buf.fileFlags);
    this.objects = buf.sim.objects;
    this.buf = buf;
    this.#queue = new WaitQueue(buf.sim, `fences of ${buf.name}`);
  }

  get path(): string {
    return `/dmabuf:${this.buf.label ?? ''}`;
  }

  override get references(): number {
    return this.buf.references;
  }

  override get ino(): number {
    return this.buf.inode;
  }

  override get(): this {
    this.buf.get();
    return this;
  }

  override put(): void {
    this.buf.put();
  }

  override get counted(): object {
    return this.buf;
  }

  /**
   * May wait for the exporter, fences, and the reservation lock. Only the wait for fences can be interrupted: a START ends with `EINTR`
   * then and has opened nothing, though the exporter has been called; made again, it calls him again.
   *
   * @throws {ErrnoError} `ENOTTY` another request; `EFAULT` bad memory; `EINVAL` bad flags, a name that is too long, or no sync file
   *   (never retry); `EMFILE`, `ENOMEM` (retry later); `EINTR` (retry); what the exporter throws.
   * @throws {HazardError} `dmabuf.unbalanced-sync` under policy `'throw'`, of a process that watches its brackets; the END is done.
   * @see Linux 6.1 dma_buf_ioctl
   */
  override *ioctl(call: IoctlCall): Op<number> {
    switch (call.code) {
      case DMA_BUF_IOCTL_SYNC.code:
        yield* this.#sync(call);
        return 0;
      case DMA_BUF_SET_NAME_A:
      case DMA_BUF_SET_NAME_B:
        this.buf.setLabel(call.memory.copyString(call.argument, NAME_BYTES));
        return 0;
      case DMA_BUF_IOCTL_EXPORT_SYNC_FILE.code:
        this.#exportSyncFile(call);
        return 0;
      case DMA_BUF_IOCTL_IMPORT_SYNC_FILE.code:
        yield* this.#importSyncFile(call);
        return 0;
      default:
        throw noIoctl(call);
    }
  }

  /** @throws {ErrnoError} `EINVAL` an exporter without mmap, or a range beyond the buffer's whole pages. @see Linux 6.1 dma_buf_mmap_internal */
  override *mmap({ offset, length, shared }: VmaRequest): Op<VmaBacking> {
    const { buf } = this;
    const { ops } = buf;
    const { mmap } = ops;
    if (mmap === undefined) throw new ErrnoError('EINVAL', 'mmap', `${buf.exporterName} has no mmap`);
    if (offset + length > Math.floor(buf.sizeBytes / PAGE_SIZE) * PAGE_SIZE) {
      const range = `offset ${offset}, length ${length} of ${buf.name} (${buf.sizeBytes} bytes)`;
      throw new ErrnoError('EINVAL', 'mmap', range);
    }
    const vma = { pgoff: offset / PAGE_SIZE, pageCount: length / PAGE_SIZE, isPrivate: !shared };
    const { extents, attribute } = yield* callExporter(buf, 'mmap', () => mmap.call(ops, buf, vma));
    const remedy = (fd: number) => {
      const sync = (flags: number) => `ioctl(${fd}, DMA_BUF_IOCTL_SYNC, ${describeSync(flags)}) on ${buf.name}`;
      return {
        beforeRead: sync(DMA_BUF_SYNC.start | DMA_BUF_SYNC.read),
        afterWrite: sync(DMA_BUF_SYNC.end | DMA_BUF_SYNC.write),
      };
    };
    return { memory: { extents: slice(extents, offset, length), attribute }, name: buf.name, remedy };
  }

  /**
   * `in`: writers are done; `out`: everybody is. Waits for the reservation lock. As long as a fence that was found pending is being
   * watched, which a poll without any wait starts as well, the file has one more reference.
   *
   * @see Linux 6.1 dma_buf_poll
   */
  override poll(events: number, wait: PollTable): MaybeOp<number> {
    wait?.(this.#queue);
    const asked = events & (POLL.in | POLL.out);
    return asked === 0 ? 0 : this.buf.resv.withLock(() => this.#ready(asked));
  }

  /** The size: `end` gives it, `set` 0, both with `offset` 0 only. @throws {ErrnoError} `EINVAL`. @see Linux 6.1 dma_buf_llseek */
  override lseek(offset: number, whence: number): number {
    const isAsked = whence === SEEK.end || whence === SEEK.set;
    if (!isAsked || offset !== 0) throw new ErrnoError('EINVAL', 'lseek', `offset ${offset}, whence ${whence}`);
    return whence === SEEK.end ? this.buf.sizeBytes : 0;
  }

  override fstat(): FileStat {
    const size = this.buf.sizeBytes;
    return { ...super.fstat(), size, blocks: Math.floor(size / 512) };
  }

  override fdinfo(): string[] {
    this.get();
    try {
      return bufferFdinfo(this.buf);
    } finally {
      this.put();
    }
  }

  #ready(asked: number): number {
    let ready = 0;
    if ((asked & POLL.out) !== 0 && this.#isIdle(POLL.out, DmaResvUsage.read)) ready |= POLL.out;
    if ((asked & POLL.in) !== 0 && this.#isIdle(POLL.in, DmaResvUsage.write)) ready |= POLL.in;
    return ready;
  }

  /** Whether nothing of `usage` is pending; else its first fence is watched, if none is yet. */
  #isIdle(bit: number, usage: DmaResvUsageValue): boolean {
    if ((this.#watched & bit) !== 0) return false;
    const done = (fence: DmaFence): undefined => {
      this.#watched &= ~bit;
      this.#queue.wakeUpAll();
      this.putFor(fence);
    };
    for (const fence of this.buf.resv.fences(usage)) {
      if (!fence.addCallback(done)) continue;
      this.#watched |= bit;
      this.getFor(fence);
      return false;
    }
    return true;
  }

  *#sync(call: IoctlCall): Op<void> {
    const { buf } = this;
    const { flags } = call.copyIn(DMA_BUF_IOCTL_SYNC.layout);
    const dir = syncDirection(flags);
    const { brackets, name } = call.process;
    const caller = { by: name, call: syncCallText(flags), counts: true };
    if ((flags & DMA_BUF_SYNC.end) !== 0) {
      yield* endAccess(buf, dir, null, caller);
      brackets?.ended(buf, flags);
      return;
    }
    try {
      const wait = (usage: DmaResvUsageValue) => waitForFences(buf.sim, buf.resv, usage, 'DMA_BUF_IOCTL_SYNC');
      yield* beginAccess(buf, dir, null, wait, caller);
    } catch (error) {
      if (error instanceof ErrnoError) brackets?.failed(buf, flags, error.code);
      throw error;
    }
    brackets?.begun(buf, flags);
  }

  #exportSyncFile(call: IoctlCall): void {
    const { sim, resv } = this.buf;
    const { layout } = DMA_BUF_IOCTL_EXPORT_SYNC_FILE;
    const { flags } = call.copyIn(layout);
    const usage = usageOf(flags, DmaResvUsage.read, DmaResvUsage.write);
    call.process.fds.publish(
      () => {
        const fence = resv.getSingleton(usage) ?? dmaFenceGetStub(sim);
        try {
          return fenceFileFor(call.process, fence, 'DMA_BUF_IOCTL_EXPORT_SYNC_FILE');
        } finally {
          fence.put();
        }
      },
      (fd) => call.copyOut(layout, { flags, fd }),
      { cloexec: true },
    );
  }

  *#importSyncFile(call: IoctlCall): Op<void> {
    const { flags, fd } = call.copyIn(DMA_BUF_IOCTL_IMPORT_SYNC_FILE.layout);
    const usage = usageOf(flags, DmaResvUsage.write, DmaResvUsage.read);
    const file = fenceFileAt(call.process, fd);
    if (file === null) throw new ErrnoError('EINVAL', 'DMA_BUF_IOCTL_IMPORT_SYNC_FILE', `fd ${fd} is no sync file`);
    const fence = file.syncFile.fence.get();
    const { resv } = this.buf;
    try {
      const count = dmaFenceUnwrap(fence).length;
      yield* resv.withLock(() => {
        resv.reserveFences(count);
        for (const part of dmaFenceUnwrap(fence)) resv.addFence(part, usage);
      });
    } finally {
      fence.put();
    }
  }
}

/** The file of `buf`: the same one each time. Takes no reference. Plain. */
export function dmaBufFile(buf: DmaBuf): DmaBufFile {
  return buf.sim.part(DmaBufFiles).of(buf);
}

class DmaBufFiles {
  readonly #files = new WeakMap<DmaBuf, DmaBufFile>();

  of(buf: DmaBuf): DmaBufFile {
    let file = this.#files.get(buf);
    if (file === undefined) {
      file = new DmaBufFile(buf);
      this.#files.set(buf, file);
    }
    return file;
  }
}

/** Exporting, a writer waits for readers and writers, a reader for writers; importing, a writer is a writer. */
function usageOf(flags: number, ifWrite: DmaResvUsageValue, ifRead: DmaResvUsageValue): DmaResvUsageValue {
  if (flags === 0 || flags > DMA_BUF_SYNC.rw) {
    throw new ErrnoError('EINVAL', 'ioctl', `flags 0x${flags.toString(16)}: READ, WRITE or both, and nothing else`);
  }
  return (flags & DMA_BUF_SYNC.write) !== 0 ? ifWrite : ifRead;
}

function slice(extents: readonly Extent[], offset: number, length: number): Extent[] {
  const parts: Extent[] = [];
  let start = 0;
  for (const extent of extents) {
    const from = Math.max(offset, start);
    const to = Math.min(offset + length, start + extent.length);
    if (from < to) parts.push({ phys: (extent.phys + from - start) as PhysAddr, length: to - from });
    start += extent.length;
  }
  assert(start >= offset + length, 'mmap: the exporter gave extents of %s bytes for %s', start, offset + length);
  return parts;
}
