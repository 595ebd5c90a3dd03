/** What an IO address space needs of a unit's page tables, and the IOMMUs of this library as such. */
import type { Iova, PhysAddr } from '../base/addr.ts';
import type { IoasNestedDomain, NestedHwptData } from './ioas-nested.ts';
import type { IoasRange } from './ioas-ranges.ts';

/** Which pages were written: one bit a page, bit 0 of byte 0 first. */
export interface DirtyRequest {
  readonly iova: number;
  readonly sizeBytes: number;
  /** Bytes that a bit stands for; a power of two. */
  readonly pageBytes: number;
  /** Bits are set, never cleared; the caller clears it before. */
  readonly bitmap: Uint8Array;
  /** Index of the bit for `iova`; with a fraction when `iova` lies inside what that bit stands for. */
  readonly firstBit: number;
  /** Leave the marks. Default false: they are cleared, and cached translations that would hide the next write go. */
  readonly noClear?: boolean;
}

/** One page table of a unit. Plain throughout. */
export interface IoasDomain {
  /** Page sizes, one bit each. */
  readonly pgsizeBitmap: number;
  /** What it can translate. */
  readonly aperture: IoasRange;
  /** Maps all or nothing. @throws {ErrnoError} as `iommu_map`. */
  map(iova: Iova, phys: PhysAddr, sizeBytes: number, prot: number): void;
  /** @returns bytes unmapped, which no device reaches any more. */
  unmap(iova: Iova, sizeBytes: number): number;
  /** @throws {ErrnoError} `EINVAL` this device cannot use this table (another one may do). */
  attach(device: IoasClient): void;
  /** Ends {@link attach}. */
  detach(device: IoasClient): void;
  /** Switches the marking of written pages. Absent: the table cannot. */
  setDirtyTracking?(on: boolean): void;
  /** Sets the bits of pages written since they were last cleared. Absent: the table cannot. */
  readAndClearDirty?(request: DirtyRequest): void;
  /** Gives everything back; nothing is attached. */
  free(): void;
}

/** What a table is wanted for. */
export interface IoasDomainRequest {
  readonly dirtyTracking: boolean;
  readonly nestParent: boolean;
}

/** A device as its unit's driver knows it. */
export interface IoasClient {
  readonly name: string;
  /** The unit can track what this device writes. */
  readonly canTrackDirty: boolean;
  /** Addresses that the device uses for something else, as message-signalled interrupts. */
  readonly reservedRanges: readonly IoasRange[];
  /**
   * Makes an empty table that this device can use.
   *
   * @throws {ErrnoError} `EOPNOTSUPP` the unit or the format cannot do what is asked (never retry); `ENOMEM` (retry later).
   */
  allocDomain(request: IoasDomainRequest): IoasDomain;
  /**
   * Makes a guest's empty first stage on `parent`, one of this client's kind. Absent: the unit does not nest.
   *
   * @throws {ErrnoError} `EINVAL` `parent` is another unit's (never retry); `ENOMEM` (retry later).
   */
  allocNested?(parent: IoasDomain, data: NestedHwptData): IoasNestedDomain;
}
