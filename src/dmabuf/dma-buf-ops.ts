/**
 * What an exporter and a dynamic importer implement. Callbacks of the exporter are plain or operations; the core calls them
 * through `lift`. Which of them run with the reservation lock held stands in `dma-buf-locking.ts`.
 *
 * @see Linux 6.1 `include/linux/dma-buf.h` struct dma_buf_ops, struct dma_buf_attach_ops
 */
import type { DmaDirection } from '../dma-api/direction.ts';
import type { Extent, SgTable } from '../dma-api/sg-table.ts';
import type { MaybeOp } from '../sim/op.ts';
import type { DmaBuf } from './dma-buf.ts';
import type { DmaBufAttachment } from './dma-buf-attachment.ts';

/** Where the CPU finds a buffer's bytes, and with which memory type. */
export interface CpuMapping {
  /** In the order of the buffer's bytes; at least as many bytes as the buffer has whole pages. */
  readonly extents: readonly Extent[];
  readonly attribute: 'cached' | 'write-combined' | 'uncached';
}

/** A range of pages of a buffer that somebody maps. */
export interface DmaBufVma {
  /** Pages from the buffer's start: an unsigned 64-bit number, whose upper half is negative as addresses are. */
  readonly pgoff: number;
  readonly pageCount: number;
  /** The process wants its writes for itself (`MAP_PRIVATE`). Default false. */
  readonly isPrivate?: boolean;
}

/** Bytes of a buffer that the CPU is about to access. */
export interface DmaBufRange {
  readonly offset: number;
  readonly length: number;
}

/** The exporter's callbacks. `Priv` is the exporter's own data, given at export. */
export interface DmaBufOps<Priv> {
  /**
   * The first table of an attachment is kept until detach, and every later map gives the same one. Not together with
   * {@link pin}.
   */
  readonly cacheSgtMapping?: boolean;
  /** Its buffers may show memory that other buffers show, too, on purpose: the lint `dmabuf.alias` passes them over. Default false. */
  readonly mayAlias?: boolean;
  /**
   * A device wants to share the buffer. Throw an `ErrnoError` to refuse; it reaches the importer, and {@link detach} is not
   * called then.
   */
  attach?(buf: DmaBuf<Priv>, att: DmaBufAttachment<Priv>): MaybeOp<void>;
  /** The device is gone: the attachment is not listed any more. Must succeed. */
  detach?(buf: DmaBuf<Priv>, att: DmaBufAttachment<Priv>): MaybeOp<void>;
  /**
   * The buffer must not move until {@link unpin}. An exporter that has these two is *dynamic*: its buffers can move while
   * dynamic importers are attached. Throw an `ErrnoError` to refuse.
   */
  pin?(att: DmaBufAttachment<Priv>): MaybeOp<void>;
  /** The buffer may move again, as far as this attachment is concerned. Must succeed. */
  unpin?(att: DmaBufAttachment<Priv>): MaybeOp<void>;
  /**
   * Maps the buffer for `att.dev` and gives a table that is this mapping's own until {@link unmapDmaBuf}; `null` stands for
   * `ENOMEM`. Throw an `ErrnoError` to refuse, with nothing mapped.
   */
  mapDmaBuf(att: DmaBufAttachment<Priv>, dir: DmaDirection): MaybeOp<SgTable | null>;
  /** Takes a table of {@link mapDmaBuf} back. Must succeed. */
  unmapDmaBuf(att: DmaBufAttachment<Priv>, sgt: SgTable, dir: DmaDirection): MaybeOp<void>;
  /** The last reference is gone: frees the memory. Runs once, after the last put and never inside it. */
  release(buf: DmaBuf<Priv>): MaybeOp<void>;
  /** The CPU is about to access: makes what devices wrote visible. */
  beginCpuAccess?(buf: DmaBuf<Priv>, dir: DmaDirection): MaybeOp<void>;
  /** The CPU is done: makes what it wrote visible to devices. */
  endCpuAccess?(buf: DmaBuf<Priv>, dir: DmaDirection): MaybeOp<void>;
  /** {@link beginCpuAccess} for a part of the buffer. Without it, the whole buffer is done. */
  beginCpuAccessPartial?(buf: DmaBuf<Priv>, dir: DmaDirection, range: DmaBufRange): MaybeOp<void>;
  /** {@link endCpuAccess} for a part of the buffer. Without it, the whole buffer is done. */
  endCpuAccessPartial?(buf: DmaBuf<Priv>, dir: DmaDirection, range: DmaBufRange): MaybeOp<void>;
  /** Lets somebody map `vma` of the buffer; gives where the whole buffer is. Without it, mmap is refused. */
  mmap?(buf: DmaBuf<Priv>, vma: DmaBufVma): MaybeOp<CpuMapping>;
  /** Maps the whole buffer for the kernel; called for the first of several users only. Without it, vmap is refused. */
  vmap?(buf: DmaBuf<Priv>): MaybeOp<CpuMapping>;
  /** The last user of {@link vmap} is done. Must succeed. */
  vunmap?(buf: DmaBuf<Priv>, map: CpuMapping): MaybeOp<void>;
}

/** What makes an importer a dynamic one: it lets the buffer move while it is attached. */
export interface DmaBufAttachOps {
  /** The importer can reach memory of other devices across the bus, without pages. Default false. */
  readonly allowPeer2Peer?: boolean;
  /**
   * The buffer moves: addresses of this attachment are not to be used by work that begins from now on, and the importer maps
   * again before its next use; the old mapping it gives back when it can wait. Runs with the reservation lock held.
   */
  moveNotify?(att: DmaBufAttachment): undefined;
}
