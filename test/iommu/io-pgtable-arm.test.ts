import { describe, expect, it } from 'vitest';
import { iova, physAddr } from '../../src/base/addr.ts';
import { GIB, KIB, MIB } from '../../src/base/units.ts';
import { IommuProt, type IoPgtableConfig, IoPgtableLeaf } from '../../src/iommu/io-pgtable.ts';
import { IotlbGather } from '../../src/iommu/iotlb-gather.ts';
import { FrameCounter } from './frame-counter.ts';
import { buildPgtable, EEXIST, EINVAL, ENOMEM, ERANGE, RW } from './pgtable-fixture.ts';

const CONFIG: IoPgtableConfig = { pgsizeBitmap: 0x4020_1000, ias: 48, oas: 48, coherentWalk: true, quirks: [] };

function build(config: Partial<IoPgtableConfig> = {}, pages = new FrameCounter()) {
  return buildPgtable('ARM_64_LPAE_S1', { ...CONFIG, ...config }, pages);
}

describe('ARM_64_LPAE_S1 map', () => {
  it('writes a page descriptor with nG, AF, AP[1], write-back memory and execute-never where asked for', () => {
    const { table } = build();
    const prot = RW | IommuProt.cache | IommuProt.noexec;
    expect(table.mapPages(iova(0x1000), physAddr(0x1_2345_6000), 4096, 1, prot)).toBe(0);
    const [leaf] = [...table.leaves()];
    // type 3 | AttrIndx 1 | AP[1] | SH inner | AF | nG, and PXN | UXN above.
    expect(leaf).toMatchObject({ iova: 0x1000, level: 3, phys: 0x1_2345_6000, low: 0x2345_6f47, high: 0x60_0001 });
  });

  it('marks a read-only, privileged, non-secure device mapping as such', () => {
    const { table } = build({ quirks: ['ARM_NS'] });
    table.mapPages(iova(0), physAddr(0x8000), 4096, 1, IommuProt.read | IommuProt.priv | IommuProt.mmio);
    const [leaf] = [...table.leaves()];
    // type 3 | AttrIndx 2 | NS | AP[2] | SH outer | AF | nG.
    expect(leaf).toMatchObject({ low: 0x8eab, high: 0 });
  });

  it('puts address bits 51..48 into bits 15..12 of a descriptor of the 64 KiB granule', () => {
    const { table } = build({ pgsizeBitmap: 0x1_0000, ias: 52, oas: 52 });
    const phys = physAddr(0xa_1234_5678_0000);
    table.mapPages(iova(0x10_0000), phys, 64 * KIB, 1, RW);
    const [leaf] = [...table.leaves()];
    expect(leaf).toMatchObject({ phys, low: 0x5678_ae43, high: 0x1234 });
    expect(table.iovaToPhys(iova(0x10_1234))).toBe(phys + 0x1234);
    table.check();
  });

  it('stops at the border of the table it writes, and says how far it came', () => {
    const { table } = build();
    expect(table.mapPages(iova(2 * MIB - 3 * 4096), physAddr(0), 4096, 10, RW)).toBe(0);
    expect(table.mapped).toBe(3 * 4096);
    expect([...table.leaves()]).toHaveLength(3);
  });

  it('carries into the upper half of the descriptor when a run crosses 4 GiB of physical addresses', () => {
    const { table } = build();
    table.mapPages(iova(0), physAddr(4 * GIB - 2 * 4096), 4096, 4, RW);
    expect([...table.leaves()].map((leaf) => leaf.phys)).toEqual([
      0xffff_e000, 0xffff_f000, 0x1_0000_0000, 0x1_0000_1000,
    ]);
  });

  it('maps nothing and warns with EEXIST when any page of the run is mapped', () => {
    const { table } = build();
    table.mapPages(iova(0x5000), physAddr(0x9000), 4096, 1, RW);
    expect(table.mapPages(iova(0x3000), physAddr(0), 4096, 4, RW)).toBe(EEXIST);
    expect([table.mapped, table.warnings, [...table.leaves()].length]).toEqual([0, 1, 1]);
    expect(table.mapPages(iova(0x5000), physAddr(0), 4096, 1, RW)).toBe(EEXIST);
  });

  it('refuses a page below a block with EEXIST', () => {
    const { table } = build();
    table.mapPages(iova(0), physAddr(0), 2 * MIB, 1, RW);
    expect(table.mapPages(iova(0x1000), physAddr(0), 4096, 1, RW)).toBe(EEXIST);
  });

  it('answers ERANGE outside ias and oas, EINVAL for a bad size with a warning and for no rights without', () => {
    const { table } = build({ ias: 39, oas: 36 });
    expect(table.mapPages(iova(2 ** 39), physAddr(0), 4096, 1, RW)).toBe(ERANGE);
    expect(table.mapPages(iova(-4096), physAddr(0), 4096, 1, RW)).toBe(ERANGE);
    expect(table.mapPages(iova(0), physAddr(2 ** 36), 4096, 1, RW)).toBe(ERANGE);
    expect(table.mapPages(iova(0), physAddr(0), 8192, 1, RW)).toBe(EINVAL);
    expect(table.mapPages(iova(0), physAddr(0), 0, 1, RW)).toBe(EINVAL);
    expect(table.warnings).toBe(5);
    expect(table.mapPages(iova(0), physAddr(0), 4096, 1, IommuProt.mmio)).toBe(EINVAL);
    expect(table.warnings).toBe(5);
    expect(table.tablePages).toBe(0);
  });

  it('refuses a block larger than the whole input space as a size that no level has', () => {
    const { table } = build({ ias: 24 });
    expect(table.mapPages(iova(0), physAddr(0), GIB, 1, RW)).toBe(EINVAL);
    expect(table.warnings).toBe(1);
  });

  it('refuses page size 0 also where a level has no block', () => {
    const { table, gather } = build({ ias: 24, pgsizeBitmap: 0x1000 });
    expect(table.mapPages(iova(0), physAddr(0), 0, 1, RW)).toBe(EINVAL);
    expect(table.unmapPages(iova(0), 0, 1, gather)).toBe(0);
    expect([table.warnings, table.tablePages]).toEqual([2, 0]);
  });

  it('frees the tables under a new block, and flushes the walk first', () => {
    const { table, pages, log } = build();
    table.mapPages(iova(GIB), physAddr(0), 4096, 1, RW);
    table.unmapPages(iova(GIB), 4096, 1, new IotlbGather());
    const before = pages.outstanding;
    expect(table.mapPages(iova(GIB), physAddr(4 * GIB), GIB, 1, RW)).toBe(0);
    expect(pages.outstanding).toBe(before - 2);
    expect(log.at(-1)).toBe('walk 40000000 262144');
    table.check();
  });

  it('answers ENOMEM without a leaf when no table page is left, and works again later', () => {
    const pages = new FrameCounter(3);
    const { table } = build({}, pages);
    expect(table.mapPages(iova(0), physAddr(0), 4096, 1, RW)).toBe(ENOMEM);
    expect([...table.leaves()]).toHaveLength(0);
    table.check();
    pages.limit = 4;
    expect(table.mapPages(iova(0), physAddr(0), 4096, 1, RW)).toBe(0);
    table.free();
    expect(pages.outstanding).toBe(0);
  });

  it('starts a reused table page empty', () => {
    const { table, gather } = build();
    table.mapPages(iova(0), physAddr(0), 4096, 512, RW);
    table.unmapPages(iova(0), 2 * MIB, 1, gather);
    table.mapPages(iova(GIB), physAddr(0x7000), 4096, 1, RW);
    expect([...table.leaves()].map((leaf) => leaf.iova)).toEqual([GIB]);
  });
});

describe('ARM_64_LPAE_S1 unmap', () => {
  it('frees all tables of a range unmapped by the gigabyte, whether or not they are empty', () => {
    const { table, gather } = build({ ias: 39 });
    table.mapPages(iova(GIB), physAddr(0), 4096, 3, RW);
    table.mapPages(iova(GIB + 2 * MIB), physAddr(0), 4096, 3, RW);
    table.unmapPages(iova(GIB), 4096, 3, gather);
    expect(table.tablePages).toBe(3);
    expect(table.unmapPages(iova(GIB), GIB, 1, gather)).toBe(GIB);
    expect(table.tablePages).toBe(0);
  });

  it('reports a run of leaves as one call and gathers none when the gather is queued', () => {
    const { table, log, gather } = build();
    table.mapPages(iova(0x1000), physAddr(0), 4096, 8, RW);
    expect(table.unmapPages(iova(0x1000), 4096, 5, gather)).toBe(5 * 4096);
    expect(log).toEqual(['page 1000 4096 x5']);
    expect(table.unmapPages(iova(0x6000), 4096, 3, new IotlbGather(true))).toBe(3 * 4096);
    expect(log).toHaveLength(1);
  });

  it('warns at a hole and stops there', () => {
    const { table, gather } = build();
    table.mapPages(iova(0), physAddr(0), 4096, 2, RW);
    expect(table.unmapPages(iova(0), 4096, 4, gather)).toBe(2 * 4096);
    expect(table.unmapPages(iova(0), 4096, 1, gather)).toBe(0);
    expect(table.unmapPages(iova(GIB), 4096, 1, gather)).toBe(0);
    expect(table.unmapPages(iova(0), 4096, 0, gather)).toBe(0);
    expect(table.unmapPages(iova(2 ** 48), 4096, 1, gather)).toBe(0);
    expect(table.warnings).toBe(5);
  });

  it('splits a block, keeps the attributes of the rest, and gathers the pages even when queued', () => {
    const { table, log } = build();
    const prot = IommuProt.read | IommuProt.noexec;
    table.mapPages(iova(0), physAddr(GIB), GIB, 1, prot);
    expect(table.unmapPages(iova(3 * MIB), 4096, 2, new IotlbGather(true))).toBe(2 * 4096);
    expect(log).toEqual(['page 300000 4096 x2']);
    expect(table.iovaToPhys(iova(3 * MIB))).toBe(0);
    expect(table.iovaToPhys(iova(3 * MIB + 8192 + 5))).toBe(GIB + 3 * MIB + 8192 + 5);
    const leaves = [...table.leaves()];
    expect(leaves).toHaveLength(511 + 510);
    expect(new Set(leaves.map((leaf) => leaf.high))).toEqual(new Set([0x60_0000]));
    table.check();
  });

  it('unmaps nothing when a block must be split and no table page is left', () => {
    const pages = new FrameCounter();
    const { table, gather } = build({}, pages);
    table.mapPages(iova(0), physAddr(0), 2 * MIB, 1, RW);
    pages.limit = pages.outstanding;
    expect(table.unmapPages(iova(0x1000), 4096, 1, gather)).toBe(0);
    expect(table.iovaToPhys(iova(0x1234))).toBe(0x1234);
    expect(table.warnings).toBe(0);
  });

  it('frees the tables of a range that is unmapped as blocks, in between leaves', () => {
    const { table, log, gather, pages } = build();
    table.mapPages(iova(0), physAddr(0), 2 * MIB, 1, RW);
    table.mapPages(iova(2 * MIB), physAddr(0), 4096, 512, RW);
    table.mapPages(iova(4 * MIB), physAddr(0), 2 * MIB, 2, RW);
    const before = pages.outstanding;
    expect(table.unmapPages(iova(0), 2 * MIB, 4, gather)).toBe(8 * MIB);
    expect(log).toEqual(['page 0 2097152 x1', 'walk 200000 512', 'page 400000 2097152 x2']);
    expect(pages.outstanding).toBe(before - 1);
  });
});

describe('ARM_64_LPAE_S1 walk', () => {
  it('tells size, rights, level and descriptors read', () => {
    const { table } = build();
    const leaf = new IoPgtableLeaf();
    table.mapPages(iova(4 * MIB), physAddr(GIB), 2 * MIB, 1, IommuProt.read);
    expect(table.walk(iova(4 * MIB + 0x12345), leaf)).toBe(true);
    expect({ ...leaf }).toEqual({ phys: GIB + 0x12345, sizeBytes: 2 * MIB, prot: IommuProt.read, level: 2, reads: 3 });
    expect(table.walk(iova(0), leaf)).toBe(false);
    expect([leaf.level, leaf.reads]).toEqual([2, 3]);
  });

  it('lets a write-only mapping be read, since AP has no such right', () => {
    const { table } = build();
    const leaf = new IoPgtableLeaf();
    table.mapPages(iova(0), physAddr(0x1000), 4096, 1, IommuProt.write);
    table.walk(iova(0), leaf);
    expect(leaf.prot).toBe(RW);
  });

  it('ignores the address bits above ias, which map refuses', () => {
    const { table } = build({ ias: 39 });
    table.mapPages(iova(0x1000), physAddr(0x8000), 4096, 1, RW);
    expect(table.iovaToPhys(iova(2 ** 39 + 0x1000))).toBe(0x8000);
    expect([table.contains(iova(2 ** 39 + 0x1000)), table.contains(iova(0x1000)), table.contains(iova(-4096))]).toEqual(
      [false, true, false],
    );
  });

  it('translates negative addresses with ARM_TTBR1, and dumps them as such', () => {
    const { table, log, gather } = build({ ias: 48, quirks: ['ARM_TTBR1'] });
    expect(table.mapPages(iova(-8192), physAddr(0x5000), 4096, 2, RW)).toBe(0);
    expect(table.iovaToPhys(iova(-4096))).toBe(0x6000);
    expect([...table.leaves()].map((leaf) => leaf.iova)).toEqual([-8192, -4096]);
    expect(table.dump(iova(-1))).toContain('0xffffffffffffffff');
    expect(table.mapPages(iova(0), physAddr(0), 4096, 1, RW)).toBe(ERANGE);
    table.unmapPages(iova(-8192), 4096, 2, gather);
    expect(log).toEqual(['page -2000 4096 x2']);
  });

  it('dumps each level of a walk down to the leaf or the hole', () => {
    const { table } = build();
    table.mapPages(iova(0x20_0000), physAddr(0x8000_0000), 4096, 1, RW);
    const lines = table.dump(iova(0x20_0123)).split('\n');
    expect(lines).toHaveLength(5);
    expect(lines[1]).toMatch(/level 0 \[0\] 0x1000\w003 table at 0x1000\w000/);
    expect(lines[4]).toBe('  level 3 [0] 0x80000e43 leaf of 4 KiB -> 0x80000123');
    expect(table.dump(iova(0x20_1000))).toContain('level 3 [1] 0x0 not mapped');
  });

  it('finds the same with every granule', () => {
    for (const [granule, block] of [
      [4 * KIB, 2 * MIB],
      [16 * KIB, 32 * MIB],
      [64 * KIB, 512 * MIB],
    ] as const) {
      const { table } = build({ pgsizeBitmap: granule + block });
      const far = 2 ** 47 + 5 * block;
      table.mapPages(iova(far), physAddr(block), block, 1, RW);
      table.mapPages(iova(far + block), physAddr(granule), granule, 1, RW);
      expect(table.iovaToPhys(iova(far + 777))).toBe(block + 777);
      expect(table.iovaToPhys(iova(far + block + 777))).toBe(granule + 777);
      expect(table.iovaToPhys(iova(5 * block))).toBe(0);
      table.check();
    }
  });
});

describe('ARM_64_LPAE_S1 configuration', () => {
  const refused = (config: Partial<IoPgtableConfig>) => expect(() => build(config)).toThrow(/EINVAL/);

  it('refuses what the format cannot do', () => {
    refused({ quirks: ['NO_PERMS'] });
    refused({ quirks: ['ARM_OUTER_WBWA'] });
    refused({ oas: 41 });
    refused({ pgsizeBitmap: 0x20_0000 });
    refused({ pgsizeBitmap: 0x10_0400 });
    refused({ ias: 12 });
  });

  it('cuts sizes to one granule and addresses to 48 bits', () => {
    const { table } = build({ pgsizeBitmap: 0x6221_5000, ias: 52, oas: 52 });
    expect([table.pgsizeBitmap, table.ias, table.oas]).toEqual([0x4020_1000, 48, 48]);
  });

  it('keeps walks out of the caches when they are not coherent', () => {
    const { table } = build({ coherentWalk: false, quirks: ['ARM_OUTER_WBWA'] });
    expect(table.registers.tcr).toMatchObject({ sh: 2, orgn: 1, irgn: 0 });
  });
});
