import { describe, expect, it } from 'vitest';
import { iova, physAddr } from '../../src/base/addr.ts';
import { GIB, MIB } from '../../src/base/units.ts';
import { IommuProt, type IoPgtableConfig, IoPgtableLeaf } from '../../src/iommu/io-pgtable.ts';
import { buildPgtable, EEXIST, ERANGE, RW } from './pgtable-fixture.ts';

const CONFIG: IoPgtableConfig = { pgsizeBitmap: 0x4020_1000, ias: 39, oas: 40, coherentWalk: true, quirks: [] };

function build(config: Partial<IoPgtableConfig> = {}) {
  return buildPgtable('ARM_MALI_LPAE', { ...CONFIG, ...config });
}

describe('ARM_MALI_LPAE descriptors', () => {
  const rows: readonly [name: string, prot: number, low: number, high: number][] = [
    // type 1 | AttrIndx 0 | read, write | SH outer; no AF
    ['non-cacheable, read and write', RW, 0x2c1, 0],
    // type 1 | AttrIndx 1 | read | SH outer, though it snoops
    ['cacheable, read-only', IommuProt.read | IommuProt.cache, 0x245, 0],
    ['device, write-only, no fetch', IommuProt.write | IommuProt.mmio | IommuProt.noexec, 0x289, 0x60_0000],
    ['privileged, which it does not know', RW | IommuProt.priv, 0x2c1, 0],
  ];
  it.each(rows)('of a page that is %s', (_name, prot, low, high) => {
    const { table } = build();
    table.mapPages(iova(0x3000), physAddr(0x1_0000_0000), 4096, 1, prot);
    expect([...table.leaves()]).toMatchObject([{ level: 3, low, high: high | 1 }]);
  });

  it('have type 1 in pages that a split makes, too', () => {
    const { table, gather } = build();
    table.mapPages(iova(0), physAddr(2 * MIB), 2 * MIB, 1, RW);
    expect(table.unmapPages(iova(4096), 4096, 1, gather)).toBe(4096);
    const leaves = [...table.leaves()];
    expect(leaves).toHaveLength(511);
    expect(new Set(leaves.map((leaf) => leaf.low & 0xfff))).toEqual(new Set([0x2c1]));
    expect(table.iovaToPhys(iova(0x2345))).toBe(2 * MIB + 0x2345);
    table.check();
  });
});

describe('ARM_MALI_LPAE walk', () => {
  it('has four levels whatever the input size, the first with one entry below 40 bits', () => {
    const { table, pages } = build();
    expect(table.geometry).toMatchObject({ startLevel: 0, pgdBits: 0 });
    expect(pages.outstanding).toBe(1);
    const leaf = new IoPgtableLeaf();
    const last = 2 ** 39 - 4096;
    table.mapPages(iova(last), physAddr(0x7000), 4096, 1, RW);
    expect(table.walk(iova(last + 9), leaf)).toBe(true);
    expect({ ...leaf }).toEqual({ phys: 0x7009, sizeBytes: 4096, prot: RW, level: 3, reads: 4 });
    expect(table.tablePages).toBe(3);
    expect(table.dump(iova(last)).split('\n')[1]).toMatch(/level 0 \[0\] 0x1000\w003 table/);
    expect(table.mapPages(iova(2 ** 39), physAddr(0), 4096, 1, RW)).toBe(ERANGE);
  });

  it('uses level 0 in full when the input is wide', () => {
    expect(build({ ias: 48 }).table.geometry).toMatchObject({ startLevel: 0, pgdBits: 9 });
    const { table } = build({ ias: 40 });
    expect(table.geometry).toMatchObject({ startLevel: 0, pgdBits: 1 });
    table.mapPages(iova(600 * GIB), physAddr(0), GIB, 1, RW);
    expect(table.iovaToPhys(iova(600 * GIB + 5))).toBe(5);
    expect(table.mapPages(iova(600 * GIB + MIB), physAddr(0), 4096, 1, RW)).toBe(EEXIST);
  });
});

describe('ARM_MALI_LPAE configuration', () => {
  it('reports MEMATTR and the flags of TRANSTAB', () => {
    // Index 0 and 2 as the GPU says, 1 write-back; table mode, read inner, and share outer when walks snoop.
    expect(build().table.registers).toEqual({ kind: 'arm-mali-lpae', memattr: 0x888d88, transtabFlags: 0x17 });
    expect(build({ coherentWalk: false }).table.registers.transtabFlags).toBe(0x07);
  });

  it('refuses quirks, more than 48 bits of input or 40 of output, and page sizes without 4 KiB', () => {
    for (const quirk of ['ARM_NS', 'ARM_TTBR1', 'NO_PERMS'] as const)
      expect(() => build({ quirks: [quirk] }), quirk).toThrow(/ARM_MALI_LPAE: quirk/);
    expect(() => build({ ias: 49 })).toThrow(/ias 49 exceeds 48/);
    expect(() => build({ oas: 41 })).toThrow(/oas 41 exceeds 40/);
    expect(() => build({ pgsizeBitmap: 0x4000 })).toThrow(/EINVAL/);
  });

  it('takes any output size up to 40 bits, since no register says it', () => {
    expect(build({ oas: 33 }).table.oas).toBe(33);
  });
});
