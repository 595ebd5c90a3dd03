import { describe, expect, it } from 'vitest';
import { iova, physAddr } from '../../src/base/addr.ts';
import { MIB } from '../../src/base/units.ts';
import type { DmaFault } from '../../src/iommu/fault.ts';
import { IommuProt } from '../../src/iommu/io-pgtable.ts';
import { Iommu, type IommuOptions } from '../../src/iommu/iommu.ts';
import { IommuDomain, type IommuDomainOptions } from '../../src/iommu/iommu-domain.ts';
import { Translation } from '../../src/iommu/translation.ts';
import { Simulator } from '../../src/sim/simulator.ts';
import type { TraceEvent } from '../../src/trace/trace-events.ts';
import { FrameCounter } from './frame-counter.ts';

const RW = IommuProt.read | IommuProt.write;
const COSTS = {
  iotlbHitNs: 2,
  walkPerLevelNs: 100,
  mapFixedNs: 0,
  mapPerPageNs: 0,
  unmapFixedNs: 0,
  unmapPerPageNs: 0,
  invalidateFixedNs: 0,
  invalidatePerPageNs: 0,
};

function bench(domainOptions: IommuDomainOptions = {}, options: Partial<IommuOptions> = {}) {
  const sim = new Simulator();
  const iommu = new Iommu(sim, { name: 'smmu0', pages: new FrameCounter(), costs: COSTS, ...options });
  const domain = new IommuDomain(iommu, domainOptions);
  return { sim, iommu, domain, out: new Translation('camera0') };
}

describe('Iommu.translate', () => {
  it('walks once, then answers from the IOTLB, and charges each', () => {
    const { sim, iommu, domain, out } = bench();
    domain.map(iova(0x10_0000), physAddr(0x8000_0000), 0x4000, RW);
    sim.run(function* () {
      expect(iommu.translate(domain, iova(0x10_1004), 'write', out)).toBe(true);
      yield* sim.delay(0);
    });
    expect([out.phys, out.runBytes, out.costNs, out.fault]).toEqual([0x8000_1004, 0xffc, 402, null]);
    expect(sim.now).toBe(402);
    sim.run(function* () {
      expect(iommu.translate(domain, iova(0x10_1008), 'read', out)).toBe(true);
      yield* sim.delay(0);
    });
    expect([out.phys, out.costNs, sim.now]).toEqual([0x8000_1008, 2, 404]);
    expect([iommu.iotlb.hits, iommu.iotlb.misses]).toEqual([1, 1]);
  });

  it('covers a block with one entry, and tells how far the translation goes', () => {
    const { iommu, domain, out } = bench();
    domain.map(iova(2 * MIB), physAddr(6 * MIB), 2 * MIB, RW);
    iommu.translate(domain, iova(2 * MIB + 0x1234), 'read', out);
    expect([out.phys, out.runBytes, out.costNs]).toEqual([6 * MIB + 0x1234, 2 * MIB - 0x1234, 302]);
    iommu.translate(domain, iova(4 * MIB - 1), 'read', out);
    expect([out.phys, out.runBytes, iommu.iotlb.size]).toEqual([8 * MIB - 1, 1, 1]);
  });

  it('leaves the cost to the caller in the deferred form', () => {
    const { sim, iommu, domain, out } = bench();
    domain.map(iova(0), physAddr(0x1000), 0x1000, RW);
    sim.run(function* () {
      iommu.translateDeferred(domain, iova(0), 'read', out);
      yield* sim.delay(0);
    });
    expect([sim.now, out.costNs]).toEqual([0, 402]);
  });
});

describe('Iommu faults', () => {
  it('records device, address, reason, level and time of an access to a hole, and tells handler and trace', () => {
    const handled: DmaFault[] = [];
    const { sim, iommu, domain, out } = bench({ name: 'camera0-dma', onFault: (fault) => void handled.push(fault) });
    const traced: TraceEvent[] = [];
    sim.trace.on('iommu.fault', (event) => void traced.push(event));
    sim.run(function* () {
      yield* sim.delay(500);
      expect(iommu.translate(domain, iova(0x5008), 'write', out)).toBe(false);
    });
    const fault = {
      device: 'camera0',
      sourceId: null,
      domain: 'camera0-dma',
      iova: 0x5008,
      access: 'write',
      reason: 'unmapped',
      stage: 1,
      level: 0,
      isReported: true,
      timeNs: 500,
    };
    expect(out.fault).toEqual(fault);
    expect(out.runBytes).toBe(0);
    expect(handled).toEqual([fault]);
    expect(iommu.faults.take()).toEqual(fault);
    expect(iommu.faults.take()).toBeNull();
    expect(traced).toEqual([
      { kind: 'iommu.fault', timeNs: 500, device: 'camera0', iova: 0x5008, access: 'write', reason: 'unmapped' },
    ]);
    expect(iommu.iotlb.size).toBe(0);
  });

  it('refuses a write to a read-only mapping, by the walk and by the IOTLB', () => {
    const { iommu, domain, out } = bench();
    domain.map(iova(0x1000), physAddr(0x9000), 0x1000, IommuProt.read);
    expect(iommu.translate(domain, iova(0x1000), 'write', out)).toBe(false);
    expect(out.fault).toMatchObject({ reason: 'permission', level: 3 });
    expect(iommu.translate(domain, iova(0x1000), 'read', out)).toBe(true);
    expect(iommu.translate(domain, iova(0x1000), 'write', out)).toBe(false);
    expect(out.fault).toMatchObject({ reason: 'permission', level: -1 });
  });

  it('refuses an address outside the input range although the walk would find its low bits', () => {
    const { iommu, domain, out } = bench({}, { ias: 39 });
    domain.map(iova(0x1000), physAddr(0x9000), 0x1000, RW);
    expect(iommu.translate(domain, iova(2 ** 39 + 0x1000), 'read', out)).toBe(false);
    expect(out.fault).toMatchObject({ reason: 'address-size', level: -1 });
  });

  it('drops an access that a cached entry forbids without a report, where the unit does so, but not one that a walk forbids', () => {
    const handled: DmaFault[] = [];
    const { iommu, domain, out } = bench(
      { onFault: (fault) => void handled.push(fault) },
      { cachedDenial: 'drop', format: 'INTEL_VTD_S2' },
    );
    domain.map(iova(0x1000), physAddr(0x9000), 0x1000, IommuProt.read);
    expect(iommu.translate(domain, iova(0x1000), 'write', out)).toBe(false);
    expect([out.fault?.isReported, iommu.faults.take()?.reason]).toEqual([true, 'permission']);
    iommu.translate(domain, iova(0x1000), 'read', out);
    expect(iommu.translate(domain, iova(0x1000), 'write', out)).toBe(false);
    expect(out.fault).toMatchObject({ reason: 'permission', isReported: false });
    expect([iommu.faults.pending, handled.length]).toEqual([[], 1]);
  });

  it('records one fault of a requester until it is taken, where the unit collapses them', () => {
    const handled: DmaFault[] = [];
    const { iommu, domain } = bench({ onFault: (fault) => void handled.push(fault) }, { collapseFaults: true });
    const [edu, nic] = [new Translation('edu0', 0x80), new Translation('nic0', 0x100)];
    for (const at of [0x1000, 0x2000]) {
      expect(iommu.translate(domain, iova(at), 'write', edu)).toBe(false);
      expect(edu.fault?.iova).toBe(at);
    }
    iommu.translate(domain, iova(0x3000), 'write', nic);
    expect(iommu.faults.pending.map((fault) => fault.iova)).toEqual([0x1000, 0x3000]);
    expect([handled.length, iommu.faults.collapsed]).toEqual([2, 1]);
    iommu.faults.take();
    iommu.translate(domain, iova(0x4000), 'write', edu);
    expect(iommu.faults.pending.map((fault) => fault.iova)).toEqual([0x3000, 0x4000]);
  });

  it('names the requester id of the access', () => {
    const { iommu, domain } = bench();
    const out = new Translation('edu0', 0x80);
    iommu.translate(domain, iova(0), 'read', out);
    expect(iommu.faults.take()).toMatchObject({ device: 'edu0', sourceId: 0x80 });
  });

  it('loses and counts what the event queue has no room for', () => {
    const { iommu, domain, out } = bench({}, { faultCapacity: 2 });
    for (const at of [1, 2, 3]) iommu.translate(domain, iova(at * 4096), 'read', out);
    expect(iommu.faults.pending.map((fault) => fault.iova)).toEqual([4096, 8192]);
    expect(iommu.faults.lost).toBe(1);
  });
});

describe('a stale IOTLB entry', () => {
  it('lets the device reach an unmapped page until the flush, when unmapping does not invalidate', () => {
    const { iommu, domain, out } = bench({ invalidateOnUnmap: false });
    domain.map(iova(0x4000), physAddr(0x9000), 0x2000, RW);
    iommu.translate(domain, iova(0x4000), 'write', out);
    expect(domain.unmap(iova(0x4000), 0x2000)).toBe(0x2000);
    expect(domain.iovaToPhys(iova(0x4000))).toBeNull();
    expect(iommu.translate(domain, iova(0x4010), 'write', out)).toBe(true);
    expect(out.phys).toBe(0x9010);
    // The neighbour was never looked up, so no copy of it exists.
    expect(iommu.translate(domain, iova(0x5000), 'write', out)).toBe(false);
    domain.flushIotlbAll();
    expect(iommu.translate(domain, iova(0x4010), 'write', out)).toBe(false);
  });

  it('answers with the old memory after the address is mapped to new memory', () => {
    const { iommu, domain, out } = bench({ invalidateOnUnmap: false });
    domain.map(iova(0x4000), physAddr(0x9000), 0x1000, RW);
    iommu.translate(domain, iova(0x4000), 'read', out);
    domain.unmap(iova(0x4000), 0x1000);
    domain.map(iova(0x4000), physAddr(0xa000), 0x1000, RW);
    iommu.translate(domain, iova(0x4000), 'read', out);
    expect(out.phys).toBe(0x9000);
    domain.flushIotlbAll();
    iommu.translate(domain, iova(0x4000), 'read', out);
    expect(out.phys).toBe(0xa000);
  });

  it('does not exist with strict invalidation', () => {
    const { iommu, domain, out } = bench();
    domain.map(iova(0x4000), physAddr(0x9000), 0x1000, RW);
    iommu.translate(domain, iova(0x4000), 'read', out);
    domain.unmap(iova(0x4000), 0x1000);
    expect(iommu.translate(domain, iova(0x4000), 'read', out)).toBe(false);
  });

  it('does not survive its domain, whose id comes again', () => {
    const { iommu, domain, out } = bench({ invalidateOnUnmap: false });
    domain.map(iova(0x4000), physAddr(0x9000), 0x1000, RW);
    iommu.translate(domain, iova(0x4000), 'read', out);
    domain.free();
    const next = new IommuDomain(iommu);
    expect(next.asid).toBe(domain.asid);
    expect(iommu.translate(next, iova(0x4000), 'read', out)).toBe(false);
  });
});

describe('a context that is not translated', () => {
  it('of type identity leads every address the unit can drive to itself, without walk or IOTLB', () => {
    const { iommu, out } = bench({}, { oas: 40 });
    const domain = iommu.allocDomain({ type: 'identity' });
    expect(iommu.translate(domain, iova(0x1234), 'write', out)).toBe(true);
    expect([out.phys, out.runBytes, out.costNs]).toEqual([0x1234, 2 ** 40 - 0x1234, 2]);
    expect([iommu.iotlb.size, iommu.iotlb.misses, domain.iovaToPhys(iova(0x77))]).toEqual([0, 0, 0x77]);
    expect(iommu.translate(domain, iova(2 ** 40), 'read', out)).toBe(false);
    expect(out.fault).toMatchObject({ reason: 'address-size', domain: 'smmu0.identity' });
    expect(() => domain.map(iova(0), physAddr(0), 4096, RW)).toThrow(/EINVAL/);
    expect(domain.unmap(iova(0), 4096)).toBe(0);
    domain.free();
  });

  it('of type blocked refuses everything as an empty address space does', () => {
    const { iommu, out } = bench();
    const domain = iommu.allocDomain({ type: 'blocked' });
    expect(iommu.translate(domain, iova(0x1000), 'read', out)).toBe(false);
    expect(out.fault).toMatchObject({ reason: 'unmapped', level: -1, isReported: true });
    expect(domain.iovaToPhys(iova(0x1000))).toBeNull();
    domain.free();
  });

  it('takes no address-space id and no table page', () => {
    const { iommu, domain } = bench();
    iommu.allocDomain({ type: 'identity' });
    iommu.allocDomain({ type: 'blocked' });
    expect(iommu.allocDomain().asid).toBe(domain.asid + 1);
  });

  it('that is missing refuses everything with a reason of its own', () => {
    const { iommu, out } = bench();
    expect(iommu.refuseWithoutContext(iova(0x1000), 'write', out)).toBe(false);
    expect(iommu.faults.take()).toMatchObject({ reason: 'no-context', iova: 0x1000, domain: 'none' });
  });
});
