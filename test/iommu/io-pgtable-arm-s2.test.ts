import { describe, expect, it } from 'vitest';
import { iova, physAddr } from '../../src/base/addr.ts';
import { GIB, KIB, MIB } from '../../src/base/units.ts';
import { IommuProt, type IoPgtableConfig, IoPgtableLeaf } from '../../src/iommu/io-pgtable.ts';
import { FrameCounter } from './frame-counter.ts';
import { buildPgtable, EEXIST, ERANGE, RW } from './pgtable-fixture.ts';

const CONFIG: IoPgtableConfig = { pgsizeBitmap: 0x4020_1000, ias: 48, oas: 48, coherentWalk: true, quirks: [] };

function build(config: Partial<IoPgtableConfig> = {}, pages = new FrameCounter()) {
  return buildPgtable('ARM_64_LPAE_S2', { ...CONFIG, ...config }, pages);
}

describe('ARM_64_LPAE_S2 descriptors', () => {
  const rows: readonly [name: string, prot: number, low: number, high: number][] = [
    // type 3 | MemAttr 0101 | S2AP 11 | SH outer | AF
    ['non-cacheable, read and write', RW, 0x6d7, 0],
    // type 3 | MemAttr 1111 | S2AP 01 | SH inner | AF
    ['write-back, read-only', IommuProt.read | IommuProt.cache, 0x77f, 0],
    // type 3 | MemAttr 0001 | S2AP 10 | SH outer | AF, XN above
    ['device, write-only, no fetch', IommuProt.write | IommuProt.mmio | IommuProt.noexec, 0x687, 0x60_0000],
    // Snooping device memory: the type is device, the shareability inner.
    ['device that snoops', RW | IommuProt.mmio | IommuProt.cache, 0x7c7, 0],
    ['privileged, which stage 2 does not know', RW | IommuProt.priv, 0x6d7, 0],
  ];
  it.each(rows)('of a page that is %s', (_name, prot, low, high) => {
    const { table } = build();
    table.mapPages(iova(0x3000), physAddr(0x1_0000_0000), 4096, 1, prot);
    expect([...table.leaves()]).toMatchObject([{ level: 3, low, high: high | 1 }]);
  });

  it('of a block have type 1, and tables no attributes', () => {
    const { table } = build();
    table.mapPages(iova(0), physAddr(2 * MIB), 2 * MIB, 1, RW);
    expect([...table.leaves()]).toMatchObject([{ level: 2, low: 0x20_06d5, high: 0 }]);
    expect(table.dump(iova(0))).toMatch(/level 1 \[0\] 0x1000\w003 table/);
  });

  it('keep rights and memory type when a block is split', () => {
    const { table, gather } = build();
    const prot = IommuProt.write | IommuProt.cache | IommuProt.noexec;
    table.mapPages(iova(GIB), physAddr(4 * GIB), GIB, 1, prot);
    table.unmapPages(iova(GIB), 4096, 1, gather);
    const leaves = [...table.leaves()];
    expect(leaves).toHaveLength(511 + 511);
    for (const { low, high, level } of leaves)
      expect([low & 0xfff, high]).toEqual([level === 3 ? 0x7bf : 0x7bd, 0x60_0001]);
  });
});

describe('ARM_64_LPAE_S2 rights', () => {
  it('tells reading from writing, so that write-only memory cannot be read', () => {
    const { table } = build();
    const leaf = new IoPgtableLeaf();
    for (const prot of [IommuProt.read, IommuProt.write, RW]) {
      table.mapPages(iova(prot * 4096), physAddr(0), 4096, 1, prot);
      table.walk(iova(prot * 4096), leaf);
      expect(leaf.prot).toBe(prot);
    }
  });
});

describe('ARM_64_LPAE_S2 concatenated tables', () => {
  it.each([
    // [granule, ias, start level, pgd bits, SL0]: from a 4-level walk with at most 16 entries on top.
    [4 * KIB, 40, 1, 10, 1],
    [4 * KIB, 43, 1, 13, 1],
    [4 * KIB, 44, 0, 5, 2],
    [4 * KIB, 39, 1, 9, 1],
    [4 * KIB, 31, 1, 1, 1],
    [4 * KIB, 30, 2, 9, 0],
    [4 * KIB, 21, 3, 9, 3],
    [16 * KIB, 48, 1, 12, 2],
    [16 * KIB, 47, 1, 11, 2],
    // 8 entries on top, but not at level 0.
    [16 * KIB, 39, 1, 3, 2],
    [16 * KIB, 36, 2, 11, 1],
    [64 * KIB, 52, 1, 10, 2],
    [64 * KIB, 42, 2, 13, 1],
    [64 * KIB, 29, 3, 13, 0],
  ])('granule %i, ias %i: start level %i with 2^%i entries, SL0 %i', (granule, ias, startLevel, pgdBits, sl) => {
    const { table, pages } = build({ pgsizeBitmap: granule, ias });
    expect(table.geometry).toMatchObject({ startLevel, pgdBits });
    expect(table.registers.vtcr).toMatchObject({ sl, tsz: 64 - ias });
    expect(pages.outstanding).toBe(Math.max(1, (8 * 2 ** pgdBits) / 4096));
    table.free();
    expect(pages.outstanding).toBe(0);
  });

  it('lie in a row in memory, so that the walk takes one step less', () => {
    const { table } = build({ ias: 43 });
    const leaf = new IoPgtableLeaf();
    const far = 15 * 512 * GIB + 7 * GIB;
    table.mapPages(iova(far), physAddr(GIB), GIB, 1, RW);
    expect(table.iovaToPhys(iova(far + 123))).toBe(GIB + 123);
    expect(table.walk(iova(far), leaf)).toBe(true);
    expect([leaf.level, leaf.reads]).toEqual([1, 1]);
    expect(table.dump(iova(far))).toContain('level 1 [7687]');
    table.mapPages(iova(far + GIB), physAddr(0x5000), 4096, 1, RW);
    expect(table.iovaToPhys(iova(far + GIB + 5))).toBe(0x5005);
    table.check();
  });

  it('each end a run, as any table does', () => {
    const { table, gather } = build({ ias: 41 });
    const border = 512 * GIB;
    expect(table.mapPages(iova(border - 2 * GIB), physAddr(0), GIB, 5, RW)).toBe(0);
    expect(table.mapped).toBe(2 * GIB);
    expect(table.mapPages(iova(border), physAddr(2 * GIB), GIB, 3, RW)).toBe(0);
    expect(table.unmapPages(iova(border - 2 * GIB), GIB, 5, gather)).toBe(2 * GIB);
    expect(table.unmapPages(iova(border), GIB, 5, gather)).toBe(3 * GIB);
    expect([...table.leaves()]).toEqual([]);
  });
});

describe('ARM_64_LPAE_S2 configuration', () => {
  it('reports VTCR for a walk that snoops and one that does not', () => {
    expect(build().table.registers).toEqual({
      kind: 'arm-lpae-s2',
      vtcr: { ps: 5, tg: 0, sh: 3, orgn: 1, irgn: 1, sl: 2, tsz: 16 },
    });
    const { vtcr } = build({ coherentWalk: false, pgsizeBitmap: 0x1_0000, ias: 52, oas: 52 }).table.registers;
    expect(vtcr).toEqual({ ps: 6, tg: 1, sh: 2, orgn: 0, irgn: 0, sl: 2, tsz: 12 });
    expect(build({ pgsizeBitmap: 0x4000, oas: 36 }).table.registers.vtcr).toMatchObject({ ps: 1, tg: 2 });
  });

  it('refuses every quirk and sizes that it cannot do', () => {
    for (const quirk of ['ARM_NS', 'NO_PERMS', 'ARM_TTBR1', 'ARM_OUTER_WBWA', 'ARM_MTK_EXT'] as const)
      expect(() => build({ quirks: [quirk] }), quirk).toThrow(/ARM_64_LPAE_S2: quirk/);
    expect(() => build({ oas: 41 })).toThrow(/EINVAL/);
    expect(() => build({ pgsizeBitmap: 0x20_0000 })).toThrow(/EINVAL/);
  });

  it('answers ENOMEM and takes nothing when there are no pages in a row for the top', () => {
    const pages = new FrameCounter(7);
    expect(() => build({ ias: 42 }, pages)).toThrow(/ENOMEM/);
    expect(pages.outstanding).toBe(0);
  });

  it('refuses addresses outside ias and oas, and what is mapped', () => {
    const { table } = build({ ias: 42, oas: 36 });
    expect(table.mapPages(iova(2 ** 42), physAddr(0), 4096, 1, RW)).toBe(ERANGE);
    expect(table.mapPages(iova(0), physAddr(2 ** 36), 4096, 1, RW)).toBe(ERANGE);
    expect(table.mapPages(iova(0), physAddr(0), GIB, 1, RW)).toBe(0);
    expect(table.mapPages(iova(4096), physAddr(0), 4096, 1, RW)).toBe(EEXIST);
    expect(table.warnings).toBe(3);
  });
});
