/** What buffers and their attachments tell the ledger of objects (`sim.objects`). Nothing is told, at no cost, while nobody keeps it. */
import type { DmaDirection } from '../dma-api/direction.ts';
import type { SgTable } from '../dma-api/sg-table.ts';
import type { DmaBuf } from './dma-buf.ts';
import type { DmaBufAttachment } from './dma-buf-attachment.ts';

const OF = 'dmabuf';

/** @internal A buffer came to be; the fences of a reservation of its own are with it. */
export function noteExported(buf: DmaBuf): void {
  const { objects } = buf.sim;
  if (!objects.enabled) return;
  objects.track(buf, 'dma-buf', { of: OF, owner: buf.exporterName });
  if (objects.of(buf.resv) === undefined) objects.alias(buf.resv, buf);
}

/** @internal A device is listed. */
export function noteAttached<Priv>(att: DmaBufAttachment<Priv>): void {
  const { buf, dev } = att;
  const { objects } = buf.sim;
  if (!objects.enabled) return;
  objects.note(att, 'attachment', {
    of: OF,
    name: `attachment of ${buf.name} for ${dev.name}`,
    owner: dev.name,
    holds: buf,
  });
}

/** @internal It is not any more. */
export function noteDetached<Priv>(att: DmaBufAttachment<Priv>): void {
  att.buf.sim.objects.end(att, 'attachment');
}

/** @internal The importer has a table to unmap. */
export function noteMapped<Priv>(att: DmaBufAttachment<Priv>, sgt: SgTable, dir: DmaDirection): void {
  const { buf, dev } = att;
  const { objects } = buf.sim;
  if (!objects.enabled) return;
  const name = `${dir} mapping of ${buf.name} for ${dev.name}`;
  objects.note(sgt, 'mapping', { of: OF, name, owner: dev.name, holds: buf, within: att });
}

/** @internal It has unmapped it. */
export function noteUnmapped<Priv>(att: DmaBufAttachment<Priv>, sgt: SgTable): void {
  att.buf.sim.objects.end(sgt, 'mapping');
}

/** @internal The buffer is pinned through an attachment. */
export function notePinned<Priv>(att: DmaBufAttachment<Priv>): void {
  const { buf, dev } = att;
  const { objects } = buf.sim;
  if (!objects.enabled) return;
  const name = `pin of ${buf.name} for ${dev.name}`;
  objects.note(att, 'pin', { of: OF, name, owner: dev.name, holds: buf, within: att });
}

/** @internal It is unpinned. */
export function noteUnpinned<Priv>(att: DmaBufAttachment<Priv>): void {
  att.buf.sim.objects.end(att, 'pin');
}

/** @internal The kernel has one more user of its mapping. */
export function noteVmapped<Priv>(buf: DmaBuf<Priv>): void {
  const { objects, currentTask } = buf.sim;
  if (!objects.enabled) return;
  objects.note(buf, 'vmap', { of: OF, name: `vmap of ${buf.name}`, owner: currentTask?.name ?? 'kernel', holds: buf });
}

/** @internal It has one less. */
export function noteVunmapped<Priv>(buf: DmaBuf<Priv>): void {
  buf.sim.objects.end(buf, 'vmap');
}
