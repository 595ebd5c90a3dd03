import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { iova, physAddr } from '../../src/base/addr.ts';
import { GIB, MIB } from '../../src/base/units.ts';
import { IommuProt, type IoPgtableConfig, IoPgtableLeaf } from '../../src/iommu/io-pgtable.ts';
import { FrameCounter } from './frame-counter.ts';
import { buildPgtable, EINVAL, ENOMEM, ERANGE, RW } from './pgtable-fixture.ts';
import { VtdReference } from './vtd-reference.ts';

const CONFIG: IoPgtableConfig = { pgsizeBitmap: 0x4020_1000, ias: 48, oas: 48, coherentWalk: true, quirks: [] };
const EFAULT = -14;
/** Random programs; 50 times as many with DMABUF_SIM_RUNS=50. */
const RUNS = 200 * Number(process.env['DMABUF_SIM_RUNS'] ?? 1);

function build(config: Partial<IoPgtableConfig> = {}, pages = new FrameCounter()) {
  return buildPgtable('INTEL_VTD_S2', { ...CONFIG, ...config }, pages);
}

describe('INTEL_VTD_S2 descriptors', () => {
  it('have the write bit only with the right to write, and the read bit always', () => {
    const { table } = build();
    table.mapPages(iova(0x1000), physAddr(0x5_0000_2000), 4096, 1, IommuProt.read);
    table.mapPages(iova(0x2000), physAddr(0x3000), 4096, 1, IommuProt.write);
    table.mapPages(iova(0x3000), physAddr(0x4000), 4096, 1, RW | IommuProt.cache | IommuProt.mmio | IommuProt.noexec);
    expect([...table.leaves()].map(({ low, high }) => [low, high])).toEqual([
      [0x2001, 5],
      [0x3003, 0],
      [0x4003, 0],
    ]);
    table.check();
  });

  it('of superpages have bit 7, and tables name the next table with both rights', () => {
    const { table } = build();
    table.mapPages(iova(2 * MIB), physAddr(4 * MIB), 2 * MIB, 1, IommuProt.read);
    table.mapPages(iova(GIB), physAddr(8 * GIB), GIB, 1, RW);
    expect([...table.leaves()].map(({ level, low, high }) => [level, low, high])).toEqual([
      [2, 0x40_0081, 0],
      [1, 0x83, 2],
    ]);
    expect(table.dump(iova(2 * MIB))).toMatch(/level 0 \[0\] 0x1000\w003 table.*\n.*level 1 \[0\] 0x1000\w003 table/);
  });

  it('force snooping when the domain has to be coherent whatever the device asks for', () => {
    const { table } = build({ quirks: ['VTD_FORCE_SNOOP'] });
    table.mapPages(iova(0), physAddr(0x1000), 4096, 1, RW);
    expect([...table.leaves()]).toMatchObject([{ low: 0x1803 }]);
  });

  it('let the device read what was mapped for writing only', () => {
    const { table } = build();
    const leaf = new IoPgtableLeaf();
    table.mapPages(iova(0), physAddr(0x1000), 4096, 1, IommuProt.write);
    expect([table.walk(iova(0x10), leaf), leaf.prot, leaf.phys, leaf.reads]).toEqual([true, RW, 0x1010, 4]);
  });
});

describe('INTEL_VTD_S2 shape', () => {
  it.each([
    [39, 1, 1],
    [48, 2, 0],
  ])('of %s bits says %s in the context entry and is walked from level %s', (ias, addressWidth, startLevel) => {
    const { table, pages } = build({ ias });
    expect([table.registers.addressWidth, table.geometry.startLevel, pages.outstanding]).toEqual([
      addressWidth,
      startLevel,
      1,
    ]);
    const last = iova(2 ** ias - 4096);
    expect(table.mapPages(last, physAddr(0x9000), 4096, 1, RW)).toBe(0);
    expect(table.iovaToPhys(iova(2 ** ias - 1))).toBe(0x9fff);
    expect(table.iovaToPhys(iova(2 ** ias + 2 ** ias - 1))).toBe(0);
    expect(table.mapPages(last, physAddr(0x9000), 4096, 2, RW)).toBe(EFAULT);
    expect(table.warnings).toBe(0);
  });

  it.each<readonly [string, Partial<IoPgtableConfig>]>([
    ['pages of another size only', { pgsizeBitmap: 0x1_0000 }],
    ['five levels', { ias: 57 }],
    ['one level', { ias: 21 }],
    ['a quirk of another format', { quirks: ['ARM_NS'] }],
  ])('is refused for %s', (_name, config) => {
    const pages = new FrameCounter();
    expect(() => build(config, pages)).toThrow(/EINVAL: INTEL_VTD_S2/);
    expect(pages.outstanding).toBe(0);
  });
});

describe('INTEL_VTD_S2 mapping', () => {
  it('keeps a page that is mapped, warns for each and succeeds', () => {
    const { table } = build();
    table.mapPages(iova(0x2000), physAddr(0x8_2000), 4096, 2, RW);
    expect(table.mapPages(iova(0x1000), physAddr(0x1000), 4096, 4, RW)).toBe(0);
    expect([table.mapped, table.warnings]).toEqual([0x4000, 2]);
    expect([0x1000, 0x2000, 0x3000, 0x4000].map((at) => table.iovaToPhys(iova(at)))).toEqual([
      0x1000, 0x8_2000, 0x8_3000, 0x4000,
    ]);
  });

  it('goes on across tables in one call', () => {
    const { table } = build();
    expect(table.mapPages(iova(GIB - 8192), physAddr(0x7000), 4096, 4, RW)).toBe(0);
    expect([table.mapped, table.iovaToPhys(iova(GIB + 4100))]).toEqual([0x4000, 0xa004]);
  });

  it('puts a superpage in the place of a table, and tells before it frees it', () => {
    const { table, pages, log } = build();
    table.mapPages(iova(0x5000), physAddr(0x5000), 4096, 1, RW);
    expect(table.tablePages).toBe(3);
    expect(table.mapPages(iova(0), physAddr(4 * MIB), 2 * MIB, 1, RW)).toBe(0);
    expect([table.tablePages, pages.outstanding, table.iovaToPhys(iova(0x5000))]).toEqual([2, 3, 4 * MIB + 0x5000]);
    expect(log).toEqual(['walk 0 512']);
    table.check();
  });

  it('refuses what it cannot do and leaves what is mapped alone', () => {
    const { table } = build({ oas: 40 });
    table.mapPages(iova(0x1000), physAddr(0x9000), 4096, 1, RW);
    expect(table.mapPages(iova(0x1000), physAddr(0), 4096, 1, IommuProt.mmio)).toBe(EINVAL);
    expect(table.mapPages(iova(0), physAddr(0), 0x1_0000, 1, RW)).toBe(EINVAL);
    expect(table.mapPages(iova(0), physAddr(2 ** 40 - 4096), 4096, 2, RW)).toBe(ERANGE);
    expect(table.mapPages(iova(2 ** 48), physAddr(0), 4096, 1, 0)).toBe(EFAULT);
    expect([...table.leaves()].map((leaf) => leaf.phys)).toEqual([0x9000]);
  });

  it('writes no page at all when there is no memory for one of the tables', () => {
    const { table, pages } = build();
    table.mapPages(iova(0), physAddr(0), 4096, 1, RW);
    pages.limit = pages.outstanding + 1;
    expect(table.mapPages(iova(2 * MIB - 4096), physAddr(0x8000), 4096, 1024, RW)).toBe(ENOMEM);
    expect([table.mapped, [...table.leaves()].length]).toEqual([0, 1]);
    table.check();
    table.free();
    expect(pages.outstanding).toBe(0);
  });
});

describe('INTEL_VTD_S2 unmapping', () => {
  it('removes and reports the whole superpage for a part of it', () => {
    const { table, gather, log } = build();
    table.mapPages(iova(GIB), physAddr(4 * GIB), GIB, 1, RW);
    expect(table.unmapPages(iova(GIB), 4096, 3, gather)).toBe(GIB);
    expect([...table.leaves()]).toEqual([]);
    expect(log).toEqual([`page 40000000 ${GIB} x1`]);
  });

  it('counts a hole as unmapped as long as its table exists', () => {
    const { table, gather } = build();
    table.mapPages(iova(0x3000), physAddr(0x3000), 4096, 1, RW);
    expect(table.unmapPages(iova(0x1000), 4096, 2, gather)).toBe(0x2000);
    expect(table.unmapPages(iova(0x2000), 4096, 8, gather)).toBe(0x8000);
    expect([table.tablePages, table.warnings, [...table.leaves()].length]).toEqual([3, 0, 0]);
  });

  it('unlinks tables that the range covers, which go back only when the gather lets go', () => {
    const { table, pages, gather } = build();
    table.mapPages(iova(0), physAddr(0), 4096, 1024, RW);
    expect([table.tablePages, pages.outstanding]).toEqual([4, 5]);
    expect(table.unmapPages(iova(0), 4096, 600, gather)).toBe(600 * 4096);
    expect([table.tablePages, pages.outstanding, gather.hasTables]).toEqual([3, 5, true]);
    table.check();
    const tables = gather.takeTables();
    expect([gather.hasTables, pages.outstanding]).toEqual([false, 5]);
    tables?.release();
    tables?.release();
    expect(pages.outstanding).toBe(4);
  });

  it('would clear up to 512 GiB where no table leads, so it says so and changes nothing', () => {
    const { table, gather } = build();
    table.mapPages(iova(0), physAddr(0), 4096, 1, RW);
    expect(table.unmapSpan(iova(2 ** 39), 4096)).toBe(-1);
    expect(table.unmapPages(iova(4 * MIB), 4096, 1, gather)).toBe(0);
    expect(table.unmapPages(iova(2 ** 48 - 4096), 4096, 2, gather)).toBe(0);
    expect([table.warnings, [...table.leaves()].length, gather.pgsize]).toEqual([2, 1, 0]);
    // Not more than asked for: harmless.
    expect(table.unmapPages(iova(4 * MIB), 2 * MIB, 1, gather)).toBe(2 * MIB);
  });

  it('would clear a superpage that it covers in part, so it says so and changes nothing', () => {
    const { table, gather } = build();
    table.mapPages(iova(2 * MIB), physAddr(0), 2 * MIB, 1, RW);
    table.mapPages(iova(2 * MIB - 4096), physAddr(0), 4096, 1, RW);
    expect(table.unmapPages(iova(2 * MIB + 4096), 4096, 1, gather)).toBe(0);
    expect(table.unmapPages(iova(2 * MIB - 4096), 4096, 2, gather)).toBe(0);
    expect([...table.leaves()].length).toBe(2);
    expect(table.unmapPages(iova(2 * MIB - 4096), 4096, 513, gather)).toBe(2 * MIB + 4096);
  });
});

describe('INTEL_VTD_S2 against a model', () => {
  const pageBytes = fc.constantFrom(4096, 4096, 4096, 2 * MIB, GIB);
  const step = fc.record({
    isMap: fc.boolean(),
    pgsize: pageBytes,
    // Around the border of two tables at each level, and anywhere in the first.
    page: fc.oneof(
      fc.nat(64),
      fc.integer({ min: -6, max: 6 }).map((n) => n + 512),
      fc.nat(1100),
    ),
    block: fc.nat(3),
    count: fc.oneof(fc.integer({ min: 1, max: 12 }), fc.constantFrom(511, 512, 513, 1024)),
    frame: fc.nat(2 ** 16),
    writes: fc.boolean(),
  });

  it('translates, warns, unmaps and keeps tables alike, and gives every page back', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
        const { table, pages, gather } = build();
        const model = new VtdReference();
        const touched: number[] = [];
        for (const { isMap, pgsize, page, block, count, frame, writes } of steps) {
          const pgcount = pgsize === GIB ? 1 + (count % 2) : pgsize === 2 * MIB ? 1 + (count % 5) : count;
          const at = pgsize === GIB ? block * GIB : (page % (GIB / pgsize)) * pgsize + Math.floor(block / 2) * GIB;
          touched.push(at, at + pgsize * pgcount - 1, at + Math.floor(pgcount / 2) * pgsize + 12);
          if (isMap) {
            const phys = frame * pgsize;
            const isClear = model.map(at, phys, pgsize, pgcount, writes);
            expect(table.hasLargerLeaf(iova(at), pgsize * pgcount)).toBe(!isClear);
            if (!isClear) continue;
            const prot = writes ? RW : IommuProt.read;
            expect(table.mapPages(iova(at), physAddr(phys), pgsize, pgcount, prot)).toBe(0);
            expect(table.warnings).toBe(model.warnings);
          } else {
            const span = model.unmap(at, pgsize * pgcount);
            const expected = span === 'no table' ? -1 : span === 'inside a leaf' ? -2 : span;
            expect(table.unmapSpan(iova(at), pgsize * pgcount)).toBe(expected);
            if (typeof span === 'string') continue;
            expect(table.unmapPages(iova(at), pgsize, pgcount, gather)).toBe(span);
          }
          expect(table.tablePages).toBe(model.tables);
        }
        table.check();
        const leaf = new IoPgtableLeaf();
        for (const at of touched) {
          const found = table.walk(iova(at), leaf) ? { phys: leaf.phys, writes: leaf.prot === RW } : null;
          expect(found).toEqual(model.translate(at));
          expect(table.iovaToPhys(iova(at))).toBe(found?.phys ?? 0);
        }
        gather.releaseTables();
        expect(pages.outstanding).toBe(1 + table.tablePages);
        table.free();
        expect(pages.outstanding).toBe(0);
      }),
      { numRuns: RUNS },
    );
  }, 300_000);
});
