import { describe, expect, it } from 'vitest';
import { dmaAddr, PAGE_SIZE, type PhysAddr, physAddr, physToPfn } from '../../src/base/addr.ts';
import { GIB, KIB, MIB } from '../../src/base/units.ts';
import { Device } from '../../src/dma-api/device.ts';
import {
  dmaAllocAttrs,
  dmaAllocNoncontiguous,
  dmaAllocPages,
  dmaFreeAttrs,
  dmaFreeNoncontiguous,
  dmaFreePages,
} from '../../src/dma-api/dma-alloc.ts';
import type { DmaAllocation } from '../../src/dma-api/dma-allocation.ts';
import type { DmaAttrs } from '../../src/dma-api/dma-attrs.ts';
import { armSoc } from '../../src/platform/arm-soc.ts';
import { pc } from '../../src/platform/pc.ts';
import { DirectMachine, HIGH } from './direct-machine.ts';

function alloc(device: Device, sizeBytes: number, attrs: DmaAttrs = {}): DmaAllocation {
  const allocation = dmaAllocAttrs(device, sizeBytes, attrs);
  if (allocation === null) throw new Error('no memory');
  return allocation;
}

function physOf(allocation: DmaAllocation): PhysAddr {
  const [extent, ...more] = allocation.extents;
  if (extent === undefined || more.length > 0) throw new Error('not one extent');
  return extent.phys;
}

/** Leaves `value` in the frames that the next allocation of `sizeBytes` gets. */
function dirty(m: DirectMachine, device: Device, sizeBytes: number, value: number): PhysAddr {
  const allocation = alloc(device, sizeBytes);
  m.memory.fill(physOf(allocation), sizeBytes, value);
  dmaFreeAttrs(device, allocation, {});
  return physOf(allocation);
}

describe('a coherent allocation without an IOMMU', () => {
  it.each([
    [24, 'DMA'],
    [32, 'DMA32'],
    [64, 'NORMAL'],
  ] as const)('comes from the highest zone within a mask of %s bits: %s', (coherentDmaMaskBits, zone) => {
    const m = new DirectMachine();
    const free = m.pages.freePageCount();
    const device = m.device({ coherentDmaMaskBits });
    const allocation = alloc(device, 3 * PAGE_SIZE);
    expect([m.pages.zoneOf(physToPfn(physOf(allocation))), allocation.extents[0]?.length]).toEqual([
      zone,
      3 * PAGE_SIZE,
    ]);
    expect(allocation.address).toBe(physOf(allocation));
    dmaFreeAttrs(device, allocation, {});
    expect(m.pages.freePageCount()).toBe(free);
  });

  it('tries lower zones when the highest gives what is out of reach, and keeps nothing of that', () => {
    const m = new DirectMachine({ swiotlb: null });
    const high = m.pages.allocBulk({ pageCount: (16 * MIB) / PAGE_SIZE, owner: 'test' });
    const free = m.pages.freePageCount();
    const device = m.device({ coherentDmaMaskBits: 33 });
    const allocation = alloc(device, PAGE_SIZE);
    expect(physOf(allocation)).toBeLessThan(HIGH);
    dmaFreeAttrs(device, allocation, {});
    expect(m.pages.freePageCount()).toBe(free);
    m.pages.freeBulk(high);
  });

  it('is given as the bus shows it', () => {
    const m = new DirectMachine();
    const dmaRanges = [{ cpuStart: physAddr(0), dmaStart: dmaAddr(GIB), sizeBytes: 64 * MIB }];
    const device = m.device({ dmaRanges });
    const allocation = alloc(device, PAGE_SIZE);
    expect(allocation.address).toBe(physOf(allocation) + GIB);
    dmaFreeAttrs(device, allocation, {});
  });

  it('comes from the CMA area when it is larger than a page, unless that is out of reach', () => {
    const m = new DirectMachine({ cma: { base: 32 * MIB, bytes: 4 * MIB } });
    const device = m.device();
    const allocations = [alloc(device, PAGE_SIZE + 1), alloc(device, PAGE_SIZE)];
    expect([allocations.map(physOf).map((phys) => phys >= 32 * MIB && phys < 36 * MIB), m.cma?.usedPages]).toEqual([
      [true, false],
      2,
    ]);
    const near = m.device({ coherentDmaMaskBits: 24 });
    expect([physOf(alloc(near, 2 * PAGE_SIZE)) < 16 * MIB, m.cma?.usedPages]).toEqual([true, 2]);
    const [large, small] = allocations as [DmaAllocation, DmaAllocation];
    dmaFreeAttrs(device, large, {});
    dmaFreeAttrs(device, small, {});
    expect(m.cma?.usedPages).toBe(0);
  });

  it('comes from pages when the CMA area is full, and fails above 4 MiB then', () => {
    const m = new DirectMachine({ cma: { base: 32 * MIB, bytes: 8 * MIB } });
    const device = m.device();
    expect(physOf(alloc(device, 8 * MIB))).toBe(32 * MIB);
    expect(physOf(alloc(device, 4 * MIB))).not.toBe(32 * MIB);
    expect(dmaAllocAttrs(device, 5 * MIB, {})).toBeNull();
  });

  it.each([
    ['cached for a device that snoops', true, {}, 'cached'],
    ['cached for a device that snoops, also write-combined', true, { writeCombine: true }, 'cached'],
    ['uncached', false, {}, 'uncached'],
    ['write-combined', false, { writeCombine: true }, 'write-combined'],
  ] as const)('is cleared, and %s: device and CPU see the zeros', (_how, coherent, attrs, attribute) => {
    const m = new DirectMachine();
    const device = m.device({ coherent });
    const phys = dirty(m, device, 2 * PAGE_SIZE, 0x5e);
    const allocation = alloc(device, 2 * PAGE_SIZE, attrs);
    expect(physOf(allocation)).toBe(phys);
    const seen = new Uint8Array(2 * PAGE_SIZE).fill(1);
    device.port.read(allocation.address, seen, 0, seen.length);
    const cpu = new Uint8Array(16).fill(1);
    m.coherency.peek(physOf(allocation), cpu, 0, 16, attribute);
    expect([allocation.attribute, seen.some((byte) => byte !== 0), cpu[0], m.sim.hazards]).toEqual([
      attribute,
      false,
      0,
      [],
    ]);
    dmaFreeAttrs(device, allocation, attrs);
  });

  it('loses nothing that the device writes to dirty lines of its last owner', () => {
    const m = new DirectMachine();
    const device = m.device({ coherent: false });
    const before = alloc(device, PAGE_SIZE);
    dmaFreeAttrs(device, before, {});
    m.cpuWrites(physOf(before), PAGE_SIZE, 7);
    const allocation = alloc(device, PAGE_SIZE);
    expect(physOf(allocation)).toBe(physOf(before));
    device.port.write(allocation.address, new Uint8Array(64).fill(9), 0, 64);
    m.coherency.evict(physOf(allocation), PAGE_SIZE);
    const out = new Uint8Array(1);
    m.coherency.peek(physOf(allocation), out, 0, 1, 'uncached');
    expect([out[0], m.sim.hazards]).toEqual([9, []]);
  });

  it('keeps nothing when cleaning the caches of the memory finds a hazard', () => {
    const m = new DirectMachine();
    const [rogue, device] = [m.device({ coherent: false }), m.device({ coherent: false })];
    const phys = dirty(m, device, PAGE_SIZE, 0);
    const free = m.pages.freePageCount();
    m.cpuWrites(phys, 64, 7);
    rogue.port.write(dmaAddr(phys), new Uint8Array(64).fill(9), 0, 64);
    expect(() => dmaAllocAttrs(device, PAGE_SIZE, {})).toThrow('device-write.lost');
    expect(m.pages.freePageCount()).toBe(free);
  });

  it('without a kernel mapping is not cleared: it holds what its last owner left', () => {
    const m = new DirectMachine();
    const device = m.device({ coherent: false });
    dirty(m, device, PAGE_SIZE, 0x5e);
    const allocation = alloc(device, PAGE_SIZE, { noKernelMapping: true });
    const seen = new Uint8Array(1);
    m.coherency.peek(physOf(allocation), seen, 0, 1, 'uncached');
    expect([allocation.cpu, seen[0]]).toEqual([null, 0x5e]);
  });

  it('works without bytes', () => {
    const m = new DirectMachine({ bytes: false });
    const device = m.device({ coherent: false });
    const allocation = alloc(device, PAGE_SIZE);
    device.port.read(allocation.address, null, 0, PAGE_SIZE);
    dmaFreeAttrs(device, allocation, {});
    expect(m.sim.hazards).toEqual([]);
  });

  it('fails without memory within reach, without an allocator, and when failure is injected; nothing is kept', () => {
    const m = new DirectMachine();
    const free = m.pages.freePageCount();
    expect(dmaAllocAttrs(m.device({ coherentDmaMaskBits: 0 }), PAGE_SIZE, {})).toBeNull();
    const dmaRanges = [{ cpuStart: HIGH, dmaStart: dmaAddr(0), sizeBytes: PAGE_SIZE }];
    m.pages.allocAt(physToPfn(HIGH), 1, { owner: 'test' });
    expect(dmaAllocAttrs(m.device({ dmaRanges }), PAGE_SIZE, {})).toBeNull();
    m.pages.freePages(physToPfn(HIGH), 1);
    m.memory.failNext = () => true;
    expect(dmaAllocAttrs(m.device(), PAGE_SIZE, {})).toBeNull();
    m.memory.failNext = undefined;
    expect(m.pages.freePageCount()).toBe(free);
    const bare = new Device(m.sim, { name: 'bare', coherency: m.coherency, coherent: true });
    expect(dmaAllocAttrs(bare, PAGE_SIZE, {})).toBeNull();
  });
});

describe('pages allocated for a device without an IOMMU', () => {
  it('lie within reach of its coherent mask, and go back whole', () => {
    const m = new DirectMachine({ cma: { base: 32 * MIB, bytes: 4 * MIB } });
    const free = m.pages.freePageCount();
    const device = m.device({ dmaMaskBits: 24, coherentDmaMaskBits: 24, coherent: false });
    const allocation = dmaAllocPages(device, 3 * PAGE_SIZE, 'bidirectional');
    expect([(allocation?.address ?? 0) < 16 * MIB, allocation?.attribute]).toEqual([true, 'cached']);
    if (allocation !== null) dmaFreePages(device, allocation);
    expect([m.pages.freePageCount(), m.cma?.usedPages]).toEqual([free, 0]);
  });
});

describe('a coherent allocation by a caller that can not wait', () => {
  const atomic: DmaAttrs = { atomic: true };

  it('comes from memory kept for this when the device does not snoop, cleared and uncached', () => {
    const m = new DirectMachine({ coherentPoolBytes: 16 * KIB });
    const device = m.device({ coherent: false });
    const free = m.pages.freePageCount();
    const first = alloc(device, PAGE_SIZE, atomic);
    m.coherency.poke(physOf(first), Uint8Array.of(9));
    dmaFreeAttrs(device, first, atomic);
    const again = alloc(device, PAGE_SIZE, atomic);
    const seen = new Uint8Array(1).fill(1);
    device.port.read(again.address, seen, 0, 1);
    expect([physOf(again) === physOf(first), again.attribute, seen[0]]).toEqual([true, 'uncached', 0]);
    expect([m.coherentPool?.contains(physOf(again)), m.coherentPool?.usedBytes]).toEqual([true, PAGE_SIZE]);
    expect(m.pages.freePageCount()).toBe(free);
    dmaFreeAttrs(device, again, atomic);
    expect(m.coherentPool?.usedBytes).toBe(0);
  });

  it('goes on to the pools of lower zones, and fails when all are used up', () => {
    const m = new DirectMachine({ coherentPoolBytes: 16 * KIB });
    const far = m.device({ coherent: false, coherentDmaMaskBits: 64 });
    const zones = [1, 2, 3].map(() => m.pages.zoneOf(physToPfn(physOf(alloc(far, 16 * KIB, atomic)))));
    expect(zones).toEqual(['NORMAL', 'DMA32', 'DMA']);
    expect(dmaAllocAttrs(far, PAGE_SIZE, atomic)).toBeNull();
  });

  it('takes nothing out of reach of the mask', () => {
    const m = new DirectMachine({ coherentPoolBytes: 16 * KIB });
    const near = m.device({ coherent: false, coherentDmaMaskBits: 24 });
    expect(physOf(alloc(near, 16 * KIB, atomic))).toBeLessThan(16 * MIB);
    expect(dmaAllocAttrs(near, PAGE_SIZE, atomic)).toBeNull();
    expect(dmaAllocAttrs(m.device({ coherent: false, coherentDmaMaskBits: 33 }), PAGE_SIZE, atomic)).not.toBeNull();
  });

  it('takes pages, but not of the CMA area, when the device snoops', () => {
    const m = new DirectMachine({ cma: { base: 32 * MIB, bytes: 4 * MIB }, coherentPoolBytes: 16 * KIB });
    alloc(m.device({ coherent: true }), 2 * PAGE_SIZE, atomic);
    expect([m.cma?.usedPages, m.coherentPool?.usedBytes]).toEqual([0, 0]);
  });

  it('fails when the machine keeps no such memory', () => {
    expect(dmaAllocAttrs(new DirectMachine().device({ coherent: false }), PAGE_SIZE, atomic)).toBeNull();
  });
});

describe('pages for a device without an IOMMU', () => {
  it.each([dmaAllocPages, dmaAllocNoncontiguous])('never bounce, even where every mapping does: %o', (allocate) => {
    const machine = pc({ vtd: false, swiotlb: 'force' });
    const nic = machine.addDevice({ name: 'nic0', coherent: true });
    const pages = allocate(nic, 2 * PAGE_SIZE, 'bidirectional') ?? expect.fail('no memory');
    expect([Number(pages.address), machine.swiotlb?.usedSlots]).toEqual([Number(pages.extents[0]?.phys), 0]);
    if (allocate === dmaAllocPages) dmaFreePages(nic, pages);
    else dmaFreeNoncontiguous(nic, pages);
    expect(machine.memory.ledger.liveCount).toBe(0);
  });
});

describe('CoherentPool', () => {
  it('begins with the pool of the zone, and passes over those out of reach', () => {
    const { coherentPool } = new DirectMachine({ coherentPoolBytes: 16 * KIB });
    expect(coherentPool?.alloc('DMA', 1, () => true)).toBeLessThan(16 * MIB);
    const below = coherentPool?.alloc('NORMAL', 1, (phys) => phys < HIGH);
    expect([(below ?? 0) >= 16 * MIB, (below ?? HIGH) < HIGH]).toEqual([true, true]);
  });

  it('takes its pages at the first request of a device that does not snoop, when the machine makes it', () => {
    const soc = armSoc({ ramBytes: 64 * MIB, cmaBytes: 8 * MIB });
    const camera = soc.addDevice({ name: 'camera0', coherent: false });
    expect(soc.memory.ledger.liveCount).toBe(0);
    const allocation = dmaAllocAttrs(camera, PAGE_SIZE, { atomic: true });
    expect([allocation?.sizeBytes, soc.coherentPool.usedBytes]).toEqual([PAGE_SIZE, PAGE_SIZE]);
  });

  it('refuses a size that is no power of two pages, and pages that are not in use', () => {
    expect(() => new DirectMachine({ coherentPoolBytes: 12 * KIB })).toThrow('no power of two');
    const m = new DirectMachine({ coherentPoolBytes: 16 * KIB });
    const { coherentPool } = m;
    const phys = coherentPool?.alloc('DMA', 2, () => true) ?? physAddr(0);
    expect(() => coherentPool?.free(phys, 3)).toThrow('not all in use');
    expect(() => coherentPool?.free(physAddr(60 * MIB), 1)).toThrow('lies in no pool');
    coherentPool?.free(phys, 2);
    expect(() => coherentPool?.free(phys, 2)).toThrow('not all in use');
  });
});
