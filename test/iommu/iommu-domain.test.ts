import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { iova, physAddr } from '../../src/base/addr.ts';
import { GIB, MIB } from '../../src/base/units.ts';
import { IommuProt } from '../../src/iommu/io-pgtable.ts';
import { Iommu, type IommuOptions } from '../../src/iommu/iommu.ts';
import { IommuDomain } from '../../src/iommu/iommu-domain.ts';
import { IotlbGather } from '../../src/iommu/iotlb-gather.ts';
import { Translation } from '../../src/iommu/translation.ts';
import { smmuV3Costs } from '../../src/platform/smmu-v3.ts';
import { Simulator } from '../../src/sim/simulator.ts';
import type { TraceEvent } from '../../src/trace/trace-events.ts';
import { FrameCounter } from './frame-counter.ts';

const RW = IommuProt.read | IommuProt.write;

function bench(options: Partial<IommuOptions> = {}) {
  const sim = new Simulator();
  const pages = new FrameCounter();
  const iommu = new Iommu(sim, { name: 'smmu0', pages, costs: smmuV3Costs, ...options });
  const domain = new IommuDomain(iommu, { name: 'dom' });
  return { sim, pages, iommu, domain };
}

function leafSizes(domain: IommuDomain): readonly number[] {
  return [...domain.pgtable.leaves()].map((leaf) => leaf.sizeBytes);
}

describe('IommuDomain.map', () => {
  it('uses pages up to a block border, blocks as far as they go, and pages for the rest', () => {
    const { domain } = bench();
    domain.map(iova(2 * MIB - 8192), physAddr(10 * MIB - 8192), 8192 + 4 * MIB + 4096, RW);
    expect(leafSizes(domain)).toEqual([4096, 4096, 2 * MIB, 2 * MIB, 4096]);
    expect(domain.iovaToPhys(iova(6 * MIB + 5))).toBe(14 * MIB + 5);
  });

  it('uses pages only when the two addresses never reach a block border together', () => {
    const { domain } = bench();
    domain.map(iova(2 * MIB), physAddr(10 * MIB + 4096), 2 * MIB, RW);
    expect(leafSizes(domain)).toHaveLength(512);
  });

  it('maps gigabytes as such', () => {
    const { domain } = bench();
    domain.map(iova(GIB), physAddr(4 * GIB), 2 * GIB, RW);
    expect(leafSizes(domain)).toEqual([GIB, GIB]);
  });

  it('takes everything back when a later part is mapped already', () => {
    const { domain } = bench();
    domain.map(iova(4 * MIB), physAddr(0), 4096, RW);
    expect(() => domain.map(iova(MIB), physAddr(MIB), 4 * MIB, RW)).toThrow(/iommu_map: EEXIST: dom: iova 0x400000/);
    expect([...domain.pgtable.leaves()].map((leaf) => leaf.iova)).toEqual([4 * MIB]);
    domain.pgtable.check();
  });

  it('takes everything back and leaks no table page when there is no memory for a table', () => {
    const { domain, pages } = bench();
    domain.map(iova(0), physAddr(0), 4096, RW);
    domain.unmap(iova(0), 4096);
    pages.limit = pages.outstanding;
    expect(() => domain.map(iova(0), physAddr(4096), 4 * MIB, RW)).toThrow(/ENOMEM/);
    expect(leafSizes(domain)).toEqual([]);
    domain.pgtable.check();
    pages.limit = Number.POSITIVE_INFINITY;
    domain.map(iova(0), physAddr(4096), 4 * MIB, RW);
    domain.free();
    expect(pages.outstanding).toBe(0);
  });

  it('refuses addresses and sizes that no page fits, addresses out of range, and no rights', () => {
    const { domain } = bench({ ias: 39, oas: 40 });
    expect(() => domain.map(iova(1), physAddr(0), 4096, RW)).toThrow(/EINVAL.*multiple of 4096/);
    expect(() => domain.map(iova(0), physAddr(12), 4096, RW)).toThrow(/EINVAL/);
    expect(() => domain.map(iova(0), physAddr(0), 100, RW)).toThrow(/EINVAL/);
    expect(() => domain.map(iova(0), physAddr(0), 4096, 0)).toThrow(/EINVAL/);
    expect(() => domain.map(iova(2 ** 39), physAddr(0), 4096, RW)).toThrow(/ERANGE/);
    expect(() => domain.map(iova(0), physAddr(2 ** 40), 4096, RW)).toThrow(/ERANGE/);
    expect(() => domain.map(iova(0), physAddr(0), Number.NaN, RW)).toThrow(/sizeBytes/);
    domain.map(iova(0), physAddr(0), 0, RW);
    expect(leafSizes(domain)).toEqual([]);
  });

  it('is not seen by a trace when it fails, nor is what it takes back', () => {
    const { sim, domain } = bench();
    domain.map(iova(4 * MIB), physAddr(0), 4096, RW);
    const kinds: string[] = [];
    sim.trace.onAny((event) => void kinds.push(event.kind));
    expect(() => domain.map(iova(MIB), physAddr(MIB), 4 * MIB, RW)).toThrow(/EEXIST/);
    expect(kinds.filter((kind) => kind !== 'iommu.flush')).toEqual([]);
  });

  it('maps physical address 0 so that it can be told from a hole', () => {
    const { domain } = bench();
    domain.map(iova(4096), physAddr(0), 4096, RW);
    expect([domain.iovaToPhys(iova(4096)), domain.iovaToPhys(iova(0))]).toEqual([0, null]);
  });
});

describe('IommuDomain.unmap', () => {
  it('tells how much it unmapped up to the first hole', () => {
    const { domain } = bench();
    domain.map(iova(0), physAddr(0), 0x8000, RW);
    expect(domain.unmap(iova(0x4000), 0x1000)).toBe(0x1000);
    expect(domain.unmap(iova(0), 0x8000)).toBe(0x4000);
    expect(domain.iovaToPhys(iova(0x5000))).toBe(0x5000);
    expect(domain.unmap(iova(1), 4096)).toBe(0);
  });

  it('counts the holes under a table that it frees as a whole, as the kernel does', () => {
    const { domain } = bench();
    domain.map(iova(0), physAddr(0), 2 * MIB, RW);
    domain.unmap(iova(MIB), 4096);
    expect(domain.unmap(iova(0), 2 * MIB)).toBe(2 * MIB);
  });

  it('invalidates the pages it unmapped and no others', () => {
    const { iommu, domain } = bench();
    const out = new Translation('gpu0');
    domain.map(iova(0), physAddr(0), 0x8000, RW);
    for (let at = 0; at < 0x8000; at += 0x1000) iommu.translate(domain, iova(at), 'read', out);
    domain.unmap(iova(0x2000), 0x3000);
    expect([...iommu.iotlb.entries()].map((entry) => entry.iova)).toEqual([0, 0x1000, 0x5000, 0x6000, 0x7000]);
  });

  it('leaves the invalidation to the caller in the fast form, and joins neighbours in one gather', () => {
    const { iommu, domain } = bench();
    const out = new Translation('gpu0');
    const gather = new IotlbGather();
    domain.map(iova(0), physAddr(0), 0x4000, RW);
    iommu.translate(domain, iova(0), 'read', out);
    domain.unmapFast(iova(0), 0x1000, gather);
    domain.unmapFast(iova(0x1000), 0x1000, gather);
    expect([gather.start, gather.end, iommu.iotlb.size, iommu.iotlb.invalidations]).toEqual([0, 0x2000, 1, 0]);
    domain.unmapFast(iova(0x3000), 0x1000, gather);
    expect([gather.start, gather.end, iommu.iotlb.size, iommu.iotlb.invalidations]).toEqual([0x3000, 0x4000, 0, 1]);
    domain.iotlbSync(gather);
    domain.iotlbSync(gather);
    expect(iommu.iotlb.invalidations).toBe(2);
  });

  it('invalidates at once what lay under a table that is freed, even when unmapping does not', () => {
    const { iommu, domain } = bench();
    const out = new Translation('gpu0');
    domain.invalidateOnUnmap = false;
    domain.map(iova(0), physAddr(4096), 2 * MIB, RW);
    iommu.translate(domain, iova(0x5000), 'read', out);
    domain.unmap(iova(0), 2 * MIB);
    expect(iommu.iotlb.size).toBe(0);
  });
});

describe('IommuDomain costs and trace', () => {
  it('charges mapping by the leaf and unmapping by the leaf and its invalidation: 0.1 and 0.6 us for a page, 0.9 and 21.3 us for 256', () => {
    const { sim, domain } = bench();
    const took: number[] = [];
    sim.run(function* () {
      for (const bytes of [4096, MIB]) {
        for (const step of [
          () => domain.map(iova(4096), physAddr(0), bytes, RW),
          () => domain.unmap(iova(4096), bytes),
        ]) {
          const start = sim.now;
          step();
          yield* sim.delay(0);
          took.push(sim.now - start);
        }
      }
    });
    expect(took).toEqual([100, 600, 865, 21255]);
  });

  it('emits one event a call', () => {
    const { sim, domain } = bench();
    const events: TraceEvent[] = [];
    sim.trace.onAny((event) => void events.push(event));
    domain.map(iova(0x1000), physAddr(0x8000), 0x4000, RW);
    domain.unmap(iova(0x1000), 0x4000);
    expect(events).toEqual([
      { kind: 'iommu.map', timeNs: 0, domain: 'dom', iova: 0x1000, phys: 0x8000, bytes: 0x4000 },
      { kind: 'iommu.unmap', timeNs: 0, domain: 'dom', iova: 0x1000, bytes: 0x4000 },
      { kind: 'iommu.flush', timeNs: 0, domain: 'dom', iova: 0x1000, bytes: 0x4000 },
    ]);
  });
});

describe('IommuDomain devices', () => {
  it('answers EBUSY for a device that is attached, even to the same domain, until it is detached', () => {
    const { iommu, domain } = bench();
    const camera = { name: 'camera0' };
    const other = new IommuDomain(iommu);
    domain.attachDevice(camera);
    expect(() => domain.attachDevice(camera)).toThrow(/EBUSY.*camera0 is attached to dom/);
    expect(() => other.attachDevice(camera)).toThrow(/EBUSY/);
    expect(() => other.detachDevice(camera)).toThrow(/not attached/);
    expect([domain.devices, iommu.contextOf(camera)]).toEqual([[camera], domain]);
    domain.detachDevice(camera);
    other.attachDevice(camera);
    expect([domain.devices, iommu.contextOf(camera)]).toEqual([[], other]);
  });

  it('is not freed while a device is attached', () => {
    const { domain, pages } = bench();
    const camera = { name: 'camera0' };
    domain.attachDevice(camera);
    expect(() => domain.free()).toThrow(/EBUSY/);
    domain.detachDevice(camera);
    domain.free();
    expect(pages.outstanding).toBe(0);
  });

  it('takes no id and no page when it cannot be made', () => {
    const { iommu, pages } = bench({ asidBits: 2 });
    const before = pages.outstanding;
    pages.limit = before;
    expect(() => new IommuDomain(iommu)).toThrow(/ENOMEM/);
    expect(() => new IommuDomain(iommu, { quirks: ['NO_PERMS'] })).toThrow(/EINVAL/);
    pages.limit = Number.POSITIVE_INFINITY;
    expect([new IommuDomain(iommu).asid, new IommuDomain(iommu).asid]).toEqual([2, 3]);
    expect(() => new IommuDomain(iommu)).toThrow(/ENOSPC/);
  });
});

describe('IommuDomain of another format', () => {
  const short = { pgsizeBitmap: 0x111_1000, ias: 32, oas: 32 };

  it('uses large pages, sections and supersections of short descriptors, and invalidates what was unmapped of them', () => {
    const sim = new Simulator();
    const iommu = new Iommu(sim, { name: 'smmu0', pages: new FrameCounter(), ...short });
    const domain = new IommuDomain(iommu, { format: 'ARM_V7S' });
    const out = new Translation('camera0');
    domain.map(iova(15 * MIB - 0x1_1000), physAddr(31 * MIB - 0x1_1000), 0x1_1000 + 17 * MIB + 0x1000, RW);
    expect(leafSizes(domain)).toEqual([0x1000, 0x1_0000, MIB, 16 * MIB, 0x1000]);
    const at = iova(15 * MIB - 0x4000);
    expect(iommu.translate(domain, at, 'write', out)).toBe(true);
    expect([out.phys, out.runBytes]).toEqual([31 * MIB - 0x4000, 0x4000]);
    expect(domain.unmap(iova(15 * MIB - 0x8000), 0x1000)).toBe(0x1000);
    expect(iommu.translate(domain, iova(15 * MIB - 0x8000), 'read', out)).toBe(false);
    expect(iommu.translate(domain, at, 'write', out)).toBe(true);
    expect([out.phys, out.runBytes]).toEqual([31 * MIB - 0x4000, 0x1000]);
  });

  it('takes everything back when short descriptors fail half-way', () => {
    const sim = new Simulator();
    const iommu = new Iommu(sim, { name: 'smmu0', pages: new FrameCounter(), ...short });
    const domain = new IommuDomain(iommu, { format: 'ARM_V7S' });
    domain.map(iova(0x5000), physAddr(0), 4096, RW);
    expect(() => domain.map(iova(0x2000), physAddr(0x1000), 0x5000, RW)).toThrow(/EEXIST/);
    expect(leafSizes(domain)).toEqual([4096]);
  });

  it('reports faults of stage 2 for a stage-2 table', () => {
    const sim = new Simulator();
    const iommu = new Iommu(sim, { name: 'smmu0', pages: new FrameCounter(), ias: 40 });
    const domain = new IommuDomain(iommu, { format: 'ARM_64_LPAE_S2' });
    const out = new Translation('camera0');
    domain.map(iova(0), physAddr(0x8000), 4096, IommuProt.write);
    expect(iommu.translate(domain, iova(0), 'read', out)).toBe(false);
    expect(out.fault).toMatchObject({ stage: 2, reason: 'permission', level: 3 });
  });

  it('cannot be made, and takes nothing, when the unit has no page size of the format', () => {
    const pages = new FrameCounter();
    const iommu = new Iommu(new Simulator(), { name: 'smmu0', pages, ...short, pgsizeBitmap: 0x20_0000 });
    expect(() => new IommuDomain(iommu, { format: 'ARM_V7S' })).toThrow(/EINVAL: ARM_V7S has none/);
    expect(pages.outstanding).toBe(0);
    expect(iommu.takeAsid()).toBe(1);
  });
});

describe('IommuDomain against a model', () => {
  it('translates as a Map of pages does, whatever sizes are mapped and unmapped, and a failed map changes nothing', () => {
    const step = fc.record({
      isMap: fc.boolean(),
      page: fc.nat(3 * 512),
      count: fc.oneof(fc.integer({ min: 1, max: 8 }), fc.constantFrom(512, 513, 1024)),
      frame: fc.oneof(fc.nat(5000), fc.constantFrom(0, 512, 1024)),
      aligned: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 25 }), (steps) => {
        const { domain, pages } = bench();
        const model = new Map<number, number>();
        for (const { isMap, page, count, frame, aligned } of steps) {
          const first = aligned ? page - (page % 512) : page;
          const pagesOf = Array.from({ length: count }, (_, i) => first + i);
          if (isMap) {
            const isFree = pagesOf.every((p) => !model.has(p));
            const map = () => domain.map(iova(first * 4096), physAddr(frame * 4096), count * 4096, RW);
            // A block may replace a table with pages in it, as in the kernel; such a call is not made here.
            if (!isFree && count >= 512) continue;
            if (isFree) {
              map();
              for (const [i, p] of pagesOf.entries()) model.set(p, frame + i);
            } else {
              expect(map).toThrow(/EEXIST/);
            }
          } else if (pagesOf.every((p) => model.has(p))) {
            expect(domain.unmap(iova(first * 4096), count * 4096)).toBe(count * 4096);
            for (const p of pagesOf) model.delete(p);
          }
          domain.pgtable.check();
        }
        for (let p = 0; p < 6 * 512; p++) {
          const expected = model.get(p);
          expect(domain.iovaToPhys(iova(p * 4096))).toBe(expected === undefined ? null : expected * 4096);
        }
        domain.free();
        expect(pages.outstanding).toBe(0);
      }),
      { numRuns: 40 },
    );
  });
});

function extents(...list: readonly (readonly [phys: number, length: number])[]) {
  return {
    origNents: list.length,
    physAddress: (i: number) => physAddr(list[i]?.[0] ?? 0),
    length: (i: number) => list[i]?.[1] ?? 0,
  };
}

describe('IommuDomain.mapSg', () => {
  it('maps extents one behind the other, and those that follow each other in memory as one', () => {
    const { sim, domain } = bench();
    const maps: TraceEvent[] = [];
    sim.trace.on('iommu.map', (event) => void maps.push(event));
    const sg = extents([0x8000, 0x800], [0x8800, 0x1800], [0x20000, 0x2000]);
    expect(domain.mapSg(iova(0x10000), sg, RW)).toBe(0x4000);
    expect([0x11fff, 0x12000].map((at) => domain.iovaToPhys(iova(at)))).toEqual([0x9fff, 0x20000]);
    expect(maps).toMatchObject([{ bytes: 0x2000 }, { bytes: 0x2000 }]);
  });

  it('leaves nothing mapped when one of them begins or ends inside a page', () => {
    const { domain } = bench();
    const sg = extents([0x8000, 0x1000], [0x20000, 0x1000], [0x30100, 0x1000]);
    expect(() => domain.mapSg(iova(0x10000), sg, RW)).toThrow(/EINVAL/);
    expect(leafSizes(domain)).toEqual([]);
    expect(() => domain.mapSg(iova(0x10000), extents([0x8000, 0x1800]), RW)).toThrow(/EINVAL/);
  });
});

describe('IommuDomain invalidation', () => {
  it('counts how often each of the two callbacks ran, empty gathers included', () => {
    const { iommu, domain } = bench();
    domain.map(iova(0), physAddr(0), 0x4000, RW);
    domain.unmap(iova(0), 0x1000);
    domain.unmap(iova(0), 0x1000);
    domain.unmapFast(iova(0x1000), 0x1000, new IotlbGather(true));
    domain.flushIotlbAll();
    expect([domain.iotlbSyncCount, domain.flushIotlbAllCount]).toEqual([2, 1]);
    const other = new IommuDomain(iommu);
    other.flushIotlbAll();
    other.free();
    expect([iommu.iotlbSyncCount, iommu.flushIotlbAllCount]).toEqual([2, 2]);
  });

  it('of a range takes the power of two around it with it where commands can say no more', () => {
    const { iommu, domain } = bench({ rangeInvalidation: 'power-of-two' });
    const out = new Translation('gpu0');
    domain.map(iova(0), physAddr(0), 0x8000, RW);
    for (let at = 0; at < 0x8000; at += 0x1000) iommu.translate(domain, iova(at), 'read', out);
    domain.unmap(iova(0x5000), 0x2000);
    expect([...iommu.iotlb.entries()].map((entry) => entry.iova)).toEqual([0, 0x1000, 0x2000, 0x3000]);
  });

  it('is done for what is mapped, too, in caching mode', () => {
    const { iommu, domain } = bench({ cachingMode: true });
    domain.map(iova(0), physAddr(0), 0x1000, RW);
    expect(iommu.iotlb.invalidations).toBe(1);
  });
});

describe('IommuDomain of VT-d', () => {
  const vtd = { format: 'INTEL_VTD_S2' } as const;

  it('answers EFAULT beyond the input range, before it looks at the rights', () => {
    const { domain } = bench({ ...vtd, ias: 39 });
    expect(() => domain.map(iova(2 ** 39 - 4096), physAddr(0), 8192, 0)).toThrow(/EFAULT/);
    expect(leafSizes(domain)).toEqual([]);
  });

  it('gives tables back with the invalidation that ends them', () => {
    const { domain, pages } = bench(vtd);
    const root = pages.outstanding;
    domain.map(iova(0), physAddr(4096), 2 * MIB, RW);
    domain.unmap(iova(0), 2 * MIB);
    expect(pages.outstanding).toBe(root + 2);
    domain.invalidateOnUnmap = false;
    domain.map(iova(0), physAddr(4096), 2 * MIB, RW);
    domain.unmap(iova(0), 2 * MIB);
    expect(pages.outstanding).toBe(root + 3);
    domain.flushIotlbAll();
    expect(pages.outstanding).toBe(root + 2);
    const gather = new IotlbGather(true);
    domain.map(iova(0), physAddr(4096), 2 * MIB, RW);
    domain.unmapFast(iova(0), 2 * MIB, gather);
    domain.flushIotlbAll();
    expect(pages.outstanding).toBe(root + 3);
    gather.takeTables()?.release();
    domain.free();
    expect(pages.outstanding).toBe(0);
  });

  it.each<readonly [hazard: string, call: (domain: IommuDomain) => unknown]>([
    ['iommu.map-over-superpage', (domain) => domain.map(iova(0), physAddr(0), 4 * MIB, RW)],
    ['iommu.map-over-superpage', (domain) => domain.map(iova(2 * MIB + 4096), physAddr(0), 4096, RW)],
    ['iommu.unmap-inside-superpage', (domain) => domain.unmap(iova(2 * MIB + 4096), 4096)],
    ['iommu.unmap-inside-superpage', (domain) => domain.unmap(iova(2 * MIB - 4096), 8192)],
    ['iommu.unmap-without-table', (domain) => domain.unmap(iova(GIB), 4096)],
    ['iommu.unmap-without-table', (domain) => domain.unmap(iova(4 * MIB), MIB)],
    ['iommu.map-nothing', (domain) => domain.map(iova(0), physAddr(0), 0, RW)],
  ])('reports %s, which would corrupt the kernel, and changes nothing', (hazard, call) => {
    const { sim, domain } = bench({ ...vtd, cachingMode: true });
    domain.map(iova(2 * MIB - 4096), physAddr(0x9000), 4096, RW);
    domain.map(iova(2 * MIB), physAddr(8 * MIB), 2 * MIB, RW);
    expect(() => call(domain)).toThrow(hazard);
    expect(sim.hazards).toMatchObject([{ hazard, domain: 'dom' }]);
    expect(leafSizes(domain)).toEqual([4096, 2 * MIB]);
    expect(domain.iotlbSyncCount).toBe(0);
  });

  it('answers with an error, and 0 bytes, when hazards are only recorded', () => {
    const iommu = new Iommu(new Simulator({ hazards: 'record' }), { name: 'dmar0', pages: new FrameCounter(), ...vtd });
    const domain = iommu.allocDomain();
    domain.map(iova(2 * MIB), physAddr(8 * MIB), 2 * MIB, RW);
    expect(() => domain.map(iova(0), physAddr(0), 4 * MIB, RW)).toThrow(/EEXIST.*nothing has changed/);
    expect(domain.unmap(iova(2 * MIB + 4096), 4096)).toBe(0);
    expect(iommu.sim.hazards.map((facts) => facts.hazard)).toEqual([
      'iommu.map-over-superpage',
      'iommu.unmap-inside-superpage',
    ]);
    expect(leafSizes(domain)).toEqual([2 * MIB]);
  });

  it('maps and unmaps whole superpages, and what lies beside them, without a report', () => {
    const { sim, domain } = bench(vtd);
    domain.map(iova(2 * MIB - 4096), physAddr(8 * MIB - 4096), 2 * MIB + 8192, RW);
    expect(leafSizes(domain)).toEqual([4096, 2 * MIB, 4096]);
    expect(domain.unmap(iova(2 * MIB - 4096), 4096)).toBe(4096);
    expect(domain.unmap(iova(2 * MIB), MIB)).toBe(2 * MIB);
    expect(domain.unmap(iova(4 * MIB), 4096)).toBe(4096);
    expect([leafSizes(domain), sim.hazards]).toEqual([[], []]);
  });
});
