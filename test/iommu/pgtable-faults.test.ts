/** Page tables and domains when memory runs out: each allocation fails once, in turn. */
import { describe, expect, it } from 'vitest';
import { hex, iova, type Pfn, physAddr } from '../../src/base/addr.ts';
import { ErrnoError } from '../../src/base/errors.ts';
import { MIB } from '../../src/base/units.ts';
import { allocIoPgtable } from '../../src/iommu/alloc-io-pgtable.ts';
import type { IoPgtable, IoPgtableTlb } from '../../src/iommu/io-pgtable.ts';
import { Iommu } from '../../src/iommu/iommu.ts';
import { IommuDomain } from '../../src/iommu/iommu-domain.ts';
import { IotlbGather } from '../../src/iommu/iotlb-gather.ts';
import { Translation } from '../../src/iommu/translation.ts';
import { Simulator } from '../../src/sim/simulator.ts';
import { FrameCounter } from './frame-counter.ts';
import { PGTABLE_CASES } from './pgtable-cases.ts';
import { ENOMEM, RW } from './pgtable-fixture.ts';
import type { PgtableCase } from './pgtable-model.ts';

/** Fails the allocation number {@link failing}, counted from 1, and no other. */
class FailingPages extends FrameCounter {
  /** Allocations asked for so far. */
  asked = 0;
  readonly failing: number;

  constructor(failing: number) {
    super();
    this.failing = failing;
  }

  get hasFailed(): boolean {
    return this.asked >= this.failing;
  }

  override alloc(order: number): Pfn {
    if (++this.asked === this.failing) throw new ErrnoError('ENOMEM', 'alloc_pages', 'as the test wants it');
    return super.alloc(order);
  }
}

const NO_TLB: IoPgtableTlb = { tlbFlushAll() {}, tlbFlushWalk() {}, tlbAddPage() {} };

/** Runs `body` with the first, second, … allocation failing, until none is left to fail. @returns how many failed. */
function failEach(body: (pages: FailingPages) => void): number {
  for (let failing = 1; ; failing++) {
    const pages = new FailingPages(failing);
    body(pages);
    expect(pages.outstanding, `after allocation ${failing} failed`).toBe(0);
    if (!pages.hasFailed) return failing - 1;
  }
}

/** `attempt`, a second time if it fails; a failure must be ENOMEM. */
function twice<T>(attempt: () => T): T {
  try {
    return attempt();
  } catch (error) {
    if (!(error instanceof ErrnoError && error.code === 'ENOMEM')) throw error;
    return attempt();
  }
}

/** What translates to what, in extents: blocks that were split into smaller ones still map the same. */
function contents(table: IoPgtable): string {
  const extents: { start: number; end: number; phys: number }[] = [];
  for (const { iova, sizeBytes, phys } of table.leaves()) {
    const last = extents.at(-1);
    if (last !== undefined && last.end === iova && last.phys + last.end - last.start === phys) last.end += sizeBytes;
    else extents.push({ start: iova, end: iova + sizeBytes, phys });
  }
  return extents.map(({ start, end, phys }) => `${hex(start)}..${hex(end)} at ${hex(phys)}`).join(', ');
}

/** Bytes of input that a table of the last level stands for. */
function tableSpan({ sizes }: PgtableCase): number {
  return Math.max(sizes[1] ?? 0, MIB);
}

/** The largest page below the border, the smallest in four tables above it, which fill a page with short descriptors, and two holes in the large one. */
function callsOf(kase: PgtableCase, table: IoPgtable): readonly (() => boolean)[] {
  const { sizes, border } = kase;
  const gather = new IotlbGather();
  const [small = 0] = sizes;
  const large = sizes.at(-1) ?? 0;
  const map = (at: number, size: number, count: number) => (): boolean => {
    const ret = table.mapPages(iova(at), physAddr(large + size), size, count, RW);
    expect([0, ENOMEM]).toContain(ret);
    expect(table.mapped).toBe(ret === 0 ? count * size : 0);
    return ret === 0;
  };
  const unmap = (at: number) => (): boolean => table.unmapPages(iova(at), small, 1, gather) === small;
  return [
    map(border - large, large, 1),
    ...[0, 1, 2, 3].map((i) => map(border + i * tableSpan(kase), small, 2)),
    ...(kase.splits ? [unmap(border - large + small), unmap(border - small)] : []),
  ];
}

describe.each(PGTABLE_CASES)('page table without memory, $name', (kase) => {
  it('answers ENOMEM or unmaps nothing, changes no translation, does it at the second try, and leaks no page', () => {
    const whole = allocIoPgtable(kase.format, kase.config, new FrameCounter(), NO_TLB);
    for (const call of callsOf(kase, whole)) expect(call()).toBe(true);
    const failed = failEach((pages) => {
      const table = twice(() => allocIoPgtable(kase.format, kase.config, pages, NO_TLB));
      for (const call of callsOf(kase, table)) {
        const before = contents(table);
        const asked = pages.asked;
        const isDone = call();
        expect(isDone).toBe(!(asked < pages.failing && pages.hasFailed));
        if (isDone) continue;
        expect(contents(table)).toBe(before);
        table.check();
        expect(call()).toBe(true);
      }
      table.check();
      expect(contents(table)).toBe(contents(whole));
      table.free();
    });
    // The top-level table, one to map and one to split a block.
    expect(failed).toBeGreaterThan(2);
  });
});

describe.each(PGTABLE_CASES)('IommuDomain without memory, $name', (kase) => {
  const { pgsizeBitmap, ias, oas, coherentWalk, quirks } = kase.config;
  const [small = 0] = kase.sizes;
  const span = tableSpan(kase);
  const start = kase.border - 2 * span - small;
  const sizeBytes = 4 * span + 2 * small;
  const unitOf = (pages: FrameCounter): Iommu =>
    new Iommu(new Simulator(), { name: 'smmu0', pages, pgsizeBitmap, ias, oas, coherentWalk });

  it('is not made at the first try, keeps no address-space id, and is made at the second', () => {
    const failed = failEach((pages) => {
      const unit = unitOf(pages);
      const domain = twice(() => new IommuDomain(unit, { format: kase.format, quirks }));
      expect(domain.asid).toBe(1);
      domain.free();
    });
    expect(failed).toBe(1);
  });

  it('maps a run over the borders of tables as a whole or not at all', () => {
    const failed = failEach((pages) => {
      const domain = twice(() => new IommuDomain(unitOf(pages), { format: kase.format, quirks }));
      twice(() => domain.map(iova(start - small), physAddr(small), small, RW));
      const attempt = (): void => {
        const before = contents(domain.pgtable);
        try {
          // One small page off: no larger page fits.
          domain.map(iova(start), physAddr(8 * span + small), sizeBytes, RW);
        } catch (error) {
          expect(contents(domain.pgtable)).toBe(before);
          domain.pgtable.check();
          throw error;
        }
      };
      twice(attempt);
      expect(domain.unmap(iova(start), sizeBytes)).toBe(sizeBytes);
      domain.free();
    });
    expect(failed).toBeGreaterThan(2);
  });
});

describe.each(PGTABLE_CASES.filter(({ splits }) => splits))('IommuDomain that has to split a block, $name', (kase) => {
  const { pgsizeBitmap, ias, oas, coherentWalk, quirks } = kase.config;
  const [small = 0] = kase.sizes;

  it.runIf(kase.splits)(
    'unmaps nothing of a block that it cannot split, and the device still reaches all of it',
    () => {
      const failed = failEach((pages) => {
        const unit = new Iommu(new Simulator(), { name: 'smmu0', pages, pgsizeBitmap, ias, oas, coherentWalk });
        const domain = twice(() => new IommuDomain(unit, { format: kase.format, quirks }));
        const size = kase.sizes.at(-1) ?? 0;
        const at = kase.border - size;
        twice(() => domain.map(iova(at), physAddr(size), size, RW));
        const out = new Translation('gpu0');
        const hole = iova(at + small);
        if (domain.unmap(hole, small) === 0) {
          expect(unit.translate(domain, hole, 'read', out)).toBe(true);
          expect(out.phys).toBe(size + small);
          domain.pgtable.check();
          expect(domain.unmap(hole, small)).toBe(small);
        }
        expect(unit.translate(domain, hole, 'read', out)).toBe(false);
        domain.free();
      });
      expect(failed).toBeGreaterThan(1);
    },
  );
});
