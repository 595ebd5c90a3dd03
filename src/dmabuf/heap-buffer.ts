/**
 * How the shipped heaps export their memory: each attachment gets a table of its own, and CPU brackets sync every device
 * that has the buffer mapped.
 *
 * @see Linux 6.1 `drivers/dma-buf/heaps/system_heap.c`, `cma_heap.c`
 */
import type { PhysAddr } from '../base/addr.ts';
import type { Accessor } from '../base/hazards.ts';
import type { DmaDirection } from '../dma-api/direction.ts';
import { dmaMapSgtable, dmaSyncSgtableForCpu, dmaSyncSgtableForDevice, dmaUnmapSgtable } from '../dma-api/dma-map.ts';
import { type Extent, SgTable } from '../dma-api/sg-table.ts';
import type { Simulator } from '../sim/simulator.ts';
import { type DmaBuf, exportDmaBuf } from './dma-buf.ts';
import type { DmaBufAttachment } from './dma-buf-attachment.ts';
import type { DmaBufOps } from './dma-buf-ops.ts';

/** A heap's own data of one buffer. */
export interface HeapBuffer {
  /** Where its bytes are; never mapped itself, each mapping gets a clone. */
  readonly memory: SgTable;
  /** @internal Gives the memory back to the heap. */
  readonly free: () => void;
}

/** What a heap needs to clear memory: a coherency domain has it. */
export interface MemoryClearer {
  /** Sets `length` bytes at `phys` to 0 in the name of `accessor`. */
  zero(phys: PhysAddr, length: number, accessor: Accessor): void;
}

/** @internal Who clears pages, in reports. */
const HEAP: Accessor = {
  name: 'kernel',
  kind: 'cpu',
  via: 'heap clearing pages',
  beforeRead: '',
  afterWrite: 'map the buffer for the device before it is used (dma_map_sgtable cleans the caches)',
};

const heapOps: DmaBufOps<HeapBuffer> = {
  mapDmaBuf(att: DmaBufAttachment<HeapBuffer>, dir: DmaDirection): SgTable {
    const table = att.buf.priv.memory.clone();
    dmaMapSgtable(att.dev, table, dir);
    return table;
  },
  unmapDmaBuf(att: DmaBufAttachment<HeapBuffer>, table: SgTable, dir: DmaDirection): void {
    dmaUnmapSgtable(att.dev, table, dir);
  },
  release(buf: DmaBuf<HeapBuffer>): void {
    buf.priv.free();
  },
  beginCpuAccess(buf: DmaBuf<HeapBuffer>, dir: DmaDirection): void {
    for (const att of buf.attachments) {
      for (const table of att.mappings.keys()) dmaSyncSgtableForCpu(att.dev, table, dir);
    }
  },
  endCpuAccess(buf: DmaBuf<HeapBuffer>, dir: DmaDirection): void {
    for (const att of buf.attachments) {
      for (const table of att.mappings.keys()) dmaSyncSgtableForDevice(att.dev, table, dir);
    }
  },
  mmap(buf: DmaBuf<HeapBuffer>) {
    return { extents: buf.priv.memory.extents(), attribute: 'cached' };
  },
};

/** @internal What {@link exportHeapBuffer} needs. */
export interface HeapExport {
  readonly heap: string;
  readonly name: string;
  /** Whole pages. */
  readonly extents: readonly Extent[];
  readonly clearer: MemoryClearer;
  /** Gives the memory back: at release, or at once when the export fails. */
  readonly free: () => void;
}

/**
 * @internal Clears the memory, as the kernel's heaps do on every allocation, and exports it. Charges the clearing.
 *
 * @throws {HazardError} `*-write.lost` under policy `'throw'`: old dirty lines had to make room; the memory is freed then.
 */
export function exportHeapBuffer(sim: Simulator, what: HeapExport): DmaBuf<HeapBuffer> {
  const { heap, name, extents, clearer, free } = what;
  const memory = new SgTable(extents);
  let complete = false;
  try {
    for (const { phys, length } of extents) clearer.zero(phys, length, HEAP);
    const priv: HeapBuffer = { memory, free };
    const buf = exportDmaBuf(sim, { exporterName: heap, name, sizeBytes: memory.sizeBytes, ops: heapOps, priv });
    complete = true;
    return buf;
  } finally {
    if (!complete) free();
  }
}
