/** Rights of a mapping as the vectors name them. */
import { IommuProt } from '../../src/iommu/io-pgtable.ts';
import { arrayIn, type Json, type JsonObject } from './vector-case.ts';

const BITS: ReadonlyMap<Json, number> = new Map([
  ['IOMMU_READ', IommuProt.read],
  ['IOMMU_WRITE', IommuProt.write],
  ['IOMMU_CACHE', IommuProt.cache],
  ['IOMMU_NOEXEC', IommuProt.noexec],
  ['IOMMU_MMIO', IommuProt.mmio],
  ['IOMMU_PRIV', IommuProt.priv],
]);

/** The `IommuProt` bits in `args.prot`. @throws {Error} a name is unknown. */
export function protIn(args: JsonObject): number {
  return arrayIn(args, 'prot').reduce<number>((bits, name) => {
    const bit = BITS.get(name);
    if (bit === undefined) throw new Error(`unknown protection ${JSON.stringify(name)}`);
    return bits | bit;
  }, 0);
}
