/**
 * ARM_MALI_LPAE: page tables of the MMU in Mali Midgard and Bifrost GPUs, AArch64 stage 1 in structure with bits of their own.
 *
 * | bits | field | here |
 * |---|---|---|
 * | 54, 53 | XN | both set by `noexec` |
 * | 9..8 | SH | always outer: the inner domain is the GPU's own, the outer one the system |
 * | 7..6 | access | bit 7 `write`, bit 6 `read`, as at stage 2 |
 * | 4..2 | AttrIndx | 0 non-cacheable, 1 cacheable, 2 device: bytes of {@link ArmMaliLpaeRegisters.memattr} |
 * | 1..0 | type | a page at level 3 has type 1, as a block has |
 *
 * There is neither AF nor nG, and `priv` means nothing. A walk always has four levels: with less than 40 bits of input the first
 * table has one entry. The bits are those that a Mali driver programs; Arm documents them in no public manual.
 *
 * **Inaccuracies**: the GPU's own MMU commands and faults are not modelled, only the tables.
 */
import { GIB, KIB, MIB } from '../base/units.ts';
import type { IoPgtableConfig, IoPgtableTlb, TablePages } from './io-pgtable.ts';
import { IommuProt } from './io-pgtable.ts';
import { s2Access } from './io-pgtable-arm-s2.ts';
import { LPAE_XN_HIGH, type LpaeEncoding } from './lpae-format.ts';
import { fullDepth, keepSizes, lpaeGeometry, refuse } from './lpae-geometry.ts';
import { LpaeTable } from './lpae-table.ts';

/** What a driver programs for an address space of a Mali GPU. */
export interface ArmMaliLpaeRegisters {
  readonly kind: 'arm-mali-lpae';
  /** AS_MEMATTR: a byte for each attribute index, index 0 lowest. */
  readonly memattr: number;
  /** Bits to add to the physical address of the top-level table for AS_TRANSTAB: 1..0 table mode, 2 read inner, 4 share outer. */
  readonly transtabFlags: number;
}

const ATTR_DEVICE = 2 << 2;
const ATTR_CACHEABLE = 1 << 2;
const READ = 1 << 6;
const WRITE = 2 << 6;
const SH_OUTER = 2 << 8;
/** Index 0 and 2: as the GPU's own attributes say. Index 1: write-back with write-allocate. */
const MEMATTR = 0x88_8d_88;
const MODE_TABLE = 3;
const READ_INNER = 1 << 2;
const SHARE_OUTER = 1 << 4;
const MAX_IAS = 48;
const MAX_OAS = 40;
const PAGE_SIZES = [4 * KIB, 2 * MIB, GIB];

/**
 * Builds an empty table of a Mali GPU.
 *
 * @throws {ErrnoError} `EINVAL` any quirk, ias above 48, oas above 40, or no 4 KiB pages (never retry); `ENOMEM` no page for the
 * top-level table (retry later).
 * @see Linux 6.1 `drivers/iommu/io-pgtable-arm.c` arm_mali_lpae_alloc_pgtable
 */
export function createArmMaliLpae(
  cfg: IoPgtableConfig,
  pages: TablePages,
  tlb: IoPgtableTlb,
): LpaeTable<ArmMaliLpaeRegisters> {
  const name = 'ARM_MALI_LPAE';
  const [quirk] = cfg.quirks;
  if (quirk !== undefined) refuse(name, `quirk ${quirk} belongs to another format`);
  if (cfg.ias > MAX_IAS) refuse(name, `ias ${cfg.ias} exceeds ${MAX_IAS} bits`);
  if (cfg.oas > MAX_OAS) refuse(name, `oas ${cfg.oas} exceeds ${MAX_OAS} bits`);
  const sizes = { ...cfg, pgsizeBitmap: keepSizes(cfg.pgsizeBitmap, PAGE_SIZES) };
  const geometry = fullDepth(lpaeGeometry(name, sizes));
  const transtabFlags = MODE_TABLE | READ_INNER | (cfg.coherentWalk ? SHARE_OUTER : 0);
  const registers: ArmMaliLpaeRegisters = { kind: 'arm-mali-lpae', memattr: MEMATTR, transtabFlags };
  return new LpaeTable({ name, geometry, encoding: MALI_ENCODING, registers, upperHalf: false }, pages, tlb);
}

const MALI_ENCODING: LpaeEncoding = {
  pageType: 1,
  tableHigh: 0,
  low(prot) {
    let bits = SH_OUTER;
    if ((prot & IommuProt.read) !== 0) bits |= READ;
    if ((prot & IommuProt.write) !== 0) bits |= WRITE;
    if ((prot & IommuProt.mmio) !== 0) bits |= ATTR_DEVICE;
    else if ((prot & IommuProt.cache) !== 0) bits |= ATTR_CACHEABLE;
    return bits;
  },
  high: (prot) => ((prot & IommuProt.noexec) !== 0 ? LPAE_XN_HIGH : 0),
  access: s2Access,
};
