/**
 * ARM_64_LPAE_S1: stage-1 page tables of SMMUv2 and SMMUv3, the same as the CPU's own. ARM_32_LPAE_S1 (`io-pgtable-arm-32.ts`) has the
 * same descriptors and registers.
 *
 * Attribute bits of a leaf (Arm ARM DDI 0487, D8.3 "Stage 1 attribute fields"):
 *
 * | bits | field | here |
 * |---|---|---|
 * | 54, 53 | UXN, PXN | both set by `noexec` |
 * | 51 | DBM | quirk ARM_HD, with `write`: AP[2] is clear once the page was written (`dirty-tracking.ts`) |
 * | 11 | nG | always: entries belong to one ASID |
 * | 10 | AF | always: no access-flag faults |
 * | 9..8 | SH | inner shareable with `cache`, else outer |
 * | 7 | AP[2] | read-only: `read` without `write` |
 * | 6 | AP[1] | unprivileged access: unless `priv` |
 * | 5 | NS | quirk ARM_NS |
 * | 4..2 | AttrIndx | 0 non-cacheable, 1 write-back, 2 device: see {@link ArmLpaeS1Registers.mair} |
 *
 * **Inaccuracies**: no access-flag faults, no contiguous hint, no hierarchical permissions besides NSTable.
 */
import type { IoPgtableConfig, IoPgtableQuirk, IoPgtableTlb, TablePages } from './io-pgtable.ts';
import { IommuProt } from './io-pgtable.ts';
import { dirtyManaged, LPAE_DBM_HIGH, LPAE_XN_HIGH, type LpaeEncoding } from './lpae-format.ts';
import { type LpaeGeometry, lpaeGeometry, refuse } from './lpae-geometry.ts';
import {
  granuleCode0,
  granuleCode1,
  type LpaeWalkAttributes,
  outputSizeCode,
  walkAttributes,
} from './lpae-registers.ts';
import { LpaeTable } from './lpae-table.ts';

/** What a driver programs for a stage-1 table: TCR_ELx fields and MAIR_ELx (Arm ARM DDI 0487, D17.2). */
export interface ArmLpaeS1Registers {
  readonly kind: 'arm-lpae-s1';
  readonly tcr: LpaeWalkAttributes & {
    /** Output address size: 0 = 32 bits … 5 = 48, 6 = 52. */
    readonly ips: number;
    /** Granule, in the encoding of TG0 or, with ARM_TTBR1, of TG1. */
    readonly tg: number;
    /** 64 - ias. */
    readonly tsz: number;
  };
  /** Memory attributes 7..0, a byte each, in two halves: `[attributes 3..0, attributes 7..4]`; 4 to 7 are unused and all ones. */
  readonly mair: readonly [low: number, high: number];
}

const ATTR_DEVICE = 2 << 2;
const ATTR_WRITE_BACK = 1 << 2;
const NS = 1 << 5;
const AP_UNPRIVILEGED = 1 << 6;
const AP_READ_ONLY = 1 << 7;
const SH_OUTER = 2 << 8;
const SH_INNER = 3 << 8;
const AF = 1 << 10;
const NG = 1 << 11;
/** Bit 63 in the upper half: all below is non-secure. */
const NS_TABLE_HIGH = 0x8000_0000;
/** Attribute 0 non-cacheable, 1 write-back, 2 device-nGnRE, 3 inner non-cacheable and outer write-back. */
const MAIR = [0xf404_ff44, 0xffff_ffff] as const;

const QUIRKS: readonly IoPgtableQuirk[] = ['ARM_NS', 'ARM_TTBR1', 'ARM_OUTER_WBWA', 'ARM_HD'];

/**
 * Builds an empty stage-1 table. With ARM_TTBR1 it translates the upper half: IOVAs are negative.
 *
 * @throws {ErrnoError} `EINVAL` a quirk of another format, ARM_OUTER_WBWA with coherent walks, an output size that TCR.IPS cannot say,
 * or sizes that no granule has (never retry); `ENOMEM` no page for the top-level table (retry later).
 * @see Linux 6.1 `drivers/iommu/io-pgtable-arm.c` arm_64_lpae_alloc_pgtable_s1
 */
export function createArmLpaeS1(
  cfg: IoPgtableConfig,
  pages: TablePages,
  tlb: IoPgtableTlb,
): LpaeTable<ArmLpaeS1Registers> {
  return lpaeS1Table('ARM_64_LPAE_S1', cfg, pages, tlb);
}

/** As {@link createArmLpaeS1}, for any format with its descriptors. @internal */
export function lpaeS1Table(
  name: string,
  cfg: IoPgtableConfig,
  pages: TablePages,
  tlb: IoPgtableTlb,
): LpaeTable<ArmLpaeS1Registers> {
  const foreign = cfg.quirks.find((quirk) => !QUIRKS.includes(quirk));
  if (foreign !== undefined) refuse(name, `quirk ${foreign} belongs to another format`);
  const geometry = lpaeGeometry(name, cfg);
  const registers = s1Registers(name, cfg, geometry);
  const upperHalf = cfg.quirks.includes('ARM_TTBR1');
  const encoding = s1Encoding(cfg.quirks.includes('ARM_NS'), cfg.quirks.includes('ARM_HD'));
  return new LpaeTable({ name, geometry, encoding, registers, upperHalf }, pages, tlb);
}

function s1Registers(name: string, cfg: IoPgtableConfig, geometry: LpaeGeometry): ArmLpaeS1Registers {
  const outerWriteBack = cfg.quirks.includes('ARM_OUTER_WBWA');
  if (cfg.coherentWalk && outerWriteBack) refuse(name, 'ARM_OUTER_WBWA is for walks that are not coherent');
  const upperHalf = cfg.quirks.includes('ARM_TTBR1');
  const ips = outputSizeCode(name, geometry.oas);
  const tg = upperHalf ? granuleCode1(geometry.granuleBytes) : granuleCode0(geometry.granuleBytes);
  const walks = walkAttributes(cfg.coherentWalk);
  const orgn = outerWriteBack ? 1 : walks.orgn;
  return { kind: 'arm-lpae-s1', tcr: { ips, tg, ...walks, orgn, tsz: 64 - geometry.ias }, mair: MAIR };
}

function s1Encoding(nonSecure: boolean, marksDirty: boolean): LpaeEncoding {
  return {
    pageType: 3,
    tableHigh: nonSecure ? NS_TABLE_HIGH : 0,
    low(prot) {
      let bits = NG | AF | (nonSecure ? NS : 0);
      if ((prot & IommuProt.write) === 0 || marksDirty) bits |= AP_READ_ONLY;
      if ((prot & IommuProt.priv) === 0) bits |= AP_UNPRIVILEGED;
      if ((prot & IommuProt.mmio) !== 0) bits |= ATTR_DEVICE;
      else if ((prot & IommuProt.cache) !== 0) bits |= ATTR_WRITE_BACK;
      return bits | ((prot & IommuProt.cache) !== 0 ? SH_INNER : SH_OUTER);
    },
    high: (prot) => ((prot & IommuProt.noexec) !== 0 ? LPAE_XN_HIGH : 0) | dirtyManaged(prot, marksDirty),
    access: (low, high) =>
      (low & AP_READ_ONLY) !== 0 && (high & LPAE_DBM_HIGH) === 0 ? IommuProt.read : IommuProt.read | IommuProt.write,
  };
}
