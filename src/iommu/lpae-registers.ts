/**
 * Register fields that stage 1 (TCR_ELx) and stage 2 (VTCR_EL2) code alike.
 *
 * Arm ARM DDI 0487, D17.2 "TCR_EL1" and "VTCR_EL2"; the SMMUs have the same fields in their context descriptors (IHI 0070) and banks (IHI 0062).
 */
import { KIB } from '../base/units.ts';
import { refuse } from './lpae-geometry.ts';

/** How the walker itself accesses the tables. */
export interface LpaeWalkAttributes {
  /** Shareability of the walks: 2 outer, 3 inner. */
  readonly sh: number;
  /** Outer cacheability of the walks: 0 none, 1 write-back write-allocate. */
  readonly orgn: number;
  /** Inner cacheability of the walks, coded as {@link orgn}. */
  readonly irgn: number;
}

const OUTPUT_SIZES: ReadonlyMap<number, number> = new Map([
  [32, 0],
  [36, 1],
  [40, 2],
  [42, 3],
  [44, 4],
  [48, 5],
  [52, 6],
]);

/** The code of an output address size in IPS and PS. @throws {ErrnoError} `EINVAL` none exists for `oas` bits (never retry). @internal */
export function outputSizeCode(format: string, oas: number): number {
  return OUTPUT_SIZES.get(oas) ?? refuse(format, `no code for an output size of ${oas} bits`);
}

/** Cacheable inner-shareable walks when they snoop, else uncached ones. @internal */
export function walkAttributes(coherentWalk: boolean): LpaeWalkAttributes {
  return coherentWalk ? { sh: 3, orgn: 1, irgn: 1 } : { sh: 2, orgn: 0, irgn: 0 };
}

/** The code of a granule in TG0. @internal */
export function granuleCode0(granuleBytes: number): number {
  return granuleBytes === 4 * KIB ? 0 : granuleBytes === 16 * KIB ? 2 : 1;
}

/** The code of a granule in TG1, which numbers the same granules differently. @internal */
export function granuleCode1(granuleBytes: number): number {
  return granuleBytes === 4 * KIB ? 2 : granuleBytes === 16 * KIB ? 1 : 3;
}
