/**
 * What every IOMMU page-table format offers: map, unmap, translate, and calls back what has to be invalidated.
 *
 * Rules shared by all formats:
 * 1. A table never touches an IOTLB. It says through {@link IoPgtableTlb} what became stale, in the order in which the kernel would.
 * 2. `mapPages` and `unmapPages` are one step: a run that crosses a table's border may be cut there. The caller loops
 *    (`IommuDomain` does). The LPAE formats cut; ARM_V7S does not, and has rules of its own (`short-table.ts`).
 * 3. Errors come as negative errno numbers and as counted {@link IoPgtable.warnings}, so that the hot path allocates nothing.
 * 4. Table pages are real memory, taken from and given back to {@link TablePages}; descriptors hold their physical addresses.
 *
 * @see Linux 6.1 `include/linux/io-pgtable.h` struct io_pgtable_ops
 */
import type { Iova, Pfn, PhysAddr } from '../base/addr.ts';
import type { IotlbGather } from './iotlb-gather.ts';

/** Rights and attributes of a mapping; combine with `|`. @see Linux 6.1 `include/linux/iommu.h` IOMMU_READ */
export const IommuProt = {
  /** The device may read. */
  read: 1,
  /** The device may write. */
  write: 2,
  /** Accesses snoop the CPU caches. */
  cache: 4,
  /** No instruction fetch. */
  noexec: 8,
  /** Device memory: neither cached nor reordered. */
  mmio: 16,
  /** Privileged accesses only. */
  priv: 32,
} as const;

/**
 * Departures from a format's default that a caller may ask for. `VTD_FORCE_SNOOP`: accesses snoop whatever the device asks for.
 * `ARM_HD`: hardware marks written pages in the leaf (from Linux 6.11 on).
 *
 * @see Linux 6.1 `include/linux/io-pgtable.h` IO_PGTABLE_QUIRK_*; intel-iommu's enforce_cache_coherency
 */
export type IoPgtableQuirk =
  | 'ARM_NS'
  | 'NO_PERMS'
  | 'ARM_MTK_EXT'
  | 'ARM_MTK_TTBR_EXT'
  | 'ARM_TTBR1'
  | 'ARM_OUTER_WBWA'
  | 'VTD_FORCE_SNOOP'
  | 'ARM_HD';

/** What a caller asks for; the format may restrict it (see {@link IoPgtable.pgsizeBitmap} and its neighbours). */
export interface IoPgtableConfig {
  /** One bit for each page size that the hardware walks, in bytes: `0x40201000` is 4 KiB, 2 MiB and 1 GiB. */
  readonly pgsizeBitmap: number;
  /** Input address size in bits. */
  readonly ias: number;
  /** Output address size in bits. */
  readonly oas: number;
  /** The walker snoops the CPU caches, so that descriptors need no cache maintenance. */
  readonly coherentWalk: boolean;
  readonly quirks: readonly IoPgtableQuirk[];
}

/**
 * Where table pages come from: the buddy allocator in a machine, a counter in a test.
 * A table of a 16 KiB or 64 KiB granule needs several frames in a row, aligned to its size.
 */
export interface TablePages {
  /** Takes 2^`order` frames in a row. @throws {ErrnoError} `ENOMEM` none is left (retry later). */
  alloc(order: number): Pfn;
  /** Gives back what `alloc(order)` returned. */
  free(frame: Pfn, order: number): void;
}

/** What a page table tells the driver to invalidate. Callbacks must not change the table. @see Linux 6.1 struct iommu_flush_ops */
export interface IoPgtableTlb {
  /** Everything of this address space. */
  tlbFlushAll(): undefined;
  /** At once: all leaves and cached table entries in `[iova, iova + sizeBytes)`, because a table was freed. */
  tlbFlushWalk(iova: Iova, sizeBytes: number, granuleBytes: number): undefined;
  /** Later, with `gather`: `count` leaves of `granuleBytes` from `iova` on. Stands for `count` successive calls of the kernel's. */
  tlbAddPage(gather: IotlbGather, iova: Iova, granuleBytes: number, count: number): undefined;
}

/** The leaf that a walk ended at; owned by the caller and filled anew by each {@link IoPgtable.walk}. */
export class IoPgtableLeaf {
  /** Translation of the very address that was asked for. */
  phys = 0 as PhysAddr;
  /** Bytes that this leaf maps. */
  sizeBytes = 0;
  /** What the leaf allows: {@link IommuProt} read and write bits. */
  prot = 0;
  /** Level of the last descriptor looked at, leaf or not. */
  level = 0;
  /** Descriptors read on the way: the memory accesses of a hardware walk without walk caches. */
  reads = 0;
}

/** A leaf entry as a dump shows it. */
export interface IoPgtableDumpLeaf {
  readonly iova: Iova;
  readonly level: number;
  readonly sizeBytes: number;
  readonly phys: PhysAddr;
  /** Low 32 bits of the raw descriptor. */
  readonly low: number;
  /** High 32 bits of the raw descriptor; 0 in formats of 32 bits. */
  readonly high: number;
}

/** See {@link IoPgtable.unmapSpan}. @internal */
export const UNMAP_NO_TABLE = -1;
/** See {@link IoPgtable.unmapSpan}. @internal */
export const UNMAP_INSIDE_LEAF = -2;

/** A page table in one hardware format. Plain: nothing here waits or charges time. */
export interface IoPgtable {
  /** Linux's name of the format: `'ARM_64_LPAE_S1'`. */
  readonly format: string;
  /** The page sizes that can really be mapped. */
  readonly pgsizeBitmap: number;
  /** The smallest page size in bytes. */
  readonly granuleBytes: number;
  /** Input address bits after restriction. */
  readonly ias: number;
  /** Output address bits after restriction. */
  readonly oas: number;
  /** Tables in use below the top-level table: a granule each, with short descriptors 1 KiB each. */
  readonly tablePages: number;
  /** Bytes that the last {@link mapPages} mapped. */
  readonly mapped: number;
  /** How often the kernel would have printed a warning (WARN) so far. */
  readonly warnings: number;

  /**
   * Maps up to `pgcount` pages of `pgsize` bytes from `iova` on to memory from `paddr` on; sets {@link mapped}.
   * Stops at the border of the table it writes: 0 is returned and {@link mapped} says how far it came. Addresses must be aligned to `pgsize`.
   *
   * @returns 0, or a negative errno (never retry unless said): `-EINVAL` bad page size (warns) or neither read nor write in `prot`;
   * `-ERANGE` an address outside ias or oas (warns); `-EEXIST` something is mapped there (warns); `-ENOMEM` no table page (retry later).
   */
  mapPages(iova: Iova, paddr: PhysAddr, pgsize: number, pgcount: number, prot: number): number;

  /**
   * Unmaps up to `pgcount` pages of `pgsize` bytes from `iova` on, stopping at a table's border or at a hole (warns). Leaves go to
   * `tlbAddPage` unless `gather.queued`; a table in the range is freed and goes to `tlbFlushWalk` at once.
   *
   * @returns bytes unmapped; 0 for a hole, a bad size or a bad address (each warns), or when a block must be split and no table page is left.
   */
  unmapPages(iova: Iova, pgsize: number, pgcount: number, gather: IotlbGather): number;

  /**
   * Only in formats whose driver does not check: true when a leaf above the smallest size lies in the range, over which nothing may be mapped.
   */
  hasLargerLeaf?(iova: Iova, sizeBytes: number): boolean;

  /**
   * Only in formats whose driver does not check: bytes that one {@link unmapPages} of `sizeBytes` would clear, which may be more than that;
   * `UNMAP_NO_TABLE` no table leads to `iova`, and more would be cleared than asked for; `UNMAP_INSIDE_LEAF` a leaf would be cleared in part.
   */
  unmapSpan?(iova: Iova, sizeBytes: number): number;

  /** The translation of `iova`, or 0 when nothing is mapped there (as in the kernel). */
  iovaToPhys(iova: Iova): PhysAddr;

  /** True when `iova` lies in the input range; a walk ignores the bits that say so. */
  contains(iova: Iova): boolean;

  /** Walks as hardware does. @returns false when no leaf is found; `leaf.level` and `leaf.reads` are set in any case. */
  walk(iova: Iova, leaf: IoPgtableLeaf): boolean;

  /** All leaves in ascending order of table index. The table must not change meanwhile. */
  leaves(): IterableIterator<IoPgtableDumpLeaf>;

  /** The walk for `iova` as text, one line a level. */
  dump(iova: Iova): string;

  /** Checks that the table agrees with itself. @throws {InvariantError} it does not. */
  check(): void;

  /** Flushes the whole address space, then gives all table pages back. The table must not be used afterwards. */
  free(): void;
}
