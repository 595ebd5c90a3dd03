/**
 * The 32-bit descriptors of the short format, bit by bit.
 *
 * Arm ARM DDI 0406C, B3.5.1 "Short-descriptor translation table format descriptors":
 *
 * | field | section (level 1) | small page (level 2) | large page (level 2) |
 * |---|---|---|---|
 * | type | 1..0 = 10 | bit 1 = 1 | 1..0 = 01 |
 * | base | 31..20 | 31..12 | 31..16 |
 * | nG, S | 17, 16 | 11, 10 | 11, 10 |
 * | AP[2], AP[1..0] | 15, 11..10 | 9, 5..4 | 9, 5..4 |
 * | TEX | 14..12 | 8..6 | 14..12 |
 * | C, B | 3, 2 | 3, 2 | 3, 2 |
 * | XN | 4 | 0 | 15 |
 * | NS | 19 | (of the table, bit 3) | (of the table, bit 3) |
 *
 * A supersection is a section with bit 18 set, base in 31..24. Supersections and large pages take 16 equal descriptors in a row.
 * A table descriptor has type 01, NS in bit 3 and its base in 31..10. Memory types with TEX remap (B3.8.3): TEX[0], C, B = 001 device,
 * 100 non-cacheable, 111 write-back. The simplified access permissions of B3.7.1 apply: AP[0] is the access flag, always set.
 *
 * MediaTek's units read address bits 32, 33 and 34 from bits 9, 4 and 5, where AP and XN would be.
 *
 * **Inaccuracies**: domains are always 0, no PXN, no supersections above 32 bits of output.
 *
 * @internal
 */
import { KIB, MIB } from '../base/units.ts';
import { IommuProt } from './io-pgtable.ts';

const T32 = 2 ** 32;

/** Level of the top table: its leaves are sections. @internal */
export const SECTION_LEVEL = 1;
/** Level of the tables below: their leaves are pages. @internal */
export const PAGE_LEVEL = 2;
/** Bytes that a section maps. @internal */
export const SECTION_BYTES = MIB;
/** Bytes that a small page maps. @internal */
export const SMALL_PAGE_BYTES = 4 * KIB;
/** Descriptors of a large page or a supersection. @internal */
export const LARGE_COUNT = 16;

/** Where a field that both levels have lies: as in a section, `>>` this. */
const FIELD_SHIFT = 6;
const TYPE_MASK = 3;
const TYPE_TABLE = 1;
const TYPE_LEAF = 2;
const B = 1 << 2;
const C = 1 << 3;
const TABLE_NS = 1 << 3;
const SECTION_XN = 1 << 4;
const SMALL_XN = 1 << 0;
const LARGE_XN = 1 << 15;
const AP_ACCESSED = 1 << 10;
const AP_UNPRIVILEGED = 1 << 11;
const TEX_0 = 1 << 12;
const LARGE_TEX = 7 << 12;
const SMALL_TEX = LARGE_TEX >> FIELD_SHIFT;
const AP_READ_ONLY = 1 << 15;
const SHARED = 1 << 16;
const NOT_GLOBAL = 1 << 17;
const SUPERSECTION = 1 << 18;
const SECTION_NS = 1 << 19;
const PA_32 = 1 << 9;
const PA_33 = 1 << 4;
const PA_34 = 1 << 5;

/** What the quirks make of the format. @internal */
export interface ShortVariant {
  /** AP and XN are used; else the hardware ignores them and they stay 0. */
  readonly hasPermissions: boolean;
  /** All accesses are non-secure, those of the walk included. */
  readonly isNonSecure: boolean;
  /** Leaves hold 35 address bits. */
  readonly hasWideLeaves: boolean;
  /** Table descriptors do, too. */
  readonly hasWideTables: boolean;
}

/** Makes and reads descriptors. Results of bit operations may be negative: they become unsigned in the table's array. @internal */
export class ShortEncoding {
  private readonly variant: ShortVariant;

  constructor(variant: ShortVariant) {
    this.variant = variant;
  }

  /** A section or small page with `prot`, at address 0. */
  leaf(prot: number, level: number): number {
    const { hasPermissions, isNonSecure } = this.variant;
    let fields = NOT_GLOBAL | SHARED;
    if ((prot & IommuProt.mmio) === 0) fields |= TEX_0;
    if (hasPermissions) {
      fields |= AP_ACCESSED;
      if ((prot & IommuProt.priv) === 0) fields |= AP_UNPRIVILEGED;
      if ((prot & IommuProt.write) === 0) fields |= AP_READ_ONLY;
    }
    let bits = TYPE_LEAF | (level === SECTION_LEVEL ? fields : fields >> FIELD_SHIFT);
    if ((prot & IommuProt.mmio) !== 0) bits |= B;
    else if ((prot & IommuProt.cache) !== 0) bits |= C | B;
    if (hasPermissions && (prot & IommuProt.noexec) !== 0) bits |= xnBit(level);
    return level === SECTION_LEVEL && isNonSecure ? bits | SECTION_NS : bits;
  }

  /** The `IommuProt` bits that {@link leaf} makes such a section or small page of. */
  protOf(descriptor: number, level: number): number {
    const fields = level === SECTION_LEVEL ? descriptor : descriptor << FIELD_SHIFT;
    let prot: number = IommuProt.read;
    if ((fields & AP_READ_ONLY) === 0) prot |= IommuProt.write;
    if ((fields & AP_UNPRIVILEGED) === 0) prot |= IommuProt.priv;
    if ((fields & LARGE_TEX) === 0) prot |= IommuProt.mmio;
    else if ((descriptor & C) !== 0) prot |= IommuProt.cache;
    return (descriptor & xnBit(level)) !== 0 ? prot | IommuProt.noexec : prot;
  }

  /** What a leaf allows: `IommuProt` read and write bits. */
  access(descriptor: number, level: number): number {
    const readOnly = level === SECTION_LEVEL ? AP_READ_ONLY : AP_READ_ONLY >> FIELD_SHIFT;
    const isReadOnly = this.variant.hasPermissions && (descriptor & readOnly) !== 0;
    return isReadOnly ? IommuProt.read : IommuProt.read | IommuProt.write;
  }

  /** The address bits of a leaf for `paddr`. */
  place(paddr: number, level: number): number {
    const base = paddr & (level === SECTION_LEVEL ? 0xfff0_0000 : 0xffff_f000);
    return this.variant.hasWideLeaves ? base | wideBits(paddr) : base;
  }

  /** A table descriptor for the table at `paddr`. */
  table(paddr: number): number {
    const { isNonSecure, hasWideTables } = this.variant;
    return (paddr & 0xffff_fc00) | TYPE_TABLE | (isNonSecure ? TABLE_NS : 0) | (hasWideTables ? wideBits(paddr) : 0);
  }

  /** The address in a valid descriptor: of memory, or of a table. */
  address(descriptor: number, level: number): number {
    const base = (descriptor & baseMask(descriptor, level)) >>> 0;
    if (!this.variant.hasWideLeaves) return base;
    const above =
      ((descriptor & PA_32) !== 0 ? 1 : 0) +
      ((descriptor & PA_33) !== 0 ? 2 : 0) +
      ((descriptor & PA_34) !== 0 ? 4 : 0);
    return base + above * T32;
  }
}

/** Bytes that one descriptor at `level` stands for. @internal */
export function entryBytes(level: number): number {
  return level === SECTION_LEVEL ? SECTION_BYTES : SMALL_PAGE_BYTES;
}

/** Bytes that a leaf maps, all its descriptors together. @internal */
export function leafBytes(descriptor: number, level: number): number {
  return isLarge(descriptor, level) ? LARGE_COUNT * entryBytes(level) : entryBytes(level);
}

/** True for a level-1 descriptor that names a table. @internal */
export function isShortTable(descriptor: number): boolean {
  return (descriptor & TYPE_MASK) === TYPE_TABLE;
}

/** True for a supersection or large page. @internal */
export function isLarge(descriptor: number, level: number): boolean {
  if (level !== SECTION_LEVEL) return (descriptor & TYPE_LEAF) === 0;
  return !isShortTable(descriptor) && (descriptor & SUPERSECTION) !== 0;
}

/** A section as part of a supersection, or a small page as part of a large one. Its address must be added afterwards. @internal */
export function toLarge(descriptor: number, level: number): number {
  if (level === SECTION_LEVEL) return descriptor ^ SUPERSECTION;
  const tex = (descriptor & SMALL_TEX) << FIELD_SHIFT;
  const xn = (descriptor & SMALL_XN) !== 0 ? LARGE_XN : 0;
  return ((descriptor & ~(SMALL_TEX | SMALL_XN)) ^ TYPE_MASK) | tex | xn;
}

/** Undoes {@link toLarge}: the descriptor of the first section or small page of the large leaf. @internal */
export function fromLarge(descriptor: number, level: number): number {
  if (level === SECTION_LEVEL) return descriptor ^ SUPERSECTION;
  const tex = (descriptor & LARGE_TEX) >> FIELD_SHIFT;
  const xn = (descriptor & LARGE_XN) !== 0 ? SMALL_XN : 0;
  return ((descriptor & ~(LARGE_TEX | LARGE_XN)) ^ TYPE_MASK) | tex | xn;
}

function xnBit(level: number): number {
  return level === SECTION_LEVEL ? SECTION_XN : SMALL_XN;
}

function baseMask(descriptor: number, level: number): number {
  if (level === SECTION_LEVEL && isShortTable(descriptor)) return 0xffff_fc00;
  if (level === SECTION_LEVEL) return isLarge(descriptor, level) ? 0xff00_0000 : 0xfff0_0000;
  return isLarge(descriptor, level) ? 0xffff_0000 : 0xffff_f000;
}

/** Address bits 34..32 where MediaTek's units look for them. */
function wideBits(paddr: number): number {
  const above = Math.floor(paddr / T32);
  return ((above & 1) !== 0 ? PA_32 : 0) | ((above & 2) !== 0 ? PA_33 : 0) | ((above & 4) !== 0 ? PA_34 : 0);
}
