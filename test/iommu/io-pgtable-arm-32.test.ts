import { describe, expect, it } from 'vitest';
import { iova, physAddr } from '../../src/base/addr.ts';
import { GIB, MIB } from '../../src/base/units.ts';
import { IommuProt, type IoPgtableConfig } from '../../src/iommu/io-pgtable.ts';
import { buildPgtable, EINVAL, ERANGE, RW } from './pgtable-fixture.ts';

const CONFIG: IoPgtableConfig = { pgsizeBitmap: 0x4020_1000, ias: 32, oas: 40, coherentWalk: true, quirks: [] };
const FORMATS = ['ARM_32_LPAE_S1', 'ARM_32_LPAE_S2'] as const;

describe.each(FORMATS)('%s', (format) => {
  const build = (config: Partial<IoPgtableConfig> = {}) => buildPgtable(format, { ...CONFIG, ...config });

  it('starts at level 1 with four gigabyte entries', () => {
    const { table, pages } = build();
    expect(table.geometry).toMatchObject({ startLevel: 1, pgdBits: 2, bitsPerLevel: 9, granuleBytes: 4096 });
    expect(pages.outstanding).toBe(1);
    expect(table.mapPages(iova(3 * GIB), physAddr(2 ** 40 - GIB), GIB, 1, RW)).toBe(0);
    expect(table.iovaToPhys(iova(2 ** 32 - 1))).toBe(2 ** 40 - 1);
  });

  it('refuses more than 32 bits of input or 40 of output, and page sizes without 4 KiB', () => {
    expect(() => build({ ias: 33 })).toThrow(/EINVAL: ARM_32_LPAE_S\d: ias 33 exceeds 32 bits/);
    expect(() => build({ oas: 41 })).toThrow(/EINVAL: ARM_32_LPAE_S\d: oas 41 exceeds 40 bits/);
    expect(() => build({ pgsizeBitmap: 0x2000_4000 })).toThrow(/EINVAL/);
    expect(() => build({ pgsizeBitmap: 0x2001_0000 })).toThrow(/EINVAL/);
    expect(() => build({ quirks: ['NO_PERMS'] })).toThrow(/EINVAL/);
  });

  it('keeps only the sizes of the 4 KiB granule, also where the 64-bit format would choose another granule', () => {
    expect(build({ pgsizeBitmap: 0x6221_5000 }).table.pgsizeBitmap).toBe(0x4020_1000);
    expect(build({ pgsizeBitmap: 0x2000_5000 }).table.pgsizeBitmap).toBe(0x1000);
  });

  it('maps to the last byte of 32 and 40 bits, and no further', () => {
    const { table } = build();
    expect(table.mapPages(iova(2 ** 32), physAddr(0), 4096, 1, RW)).toBe(ERANGE);
    expect(table.mapPages(iova(0), physAddr(2 ** 40), 4096, 1, RW)).toBe(ERANGE);
    expect(table.mapPages(iova(0), physAddr(0), 0x1_0000, 1, RW)).toBe(EINVAL);
    expect(table.mapPages(iova(2 ** 32 - 4096), physAddr(2 ** 40 - 4096), 4096, 1, RW)).toBe(0);
    expect([...table.leaves()]).toMatchObject([{ iova: 2 ** 32 - 4096, phys: 2 ** 40 - 4096, high: 0xff }]);
  });
});

describe('ARM_32_LPAE_S1', () => {
  it('has the descriptors and registers of ARM_64_LPAE_S1', () => {
    const config = { ...CONFIG, oas: 36, quirks: ['ARM_NS'] as const };
    const narrow = buildPgtable('ARM_32_LPAE_S1', config).table;
    const wide = buildPgtable('ARM_64_LPAE_S1', config).table;
    expect(narrow.registers).toEqual(wide.registers);
    expect(narrow.registers.tcr).toEqual({ ips: 1, tg: 0, sh: 3, orgn: 1, irgn: 1, tsz: 32 });
    narrow.mapPages(iova(0x5000), physAddr(0x3_0000_7000), 4096, 1, IommuProt.read | IommuProt.noexec);
    // type 3 | NS | AP[1] | AP[2] | SH outer | AF | nG, execute-never above.
    expect([...narrow.leaves()]).toMatchObject([{ level: 3, low: 0x7ee3, high: 0x60_0003 }]);
  });

  it('translates negative addresses with ARM_TTBR1', () => {
    const { table } = buildPgtable('ARM_32_LPAE_S1', { ...CONFIG, quirks: ['ARM_TTBR1'] });
    expect(table.mapPages(iova(-4096), physAddr(0x8000), 4096, 1, RW)).toBe(0);
    expect(table.iovaToPhys(iova(-1))).toBe(0x8fff);
    expect(table.registers.tcr.tg).toBe(2);
  });
});

describe('ARM_32_LPAE_S2', () => {
  it('has the descriptors and registers of ARM_64_LPAE_S2', () => {
    const { table } = buildPgtable('ARM_32_LPAE_S2', CONFIG);
    expect(table.registers.vtcr).toEqual({ ps: 2, tg: 0, sh: 3, orgn: 1, irgn: 1, sl: 1, tsz: 32 });
    table.mapPages(iova(0), physAddr(0x20_0000), 2 * MIB, 1, IommuProt.read | IommuProt.cache);
    expect([...table.leaves()]).toMatchObject([{ level: 2, low: 0x20_077d, high: 0 }]);
    expect(() => buildPgtable('ARM_32_LPAE_S2', { ...CONFIG, quirks: ['ARM_NS'] })).toThrow(/EINVAL/);
  });
});
