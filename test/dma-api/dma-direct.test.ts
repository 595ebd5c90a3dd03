import { describe, expect, it } from 'vitest';
import { PAGE_SIZE, physAddr } from '../../src/base/addr.ts';
import { GIB } from '../../src/base/units.ts';
import { dmaMapSgtable, dmaUnmapSgtable } from '../../src/dma-api/dma-map.ts';
import { SgTable } from '../../src/dma-api/sg-table.ts';
import { bench, errno, invariant } from '../bench.ts';

describe('a device without an IOMMU', () => {
  it('sees physical addresses, one segment for each extent, joined or not', () => {
    const b = bench();
    const device = b.device('cam');
    const [first] = b.scatteredPages(1);
    const phys = first ?? physAddr(0);
    const sgt = new SgTable([
      { phys: physAddr(phys + 100), length: 50 },
      { phys: physAddr(phys + 150), length: 50 },
      { phys, length: 10 },
    ]);
    dmaMapSgtable(device, sgt, 'bidirectional');
    expect(sgt.segments()).toEqual([
      { address: phys + 100, length: 50 },
      { address: phys + 150, length: 50 },
      { address: phys, length: 10 },
    ]);
    dmaUnmapSgtable(device, sgt, 'bidirectional');
    expect(sgt.segments()).toEqual([]);
  });

  it('is refused memory beyond its mask with EIO, and nothing is mapped (U-13)', () => {
    const b = bench({ ramBytes: 8 * GIB });
    const blitter = b.device('blitter', { dmaMaskBits: 32, segBoundaryBytes: 2 ** 40 });
    const sgt = new SgTable([
      { phys: physAddr(0x5000_0000), length: PAGE_SIZE },
      { phys: physAddr(4 * GIB - PAGE_SIZE), length: PAGE_SIZE + 1 },
    ]);
    const mapping = (): void => dmaMapSgtable(blitter, sgt, 'to-device');
    expect(mapping).toThrow(errno('EIO'));
    expect(mapping).toThrow('extent 1 ends at 0x100000001, beyond the 32-bit mask of blitter');
    expect([sgt.nents, b.count('dma.map'), b.count('cache.maintain')]).toEqual([0, 0, 0]);
    blitter.setDmaMask(33);
    mapping();
    expect(sgt.nents).toBe(2);
    dmaUnmapSgtable(blitter, sgt, 'to-device');
  });

  it('reaches the very last byte below its mask', () => {
    const b = bench({ ramBytes: 8 * GIB });
    const blitter = b.device('blitter', { dmaMaskBits: 32 });
    const sgt = new SgTable([{ phys: physAddr(4 * GIB - PAGE_SIZE), length: PAGE_SIZE }]);
    dmaMapSgtable(blitter, sgt, 'to-device');
    expect(sgt.segments()).toEqual([{ address: 4 * GIB - PAGE_SIZE, length: PAGE_SIZE }]);
    dmaUnmapSgtable(blitter, sgt, 'to-device');
  });
});

describe('Device.setDmaMask', () => {
  it('refuses a mask that does not reach the end of the DMA zone with EIO and keeps the old one', () => {
    const device = bench().device('cam', { dmaMaskBits: 36 });
    expect(() => device.setDmaMask(23)).toThrow(errno('EIO'));
    expect([device.dmaMaskBits, device.dmaLimit]).toEqual([36, 2 ** 36]);
    device.setDmaMask(24);
    expect(device.dmaLimit).toBe(2 ** 24);
  });

  it('accepts any mask behind an IOMMU', () => {
    const device = bench().device('cam', { iommu: true });
    device.setDmaMask(1);
    device.setDmaMask(64);
    expect(device.dmaLimit).toBe(2 ** 64);
  });

  it('takes the mask 0 behind an IOMMU, and reads it as 32 bits', () => {
    const device = bench().device('cam', { iommu: true });
    device.setDmaMask(0);
    expect([device.dmaMaskBits, device.dmaLimit, device.coherentDmaMaskBits]).toEqual([32, 2 ** 32, 0]);
  });

  it.each([-1, 65, 31.5, Number.NaN])('refuses %s bits as no number of bits, and keeps the old mask', (bits) => {
    const device = bench().device('cam', { iommu: true });
    expect(() => device.setDmaMask(bits)).toThrow(invariant(`dmaMaskBits: ${bits}`));
    expect(device.dmaMaskBits).toBe(32);
  });
});

describe('Device', () => {
  it.each([
    ['dmaMaskBits: 65', { dmaMaskBits: 65 }],
    ['dmaMaskBits: 23 does not reach the end of the DMA zone and there is no IOMMU', { dmaMaskBits: 23 }],
    ['maxSegmentSizeBytes: 0', { maxSegmentSizeBytes: 0 }],
    ['maxSegmentSizeBytes: 1.5', { maxSegmentSizeBytes: 1.5 }],
    ['segBoundaryBytes: 0', { segBoundaryBytes: 0 }],
    ['segBoundaryBytes: 0.5', { segBoundaryBytes: 0.5 }],
    ['segBoundaryBytes: 12288', { segBoundaryBytes: 12288 }],
  ])('is not made with a bad option: %s', (message, options) => {
    const { machine } = bench();
    expect(() => machine.addDevice({ name: 'bad', coherent: true, ...options })).toThrow(invariant(message));
    expect(machine.devices).toEqual([]);
  });

  it("has Linux's defaults: a 32-bit mask, segments of 64 KiB, a boundary of 4 GiB", () => {
    const { dmaMaskBits, maxSegmentSizeBytes, segBoundaryBytes } = bench().device('cam');
    expect([dmaMaskBits, maxSegmentSizeBytes, segBoundaryBytes]).toEqual([32, 65536, 2 ** 32]);
  });
});
