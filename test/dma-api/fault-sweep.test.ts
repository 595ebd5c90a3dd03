/**
 * Out of memory at every place: one scenario calls everything that takes something, and runs once for each allocation in it, which fails
 * then. The caller is told as the call's contract says, nothing is left behind, and trying again works.
 */
import { describe, expect, it } from 'vitest';
import { type DmaAddr, iova, PAGE_SIZE, physAddr } from '../../src/base/addr.ts';
import { GIB, KIB, MIB } from '../../src/base/units.ts';
import type { Device } from '../../src/dma-api/device.ts';
import {
  dmaAllocAttrs,
  dmaAllocCoherent,
  dmaAllocNoncontiguous,
  dmaAllocPages,
  dmaFreeAttrs,
  dmaFreeCoherent,
  dmaFreeNoncontiguous,
  dmaFreePages,
} from '../../src/dma-api/dma-alloc.ts';
import type { DmaAttrs } from '../../src/dma-api/dma-attrs.ts';
import { dmaIovaTryAlloc } from '../../src/dma-api/dma-iova.ts';
import { dmaMapSg, dmaMapSgtable, dmaUnmapSg, dmaUnmapSgtable } from '../../src/dma-api/dma-map.ts';
import { dmaGetSgtable, dmaMmap, dmaVmapNoncontiguous } from '../../src/dma-api/dma-mmap.ts';
import {
  dmaMapPage,
  dmaMappingError,
  dmaMapResource,
  dmaMapSingle,
  dmaUnmapPage,
  dmaUnmapResource,
  dmaUnmapSingle,
} from '../../src/dma-api/dma-single.ts';
import { SgTable } from '../../src/dma-api/sg-table.ts';
import { TrackedDomain } from '../../src/iommu/dirty-tracking.ts';
import { IommuProt } from '../../src/iommu/io-pgtable.ts';
import { IommuIoasClient } from '../../src/iommu/ioas-iommu.ts';
import { MemlockAccount } from '../../src/iommu/ioas-pages.ts';
import { UserMemory } from '../../src/iommu/ioas-user-memory.ts';
import { Iommu } from '../../src/iommu/iommu.ts';
import { IommuGroup } from '../../src/iommu/iommu-group.ts';
import { Iommufd } from '../../src/iommu/iommufd.ts';
import { NestedDomain } from '../../src/iommu/nested-translation.ts';
import { armSoc } from '../../src/platform/arm-soc.ts';
import type { Machine } from '../../src/platform/machine.ts';
import { pc } from '../../src/platform/pc.ts';
import { errno } from '../bench.ts';
import { FrameCounter } from '../iommu/frame-counter.ts';
import { rangesInUse } from '../iova-use.ts';
import { Sweep } from './fault-sweep.ts';

const RW = IommuProt.read | IommuProt.write;
const OWN = 0x1_8000_0000;
const BAR = 0x2_0000_0000;
/** Allocations that a scenario has at most; beyond, it does not end. */
const MOST = 500;

/** Where in the test's own memory a step's bytes are: far from each other, so that each mapping wants tables of its own. */
function at(i: number, inPage = 0): number {
  return OWN + i * 4 * PAGE_SIZE + inPage;
}

function addMemory({ memory }: Machine): void {
  memory.addRegion({ kind: 'carve-out', hasPages: true, name: 'own', base: physAddr(OWN), bytes: 8 * MIB });
  memory.addRegion({ kind: 'bar', name: 'bar', base: physAddr(BAR), bytes: 16 * PAGE_SIZE });
}

/** Names of the steps that failed, and of those that coped, at least once. */
interface Found {
  readonly failed: Set<string>;
  readonly coped: Set<string>;
}

/**
 * Runs `scenario` with each of its allocations failing in turn. Where a step got along without, once more, with all that it asks for after
 * that failing, too.
 */
function sweepAll(make: () => Machine, scenario: (sweep: Sweep) => void): Found {
  const found: Found = { failed: new Set(), coped: new Set() };
  for (let failing = 1; failing <= MOST; failing++) {
    const sweep = runOnce(make(), failing, false, scenario, found);
    if (sweep.coped.length > 0) runOnce(make(), failing, true, scenario, found);
    if (!sweep.hasFailed) return found;
  }
  return expect.fail(`more than ${MOST} allocations`);
}

function runOnce(
  machine: Machine,
  failing: number,
  staysOut: boolean,
  scenario: (sweep: Sweep) => void,
  found: Found,
): Sweep {
  addMemory(machine);
  const sweep = new Sweep(machine, failing, staysOut);
  scenario(sweep);
  expect(machine.memory.ledger.liveCount).toBeGreaterThan(0);
  sweep.undoAll();
  for (const device of machine.devices.slice()) machine.removeDevice(device);
  const left = machine.memory.ledger.liveAllocations().filter(({ owner }) => !owner.startsWith('coherent pool'));
  expect(left, `after allocation ${failing} failed in ${sweep.failed.concat(sweep.coped)}`).toEqual([]);
  expect([machine.swiotlb?.usedSlots ?? 0, machine.coherentPool.usedBytes, machine.sim.hazards]).toEqual([0, 0, []]);
  if (machine.iommu !== null) expect(machine.iommu.takeAsid(), 'lowest free address-space id').toBe(1);
  for (const name of sweep.failed) found.failed.add(name);
  for (const name of sweep.coped) found.coped.add(name);
  return sweep;
}

/** Every call of the DMA API that takes something, for `device`; its memory lies from place `first` on. */
function callEverything(sweep: Sweep, device: Device, first: number): void {
  const { name } = device;
  const mapped = (call: string, address: DmaAddr) => {
    if (dmaMappingError(device, address)) return address;
    expect(address, call).toBeGreaterThanOrEqual(0);
    return address;
  };
  sweep.take({
    ...{ name: `${name} dmaMapPage`, fails: 'mapping-error' },
    attempt: () => mapped('page', dmaMapPage(device, physAddr(at(first, 100)), 9000, 'from-device')),
    undo: (address) => dmaUnmapPage(device, address, 9000, 'from-device'),
  });
  sweep.take({
    ...{ name: `${name} dmaMapSingle`, fails: 'mapping-error' },
    attempt: () => mapped('single', dmaMapSingle(device, physAddr(at(first + 4)), 64, 'to-device')),
    undo: (address) => dmaUnmapSingle(device, address, 64, 'to-device'),
  });
  sweep.take({
    ...{ name: `${name} dmaMapResource`, fails: 'mapping-error' },
    attempt: () => mapped('resource', dmaMapResource(device, physAddr(BAR), 9000, 'bidirectional')),
    undo: (address) => dmaUnmapResource(device, address, 9000, 'bidirectional'),
  });
  const table = (i: number) => {
    const extents = [0, 1, 2].map((k) => ({ phys: physAddr(at(first + i + k)), length: PAGE_SIZE }));
    const sgt = new SgTable(extents);
    sweep.tables.push(sgt);
    return sgt;
  };
  const [whole, part, big] = [
    table(8),
    table(12),
    new SgTable([{ phys: physAddr(OWN + 2 * MIB + PAGE_SIZE), length: 3 * MIB }]),
  ];
  sweep.take({
    ...{ name: `${name} dmaMapSgtable`, fails: device.untrusted ? 'EIO' : 'ENOMEM' },
    attempt: () => dmaMapSgtable(device, whole, 'to-device'),
    undo: () => dmaUnmapSgtable(device, whole, 'to-device'),
  });
  sweep.take({
    ...{ name: `${name} dmaMapSg`, fails: '0' },
    attempt: () => dmaMapSg(device, part, 'from-device', {}, 2),
    undo: () => dmaUnmapSg(device, part, 'from-device', {}, 2),
  });
  sweep.take({
    ...{ name: `${name} dmaMapSgtable of 3 MiB`, fails: device.untrusted ? 'EIO' : 'ENOMEM' },
    attempt: () => dmaMapSgtable(device, big, 'to-device'),
    undo: () => dmaUnmapSgtable(device, big, 'to-device'),
  });
  allocateEverything(sweep, device);
}

function allocateEverything(sweep: Sweep, device: Device): void {
  const { name } = device;
  const coherent = sweep.take({
    ...{ name: `${name} dmaAllocCoherent`, fails: 'null' },
    attempt: () => dmaAllocCoherent(device, 5 * PAGE_SIZE),
    undo: (taken) => dmaFreeCoherent(device, taken ?? expect.fail()),
  });
  if (coherent === null) return expect.fail('no memory');
  dmaMmap(device, coherent);
  dmaGetSgtable(device, coherent);
  const departures: readonly DmaAttrs[] = [
    { forceContiguous: true },
    { allocSinglePages: true },
    { atomic: true },
    { writeCombine: true },
    { noKernelMapping: true },
  ];
  for (const attrs of departures) {
    sweep.take({
      ...{ name: `${name} dmaAllocAttrs ${Object.keys(attrs)}`, fails: 'null' },
      attempt: () => dmaAllocAttrs(device, 3 * PAGE_SIZE, attrs),
      undo: (taken) => dmaFreeAttrs(device, taken ?? expect.fail(), attrs),
    });
  }
  sweep.take({
    ...{ name: `${name} dmaAllocCoherent of a page`, fails: 'null' },
    attempt: () => dmaAllocCoherent(device, 64),
    undo: (taken) => dmaFreeCoherent(device, taken ?? expect.fail()),
  });
  sweep.take({
    ...{ name: `${name} dmaAllocPages`, fails: 'null' },
    attempt: () => dmaAllocPages(device, 3 * PAGE_SIZE, 'bidirectional'),
    undo: (taken) => dmaFreePages(device, taken ?? expect.fail()),
  });
  const pieces = sweep.take({
    ...{ name: `${name} dmaAllocNoncontiguous`, fails: 'null' },
    attempt: () => dmaAllocNoncontiguous(device, 3 * PAGE_SIZE, 'to-device'),
    undo: (taken) => dmaFreeNoncontiguous(device, taken ?? expect.fail()),
  });
  dmaVmapNoncontiguous(device, pieces ?? expect.fail('no memory'));
}

/** The two-step API, with a link in a part of the addresses that has no table yet. */
function linkEverything(sweep: Sweep, device: Device): void {
  const run = sweep.take({
    ...{ name: `${device.name} dmaIovaTryAlloc`, fails: 'null' },
    attempt: () => dmaIovaTryAlloc(device, 6 * MIB),
    undo: (taken) => taken?.free(),
  });
  if (run === null) return expect.fail('no addresses');
  for (const offset of [0, 2 * MIB + 2 * PAGE_SIZE, 4 * MIB]) {
    sweep.take({
      ...{ name: `${device.name} dmaIovaLink`, fails: 'ENOMEM' },
      attempt: () => run.link(physAddr(at(1)), offset, 2 * PAGE_SIZE, 'to-device'),
      undo: () => run.unlink(offset, 2 * PAGE_SIZE, 'to-device'),
    });
  }
  run.sync(0, 2 * PAGE_SIZE);
}

/** Groups, their types, and domains of the user's own. */
function useDomains(sweep: Sweep, iommu: Iommu): void {
  const { machine } = sweep;
  const device = sweep.take({
    ...{ name: 'addDevice', fails: 'ENOMEM' },
    attempt: () => machine.addDevice({ name: 'vfio', coherent: true, iommu: true }),
    undo: (taken) => machine.removeDevice(taken),
  });
  const group = sweep.take({
    ...{ name: 'new IommuGroup', fails: 'ENOMEM' },
    attempt: () => new IommuGroup(iommu, { name: 'group', defaultType: 'identity' }),
    undo: (taken) => taken.free(),
  });
  sweep.take({
    ...{ name: 'IommuGroup.addDevice', fails: 'ENOMEM' },
    attempt: () => machine.addDevice({ name: 'member', coherent: true, iommu: group }),
    undo: (taken) => machine.removeDevice(taken),
  });
  for (const type of ['DMA', 'DMA-FQ']) {
    sweep.take({
      ...{ name: `writeType ${type}`, fails: 'ENOMEM' },
      attempt: () => group.writeType(type),
      undo: () => group.writeType('identity'),
    });
  }
  const domain = sweep.take({
    ...{ name: 'allocDomain', fails: 'ENOMEM' },
    attempt: () => iommu.allocDomain({ name: 'guest' }),
    undo: (taken) => taken.free(),
  });
  sweep.take({
    ...{ name: 'attachDevice', fails: 'ENOMEM' },
    attempt: () => domain.attachDevice(device),
    undo: () => domain.detachDevice(device),
  });
  sweep.take({
    ...{ name: 'IommuDomain.map', fails: 'ENOMEM' },
    attempt: () => domain.map(iova(GIB - 2 * PAGE_SIZE), physAddr(OWN), 4 * PAGE_SIZE, RW),
    undo: () => expect(domain.unmap(iova(GIB - 2 * PAGE_SIZE), 4 * PAGE_SIZE)).toBe(4 * PAGE_SIZE),
  });
}

/** Marks of written pages, and a guest's own tables on top. */
function trackAndNest(sweep: Sweep, iommu: Iommu): void {
  const { pages } = sweep.machine;
  const tracked = sweep.take({
    ...{ name: 'new TrackedDomain', fails: 'ENOMEM' },
    attempt: () => new TrackedDomain(iommu, { format: 'ARM_64_LPAE_S2' }),
    undo: (taken) => taken.free(),
  });
  sweep.take({
    ...{ name: 'TrackedDomain.map', fails: 'ENOMEM' },
    attempt: () => tracked.map(iova(0x4000_0000), physAddr(0x4000_0000), 16 * MIB, RW),
    undo: () => expect(tracked.unmap(iova(0x4000_0000), 16 * MIB)).toBe(16 * MIB),
  });
  tracked.setDirtyTracking(true);
  const guestPages = {
    alloc: (order: number) => pages.allocPages({ order, owner: 'guest tables' }),
    free: (frame: Parameters<typeof pages.freePages>[0], order: number) => pages.freePages(frame, 2 ** order),
  };
  const nested = sweep.take({
    ...{ name: 'new NestedDomain', fails: 'ENOMEM' },
    attempt: () => new NestedDomain(tracked, { guestPages }),
    undo: (taken) => taken.free(),
  });
  // The guest's table keeps pages for tables of its own, as any domain does: they are not of a failing call.
  nested.map(iova(0x10_0000), physAddr(0x4000_0000), 3 * PAGE_SIZE, RW);
  expect(nested.unmap(iova(0x10_0000), 3 * PAGE_SIZE)).toBe(3 * PAGE_SIZE);
  tracked.readAndClearDirty(iova(0x4000_0000), 16 * MIB, new Uint8Array(512));
  tracked.setDirtyTracking(false);
}

/** An address space of a user process, with a device and a table of its own. */
function useIommufd(sweep: Sweep, iommu: Iommu): void {
  const { machine } = sweep;
  const { memory, pages } = machine;
  const user = new UserMemory({ name: 'app', memory, pages });
  const account = new MemlockAccount();
  const fd = new Iommufd({ user, account, failNext: () => sweep.ask() });
  const va = sweep.take({
    ...{ name: 'mmap', fails: 'ENOMEM' },
    attempt: () => user.mmap(8 * PAGE_SIZE),
    undo: (taken) => user.munmap(taken, 8 * PAGE_SIZE),
  });
  const ioasId = sweep.take({
    ...{ name: 'allocIoas', fails: 'ENOMEM' },
    attempt: () => fd.allocIoas(),
    undo: (taken) => fd.destroy(taken),
  });
  const ioas = fd.ioas(ioasId);
  const options = { read: true, write: true };
  const map = (offset: number) =>
    sweep.take({
      ...{ name: offset === 0 ? 'mapUser' : 'mapUser with a table', fails: 'ENOMEM' },
      attempt: () => ioas.mapUser(user, va + offset, 4 * PAGE_SIZE, options),
      undo: (taken) => expect(ioas.unmap(taken, 4 * PAGE_SIZE)).toBe(4 * PAGE_SIZE),
    });
  map(0);
  expect(account.lockedPages).toBe(0);
  const deviceId = fd.bindDevice(new IommuIoasClient(iommu, { name: 'nic' }));
  const hwptId = sweep.take({
    ...{ name: 'allocHwpt', fails: 'ENOMEM' },
    attempt: () =>
      fd.allocHwpt(deviceId, ioasId, { dirtyTracking: iommu.dirtyTracking, nestParent: iommu.dirtyTracking }),
    undo: (taken) => fd.destroy(taken),
  });
  sweep.take({
    ...{ name: 'attachDevice of iommufd', fails: 'ENOMEM' },
    attempt: () => fd.attachDevice(deviceId, hwptId),
    undo: () => fd.detachDevice(deviceId),
  });
  map(4 * PAGE_SIZE);
  expect(account.lockedPages).toBe(8);
}

const WIDE = { dmaMaskBits: 64, maxSegmentSizeBytes: 4 * MIB } as const;
const ARM = { ramBytes: 32 * MIB, cmaBytes: 4 * MIB, cacheBytes: 16 * KIB } as const;
const PC = { lowRamBytes: 32 * MIB, highRamBytes: 0, cmaBytes: 4 * MIB, swiotlbBytes: MIB } as const;

describe('when an allocation fails, whichever it is, the call says so, leaves nothing, and works the second time', () => {
  it.each([false, true])('behind an SMMU (lazy invalidation: %s)', (lazyIommu) => {
    const { failed } = sweepAll(
      () => armSoc({ ...ARM, lazyIommu }),
      (sweep) => {
        const cam = sweep.machine.addDevice({
          name: 'cam',
          coherent: false,
          iommu: true,
          maxSegmentSizeBytes: 4 * MIB,
        });
        callEverything(sweep, cam, 0);
        linkEverything(sweep, cam);
      },
    );
    const steps = [
      'dmaMapPage',
      'dmaMapSgtable of 3 MiB',
      'dmaAllocCoherent',
      'dmaAllocPages',
      'dmaAllocNoncontiguous',
    ];
    expect([...failed]).toEqual(expect.arrayContaining([...steps, 'dmaIovaLink'].map((step) => `cam ${step}`)));
  });

  it.each([false, true])('behind VT-d (lazy invalidation: %s)', (lazyIommu) => {
    const { failed } = sweepAll(
      () => pc({ ...PC, lazyIommu }),
      (sweep) => {
        const nic = sweep.machine.addDevice({ name: 'nic', coherent: true, iommu: true, pci: true, ...WIDE });
        callEverything(sweep, nic, 0);
        linkEverything(sweep, nic);
      },
    );
    expect([...failed]).toEqual(expect.arrayContaining(['nic dmaMapPage', 'nic dmaAllocCoherent', 'nic dmaIovaLink']));
  });

  it('for a device that is not trusted, whose buffers are bounced', () => {
    const { failed } = sweepAll(
      () => pc(PC),
      (sweep) => {
        const evil = sweep.machine.addDevice({ name: 'evil', coherent: true, iommu: true, untrusted: true, ...WIDE });
        callEverything(sweep, evil, 0);
      },
    );
    expect([...failed]).toEqual(expect.arrayContaining(['evil dmaMapPage', 'evil dmaAllocCoherent']));
  });

  it.each([true, false])('without an IOMMU (snooping: %s)', (coherent) => {
    const { failed, coped } = sweepAll(
      () => pc({ ...PC, vtd: false }),
      (sweep) => {
        const nic = sweep.machine.addDevice({ name: 'nic', coherent, dmaMaskBits: 64, coherentDmaMaskBits: 32 });
        allocateEverything(sweep, nic);
      },
    );
    expect([...failed]).toEqual(
      expect.arrayContaining(['nic dmaAllocPages', 'nic dmaAllocNoncontiguous', 'nic dmaAllocCoherent']),
    );
    expect([...coped]).toEqual(expect.arrayContaining(['nic dmaAllocCoherent']));
  });

  it('of groups and domains', () => {
    const { failed } = sweepAll(
      () => armSoc(ARM),
      (sweep) => useDomains(sweep, sweep.machine.iommu ?? expect.fail('no IOMMU')),
    );
    expect([...failed]).toEqual(['addDevice', 'writeType DMA', 'allocDomain', 'IommuDomain.map']);
  });

  it('of domains that mark written pages or stand on others, and of a process with its own address space', () => {
    const { failed } = sweepAll(
      () => armSoc(ARM),
      (sweep) => {
        const { sim, pages } = sweep.machine;
        const tables = {
          alloc: (order: number) => pages.allocPages({ order, owner: 'iommu tables' }),
          free: (frame: Parameters<typeof pages.freePages>[0], order: number) => pages.freePages(frame, 2 ** order),
        };
        const iommu = new Iommu(sim, { name: 'smmu1', pages: tables, dirtyTracking: true });
        trackAndNest(sweep, iommu);
        useIommufd(sweep, iommu);
      },
    );
    const steps = ['new TrackedDomain', 'TrackedDomain.map', 'new NestedDomain', 'mmap', 'allocIoas', 'mapUser'];
    expect([...failed]).toEqual(expect.arrayContaining([...steps, 'allocHwpt', 'mapUser with a table']));
  });
});

describe('a resource that is used up', () => {
  it('bounce slots: a mapping fails without a trace, and works when one is free again', () => {
    const machine = pc({ ...PC, vtd: false, swiotlbBytes: 256 * KIB, hazards: 'record' });
    addMemory(machine);
    const nic = machine.addDevice({ name: 'nic', coherent: true });
    const taken: DmaAddr[] = [];
    const map = () => dmaMapPage(nic, physAddr(at(taken.length)), PAGE_SIZE, 'to-device');
    for (let next = map(); !dmaMappingError(nic, next); next = map()) taken.push(next);
    expect([taken.length, machine.swiotlb?.usedSlots]).toEqual([64, 128]);
    const sgt = new SgTable([{ phys: physAddr(at(70)), length: 64 }]);
    const pair = new SgTable([0, 1].map((i) => ({ phys: physAddr(at(71 + i)), length: PAGE_SIZE })));
    expect(() => dmaMapSgtable(nic, sgt, 'to-device')).toThrow(errno('EIO'));
    expect(dmaMapSg(nic, sgt, 'to-device')).toBe(0);
    const [first = expect.fail(), ...rest] = taken;
    dmaUnmapPage(nic, first, PAGE_SIZE, 'to-device');
    // One of two fits: it must be given back when the other does not.
    expect(() => dmaMapSgtable(nic, pair, 'to-device')).toThrow(errno('EIO'));
    expect([pair.nents, machine.swiotlb?.usedSlots]).toEqual([0, 126]);
    dmaMapSgtable(nic, sgt, 'to-device');
    dmaUnmapSgtable(nic, sgt, 'to-device');
    for (const address of rest) dmaUnmapPage(nic, address, PAGE_SIZE, 'to-device');
    machine.removeDevice(nic);
    expect([machine.swiotlb?.usedSlots, machine.sim.hazards]).toEqual([0, []]);
  });

  it('bounce slots of a device that is not trusted: no address stays taken', () => {
    const machine = pc({ ...PC, swiotlbBytes: 256 * KIB });
    addMemory(machine);
    const evil = machine.addDevice({ name: 'evil', coherent: true, iommu: true, untrusted: true });
    const taken: DmaAddr[] = [];
    const map = () => dmaMapPage(evil, physAddr(at(taken.length, 64)), 64, 'to-device');
    for (let next = map(); !dmaMappingError(evil, next); next = map()) taken.push(next);
    expect(taken.length).toBeGreaterThan(0);
    expect(rangesInUse(evil)).toBe(taken.length);
    const pair = new SgTable([70, 71].map((i) => ({ phys: physAddr(at(i)), length: i === 70 ? PAGE_SIZE : 64 })));
    expect(() => dmaMapSgtable(evil, pair, 'to-device')).toThrow(errno('EIO'));
    expect([rangesInUse(evil), pair.nents]).toEqual([taken.length, 0]);
    for (const address of taken) dmaUnmapPage(evil, address, 64, 'to-device');
    dmaMapSgtable(evil, pair, 'to-device');
    dmaUnmapSgtable(evil, pair, 'to-device');
    machine.removeDevice(evil);
    expect([machine.swiotlb?.usedSlots, machine.memory.ledger.liveCount]).toEqual([0, 0]);
  });

  it('IO addresses: every call that wants some fails as it says, holds no memory, and works after an unmap', () => {
    const machine = armSoc(ARM);
    addMemory(machine);
    const isp = machine.addDevice({
      name: 'isp',
      coherent: false,
      iommu: true,
      dmaMaskBits: 14,
      coherentDmaMaskBits: 14,
    });
    const taken = [1, 2, 3].map((i) => dmaMapPage(isp, physAddr(at(i)), PAGE_SIZE, 'to-device'));
    for (const address of taken) expect(dmaMappingError(isp, address)).toBe(false);
    const held = machine.memory.ledger.liveBytes;
    const sgt = new SgTable([{ phys: physAddr(at(9)), length: 64 }]);
    expect(dmaMappingError(isp, dmaMapPage(isp, physAddr(at(9)), 64, 'to-device'))).toBe(true);
    expect(dmaMappingError(isp, dmaMapResource(isp, physAddr(BAR), 64, 'to-device'))).toBe(true);
    expect(() => dmaMapSgtable(isp, sgt, 'to-device')).toThrow(errno('ENOMEM'));
    expect(dmaMapSg(isp, sgt, 'to-device')).toBe(0);
    expect([dmaAllocCoherent(isp, 64), dmaAllocPages(isp, 64, 'to-device')]).toEqual([null, null]);
    expect([dmaAllocNoncontiguous(isp, 64, 'to-device'), dmaIovaTryAlloc(isp, 64)]).toEqual([null, null]);
    expect([rangesInUse(isp), machine.memory.ledger.liveBytes]).toEqual([3, held]);
    for (const address of taken) dmaUnmapPage(isp, address, PAGE_SIZE, 'to-device');
    dmaFreeCoherent(isp, dmaAllocCoherent(isp, 64) ?? expect.fail('no memory'));
    machine.removeDevice(isp);
    expect(machine.memory.ledger.liveCount).toBe(0);
  });

  it('address-space ids: no group, domain or type change takes one, and each works after a domain is freed', () => {
    const { sim } = armSoc(ARM);
    const frames = new FrameCounter();
    const iommu = new Iommu(sim, { name: 'smmu1', pages: frames, asidBits: 1 });
    const only = iommu.allocDomain();
    const held = frames.outstanding;
    const group = new IommuGroup(iommu, { name: 'bus', defaultType: 'identity' });
    group.addDevice({ name: 'nic' });
    expect(() => iommu.allocDomain()).toThrow(errno('ENOSPC'));
    expect(() => new IommuGroup(iommu, { name: 'other' })).toThrow(errno('ENOSPC'));
    expect(() => group.writeType('DMA')).toThrow(errno('ENOSPC'));
    expect([group.typeText, frames.outstanding]).toEqual(['identity', held]);
    only.free();
    group.writeType('DMA');
    expect([group.typeText, group.defaultDomain?.asid]).toEqual(['DMA', 1]);
  });

  it('a page for splitting a block: a part of it is not unmapped then, and is the second time', () => {
    const machine = armSoc(ARM);
    addMemory(machine);
    const domain = (machine.iommu ?? expect.fail('no IOMMU')).allocDomain();
    domain.map(iova(2 * MIB), physAddr(OWN + 2 * MIB), 2 * MIB, RW);
    const held = machine.memory.ledger.liveCount;
    machine.memory.failNext = () => true;
    expect(domain.unmap(iova(2 * MIB), PAGE_SIZE)).toBe(0);
    expect([...domain.pgtable.leaves()]).toHaveLength(1);
    expect([machine.memory.ledger.liveCount, domain.iovaToPhys(iova(2 * MIB))]).toEqual([held, OWN + 2 * MIB]);
    machine.memory.failNext = undefined;
    expect(domain.unmap(iova(2 * MIB), PAGE_SIZE)).toBe(PAGE_SIZE);
    expect(domain.iovaToPhys(iova(2 * MIB))).toBeNull();
    domain.free();
    expect(machine.memory.ledger.liveCount).toBe(0);
  });
});
