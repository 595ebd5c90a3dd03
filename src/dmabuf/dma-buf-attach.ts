/**
 * How an attachment begins and ends. Both go on to their end when the task is killed meanwhile: an attach is undone, a detach
 * is finished.
 *
 * @see Linux 6.1 `drivers/dma-buf/dma-buf.c` dma_buf_dynamic_attach, dma_buf_detach
 */
import { ErrnoError } from '../base/errors.ts';
import type { Device } from '../dma-api/device.ts';
import type { Op } from '../sim/op.ts';
import type { DmaBuf } from './dma-buf.ts';
import { DmaBufAttachment } from './dma-buf-attachment.ts';
import { noteAttached, noteDetached } from './dma-buf-ledger.ts';
import { callExporter, requireFree } from './dma-buf-locking.ts';
import type { DmaBufAttachOps } from './dma-buf-ops.ts';

/** @internal The attachments of a buffer, newest first, and those that are being taken out. */
export class AttachmentList<Priv> {
  readonly all: DmaBufAttachment<Priv>[] = [];
  readonly leaving = new Set<DmaBufAttachment<Priv>>();

  /** @throws {ErrnoError} `EINVAL` it is not here or leaves already; `EBUSY` it still has a mapping of its own. */
  checkMayLeave(buf: DmaBuf<Priv>, att: DmaBufAttachment<Priv>): void {
    const { dev } = att;
    if (!this.all.includes(att) || this.leaving.has(att)) {
      throw new ErrnoError('EINVAL', 'detach', `${dev.name} is not attached to ${buf.name}`);
    }
    if (att.mapsOnItsOwn) throw new ErrnoError('EBUSY', 'detach', `${dev.name} still maps ${buf.name}; unmap first`);
  }

  remove(att: DmaBufAttachment<Priv>): void {
    this.all.splice(this.all.indexOf(att), 1);
    this.leaving.delete(att);
    noteDetached(att);
  }
}

/** @internal {@link DmaBuf.dynamicAttach} for both kinds of importers. */
export function* attachDevice<Priv>(
  buf: DmaBuf<Priv>,
  list: AttachmentList<Priv>,
  dev: Device,
  importerOps: DmaBufAttachOps | null,
): Op<DmaBufAttachment<Priv>> {
  requireFree(buf, 'attach');
  const att = new DmaBufAttachment(buf, dev, importerOps);
  yield* callExporter(buf, 'attach', () => buf.ops.attach?.(buf, att));
  let complete = false;
  try {
    yield* buf.resv.withLock(() => {
      buf.checkReferenced('attach');
      list.all.unshift(att);
      noteAttached(att);
    });
    const early = att.isDynamic !== buf.isDynamic;
    if (early) yield* inMapContext(buf, () => att.mapEarly());
    complete = !early || att.keptTable !== null;
  } finally {
    if (!complete) yield* finishDetach(att, list);
  }
  const { trace, now } = buf.sim;
  if (trace.enabled) trace.emit({ kind: 'dmabuf.attach', timeNs: now, buf: buf.name, device: dev.name });
  return att;
}

/** @internal {@link DmaBuf.detach}. */
export function* detachDevice<Priv>(
  buf: DmaBuf<Priv>,
  list: AttachmentList<Priv>,
  att: DmaBufAttachment<Priv>,
): Op<void> {
  requireFree(buf, 'detach');
  let begun = false;
  try {
    yield* buf.resv.withLock(() => {
      list.checkMayLeave(buf, att);
      list.leaving.add(att);
      begun = true;
      if (att.keptTable === null) list.remove(att);
    });
  } finally {
    if (begun) yield* finishDetach(att, list);
  }
  const { trace, now } = buf.sim;
  if (trace.enabled) trace.emit({ kind: 'dmabuf.detach', timeNs: now, buf: buf.name, device: att.dev.name });
}

function* finishDetach<Priv>(att: DmaBufAttachment<Priv>, list: AttachmentList<Priv>): Op<void> {
  const { buf } = att;
  try {
    if (att.keptTable !== null) yield* inMapContext(buf, () => att.dropKept());
  } finally {
    try {
      if (list.all.includes(att)) yield* buf.resv.withLock(() => list.remove(att));
    } finally {
      yield* callExporter(buf, 'detach', () => buf.ops.detach?.(buf, att));
    }
  }
}

/** With the reservation lock, when the exporter is dynamic or the profile wants it for every mapping. */
function* inMapContext<T>(buf: DmaBuf, body: () => Op<T>): Op<T> {
  if (buf.isDynamic || buf.profile.mapLock === 'always') return yield* buf.resv.withLock(body);
  return yield* body();
}
