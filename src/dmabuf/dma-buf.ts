/**
 * The shared buffer. Life of one, told here once:
 *
 * 1. {@link exportDmaBuf} makes it with one reference. Every fd, import and driver that keeps it holds a reference
 *    ({@link DmaBuf.get}, {@link DmaBuf.put}); an attachment holds none, its importer does.
 * 2. A device attaches, maps, uses the addresses, unmaps, detaches.
 * 3. The CPU accesses it between {@link DmaBuf.beginCpuAccess} and {@link DmaBuf.endCpuAccess}.
 * 4. After the last put the exporter's `release` runs, once, as a task of its own at the same instant: never inside the put.
 * 5. The reservation lock guards the list of attachments. Attach, detach and the brackets take what they need themselves, so
 *    their caller must not hold it; for map and unmap see `dma-buf-attachment.ts`.
 *
 * Inaccuracies: the kernel runs the release before the system call that put returns; here it comes at the caller's next wait.
 *
 * @see Linux 6.1 `drivers/dma-buf/dma-buf.c`; `Documentation/driver-api/dma-buf.rst`
 */
import { assert } from '../base/assert.ts';
import { ErrnoError } from '../base/errors.ts';
import type { Device } from '../dma-api/device.ts';
import type { DmaDirection } from '../dma-api/direction.ts';
import type { SgTable } from '../dma-api/sg-table.ts';
import { lift, type Op } from '../sim/op.ts';
import type { Simulator } from '../sim/simulator.ts';
import { DmaBufAttachment } from './dma-buf-attachment.ts';
import type { DmaBufOps } from './dma-buf-ops.ts';
import { DMA_BUF_SYNC, syncDirection } from './dma-buf-sync.ts';
import { DmaResv, usageToWaitFor } from './dma-resv.ts';

/** What {@link exportDmaBuf} needs. @see Linux 6.1 `include/linux/dma-buf.h` struct dma_buf_export_info */
export interface DmaBufExportInfo<Priv> {
  /** Who exports: `'system'`, `'camera0'`. */
  readonly exporterName: string;
  /** As reports call it: `'frame1'`. */
  readonly name: string;
  readonly sizeBytes: number;
  readonly ops: DmaBufOps<Priv>;
  /** The exporter's own data; not `null`. */
  readonly priv: Priv;
  /** Shared with other buffers; by default the buffer has one of its own. */
  readonly resv?: DmaResv;
}

/**
 * Makes a buffer that can be shared. Plain. The caller gets the first reference.
 *
 * @throws {ErrnoError} `EINVAL` a callback that every exporter must have or `priv` is missing, or the size is no whole number
 *   >= 0 (never retry).
 * @see Linux 6.1 dma_buf_export
 */
export function exportDmaBuf<Priv>(sim: Simulator, info: DmaBufExportInfo<Priv>): DmaBuf<Priv> {
  for (const name of ['mapDmaBuf', 'unmapDmaBuf', 'release'] as const) {
    if (typeof info.ops?.[name] !== 'function')
      throw new ErrnoError('EINVAL', 'exportDmaBuf', `ops.${name} is missing`);
  }
  if (info.priv === undefined || info.priv === null) throw new ErrnoError('EINVAL', 'exportDmaBuf', 'priv is missing');
  if (!Number.isSafeInteger(info.sizeBytes) || info.sizeBytes < 0) {
    throw new ErrnoError('EINVAL', 'exportDmaBuf', `sizeBytes: ${info.sizeBytes} is no whole number >= 0`);
  }
  return new DmaBuf(sim, info);
}

/** A buffer that devices and processes share. */
export class DmaBuf<Priv = unknown> {
  readonly name: string;
  readonly exporterName: string;
  readonly sizeBytes: number;
  /** The exporter's own data. */
  readonly priv: Priv;
  readonly ops: DmaBufOps<Priv>;
  /** Its lock and the fences of its users. */
  readonly resv: DmaResv;
  readonly sim: Simulator;
  readonly #attachments: DmaBufAttachment<Priv>[] = [];
  #references = 1;
  #released = false;

  /** @internal Use {@link exportDmaBuf}. */
  constructor(sim: Simulator, info: DmaBufExportInfo<Priv>) {
    this.sim = sim;
    this.name = info.name;
    this.exporterName = info.exporterName;
    this.sizeBytes = info.sizeBytes;
    this.priv = info.priv;
    this.ops = info.ops;
    this.resv = info.resv ?? new DmaResv(sim, info.name);
    const { trace, now } = this.sim;
    if (trace.enabled)
      trace.emit({
        kind: 'dmabuf.export',
        timeNs: now,
        buf: this.name,
        exporter: info.exporterName,
        bytes: info.sizeBytes,
      });
  }

  /** References that are held; 0 after the last put. */
  get references(): number {
    return this.#references;
  }

  /** Whether the exporter's `release` is done. */
  get released(): boolean {
    return this.#released;
  }

  /** Its attachments, newest first. */
  get attachments(): readonly DmaBufAttachment<Priv>[] {
    return this.#attachments;
  }

  /** Takes a reference. Plain. @throws {InvariantError} the last one was put: use after free. @see Linux 6.1 get_dma_buf */
  get(): this {
    this.#checkReferenced('get');
    this.#references++;
    return this;
  }

  /**
   * Gives a reference back. Plain; after the last one, `release` runs as a task of its own at the present instant.
   *
   * @throws {InvariantError} more puts than gets; or the last put while devices are attached, which changes nothing.
   * @see Linux 6.1 dma_buf_put
   */
  put(): void {
    assert(this.#references > 0, '%s: more puts than gets', this.name);
    if (this.#references === 1) {
      const attached = this.#attachments.map((att) => att.dev.name).join(', ');
      assert(attached === '', '%s: last put while %s is attached; detach first', this.name, attached);
    }
    if (--this.#references > 0) return;
    this.sim.spawn(`release ${this.name}`, () => this.#release());
  }

  /**
   * Lets `dev` share the buffer. Waits for the exporter and the reservation lock. The caller holds a reference for as long as
   * the attachment lives. A task that is killed meanwhile leaves no attachment.
   *
   * @throws {ErrnoError} what the exporter's `attach` throws; no attachment is left.
   * @throws {InvariantError} the last reference was put, or the caller holds the reservation lock.
   * @see Linux 6.1 dma_buf_attach
   */
  *attach(dev: Device): Op<DmaBufAttachment<Priv>> {
    this.#checkReferenced('attach');
    const att = new DmaBufAttachment(this, dev);
    yield* lift(this.ops.attach?.(this, att));
    let listed = false;
    try {
      yield* this.resv.withLock(() => {
        this.#checkReferenced('attach');
        this.#attachments.unshift(att);
        listed = true;
      });
    } finally {
      if (!listed) yield* lift(this.ops.detach?.(this, att));
    }
    const { trace, now } = this.sim;
    if (trace.enabled) trace.emit({ kind: 'dmabuf.attach', timeNs: now, buf: this.name, device: dev.name });
    return att;
  }

  /**
   * Ends the device's share. Waits for the reservation lock and the exporter.
   *
   * @throws {ErrnoError} `EINVAL` not an attachment of this buffer, or no longer (never retry); `EBUSY` it still has a mapping
   *   (retry after the unmap). Nothing changes.
   * @throws {InvariantError} the caller holds the reservation lock.
   * @see Linux 6.1 dma_buf_detach
   */
  *detach(att: DmaBufAttachment<Priv>): Op<void> {
    yield* this.resv.withLock(() => this.#unlist(att));
    yield* lift(this.ops.detach?.(this, att));
    const { trace, now } = this.sim;
    if (trace.enabled) trace.emit({ kind: 'dmabuf.detach', timeNs: now, buf: this.name, device: att.dev.name });
  }

  /**
   * Opens a bracket of CPU access: the exporter makes what devices wrote visible, then this waits for the fences that the
   * access conflicts with (reading: writers; writing: everybody).
   *
   * @param dir - `'from-device'` to read, `'to-device'` to write, `'bidirectional'` for both.
   * @throws {ErrnoError} what the exporter throws; the bracket is not open then, and nothing was waited for (retry on `EINTR`
   *   only).
   * @throws {InvariantError} the last reference was put.
   * @see Linux 6.1 dma_buf_begin_cpu_access
   */
  *beginCpuAccess(dir: DmaDirection): Op<void> {
    this.#checkReferenced('beginCpuAccess');
    yield* lift(this.ops.beginCpuAccess?.(this, dir));
    yield* this.resv.wait(usageToWaitFor(dir === 'from-device' ? 'read' : 'write'));
    const { trace, now } = this.sim;
    if (trace.enabled) trace.emit({ kind: 'dmabuf.begin-cpu-access', timeNs: now, buf: this.name, dir });
  }

  /**
   * Closes a bracket: the exporter makes what the CPU wrote visible to devices. Waits for the exporter only, never for
   * fences.
   *
   * @param dir - as at {@link beginCpuAccess}.
   * @throws {ErrnoError} what the exporter throws.
   * @throws {InvariantError} the last reference was put.
   * @see Linux 6.1 dma_buf_end_cpu_access
   */
  *endCpuAccess(dir: DmaDirection): Op<void> {
    this.#checkReferenced('endCpuAccess');
    yield* lift(this.ops.endCpuAccess?.(this, dir));
    const { trace, now } = this.sim;
    if (trace.enabled) trace.emit({ kind: 'dmabuf.end-cpu-access', timeNs: now, buf: this.name, dir });
  }

  /**
   * What `DMA_BUF_IOCTL_SYNC` does: opens or closes a bracket of CPU access. Waits as {@link beginCpuAccess}.
   *
   * @param flags - {@link DMA_BUF_SYNC} bits: `read`, `write` or both, with `end` to close.
   * @throws {ErrnoError} `EINVAL` other bits, or neither read nor write (never retry); what the exporter throws.
   * @see Linux 6.1 `include/uapi/linux/dma-buf.h` struct dma_buf_sync
   */
  *ioctlSync(flags: number): Op<void> {
    const dir = syncDirection(flags);
    yield* (flags & DMA_BUF_SYNC.end) !== 0 ? this.endCpuAccess(dir) : this.beginCpuAccess(dir);
  }

  /** @internal Whether `sgt` is a mapping of any attachment. */
  isMapped(sgt: SgTable): boolean {
    return this.#attachments.some((att) => att.mappings.has(sgt));
  }

  #unlist(att: DmaBufAttachment<Priv>): void {
    const at = this.#attachments.indexOf(att);
    if (at < 0) throw new ErrnoError('EINVAL', 'detach', `${att.dev.name} is not attached to ${this.name}`);
    if (att.mappings.size > 0) {
      throw new ErrnoError('EBUSY', 'detach', `${att.dev.name} still maps ${this.name}; unmap first`);
    }
    this.#attachments.splice(at, 1);
  }

  #checkReferenced(op: string): void {
    assert(this.#references > 0, '%s: %s after its last put', this.name, op);
  }

  *#release(): Op<void> {
    yield* lift(this.ops.release(this));
    this.#released = true;
    const { trace, now } = this.sim;
    if (trace.enabled) trace.emit({ kind: 'dmabuf.release', timeNs: now, buf: this.name });
  }
}
