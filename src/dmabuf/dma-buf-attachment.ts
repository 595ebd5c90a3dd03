/**
 * One device's share in a buffer. The importer holds it from attach to detach and maps through it.
 *
 * 1. A *static* importer gave no {@link DmaBufAttachOps}; for it the buffer never moves while it is attached: when the
 *    exporter is dynamic, the buffer is pinned and mapped bidirectionally at attach and that table is kept until detach.
 * 2. A *dynamic* importer gave them. When the exporter is static, the buffer is mapped bidirectionally at attach as well.
 * 3. A dynamic importer of a dynamic exporter maps anew each time. Without `moveNotify` in the profile each of its mappings
 *    pins the buffer.
 * 4. A kept table (rules 1 and 2, or `cacheSgtMapping`) serves every map; its direction must be the one it was made with,
 *    unless that was bidirectional. Unmapping it does nothing; it goes at detach.
 * 5. A static importer's map waits for moves (KERNEL fences) after the exporter has mapped; a dynamic importer's does not: it
 *    looks at the fences itself.
 *
 * Who holds the reservation lock stands in `dma-buf-locking.ts`.
 *
 * Inaccuracies: two static importers' tasks that race for the first kept table both map, and only one table is kept; the
 * kernel leaks the other, here it is unmapped when its user unmaps it.
 *
 * @see Linux 6.1 `include/linux/dma-buf.h` struct dma_buf_attachment
 */
import { assert } from '../base/assert.ts';
import { ErrnoError } from '../base/errors.ts';
import type { Device } from '../dma-api/device.ts';
import type { DmaDirection } from '../dma-api/direction.ts';
import { hidePages, showPages } from '../dma-api/page-peek.ts';
import { SgTable } from '../dma-api/sg-table.ts';
import type { Op } from '../sim/op.ts';
import { settle } from '../sim/settle.ts';
import { lintTable, noteMoved, noteTableMade, noteTableReturned } from './attachment-notes.ts';
import type { DmaBuf } from './dma-buf.ts';
import { noteMapped, notePinned, noteUnmapped, noteUnpinned } from './dma-buf-ledger.ts';
import { callExporter, requireFree, requireHeld } from './dma-buf-locking.ts';
import type { DmaBufAttachOps } from './dma-buf-ops.ts';
import { DmaResvUsage } from './dma-resv.ts';

/** A table that serves every map of its attachment. */
interface KeptTable {
  readonly sgt: SgTable;
  readonly dir: DmaDirection;
}

/** Made by `buf.attach(dev)` or `buf.dynamicAttach(dev, ops)`. */
export class DmaBufAttachment<Priv = unknown> {
  readonly buf: DmaBuf<Priv>;
  readonly dev: Device;
  /** The callbacks of a dynamic importer; `null` for a static one. */
  readonly importerOps: DmaBufAttachOps | null;
  /** Whether the importer can reach memory of other devices across the bus; exporters ask for it. */
  readonly peer2peer: boolean;
  readonly #tables = new Map<SgTable, DmaDirection>();
  readonly #uses = new Map<SgTable, DmaDirection[]>();
  #kept: KeptTable | null = null;
  #pins = 0;

  /** @internal */
  constructor(buf: DmaBuf<Priv>, dev: Device, importerOps: DmaBufAttachOps | null) {
    this.buf = buf;
    this.dev = dev;
    this.importerOps = importerOps;
    this.peer2peer = importerOps?.allowPeer2Peer ?? false;
  }

  /** The tables that the importer has to unmap, each with the direction of its latest map. */
  get mappings(): ReadonlyMap<SgTable, DmaDirection> {
    return new Map([...this.#uses].map(([sgt, dirs]) => [sgt, dirs.at(-1) as DmaDirection]));
  }

  /** The tables that the exporter has made and not taken back, a kept one included, each with the direction it was made with. */
  get tables(): ReadonlyMap<SgTable, DmaDirection> {
    return this.#tables;
  }

  /** The table that serves every map, or `null`: rule 4. */
  get keptTable(): SgTable | null {
    return this.#kept?.sgt ?? null;
  }

  /** Whether its importer lets the buffer move: rule 2. */
  get isDynamic(): boolean {
    return this.importerOps !== null;
  }

  /** How often the buffer is pinned through this attachment: by its importer and by the core. */
  get pinCount(): number {
    return this.#pins;
  }

  /** Whether the buffer still lists it. */
  get attached(): boolean {
    return this.buf.attachments.includes(this);
  }

  /**
   * Whether an exporter may rely on this importer giving its mappings up in bounded time when it is told that the buffer
   * moves or is revoked. Plain.
   *
   * @see Linux 7.1 dma_buf_attach_revocable
   */
  get revocable(): boolean {
    return this.importerOps?.moveNotify !== undefined;
  }

  /**
   * Maps the buffer for the device. Waits for the exporter, and for a static importer then for its moves (KERNEL fences),
   * not for other users: that is what {@link DmaBuf.resv} is for.
   *
   * The table belongs to this mapping until {@link unmap}; only its device may use the addresses. A task that is killed
   * while it waits leaves nothing mapped and nothing pinned.
   *
   * @throws {ErrnoError} `EBUSY` a kept table has another direction (retry after the detach, never before); what the exporter
   *   throws; `EIO`, `ENOMEM` of the DMA API; `ENOMEM` the exporter gave no table. Nothing is mapped or pinned then.
   * @throws {HazardError} `resv.not-held`; `dmabuf.shared-table` the exporter gave a table that is another mapping's.
   * @throws {InvariantError} it was detached.
   * @see Linux 6.1 `drivers/dma-buf/dma-buf.c` dma_buf_map_attachment
   */
  *map(dir: DmaDirection): Op<SgTable> {
    const { buf } = this;
    if (this.#mapsLocked) requireHeld(buf, 'map');
    assert(this.attached, '%s: map through an attachment of %s that was detached', buf.name, this.dev.name);
    const sgt = yield* this.#table(dir);
    const dirs = this.#uses.get(sgt);
    if (dirs === undefined) this.#uses.set(sgt, [dir]);
    else dirs.push(dir);
    noteMapped(this, sgt, dir);
    this.#trace('dmabuf.map', dir);
    return sgt;
  }

  /**
   * Ends a mapping of {@link map}. Waits for the exporter.
   *
   * @throws {ErrnoError} `EINVAL` the table is none of this attachment's, or the direction is not one it was mapped with;
   *   nothing is unmapped (never retry).
   * @throws {HazardError} `resv.not-held`.
   * @see Linux 6.1 `drivers/dma-buf/dma-buf.c` dma_buf_unmap_attachment
   */
  *unmap(sgt: SgTable, dir: DmaDirection): Op<void> {
    const { buf } = this;
    const isKept = this.#kept?.sgt === sgt;
    if (this.#mapsLocked || (buf.isDynamic && !isKept)) requireHeld(buf, 'unmap');
    this.#dropUse(sgt, dir);
    if (!isKept) yield* this.#unmake(sgt, dir, this.#pinsMappings);
    this.#trace('dmabuf.unmap', dir);
  }

  /**
   * {@link map}, but takes the reservation lock itself, which the caller must not hold, and gives it back when what mapping
   * charged is paid. A task that is killed while it pays leaves nothing mapped either.
   *
   * @throws {HazardError} `resv.held`; else as {@link map}.
   * @see Linux 6.2 dma_buf_map_attachment_unlocked
   */
  *mapUnlocked(dir: DmaDirection): Op<SgTable> {
    requireFree(this.buf, 'mapUnlocked');
    return yield* this.buf.resv.withLock(() => this.#mapAndPay(dir));
  }

  /**
   * {@link unmap}, but takes the reservation lock itself, which the caller must not hold.
   *
   * @throws {HazardError} `resv.held`; else as {@link unmap}.
   * @see Linux 6.2 dma_buf_unmap_attachment_unlocked
   */
  *unmapUnlocked(sgt: SgTable, dir: DmaDirection): Op<void> {
    requireFree(this.buf, 'unmapUnlocked');
    yield* this.buf.resv.withLock(() => this.unmap(sgt, dir));
  }

  /**
   * Keeps the buffer where it is until {@link unpin}. The reservation lock must be held. Waits for the exporter. Does nothing
   * when the exporter is static. Through a static attachment it warns, and does it all the same.
   *
   * @throws {ErrnoError} what the exporter throws; it is not pinned then.
   * @throws {HazardError} `resv.not-held`.
   * @see Linux 6.1 dma_buf_pin
   */
  *pin(): Op<void> {
    this.#checkPin('pin');
    yield* this.#pinExporter();
  }

  /**
   * Takes one {@link pin} back. The reservation lock must be held. Waits for the exporter.
   *
   * @throws {HazardError} `resv.not-held`.
   * @see Linux 6.1 dma_buf_unpin
   */
  *unpin(): Op<void> {
    this.#checkPin('unpin');
    yield* this.#unpinExporter();
  }

  /** @internal Rules 1 and 2: what an attach does when one side alone is dynamic. Nothing is left when it fails. */
  *mapEarly(): Op<void> {
    const { buf } = this;
    if (buf.isDynamic) yield* this.#pinExporter();
    let sgt: SgTable | null = null;
    try {
      sgt = yield* this.#makeTable('bidirectional');
    } finally {
      if (sgt === null && buf.isDynamic) yield* this.#unpinExporter();
    }
    this.#kept = { sgt, dir: 'bidirectional' };
  }

  /** @internal Tells a dynamic importer that the buffer moves. */
  notifyMove(): void {
    this.importerOps?.moveNotify?.(this);
    noteMoved(this, 'move');
  }

  /** @internal Whether the importer still has a table that is not kept. */
  get mapsOnItsOwn(): boolean {
    for (const sgt of this.#uses.keys()) if (sgt !== this.#kept?.sgt) return true;
    return false;
  }

  /** @internal At detach: takes the kept table back, whoever still uses it. */
  *dropKept(): Op<void> {
    const kept = this.#kept;
    if (kept === null) return;
    this.#kept = null;
    for (const dir of this.#uses.get(kept.sgt) ?? []) {
      noteUnmapped(this, kept.sgt);
      this.#trace('dmabuf.unmap', dir);
    }
    this.#uses.delete(kept.sgt);
    noteTableReturned(this, kept.sgt, 'detach');
    yield* this.#unmake(kept.sgt, kept.dir, this.buf.isDynamic);
  }

  /** Whether the profile demands the lock for every map of this attachment. */
  get #mapsLocked(): boolean {
    return this.isDynamic || this.buf.profile.mapLock === 'always';
  }

  /** Rule 3. */
  get #pinsMappings(): boolean {
    return this.buf.isDynamic && !this.buf.profile.moveNotify;
  }

  *#table(dir: DmaDirection): Op<SgTable> {
    const { buf } = this;
    if (this.#kept !== null) return this.#keptFor(this.#kept, dir);
    if (buf.isDynamic) requireHeld(buf, 'map');
    if (this.#pinsMappings) yield* this.#pinExporter();
    let sgt: SgTable | null = null;
    try {
      sgt = yield* this.#makeTable(dir);
    } finally {
      if (sgt === null && this.#pinsMappings) yield* this.#unpinExporter();
    }
    if (buf.ops.cacheSgtMapping === true && this.#kept === null) this.#kept = { sgt, dir };
    return sgt;
  }

  #keptFor(kept: KeptTable, dir: DmaDirection): SgTable {
    if (kept.dir === dir || kept.dir === 'bidirectional') return kept.sgt;
    const detail = `the table that ${this.dev.name} keeps of ${this.buf.name} is ${kept.dir}; detach before you map it ${dir}`;
    throw new ErrnoError('EBUSY', 'map', detail);
  }

  *#makeTable(dir: DmaDirection): Op<SgTable> {
    const { buf } = this;
    const sgt = yield* callExporter(buf, 'mapDmaBuf', () => buf.ops.mapDmaBuf(this, dir));
    if (!(sgt instanceof SgTable)) throw new ErrnoError('ENOMEM', 'map', `${buf.exporterName} gave no table`);
    this.#checkOwn(sgt);
    this.#tables.set(sgt, dir);
    noteTableMade(this, sgt);
    hidePages(sgt, this.dev);
    let complete = false;
    try {
      if (buf.sim.lints) lintTable(this, sgt);
      if (!this.isDynamic) yield* buf.resv.wait(DmaResvUsage.kernel);
      complete = true;
    } finally {
      if (!complete) yield* this.#takeBack(sgt, dir);
    }
    return sgt;
  }

  *#unmake(sgt: SgTable, dir: DmaDirection, unpin: boolean): Op<void> {
    try {
      yield* this.#takeBack(sgt, dir);
    } finally {
      if (unpin) yield* this.#unpinExporter();
    }
  }

  *#takeBack(sgt: SgTable, dir: DmaDirection): Op<void> {
    const { buf } = this;
    this.#tables.delete(sgt);
    noteTableReturned(this, sgt, 'unmap');
    showPages(sgt);
    yield* callExporter(buf, 'unmapDmaBuf', () => buf.ops.unmapDmaBuf(this, sgt, dir));
    buf.noteUnmapped();
  }

  *#pinExporter(): Op<void> {
    const { buf } = this;
    const { pin } = buf.ops;
    if (pin === undefined) return;
    yield* callExporter(buf, 'pin', () => pin.call(buf.ops, this));
    this.#pins++;
    notePinned(this);
    this.#tracePin('dmabuf.pin');
  }

  *#unpinExporter(): Op<void> {
    const { buf } = this;
    const { unpin } = buf.ops;
    if (unpin === undefined) return;
    if (this.#pins > 0) this.#pins--;
    noteUnpinned(this);
    yield* callExporter(buf, 'unpin', () => unpin.call(buf.ops, this));
    this.#tracePin('dmabuf.unpin');
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

  #checkPin(call: 'pin' | 'unpin'): void {
    requireHeld(this.buf, call);
    if (!this.isDynamic) {
      this.buf.core.warn(call, `${this.dev.name} is a static importer of ${this.buf.name}: pinning is not its affair`);
    }
  }

  #dropUse(sgt: SgTable, dir: DmaDirection): void {
    const dirs = this.#uses.get(sgt);
    if (dirs === undefined) {
      throw new ErrnoError('EINVAL', 'unmap', `the table was not mapped through ${this.dev.name}'s attachment`);
    }
    const at = dirs.lastIndexOf(dir);
    if (at < 0) throw new ErrnoError('EINVAL', 'unmap', `mapped ${dirs.join(', ')}, unmapped ${dir}`);
    dirs.splice(at, 1);
    noteUnmapped(this, sgt);
    if (dirs.length === 0) this.#uses.delete(sgt);
  }

  /** Reports a table that another mapping has. */
  #checkOwn(sgt: SgTable): void {
    const { buf } = this;
    const other = buf.attachments.find((att) => att.tables.has(sgt)) ?? (this.#tables.has(sgt) ? this : undefined);
    if (other === undefined) return;
    buf.sim.report({
      hazard: 'dmabuf.shared-table',
      buf: buf.name,
      exporter: buf.exporterName,
      devices: [other.dev.name, this.dev.name],
      timeNs: buf.sim.now,
      remedy: 'make a table of its own for each mapping in mapDmaBuf (SgTable.clone, then dmaMapSgtable)',
    });
  }

  #trace(kind: 'dmabuf.map' | 'dmabuf.unmap', dir: DmaDirection): void {
    const { buf, dev } = this;
    const { trace, now } = buf.sim;
    if (trace.enabled) trace.emit({ kind, timeNs: now, buf: buf.name, device: dev.name, dir });
  }

  #tracePin(kind: 'dmabuf.pin' | 'dmabuf.unpin'): void {
    const { buf, dev } = this;
    const { trace, now } = buf.sim;
    if (trace.enabled) trace.emit({ kind, timeNs: now, buf: buf.name, device: dev.name });
  }
}
