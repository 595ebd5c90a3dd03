/**
 * One device's share in a buffer. The importer holds it from attach to detach and maps through it.
 *
 * Locking, as Linux has it from 6.2 on: `map` and `unmap` demand that the caller holds the buffer's reservation lock; the
 * `…Unlocked` forms take it themselves.
 *
 * @see Linux 6.1 `include/linux/dma-buf.h` struct dma_buf_attachment
 */
import { assert } from '../base/assert.ts';
import { ErrnoError } from '../base/errors.ts';
import type { Device } from '../dma-api/device.ts';
import type { DmaDirection } from '../dma-api/direction.ts';
import { SgTable } from '../dma-api/sg-table.ts';
import { lift, type Op } from '../sim/op.ts';
import { settle } from '../sim/settle.ts';
import type { DmaBuf } from './dma-buf.ts';
import { DmaResvUsage } from './dma-resv.ts';

/** Made by `buf.attach(dev)`. */
export class DmaBufAttachment<Priv = unknown> {
  readonly buf: DmaBuf<Priv>;
  readonly dev: Device;
  readonly #mapped = new Map<SgTable, DmaDirection>();

  /** @internal */
  constructor(buf: DmaBuf<Priv>, dev: Device) {
    this.buf = buf;
    this.dev = dev;
  }

  /** The tables that are mapped now, each with its direction. */
  get mappings(): ReadonlyMap<SgTable, DmaDirection> {
    return this.#mapped;
  }

  /** Whether the buffer still lists it. */
  get attached(): boolean {
    return this.buf.attachments.includes(this);
  }

  /**
   * Maps the buffer for the device. The reservation lock must be held. Waits for the exporter and then for its moves
   * (KERNEL fences), not for other users: that is what {@link DmaBuf.resv} is for.
   *
   * The table belongs to this mapping until {@link unmap}; only its device may use the addresses. A task that is killed
   * while it waits for moves leaves nothing mapped.
   *
   * @throws {ErrnoError} what the exporter throws; `EIO`, `ENOMEM` of the DMA API; `ENOMEM` the exporter gave no table. Nothing
   *   is mapped then.
   * @throws {InvariantError} the lock is not held, it was detached, or the exporter gave a table that is another mapping's.
   * @see Linux 6.1 `drivers/dma-buf/dma-buf.c` dma_buf_map_attachment
   */
  *map(dir: DmaDirection): Op<SgTable> {
    const { buf } = this;
    buf.resv.assertHeld();
    assert(this.attached, '%s: map through an attachment of %s that was detached', buf.name, this.dev.name);
    const sgt = yield* lift(buf.ops.mapDmaBuf(this, dir));
    if (!(sgt instanceof SgTable)) throw new ErrnoError('ENOMEM', 'map', `${buf.exporterName} gave no table`);
    assert(!buf.isMapped(sgt), '%s: its exporter gave one table to two mappings; give each its own', buf.name);
    this.#mapped.set(sgt, dir);
    let complete = false;
    try {
      yield* buf.resv.wait(DmaResvUsage.kernel);
      complete = true;
    } finally {
      if (!complete) yield* this.#takeBack(sgt, dir);
    }
    this.#trace('dmabuf.map', dir);
    return sgt;
  }

  /**
   * Ends a mapping of {@link map}. The reservation lock must be held. Waits for the exporter.
   *
   * @throws {ErrnoError} `EINVAL` the table is none of this attachment's, or the direction is not the one it was mapped
   *   with; nothing is unmapped (never retry).
   * @throws {InvariantError} the lock is not held.
   * @see Linux 6.1 `drivers/dma-buf/dma-buf.c` dma_buf_unmap_attachment
   */
  *unmap(sgt: SgTable, dir: DmaDirection): Op<void> {
    this.buf.resv.assertHeld();
    const mappedWith = this.#mapped.get(sgt);
    if (mappedWith === undefined) {
      throw new ErrnoError('EINVAL', 'unmap', `the table was not mapped through ${this.dev.name}'s attachment`);
    }
    if (mappedWith !== dir) throw new ErrnoError('EINVAL', 'unmap', `mapped ${mappedWith}, unmapped ${dir}`);
    yield* this.#takeBack(sgt, dir);
    this.#trace('dmabuf.unmap', dir);
  }

  /**
   * {@link map}, but takes the reservation lock itself, which the caller must not hold, and gives it back when what mapping
   * charged is paid. A task that is killed while it pays leaves nothing mapped either.
   *
   * @see Linux 6.2 dma_buf_map_attachment_unlocked
   */
  mapUnlocked(dir: DmaDirection): Op<SgTable> {
    return this.buf.resv.withLock(() => this.#mapAndPay(dir));
  }

  /** {@link unmap}, but takes the reservation lock itself, which the caller must not hold. @see Linux 6.2 dma_buf_unmap_attachment_unlocked */
  unmapUnlocked(sgt: SgTable, dir: DmaDirection): Op<void> {
    return this.buf.resv.withLock(() => this.unmap(sgt, dir));
  }

  *#mapAndPay(dir: DmaDirection): Op<SgTable> {
    const sgt = yield* this.map(dir);
    let paid = false;
    try {
      yield* settle(this.buf.sim);
      paid = true;
    } finally {
      if (!paid) yield* this.unmap(sgt, dir);
    }
    return sgt;
  }

  *#takeBack(sgt: SgTable, dir: DmaDirection): Op<void> {
    this.#mapped.delete(sgt);
    yield* lift(this.buf.ops.unmapDmaBuf(this, sgt, dir));
  }

  #trace(kind: 'dmabuf.map' | 'dmabuf.unmap', dir: DmaDirection): void {
    const { trace, now } = this.buf.sim;
    if (trace.enabled) trace.emit({ kind, timeNs: now, buf: this.buf.name, device: this.dev.name, dir });
  }
}
