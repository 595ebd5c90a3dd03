/**
 * The shape of an LPAE page table: granule, levels and their sizes. Shared by all formats with 64-bit descriptors.
 *
 * A granule of 2^g bytes gives tables of 2^(g-3) descriptors, hence g-3 address bits a level; the last level is always 3,
 * the first one depends on the input size. Arm ARM DDI 0487, D8.2 "Translation process", tables for the 4, 16 and 64 KiB granules.
 *
 * @internal
 */
import { ErrnoError } from '../base/errors.ts';
import { KIB } from '../base/units.ts';
import type { IoPgtableConfig } from './io-pgtable.ts';

/** Number of the last level: its leaves are pages. @internal */
export const LAST_LEVEL = 3;
const LEVELS = 4;
const MAX_ADDRESS_BITS = 52;
/** log2 of 16 tables. */
const MAX_CONCATENATED_BITS = 4;
const GRANULE_OF_KERNEL_PAGE = 4 * KIB;

/** @internal See the head of this file. */
export interface LpaeGeometry {
  readonly pgsizeBitmap: number;
  readonly ias: number;
  readonly oas: number;
  readonly granuleBytes: number;
  readonly bitsPerLevel: number;
  readonly startLevel: number;
  /** log2 of the number of descriptors in the top-level table. */
  readonly pgdBits: number;
}

/**
 * Restricts what was asked for to what one granule can do: the kernel's own page size if it is among the sizes, else the next larger
 * one, with that granule's block sizes; addresses to 48 bits, or 52 with 64 KiB.
 *
 * @throws {ErrnoError} `EINVAL` no page size is a granule, or an address size is out of range (never retry).
 * @see Linux 6.1 `drivers/iommu/io-pgtable-arm.c` arm_lpae_restrict_pgsizes, arm_lpae_alloc_pgtable
 * @internal
 */
export function lpaeGeometry(format: string, cfg: IoPgtableConfig): LpaeGeometry {
  const granuleBytes = chooseGranule(cfg.pgsizeBitmap);
  const sizes = blockSizes(granuleBytes, cfg.oas);
  if (sizes.length === 0) refuse(format, `page sizes ${cfg.pgsizeBitmap} hold no granule of 4, 16 or 64 KiB`);
  const pgsizeBitmap = keepSizes(cfg.pgsizeBitmap, sizes);
  const maxBits = granuleBytes === 64 * KIB ? MAX_ADDRESS_BITS : 48;
  const ias = Math.min(cfg.ias, maxBits);
  const oas = Math.min(cfg.oas, maxBits);
  const pageShift = Math.log2(granuleBytes);
  if (!(ias > pageShift)) refuse(format, `ias ${cfg.ias} does not exceed the page's ${pageShift} bits`);
  const bitsPerLevel = pageShift - 3;
  const levels = Math.ceil((ias - pageShift) / bitsPerLevel);
  return {
    pgsizeBitmap,
    ias,
    oas,
    granuleBytes,
    bitsPerLevel,
    startLevel: LEVELS - levels,
    pgdBits: ias - pageShift - bitsPerLevel * (levels - 1),
  };
}

/**
 * The shape for stage 2, where up to 16 tables of level 1 may stand in a row in place of a table of level 0, which saves a level:
 * done whenever level 0 would have at most 16 entries. Arm ARM DDI 0487, D8.2 "Concatenated translation tables".
 *
 * @see Linux 6.1 `drivers/iommu/io-pgtable-arm.c` arm_64_lpae_alloc_pgtable_s2
 * @internal
 */
export function concatenateTop(geometry: LpaeGeometry): LpaeGeometry {
  const { startLevel, pgdBits, bitsPerLevel } = geometry;
  if (startLevel !== 0 || pgdBits > MAX_CONCATENATED_BITS) return geometry;
  return { ...geometry, startLevel: 1, pgdBits: pgdBits + bitsPerLevel };
}

/** The same input size walked through all four levels: tables of one entry are put on top. @internal */
export function fullDepth(geometry: LpaeGeometry): LpaeGeometry {
  return geometry.startLevel === 0 ? geometry : { ...geometry, startLevel: 0, pgdBits: 0 };
}

/** Bytes that a leaf at `level` maps. @internal */
export function levelBytes(geometry: LpaeGeometry, level: number): number {
  return geometry.granuleBytes * 2 ** (geometry.bitsPerLevel * (LAST_LEVEL - level));
}

/**
 * The output address in a descriptor `(high, low)`. With the 64 KiB granule address bits 51..48 stand in bits 15..12
 * (Arm ARM DDI 0487, D8.3, 52-bit output addresses); with the others a descriptor holds 48 bits.
 *
 * @internal
 */
export function descriptorAddress(geometry: LpaeGeometry, low: number, high: number): number {
  const upper = high & 0xffff;
  if (geometry.granuleBytes !== 64 * KIB) return upper * 2 ** 32 + ((low & 0xffff_f000) >>> 0);
  return (upper | ((low & 0xf000) << 4)) * 2 ** 32 + ((low & 0xffff_0000) >>> 0);
}

/** True when `sizes` (one bit a page size) has all bits of `size`; both may exceed 32 bits. @internal */
export function hasSize(sizes: number, size: number): boolean {
  const high = size / 2 ** 32;
  return (sizes & size) >>> 0 === size >>> 0 && (Math.floor(sizes / 2 ** 32) & high) === Math.floor(high);
}

/** Those of `sizes` that are in `bitmap`, as a bitmap. @internal */
export function keepSizes(bitmap: number, sizes: readonly number[]): number {
  return sizes.filter((size) => hasSize(bitmap, size)).reduce((sum, size) => sum + size, 0);
}

/** Refuses a configuration. @throws {ErrnoError} `EINVAL`, always. @internal */
export function refuse(format: string, why: string): never {
  throw new ErrnoError('EINVAL', 'alloc_io_pgtable_ops', `${format}: ${why}`);
}

function chooseGranule(bitmap: number): number {
  if (hasSize(bitmap, GRANULE_OF_KERNEL_PAGE)) return GRANULE_OF_KERNEL_PAGE;
  const below = bitmap % GRANULE_OF_KERNEL_PAGE;
  if (below !== 0) return 2 ** Math.floor(Math.log2(below));
  for (let size = GRANULE_OF_KERNEL_PAGE; size <= bitmap; size *= 2) if (hasSize(bitmap, size)) return size;
  return 0;
}

function blockSizes(granuleBytes: number, oas: number): readonly number[] {
  switch (granuleBytes) {
    case 4 * KIB:
      return [2 ** 12, 2 ** 21, 2 ** 30];
    case 16 * KIB:
      return [2 ** 14, 2 ** 25];
    case 64 * KIB:
      // Level-1 blocks of 4 TiB need 52-bit addresses (FEAT_LPA, Arm ARM D8.3).
      return oas > 48 ? [2 ** 16, 2 ** 29, 2 ** 42] : [2 ** 16, 2 ** 29];
    default:
      return [];
  }
}
