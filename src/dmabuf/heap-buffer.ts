/**
 * How the shipped heaps export their memory: each attachment gets a table of its own, and CPU brackets sync every device
 * that has the buffer mapped.
 *
 * @see Linux 6.1 `drivers/dma-buf/heaps/system_heap.c`, `cma_heap.c`
 */
import type { PhysAddr } from '../base/addr.ts';
import { ErrnoError } from '../base/errors.ts';
import type { Accessor } from '../base/hazards.ts';
import type { DmaDirection } from '../dma-api/direction.ts';
import { dmaMapSgtable, dmaSyncSgtableForCpu, dmaSyncSgtableForDevice, dmaUnmapSgtable } from '../dma-api/dma-map.ts';
import { type Extent, SgTable } from '../dma-api/sg-table.ts';
import type { Simulator } from '../sim/simulator.ts';
import { type DmaBuf, exportDmaBuf } from './dma-buf.ts';
import type { DmaBufAttachment } from './dma-buf-attachment.ts';
import type { CpuMapping, DmaBufOps, DmaBufVma } from './dma-buf-ops.ts';

/**
 * How the CPU sees a heap's memory: through its caches; past them (`'write-combined'`, `'uncached'`), so that nothing has to
 * be synced; or not at all (`'protected'`): then only devices reach it.
 */
export type HeapMemoryType = CpuMapping['attribute'] | 'protected';

/** A heap's own data of one buffer. */
export interface HeapBuffer {
  /** Where its bytes are; never mapped itself, each mapping gets a clone. */
  readonly memory: SgTable;
  readonly type: HeapMemoryType;
  /** Most pages of a private mapping. */
  readonly privatePages: number;
  /** @internal Gives the memory back to the heap. */
  readonly free: () => void;
}

/** What a heap needs to clear memory: a coherency domain has it. */
export interface MemoryClearer {
  /** Sets `length` bytes at `phys` to 0 in the name of `accessor`. */
  zero(phys: PhysAddr, length: number, accessor: Accessor): void;
  /** Writes dirty lines of `length` bytes at `phys` back and drops all of them, in the name of `by`. */
  cleanInvalidate(phys: PhysAddr, length: number, by?: Accessor): number;
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
    const { memory, type } = att.buf.priv;
    const table = memory.clone();
    dmaMapSgtable(att.dev, table, dir, { skipCpuSync: type !== 'cached' });
    return table;
  },
  unmapDmaBuf(att: DmaBufAttachment<HeapBuffer>, table: SgTable, dir: DmaDirection): void {
    dmaUnmapSgtable(att.dev, table, dir, { skipCpuSync: att.buf.priv.type !== 'cached' });
  },
  release(buf: DmaBuf<HeapBuffer>): void {
    buf.priv.free();
  },
  beginCpuAccess(buf: DmaBuf<HeapBuffer>, dir: DmaDirection): void {
    for (const att of toSync(buf, 'begin_cpu_access')) {
      for (const table of att.tables.keys()) dmaSyncSgtableForCpu(att.dev, table, dir);
    }
  },
  endCpuAccess(buf: DmaBuf<HeapBuffer>, dir: DmaDirection): void {
    for (const att of toSync(buf, 'end_cpu_access')) {
      for (const table of att.tables.keys()) dmaSyncSgtableForDevice(att.dev, table, dir);
    }
  },
  mmap(buf: DmaBuf<HeapBuffer>, vma: DmaBufVma) {
    const { privatePages } = buf.priv;
    if (vma.isPrivate === true && vma.pageCount > privatePages) {
      throw new ErrnoError('EINVAL', 'mmap', `MAP_PRIVATE of ${vma.pageCount} pages of ${buf.name}; use MAP_SHARED`);
    }
    return cpuMapping(buf, 'mmap');
  },
  vmap(buf: DmaBuf<HeapBuffer>) {
    return cpuMapping(buf, 'vmap');
  },
};

/** @internal What {@link exportHeapBuffer} needs. */
export interface HeapExport {
  readonly heap: string;
  readonly name: string;
  /** Whole pages. */
  readonly extents: readonly Extent[];
  readonly clearer: MemoryClearer;
  /** Default `'cached'`. */
  readonly type?: HeapMemoryType;
  /** Most pages of a private mapping: the system heap maps page by page, which allows one; default 0. */
  readonly privatePages?: number;
  /** Flags of the buffer's file. Default `O_RDWR`. */
  readonly flags?: number;
  /** Gives the memory back: at release, or at once when the export fails. */
  readonly free: () => void;
}

/**
 * @internal Clears the memory, as the kernel's heaps do on every allocation, and exports it. Charges the clearing. Memory that
 * the CPU does not see through its caches leaves no line in them.
 *
 * @throws {HazardError} `*-write.lost` under policy `'throw'`: old dirty lines had to make room; the memory is freed then.
 */
export function exportHeapBuffer(sim: Simulator, what: HeapExport): DmaBuf<HeapBuffer> {
  const { heap, name, extents, clearer, free, type = 'cached', privatePages = 0, flags } = what;
  const memory = new SgTable(extents);
  let complete = false;
  try {
    for (const { phys, length } of extents) {
      clearer.zero(phys, length, HEAP);
      if (type !== 'cached') clearer.cleanInvalidate(phys, length, HEAP);
    }
    const priv: HeapBuffer = { memory, type, privatePages, free };
    const info = { exporterName: heap, name, sizeBytes: memory.sizeBytes, ops: heapOps, priv };
    const buf = exportDmaBuf(sim, flags === undefined ? info : { ...info, flags });
    complete = true;
    return buf;
  } finally {
    if (!complete) free();
  }
}

/** The attachments whose device's view a CPU bracket has to care for: none when the CPU goes past the caches. */
function toSync(buf: DmaBuf<HeapBuffer>, op: string): readonly DmaBufAttachment<HeapBuffer>[] {
  const { type } = buf.priv;
  if (type === 'protected') throw noCpuAccess(buf, op);
  return type === 'cached' ? buf.attachments : [];
}

function cpuMapping(buf: DmaBuf<HeapBuffer>, op: string): CpuMapping {
  const { memory, type } = buf.priv;
  if (type === 'protected') throw noCpuAccess(buf, op);
  return { extents: memory.extents(), attribute: type };
}

function noCpuAccess(buf: DmaBuf, op: string): ErrnoError {
  return new ErrnoError(
    'EPERM',
    op,
    `${buf.name} is protected memory of heap ${buf.exporterName}; only devices reach it`,
  );
}
