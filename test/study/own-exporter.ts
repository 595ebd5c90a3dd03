/** A dma-buf exporter as a driver author would write it: one page run, a table for each mapping, brackets for parts of the buffer. */
import { pfnToPhys } from '../../src/base/addr.ts';
import type { DmaDirection } from '../../src/dma-api/direction.ts';
import {
  dmaMapSgtable,
  dmaSyncSgtableForCpu,
  dmaSyncSgtableForDevice,
  dmaUnmapSgtable,
} from '../../src/dma-api/dma-map.ts';
import { dmaSyncSingleRangeForCpu, dmaSyncSingleRangeForDevice } from '../../src/dma-api/dma-single.ts';
import { SgTable } from '../../src/dma-api/sg-table.ts';
import { type DmaBuf, exportDmaBuf } from '../../src/dmabuf/dma-buf.ts';
import type { DmaBufOps, DmaBufRange } from '../../src/dmabuf/dma-buf-ops.ts';
import type { Machine } from '../../src/platform/machine.ts';

interface OwnBuffer {
  readonly memory: SgTable;
  readonly free: () => void;
}

const ops: DmaBufOps<OwnBuffer> = {
  mapDmaBuf(att, dir) {
    const table = att.buf.priv.memory.clone();
    dmaMapSgtable(att.dev, table, dir);
    return table;
  },
  unmapDmaBuf: (att, table, dir) => dmaUnmapSgtable(att.dev, table, dir),
  release: (buf) => buf.priv.free(),
  beginCpuAccess(buf, dir) {
    for (const { dev, tables } of buf.attachments) {
      for (const table of tables.keys()) dmaSyncSgtableForCpu(dev, table, dir);
    }
  },
  endCpuAccess(buf, dir) {
    for (const { dev, tables } of buf.attachments) {
      for (const table of tables.keys()) dmaSyncSgtableForDevice(dev, table, dir);
    }
  },
  beginCpuAccessPartial: (buf, dir, range) => part(buf, dir, range, dmaSyncSingleRangeForCpu),
  endCpuAccessPartial: (buf, dir, range) => part(buf, dir, range, dmaSyncSingleRangeForDevice),
  mmap: (buf) => ({ extents: buf.priv.memory.extents(), attribute: 'cached' }),
  vmap: (buf) => ({ extents: buf.priv.memory.extents(), attribute: 'cached' }),
};

/** A buffer of `sizeBytes` (whole pages, not cleared). */
export function exportOwn(machine: Machine, name: string, sizeBytes: number): DmaBuf<OwnBuffer> {
  const { pages, sim } = machine;
  const pageCount = sizeBytes / 4096;
  const frame = pages.allocPages({ pageCount, owner: name });
  const memory = new SgTable([{ phys: pfnToPhys(frame), length: sizeBytes }]);
  const priv = { memory, free: () => pages.freePages(frame, pageCount) };
  return exportDmaBuf(sim, { exporterName: 'own', name, sizeBytes, ops, priv });
}

function part(
  buf: DmaBuf<OwnBuffer>,
  dir: DmaDirection,
  { offset, length }: DmaBufRange,
  sync: typeof dmaSyncSingleRangeForCpu,
): void {
  for (const { dev, tables } of buf.attachments) {
    for (const table of tables.keys()) sync(dev, table.dmaAddress(0), { offset, sizeBytes: length }, dir);
  }
}
