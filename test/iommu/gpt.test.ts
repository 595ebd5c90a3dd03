/**
 * The KUnit tests of Linux's later generic page table, restated for the formats of Linux 6.1, through `IommuDomain`. Where 6.1 answers
 * differently the test says so and holds the answer of 6.1.
 */
import { describe, expect, it } from 'vitest';
import { iova, physAddr } from '../../src/base/addr.ts';
import { ErrnoError } from '../../src/base/errors.ts';
import { GIB, KIB, MIB } from '../../src/base/units.ts';
import { type IoPgtableDumpLeaf, IoPgtableLeaf } from '../../src/iommu/io-pgtable.ts';
import { Iommu } from '../../src/iommu/iommu.ts';
import { IommuDomain } from '../../src/iommu/iommu-domain.ts';
import { Simulator } from '../../src/sim/simulator.ts';
import { FrameCounter } from './frame-counter.ts';
import { PGTABLE_CASES } from './pgtable-cases.ts';
import { RW } from './pgtable-fixture.ts';
import type { PgtableCase } from './pgtable-model.ts';

interface Bench {
  readonly kase: PgtableCase;
  readonly domain: IommuDomain;
  readonly pages: FrameCounter;
}

function benchOf(kase: PgtableCase): Bench {
  const { pgsizeBitmap, ias, oas, coherentWalk, quirks } = kase.config;
  const pages = new FrameCounter();
  const iommu = new Iommu(new Simulator(), { name: 'smmu0', pages, pgsizeBitmap, ias, oas, coherentWalk });
  return { kase, pages, domain: new IommuDomain(iommu, { format: kase.format, quirks }) };
}

/** Runs `body` on a fresh domain of each configuration that `isMeant`. Then the table must be sound and give all its pages back. */
function everyCase(body: (bench: Bench) => void, isMeant: (kase: PgtableCase) => boolean = () => true): void {
  const cases = PGTABLE_CASES.filter(isMeant);
  expect(cases.length).toBeGreaterThan(0);
  for (const kase of cases) {
    const bench = benchOf(kase);
    body(bench);
    bench.domain.pgtable.check();
    bench.domain.free();
    expect(bench.pages.outstanding, kase.name).toBe(0);
  }
}

const leavesOf = ({ domain }: Bench): readonly IoPgtableDumpLeaf[] => [...domain.pgtable.leaves()];
const sizesOf = (bench: Bench): readonly number[] => leavesOf(bench).map(({ sizeBytes }) => sizeBytes);

/** Page `index` of `size` from the border on that belongs to the configuration. */
function place({ border }: PgtableCase, size: number, index: number): number {
  return Math.ceil(border / size) * size + index * size;
}

/** Has pages of 4 KiB, 2 MiB and 1 GiB and at least 38 bits of input and output. */
function isWide4k({ sizes, config, border }: PgtableCase): boolean {
  return sizes.length === 3 && sizes[2] === GIB && config.ias >= 39 && config.oas >= 38 && border > 0;
}

/** Behind 52 bits no address can be said. */
function hasAddressesBehind({ config }: PgtableCase): boolean {
  return config.ias < 52;
}

describe('generic page table', () => {
  it('GPT-01 every page size maps once, reads back, and unmaps to nothing', () => {
    everyCase((bench) => {
      const { kase, domain } = bench;
      const at = (i: number) => iova(place(kase, kase.sizes.at(-1) ?? 0, i - 1));
      for (const [i, size] of kase.sizes.entries()) domain.map(at(i), physAddr(size), size, RW);
      expect(sizesOf(bench), kase.name).toEqual(kase.sizes);
      for (const [i, size] of kase.sizes.entries())
        for (const offset of [0, size / 2 + 5, size - 1])
          expect(domain.iovaToPhys(iova(at(i) + offset)), kase.name).toBe(size + offset);
      for (const [i, size] of kase.sizes.entries()) expect(domain.unmap(at(i), size), kase.name).toBe(size);
      expect(leavesOf(bench), kase.name).toEqual([]);
    });
  });

  it('GPT-02 a page takes the place of the empty table that smaller pages have left', () => {
    everyCase((bench) => {
      const { kase, domain } = bench;
      for (const [i, size] of kase.sizes.entries()) {
        const small = kase.sizes[i - 1];
        if (small === undefined) continue;
        const at = iova(place(kase, size, 0));
        domain.map(at, physAddr(small), small, RW);
        expect(domain.unmap(at, small)).toBe(small);
        domain.map(at, physAddr(size), size, RW);
        expect(sizesOf(bench), kase.name).toEqual([size]);
        expect(domain.iovaToPhys(iova(at + small + 1))).toBe(size + small + 1);
        expect(domain.unmap(at, size)).toBe(size);
      }
      expect(leavesOf(bench), kase.name).toEqual([]);
    });
  });

  it('GPT-03 unmapping the first small page of a larger one splits it, with VT-d takes all of it: a matter of the format', () => {
    everyCase((bench) => {
      const { kase, domain } = bench;
      for (const [i, size] of kase.sizes.entries()) {
        const small = kase.sizes[i - 1];
        if (small === undefined) continue;
        const at = iova(place(kase, size, 0));
        domain.map(at, physAddr(size), size, RW);
        expect(domain.unmap(at, small), kase.name).toBe(kase.splits ? small : size);
        expect(domain.iovaToPhys(at), kase.name).toBe(null);
        if (!kase.splits) continue;
        // A split section of short descriptors forgets its address: what is left of it leads to memory from 0 on.
        const base = kase.format === 'ARM_V7S' && size === MIB ? 0 : size;
        for (const offset of [small, size - 1])
          expect(domain.iovaToPhys(iova(at + offset)), kase.name).toBe(base + offset);
        expect(domain.unmap(iova(at + small), size - small), kase.name).toBe(size - small);
      }
      expect(leavesOf(bench), kase.name).toEqual([]);
    });
  });

  it('GPT-04 a thousand random ranges: overlaps give EEXIST (later kernels: EADDRINUSE), or blocks that replace smaller pages', () => {
    let refusals = 0;
    everyCase((bench) => {
      refusals += mapRandomRanges(bench, 1000);
      expect(leavesOf(bench), bench.kase.name).toEqual([]);
    });
    expect(refusals).toBeGreaterThan(1000);
  });

  it('GPT-05 a run over blocks of two sizes is 14 of 2 MiB, 3 of 1 GiB and 3 of 2 MiB', () => {
    everyCase((bench) => {
      const { domain, kase } = bench;
      const start = 0x3f_e400 * 4 * KIB;
      const end = 0x4c_0600 * 4 * KIB;
      domain.map(iova(start), physAddr(start), end - start, RW);
      const blocks = (count: number, size: number) => Array.from({ length: count }, () => size);
      expect(sizesOf(bench), kase.name).toEqual([...blocks(14, 2 * MIB), ...blocks(3, GIB), ...blocks(3, 2 * MIB)]);
      expect(domain.unmap(iova(start), end - start), kase.name).toBe(end - start);
    }, isWide4k);
  });

  it('GPT-06 a run that ends at no border of any larger page is mapped to its last byte and no further', () => {
    everyCase((bench) => {
      const { domain, kase } = bench;
      const [start, end, phys] = [0xfef8_0000, 0xfefa_0000, 0x20_8b95_d000];
      domain.map(iova(start), physAddr(phys), end - start, RW);
      expect(sizesOf(bench), kase.name).toEqual(Array.from({ length: 32 }, () => 4 * KIB));
      for (let at = start; at < end; at += 4 * KIB) expect(domain.iovaToPhys(iova(at))).toBe(phys + at - start);
      expect([domain.iovaToPhys(iova(start - 1)), domain.iovaToPhys(iova(end))]).toEqual([null, null]);
      expect(domain.unmap(iova(start), end - start)).toBe(end - start);
    }, isWide4k);
  });

  it('GPT-07 no format of 6.1 grows at the top: a mapping behind the input range is refused and old mappings still translate', () => {
    everyCase((bench) => {
      const { domain, kase } = bench;
      const size = kase.sizes[0] ?? 0;
      const end = kase.border < 0 ? 0 : 2 ** domain.pgtable.ias;
      const at = iova(place(kase, size, 0));
      domain.map(at, physAddr(size), size, RW);
      const walk = new IoPgtableLeaf();
      domain.pgtable.walk(at, walk);
      const { reads } = walk;
      domain.map(iova(end - size), physAddr(2 * size), size, RW);
      expect(() => domain.map(iova(end), physAddr(size), size, RW), kase.name).toThrow(/ERANGE|EFAULT/);
      expect([domain.iovaToPhys(at), domain.iovaToPhys(iova(end - size))], kase.name).toEqual([size, 2 * size]);
      domain.pgtable.walk(at, walk);
      expect(walk.reads, kase.name).toBe(reads);
    }, hasAddressesBehind);
  });

  it('GPT-08 the memory of page tables is back where it began after the domain has gone, mapped or not', () => {
    for (const kase of PGTABLE_CASES)
      for (const isUnmapped of [true, false]) {
        const { domain, pages } = benchOf(kase);
        const atStart = pages.outstanding;
        for (const [i, size] of kase.sizes.entries()) {
          const at = iova(place(kase, kase.sizes.at(-1) ?? 0, i - 1));
          domain.map(at, physAddr(size), size, RW);
          if (isUnmapped) domain.unmap(at, size);
        }
        expect(pages.outstanding, kase.name).toBeGreaterThan(atStart);
        domain.free();
        expect(pages.outstanding, kase.name).toBe(0);
      }
  });
});

interface Range {
  readonly start: number;
  readonly end: number;
  readonly phys: number;
}

/** Maps `count` ranges near the border; what collides is unmapped and the range tried again. @returns how often one was refused. */
function mapRandomRanges({ kase, domain }: Bench, count: number): number {
  const [small = 0, next = 0] = kase.sizes;
  let seed = 0x2545_f491;
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((seed / 2 ** 32) * below);
  };
  let live: readonly Range[] = [];
  let refusals = 0;
  const clear = (range: Range): void => {
    for (let at = range.start; at < range.end; ) at += domain.unmap(iova(at), range.end - at) || small;
  };
  for (let i = 0; i < count; i++) {
    const start = kase.border + (random(16 * (next / small)) - 8 * (next / small)) * small;
    const pages = 1 + random(random(8) === 0 ? (2 * next) / small : 24);
    // As often as not so that both addresses reach borders of larger pages together.
    const shift = random(2) === 0 ? 0 : small * random(16);
    const range = { start, end: start + pages * small, phys: start - kase.border + 64 * next + shift };
    const colliding = live.filter((other) => other.start < range.end && range.start < other.end);
    // VT-d keeps what is mapped and says nothing: the caller has to know.
    if (kase.format === 'INTEL_VTD_S2') for (const other of colliding) clear(other);
    if (!tryMap(domain, range)) {
      refusals++;
      expect(colliding.length, kase.name).toBeGreaterThan(0);
      for (const other of colliding) clear(other);
      expect(tryMap(domain, range), kase.name).toBe(true);
    } else if (kase.splits) {
      for (const other of colliding) expectReplaced(kase, domain, other, range);
      for (const other of colliding) {
        clear({ ...other, end: Math.min(other.end, range.start) });
        clear({ ...other, start: Math.max(other.start, range.end) });
      }
    }
    live = [...live.filter((other) => !colliding.includes(other)), range];
  }
  for (const { start, end, phys } of live)
    for (let at = start; at < end; at += small)
      if (domain.iovaToPhys(iova(at)) !== phys + at - start) expect.fail(`${kase.name}: ${at} does not translate`);
  for (const range of live)
    expect(domain.unmap(iova(range.start), range.end - range.start)).toBe(range.end - range.start);
  return refusals;
}

function tryMap(domain: IommuDomain, { start, end, phys }: Range): boolean {
  try {
    domain.map(iova(start), physAddr(phys), end - start, RW);
    return true;
  } catch (error) {
    if (error instanceof ErrnoError && error.code === 'EEXIST') return false;
    throw error;
  }
}

/** A mapping that went over another one must have done so with larger pages: those replace tables, pages replace nothing. */
function expectReplaced(kase: PgtableCase, domain: IommuDomain, old: Range, range: Range): void {
  const [small = 0] = kase.sizes;
  const leaf = new IoPgtableLeaf();
  for (let at = Math.max(old.start, range.start); at < Math.min(old.end, range.end); at += small) {
    domain.pgtable.walk(iova(at), leaf);
    if (leaf.sizeBytes <= small) expect.fail(`${kase.name}: a page replaced another one at ${at}`);
  }
}
