/**
 * ARM_64_LPAE_S2: stage-2 page tables of SMMUv2 and SMMUv3, from intermediate physical to physical addresses.
 * ARM_32_LPAE_S2 (`io-pgtable-arm-32.ts`) has the same descriptors and registers.
 *
 * Attribute bits of a leaf (Arm ARM DDI 0487, D8.3 "Stage 2 attribute fields"):
 *
 * | bits | field | here |
 * |---|---|---|
 * | 54, 53 | XN[1:0] | both set by `noexec`; without FEAT_XNX bit 54 alone counts |
 * | 51 | DBM | quirk ARM_HD, with `write`: S2AP[1] is set once the page was written (`dirty-tracking.ts`) |
 * | 10 | AF | always: no access-flag faults |
 * | 9..8 | SH | inner shareable with `cache`, else outer |
 * | 7..6 | S2AP | bit 7 `write`, bit 6 `read`, each by itself |
 * | 5..2 | MemAttr | 0001 device-nGnRE with `mmio`, 1111 write-back with `cache`, else 0101 non-cacheable |
 *
 * `priv` means nothing at stage 2. The walk may begin with up to 16 tables in a row (`concatenateTop`).
 *
 * **Inaccuracies**: no access-flag faults, no contiguous hint.
 */

import { KIB } from '../base/units.ts';
import type { IoPgtableConfig, IoPgtableTlb, TablePages } from './io-pgtable.ts';
import { IommuProt } from './io-pgtable.ts';
import { dirtyManaged, LPAE_DBM_HIGH, LPAE_XN_HIGH, type LpaeEncoding } from './lpae-format.ts';
import { concatenateTop, type LpaeGeometry, lpaeGeometry, refuse } from './lpae-geometry.ts';
import { granuleCode0, type LpaeWalkAttributes, outputSizeCode, walkAttributes } from './lpae-registers.ts';
import { LpaeTable } from './lpae-table.ts';

/** What a driver programs for a stage-2 table: fields of VTCR_EL2 (Arm ARM DDI 0487, D17.2). */
export interface ArmLpaeS2Registers {
  readonly kind: 'arm-lpae-s2';
  readonly vtcr: LpaeWalkAttributes & {
    /** Output address size: 0 = 32 bits … 5 = 48, 6 = 52. */
    readonly ps: number;
    /** Granule, in the encoding of TG0. */
    readonly tg: number;
    /** SL0, the level at which walks start: 0 = 2, 1 = 1, 2 = 0, 3 = 3 with the 4 KiB granule; 0 = 3, 1 = 2, 2 = 1 with the others. */
    readonly sl: number;
    /** 64 - ias. */
    readonly tsz: number;
  };
}

const MEMATTR_DEVICE = 1 << 2;
const MEMATTR_NON_CACHEABLE = 5 << 2;
const MEMATTR_WRITE_BACK = 15 << 2;
const S2AP_READ = 1 << 6;
const S2AP_WRITE = 2 << 6;
const SH_OUTER = 2 << 8;
const SH_INNER = 3 << 8;
const AF = 1 << 10;

/**
 * Builds an empty stage-2 table.
 *
 * @throws {ErrnoError} `EINVAL` any quirk, an output size that VTCR.PS cannot say, or sizes that no granule has (never retry);
 * `ENOMEM` no pages in a row for the top-level tables (retry later).
 * @see Linux 6.1 `drivers/iommu/io-pgtable-arm.c` arm_64_lpae_alloc_pgtable_s2
 */
export function createArmLpaeS2(
  cfg: IoPgtableConfig,
  pages: TablePages,
  tlb: IoPgtableTlb,
): LpaeTable<ArmLpaeS2Registers> {
  return lpaeS2Table('ARM_64_LPAE_S2', cfg, pages, tlb);
}

/** As {@link createArmLpaeS2}, for any format with its descriptors. @internal */
export function lpaeS2Table(
  name: string,
  cfg: IoPgtableConfig,
  pages: TablePages,
  tlb: IoPgtableTlb,
): LpaeTable<ArmLpaeS2Registers> {
  const quirk = cfg.quirks.find((one) => one !== 'ARM_HD');
  if (quirk !== undefined) refuse(name, `quirk ${quirk} belongs to another format`);
  const geometry = concatenateTop(lpaeGeometry(name, cfg));
  const registers = s2Registers(name, cfg, geometry);
  const encoding = cfg.quirks.includes('ARM_HD') ? S2_DIRTY_ENCODING : S2_ENCODING;
  return new LpaeTable({ name, geometry, encoding, registers, upperHalf: false }, pages, tlb);
}

function s2Registers(name: string, cfg: IoPgtableConfig, geometry: LpaeGeometry): ArmLpaeS2Registers {
  const { granuleBytes, ias, oas, startLevel } = geometry;
  return {
    kind: 'arm-lpae-s2',
    vtcr: {
      ps: outputSizeCode(name, oas),
      tg: granuleCode0(granuleBytes),
      ...walkAttributes(cfg.coherentWalk),
      // Two bits: level 3 with the 4 KiB granule wraps around to 3 (FEAT_TTST).
      sl: ((granuleBytes === 4 * KIB ? 2 : 3) - startLevel) & 3,
      tsz: 64 - ias,
    },
  };
}

const S2_ENCODING: LpaeEncoding = {
  pageType: 3,
  tableHigh: 0,
  low(prot) {
    let bits = AF;
    if ((prot & IommuProt.read) !== 0) bits |= S2AP_READ;
    if ((prot & IommuProt.write) !== 0) bits |= S2AP_WRITE;
    if ((prot & IommuProt.mmio) !== 0) bits |= MEMATTR_DEVICE;
    else bits |= (prot & IommuProt.cache) !== 0 ? MEMATTR_WRITE_BACK : MEMATTR_NON_CACHEABLE;
    return bits | ((prot & IommuProt.cache) !== 0 ? SH_INNER : SH_OUTER);
  },
  high: (prot) => ((prot & IommuProt.noexec) !== 0 ? LPAE_XN_HIGH : 0),
  access: s2Access,
};

/** With dirty state managed by hardware: what may be written is mapped read-only and clean. */
const S2_DIRTY_ENCODING: LpaeEncoding = {
  ...S2_ENCODING,
  low: (prot) => S2_ENCODING.low(prot & ~IommuProt.write),
  high: (prot) => S2_ENCODING.high(prot) | dirtyManaged(prot, true),
  access: (low, high) => s2Access(low) | ((high & LPAE_DBM_HIGH) !== 0 ? IommuProt.write : 0),
};

/** Rights of a leaf with S2AP in bits 7..6: `IommuProt` read and write bits. @internal */
export function s2Access(low: number): number {
  return ((low & S2AP_READ) !== 0 ? IommuProt.read : 0) | ((low & S2AP_WRITE) !== 0 ? IommuProt.write : 0);
}
