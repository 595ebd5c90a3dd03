import { describe, expect, it, onTestFinished } from 'vitest';
import { dmaAddr, hex, PAGE_SIZE, pfnToPhys, physAddr } from '../../src/base/addr.ts';
import { MIB } from '../../src/base/units.ts';
import { dmaMapSgtable, dmaUnmapSgtable } from '../../src/dma-api/dma-map.ts';
import {
  dmaMapPage,
  dmaMappingError,
  dmaMapResource,
  dmaSyncSingleForCpu,
  dmaSyncSingleForDevice,
  dmaUnmapPage,
  dmaUnmapResource,
} from '../../src/dma-api/dma-single.ts';
import { SgTable } from '../../src/dma-api/sg-table.ts';
import { type Bench, bench, errno, invariant, pattern } from '../bench.ts';

const TOP = 2 ** 32;
/** What the test itself holds until it ends. */
const HELD = ['test holds 8192 bytes of pages'];
/** No memory of the machine lies here: a window of device registers. */
const BAR = physAddr(0xe000_0000);

/** A bench without a checker of the DMA API, two pages of its RAM, and a device. */
function scene(spec: Parameters<Bench['device']>[1] = {}, options: Parameters<typeof bench>[0] = {}) {
  const b = bench({ dmaDebug: false, ...options });
  const { pages } = b.machine;
  const frame = pages.allocPages({ pageCount: 2, owner: 'test' });
  onTestFinished(() => pages.freePages(frame, 2));
  return { b, page: pfnToPhys(frame), device: b.device('cam', { iommu: true, ...spec }) };
}

describe('a single mapping behind an IOMMU', () => {
  it('keeps the offset in the page, and the device reaches the whole page around it', () => {
    const { b, page, device } = scene({}, { hazards: 'record' });
    const address = dmaMapPage(device, physAddr(page + 100), 50, 'bidirectional');
    expect(address).toBe(TOP - PAGE_SIZE + 100);
    expect(device.port.write(dmaAddr(address - 100), pattern(PAGE_SIZE), 0, PAGE_SIZE)).toBe(PAGE_SIZE);
    const seen = new Uint8Array(PAGE_SIZE);
    b.machine.memory.read(page, seen, 0, PAGE_SIZE);
    expect(seen).toEqual(pattern(PAGE_SIZE));
    dmaUnmapPage(device, address, 50, 'bidirectional');
    expect(b.sim.hazards).toEqual([]);
    expect(device.port.write(address, pattern(1), 0, 1)).toBe(0);
    expect(b.sim.hazards.map(({ hazard }) => hazard)).toEqual(['dma.after-unmap']);
  });

  it('takes every page it touches', () => {
    const { b, page, device } = scene();
    const address = dmaMapPage(device, physAddr(page + PAGE_SIZE - 1), 2, 'to-device');
    expect(address).toBe(TOP - PAGE_SIZE - 1);
    dmaUnmapPage(device, address, 2, 'to-device');
    expect(b.leftovers()).toEqual(HELD);
  });

  it('lets the device do what the direction says', () => {
    const { page, device } = scene();
    const address = dmaMapPage(device, page, 64, 'to-device');
    expect(device.port.read(address, new Uint8Array(64), 0, 64)).toBe(64);
    expect(device.port.write(address, pattern(1), 0, 1)).toBe(0);
    expect(device.port.faults.at(-1)?.reason).toBe('permission');
    dmaUnmapPage(device, address, 64, 'to-device');
  });

  it('is an error address when no IO address is left, and leaves nothing behind', () => {
    const { b, page, device } = scene({ dmaMaskBits: 14 });
    const live = [1, 2, 3].map(() => dmaMapPage(device, page, 8, 'to-device'));
    expect(live.map((address) => dmaMappingError(device, address))).toEqual([false, false, false]);
    expect(dmaMappingError(device, dmaMapPage(device, page, 8, 'to-device'))).toBe(true);
    for (const address of live) dmaUnmapPage(device, address, 8, 'to-device');
    expect(b.leftovers()).toEqual(HELD);
  });

  it('is an error address when a table page is missing, and leaves nothing behind', () => {
    const { b, page, device } = scene();
    b.machine.memory.failNext = ({ owner }) => owner === 'iommu tables';
    expect(dmaMappingError(device, dmaMapPage(device, page, 8, 'to-device'))).toBe(true);
    b.machine.memory.failNext = undefined;
    expect(b.leftovers()).toEqual(HELD);
  });

  it('moves bytes between a device that does not snoop and the caches when it changes hands', () => {
    const { b, page, device } = scene();
    const cpu = b.machine.coherency;
    const app = { name: 'app', kind: 'cpu', via: 'test', beforeRead: '', afterWrite: '' } as const;
    cpu.cpuWrite(page, pattern(64, 1), 0, 64, 'cached', app);
    const address = dmaMapPage(device, page, 64, 'bidirectional');
    const seen = new Uint8Array(64);
    device.port.read(address, seen, 0, 64);
    expect(seen).toEqual(pattern(64, 1));

    device.port.write(address, pattern(64, 2), 0, 64);
    dmaSyncSingleForCpu(device, address, 64, 'bidirectional');
    cpu.cpuRead(page, seen, 0, 64, 'cached', app);
    expect(seen).toEqual(pattern(64, 2));

    cpu.cpuWrite(page, pattern(64, 3), 0, 64, 'cached', app);
    dmaSyncSingleForDevice(device, address, 64, 'bidirectional');
    device.port.read(address, seen, 0, 64);
    expect(seen).toEqual(pattern(64, 3));
    dmaUnmapPage(device, address, 64, 'bidirectional');
  });

  it('refuses to unmap or sync what is not mapped, and does nothing then', () => {
    const { b, page, device } = scene();
    const address = dmaMapPage(device, page, 64, 'to-device');
    dmaUnmapPage(device, address, 64, 'to-device');
    const nothing = invariant(`nothing is mapped at ${hex(address)} for cam`);
    expect(() => dmaUnmapPage(device, address, 64, 'to-device')).toThrow(nothing);
    expect(() => dmaSyncSingleForCpu(device, address, 64, 'from-device')).toThrow(nothing);
    expect(() => dmaSyncSingleForDevice(device, address, 64, 'from-device')).toThrow(nothing);
    const again = dmaMapPage(device, page, 64, 'to-device');
    const other = dmaMapPage(device, page, 64, 'to-device');
    expect(again).not.toBe(other);
    for (const live of [again, other]) dmaUnmapPage(device, live, 64, 'to-device');
    expect(b.leftovers()).toEqual(HELD);
  });

  it('tells of an unmap that is longer than the mapping, and gives the mapping back whole', () => {
    const { b, page, device } = scene();
    const address = dmaMapPage(device, page, 64, 'to-device');
    expect(() => dmaUnmapPage(device, address, 3 * PAGE_SIZE, 'to-device', { skipCpuSync: true })).toThrow(
      invariant('8192 bytes from 0xfffff000'),
    );
    expect(b.leftovers()).toEqual(HELD);
    const next = dmaMapPage(device, page, 64, 'to-device');
    expect(next).toBe(address);
    dmaUnmapPage(device, next, 64, 'to-device');
  });

  it('maps device memory without cache maintenance', () => {
    const { b, device } = scene();
    const address = dmaMapResource(device, physAddr(BAR + 8), 16, 'bidirectional');
    expect(address).toBe(TOP - PAGE_SIZE + 8);
    const domain = device.iommuGroup?.defaultDomain;
    expect(domain?.pgtable.leaves().next().value?.iova).toBe(TOP - PAGE_SIZE);
    expect(b.count('cache.maintain')).toBe(0);
    dmaUnmapResource(device, address, 16, 'bidirectional');
    expect(b.leftovers()).toEqual(HELD);
  });

  it('maps device memory alike for a device that snoops and for one that does not: nothing of it is cached', () => {
    const [snooping, other] = [true, false].map((coherent) => {
      const { b, device } = scene({ coherent });
      const address = dmaMapResource(device, BAR, PAGE_SIZE, 'bidirectional');
      const leaf = device.iommuGroup?.defaultDomain?.pgtable.leaves().next().value;
      dmaUnmapResource(device, address, PAGE_SIZE, 'bidirectional');
      expect(b.leftovers()).toEqual(HELD);
      return leaf;
    });
    expect(snooping?.iova).toBe(TOP - PAGE_SIZE);
    expect(snooping).toEqual(other);
  });

  it('maps memory that the IOMMU can not address for nobody', () => {
    const { b, device } = scene();
    const beyond = physAddr(2 ** 50);
    expect(dmaMappingError(device, dmaMapResource(device, beyond, 16, 'to-device'))).toBe(true);
    const sgt = new SgTable([{ phys: beyond, length: 16 }]);
    expect(() => dmaMapSgtable(device, sgt, 'to-device', { skipCpuSync: true })).toThrow(errno('EINVAL'));
    expect(b.leftovers()).toEqual(HELD);
  });

  it('uses large pages where memory and addresses allow it', () => {
    const { device } = scene({ maxSegmentSizeBytes: 8 * MIB });
    const sgt = new SgTable([{ phys: physAddr(0x1000_0000), length: 4 * MIB }]);
    dmaMapSgtable(device, sgt, 'to-device', { skipCpuSync: true });
    const leaves = [...(device.iommuGroup?.defaultDomain?.pgtable.leaves() ?? [])];
    expect(leaves).toHaveLength(2);
    dmaUnmapSgtable(device, sgt, 'to-device', { skipCpuSync: true });
  });
});

describe('what a device behind an IOMMU is told', () => {
  it('of sizes and masks', () => {
    const { device } = scene();
    const { dmaOps } = device;
    expect([dmaOps.requiredMaskBits(), dmaOps.optMappingBytes(), dmaOps.maxMappingBytes()]).toEqual([
      32,
      128 * 1024,
      Number.POSITIVE_INFINITY,
    ]);
    expect([dmaOps.mergeBoundary(), dmaOps.canMmap()]).toEqual([4095, true]);
  });
});
