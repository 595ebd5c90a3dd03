/**
 * PRIME: objects of one client as dma-bufs and back, with one identity: the same object is always the same dma-buf, and the same
 * dma-buf always the same handle of a client.
 *
 * @see Linux 6.1 `drivers/gpu/drm/drm_prime.c`; `Documentation/gpu/drm-mm.rst`
 */
import { PAGE_SIZE } from '../base/addr.ts';
import { ErrnoError } from '../base/errors.ts';
import { alignUp } from '../base/units.ts';
import type { DmaDirection } from '../dma-api/direction.ts';
import { dmaMapSgtable, dmaUnmapSgtable } from '../dma-api/dma-map.ts';
import type { SgTable } from '../dma-api/sg-table.ts';
import { type DmaBuf, exportDmaBuf } from '../dmabuf/dma-buf.ts';
import type { DmaBufAttachment } from '../dmabuf/dma-buf-attachment.ts';
import type { CpuMapping, DmaBufOps, DmaBufVma } from '../dmabuf/dma-buf-ops.ts';
import type { Op } from '../sim/op.ts';
import type { DrmDevice } from './drm-device.ts';
import { GemObject } from './drm-gem.ts';

const NO_SYNC = { skipCpuSync: true };

const primeOps: DmaBufOps<GemObject> = {
  cacheSgtMapping: true,
  attach({ priv }: DmaBuf<GemObject>): void {
    priv.memory();
  },
  mapDmaBuf(att: DmaBufAttachment<GemObject>, dir: DmaDirection): SgTable {
    const table = att.buf.priv.memory().clone();
    dmaMapSgtable(att.dev, table, dir, NO_SYNC);
    return table;
  },
  unmapDmaBuf(att: DmaBufAttachment<GemObject>, table: SgTable, dir: DmaDirection): void {
    dmaUnmapSgtable(att.dev, table, dir, NO_SYNC);
  },
  release(buf: DmaBuf<GemObject>): void {
    buf.priv.put();
    buf.sim.objects.unhold(buf, buf.priv);
  },
  mmap({ priv }: DmaBuf<GemObject>, vma: DmaBufVma): CpuMapping {
    if (vma.isPrivate === true) throw new ErrnoError('EINVAL', 'mmap', `MAP_PRIVATE of ${priv.name}; use MAP_SHARED`);
    return cpuMapping(priv);
  },
  vmap({ priv }: DmaBuf<GemObject>): CpuMapping {
    return cpuMapping(priv);
  },
};

/** @internal Where the CPU finds `object`, and with which memory type. */
export function cpuMapping(object: GemObject): CpuMapping {
  return { extents: object.memory().extents(), attribute: object.device.driver.memory };
}

/**
 * @internal The dma-buf of `object`, with a reference for the caller; made at the first time.
 *
 * @param flags - of the dma-buf's file if it is made now.
 */
export function exportObject(object: GemObject, flags: number): DmaBuf {
  const known = object.imported?.buf ?? object.dmaBuf;
  if (known !== null) {
    object.setDmaBuf(known);
    return known.get();
  }
  const { sizeBytes, name, resv, device } = object;
  const info = { exporterName: 'drm', name, sizeBytes, ops: primeOps, priv: object.get(), resv, flags };
  let complete = false;
  try {
    const buf = exportDmaBuf(device.sim, info);
    device.sim.objects.adopt(buf, object);
    object.setDmaBuf(buf);
    complete = true;
    return buf;
  } finally {
    if (!complete) object.put();
  }
}

/**
 * @internal The object that `buf` is to `device`, with a reference for the caller: its own if it exported it, one that it has if
 * its driver keeps one for all clients, else a new one that attaches and maps it. Waits for the exporter.
 *
 * @throws {ErrnoError} what the exporter throws; nothing is left then.
 * @see Linux 6.1 drm_gem_prime_import
 */
export function* importObject(device: DrmDevice, buf: DmaBuf): Op<GemObject> {
  const { priv } = buf;
  if (buf.ops === primeOps && priv instanceof GemObject && priv.device === device) return priv.get();
  const known = device.importOf(buf);
  if (known !== null) return known.get();
  buf.get();
  let attachment: DmaBufAttachment | null = null;
  let complete = false;
  try {
    attachment = yield* buf.attach(device.device);
    const table = yield* attachment.mapUnlocked('bidirectional');
    complete = true;
    return device.createObject(alignUp(buf.sizeBytes, PAGE_SIZE), { buf, attachment, table });
  } finally {
    if (!complete) {
      if (attachment !== null) yield* buf.detach(attachment);
      buf.put();
    }
  }
}

/** @internal Which handle of one client is which dma-buf. Keeps a reference of each. Plain throughout. */
export class PrimeTable {
  readonly #byHandle = new Map<number, DmaBuf>();
  /** Several handles can be one dma-buf; the oldest counts. */
  readonly #byBuf = new Map<DmaBuf, number[]>();

  handleOf(buf: DmaBuf): number | null {
    return this.#byBuf.get(buf)?.[0] ?? null;
  }

  bufOf(handle: number): DmaBuf | null {
    return this.#byHandle.get(handle) ?? null;
  }

  add(buf: DmaBuf, handle: number): void {
    buf.sim.objects.hold(this, buf);
    this.#byHandle.set(handle, buf.get());
    this.#byBuf.set(buf, [...(this.#byBuf.get(buf) ?? []), handle]);
  }

  remove(handle: number): void {
    const buf = this.#byHandle.get(handle);
    if (buf === undefined) return;
    this.#byHandle.delete(handle);
    const left = (this.#byBuf.get(buf) ?? []).filter((other) => other !== handle);
    if (left.length === 0) this.#byBuf.delete(buf);
    else this.#byBuf.set(buf, left);
    buf.put();
    buf.sim.objects.unhold(this, buf);
  }
}
