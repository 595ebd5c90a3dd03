/** The configurations in which every page-table format is tried against its model. */
import { GIB, KIB, MIB } from '../../src/base/units.ts';
import type { IoPgtableFormat } from '../../src/iommu/alloc-io-pgtable.ts';
import type { IoPgtableConfig } from '../../src/iommu/io-pgtable.ts';
import { LpaeReference } from './lpae-reference.ts';
import type { MapAnswer, PgtableCase, PgtableReference, Translated } from './pgtable-model.ts';
import { ShortReference } from './short-reference.ts';
import { VtdReference } from './vtd-reference.ts';

const TIB = 1024 * GIB;
const SIZES_4K = [4 * KIB, 2 * MIB, GIB];
/** A leaf of these formats always allows reading. */
const stage1 = (prot: number): number => (prot === 1 ? 1 : 3);
const asMapped = (prot: number): number => prot;

interface LpaeCase {
  readonly border: number;
  readonly config?: Partial<IoPgtableConfig>;
  readonly sizes?: readonly number[];
  /** Bytes of an entry at levels above the largest page size. */
  readonly above?: readonly number[];
  readonly access?: (prot: number) => number;
}

function lpae(
  format: IoPgtableFormat,
  name: string,
  { border, config = {}, sizes = SIZES_4K, above = [], access = stage1 }: LpaeCase,
): PgtableCase {
  const pgsizeBitmap = sizes.reduce((sum, size) => sum + size, 0);
  const levels = [...above, ...sizes.toReversed()];
  return {
    name: `${format}, ${name}`,
    format,
    config: { pgsizeBitmap, ias: 48, oas: 48, coherentWalk: true, quirks: [], ...config },
    ...{ sizes, border, access, splits: true },
    reference: () => new LpaeReference(levels),
  };
}

function short(name: string, border: number, config: Partial<IoPgtableConfig> = {}): PgtableCase {
  const sizes = [4 * KIB, 64 * KIB, MIB, 16 * MIB];
  const pgsizeBitmap = sizes.reduce((sum, size) => sum + size, 0);
  return {
    name: `ARM_V7S, ${name}`,
    format: 'ARM_V7S',
    config: { pgsizeBitmap, ias: 32, oas: 32, coherentWalk: true, quirks: [], ...config },
    ...{ sizes, border, splits: true, access: config.quirks?.includes('NO_PERMS') ? () => 3 : stage1 },
    reference: () => new ShortReference(),
  };
}

/** The model of VT-d, asked as those of the other formats are. */
class VtdModel implements PgtableReference {
  readonly #model = new VtdReference();

  get tablePages(): number {
    return this.#model.tables;
  }

  get warnings(): number {
    return this.#model.warnings;
  }

  map(at: number, phys: number, size: number, count: number, prot: number): MapAnswer {
    this.#model.map(at, phys, size, count, (prot & 2) !== 0);
    return { ret: 0, mapped: size * count };
  }

  unmap(at: number, size: number, count: number): number {
    return Number(this.#model.unmap(at, size * count));
  }

  translate(at: number): Translated | null {
    const there = this.#model.translate(at);
    return there === null ? null : { phys: there.phys, prot: there.writes ? 3 : 1, sizeBytes: null };
  }

  leaves(): null {
    return null;
  }
}

const in32 = { ias: 32, oas: 40 } as const;

/** A line for each format; a format that is missing does not compile. VT-d's driver has rules of its own: `io-pgtable-vtd.test.ts`. */
const BY_FORMAT: { readonly [F in IoPgtableFormat]: readonly PgtableCase[] } = {
  ARM_64_LPAE_S1: [
    lpae('ARM_64_LPAE_S1', '4 KiB granule', { border: 512 * GIB, above: [512 * GIB] }),
    lpae('ARM_64_LPAE_S1', '4 KiB granule, three levels', { border: 4 * GIB, config: { ias: 39 } }),
    lpae('ARM_64_LPAE_S1', '16 KiB granule', {
      border: 64 * GIB,
      sizes: [16 * KIB, 32 * MIB],
      above: [128 * TIB, 64 * GIB],
    }),
    lpae('ARM_64_LPAE_S1', '64 KiB granule and 52 bits', {
      border: 4 * TIB,
      sizes: [64 * KIB, 512 * MIB],
      above: [4 * TIB],
      config: { ias: 52, oas: 52 },
    }),
    lpae('ARM_64_LPAE_S1', 'upper half', { border: -2 * GIB, config: { ias: 39, quirks: ['ARM_TTBR1'] } }),
  ],
  ARM_64_LPAE_S2: [
    lpae('ARM_64_LPAE_S2', 'four levels', { border: 512 * GIB, above: [512 * GIB], access: asMapped }),
    lpae('ARM_64_LPAE_S2', 'concatenated tables', { border: 512 * GIB, config: { ias: 40 }, access: asMapped }),
    lpae('ARM_64_LPAE_S2', '16 KiB granule', {
      border: 128 * TIB,
      sizes: [16 * KIB, 32 * MIB],
      above: [64 * GIB],
      access: asMapped,
    }),
  ],
  ARM_32_LPAE_S1: [lpae('ARM_32_LPAE_S1', '32 bits', { border: 2 * GIB, config: in32 })],
  ARM_32_LPAE_S2: [lpae('ARM_32_LPAE_S2', '32 bits', { border: 2 * GIB, config: in32, access: asMapped })],
  ARM_MALI_LPAE: [
    lpae('ARM_MALI_LPAE', '39 bits', {
      border: 4 * GIB,
      above: [512 * GIB],
      config: { ias: 39, oas: 40 },
      access: asMapped,
    }),
  ],
  ARM_V7S: [
    short('32 bits', 256 * MIB),
    short('extended to 34 bits of input', 4 * GIB, { ias: 34, oas: 35, quirks: ['ARM_MTK_EXT', 'NO_PERMS'] }),
  ],
  INTEL_VTD_S2: [
    {
      ...lpae('INTEL_VTD_S2', 'four levels', { border: 512 * GIB }),
      ...{ splits: false, reference: () => new VtdModel() },
    },
  ],
};

/** All of them. */
export const PGTABLE_CASES: readonly PgtableCase[] = Object.values(BY_FORMAT).flat();
