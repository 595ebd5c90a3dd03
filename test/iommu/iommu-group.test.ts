import { describe, expect, it } from 'vitest';
import { iova, physAddr } from '../../src/base/addr.ts';
import { IommuProt } from '../../src/iommu/io-pgtable.ts';
import { Iommu } from '../../src/iommu/iommu.ts';
import { IommuGroup, type IommuGroupOptions } from '../../src/iommu/iommu-group.ts';
import { Translation } from '../../src/iommu/translation.ts';
import { Simulator } from '../../src/sim/simulator.ts';
import { FrameCounter } from './frame-counter.ts';

const RW = IommuProt.read | IommuProt.write;
const edu = { name: 'edu0', sourceId: 0x80 };

function bench(options: Partial<IommuGroupOptions> = {}) {
  const sim = new Simulator();
  const pages = new FrameCounter();
  const iommu = new Iommu(sim, { name: 'dmar0', pages, format: 'INTEL_VTD_S2' });
  const group = new IommuGroup(iommu, { name: 'g0', ...options });
  group.addDevice(edu);
  return { sim, pages, iommu, group };
}

/** What a device of the group reaches at `at`: a physical address, or why not. */
function reach(group: IommuGroup, at: number): number | string {
  const out = new Translation(edu.name, edu.sourceId);
  const { iommu, domain } = group;
  if (domain === null) iommu.refuseWithoutContext(iova(at), 'read', out);
  else iommu.translate(domain, iova(at), 'read', out);
  return out.fault?.reason ?? out.phys;
}

describe('IommuGroup devices', () => {
  it('are translated by the default domain from the moment they are added', () => {
    const { iommu, group } = bench();
    expect([iommu.groupOf(edu), iommu.contextOf(edu), group.devices]).toEqual([group, group.defaultDomain, [edu]]);
    expect([group.defaultDomain?.type, group.defaultDomain?.devices, group.typeText]).toEqual(['dma', [edu], 'DMA']);
  });

  it('are refused everything once they are taken out', () => {
    const { iommu, group } = bench();
    group.removeDevice(edu);
    expect([iommu.groupOf(edu), iommu.contextOf(edu), iommu.groupOfSource(0x80)]).toEqual([null, null, null]);
    expect(() => group.removeDevice(edu)).toThrow(/edu0 is not in group g0/);
  });

  it('are found by each requester id that their accesses carry', () => {
    const { iommu, group } = bench();
    const nic = { name: 'nic0', sourceId: 0x100, aliases: [0x108, 0x80] };
    group.addDevice(nic);
    expect([0x80, 0x100, 0x108, 0x110].map((id) => iommu.groupOfSource(id))).toEqual([group, group, group, null]);
    group.removeDevice(nic);
    expect([0x80, 0x108].map((id) => iommu.groupOfSource(id))).toEqual([group, null]);
  });

  it('that share a requester id, or are in a group already, cannot be in two groups', () => {
    const { iommu, group } = bench();
    const other = new IommuGroup(iommu, { name: 'g1' });
    expect(() => other.addDevice(edu)).toThrow(/EBUSY: edu0 is in group g0 already/);
    expect(() => other.addDevice({ name: 'bridge', aliases: [0x80] })).toThrow(
      /EBUSY: bridge shares requester id 128 with group g0/,
    );
    expect([other.devices, group.devices]).toEqual([[], [edu]]);
  });
});

describe('IommuGroup.attach', () => {
  it('leads to the domain until it is detached, and then back to the default domain with its mappings', () => {
    const { iommu, group } = bench();
    const mine = iommu.allocDomain();
    group.defaultDomain?.map(iova(0x1000), physAddr(0x8000), 4096, RW);
    mine.map(iova(0x1000), physAddr(0x9000), 4096, RW);
    expect(reach(group, 0x1000)).toBe(0x8000);
    group.attach(mine);
    expect([reach(group, 0x1000), mine.devices]).toEqual([0x9000, [edu]]);
    group.detach(mine);
    expect([reach(group, 0x1000), mine.devices]).toEqual([0x8000, []]);
    expect(() => group.detach(mine)).toThrow(/g0 is not attached to/);
  });

  it('answers EBUSY while another domain is attached, even for this very one', () => {
    const { iommu, group } = bench();
    const mine = iommu.allocDomain({ name: 'mine' });
    group.attach(mine);
    expect(() => group.attach(mine)).toThrow(/EBUSY: group g0 is attached to mine; detach it first/);
    expect(() => iommu.allocDomain().attachDevice(edu)).toThrow(/EBUSY/);
    expect(group.domain).toBe(mine);
  });

  it('of a single device works only for a device that is alone in its group', () => {
    const { iommu, group } = bench();
    const mine = iommu.allocDomain();
    group.addDevice({ name: 'edu1' });
    expect(() => mine.attachDevice(edu)).toThrow(/EINVAL: edu0 shares group g0 with 1 others/);
    group.attach(mine);
    expect(mine.devices).toHaveLength(2);
  });

  it('gives a device without a group one of its own, in which it is refused everything when detached', () => {
    const { iommu } = bench();
    const mine = iommu.allocDomain();
    const lone = { name: 'lone0' };
    mine.attachDevice(lone);
    const group = iommu.groupOf(lone);
    expect([group?.domain, group?.defaultDomain, group?.typeText]).toEqual([mine, null, 'unknown']);
    mine.detachDevice(lone);
    expect(group === null ? null : reach(group, 0)).toBe('no-context');
  });

  it('refuses a domain of another unit, and one that is freed', () => {
    const { sim, group, iommu } = bench();
    const other = new Iommu(sim, { name: 'dmar1', pages: new FrameCounter() });
    const before = group.domain;
    expect(() => group.attach(other.allocDomain())).toThrow(/of another unit/);
    const freed = iommu.allocDomain();
    freed.free();
    expect(() => freed.free()).toThrow(/is freed already/);
    expect(() => group.attach(freed)).toThrow(/is freed/);
    expect(group.domain).toBe(before);
  });
});

describe('IommuGroup.replaceDomain', () => {
  it('changes from one domain to another without a moment at the default one', () => {
    const { iommu, group } = bench();
    const [first, second] = [iommu.allocDomain(), iommu.allocDomain()];
    group.attach(first);
    expect(group.replaceDomain(second)).toBe(first);
    expect([group.domain, first.devices, second.devices]).toEqual([second, [], [edu]]);
    group.detach(second);
    expect(group.domain).toBe(group.defaultDomain);
  });
});

describe('IommuGroup.claimDmaOwner', () => {
  it('blocks the group, and the old mappings work again after the release', () => {
    const { group } = bench();
    group.defaultDomain?.map(iova(0x1000), physAddr(0x8000), 4096, RW);
    group.claimDmaOwner({});
    expect([group.isDmaOwnerClaimed, group.domain?.type, reach(group, 0x1000)]).toEqual([true, 'blocked', 'unmapped']);
    group.releaseDmaOwner();
    expect([group.isDmaOwnerClaimed, reach(group, 0x1000)]).toEqual([false, 0x8000]);
    expect(() => group.releaseDmaOwner()).toThrow(/g0 is not claimed/);
  });

  it('answers EPERM to everybody while it is claimed, the owner included', () => {
    const { group } = bench();
    const owner = {};
    group.claimDmaOwner(owner);
    expect(() => group.claimDmaOwner(owner)).toThrow(/EPERM.*claimed already/);
    expect(() => group.claimDmaOwner({})).toThrow(/EPERM/);
  });

  it('lets the owner attach a domain of its own, which leaves the group blocked when it is detached', () => {
    const { iommu, group } = bench();
    const mine = iommu.allocDomain();
    group.claimDmaOwner({});
    mine.attachDevice(edu);
    mine.detachDevice(edu);
    expect(group.domain?.type).toBe('blocked');
    mine.attachDevice(edu);
    group.releaseDmaOwner();
    expect(group.domain).toBe(group.defaultDomain);
  });

  it('fails while another domain is attached, and while a driver of the kernel is bound', () => {
    const { iommu, group } = bench();
    const mine = iommu.allocDomain({ name: 'mine' });
    group.attach(mine);
    expect(() => group.claimDmaOwner({})).toThrow(/EBUSY: group g0 is attached to mine/);
    group.detach(mine);
    group.useDefaultDomain();
    expect(() => group.claimDmaOwner({})).toThrow(/EPERM: group g0 is used by a driver/);
    group.unuseDefaultDomain();
    group.claimDmaOwner({});
  });
});

describe('IommuGroup.useDefaultDomain', () => {
  it('refuses a driver while the group is claimed', () => {
    const { group } = bench();
    group.claimDmaOwner({});
    expect(() => group.useDefaultDomain()).toThrow(/EBUSY: group g0 is claimed/);
    expect(() => group.unuseDefaultDomain()).toThrow(/no driver is bound/);
  });

  it('lets several drivers in, but no further one while another domain is attached', () => {
    const { iommu, group } = bench();
    group.useDefaultDomain();
    group.useDefaultDomain();
    const mine = iommu.allocDomain({ name: 'mine' });
    group.attach(mine);
    expect(() => group.useDefaultDomain()).toThrow(/EBUSY: group g0 is attached to mine/);
    group.detach(mine);
    group.unuseDefaultDomain();
    group.unuseDefaultDomain();
    expect(() => group.unuseDefaultDomain()).toThrow(/no driver is bound/);
  });

  it('takes one identity domain for another', () => {
    const { iommu, group } = bench({ defaultType: 'identity' });
    group.useDefaultDomain();
    group.attach(iommu.allocDomain({ type: 'identity' }));
    group.useDefaultDomain();
    expect(reach(group, 0x1234)).toBe(0x1234);
  });
});

describe('IommuGroup.writeType', () => {
  it('keeps domain and mappings from DMA to DMA-FQ', () => {
    const { iommu, group } = bench();
    const before = group.defaultDomain;
    before?.map(iova(0x1000), physAddr(0x8000), 4096, RW);
    expect(before?.cookie?.isLazy).toBe(false);
    group.writeType('DMA-FQ\n');
    expect([group.defaultDomain, group.typeText, group.domain?.type]).toEqual([before, 'DMA-FQ', 'dma-fq']);
    expect([before?.cookie?.isLazy, reach(group, 0x1000), iommu.flushIotlbAllCount]).toEqual([true, 0x8000, 0]);
  });

  it('makes a new, empty domain for every other change, and gives the old one with its tables back', () => {
    const { iommu, group, pages } = bench({ defaultType: 'dma-fq' });
    const before = group.defaultDomain;
    before?.map(iova(0x1000), physAddr(0x8000), 4096, RW);
    expect(before?.cookie?.isLazy).toBe(true);
    group.writeType('DMA');
    expect([group.typeText, group.defaultDomain === before, reach(group, 0x1000)]).toEqual(['DMA', false, 'unmapped']);
    expect([pages.outstanding, iommu.flushIotlbAllCount]).toEqual([1, 1]);
    group.writeType('identity');
    expect([group.typeText, reach(group, 0x1000), pages.outstanding, iommu.flushIotlbAllCount]).toEqual([
      'identity',
      0x1000,
      0,
      1,
    ]);
    group.writeType('auto\n');
    expect([group.typeText, iommu.flushIotlbAllCount]).toEqual(['DMA-FQ', 2]);
  });

  it.each(['', 'DMA', 'DMA\n', 'auto'])('does nothing for %j in a group of type DMA', (text) => {
    const { group } = bench();
    const before = group.defaultDomain;
    group.writeType(text);
    expect([group.defaultDomain, group.typeText]).toEqual([before, 'DMA']);
  });

  it.each(['dma', 'DMA-fq', 'DMA\n\n', ' DMA', 'blocked', 'unmanaged', '\n'])('is EINVAL for %j', (text) => {
    const { group } = bench();
    expect(() => group.writeType(text)).toThrow(/iommu_group_type: EINVAL/);
    expect(group.typeText).toBe('DMA');
  });

  it('is EBUSY while a driver is bound, except from DMA to DMA-FQ', () => {
    const { group } = bench();
    group.useDefaultDomain();
    expect(() => group.writeType('identity')).toThrow(/EBUSY.*a driver is bound/);
    expect(() => group.writeType('DMA')).toThrow(/EBUSY/);
    group.writeType('DMA-FQ');
    expect(group.typeText).toBe('DMA-FQ');
    expect(() => group.writeType('DMA')).toThrow(/EBUSY/);
  });

  it('is EBUSY while another domain is attached, and EINVAL without exactly one device or without default domain', () => {
    const { iommu, group } = bench();
    const mine = iommu.allocDomain();
    group.attach(mine);
    expect(() => group.writeType('DMA-FQ')).toThrow(/EBUSY/);
    group.detach(mine);
    group.addDevice({ name: 'edu1' });
    expect(() => group.writeType('DMA-FQ')).toThrow(/EINVAL.*2 devices/);
    const bare = bench({ defaultType: null }).group;
    expect(() => bare.writeType('DMA')).toThrow(/EINVAL.*no default domain/);
  });

  it('is EINVAL for a type that the devices cannot work with', () => {
    const { group, iommu } = bench({ requiredType: 'dma' });
    expect(() => group.writeType('identity')).toThrow(/EINVAL.*need DMA/);
    expect(() => group.writeType('DMA-FQ')).toThrow(/EINVAL/);
    group.writeType('auto');
    expect(group.typeText).toBe('DMA');
    expect(() => new IommuGroup(iommu, { name: 'g1', defaultType: 'identity', requiredType: 'dma' })).toThrow(/EINVAL/);
  });

  it('is EBUSY while another group is attached to the default domain that it would end', () => {
    const { iommu, group } = bench();
    const other = new IommuGroup(iommu, { name: 'g1', defaultType: null });
    const shared = group.defaultDomain;
    if (shared === null) throw new Error('no default domain');
    other.attach(shared);
    expect(() => group.writeType('identity')).toThrow(/EBUSY.*other groups/);
    group.removeDevice(edu);
    expect(() => group.free()).toThrow(/EBUSY.*other groups/);
    expect([group.domain, other.domain]).toEqual([shared, shared]);
    other.detach(shared);
    group.free();
  });

  it('changes nothing when there is no page for the new domain', () => {
    const { group, pages } = bench({ defaultType: 'dma-fq' });
    const before = group.defaultDomain;
    pages.limit = pages.outstanding;
    expect(() => group.writeType('DMA')).toThrow(/ENOMEM/);
    expect([group.defaultDomain, group.domain, group.typeText]).toEqual([before, before, 'DMA-FQ']);
  });
});

describe('IommuGroup.free', () => {
  it('gives everything back, and not before the group is empty and at rest', () => {
    const { iommu, group, pages } = bench();
    const mine = iommu.allocDomain({ name: 'mine' });
    expect(() => group.free()).toThrow(/EBUSY: group g0: edu0 is in it/);
    group.removeDevice(edu);
    group.claimDmaOwner({});
    expect(() => group.free()).toThrow(/EBUSY.*in use/);
    group.releaseDmaOwner();
    group.attach(mine);
    expect(() => group.free()).toThrow(/EBUSY.*mine is attached/);
    group.detach(mine);
    group.free();
    mine.free();
    expect(pages.outstanding).toBe(0);
  });
});
