import { describe, expect, it } from 'vitest';
import { dmaAddr, iova, PAGE_SIZE, physAddr } from '../../src/base/addr.ts';
import type { HazardPolicy } from '../../src/base/hazards.ts';
import { GIB, KIB, MIB } from '../../src/base/units.ts';
import type { Device } from '../../src/dma-api/device.ts';
import {
  dmaAllocAttrs,
  dmaAllocCoherent,
  dmaAllocNoncontiguous,
  dmaAllocPages,
  dmaFreeCoherent,
  dmaFreeNoncontiguous,
  dmaFreePages,
} from '../../src/dma-api/dma-alloc.ts';
import { dmaIovaTryAlloc } from '../../src/dma-api/dma-iova.ts';
import {
  dmaMapSg,
  dmaMapSgtable,
  dmaSyncSgtableForCpu,
  dmaSyncSgtableForDevice,
  dmaUnmapSg,
  dmaUnmapSgtable,
} from '../../src/dma-api/dma-map.ts';
import { dmaGetSgtable, dmaMmap } from '../../src/dma-api/dma-mmap.ts';
import { dmaGetRequiredMask, dmaMaxMappingSize, dmaNeedSync } from '../../src/dma-api/dma-query.ts';
import {
  dmaMapPage,
  dmaMappingError,
  dmaMapResource,
  dmaMapSingle,
  dmaSyncSingleForCpu,
  dmaSyncSingleForDevice,
  dmaUnmapPage,
  dmaUnmapResource,
} from '../../src/dma-api/dma-single.ts';
import { dmaSyncRectForCpu } from '../../src/dma-api/dma-sync-rect.ts';
import { SgTable } from '../../src/dma-api/sg-table.ts';
import { IommuGroup } from '../../src/iommu/iommu-group.ts';
import { pc } from '../../src/platform/pc.ts';
import { type Bench, bench, errno, invariant, pattern } from '../bench.ts';
import { rangesInUse } from '../iova-use.ts';

const BAR = 0x3_0000_0000;
const GONE = 'was removed; everything of it has ended';

function page(b: Bench) {
  return b.scatteredPages(1)[0] ?? expect.fail('no page');
}

function domainOf(device: Device) {
  return device.iommuGroup?.defaultDomain ?? expect.fail('no domain');
}

/** Everything that a driver can have, of every kind. @returns how many mappings the checker counts. */
function takeEverything(b: Bench, device: Device): number {
  b.machine.memory.addRegion({ kind: 'bar', name: `${device.name} bar`, base: physAddr(BAR), bytes: PAGE_SIZE });
  expect(dmaMappingError(device, dmaMapPage(device, page(b), 64, 'from-device'))).toBe(false);
  expect(dmaMappingError(device, dmaMapResource(device, physAddr(BAR), 64, 'bidirectional'))).toBe(false);
  dmaMapSgtable(device, b.scattered(3), 'to-device');
  expect(dmaMapSg(device, b.scattered(3), 'to-device', {}, 2)).toBeGreaterThan(0);
  expect(dmaAllocCoherent(device, 5000)).not.toBeNull();
  expect(dmaAllocAttrs(device, 3 * PAGE_SIZE, { forceContiguous: true })).not.toBeNull();
  expect(dmaAllocPages(device, PAGE_SIZE, 'bidirectional')).not.toBeNull();
  expect(dmaAllocNoncontiguous(device, 2 * PAGE_SIZE, 'from-device')).not.toBeNull();
  dmaIovaTryAlloc(device, PAGE_SIZE)?.link(page(b), 0, PAGE_SIZE, 'to-device');
  return b.machine.dmaDebug?.mappingsOf(device).length ?? 0;
}

const PLACES = [
  { place: 'without an IOMMU', spec: { coherentDmaMaskBits: 64, dmaMaskBits: 64 }, options: {} },
  { place: 'behind an IOMMU', spec: { iommu: true }, options: {} },
  { place: 'behind an IOMMU with lazy invalidation', spec: { iommu: true }, options: { lazyIommu: true } },
] as const;

describe.each(PLACES)('a device that is removed $place', ({ spec, options }) => {
  it('gives everything back that its driver left, and is reported once with the count and the oldest mapping', () => {
    const b = bench({ ...options, hazards: 'record' });
    const cam = b.device('cam', spec);
    const count = takeEverything(b, cam);
    b.machine.removeDevice(cam);
    expect(b.sim.hazards).toMatchObject([
      {
        hazard: 'dma-debug.pending-at-unbind',
        device: 'cam',
        what: `cam is removed with ${count} mapping(s) alive`,
        leaked: count,
        call: { call: 'destroy' },
        mapping: { call: 'dmaMapPage', sizeBytes: 64, dir: 'from-device' },
      },
    ]);
    expect(b.machine.dmaDebug?.mappingsOf(cam)).toEqual([]);
    expect(b.machine.memory.ledger.liveAllocations()).toEqual([]);
    expect(b.machine.devices).toEqual([]);
    expect(b.count('dma.map')).toBe(b.count('dma.unmap'));
  });

  it('has gone also when the report of what it left is thrown', () => {
    const b = bench(options);
    const cam = b.device('cam', spec);
    takeEverything(b, cam);
    expect(() => b.machine.removeDevice(cam)).toThrow(/dma-debug.pending-at-unbind: cam is removed with/);
    expect([cam.isRemoved, b.machine.devices, b.machine.memory.ledger.liveCount]).toEqual([true, [], 0]);
  });

  it('gives everything back when nobody checks the DMA API, too', () => {
    const b = bench({ ...options, dmaDebug: false });
    const cam = b.device('cam', spec);
    takeEverything(b, cam);
    b.machine.removeDevice(cam);
    expect([b.machine.memory.ledger.liveCount, b.sim.hazards]).toEqual([0, []]);
  });

  it('is not reported when its driver left nothing', () => {
    const b = bench(options);
    const cam = b.device('cam', spec);
    dmaUnmapPage(cam, checked(cam, dmaMapPage(cam, page(b), 64, 'to-device')), 64, 'to-device');
    b.machine.removeDevice(cam);
    expect(b.sim.hazards).toEqual([]);
    expect(b.machine.memory.ledger.liveCount).toBe(0);
  });

  it('accesses nothing any more, and nobody is told', () => {
    const b = bench({ ...options, hazards: 'record' });
    const cam = b.device('cam', spec);
    const phys = page(b);
    const address = checked(cam, dmaMapPage(cam, phys, PAGE_SIZE, 'bidirectional'));
    expect(cam.port.write(address, pattern(16), 0, 16)).toBe(16);
    b.machine.removeDevice(cam);
    cam.busMaster = true;
    const out = new Uint8Array(16);
    expect(cam.port.write(address, pattern(16, 2), 0, 16)).toBe(0);
    expect([cam.port.read(address, out, 0, 16), cam.port.peek(address, out, 0, 16)]).toEqual([0, 0]);
    b.machine.memory.read(phys, out, 0, 16);
    expect(out).toEqual(pattern(16));
    expect(cam.port.faultCount).toBe(0);
  });
});

function checked(device: Device, address: ReturnType<typeof dmaMapPage>) {
  expect(dmaMappingError(device, address)).toBe(false);
  return address;
}

describe('every call of the DMA API for a device that was removed', () => {
  it('is an error that names the device, whether the DMA API is checked or not', () => {
    for (const dmaDebug of [true, false]) {
      for (const iommu of [true, false]) {
        const b = bench({ dmaDebug, hazards: 'record' });
        const cam = b.device('cam', { iommu });
        const sgt = b.scattered(2);
        dmaMapSgtable(cam, sgt, 'to-device');
        const phys = page(b);
        const address = dmaMapPage(cam, phys, 64, 'to-device');
        const coherent = dmaAllocCoherent(cam, 64) ?? expect.fail('no memory');
        const pages = dmaAllocPages(cam, 64, 'to-device') ?? expect.fail('no memory');
        const pieces = dmaAllocNoncontiguous(cam, 64, 'to-device') ?? expect.fail('no memory');
        const run = dmaIovaTryAlloc(cam, PAGE_SIZE);
        b.machine.removeDevice(cam);
        const before = b.sim.hazards.length;
        const rect = { pitchBytes: 8, widthBytes: 8, rows: 1 };
        const calls: Record<string, () => unknown> = {
          dmaMapPage: () => dmaMapPage(cam, phys, 64, 'to-device'),
          dmaMapSingle: () => dmaMapSingle(cam, phys, 64, 'to-device'),
          dmaMapResource: () => dmaMapResource(cam, physAddr(BAR), 64, 'to-device'),
          dmaUnmapPage: () => dmaUnmapPage(cam, address, 64, 'to-device'),
          dmaUnmapResource: () => dmaUnmapResource(cam, address, 64, 'to-device'),
          dmaSyncSingleForCpu: () => dmaSyncSingleForCpu(cam, address, 64, 'to-device'),
          dmaSyncSingleForDevice: () => dmaSyncSingleForDevice(cam, address, 64, 'to-device'),
          dmaSyncRectForCpu: () => dmaSyncRectForCpu(cam, address, rect, 'to-device'),
          dmaMapSgtable: () => dmaMapSgtable(cam, sgt, 'to-device'),
          dmaMapSg: () => dmaMapSg(cam, sgt, 'to-device'),
          dmaUnmapSgtable: () => dmaUnmapSgtable(cam, sgt, 'to-device'),
          dmaUnmapSg: () => dmaUnmapSg(cam, sgt, 'to-device'),
          dmaSyncSgtableForCpu: () => dmaSyncSgtableForCpu(cam, sgt, 'to-device'),
          dmaSyncSgtableForDevice: () => dmaSyncSgtableForDevice(cam, sgt, 'to-device'),
          dmaAllocCoherent: () => dmaAllocCoherent(cam, 64),
          dmaAllocAttrs: () => dmaAllocAttrs(cam, 64, {}),
          dmaAllocPages: () => dmaAllocPages(cam, 64, 'to-device'),
          dmaAllocNoncontiguous: () => dmaAllocNoncontiguous(cam, 64, 'to-device'),
          dmaFreeCoherent: () => dmaFreeCoherent(cam, coherent),
          dmaFreePages: () => dmaFreePages(cam, pages),
          dmaFreeNoncontiguous: () => dmaFreeNoncontiguous(cam, pieces),
          dmaMmap: () => dmaMmap(cam, coherent),
          dmaGetSgtable: () => dmaGetSgtable(cam, coherent),
          dmaIovaTryAlloc: () => dmaIovaTryAlloc(cam, 64),
          setDmaMask: () => cam.setDmaMask(32),
          setStreamingDmaMask: () => cam.setStreamingDmaMask(32),
          setCoherentDmaMask: () => cam.setCoherentDmaMask(32),
          dmaNeedSync: () => dmaNeedSync(cam, address),
          dmaMaxMappingSize: () => dmaMaxMappingSize(cam),
          dmaGetRequiredMask: () => dmaGetRequiredMask(cam),
        };
        if (run !== null) {
          calls['dmaIovaLink'] = () => run.link(phys, 0, 64, 'to-device');
          calls['dmaIovaUnlink'] = () => run.unlink(0, 64, 'to-device');
          calls['dmaIovaFree'] = () => run.free();
        }
        for (const [name, call] of Object.entries(calls)) expect(call, name).toThrow(invariant(`cam ${GONE}`));
        expect(b.sim.hazards).toHaveLength(before);
      }
    }
  });

  it('refuses a second removal, and a device of another machine', () => {
    const b = bench();
    const cam = b.device('cam');
    b.machine.removeDevice(cam);
    expect(() => b.machine.removeDevice(cam)).toThrow(invariant('removeDevice: cam is no device of this machine'));
    expect(() => cam.destroy()).toThrow(invariant('destroy: cam was removed before'));
    const [other, own] = [bench().device('gpu'), b.device('gpu')];
    expect(() => b.machine.removeDevice(other)).toThrow(invariant('removeDevice: gpu is no device of this machine'));
    expect([other.isRemoved, own.isRemoved]).toEqual([false, false]);
  });
});

describe('a removed device', () => {
  it('takes its page table, its address-space id and its name with it', () => {
    const { machine } = bench();
    for (let i = 0; i < 3; i++) {
      const cam = machine.addDevice({ name: 'cam', coherent: false, iommu: true, sourceId: 7 });
      expect(domainOf(cam).asid).toBe(1);
      machine.removeDevice(cam);
      expect(machine.memory.ledger.liveCount).toBe(0);
    }
  });

  it('leaves the others of its group alone, and the group to whoever made it', () => {
    const b = bench();
    const { iommu } = b.machine;
    if (iommu === null) return expect.fail('no IOMMU');
    const group = new IommuGroup(iommu, { name: 'bus' });
    const [cam, isp] = [b.device('cam', { iommu: group }), b.device('isp', { iommu: group })];
    const phys = page(b);
    const address = checked(isp, dmaMapPage(isp, phys, PAGE_SIZE, 'bidirectional'));
    b.machine.removeDevice(cam);
    expect([group.devices, iommu.groupOf(cam)]).toEqual([[isp], null]);
    expect(isp.port.write(address, pattern(8), 0, 8)).toBe(8);
    dmaUnmapPage(isp, address, PAGE_SIZE, 'bidirectional');
    b.machine.removeDevice(isp);
    expect(group.defaultDomain).not.toBeNull();
    group.free();
    expect(b.machine.memory.ledger.liveCount).toBe(0);
  });

  it('gives back only its own addresses of a group that it shares', () => {
    const b = bench({ hazards: 'record' });
    const cam = b.device('cam', { iommu: true });
    const group = cam.iommuGroup ?? expect.fail('no group');
    const isp = b.device('isp', { iommu: group });
    const kept = checked(isp, dmaMapPage(isp, page(b), 64, 'to-device'));
    takeEverything(b, cam);
    b.machine.removeDevice(cam);
    expect(rangesInUse(isp)).toBe(1);
    dmaUnmapPage(isp, kept, 64, 'to-device');
    b.machine.removeDevice(isp);
    expect(b.machine.memory.ledger.liveCount).toBe(0);
  });

  it('leaves a group that a user claimed to that user', () => {
    const b = bench();
    const cam = b.device('cam', { iommu: true });
    const group = cam.iommuGroup ?? expect.fail('no group');
    group.claimDmaOwner(b);
    b.machine.removeDevice(cam);
    expect(group.isDmaOwnerClaimed).toBe(true);
    group.releaseDmaOwner();
    group.free();
    expect(b.machine.memory.ledger.liveCount).toBe(0);
  });

  it('frees its bounce slots, and copies nothing back to memory that is not its any more', () => {
    const machine = pc({
      vtd: false,
      lowRamBytes: 32 * MIB,
      cmaBytes: 4 * MIB,
      swiotlbBytes: 256 * KIB,
      hazards: 'record',
    });
    const nic = machine.addDevice({ name: 'nic', coherent: true });
    const frame = physAddr(4 * GIB + PAGE_SIZE);
    const address = checked(nic, dmaMapPage(nic, frame, 3000, 'bidirectional'));
    nic.port.write(address, pattern(8), 0, 8);
    expect(machine.swiotlb?.usedSlots).toBeGreaterThan(0);
    machine.removeDevice(nic);
    expect(machine.swiotlb?.usedSlots).toBe(0);
    const out = new Uint8Array(8).fill(9);
    machine.coherency.peek(frame, out, 0, 8, 'cached');
    expect([...out]).toEqual(new Array(8).fill(0));
  });

  it('does not repeat what was reported when its driver let go of it, but reports what came after', () => {
    const b = bench({ hazards: 'record' });
    const cam = b.device('cam', { iommu: true });
    const { dmaDebug } = b.machine;
    dmaDebug?.driverProbe(cam, 'camera');
    checked(cam, dmaMapPage(cam, page(b), 64, 'to-device'));
    dmaDebug?.driverUnbind(cam);
    dmaMapSgtable(cam, b.scattered(1), 'from-device');
    b.machine.removeDevice(cam);
    expect(b.sim.hazards).toMatchObject([
      { what: 'camera lets go of cam with 1 mapping(s) alive', leaked: 1 },
      { what: 'cam is removed with 1 mapping(s) alive', leaked: 1, mapping: { call: 'dmaMapSgtable' } },
    ]);
  });

  it('leaves no cache line behind that another device would be said to overlap', () => {
    const b = bench({ hazards: 'record' });
    const cam = b.device('cam', { iommu: true });
    const phys = page(b);
    checked(cam, dmaMapPage(cam, phys, 64, 'from-device'));
    b.machine.removeDevice(cam);
    const isp = b.device('isp', { iommu: true });
    dmaUnmapPage(isp, checked(isp, dmaMapPage(isp, phys, 64, 'from-device')), 64, 'from-device');
    expect(b.sim.hazards.map(({ hazard }) => hazard)).toEqual(['dma-debug.pending-at-unbind']);
  });

  it('gives everything else back when one mapping was taken away behind the DMA API', () => {
    const b = bench({ dmaDebug: false });
    const cam = b.device('cam', { iommu: true });
    const address = dmaMapPage(cam, page(b), PAGE_SIZE, 'to-device');
    takeEverything(b, cam);
    domainOf(cam).unmap(iova(Number(address)), PAGE_SIZE);
    expect(() => b.machine.removeDevice(cam)).toThrow(invariant('nothing is mapped at'));
    expect([cam.isRemoved, b.machine.memory.ledger.liveCount]).toEqual([true, 0]);
  });
});

describe('what a device is made with', () => {
  it('refuses masks that are no whole number of bits from 0 to 64, and names them', () => {
    const { machine } = bench();
    const add = (spec: object) => () => machine.addDevice({ name: 'cam', coherent: false, ...spec });
    for (const bits of [-1, 65, 31.5, Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(add({ dmaMaskBits: bits })).toThrow(invariant(`dmaMaskBits: ${bits} is not in [0, 64]`));
      expect(add({ coherentDmaMaskBits: bits })).toThrow(invariant(`coherentDmaMaskBits: ${bits} is not in [0, 64]`));
    }
    expect(machine.devices).toEqual([]);
  });

  it('takes 0 bits for a mask that was never set: 32 for mappings, none for allocations', () => {
    const { machine } = bench();
    const cam = machine.addDevice({
      name: 'cam',
      coherent: false,
      iommu: true,
      dmaMaskBits: 0,
      coherentDmaMaskBits: 0,
    });
    expect([cam.dmaMaskBits, cam.coherentDmaMaskBits]).toEqual([32, 0]);
    expect(dmaAllocCoherent(cam, 64)).toBeNull();
    machine.removeDevice(cam);
  });

  it('keeps its masks when a new one is refused', () => {
    const { machine } = bench();
    const cam = machine.addDevice({ name: 'cam', coherent: false, dmaMaskBits: 40, coherentDmaMaskBits: 36 });
    for (const bits of [-1, 65, 0.5]) {
      expect(() => cam.setDmaMask(bits)).toThrow(invariant(`${bits} is not in [0, 64]`));
      expect(() => cam.setStreamingDmaMask(bits)).toThrow(invariant(`dmaMaskBits: ${bits}`));
      expect(() => cam.setCoherentDmaMask(bits)).toThrow(invariant(`coherentDmaMaskBits: ${bits}`));
    }
    expect(() => cam.setDmaMask(20)).toThrow(errno('EIO'));
    expect([cam.dmaMaskBits, cam.coherentDmaMaskBits, cam.dmaLimit]).toEqual([40, 36, 2 ** 40]);
  });

  it('refuses segment limits that no engine has, and keeps the old ones', () => {
    const cam = bench().device('cam');
    for (const bytes of [0, -4096, 1.5]) {
      expect(() => cam.setMaxSegmentSize(bytes)).toThrow(invariant(`maxSegmentSizeBytes: ${bytes}`));
    }
    for (const bytes of [0, 3, -8]) {
      expect(() => cam.setSegBoundary(bytes)).toThrow(invariant(`segBoundaryBytes: ${bytes}`));
    }
    for (const mask of [2, -1, 0x1_ffff, 0.5]) {
      expect(() => cam.setMinAlignMask(mask)).toThrow(invariant(`minAlignMask: ${mask}`));
    }
    expect([cam.maxSegmentSizeBytes, cam.segBoundaryBytes, cam.minAlignMask]).toEqual([64 * KIB, 2 ** 32, 0]);
  });
});

describe('a call with sizes and addresses that can not be', () => {
  const SIZES = [0, -1, -PAGE_SIZE, 0.5, Number.NaN, 2 ** 53] as const;

  it('is refused by name, and leaves nothing mapped or allocated', () => {
    for (const iommu of [true, false]) {
      const b = bench();
      const cam = b.device('cam', { iommu });
      const phys = page(b);
      for (const size of SIZES) {
        const text = `sizeBytes ${size}`;
        expect(() => dmaMapPage(cam, phys, size, 'to-device')).toThrow(invariant(`dmaMapPage: ${text}`));
        expect(() => dmaMapSingle(cam, phys, size, 'to-device')).toThrow(invariant(`dmaMapSingle: ${text}`));
        expect(() => dmaMapResource(cam, phys, size, 'to-device')).toThrow(invariant(`dmaMapResource: ${text}`));
        expect(() => dmaUnmapPage(cam, dmaAddr(0x1000), size, 'to-device')).toThrow(invariant(`dmaUnmapPage: ${text}`));
        expect(() => dmaAllocCoherent(cam, size)).toThrow(invariant(`dmaAllocCoherent: ${text}`));
        expect(() => dmaAllocPages(cam, size, 'to-device')).toThrow(invariant(`dmaAllocPages: ${text}`));
        expect(() => dmaAllocNoncontiguous(cam, size, 'to-device')).toThrow(invariant(text));
        expect(() => dmaIovaTryAlloc(cam, size)).toThrow(invariant(`dmaIovaTryAlloc: ${text}`));
      }
      expect(b.machine.dmaDebug?.mappingsOf(cam)).toEqual([]);
    }
  });

  it('takes a size and an address that are not aligned, and gives the device whole pages', () => {
    const b = bench();
    const cam = b.device('cam', { iommu: true });
    const phys = physAddr(page(b) + 100);
    const address = checked(cam, dmaMapPage(cam, phys, 3, 'bidirectional'));
    expect(address % PAGE_SIZE).toBe(100);
    expect(cam.port.write(dmaAddr(address - 100), pattern(PAGE_SIZE), 0, PAGE_SIZE)).toBe(PAGE_SIZE);
    expect(cam.port.write(dmaAddr(address - 100 + PAGE_SIZE), pattern(1), 0, 1)).toBe(0);
    dmaUnmapPage(cam, address, 3, 'bidirectional');
  });
});

describe('an unmap of what was never mapped', () => {
  const POLICIES: readonly { readonly dmaDebug: boolean; readonly hazards: HazardPolicy }[] = [
    { dmaDebug: true, hazards: 'record' },
    { dmaDebug: true, hazards: 'throw' },
    { dmaDebug: false, hazards: 'throw' },
  ];

  it('unmaps nothing, whoever watches', () => {
    for (const options of POLICIES) {
      const b = bench(options);
      const cam = b.device('cam', { iommu: true });
      const live = checked(cam, dmaMapPage(cam, page(b), PAGE_SIZE, 'to-device'));
      const wrong = dmaAddr(live - PAGE_SIZE);
      const unmap = () => dmaUnmapPage(cam, wrong, PAGE_SIZE, 'to-device');
      if (options.hazards === 'record') unmap();
      else if (options.dmaDebug) expect(unmap).toThrow(/dma-debug.free-not-mapped: cam unmaps/);
      else expect(unmap).toThrow(invariant('dmaUnmapPage: nothing is mapped at'));
      expect([rangesInUse(cam), [...domainOf(cam).pgtable.leaves()].length]).toEqual([1, 1]);
      dmaUnmapPage(cam, live, PAGE_SIZE, 'to-device');
    }
  });

  it('leaves a table alone that is mapped for another device', () => {
    for (const options of POLICIES) {
      const b = bench(options);
      const [cam, gpu] = [b.device('cam', { iommu: true }), b.device('gpu', { iommu: true })];
      const sgt = b.scattered(2);
      dmaMapSgtable(cam, sgt, 'to-device');
      const unmap = () => dmaUnmapSgtable(gpu, sgt, 'to-device');
      if (options.hazards === 'record') unmap();
      else if (options.dmaDebug) expect(unmap).toThrow(/dma-debug.free-not-mapped: gpu unmaps/);
      else expect(unmap).toThrow(invariant('the table is mapped for cam, not for gpu'));
      expect([rangesInUse(cam), sgt.nents > 0]).toEqual([1, true]);
      dmaUnmapSgtable(cam, sgt, 'to-device');
    }
  });

  it('leaves an allocation alone that is of another device', () => {
    for (const options of POLICIES) {
      const b = bench(options);
      const [cam, gpu] = [b.device('cam', { iommu: true }), b.device('gpu', { iommu: true })];
      const allocation = dmaAllocCoherent(cam, 64) ?? expect.fail('no memory');
      const free = () => dmaFreeCoherent(gpu, allocation);
      if (options.hazards === 'record') free();
      else if (options.dmaDebug) expect(free).toThrow(/dma-debug.free-not-mapped/);
      else expect(free).toThrow(invariant('the allocation is of cam, not of gpu'));
      expect(allocation.freed).toBe(false);
      dmaFreeCoherent(cam, allocation);
    }
  });

  it('refuses to map a table a second time, and leaves the first mapping', () => {
    const b = bench();
    const [cam, gpu] = [b.device('cam', { iommu: true }), b.device('gpu')];
    const sgt = new SgTable([{ phys: page(b), length: PAGE_SIZE }]);
    dmaMapSgtable(cam, sgt, 'to-device');
    const address = sgt.dmaAddress(0);
    expect(() => dmaMapSgtable(gpu, sgt, 'to-device')).toThrow(invariant('mapped for cam already'));
    expect(sgt.dmaAddress(0)).toBe(address);
    dmaUnmapSgtable(cam, sgt, 'to-device');
  });
});

describe('a device whose bus is described wrongly', () => {
  it.each([
    [{ busDmaLimit: -1 }, 'busDmaLimit: -1'],
    [{ busDmaLimit: Number.NaN }, 'busDmaLimit: NaN'],
    [{ dmaRanges: [{ cpuStart: physAddr(0), dmaStart: dmaAddr(0), sizeBytes: 0 }] }, 'dmaRanges[0]: 0 bytes'],
    [{ reservedIova: [{ first: 4096, last: 4095 }] }, 'reservedIova[0]: first 4096'],
  ])('is refused: %o', (spec, text) => {
    const b = bench();
    expect(() => b.device('cam', spec)).toThrow(invariant(text));
    expect(b.machine.devices).toEqual([]);
  });
});
