/**
 * What an exporter implements. Each callback is plain or an operation; the core calls it through `lift`.
 *
 * @see Linux 6.1 `include/linux/dma-buf.h` struct dma_buf_ops
 */
import type { DmaDirection } from '../dma-api/direction.ts';
import type { Extent, SgTable } from '../dma-api/sg-table.ts';
import type { MaybeOp } from '../sim/op.ts';
import type { DmaBuf } from './dma-buf.ts';
import type { DmaBufAttachment } from './dma-buf-attachment.ts';

/** How a process may map a buffer: where its bytes are and with which memory type. */
export interface CpuMapping {
  /** In the order of the buffer's bytes; at least as many bytes as the buffer has whole pages. */
  readonly extents: readonly Extent[];
  readonly attribute: 'cached' | 'write-combined' | 'uncached';
}

/** The exporter's callbacks. `Priv` is the exporter's own data, given at export. */
export interface DmaBufOps<Priv> {
  /**
   * A device wants to share the buffer. Throw an `ErrnoError` to refuse; it reaches the importer, and {@link detach} is not
   * called then. The reservation lock is not held.
   */
  attach?(buf: DmaBuf<Priv>, att: DmaBufAttachment<Priv>): MaybeOp<void>;
  /** The device is gone: the attachment is not listed any more. Must succeed. The reservation lock is not held. */
  detach?(buf: DmaBuf<Priv>, att: DmaBufAttachment<Priv>): MaybeOp<void>;
  /**
   * Maps the buffer for `att.dev` and gives a table that is this mapping's own until {@link unmapDmaBuf}; `null` stands for
   * `ENOMEM`. Throw an `ErrnoError` to refuse, with nothing mapped. The reservation lock is held.
   */
  mapDmaBuf(att: DmaBufAttachment<Priv>, dir: DmaDirection): MaybeOp<SgTable | null>;
  /** Takes a table of {@link mapDmaBuf} back. The reservation lock is held. Must succeed. */
  unmapDmaBuf(att: DmaBufAttachment<Priv>, sgt: SgTable, dir: DmaDirection): MaybeOp<void>;
  /** The last reference is gone: frees the memory. Runs once, in a task of its own after the last put, never inside it. */
  release(buf: DmaBuf<Priv>): MaybeOp<void>;
  /** The CPU is about to access: makes what devices wrote visible. The reservation lock is not held. */
  beginCpuAccess?(buf: DmaBuf<Priv>, dir: DmaDirection): MaybeOp<void>;
  /** The CPU is done: makes what it wrote visible to devices. The reservation lock is not held. */
  endCpuAccess?(buf: DmaBuf<Priv>, dir: DmaDirection): MaybeOp<void>;
  /** Lets a process map the buffer. Without it, mmap is refused. */
  mmap?(buf: DmaBuf<Priv>): MaybeOp<CpuMapping>;
}
