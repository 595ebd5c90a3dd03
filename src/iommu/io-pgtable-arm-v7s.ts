/**
 * ARM_V7S: the short descriptors of ARMv7, 32 bits wide in two levels: 1 MiB sections, 16 MiB supersections, 64 KiB large and 4 KiB small pages.
 * Used by SMMUv1 and SMMUv2 in 32-bit contexts, Qualcomm's early IOMMUs and MediaTek's M4U.
 *
 * The top-level table takes 16 KiB for 32 bits of input (Arm ARM DDI 0406C, B3.5.4 with TTBCR.N = 0), tables of level 2 take 1 KiB.
 * Bits: `short-descriptor.ts`; mapping: `short-table.ts`.
 *
 * MediaTek's extension (ARM_MTK_EXT) widens input to 34 bits, hence the top-level table to 64 KiB, and output to 35; its units have no
 * permissions. With ARM_MTK_TTBR_EXT tables, too, may lie in those 35 bits.
 */
import { KIB, MIB } from '../base/units.ts';
import type { IoPgtableConfig, IoPgtableQuirk, IoPgtableTlb, TablePages } from './io-pgtable.ts';
import { keepSizes, refuse } from './lpae-geometry.ts';
import { ShortEncoding } from './short-descriptor.ts';
import { ShortTable } from './short-table.ts';

/** What a driver programs for a short-descriptor table (Arm ARM DDI 0406C, B4.1: TTBCR, PRRR, NMRR, TTBR0). */
export interface ArmV7sRegisters {
  readonly kind: 'arm-v7s';
  /** TTBCR: 0, short descriptors and all addresses through TTBR0. */
  readonly tcr: number;
  /** Memory types and shareability of the 8 remapped TEX[0], C, B combinations. */
  readonly prrr: number;
  /** Their cacheability. */
  readonly nmrr: number;
  /**
   * Bits to add to the physical address of the top-level table for TTBR0: 6 and 0 inner, 4..3 outer cacheability of the walks, 5 not outer
   * shareable, 1 shareable. With ARM_MTK_EXT instead bits 34..32 of that address, in bits 2..0.
   */
  readonly ttbrFlags: number;
}

const NAME = 'ARM_V7S';
const QUIRKS: readonly IoPgtableQuirk[] = ['ARM_NS', 'NO_PERMS', 'ARM_MTK_EXT', 'ARM_MTK_TTBR_EXT'];
const PAGE_SIZES = [4 * KIB, 64 * KIB, MIB, 16 * MIB];
const ADDRESS_BITS = 32;
const MTK_IAS = 34;
const MTK_OAS = 35;
/** One level-1 descriptor for each MiB. */
const SECTION_BITS = 20;

/** TRn: type of combination n = TEX[0]:C:B, in two bits each; 1 device, 2 normal. */
const TYPE_1_DEVICE = 1 << 2;
const TYPE_4_NORMAL = 2 << 8;
const TYPE_7_NORMAL = 2 << 14;
/** DS0, DS1, NS1: device memory is shareable; so is normal memory whose descriptor has S = 1. */
const SHAREABLE = (1 << 16) | (1 << 17) | (1 << 19);
/** NOS7: combination 7 is shared by the inner domain only. */
const NOT_OUTER_7 = 0x8000_0000;
const PRRR = NOT_OUTER_7 + (SHAREABLE | TYPE_1_DEVICE | TYPE_4_NORMAL | TYPE_7_NORMAL);
/** OR7 and IR7: write-back, write-allocate; combination 4 stays non-cacheable. */
const NMRR = (1 << 30) | (1 << 14);

const TTBR_SHAREABLE = 1 << 1;
/** Inner write-back write-allocate (IRGN, bits 0 and 6 = 01). */
const TTBR_IRGN_WRITE_BACK = 1 << 6;
/** Outer write-back write-allocate (RGN, bits 4..3 = 01). */
const TTBR_RGN_WRITE_BACK = 1 << 3;
const TTBR_NOT_OUTER = 1 << 5;
const COHERENT_WALK = TTBR_NOT_OUTER | TTBR_IRGN_WRITE_BACK | TTBR_RGN_WRITE_BACK;

/**
 * Builds an empty short-descriptor table. Tables must lie below 4 GiB, or with ARM_MTK_TTBR_EXT below 2^oas: pages from elsewhere count as none.
 *
 * @throws {ErrnoError} `EINVAL` a quirk of another format, ARM_MTK_EXT without NO_PERMS, ARM_MTK_TTBR_EXT without ARM_MTK_EXT, or more address
 * bits than the format has (never retry); `ENOMEM` no pages for the top-level table (retry later).
 * @see Linux 6.1 `drivers/iommu/io-pgtable-arm-v7s.c` arm_v7s_alloc_pgtable
 */
export function createArmV7s(cfg: IoPgtableConfig, pages: TablePages, tlb: IoPgtableTlb): ShortTable<ArmV7sRegisters> {
  const { ias, oas, quirks } = cfg;
  const foreign = quirks.find((quirk) => !QUIRKS.includes(quirk));
  if (foreign !== undefined) refuse(NAME, `quirk ${foreign} belongs to another format`);
  const isMtk = quirks.includes('ARM_MTK_EXT');
  const hasWideTables = quirks.includes('ARM_MTK_TTBR_EXT');
  const hasPermissions = !quirks.includes('NO_PERMS');
  if (isMtk && hasPermissions) refuse(NAME, 'ARM_MTK_EXT needs NO_PERMS: address bits take the place of permissions');
  if (hasWideTables && !isMtk) refuse(NAME, 'ARM_MTK_TTBR_EXT needs ARM_MTK_EXT');
  if (ias > (isMtk ? MTK_IAS : ADDRESS_BITS)) refuse(NAME, `ias ${ias} exceeds the format`);
  if (oas > (isMtk ? MTK_OAS : ADDRESS_BITS)) refuse(NAME, `oas ${oas} exceeds the format`);
  if (!(ias > SECTION_BITS)) refuse(NAME, `ias ${ias} does not exceed a section's ${SECTION_BITS} bits`);
  const variant = {
    hasPermissions,
    isNonSecure: quirks.includes('ARM_NS'),
    hasWideLeaves: isMtk,
    hasWideTables,
  };
  const format = {
    name: NAME,
    pgsizeBitmap: keepSizes(cfg.pgsizeBitmap, PAGE_SIZES),
    ias,
    oas,
    encoding: new ShortEncoding(variant),
    endTables: 2 ** (hasWideTables ? oas : ADDRESS_BITS),
  };
  const armFlags = TTBR_SHAREABLE | (cfg.coherentWalk ? COHERENT_WALK : 0);
  return new ShortTable(format, pages, tlb, (rootPhys): ArmV7sRegisters => {
    const ttbrFlags = isMtk ? Math.floor(rootPhys / 2 ** ADDRESS_BITS) : armFlags;
    return { kind: 'arm-v7s', tcr: 0, prrr: PRRR, nmrr: NMRR, ttbrFlags };
  });
}
