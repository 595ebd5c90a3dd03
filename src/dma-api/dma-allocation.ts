/** Memory that was allocated for DMA, as its driver holds it. */
import type { DmaAddr, PhysAddr } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import type { MemoryAttribute } from '../cache/cpu-port.ts';
import { CpuView } from '../cache/cpu-view.ts';
import type { Device } from './device.ts';
import type { DmaDirection } from './direction.ts';
import type { DmaBacking } from './dma-ops.ts';
import type { Extent, SgTable } from './sg-table.ts';

/** Which call made it: `'coherent'` dmaAllocCoherent and dmaAllocAttrs, `'pages'` dmaAllocPages, `'noncontiguous'` dmaAllocNoncontiguous. */
export type DmaAllocationKind = 'coherent' | 'pages' | 'noncontiguous';

/** @internal What an allocation is made of. */
export interface DmaAllocationParts {
  readonly kind: DmaAllocationKind;
  readonly call: string;
  readonly address: DmaAddr;
  /** As asked for. */
  readonly sizeBytes: number;
  readonly dir: DmaDirection;
  readonly extents: readonly Extent[];
  /** How the CPU maps it. */
  readonly attribute: MemoryAttribute;
  readonly hasKernelMapping: boolean;
  /** Of the back end, for `'coherent'`. */
  readonly backing: DmaBacking | null;
  /** For `'noncontiguous'`. */
  readonly sgt: SgTable | null;
}

/**
 * One allocation; belongs to its driver until it is freed. The memory is cleared, but for what `dma-alloc.ts` says of `noKernelMapping`.
 *
 * `'coherent'` memory is seen alike by device and CPU at all times. The others are cached, and change hands by syncs as a mapping does:
 * `dmaSyncSingle…` of {@link address} for `'pages'`, `dmaSyncSgtable…` of {@link sgt} for `'noncontiguous'`.
 */
export class DmaAllocation {
  readonly device: Device;
  readonly kind: DmaAllocationKind;
  /** Where the device sees it: one run. */
  readonly address: DmaAddr;
  /** As asked for; the memory is a whole number of pages. */
  readonly sizeBytes: number;
  /** With which the device may use it. */
  readonly dir: DmaDirection;
  /** How the CPU maps it; a process's mapping is of the same kind. */
  readonly attribute: MemoryAttribute;
  /** @internal Where it lies, in the order of its bytes. */
  readonly extents: readonly Extent[];
  /** @internal */
  readonly parts: DmaAllocationParts;
  /** @internal Its number in the address book; 0: it has none. */
  bookId = 0;
  readonly #view: CpuView | null;
  #freed = false;

  /** @internal */
  constructor(device: Device, parts: DmaAllocationParts) {
    this.device = device;
    this.kind = parts.kind;
    this.address = parts.address;
    this.sizeBytes = parts.sizeBytes;
    this.dir = parts.dir;
    this.attribute = parts.attribute;
    this.extents = parts.extents;
    this.parts = parts;
    this.#view = parts.hasKernelMapping ? viewOf(device, parts) : null;
  }

  /** Whether it was freed. */
  get freed(): boolean {
    return this.#freed;
  }

  /** The kernel's mapping, of whole pages; `null` without one (`noKernelMapping`), and after the free. */
  get cpu(): CpuView | null {
    return this.#freed ? null : this.#view;
  }

  /** Its table, mapped for the device, for syncs and as what `dmaVmapNoncontiguous` shows; `null` unless `'noncontiguous'`. */
  get sgt(): SgTable | null {
    return this.parts.sgt;
  }

  /**
   * The driver reads `length` bytes at `offset` through the kernel's mapping. Charges as a CPU read.
   *
   * @returns the bytes; zeros when there is no mapping and policy `'record'` goes on.
   * @throws {HazardError} `dma-alloc.no-kernel-mapping`: it was allocated without one; `cpu-read.stale`.
   * @throws {ErrnoError} `EFAULT` beyond its end (never retry).
   * @throws {InvariantError} it was freed.
   */
  read(offset: number, length: number): Uint8Array {
    const out = new Uint8Array(length);
    this.#touch('read')?.read(offset, out);
    return out;
  }

  /**
   * The driver writes `bytes` at `offset` through the kernel's mapping. Charges as a CPU write.
   *
   * @throws as {@link read}; with policy `'record'` and without a mapping nothing is written.
   */
  write(offset: number, bytes: Uint8Array): void {
    this.#touch('write')?.write(offset, bytes);
  }

  /** @internal It is given back. */
  markFreed(): void {
    this.#freed = true;
  }

  #touch(call: 'read' | 'write'): CpuView | null {
    const { device } = this;
    assert(!this.#freed, '%s: the allocation of %s was freed', call, device.name);
    if (this.#view !== null) return this.#view;
    device.sim.report({
      hazard: 'dma-alloc.no-kernel-mapping',
      device: device.name,
      what: `the kernel touches ${this.sizeBytes} bytes that were allocated without a kernel mapping`,
      call,
      timeNs: device.sim.now,
      remedy: 'allocate without noKernelMapping, or touch it through the mapping of a process',
    });
    return null;
  }
}

function viewOf(device: Device, { call, extents, attribute, kind }: DmaAllocationParts): CpuView {
  const isSynced = kind !== 'coherent';
  return new CpuView(device.coherency, {
    extents: extents.map(({ phys, length }) => ({ phys: phys as PhysAddr, sizeBytes: length })),
    attribute,
    accessor: {
      name: `${device.name} driver`,
      kind: 'cpu',
      via: call,
      beforeRead: isSynced ? 'sync the allocation for the CPU (dmaSyncSingleForCpu, dmaSyncSgtableForCpu)' : '',
      afterWrite: isSynced
        ? 'sync the allocation for the device (dmaSyncSingleForDevice, dmaSyncSgtableForDevice)'
        : '',
    },
  });
}
