/** All page-table formats that are built, by Linux's name. A new format adds a line to {@link IoPgtables} and to {@link BUILDERS}. */
import type { IoPgtable, IoPgtableConfig, IoPgtableTlb, TablePages } from './io-pgtable.ts';
import { type ArmLpaeS1Registers, createArmLpaeS1 } from './io-pgtable-arm.ts';
import { createArm32LpaeS1, createArm32LpaeS2 } from './io-pgtable-arm-32.ts';
import { type ArmMaliLpaeRegisters, createArmMaliLpae } from './io-pgtable-arm-mali.ts';
import { type ArmLpaeS2Registers, createArmLpaeS2 } from './io-pgtable-arm-s2.ts';
import { type ArmV7sRegisters, createArmV7s } from './io-pgtable-arm-v7s.ts';
import { createVtdS2, type VtdTable } from './io-pgtable-vtd.ts';
import type { LpaeTable } from './lpae-table.ts';
import type { ShortTable } from './short-table.ts';

/** The page table of each format, with what is particular to it. */
export interface IoPgtables {
  readonly ARM_64_LPAE_S1: LpaeTable<ArmLpaeS1Registers>;
  readonly ARM_64_LPAE_S2: LpaeTable<ArmLpaeS2Registers>;
  readonly ARM_32_LPAE_S1: LpaeTable<ArmLpaeS1Registers>;
  readonly ARM_32_LPAE_S2: LpaeTable<ArmLpaeS2Registers>;
  readonly ARM_MALI_LPAE: LpaeTable<ArmMaliLpaeRegisters>;
  readonly ARM_V7S: ShortTable<ArmV7sRegisters>;
  readonly INTEL_VTD_S2: VtdTable;
}

/** Name of a format that is built. */
export type IoPgtableFormat = keyof IoPgtables;

type Builder<T extends IoPgtable> = (cfg: IoPgtableConfig, pages: TablePages, tlb: IoPgtableTlb) => T;

const BUILDERS: { readonly [F in IoPgtableFormat]: Builder<IoPgtables[F]> } = {
  ARM_64_LPAE_S1: createArmLpaeS1,
  ARM_64_LPAE_S2: createArmLpaeS2,
  ARM_32_LPAE_S1: createArm32LpaeS1,
  ARM_32_LPAE_S2: createArm32LpaeS2,
  ARM_MALI_LPAE: createArmMaliLpae,
  ARM_V7S: createArmV7s,
  INTEL_VTD_S2: createVtdS2,
};

/** True when a format of this name is built. */
export function isIoPgtableFormat(name: string): name is IoPgtableFormat {
  return Object.hasOwn(BUILDERS, name);
}

/** Stage of translation that tables of `format` are for: 2 for intermediate physical addresses, else 1. @internal */
export function ioPgtableStage(format: IoPgtableFormat): 1 | 2 {
  return format.endsWith('_S2') ? 2 : 1;
}

/**
 * Builds an empty page table of format `format`.
 *
 * @param tlb - is called for what becomes stale, from within map, unmap and free.
 * @throws {ErrnoError} `EINVAL` the format cannot do what `cfg` asks for (never retry); `ENOMEM` no page for the top-level table (retry later).
 * @see Linux 6.1 `drivers/iommu/io-pgtable.c` alloc_io_pgtable_ops
 */
export function allocIoPgtable<F extends IoPgtableFormat>(
  format: F,
  cfg: IoPgtableConfig,
  pages: TablePages,
  tlb: IoPgtableTlb,
): IoPgtables[F] {
  return BUILDERS[format](cfg, pages, tlb);
}
