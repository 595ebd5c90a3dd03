import { describe, expect, it } from 'vitest';
import { iova, pfn, physAddr } from '../../src/base/addr.ts';
import { GIB, KIB, MIB } from '../../src/base/units.ts';
import { IommuProt, type IoPgtableConfig, IoPgtableLeaf, type TablePages } from '../../src/iommu/io-pgtable.ts';
import { IotlbGather } from '../../src/iommu/iotlb-gather.ts';
import { FrameCounter } from './frame-counter.ts';
import { buildPgtable, EEXIST, EINVAL, ENOMEM, ERANGE, mappedBytes, RW } from './pgtable-fixture.ts';

const CONFIG: IoPgtableConfig = { pgsizeBitmap: 0x111_1000, ias: 32, oas: 32, coherentWalk: true, quirks: [] };
const MTK = { quirks: ['ARM_MTK_EXT', 'NO_PERMS'], ias: 34, oas: 35 } as const;

function build(config: Partial<IoPgtableConfig> = {}, pages = new FrameCounter()) {
  return buildPgtable('ARM_V7S', { ...CONFIG, ...config }, pages);
}

describe('ARM_V7S descriptors', () => {
  const { read, write, cache, noexec, mmio, priv } = IommuProt;
  const rows: readonly [name: string, pgsize: number, prot: number, bits: number][] = [
    // type 10 | AP[0], AP[1] | TEX[0] | S | nG
    ['small page, read and write', 4 * KIB, RW, 0xc72],
    ['small page, write-back', 4 * KIB, RW | cache, 0xc7e],
    ['small page, read-only: AP[2]', 4 * KIB, read, 0xe72],
    ['small page, write-only, which AP cannot say', 4 * KIB, write, 0xc72],
    ['small page, privileged, no fetch', 4 * KIB, RW | priv | noexec, 0xc53],
    ['small page, device: B without TEX', 4 * KIB, RW | mmio, 0xc36],
    // type 01, TEX[0] in bit 12, XN in bit 15
    ['large page, read and write', 64 * KIB, RW, 0x1c31],
    ['large page, read-only, no fetch', 64 * KIB, read | noexec, 0x9e31],
    // type 10 | AP[0], AP[1] at 11..10 | TEX[0] at 12 | S at 16 | nG at 17
    ['section, read and write', MIB, RW, 0x3_1c02],
    ['section, write-back, read-only, no fetch', MIB, read | cache | noexec, 0x3_9c1e],
    ['section, device, privileged', MIB, RW | mmio | priv, 0x3_0406],
    ['supersection: bit 18', 16 * MIB, RW, 0x7_1c02],
  ];
  it.each(rows)('of a %s', (_name, pgsize, prot, bits) => {
    const { table } = build();
    expect(table.mapPages(iova(5 * pgsize), physAddr(7 * pgsize), pgsize, 1, prot)).toBe(0);
    const level = pgsize >= MIB ? 1 : 2;
    const leaf = { iova: 5 * pgsize, level, sizeBytes: pgsize, phys: 7 * pgsize, low: 7 * pgsize + bits, high: 0 };
    expect([...table.leaves()]).toEqual([leaf]);
    table.check();
  });

  it('carry NS in sections, and in the tables of pages', () => {
    const { table } = build({ quirks: ['ARM_NS'] });
    table.mapPages(iova(0), physAddr(0), MIB, 1, RW);
    table.mapPages(iova(MIB), physAddr(0x5000), 4096, 1, RW);
    expect([...table.leaves()].map((leaf) => leaf.low)).toEqual([0xb_1c02, 0x5c72]);
    expect(table.dump(iova(MIB)).split('\n')[1]).toMatch(/level 1 \[1\] 0x\w+009 table/);
  });

  it('have neither AP nor XN with NO_PERMS, and allow everything then', () => {
    const { table } = build({ quirks: ['NO_PERMS'] });
    const leaf = new IoPgtableLeaf();
    table.mapPages(iova(0), physAddr(0), 4096, 1, read | noexec | priv);
    table.mapPages(iova(MIB), physAddr(0), MIB, 1, read | noexec);
    expect([...table.leaves()].map((each) => each.low)).toEqual([0xc42, 0x3_1002]);
    expect(table.walk(iova(0), leaf)).toBe(true);
    expect(leaf.prot).toBe(RW);
  });

  it('hold address bits 32, 33 and 34 in bits 9, 4 and 5 for MediaTek', () => {
    const { table } = build(MTK);
    const at = (phys: number, pgsize: number) => {
      expect(table.mapPages(iova(3 * GIB + phys), physAddr(phys), pgsize, 1, RW)).toBe(0);
      expect(table.iovaToPhys(iova(3 * GIB + phys + 0x123))).toBe(phys + 0x123);
      return [...table.leaves()].at(-1)?.low;
    };
    expect(at(0x1_1234_5000, 4096)).toBe(0x1234_5e42);
    expect(at(0x2_1234_0000, 64 * KIB)).toBe(0x1234_1c11);
    expect(table.mapPages(iova(0), physAddr(0x7_f120_0000), MIB, 1, RW)).toBe(0);
    expect([...table.leaves()][0]?.low).toBe(0xf123_1232);
    expect(table.iovaToPhys(iova(0xf_ffff))).toBe(0x7_f12f_ffff);
  });
});

describe('ARM_V7S map', () => {
  it('goes on over the borders of tables in one call', () => {
    const { table } = build();
    expect(table.mapPages(iova(0xff_e000), physAddr(0x8000), 4096, 260, RW)).toBe(0);
    expect([table.mapped, table.tablePages]).toEqual([260 * 4096, 3]);
    expect(table.iovaToPhys(iova(0xff_e000 + 259 * 4096))).toBe(0x8000 + 259 * 4096);
  });

  it('keeps what it mapped before the page that is taken, and warns', () => {
    const { table } = build();
    table.mapPages(iova(0x5000), physAddr(0), 4096, 1, RW);
    expect(table.mapPages(iova(0x3000), physAddr(0x8000), 4096, 4, RW)).toBe(EEXIST);
    expect([table.mapped, table.warnings, [...table.leaves()].length]).toEqual([2 * 4096, 1, 3]);
  });

  it('refuses a page in a section, and a large page with one page taken', () => {
    const { table } = build();
    table.mapPages(iova(0), physAddr(0), MIB, 1, RW);
    expect(table.mapPages(iova(0x1000), physAddr(0), 4096, 1, RW)).toBe(EEXIST);
    table.mapPages(iova(MIB + 0xf000), physAddr(0), 4096, 1, RW);
    expect(table.mapPages(iova(MIB), physAddr(0), 64 * KIB, 1, RW)).toBe(EEXIST);
    expect(mappedBytes(table)).toBe(MIB + 4096);
  });

  it('frees the tables under a section or supersection, and flushes each walk', () => {
    const { table, log } = build();
    for (const at of [17, 20]) table.mapPages(iova(at * MIB), physAddr(0), 4096, 2, RW);
    expect(table.mapPages(iova(16 * MIB), physAddr(32 * MIB), 16 * MIB, 1, RW)).toBe(0);
    expect(log).toEqual(['walk 1100000 256', 'walk 1400000 256']);
    expect(table.tablePages).toBe(0);
    expect(table.iovaToPhys(iova(20 * MIB + 5))).toBe(36 * MIB + 5);
  });

  it('answers ERANGE and EINVAL as the other formats, but EINVAL for no pages at all', () => {
    const { table } = build({ ias: 30 });
    expect(table.mapPages(iova(GIB), physAddr(0), 4096, 1, RW)).toBe(ERANGE);
    expect(table.mapPages(iova(-4096), physAddr(0), 4096, 1, RW)).toBe(ERANGE);
    expect(table.mapPages(iova(0), physAddr(2 ** 32), 4096, 1, RW)).toBe(ERANGE);
    expect(table.mapPages(iova(0), physAddr(0), 2048, 1, RW)).toBe(EINVAL);
    expect(table.warnings).toBe(4);
    expect(table.mapPages(iova(0), physAddr(0), 4096, 1, IommuProt.cache)).toBe(EINVAL);
    expect(table.mapPages(iova(0), physAddr(0), 4096, 0, RW)).toBe(EINVAL);
    expect([table.warnings, table.tablePages]).toEqual([4, 0]);
  });

  it('takes sizes that are not in the bitmap: n descriptors, read as part of one large page', () => {
    const { table, log, gather } = build({ pgsizeBitmap: 0x10_1000 });
    expect(table.mapPages(iova(0x2_d000), physAddr(0x1_8000), 12 * KIB, 1, RW)).toBe(0);
    expect(table.iovaToPhys(iova(0x2_d004))).toBe(0x1_d004);
    expect([...table.leaves()]).toMatchObject([{ iova: 0x2_d000, sizeBytes: 12 * KIB, phys: 0x1_d000 }]);
    expect(table.unmapPages(iova(0x2_d000), 12 * KIB, 1, gather)).toBe(12 * KIB);
    expect(log).toEqual(['page 2d000 4096 x3']);
  });

  it('answers ENOMEM when no table is left, four tables to a page', () => {
    const pages = new FrameCounter(5);
    const { table, gather } = build({}, pages);
    expect(table.mapPages(iova(0), physAddr(0), 4096, 256 * 5, RW)).toBe(ENOMEM);
    expect([table.mapped, table.tablePages, pages.outstanding]).toEqual([4 * MIB, 4, 5]);
    expect(table.unmapPages(iova(MIB), MIB, 1, gather)).toBe(MIB);
    expect(pages.outstanding).toBe(5);
    expect(table.mapPages(iova(8 * MIB), physAddr(0), 4096, 1, RW)).toBe(0);
    expect([...table.leaves()]).toHaveLength(3 * 256 + 1);
    table.check();
    table.unmapPages(iova(0), MIB, 1, gather);
    table.unmapPages(iova(2 * MIB), MIB, 2, gather);
    table.unmapPages(iova(8 * MIB), MIB, 1, gather);
    expect(pages.outstanding).toBe(4);
  });
});

describe('ARM_V7S unmap', () => {
  it('goes on over tables until a hole, which warns, and gathers none when the gather is queued', () => {
    const { table, log, gather } = build();
    table.mapPages(iova(MIB - 8192), physAddr(0), 4096, 4, RW);
    expect(table.unmapPages(iova(MIB - 8192), 4096, 6, gather)).toBe(4 * 4096);
    expect(log.join()).toBe(
      ['page fe000 4096 x1', 'page ff000 4096 x1', 'page 100000 4096 x1', 'page 101000 4096 x1'].join(),
    );
    expect(table.warnings).toBe(1);
    table.mapPages(iova(0), physAddr(0), 4096, 4, RW);
    expect(table.unmapPages(iova(0), 4096, 4, new IotlbGather(true))).toBe(4 * 4096);
    expect(log).toHaveLength(4);
  });

  it('warns for holes and addresses outside, and unmaps nothing of a large page with a hole', () => {
    const { table, gather } = build();
    expect(table.unmapPages(iova(0), 4096, 1, gather)).toBe(0);
    expect(table.unmapPages(iova(2 ** 32), 4096, 1, gather)).toBe(0);
    expect(table.unmapPages(iova(0), 1024, 1, gather)).toBe(0);
    table.mapPages(iova(0), physAddr(0), 4096, 15, RW);
    expect(table.unmapPages(iova(0), 64 * KIB, 1, gather)).toBe(0);
    expect([table.warnings, mappedBytes(table)]).toEqual([4, 15 * 4096]);
    expect(table.unmapPages(iova(0), 4096, 0, gather)).toBe(0);
    expect(table.warnings).toBe(4);
  });

  it('splits a large page, keeps the rest, and invalidates 64 KiB from the page on', () => {
    const { table, log, gather } = build();
    table.mapPages(iova(0x1_0000), physAddr(0x9_0000), 64 * KIB, 1, IommuProt.read | IommuProt.noexec);
    expect(table.unmapPages(iova(0x1_e000), 4096, 1, gather)).toBe(4096);
    expect(log).toEqual(['walk 1e000 1', 'page 1e000 4096 x1']);
    const leaves = [...table.leaves()];
    expect(leaves).toHaveLength(15);
    expect(leaves[3]).toEqual({ iova: 0x1_3000, level: 2, sizeBytes: 4096, phys: 0x9_3000, low: 0x9_3e73, high: 0 });
  });

  it('splits a supersection into sections, for a section and for a page', () => {
    const { table, log, gather } = build();
    table.mapPages(iova(0), physAddr(64 * MIB), 16 * MIB, 1, RW);
    expect(table.unmapPages(iova(3 * MIB), MIB, 1, gather)).toBe(MIB);
    expect(log).toEqual(['walk 300000 1', 'page 300000 1048576 x1']);
    expect(table.iovaToPhys(iova(5 * MIB + 9))).toBe(69 * MIB + 9);
    expect([...table.leaves()].map((leaf) => leaf.sizeBytes)).toEqual(Array(15).fill(MIB));
    table.mapPages(iova(16 * MIB), physAddr(64 * MIB), 16 * MIB, 1, RW);
    expect(table.unmapPages(iova(17 * MIB), 4096, 1, gather)).toBe(4096);
    expect(log.slice(2)).toEqual(['walk 1100000 1', 'page 1100000 4096 x1']);
    expect(table.iovaToPhys(iova(18 * MIB))).toBe(66 * MIB);
  });

  it('splits a section into pages that keep its attributes and, as in Linux 6.1, lose its address', () => {
    const { table, log } = build();
    const prot = IommuProt.read | IommuProt.cache | IommuProt.noexec;
    table.mapPages(iova(0), physAddr(64 * MIB), MIB, 2, prot);
    expect(table.unmapPages(iova(0x3000), 4096, 1, new IotlbGather(true))).toBe(4096);
    expect(log).toEqual(['page 3000 4096 x1']);
    expect(table.iovaToPhys(iova(0x3000))).toBe(0);
    expect(table.iovaToPhys(iova(0x4567))).toBe(0x4567);
    expect([...table.leaves()][5]).toMatchObject({ iova: 0x6000, low: 0x6e7f });
    expect(table.unmapPages(iova(MIB + 0x2_0000), 64 * KIB, 1, new IotlbGather(true))).toBe(64 * KIB);
    expect(log.at(-1)).toBe('page 120000 65536 x1');
    expect([...table.leaves()].slice(255)).toHaveLength(15);
    expect([...table.leaves()].at(-1)).toMatchObject({ iova: MIB + 0xf_0000, sizeBytes: 64 * KIB, low: 0xf_9e3d });
    table.check();
  });

  it('unmaps nothing when a section must be split and no table is left', () => {
    const pages = new FrameCounter();
    const { table, gather } = build({}, pages);
    table.mapPages(iova(0), physAddr(MIB), MIB, 1, RW);
    pages.limit = pages.outstanding;
    expect(table.unmapPages(iova(0x1000), 4096, 1, gather)).toBe(0);
    expect([table.iovaToPhys(iova(0x1234)), table.warnings]).toEqual([MIB + 0x1234, 0]);
  });

  it('frees the tables of a range that is unmapped as sections, in between leaves', () => {
    const { table, log, gather } = build();
    for (const at of [0, 2, 3]) table.mapPages(iova(at * MIB), physAddr(0), MIB, 1, RW);
    table.mapPages(iova(MIB), physAddr(0), 4096, 1, RW);
    expect(table.unmapPages(iova(0), MIB, 4, gather)).toBe(4 * MIB);
    expect(log).toEqual(['page 0 1048576 x1', 'walk 100000 256', 'page 200000 1048576 x1', 'page 300000 1048576 x1']);
    expect(table.tablePages).toBe(0);
  });
});

describe('ARM_V7S walk', () => {
  it('tells size, rights, level and descriptors read', () => {
    const { table } = build();
    const leaf = new IoPgtableLeaf();
    table.mapPages(iova(0x2_0000), physAddr(0x5_0000), 64 * KIB, 1, IommuProt.read);
    table.mapPages(iova(16 * MIB), physAddr(32 * MIB), 16 * MIB, 1, RW);
    expect(table.walk(iova(0x2_1234), leaf)).toBe(true);
    expect({ ...leaf }).toEqual({ phys: 0x5_1234, sizeBytes: 64 * KIB, prot: IommuProt.read, level: 2, reads: 2 });
    expect(table.walk(iova(17 * MIB + 1), leaf)).toBe(true);
    expect({ ...leaf }).toEqual({ phys: 33 * MIB + 1, sizeBytes: 16 * MIB, prot: RW, level: 1, reads: 1 });
    expect(table.walk(iova(0x1_0000), leaf)).toBe(false);
    expect([leaf.level, leaf.reads]).toEqual([2, 2]);
    expect(table.iovaToPhys(iova(2 ** 32 + 0x2_1234))).toBe(0x5_1234);
    expect([table.contains(iova(2 ** 32)), table.contains(iova(2 ** 32 - 1)), table.contains(iova(-1))]).toEqual([
      false,
      true,
      false,
    ]);
  });

  it('dumps each level down to the leaf or the hole', () => {
    const { table } = build();
    table.mapPages(iova(0x12_3000), physAddr(0x8000), 4096, 1, RW);
    const lines = table.dump(iova(0x12_3456)).split('\n');
    expect(lines[1]).toMatch(/level 1 \[1\] 0x\w+ table at 0x\w+/);
    expect(lines[2]).toBe('  level 2 [35] 0x8c72 leaf of 4 KiB -> 0x8456');
    expect(table.dump(iova(0x12_4000))).toContain('level 2 [36] 0x0 not mapped');
    expect(table.dump(iova(0))).toContain('level 1 [0] 0x0 not mapped');
  });
});

describe('ARM_V7S configuration', () => {
  it('reports TTBCR, PRRR, NMRR and the flags of TTBR0', () => {
    // PRRR: TR1 device, TR4 and TR7 normal, DS0, DS1, NS1, NOS7; NMRR: OR7, IR7 write-back.
    const common = { kind: 'arm-v7s', tcr: 0, prrr: 0x800b_8204, nmrr: 0x4000_4000 };
    // IRGN[0] | NOS | RGN 01 | S.
    expect(build().table.registers).toEqual({ ...common, ttbrFlags: 0x6a });
    expect(build({ coherentWalk: false }).table.registers).toEqual({ ...common, ttbrFlags: 0x02 });
    expect(build(MTK).table.registers).toEqual({ ...common, ttbrFlags: 0 });
  });

  it('takes 16 KiB for 32 bits of input, in proportion for others, and gives them back', () => {
    for (const [config, frames] of [
      [{}, 4],
      [{ ias: 30 }, 1],
      [{ ...MTK, ias: 33 }, 8],
      [MTK, 16],
    ] as const) {
      const { table, pages } = build(config);
      expect(pages.outstanding).toBe(frames);
      table.mapPages(iova(2 ** table.ias - MIB), physAddr(0), MIB, 1, RW);
      expect(table.iovaToPhys(iova(2 ** table.ias - 1))).toBe(MIB - 1);
      table.mapPages(iova(0), physAddr(0), 4096, 300, RW);
      table.free();
      expect(pages.outstanding).toBe(0);
    }
  });

  it('keeps its own page sizes and refuses what it cannot do', () => {
    expect(build({ pgsizeBitmap: 0x4111_1000 }).table.pgsizeBitmap).toBe(0x111_1000);
    expect(build({ pgsizeBitmap: 0x10_0000 }).table.granuleBytes).toBe(MIB);
    const refused = (config: Partial<IoPgtableConfig>, why: RegExp) => expect(() => build(config)).toThrow(why);
    refused({ quirks: ['ARM_TTBR1'] }, /EINVAL: ARM_V7S: quirk ARM_TTBR1/);
    refused({ quirks: ['ARM_OUTER_WBWA'] }, /quirk ARM_OUTER_WBWA/);
    refused({ ias: 33 }, /ias 33/);
    refused({ oas: 33 }, /oas 33/);
    refused({ ias: 20 }, /ias 20/);
    refused({ ...MTK, ias: 35 }, /ias 35/);
    refused({ ...MTK, oas: 36 }, /oas 36/);
    refused({ quirks: ['ARM_MTK_EXT'] }, /needs NO_PERMS/);
    refused({ quirks: ['ARM_MTK_TTBR_EXT', 'NO_PERMS'] }, /needs ARM_MTK_EXT/);
  });

  it('takes no tables from above 4 GiB, unless ARM_MTK_TTBR_EXT lets it name them', () => {
    class HighPages extends FrameCounter implements TablePages {
      override alloc(order: number) {
        return pfn(super.alloc(order) + 0x30_0000);
      }
      override free(frame: number, order: number) {
        super.free(pfn(frame - 0x30_0000), order);
      }
    }
    const pages = new HighPages();
    expect(() => build({}, pages)).toThrow(/ENOMEM/);
    expect(() => build(MTK, pages)).toThrow(/ENOMEM/);
    expect(pages.outstanding).toBe(0);
    const { table } = build({ ...MTK, quirks: [...MTK.quirks, 'ARM_MTK_TTBR_EXT'] }, pages);
    // The top-level table is at 0x3_1000_0000.
    expect(table.registers.ttbrFlags).toBe(3);
    table.mapPages(iova(0), physAddr(0x5000), 4096, 1, RW);
    // type 01, address bits 33 and 32 in bits 4 and 9.
    expect(table.dump(iova(0)).split('\n')[1]).toMatch(/\[0\] 0x\w+211 table at 0x3\w{8}$/);
    table.check();
    table.free();
    expect(pages.outstanding).toBe(0);
  });
});
