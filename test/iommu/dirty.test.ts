import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Iova, iova, PAGE_SIZE, physAddr } from '../../src/base/addr.ts';
import { GIB, MIB } from '../../src/base/units.ts';
import type { IoPgtableFormat } from '../../src/iommu/alloc-io-pgtable.ts';
import { TrackedDomain } from '../../src/iommu/dirty-tracking.ts';
import type { DmaAccess } from '../../src/iommu/fault.ts';
import { IommuProt } from '../../src/iommu/io-pgtable.ts';
import { IommuIoasClient } from '../../src/iommu/ioas-iommu.ts';
import { Iommu } from '../../src/iommu/iommu.ts';
import { IotlbGather } from '../../src/iommu/iotlb-gather.ts';
import { Translation } from '../../src/iommu/translation.ts';
import { Simulator } from '../../src/sim/simulator.ts';
import { errnoOf } from '../mem/machine.ts';
import { FrameCounter } from './frame-counter.ts';
import { ifdBench } from './ifd-bench.ts';

const RW = IommuProt.read | IommuProt.write;
const FORMATS: readonly IoPgtableFormat[] = ['ARM_64_LPAE_S1', 'ARM_64_LPAE_S2', 'INTEL_VTD_S2'];
const BASE = 0x4000_0000;

function bench(format: IoPgtableFormat) {
  const sim = new Simulator();
  const pages = new FrameCounter();
  const iommu = new Iommu(sim, { name: 'smmu0', pages, format, dirtyTracking: true });
  const domain = new TrackedDomain(iommu);
  const out = new Translation('nic0');
  const access = (at: number, kind: DmaAccess) => iommu.translate(domain, iova(at), kind, out);
  /** Pages from {@link BASE} on that are marked, of `count`; clears them unless told otherwise. */
  const dirty = (count: number, options: { noClear?: boolean } = {}) => {
    const bitmap = new Uint8Array(Math.ceil(count / 8));
    domain.readAndClearDirty(iova(BASE), count * PAGE_SIZE, bitmap, options);
    return bitsOf(bitmap);
  };
  return { sim, pages, iommu, domain, out, access, dirty };
}

function bitsOf(bitmap: Uint8Array): number[] {
  return [...bitmap].flatMap((byte, i) =>
    [0, 1, 2, 3, 4, 5, 6, 7].filter((bit) => (byte >> bit) & 1).map((bit) => 8 * i + bit),
  );
}

describe.each(FORMATS)('dirty tracking with %s', (format) => {
  it('marks exactly the pages that were written, and forgets them when they are read', () => {
    const { domain, access, dirty } = bench(format);
    domain.setDirtyTracking(true);
    domain.map(iova(BASE), physAddr(0x8000_0000), 16 * PAGE_SIZE, RW);
    for (const page of [0, 3, 15]) expect(access(BASE + page * PAGE_SIZE + 8, 'write')).toBe(true);
    for (const page of [1, 3, 7]) expect(access(BASE + page * PAGE_SIZE, 'read')).toBe(true);
    expect(dirty(16, { noClear: true })).toEqual([0, 3, 15]);
    expect(dirty(16)).toEqual([0, 3, 15]);
    expect(dirty(16)).toEqual([]);
    access(BASE + 3 * PAGE_SIZE, 'write');
    expect(dirty(16)).toEqual([3]);
  });

  it('notices a first write to a page that is cached from reading', () => {
    const { domain, iommu, access, dirty } = bench(format);
    domain.setDirtyTracking(true);
    domain.map(iova(BASE), physAddr(0x8000_0000), PAGE_SIZE, RW);
    access(BASE, 'read');
    access(BASE, 'read');
    expect([iommu.iotlb.hits, iommu.iotlb.misses]).toEqual([1, 1]);
    expect(access(BASE, 'write')).toBe(true);
    expect(dirty(1)).toEqual([0]);
  });

  it('does not notice a write that a cached right hides, unless clearing invalidates', () => {
    const { domain, access, dirty } = bench(format);
    domain.setDirtyTracking(true);
    domain.map(iova(BASE), physAddr(0x8000_0000), 2 * PAGE_SIZE, RW);
    access(BASE, 'write');
    const gather = new IotlbGather();
    const bitmap = new Uint8Array(1);
    domain.readAndClearDirtyFast(iova(BASE), PAGE_SIZE, bitmap, {}, gather);
    expect([...bitmap]).toEqual([1]);
    access(BASE, 'write');
    expect(dirty(2)).toEqual([]);
    // The gather was kept back; now it is invalidated, and the next write shows.
    domain.iotlbSync(gather);
    access(BASE, 'write');
    expect(dirty(2)).toEqual([0]);
    access(BASE, 'write');
    expect(dirty(2)).toEqual([0]);
  });

  it('counts a large page as written everywhere, also when only a part of it is asked for', () => {
    const { domain, access } = bench(format);
    domain.setDirtyTracking(true);
    domain.map(iova(BASE), physAddr(0x8000_0000), 4 * MIB, RW);
    access(BASE + 2 * MIB + 5 * PAGE_SIZE, 'write');
    const bitmap = new Uint8Array(3);
    domain.readAndClearDirty(iova(BASE + 2 * MIB - 4 * PAGE_SIZE), 8 * PAGE_SIZE, bitmap, {
      firstBit: 9,
      noClear: true,
    });
    expect(bitsOf(bitmap)).toEqual([13, 14, 15, 16]);
    bitmap.fill(0);
    domain.readAndClearDirty(iova(BASE), 4 * MIB, bitmap, { pageBytes: MIB });
    expect(bitsOf(bitmap)).toEqual([2, 3]);
  });

  it('keeps refusing what the mapping does not allow', () => {
    const { domain, access, dirty, out } = bench(format);
    domain.setDirtyTracking(true);
    domain.map(iova(BASE), physAddr(0x8000_0000), PAGE_SIZE, IommuProt.read);
    for (let i = 0; i < 2; i++) {
      expect(access(BASE, 'read')).toBe(true);
      expect(access(BASE, 'write')).toBe(false);
      expect(out.fault).toMatchObject({ reason: 'permission', stage: domain.stage });
    }
    expect(access(BASE + PAGE_SIZE, 'write')).toBe(false);
    expect(out.fault).toMatchObject({ reason: 'unmapped' });
    expect(dirty(1)).toEqual([]);
  });

  it('refuses a range that ends outside the input addresses, and clears no mark', () => {
    const { domain, access, dirty } = bench(format);
    domain.map(iova(BASE), physAddr(BASE), PAGE_SIZE, RW);
    domain.setDirtyTracking(true);
    access(BASE, 'write');
    const bitmap = new Uint8Array(8);
    errnoOf('EINVAL', () => domain.readAndClearDirty(iova(2 ** 48 - PAGE_SIZE), 2 * PAGE_SIZE, bitmap));
    expect([[...bitmap].some((byte) => byte !== 0), dirty(1)]).toEqual([false, [0]]);
  });

  it('is refused while it is off, and with arguments that make no sense', () => {
    const { domain, access, dirty } = bench(format);
    domain.map(iova(BASE), physAddr(0x8000_0000), PAGE_SIZE, RW);
    expect(access(BASE, 'write')).toBe(true);
    errnoOf('EINVAL', () => dirty(1));
    domain.setDirtyTracking(true);
    dirty(1);
    access(BASE, 'write');
    const bitmap = new Uint8Array(1);
    errnoOf('EINVAL', () => domain.readAndClearDirty(iova(BASE), PAGE_SIZE, bitmap, { pageBytes: 3000 }));
    errnoOf('EINVAL', () => domain.readAndClearDirty(iova(BASE + 1), PAGE_SIZE, bitmap));
    errnoOf('EINVAL', () => domain.readAndClearDirty(iova(BASE), 100, bitmap));
    expect(() => domain.readAndClearDirty(iova(BASE), 9 * PAGE_SIZE, bitmap)).toThrow('do not fit');
    expect(dirty(1)).toEqual([0]);
    domain.setDirtyTracking(false);
    expect(domain.isTracking).toBe(false);
    errnoOf('EINVAL', () => dirty(1));
  });

  it('gives everything back', () => {
    const { domain, pages } = bench(format);
    domain.map(iova(BASE), physAddr(0x8000_0000), 3 * MIB, RW);
    domain.unmap(iova(BASE), 3 * MIB);
    domain.free();
    expect(pages.outstanding).toBe(0);
  });

  it('agrees with a set of written pages', () => {
    const PAGES = 1100;
    const step = fc.oneof(
      fc.record({ op: fc.constant('access' as const), page: fc.nat(PAGES - 1), write: fc.boolean() }),
      fc.record({
        op: fc.constant('read' as const),
        page: fc.nat(PAGES - 1),
        count: fc.integer({ min: 1, max: 600 }),
        keep: fc.boolean(),
      }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const { domain, access } = bench(format);
        domain.setDirtyTracking(true);
        // No large pages: the frames are not aligned with the addresses.
        domain.map(iova(BASE), physAddr(0x8000_1000), PAGES * PAGE_SIZE, RW);
        const written = new Set<number>();
        for (const one of steps) {
          const at = (BASE + one.page * PAGE_SIZE) as Iova;
          if (one.op === 'access') {
            access(at, one.write ? 'write' : 'read');
            if (one.write) written.add(one.page);
            continue;
          }
          const count = Math.min(one.count, PAGES - one.page);
          const bitmap = new Uint8Array(Math.ceil(count / 8));
          domain.readAndClearDirty(at, count * PAGE_SIZE, bitmap, { noClear: one.keep });
          const truth = [...written]
            .filter((page) => page >= one.page && page < one.page + count)
            .sort((a, b) => a - b);
          expect(bitsOf(bitmap)).toEqual(truth.map((page) => page - one.page));
          if (!one.keep) for (const page of truth) written.delete(page);
        }
      }),
      { numRuns: 30 * Number(process.env['DMABUF_SIM_RUNS'] ?? 1) },
    );
  });
});

describe('dirty tracking', () => {
  it('IFD-24 is refused by a unit or a format that lacks it, which takes nothing', () => {
    const sim = new Simulator();
    const pages = new FrameCounter();
    const without = new Iommu(sim, { name: 'smmu0', pages });
    errnoOf('EOPNOTSUPP', () => new TrackedDomain(without));
    const unit = new Iommu(sim, { name: 'smmu1', pages, dirtyTracking: true });
    errnoOf('EOPNOTSUPP', () => new TrackedDomain(unit, { format: 'ARM_V7S' }));
    errnoOf('EOPNOTSUPP', () => new TrackedDomain(unit, { type: 'identity' }));
    expect(pages.outstanding).toBe(0);
    expect(new TrackedDomain(unit).asid).toBe(1);
  });

  it('keeps the mark of a block that is split', () => {
    const { domain, access, dirty } = bench('ARM_64_LPAE_S1');
    domain.setDirtyTracking(true);
    domain.map(iova(BASE), physAddr(0x8000_0000), 2 * MIB, RW);
    access(BASE + 9, 'write');
    domain.unmap(iova(BASE), 510 * PAGE_SIZE);
    expect(dirty(512)).toEqual([510, 511]);
    access(BASE + 511 * PAGE_SIZE, 'write');
    expect(dirty(512)).toEqual([511]);
  });

  it('passes holes of any size quickly', () => {
    const { domain, access } = bench('ARM_64_LPAE_S1');
    domain.setDirtyTracking(true);
    const far = BASE + 512 * GIB;
    domain.map(iova(far), physAddr(0x8000_0000), PAGE_SIZE, RW);
    access(far, 'write');
    const bitmap = new Uint8Array(128);
    domain.readAndClearDirty(iova(BASE), 513 * GIB, bitmap, { pageBytes: GIB });
    expect(bitsOf(bitmap)).toEqual([512]);
  });

  it('IFD-25 tells what a real device of an address space has written', () => {
    const { fd, user, account } = ifdBench();
    const frames = new FrameCounter();
    const iommu = new Iommu(new Simulator(), { name: 'smmu0', pages: frames, dirtyTracking: true });
    const nic = { name: 'nic0' };
    const id = fd.bindDevice(new IommuIoasClient(iommu, nic));
    const ioasId = fd.allocIoas();
    const va = user.mmap(64 * PAGE_SIZE);
    const at = fd.ioas(ioasId).mapUser(user, va, 64 * PAGE_SIZE, { read: true, write: true });
    const table = fd.attachDevice(id, fd.allocHwpt(id, ioasId, { dirtyTracking: true }));
    fd.hwpt(table).setDirtyTracking(true);
    const context = iommu.contextOf(nic);
    if (context === null) throw new Error('not attached');
    const out = new Translation('nic0');
    for (let page = 0; page < 64; page += 2) iommu.translate(context, iova(at + page * PAGE_SIZE), 'write', out);
    expect(out.phys).toBe(user.frameAt(va + 62 * PAGE_SIZE) * PAGE_SIZE);
    const bitmap = new Uint8Array(8);
    const request = { iova: at, sizeBytes: 64 * PAGE_SIZE, pageBytes: PAGE_SIZE, bitmap, firstBit: 0 };
    fd.hwpt(table).readAndClearDirty(request);
    expect([...bitmap]).toEqual(Array.from({ length: 8 }, () => 0x55));
    bitmap.fill(0);
    fd.hwpt(table).readAndClearDirty(request);
    expect([...bitmap]).toEqual(Array.from({ length: 8 }, () => 0));
    fd.detachDevice(id);
    fd.unbindDevice(id);
    fd.close();
    expect([frames.outstanding, account.lockedPages]).toEqual([0, 0]);
  });
});
