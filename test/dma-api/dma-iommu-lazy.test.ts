import { describe, expect, it, onTestFinished } from 'vitest';
import { dmaAddr, PAGE_SIZE, pfnToPhys } from '../../src/base/addr.ts';
import { ms } from '../../src/base/units.ts';
import type { Device } from '../../src/dma-api/device.ts';
import { dmaMapSgtable, dmaUnmapSgtable } from '../../src/dma-api/dma-map.ts';
import { dmaMapPage, dmaMappingError, dmaUnmapPage } from '../../src/dma-api/dma-single.ts';
import { bench, errno, pattern } from '../bench.ts';

const TOP = 2 ** 32;

function domainOf(device: Device) {
  return device.iommuGroup?.defaultDomain ?? expect.fail('no domain');
}

describe('lazy invalidation behind the DMA API', () => {
  it('takes the translation away at once and leaves a device its way through the IOTLB until the flush', () => {
    const b = bench({ lazyIommu: true, hazards: 'record' });
    const device = b.device('cam', { iommu: true });
    const sgt = b.scattered(2);
    const phys = sgt.physAddress(0);
    dmaMapSgtable(device, sgt, 'from-device');
    const address = sgt.dmaAddress(0);
    device.port.write(address, pattern(16), 0, 16);
    dmaUnmapSgtable(device, sgt, 'from-device');

    expect(device.port.write(address, pattern(16, 2), 0, 16)).toBe(16);
    const late = new Uint8Array(16);
    b.machine.memory.read(phys, late, 0, 16);
    expect(late).toEqual(pattern(16, 2));
    expect(device.port.write(dmaAddr(address + PAGE_SIZE), pattern(16), 0, 16)).toBe(0);

    b.sim.runUntil(ms(10));
    expect(device.port.write(address, pattern(16, 3), 0, 16)).toBe(0);
    expect(device.port.faults.map(({ reason }) => reason)).toEqual(['unmapped', 'unmapped']);
    expect(device.port.lateAccesses).toBe(1);
    expect(b.sim.hazards.map(({ hazard }) => hazard)).toEqual(['dma.after-unmap', 'dma.after-unmap']);
  });

  it('invalidates nothing by an unmap, and everything once by the timer', () => {
    const b = bench({ lazyIommu: true });
    const device = b.device('cam', { iommu: true });
    const domain = domainOf(device);
    for (let i = 0; i < 5; i++) {
      const sgt = b.scattered(1);
      dmaMapSgtable(device, sgt, 'to-device');
      dmaUnmapSgtable(device, sgt, 'to-device');
    }
    expect([domain.flushIotlbAllCount, domain.iotlbSyncCount]).toEqual([0, 0]);
    b.sim.runUntil(ms(30));
    expect([domain.flushIotlbAllCount, domain.iotlbSyncCount]).toEqual([1, 0]);
  });

  it('gives the same mapping fresh addresses until the flush, and the last one again after it', () => {
    const b = bench({ lazyIommu: true });
    const device = b.device('cam', { iommu: true });
    const sgt = b.scattered(1);
    const map = () => {
      dmaMapSgtable(device, sgt, 'to-device');
      const address = sgt.dmaAddress(0);
      dmaUnmapSgtable(device, sgt, 'to-device');
      return address;
    };
    expect([map(), map(), map()]).toEqual([1, 2, 3].map((pages) => TOP - pages * PAGE_SIZE));
    b.sim.runUntil(ms(10));
    expect(map()).toBe(TOP - 3 * PAGE_SIZE);
  });

  it('fails to map when all addresses wait for the flush, says so, and works after it', () => {
    const b = bench({ lazyIommu: true });
    const device = b.device('isp', { iommu: true, dmaMaskBits: 14 });
    for (let i = 0; i < 3; i++) {
      const sgt = b.scattered(1);
      dmaMapSgtable(device, sgt, 'to-device');
      dmaUnmapSgtable(device, sgt, 'to-device');
    }
    const late = b.scattered(1);
    expect(() => dmaMapSgtable(device, late, 'to-device')).toThrow(errno('ENOMEM'));
    expect(() => dmaMapSgtable(device, late, 'to-device')).toThrow(/3 ranges wait for a flush/);
    b.sim.runUntil(ms(10));
    dmaMapSgtable(device, late, 'to-device');
    dmaUnmapSgtable(device, late, 'to-device');
  });

  it('flushes by the unmap that finds 255 ranges waiting', () => {
    const b = bench({ lazyIommu: true });
    const device = b.device('nic', { iommu: true });
    const domain = domainOf(device);
    const { pages } = b.machine;
    const frame = pages.allocPages({ pageCount: 1, owner: 'test' });
    onTestFinished(() => pages.freePages(frame, 1));
    const counts: number[] = [];
    for (let i = 0; i < 257; i++) {
      const address = dmaMapPage(device, pfnToPhys(frame), 64, 'to-device');
      expect(dmaMappingError(device, address)).toBe(false);
      dmaUnmapPage(device, address, 64, 'to-device');
      counts.push(domain.flushIotlbAllCount);
    }
    expect([counts[254], counts[255], counts[256]]).toEqual([0, 1, 1]);
  });

  it('begins when the group changes to DMA-FQ, with addresses as they are', () => {
    const b = bench();
    const device = b.device('cam', { iommu: true });
    const [before, after] = [b.scattered(1), b.scattered(1)];
    dmaMapSgtable(device, before, 'to-device');
    device.iommuGroup?.writeType('DMA-FQ');
    dmaMapSgtable(device, after, 'to-device');
    expect([before.dmaAddress(0), after.dmaAddress(0)]).toEqual([TOP - PAGE_SIZE, TOP - 2 * PAGE_SIZE]);
    const domain = domainOf(device);
    for (const sgt of [before, after]) dmaUnmapSgtable(device, sgt, 'to-device');
    expect([domain.iotlbSyncCount, domain.cookie?.flushQueue?.length]).toEqual([0, 2]);
  });
});
