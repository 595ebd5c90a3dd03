/**
 * ARM_32_LPAE_S1 and ARM_32_LPAE_S2: the long descriptors of the 32-bit architecture (LPAE), used by SMMUv1 and by SMMUv2 with 32-bit contexts.
 *
 * Descriptors, attribute bits and levels are those of the 64-bit formats with a 4 KiB granule, within 32 bits of input and 40 bits of
 * output (Arm ARM DDI 0406C, B3.6 "Long-descriptor translation table format"). The register fields are reported in their 64-bit form, as
 * the kernel does: `tsz` is 64 - ias, and the driver subtracts 32 for a TTBCR.
 */
import { GIB, KIB, MIB } from '../base/units.ts';
import type { IoPgtableConfig, IoPgtableTlb, TablePages } from './io-pgtable.ts';
import { type ArmLpaeS1Registers, lpaeS1Table } from './io-pgtable-arm.ts';
import { type ArmLpaeS2Registers, lpaeS2Table } from './io-pgtable-arm-s2.ts';
import { keepSizes, refuse } from './lpae-geometry.ts';
import type { LpaeTable } from './lpae-table.ts';

const MAX_IAS = 32;
const MAX_OAS = 40;
const PAGE_SIZES = [4 * KIB, 2 * MIB, GIB];

/**
 * Builds an empty stage-1 table for at most 32 bits of input. Quirks as in ARM_64_LPAE_S1.
 *
 * @throws {ErrnoError} `EINVAL` ias above 32, oas above 40, no 4 KiB pages, or what ARM_64_LPAE_S1 refuses (never retry); `ENOMEM` no page for
 * the top-level table (retry later).
 * @see Linux 6.1 `drivers/iommu/io-pgtable-arm.c` arm_32_lpae_alloc_pgtable_s1
 */
export function createArm32LpaeS1(
  cfg: IoPgtableConfig,
  pages: TablePages,
  tlb: IoPgtableTlb,
): LpaeTable<ArmLpaeS1Registers> {
  const name = 'ARM_32_LPAE_S1';
  return lpaeS1Table(name, restrictTo32(name, cfg), pages, tlb);
}

/**
 * Builds an empty stage-2 table for at most 32 bits of input: 40-bit input would need more than this format promises.
 *
 * @throws {ErrnoError} `EINVAL` ias above 32, oas above 40, no 4 KiB pages, or what ARM_64_LPAE_S2 refuses (never retry); `ENOMEM` no page for
 * the top-level table (retry later).
 * @see Linux 6.1 `drivers/iommu/io-pgtable-arm.c` arm_32_lpae_alloc_pgtable_s2
 */
export function createArm32LpaeS2(
  cfg: IoPgtableConfig,
  pages: TablePages,
  tlb: IoPgtableTlb,
): LpaeTable<ArmLpaeS2Registers> {
  const name = 'ARM_32_LPAE_S2';
  return lpaeS2Table(name, restrictTo32(name, cfg), pages, tlb);
}

function restrictTo32(name: string, cfg: IoPgtableConfig): IoPgtableConfig {
  if (cfg.ias > MAX_IAS) refuse(name, `ias ${cfg.ias} exceeds ${MAX_IAS} bits`);
  if (cfg.oas > MAX_OAS) refuse(name, `oas ${cfg.oas} exceeds ${MAX_OAS} bits`);
  return { ...cfg, pgsizeBitmap: keepSizes(cfg.pgsizeBitmap, PAGE_SIZES) };
}
