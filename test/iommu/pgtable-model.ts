/** Page tables against a `Map` of pages: any sequence of maps and unmaps must translate alike and give every table page back. */
import fc from 'fast-check';
import { expect } from 'vitest';
import { iova, physAddr } from '../../src/base/addr.ts';
import type { IoPgtableFormat } from '../../src/iommu/alloc-io-pgtable.ts';
import type { IoPgtable, IoPgtableConfig } from '../../src/iommu/io-pgtable.ts';
import { buildPgtable, RW } from './pgtable-fixture.ts';

/** Where and with what a format is tried. */
export interface ModelledRegion {
  readonly format: IoPgtableFormat;
  readonly config: IoPgtableConfig;
  readonly granuleBytes: number;
  /** A block holds this many granules. */
  readonly pagesPerBlock: number;
  /** First address: {@link REGION_BLOCKS} blocks from here on are in use. A table should end among them. */
  readonly base: number;
}

/** Blocks that a mapping may start in, and that it may have. */
const START_BLOCKS = 6;
const MAX_BLOCKS = 4;
const REGION_BLOCKS = START_BLOCKS + MAX_BLOCKS;

/** Runs `numRuns` random sequences on an LPAE format. */
export function expectMapModel(region: ModelledRegion, numRuns: number): void {
  const { pagesPerBlock } = region;
  const mapping = fc.record({
    kind: fc.constant('map' as const),
    block: fc.boolean(),
    page: fc.nat(START_BLOCKS * pagesPerBlock - 1),
    count: fc.integer({ min: 1, max: 40 }),
    frame: fc.integer({ min: pagesPerBlock, max: 2 ** 32 / region.granuleBytes }),
  });
  const unmapping = fc.record({
    kind: fc.constant('unmap' as const),
    pick: fc.nat(REGION_BLOCKS * pagesPerBlock - 1),
    count: fc.integer({ min: 1, max: 30 }),
  });
  fc.assert(
    fc.property(fc.array(fc.oneof(mapping, unmapping), { maxLength: 40 }), (steps) => {
      const { format, config, granuleBytes, base } = region;
      const { table, pages, gather } = buildPgtable(format, config);
      const model = new Map<number, number>();
      const at = (page: number, offset = 0) => iova(base + page * granuleBytes + offset);
      for (const step of steps) {
        if (step.kind === 'map') {
          const each = step.block ? pagesPerBlock : 1;
          const first = Math.floor(step.page / each) * each;
          const frame = Math.floor(step.frame / each) * each;
          const count = step.block ? 1 + (step.count % MAX_BLOCKS) : step.count;
          const room = step.block ? count : Math.min(count, pagesPerBlock - (first % pagesPerBlock));
          const isFree = Array.from({ length: room * each }, (_, i) => !model.has(first + i)).every(Boolean);
          const ret = table.mapPages(at(first), physAddr(frame * granuleBytes), each * granuleBytes, count, RW);
          // A block may replace a table, mapped pages in it included; a page never replaces anything.
          if (ret === 0) {
            for (let i = 0; i < table.mapped / granuleBytes; i++) model.set(first + i, frame + i);
            if (!step.block) expect(isFree).toBe(true);
          } else {
            expect(isFree).toBe(false);
            dropFreedTables(model, (page) => table.iovaToPhys(at(page)));
          }
        } else if (model.size > 0) {
          let first = step.pick;
          while (!model.has(first)) first = (first + 1) % (REGION_BLOCKS * pagesPerBlock);
          let count = 0;
          while (count < step.count && model.has(first + count)) count++;
          let done = 0;
          while (done < count) {
            const bytes = table.unmapPages(at(first + done), granuleBytes, count - done, gather);
            expect(bytes).toBeGreaterThan(0);
            done += bytes / granuleBytes;
          }
          for (let i = 0; i < count; i++) model.delete(first + i);
        }
        table.check();
      }
      for (let page = 0; page < REGION_BLOCKS * pagesPerBlock; page += 7) {
        const frame = model.get(page);
        expect(table.iovaToPhys(at(page, 12))).toBe(frame === undefined ? 0 : frame * granuleBytes + 12);
      }
      expect(mappedBytes(table)).toBe(model.size * granuleBytes);
      table.free();
      expect(pages.outstanding).toBe(0);
    }),
    { numRuns },
  );
}

/** Bytes that all leaves map together. */
export function mappedBytes(table: IoPgtable): number {
  return [...table.leaves()].reduce((sum, leaf) => sum + leaf.sizeBytes, 0);
}

/** A failed block mapping may have replaced tables in front of the conflict; takes what no longer translates out of the model. */
function dropFreedTables(model: Map<number, number>, translate: (page: number) => number): void {
  for (const page of [...model.keys()]) if (translate(page) === 0) model.delete(page);
}
