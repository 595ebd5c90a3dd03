import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { iova, PAGE_SIZE, type Pfn, physAddr } from '../../src/base/addr.ts';
import { MIB } from '../../src/base/units.ts';
import type { IoPgtableFormat } from '../../src/iommu/alloc-io-pgtable.ts';
import { TrackedDomain } from '../../src/iommu/dirty-tracking.ts';
import type { DmaAccess, DmaFault } from '../../src/iommu/fault.ts';
import { IommuProt } from '../../src/iommu/io-pgtable.ts';
import { Iommu } from '../../src/iommu/iommu.ts';
import { freeIommuCosts } from '../../src/iommu/iommu-costs.ts';
import { IommuDomain, type IommuDomainOptions } from '../../src/iommu/iommu-domain.ts';
import { NestedDomain } from '../../src/iommu/nested-translation.ts';
import { Translation } from '../../src/iommu/translation.ts';
import { Simulator } from '../../src/sim/simulator.ts';
import { errnoOf } from '../mem/machine.ts';
import { FrameCounter } from './frame-counter.ts';

const RW = IommuProt.read | IommuProt.write;
/** Where the guest's tables are, as the guest sees it: frames of {@link FrameCounter}. */
const TABLE_IPA = 0x1000_0000;
const TABLE_PHYS = 0x9_0000_0000;
/** A page of the guest's memory. */
const DATA_IPA = 0x4000_0000;
const DATA_PHYS = 0x8000_0000;
const AT = 0x10_0000;

function bench(options: { format?: IoPgtableFormat; ias?: number; domain?: Partial<IommuDomainOptions> } = {}) {
  const sim = new Simulator();
  const hostPages = new FrameCounter();
  const guestPages = new FrameCounter();
  const iommu = new Iommu(sim, {
    ...{ name: 'smmu0', pages: hostPages, dirtyTracking: true, ias: options.ias ?? 48 },
    costs: { ...freeIommuCosts, walkPerLevelNs: 1 },
  });
  const parent = new TrackedDomain(iommu, { format: options.format ?? 'ARM_64_LPAE_S2', name: 'vm0' });
  const nested = new NestedDomain(parent, { guestPages, name: 'vm0-nic0', ...options.domain });
  const out = new Translation('nic0');
  const access = (kind: DmaAccess, at = AT) => iommu.translate(nested, iova(at), kind, out);
  /** The fault of an access that must be refused. */
  const fault = (kind: DmaAccess, at = AT): DmaFault => {
    expect(access(kind, at)).toBe(false);
    if (out.fault === null) throw new Error('no fault');
    return out.fault;
  };
  /** Lets the guest's tables be read, and its data be reached. */
  const back = () => {
    parent.map(iova(TABLE_IPA), physAddr(TABLE_PHYS), MIB, RW);
    parent.map(iova(DATA_IPA), physAddr(DATA_PHYS), 2 * MIB, RW);
  };
  return { sim, hostPages, guestPages, iommu, parent, nested, out, access, fault, back };
}

describe('NestedDomain', () => {
  it('translates by both stages, and caches one entry of the smaller size', () => {
    const { iommu, nested, out, access, back } = bench();
    back();
    nested.map(iova(AT), physAddr(DATA_IPA + 0x3000), PAGE_SIZE, RW);
    expect(access('write', AT + 0x123)).toBe(true);
    expect([out.phys, out.runBytes]).toEqual([DATA_PHYS + 0x3123, PAGE_SIZE - 0x123]);
    expect(nested.iovaToPhys(iova(AT))).toBe(DATA_IPA + 0x3000);
    expect([...iommu.iotlb.entries()]).toMatchObject([
      { asid: nested.asid, iova: AT, phys: DATA_PHYS + 0x3000, sizeBytes: PAGE_SIZE },
    ]);
    access('write', AT + 0x200);
    expect([iommu.iotlb.hits, out.costNs]).toEqual([1, 0]);
  });

  it('refuses a parent that translates nothing', () => {
    const { iommu, guestPages } = bench();
    for (const type of ['identity', 'blocked'] as const) {
      const parent = new IommuDomain(iommu, { type, format: 'ARM_64_LPAE_S2' });
      errnoOf('EINVAL', () => new NestedDomain(parent, { guestPages }));
    }
  });

  it('cuts a block of the guest to the pages of the host', () => {
    const { iommu, parent, nested, out, access } = bench();
    parent.map(iova(TABLE_IPA), physAddr(TABLE_PHYS), MIB, RW);
    parent.map(iova(DATA_IPA), physAddr(DATA_PHYS + PAGE_SIZE), 2 * MIB, RW);
    nested.map(iova(2 * MIB), physAddr(DATA_IPA), 2 * MIB, RW);
    access('read', 2 * MIB + 5 * PAGE_SIZE);
    expect([out.phys, out.runBytes]).toEqual([DATA_PHYS + 6 * PAGE_SIZE, PAGE_SIZE]);
    expect([...iommu.iotlb.entries()].map((entry) => entry.sizeBytes)).toEqual([PAGE_SIZE]);
  });

  it('reads each descriptor of the guest through the host: 24 reads for four levels by four', () => {
    const { nested, out, access, parent } = bench({ format: 'INTEL_VTD_S2' });
    // Pages, so that each stage walks to the last level.
    parent.map(iova(TABLE_IPA), physAddr(TABLE_PHYS), MIB, RW);
    parent.map(iova(DATA_IPA), physAddr(DATA_PHYS), PAGE_SIZE, RW);
    nested.map(iova(AT), physAddr(DATA_IPA), PAGE_SIZE, RW);
    access('read');
    expect(out.costNs).toBe(4 * (4 + 1) + 4);
  });

  it('gives only the rights that both stages give', () => {
    const { parent, nested, access, fault } = bench();
    parent.map(iova(TABLE_IPA), physAddr(TABLE_PHYS), MIB, RW);
    parent.map(iova(DATA_IPA), physAddr(DATA_PHYS), PAGE_SIZE, IommuProt.read);
    parent.map(iova(DATA_IPA + PAGE_SIZE), physAddr(DATA_PHYS), PAGE_SIZE, RW);
    nested.map(iova(AT), physAddr(DATA_IPA), PAGE_SIZE, RW);
    nested.map(iova(AT + PAGE_SIZE), physAddr(DATA_IPA + PAGE_SIZE), PAGE_SIZE, IommuProt.read);
    expect(fault('write')).toMatchObject({ stage: 2, reason: 'permission', ipa: DATA_IPA, during: 'stage-1-output' });
    const ofGuest = fault('write', AT + PAGE_SIZE);
    expect(ofGuest).toMatchObject({ stage: 1, reason: 'permission', level: 3 });
    expect(ofGuest).not.toHaveProperty('ipa');
    expect([access('read'), access('read', AT + PAGE_SIZE)]).toEqual([true, true]);
    // The cached entries say no more than that: the fault names the stage all the same.
    expect(fault('write')).toMatchObject({ stage: 2, reason: 'permission', ipa: DATA_IPA, during: 'stage-1-output' });
    expect(fault('write', AT + PAGE_SIZE)).toEqual({ ...ofGuest, timeNs: expect.any(Number) });
  });
});

describe('a cached nested translation', () => {
  it('does not give a right that the guest did not give, though the host does', () => {
    const { iommu, guestPages, out } = bench();
    const parent = new IommuDomain(iommu, { format: 'ARM_64_LPAE_S2' });
    const nested = new NestedDomain(parent, { guestPages });
    parent.map(iova(TABLE_IPA), physAddr(TABLE_PHYS), MIB, RW);
    parent.map(iova(DATA_IPA), physAddr(DATA_PHYS), PAGE_SIZE, RW);
    nested.map(iova(AT), physAddr(DATA_IPA), PAGE_SIZE, IommuProt.read);
    expect(iommu.translate(nested, iova(AT), 'read', out)).toBe(true);
    expect(iommu.translate(nested, iova(AT), 'write', out)).toBe(false);
    expect(out.fault).toMatchObject({ stage: 1, reason: 'permission', level: 3 });
  });
});

describe('a fault of a nested translation', () => {
  it('names stage 1 and its level when the guest has not mapped the address', () => {
    const { nested, fault, back } = bench();
    back();
    nested.map(iova(AT), physAddr(DATA_IPA), PAGE_SIZE, RW);
    const first = fault('read', AT + PAGE_SIZE);
    expect(first).toMatchObject({ domain: 'vm0-nic0', iova: AT + PAGE_SIZE, stage: 1, reason: 'unmapped', level: 3 });
    expect(first).not.toHaveProperty('during');
    expect(fault('read', 2 ** 40)).toMatchObject({ stage: 1, reason: 'unmapped', level: 0 });
    expect(fault('read', 2 ** 48)).toMatchObject({ reason: 'address-size', level: -1 });
  });

  it('names stage 2 and the intermediate address when the host has not mapped what the guest translates to', () => {
    const { parent, nested, fault } = bench();
    parent.map(iova(TABLE_IPA), physAddr(TABLE_PHYS), MIB, RW);
    nested.map(iova(AT), physAddr(DATA_IPA + 0x5000), PAGE_SIZE, RW);
    expect(fault('write', AT + 8)).toMatchObject({
      ...{ stage: 2, reason: 'unmapped', iova: AT + 8, level: 1 },
      ...{ ipa: DATA_IPA + 0x5008, during: 'stage-1-output' },
    });
  });

  it('names stage 2 and the descriptor when the host has not mapped a table of the guest', () => {
    const { parent, nested, fault } = bench();
    nested.map(iova(AT), physAddr(DATA_IPA), PAGE_SIZE, RW);
    // Four tables, one a page: first none is there, then the walk gets one level further each time.
    for (let level = 0; level < 4; level++) {
      const table = TABLE_IPA + level * PAGE_SIZE;
      const index = Math.floor(AT / 2 ** (39 - 9 * level)) % 512;
      expect(fault('read')).toMatchObject({
        stage: 2,
        reason: 'unmapped',
        ipa: table + 8 * index,
        during: 'stage-1-walk',
      });
      parent.map(iova(table), physAddr(TABLE_PHYS + level * PAGE_SIZE), PAGE_SIZE, RW);
    }
    expect(fault('read')).toMatchObject({ stage: 2, ipa: DATA_IPA, during: 'stage-1-output' });
  });

  it("names stage 2 when a table lies behind the host's input range, or may not be read", () => {
    const { parent, nested, fault } = bench({ format: 'ARM_64_LPAE_S2' });
    parent.map(iova(TABLE_IPA), physAddr(TABLE_PHYS), MIB, IommuProt.write);
    nested.map(iova(AT), physAddr(DATA_IPA), PAGE_SIZE, RW);
    expect(fault('write')).toMatchObject({ stage: 2, reason: 'permission', during: 'stage-1-walk' });
    const small = bench({ ias: 32 });
    small.parent.map(iova(TABLE_IPA), physAddr(TABLE_PHYS), MIB, RW);
    small.nested.map(iova(AT), physAddr(2 ** 33), PAGE_SIZE, RW);
    expect(small.fault('read')).toMatchObject({
      stage: 2,
      reason: 'address-size',
      ipa: 2 ** 33,
      during: 'stage-1-output',
    });
  });
});

describe('invalidation of nested translations', () => {
  it('drops combined entries when the host unmaps, by whatever intermediate address', () => {
    const { parent, nested, access, fault, back, iommu } = bench();
    back();
    nested.map(iova(AT), physAddr(DATA_IPA), PAGE_SIZE, RW);
    const other = new NestedDomain(parent, { guestPages: new FrameCounter() });
    const stranger = new IommuDomain(iommu);
    stranger.map(iova(AT), physAddr(0x7000), PAGE_SIZE, RW);
    iommu.translate(stranger, iova(AT), 'read', new Translation('cam0'));
    access('read');
    expect([...iommu.iotlb.entries()]).toHaveLength(2);
    parent.unmap(iova(DATA_IPA), 2 * MIB);
    expect(fault('read')).toMatchObject({ stage: 2, ipa: DATA_IPA });
    expect([...iommu.iotlb.entries()].map((entry) => entry.asid)).toEqual([stranger.asid]);
    other.free();
  });

  it('leaves the device with the old memory when the host does not invalidate', () => {
    const { parent, nested, access, out, fault, back } = bench();
    back();
    nested.map(iova(AT), physAddr(DATA_IPA), PAGE_SIZE, RW);
    access('read');
    parent.invalidateOnUnmap = false;
    parent.unmap(iova(DATA_IPA), 2 * MIB);
    expect(access('read')).toBe(true);
    expect(out.phys).toBe(DATA_PHYS);
    parent.flushIotlbAll();
    expect(fault('read')).toMatchObject({ stage: 2, reason: 'unmapped' });
  });

  it("drops only the guest's own entries when the guest unmaps, and only when it invalidates", () => {
    const { parent, nested, iommu, access, fault, back } = bench({ domain: { invalidateOnUnmap: false } });
    back();
    const other = new NestedDomain(parent, { guestPages: guestFrames(0x80) });
    for (const domain of [nested, other]) {
      domain.map(iova(AT), physAddr(DATA_IPA), PAGE_SIZE, RW);
      expect(iommu.translate(domain, iova(AT), 'read', new Translation('nic0'))).toBe(true);
    }
    nested.unmap(iova(AT), PAGE_SIZE);
    expect(access('read')).toBe(true);
    nested.flushIotlbAll();
    expect(fault('read')).toMatchObject({ stage: 1, reason: 'unmapped' });
    expect([...iommu.iotlb.entries()].map((entry) => entry.asid)).toEqual([other.asid]);
  });
});

describe('the host of nested translations', () => {
  it('sees which pages of the guest were written, and not those that were read', () => {
    const { parent, nested, access, back } = bench();
    back();
    parent.unmap(iova(DATA_IPA), 2 * MIB);
    parent.map(iova(DATA_IPA), physAddr(DATA_PHYS + PAGE_SIZE), 64 * PAGE_SIZE, RW);
    parent.setDirtyTracking(true);
    nested.map(iova(AT), physAddr(DATA_IPA), 64 * PAGE_SIZE, RW);
    for (const page of [1, 2, 9]) access('read', AT + page * PAGE_SIZE);
    for (const page of [2, 40]) expect(access('write', AT + page * PAGE_SIZE)).toBe(true);
    const written = () => {
      const bitmap = new Uint8Array(8);
      parent.readAndClearDirty(iova(DATA_IPA), 64 * PAGE_SIZE, bitmap);
      return [...bitmap];
    };
    expect(written()).toEqual([4, 0, 0, 0, 0, 1, 0, 0]);
    // Clearing invalidated the combined entries: a write through them shows again.
    access('write', AT + 2 * PAGE_SIZE);
    expect(written()).toEqual([4, 0, 0, 0, 0, 0, 0, 0]);
  });

  it('cannot go before its guests, and takes nothing when a guest cannot be made', () => {
    const { iommu, parent, nested, hostPages, guestPages } = bench();
    errnoOf('EBUSY', () => parent.free());
    const stage1 = new IommuDomain(iommu);
    errnoOf('EINVAL', () => new NestedDomain(stage1, { guestPages }));
    errnoOf('EINVAL', () => new NestedDomain(nested, { guestPages }));
    errnoOf('EINVAL', () => new NestedDomain(parent, { guestPages, format: 'ARM_64_LPAE_S2' }));
    errnoOf('EINVAL', () => new NestedDomain(parent, { guestPages, format: 'ARM_V7S' }));
    errnoOf('ENOMEM', () => new NestedDomain(parent, { guestPages: new FrameCounter(0) }));
    nested.free();
    stage1.free();
    parent.free();
    expect([hostPages.outstanding, guestPages.outstanding]).toEqual([0, 0]);
    expect(iommu.takeAsid()).toBe(1);
  });
});

describe('a device in a nested domain', () => {
  it('agrees with translating twice by hand', () => {
    const PAGES = 24;
    const map = fc.record({ page: fc.nat(PAGES - 1), to: fc.nat(PAGES - 1), prot: fc.integer({ min: 1, max: 3 }) });
    const step = fc.record({
      stage: fc.constantFrom(1 as const, 2 as const),
      map,
      isUnmap: fc.boolean(),
      write: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), fc.boolean(), (steps, tracks) => {
        const { iommu, guestPages, parent: tracked, out } = bench();
        const parent = tracks ? tracked : new IommuDomain(iommu, { format: 'ARM_64_LPAE_S2' });
        const nested = new NestedDomain(parent, { guestPages });
        const access = (kind: DmaAccess, at: number) => iommu.translate(nested, iova(at), kind, out);
        parent.map(iova(TABLE_IPA), physAddr(TABLE_PHYS), MIB, RW);
        const stages = {
          1: new Map<number, readonly [number, number]>(),
          2: new Map<number, readonly [number, number]>(),
        };
        for (const { stage, map: one, isUnmap, write } of steps) {
          const domain = stage === 1 ? nested : parent;
          const [from, to] = stage === 1 ? [AT, DATA_IPA] : [DATA_IPA, DATA_PHYS];
          const at = iova(from + one.page * PAGE_SIZE);
          // Stage 1 has no pages that can only be written.
          const prot = stage === 1 ? one.prot | IommuProt.read : one.prot;
          if (stages[stage].has(one.page)) {
            if (isUnmap) domain.unmap(at, PAGE_SIZE);
            if (isUnmap) stages[stage].delete(one.page);
          } else {
            domain.map(at, physAddr(to + one.to * PAGE_SIZE), PAGE_SIZE, prot);
            stages[stage].set(one.page, [one.to, prot]);
          }
          const need = write ? IommuProt.write : IommuProt.read;
          for (let page = 0; page < PAGES; page++) {
            const first = stages[1].get(page);
            const second = first === undefined ? undefined : stages[2].get(first[0]);
            const isAllowed = first !== undefined && second !== undefined && (first[1] & second[1] & need) !== 0;
            expect(access(write ? 'write' : 'read', AT + page * PAGE_SIZE)).toBe(isAllowed);
            if (isAllowed) expect(out.phys).toBe(DATA_PHYS + second[0] * PAGE_SIZE);
          }
        }
      }),
      { numRuns: 40 * Number(process.env['DMABUF_SIM_RUNS'] ?? 1) },
    );
  });
});

/** Frames from `offset` frames behind {@link TABLE_IPA} on: a second guest's tables in the same memory. */
function guestFrames(offset: number): FrameCounter {
  const pages = new FrameCounter();
  for (let i = 0; i < offset; i++) pages.alloc(0) satisfies Pfn;
  return pages;
}
