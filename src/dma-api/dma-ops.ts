/**
 * The software behind the DMA API: what makes a device's addresses. What a device's accesses then really meet is `dma-path.ts`:
 * the two agree only if the driver did its part.
 *
 * Who owns what:
 *
 *     dma-map.ts, dma-single.ts, dma-alloc.ts …   checks of arguments, DMA debugging, trace: the same for all devices
 *       `-> DmaOps                                addresses, bounce buffers, cache maintenance
 *             dma-direct.ts                       addresses are physical (or shifted by the bus); bounces by way of swiotlb
 *             dma-iommu.ts                        IO virtual addresses of the group's default domain
 *             the user's own                      `DeviceOptions.dmaOps`
 *
 * @see Linux 6.1 `include/linux/dma-map-ops.h` struct dma_map_ops
 */
import type { DmaAddr, PhysAddr } from '../base/addr.ts';
import type { CoherencyDomain } from '../cache/coherency.ts';
import type { MemoryAttribute } from '../cache/cpu-port.ts';
import type { Simulator } from '../sim/simulator.ts';
import type { DmaDirection } from './direction.ts';
import type { DmaAttrs } from './dma-attrs.ts';
import type { DmaRange } from './dma-range.ts';
import type { Extent, SgTable } from './sg-table.ts';

/** A device as its back end and its path see it. */
export interface DmaMaster {
  readonly name: string;
  readonly sim: Simulator;
  readonly coherency: CoherencyDomain;
  /** Whether its accesses snoop the CPU caches. */
  readonly coherent: boolean;
  /** Bits of address it can drive, for streaming mappings. */
  readonly dmaMaskBits: number;
  /** The first address beyond {@link dmaMaskBits}. */
  readonly dmaLimit: number;
  /** Bits of address for coherent allocations. */
  readonly coherentDmaMaskBits: number;
  /** The last address that the bus carries, or 0: no limit of its own. */
  readonly busDmaLimit: number;
  /** Where the bus sees memory at other addresses; empty: everywhere at its own. */
  readonly dmaRanges: readonly DmaRange[];
  readonly maxSegmentSizeBytes: number;
  readonly segBoundaryBytes: number;
  /** Low address bits that a bounce buffer must keep: 0 or one below a power of two. */
  readonly minAlignMask: number;
}

/** Memory that {@link DmaOps.alloc} made for a device. */
export interface DmaBacking {
  /** Where the device sees it: one run. */
  readonly address: DmaAddr;
  /** Where it lies, in the order of its bytes. */
  readonly extents: readonly Extent[];
  /** How the kernel maps it (user mappings follow), or `null`: there is no kernel mapping. */
  readonly attribute: MemoryAttribute | null;
}

/** Addresses that are reserved first and linked to memory piece by piece. All sizes and addresses are multiples of the granule. */
export interface DmaIovaOps {
  /** Bytes of the smallest page that can be linked, a power of two. */
  readonly granuleBytes: number;
  /** Takes a run of addresses. @returns its first, or -1: there is none (retry after an unmap). */
  reserve(sizeBytes: number): number;
  /** Ends {@link reserve}; nothing is linked in it any more. */
  release(address: number, sizeBytes: number): void;
  /** Maps memory there. @throws {ErrnoError} `EEXIST` something is linked there, `ENOMEM` no table page, `ERANGE`; nothing is linked then. */
  link(address: number, phys: PhysAddr, sizeBytes: number, dir: DmaDirection, attrs: DmaAttrs): void;
  /** Ends {@link link}; the device's cached translations are gone on return. */
  unlink(address: number, sizeBytes: number): void;
}

/**
 * A back end. Plain throughout: nothing here waits. A call that throws leaves nothing mapped; a hazard that is thrown while a
 * mapping ends leaves it ended.
 */
export interface DmaOps {
  /** Maps contiguous memory. @returns its address, or `DMA_MAPPING_ERROR`. */
  mapPage(phys: PhysAddr, sizeBytes: number, dir: DmaDirection, attrs: DmaAttrs): DmaAddr;
  /** Ends {@link mapPage}. */
  unmapPage(address: DmaAddr, sizeBytes: number, dir: DmaDirection, attrs: DmaAttrs): void;
  /** Maps `sgt`, adding its segments. @throws {ErrnoError} and then no segment is left. */
  mapSg(sgt: SgTable, dir: DmaDirection, attrs: DmaAttrs): void;
  /**
   * Maps `sgt`, whole pages that were allocated for the device, as one segment within its coherent mask; no cache maintenance. Ended by
   * {@link unmapSg} with `skipCpuSync`. Without this method {@link mapSg} does it, and fails if it makes no single run of them.
   *
   * @throws {ErrnoError} and then no segment is left.
   */
  mapRun?(sgt: SgTable, dir: DmaDirection): void;
  /** Ends {@link mapSg}; the segments are still there, the caller drops them. */
  unmapSg(sgt: SgTable, dir: DmaDirection, attrs: DmaAttrs): void;
  /** Maps device memory (a BAR): no cache maintenance, no bounce. @returns its address, or `DMA_MAPPING_ERROR`. */
  mapResource(phys: PhysAddr, sizeBytes: number, dir: DmaDirection, attrs: DmaAttrs): DmaAddr;
  /** Ends {@link mapResource}. */
  unmapResource(address: DmaAddr, sizeBytes: number, dir: DmaDirection, attrs: DmaAttrs): void;
  /** `[address, address + sizeBytes)` inside a mapping of {@link mapPage} goes to the CPU. */
  syncForCpu(address: DmaAddr, sizeBytes: number, dir: DmaDirection): void;
  /** As {@link syncForCpu}, to the device. */
  syncForDevice(address: DmaAddr, sizeBytes: number, dir: DmaDirection): void;
  /** All of `sgt` goes to the CPU. */
  syncSgForCpu(sgt: SgTable, dir: DmaDirection): void;
  /** As {@link syncSgForCpu}, to the device. */
  syncSgForDevice(sgt: SgTable, dir: DmaDirection): void;
  /** Zeroed memory that device and CPU see alike. @returns `null` when there is none that the device's coherent mask reaches. */
  alloc(sizeBytes: number, attrs: DmaAttrs): DmaBacking | null;
  /** Ends {@link alloc}. */
  free(backing: DmaBacking, sizeBytes: number, attrs: DmaAttrs): void;
  /** Whether syncing what is mapped at `address` does anything. */
  needSync(address: DmaAddr): boolean;
  /** Whether a device may set a mask of so many bits. Without this method any. */
  supportsMask?(maskBits: number): boolean;
  /** Bits of mask that reach all memory. */
  requiredMaskBits(): number;
  /** The longest mapping in bytes; `Infinity`: no limit. */
  maxMappingBytes(): number;
  /** Up to this many bytes a mapping is cheap; `Infinity`: no limit. */
  optMappingBytes(): number;
  /** One below the granule at which extents can be joined, or 0: they are not. */
  mergeBoundary(): number;
  /** Whether what {@link alloc} made can be mapped by a process. */
  canMmap(): boolean;
  /** The two-step API; absent where addresses are not the back end's to choose. */
  readonly iova?: DmaIovaOps;
}
