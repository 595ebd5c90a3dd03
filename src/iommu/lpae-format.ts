/**
 * What tells one LPAE format from another; the engine in `lpae-table.ts` is the same for all.
 *
 * @internal
 */
import { IommuProt } from './io-pgtable.ts';
import type { LpaeGeometry } from './lpae-geometry.ts';

/** Execute-never in the upper half of a leaf: bits 54 and 53 of the descriptor, in every format. @internal */
export const LPAE_XN_HIGH = 3 << 21;
/** Dirty-bit modifier in the upper half of a leaf, bit 51: hardware sets the right to write when it marks the page. @internal */
export const LPAE_DBM_HIGH = 1 << 19;

/** The upper half's part of a leaf whose dirty state hardware manages. @internal */
export function dirtyManaged(prot: number, marksDirty: boolean): number {
  return marksDirty && (prot & IommuProt.write) !== 0 ? LPAE_DBM_HIGH : 0;
}

/** What one LPAE format puts into the attribute bits of its descriptors. @internal */
export interface LpaeEncoding {
  /** Type bits of a leaf at the last level. */
  readonly pageType: 1 | 3;
  /** Upper attributes of a table descriptor (bits 63..32). */
  readonly tableHigh: number;
  /** Attributes of a leaf with `prot` in bits 11..2. */
  low(prot: number): number;
  /** Attributes of a leaf with `prot` in bits 63..32. */
  high(prot: number): number;
  /** `IommuProt` read and write bits that the leaf `(high, low)` allows. */
  access(low: number, high: number): number;
}

/** A format: name, shape, attribute bits, and what it tells the driver to program. @internal */
export interface LpaeFormat<Registers> {
  readonly name: string;
  readonly geometry: LpaeGeometry;
  readonly encoding: LpaeEncoding;
  readonly registers: Registers;
  /** TTBR1: addresses are negative, index 0 stands for -2^ias. */
  readonly upperHalf: boolean;
}
