/**
 * The shared buffer. Life of one, told here once:
 *
 * 1. {@link exportDmaBuf} makes it with one reference. Every fd, import and driver that keeps it holds a reference
 *    ({@link DmaBuf.get}, {@link DmaBuf.put}); an attachment holds none, its importer does.
 * 2. A device attaches, maps, uses the addresses, unmaps, detaches (`dma-buf-attachment.ts`).
 * 3. The CPU accesses it between {@link DmaBuf.beginCpuAccess} and {@link DmaBuf.endCpuAccess}, through a mapping of a process
 *    ({@link DmaBuf.mmap}) or of the kernel ({@link DmaBuf.vmap}).
 * 4. After the last put the exporter's `release` runs, once, as deferred work of the task that put it: never inside the put
 *    (`dma-buf-core.ts`).
 * 5. The reservation lock guards the list of attachments; who holds it when stands in `dma-buf-locking.ts`.
 * 6. A call that fails leaves everything as it was, and its caller gets the exporter's errno.
 *
 * @see Linux 6.1 `drivers/dma-buf/dma-buf.c`; `Documentation/driver-api/dma-buf.rst`
 */
import { PAGE_SIZE } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import { ErrnoError } from '../base/errors.ts';
import type { Device } from '../dma-api/device.ts';
import type { DmaDirection } from '../dma-api/direction.ts';
import type { Op } from '../sim/op.ts';
import type { Simulator } from '../sim/simulator.ts';
import { WaitQueue } from '../sim/wait-queue.ts';
import { AttachmentList, attachDevice, detachDevice } from './dma-buf-attach.ts';
import type { DmaBufAttachment } from './dma-buf-attachment.ts';
import { type DmaBufCore, dmaBufCore } from './dma-buf-core.ts';
import { beginAccess, bracketsReleased, endAccess, syncByIoctl } from './dma-buf-cpu-access.ts';
import { admitExport, type DmaBufExportInfo } from './dma-buf-export.ts';
import { callExporter, requireHeld } from './dma-buf-locking.ts';
import type { CpuMapping, DmaBufAttachOps, DmaBufOps, DmaBufRange, DmaBufVma } from './dma-buf-ops.ts';
import type { DmaBufProfile } from './dma-buf-profile.ts';
import type { DMA_BUF_SYNC } from './dma-buf-sync.ts';
import { KernelMapping } from './dma-buf-vmap.ts';
import { DmaResv } from './dma-resv.ts';
import type { KernelModule } from './kernel-module.ts';

/** Bits of the open flags that a buffer's file keeps: access mode and `O_NONBLOCK`. */
const KEPT_FLAGS = 0x803;
const O_RDWR = 2;
/** `FMODE_LSEEK` and `FMODE_OPENED`, which every buffer's file has. */
const FILE_MODE = 0x80004;
/** Longest name that a process can give, in bytes. @see Linux 6.1 `include/uapi/linux/dma-buf.h` DMA_BUF_NAME_LEN */
const NAME_BYTES = 31;

/**
 * Makes a buffer that can be shared. Plain. The caller gets the first reference.
 *
 * @throws {ErrnoError} `EINVAL` a callback that every exporter must have or `priv` is missing, callbacks contradict each
 *   other, or the size is no whole number in [0, 2^64] (never retry); `ENOENT` the owner is unloaded (never retry). The first
 *   two are warned about as well.
 * @see Linux 6.1 dma_buf_export
 */
export function exportDmaBuf<Priv>(sim: Simulator, info: DmaBufExportInfo<Priv>): DmaBuf<Priv> {
  const core = dmaBufCore(sim);
  admitExport(core, info);
  return new DmaBuf(sim, core, info);
}

/** A buffer that devices and processes share. */
export class DmaBuf<Priv = unknown> {
  /** As reports call it. */
  readonly name: string;
  readonly exporterName: string;
  readonly sizeBytes: number;
  /** The exporter's own data. */
  readonly priv: Priv;
  readonly ops: DmaBufOps<Priv>;
  /** Its lock and the fences of its users. */
  readonly resv: DmaResv;
  readonly sim: Simulator;
  /** @internal */
  readonly core: DmaBufCore;
  /** The kernel's rules that hold for it. */
  readonly profile: DmaBufProfile;
  /** Flags of its file, as fcntl(2) shows them. */
  readonly fileFlags: number;
  /** Its number in the file system of buffers; unique in its machine. */
  readonly inode: number;
  readonly #owner: KernelModule | null;
  readonly #ownsResv: boolean;
  readonly #list = new AttachmentList<Priv>();
  readonly #kernelMapping: KernelMapping<Priv>;
  readonly #unmapped: WaitQueue;
  #label: string | null = null;
  #references = 1;
  #released = false;

  /** @internal Use {@link exportDmaBuf}. */
  constructor(sim: Simulator, core: DmaBufCore, info: DmaBufExportInfo<Priv>) {
    this.sim = sim;
    this.core = core;
    this.name = info.name;
    this.exporterName = info.exporterName;
    this.sizeBytes = info.sizeBytes;
    this.priv = info.priv;
    this.ops = info.ops;
    this.profile = info.profile ?? core.profile;
    this.fileFlags = (info.flags ?? O_RDWR) & KEPT_FLAGS;
    this.resv = info.resv ?? new DmaResv(sim, info.name);
    this.#ownsResv = info.resv === undefined;
    this.#owner = info.owner ?? null;
    this.#kernelMapping = new KernelMapping(this);
    this.#unmapped = new WaitQueue(sim, `unmapping of ${info.name}`);
    this.inode = core.add(this);
    const { name: buf, exporterName: exporter, sizeBytes: bytes } = info;
    if (sim.trace.enabled) sim.trace.emit({ kind: 'dmabuf.export', timeNs: sim.now, buf, exporter, bytes });
  }

  /** References that are held, which is the count of its file; 0 after the last put. */
  get references(): number {
    return this.#references;
  }

  /** Whether the exporter's `release` is done. */
  get released(): boolean {
    return this.#released;
  }

  /** Its attachments, newest first. */
  get attachments(): readonly DmaBufAttachment<Priv>[] {
    return this.#list.all;
  }

  /** Whether its exporter is dynamic: it can move the buffer, see `DmaBufOps.pin`. */
  get isDynamic(): boolean {
    return this.ops.pin !== undefined;
  }

  /** Mode bits of its file as the kernel keeps them. @see Linux 6.1 `include/linux/fs.h` OPEN_FMODE */
  get fileMode(): number {
    return FILE_MODE | ((this.fileFlags + 1) & 3);
  }

  /** The name that a process gave it, or `null`. */
  get label(): string | null {
    return this.#label;
  }

  /** Users of {@link vmap} now. */
  get vmapCount(): number {
    return this.#kernelMapping.users;
  }

  /**
   * Names the buffer, for lists of all buffers. An empty name is a name. Plain.
   *
   * @throws {ErrnoError} `EINVAL` more than 31 bytes; the old name stays (never retry).
   * @see Linux 6.1 `include/uapi/linux/dma-buf.h` DMA_BUF_SET_NAME
   */
  setLabel(label: string): void {
    const bytes = new TextEncoder().encode(label).length;
    if (bytes > NAME_BYTES) throw new ErrnoError('EINVAL', 'setLabel', `${bytes} bytes; at most ${NAME_BYTES} fit`);
    this.#label = label;
  }

  /** Takes a reference. Plain. @throws {InvariantError} the last one was put: use after free. @see Linux 6.1 get_dma_buf */
  get(): this {
    this.checkReferenced('get');
    this.#references++;
    if (this.sim.objects.enabled) this.sim.objects.got(this);
    return this;
  }

  /**
   * Gives a reference back. Plain; after the last one, `release` runs as deferred work of the running task.
   *
   * @throws {InvariantError} more puts than gets; or the last put while devices are attached or the kernel maps it: nothing changes.
   * @see Linux 6.1 dma_buf_put
   */
  put(): void {
    assert(this.#references > 0, '%s: more puts than gets', this.name);
    if (this.#references === 1) {
      const attached = this.attachments.map((att) => att.dev.name).join(', ');
      assert(attached === '', '%s: last put while %s is attached; detach first', this.name, attached);
      assert(this.vmapCount === 0, '%s: last put while %s vmaps are left; vunmap first', this.name, this.vmapCount);
    }
    this.#references--;
    if (this.sim.objects.enabled) this.sim.objects.put(this);
    if (this.#references > 0) return;
    this.core.defer(`release ${this.name}`, () => this.#release());
  }

  /**
   * Lets `dev` share the buffer as a static importer: it will not move while attached. Waits for the exporter and the
   * reservation lock; when the exporter is dynamic, also for moves, since it is mapped right away. The caller holds a reference
   * for as long as the attachment lives. A task that is killed meanwhile leaves no attachment.
   *
   * @throws {ErrnoError} what the exporter's `attach`, `pin` or `mapDmaBuf` throws; `ENOMEM` it gave no table. No attachment
   *   is left. When `attach` itself failed, `detach` is not called; else it is.
   * @throws {HazardError} `resv.held`.
   * @throws {InvariantError} the last reference was put.
   * @see Linux 6.1 dma_buf_attach
   */
  *attach(dev: Device): Op<DmaBufAttachment<Priv>> {
    this.checkReferenced('attach');
    return yield* attachDevice(this, this.#list, dev, null);
  }

  /**
   * {@link attach} as a dynamic importer, which lets the buffer move while it is attached. When the exporter is static, the
   * buffer is mapped bidirectionally right away.
   *
   * @param importerOps - `moveNotify` is a must, unless the profile says otherwise.
   * @throws {ErrnoError} `EINVAL` `moveNotify` is missing, which is warned about (never retry); else as {@link attach}.
   * @see Linux 6.1 dma_buf_dynamic_attach
   */
  *dynamicAttach(dev: Device, importerOps: DmaBufAttachOps): Op<DmaBufAttachment<Priv>> {
    this.checkReferenced('dynamicAttach');
    if (importerOps.moveNotify === undefined && !this.profile.moveNotifyOptional) {
      this.core.warn('dynamicAttach', 'importerOps.moveNotify is missing');
      throw new ErrnoError(
        'EINVAL',
        'dynamicAttach',
        'importerOps.moveNotify is missing; a static importer uses attach',
      );
    }
    return yield* attachDevice(this, this.#list, dev, importerOps);
  }

  /**
   * Ends the device's share; a kept table goes with it. Waits for the reservation lock and the exporter.
   *
   * @throws {ErrnoError} `EINVAL` not an attachment of this buffer, or no longer (never retry); `EBUSY` it still has a mapping
   *   (retry after the unmap). Nothing changes.
   * @throws {HazardError} `resv.held`.
   * @see Linux 6.1 dma_buf_detach
   */
  *detach(att: DmaBufAttachment<Priv>): Op<void> {
    yield* detachDevice(this, this.#list, att);
  }

  /**
   * The exporter says that the buffer moves: dynamic importers are told, the newest first. The reservation lock must be held.
   * Plain.
   *
   * @throws what a callback throws; the others have been told all the same.
   * @throws {HazardError} `resv.not-held`.
   * @see Linux 6.1 dma_buf_move_notify
   */
  moveNotify(): void {
    requireHeld(this, 'moveNotify');
    const errors: unknown[] = [];
    let importers = 0;
    for (const att of [...this.attachments]) {
      if (att.importerOps?.moveNotify === undefined) continue;
      importers++;
      try {
        att.notifyMove();
      } catch (error) {
        errors.push(error);
      }
    }
    const { trace, now } = this.sim;
    if (trace.enabled) trace.emit({ kind: 'dmabuf.move-notify', timeNs: now, buf: this.name, importers });
    if (errors.length > 0) throw errors[0];
  }

  /**
   * Opens a bracket of CPU access: the exporter makes what devices wrote visible, then this waits for the fences that the
   * access conflicts with (reading: writers; writing: everybody).
   *
   * @param dir - `'from-device'` to read, `'to-device'` to write, `'bidirectional'` for both.
   * @throws {ErrnoError} what the exporter throws; the bracket is not open then, and nothing was waited for (retry on `EINTR`
   *   only).
   * @throws {HazardError} `resv.held`.
   * @throws {InvariantError} the last reference was put.
   * @see Linux 6.1 dma_buf_begin_cpu_access
   */
  *beginCpuAccess(dir: DmaDirection): Op<void> {
    yield* beginAccess(this, dir, null);
  }

  /**
   * Closes a bracket: the exporter makes what the CPU wrote visible to devices. Waits for the exporter only, never for
   * fences.
   *
   * @param dir - as at {@link beginCpuAccess}.
   * @throws {ErrnoError} what the exporter throws; {HazardError} `resv.held`; {InvariantError} the last reference was put.
   * @see Linux 6.1 dma_buf_end_cpu_access
   */
  *endCpuAccess(dir: DmaDirection): Op<void> {
    yield* endAccess(this, dir, null);
  }

  /**
   * {@link beginCpuAccess} for `range` only, with an exporter that can; else for the whole buffer. Waits for the same fences.
   * Not part of Linux 6.1 itself; some vendors' kernels have it.
   *
   * @throws {ErrnoError} `EINVAL` the range leaves the buffer (never retry); else as {@link beginCpuAccess}.
   */
  *beginCpuAccessPartial(dir: DmaDirection, range: DmaBufRange): Op<void> {
    yield* beginAccess(this, dir, range);
  }

  /** {@link endCpuAccess} for `range` only, as {@link beginCpuAccessPartial}. Same errors. */
  *endCpuAccessPartial(dir: DmaDirection, range: DmaBufRange): Op<void> {
    yield* endAccess(this, dir, range);
  }

  /**
   * What `DMA_BUF_IOCTL_SYNC` does: opens or closes a bracket of CPU access. Waits as {@link beginCpuAccess}.
   *
   * @param flags - {@link DMA_BUF_SYNC} bits: `read`, `write` or both, with `end` to close.
   * @throws {ErrnoError} `EINVAL` other bits, or neither read nor write (never retry); what the exporter throws.
   * @see Linux 6.1 `include/uapi/linux/dma-buf.h` struct dma_buf_sync
   */
  *ioctlSync(flags: number): Op<void> {
    yield* syncByIoctl(this, flags);
  }

  /**
   * Maps pages of the buffer for somebody's address space, as a driver whose own file stands for the buffer does. Waits for the
   * exporter. The mapping holds a reference, which whoever unmaps it puts.
   *
   * @throws {ErrnoError} `EINVAL` the exporter has no mmap, or the range ends beyond the buffer's whole pages; `EOVERFLOW` it ends
   *   beyond 2^64 pages (never retry); what the exporter throws. No reference is taken then.
   * @throws {InvariantError} the last reference was put.
   * @see Linux 6.1 dma_buf_mmap
   */
  *mmap(vma: DmaBufVma): Op<CpuMapping> {
    this.checkReferenced('mmap');
    const { mmap } = this.ops;
    const { pgoff, pageCount } = vma;
    const range = `${pageCount} pages from page ${pgoff} of ${this.name} (${this.sizeBytes} bytes)`;
    if (mmap === undefined) throw new ErrnoError('EINVAL', 'mmap', `${this.exporterName} has no mmap`);
    if (pgoff < 0 && pgoff + pageCount >= 0) throw new ErrnoError('EOVERFLOW', 'mmap', range);
    if (pgoff < 0 || pgoff + pageCount > Math.floor(this.sizeBytes / PAGE_SIZE))
      throw new ErrnoError('EINVAL', 'mmap', range);
    this.get();
    let complete = false;
    try {
      const mapping = yield* callExporter(this, 'mmap', () => mmap.call(this.ops, this, vma));
      complete = true;
      return mapping;
    } finally {
      if (!complete) this.put();
    }
  }

  /**
   * Maps the whole buffer for the kernel. Waits for other users of it and the exporter, who is asked once; all get the same mapping.
   *
   * @throws {ErrnoError} `EINVAL` the exporter has no vmap (never retry); what the exporter throws, which is warned about.
   * @throws {HazardError} `resv.not-held`, where the profile demands the lock.
   * @throws {InvariantError} the last reference was put.
   * @see Linux 6.1 dma_buf_vmap
   */
  *vmap(): Op<CpuMapping> {
    this.checkReferenced('vmap');
    if (this.profile.vmapLock === 'held') requireHeld(this, 'vmap');
    return yield* this.#kernelMapping.take();
  }

  /**
   * Ends one use of the mapping that {@link vmap} gave; after the last the exporter takes it away. Waits for the exporter.
   *
   * @throws {HazardError} `resv.not-held`, where the profile demands the lock.
   * @throws {InvariantError} more vunmaps than vmaps, or not the mapping that vmap gave; nothing changes.
   * @see Linux 6.1 dma_buf_vunmap
   */
  *vunmap(map: CpuMapping): Op<void> {
    if (this.profile.vmapLock === 'held') requireHeld(this, 'vunmap');
    yield* this.#kernelMapping.give(map);
  }

  /** {@link vmap}, but takes the reservation lock itself. @see Linux 6.2 dma_buf_vmap_unlocked */
  vmapUnlocked(): Op<CpuMapping> {
    return this.resv.withLock(() => this.vmap());
  }

  /** {@link vunmap}, but takes the reservation lock itself. @see Linux 6.2 dma_buf_vunmap_unlocked */
  vunmapUnlocked(map: CpuMapping): Op<void> {
    return this.resv.withLock(() => this.vunmap(map));
  }

  /** @internal @throws {InvariantError} the last reference was put. */
  checkReferenced(op: string): void {
    assert(this.#references > 0, '%s: %s after its last put', this.name, op);
  }

  /** @internal A table was taken back. */
  noteUnmapped(): void {
    if (this.#unmapped.isActive) this.#unmapped.wakeUpAll();
  }

  /** @internal Waits until no attachment has a table. */
  *unmappedByAll(): Op<void> {
    yield* this.#unmapped.waitEvent(() => this.attachments.every((att) => att.tables.size === 0));
  }

  *#release(): Op<void> {
    this.core.remove(this);
    yield* callExporter(this, 'release', () => this.ops.release(this));
    this.#released = true;
    this.#owner?.put();
    if (this.#ownsResv && !this.resv.isLocked) this.resv.fini();
    if (this.sim.trace.enabled) this.sim.trace.emit({ kind: 'dmabuf.release', timeNs: this.sim.now, buf: this.name });
    bracketsReleased(this);
  }
}
