/** A page table of any format for tests: small configuration, counted pages, and its invalidations as text. */
import { allocIoPgtable, type IoPgtableFormat, type IoPgtables } from '../../src/iommu/alloc-io-pgtable.ts';
import { IommuProt, type IoPgtable, type IoPgtableConfig, type IoPgtableTlb } from '../../src/iommu/io-pgtable.ts';
import { IotlbGather } from '../../src/iommu/iotlb-gather.ts';
import { FrameCounter } from './frame-counter.ts';

/** Read and write. */
export const RW = IommuProt.read | IommuProt.write;
export const EINVAL = -22;
export const ENOMEM = -12;
export const EEXIST = -17;
export const ERANGE = -34;

/** A table with its surroundings. */
export interface PgtableFixture<F extends IoPgtableFormat> {
  readonly table: IoPgtables[F];
  readonly pages: FrameCounter;
  /** `'walk IOVA GRANULES'`, `'page IOVA SIZE xCOUNT'` (IOVA in hexadecimal) and `'all'`. */
  readonly log: string[];
  readonly gather: IotlbGather;
}

/** Builds a table of `format`. */
export function buildPgtable<F extends IoPgtableFormat>(
  format: F,
  config: IoPgtableConfig,
  pages = new FrameCounter(),
): PgtableFixture<F> {
  const log: string[] = [];
  const tlb: IoPgtableTlb = {
    tlbFlushAll: () => void log.push('all'),
    tlbFlushWalk: (at, size, granule) => void log.push(`walk ${at.toString(16)} ${size / granule}`),
    tlbAddPage: (_gather, at, size, count) => void log.push(`page ${at.toString(16)} ${size} x${count}`),
  };
  return { table: allocIoPgtable(format, config, pages, tlb), pages, log, gather: new IotlbGather() };
}

/** Bytes that all leaves map together. */
export function mappedBytes(table: IoPgtable): number {
  return [...table.leaves()].reduce((sum, leaf) => sum + leaf.sizeBytes, 0);
}
