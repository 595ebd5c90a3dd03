/**
 * What stands behind a device: the back end of the DMA API that makes its addresses, and the translation of its accesses.
 * Both know the same addresses, so one object does both.
 */
import type { DmaAddr, PhysAddr } from '../base/addr.ts';
import type { CoherencyDomain } from '../cache/coherency.ts';
import type { DmaAccess } from '../iommu/fault.ts';
import type { Simulator } from '../sim/simulator.ts';
import type { SgTable } from './sg-table.ts';

/** An access that a device was refused. */
export interface PortFault {
  readonly device: string;
  /** First byte refused, as the device sees it. */
  readonly address: DmaAddr;
  /** Bytes from there on that were not done. */
  readonly length: number;
  readonly access: DmaAccess;
  /**
   * `'unmapped'`, `'permission'`: the IOMMU refused; `'address-size'`: beyond the IOMMU's input or the device's mask;
   * `'no-memory'`: translated, but no memory answers there.
   */
  readonly reason: string;
  readonly timeNs: number;
}

/** Where an address leads. */
export interface DmaTarget {
  readonly phys: PhysAddr;
  /** Bytes from there on that this translation covers. */
  readonly runBytes: number;
}

/** A device as its back end and its port see it. */
export interface DmaMaster {
  readonly name: string;
  readonly sim: Simulator;
  readonly coherency: CoherencyDomain;
  /** Whether its accesses snoop the CPU caches. */
  readonly coherent: boolean;
  /** Bits of address it can drive. */
  readonly dmaMaskBits: number;
  /** The first address it can not drive. */
  readonly dmaLimit: number;
  readonly maxSegmentSizeBytes: number;
  readonly segBoundaryBytes: number;
}

/** @internal Plain throughout: nothing here waits or touches caches. */
export interface DmaOps {
  /**
   * Adds the segments of `sgt`.
   *
   * @param prot - what the device may do: `IommuProt` bits.
   * @throws {ErrnoError} and then no segment is left and nothing is mapped.
   */
  mapSg(sgt: SgTable, prot: number): void;
  /** Ends what {@link mapSg} began; the segments are still there, the caller drops them. */
  unmapSg(sgt: SgTable): void;
  /** Result of the last successful {@link translate}. */
  readonly phys: number;
  readonly runBytes: number;
  /** Translates one address; {@link charge} charges for it. @returns false when it is refused: see {@link fault}. */
  translate(address: number, access: DmaAccess): boolean;
  /** Charges what the translations since the last call took: once an access, not once a page. */
  charge(): void;
  /** The fault of the last {@link translate}, which was refused; `length` 0. */
  fault(): PortFault;
  /** As {@link translate}, without time, state change or record; `undefined` when it leads nowhere. */
  peekTranslate(address: number): DmaTarget | undefined;
}
