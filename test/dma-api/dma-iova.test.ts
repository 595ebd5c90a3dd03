import { describe, expect, it } from 'vitest';
import { type DmaAddr, PAGE_SIZE, type PhysAddr, physAddr } from '../../src/base/addr.ts';
import type { Device } from '../../src/dma-api/device.ts';
import { type DmaIova, dmaIovaTryAlloc } from '../../src/dma-api/dma-iova.ts';
import { dmaMapSgtable, dmaUnmapSgtable } from '../../src/dma-api/dma-map.ts';
import { SgTable } from '../../src/dma-api/sg-table.ts';
import { type Bench, bench, errno, invariant, pattern } from '../bench.ts';
import { rangesInUse } from '../iova-use.ts';

function reserved(device: Device, sizeBytes: number, phys?: PhysAddr): DmaIova {
  return (
    (phys === undefined ? dmaIovaTryAlloc(device, sizeBytes) : dmaIovaTryAlloc(device, sizeBytes, phys)) ??
    expect.fail('no addresses')
  );
}

function fill(b: Bench, phys: PhysAddr, bytes: Uint8Array): void {
  b.machine.memory.write(phys, bytes, 0, bytes.length);
}

function reads(device: Device, address: number, length: number): Uint8Array {
  const out = new Uint8Array(length);
  device.port.read(address as DmaAddr, out, 0, length);
  return out;
}

describe('the two-step API', () => {
  it('leads a device to the same bytes as one mapping of the same memory (N-17)', () => {
    const b = bench({ hazards: 'throw' });
    const device = b.device('nvme', { iommu: true });
    const pages = b.scatteredPages(4);
    for (const [i, phys] of pages.entries()) fill(b, phys, pattern(PAGE_SIZE, i));
    const iova = reserved(device, 4 * PAGE_SIZE);
    for (const [i, phys] of pages.entries()) iova.link(phys, i * PAGE_SIZE, PAGE_SIZE, 'to-device');
    iova.sync();
    const sgt = new SgTable(pages.map((phys) => ({ phys, length: PAGE_SIZE })));
    dmaMapSgtable(device, sgt, 'to-device');
    expect(reads(device, iova.address, 4 * PAGE_SIZE)).toEqual(reads(device, sgt.dmaAddress(0), 4 * PAGE_SIZE));
    dmaUnmapSgtable(device, sgt, 'to-device');
    iova.destroy(4 * PAGE_SIZE, 'to-device');
    expect(rangesInUse(device)).toBe(0);
  });

  it('lets a driver link and unlink pieces while the run stays', () => {
    const b = bench({ hazards: 'throw' });
    const device = b.device('nvme', { iommu: true });
    const [one, two] = b.scatteredPages(2) as [PhysAddr, PhysAddr];
    fill(b, one, pattern(64, 1));
    fill(b, two, pattern(64, 2));
    const iova = reserved(device, 2 * PAGE_SIZE);
    iova.link(one, 0, PAGE_SIZE, 'bidirectional');
    expect(reads(device, iova.address, 64)).toEqual(pattern(64, 1));
    iova.unlink(0, PAGE_SIZE, 'bidirectional');
    expect(device.port.peek(iova.address, new Uint8Array(64), 0, 64)).toBe(0);
    iova.link(two, 0, PAGE_SIZE, 'bidirectional');
    expect(reads(device, iova.address, 64)).toEqual(pattern(64, 2));
    expect(iova.linkCount).toBe(1);
    iova.unlink(0, PAGE_SIZE, 'bidirectional');
    iova.free();
  });

  it('takes pieces in any order, and out again in any runs of whole ones', () => {
    const b = bench({ hazards: 'throw' });
    const device = b.device('nvme', { iommu: true });
    const pages = b.scatteredPages(8);
    for (const [i, phys] of pages.entries()) fill(b, phys, pattern(64, i));
    const iova = reserved(device, 8 * PAGE_SIZE);
    for (const i of [5, 0, 7, 2, 1, 6, 4, 3]) iova.link(pages[i] as PhysAddr, i * PAGE_SIZE, PAGE_SIZE, 'to-device');
    iova.sync();
    for (const i of pages.keys()) expect(reads(device, iova.address + i * PAGE_SIZE, 64)).toEqual(pattern(64, i));
    iova.unlink(2 * PAGE_SIZE, 3 * PAGE_SIZE, 'to-device');
    expect(() => iova.sync(PAGE_SIZE, 2 * PAGE_SIZE)).toThrow(
      invariant(`nothing is linked at offset ${2 * PAGE_SIZE}`),
    );
    expect(() => iova.unlink(4 * PAGE_SIZE, 2 * PAGE_SIZE, 'to-device')).toThrow(invariant('no piece begins'));
    expect(() => iova.unlink(7 * PAGE_SIZE, 64, 'to-device')).toThrow(invariant('end at'));
    iova.sync(5 * PAGE_SIZE, 3 * PAGE_SIZE);
    iova.unlink(5 * PAGE_SIZE, 3 * PAGE_SIZE, 'to-device');
    iova.destroy(2 * PAGE_SIZE, 'to-device');
    expect(rangesInUse(device)).toBe(0);
  });

  it('invalidates once for all pieces that are taken out together', () => {
    const b = bench({ hazards: 'throw' });
    const device = b.device('nvme', { iommu: true });
    const pages = b.scatteredPages(16);
    const spent = [16, 1].map((together) => {
      const iova = reserved(device, 16 * PAGE_SIZE);
      for (const [i, phys] of pages.entries())
        iova.link(phys, i * PAGE_SIZE, PAGE_SIZE, 'to-device', { skipCpuSync: true });
      const start = b.count('iommu.flush');
      for (let i = 0; i < 16; i += together) iova.unlink(i * PAGE_SIZE, together * PAGE_SIZE, 'to-device');
      const flushes = b.count('iommu.flush') - start;
      iova.free();
      return flushes;
    });
    expect(spent).toEqual([1, 16]);
  });

  it('begins and ends inside pages where the memory does', () => {
    const b = bench({ hazards: 'throw' });
    const device = b.device('nvme', { iommu: true });
    const [one, two] = b.scatteredPages(2) as [PhysAddr, PhysAddr];
    const phys = physAddr(one + 96);
    fill(b, phys, pattern(PAGE_SIZE - 96));
    const iova = reserved(device, PAGE_SIZE, phys);
    expect(iova.address % PAGE_SIZE).toBe(96);
    iova.link(phys, 0, PAGE_SIZE - 96, 'to-device');
    iova.link(two, PAGE_SIZE - 96, 96, 'to-device');
    iova.sync(0, PAGE_SIZE);
    expect(reads(device, iova.address, PAGE_SIZE - 96)).toEqual(pattern(PAGE_SIZE - 96));
    iova.unlink(0, PAGE_SIZE, 'to-device');
    iova.free();
  });

  it('hands bytes over as a mapping does, and not with skipCpuSync', () => {
    const b = bench({ hazards: 'throw' });
    const device = b.device('nvme', { iommu: true });
    const seen: string[] = [];
    b.sim.trace.on('cache.maintain', ({ op }) => {
      seen.push(op);
      return undefined;
    });
    const [page] = b.scatteredPages(1) as [PhysAddr];
    const iova = reserved(device, PAGE_SIZE);
    iova.link(page, 0, PAGE_SIZE, 'from-device');
    iova.unlink(0, PAGE_SIZE, 'from-device');
    expect(seen).toEqual(['clean', 'invalidate']);
    iova.link(page, 0, PAGE_SIZE, 'from-device', { skipCpuSync: true });
    iova.destroy(PAGE_SIZE, 'from-device');
    expect(seen).toHaveLength(2);
  });

  it('reports what is still linked when the run is freed, and frees nothing then', () => {
    const b = bench({ hazards: 'throw' });
    const device = b.device('nvme', { iommu: true });
    const pages = b.scatteredPages(2);
    const iova = reserved(device, 2 * PAGE_SIZE);
    for (const [i, phys] of pages.entries()) iova.link(phys, i * PAGE_SIZE, PAGE_SIZE, 'to-device');
    const leftover = expect.objectContaining({ hazard: 'dma-iova.leftover-link' });
    expect(() => iova.free()).toThrow(leftover);
    expect(() => iova.destroy(PAGE_SIZE, 'to-device')).toThrow(leftover);
    expect(iova.linkCount).toBe(1);
    iova.unlink(PAGE_SIZE, PAGE_SIZE, 'to-device');
    iova.free();
    expect(b.sim.hazards).toHaveLength(2);
  });

  it('goes on under policy record: what is left is unlinked, and the run is free', () => {
    const b = bench({ hazards: 'record' });
    const device = b.device('nvme', { iommu: true });
    const iova = reserved(device, PAGE_SIZE);
    iova.link(b.scatteredPages(1)[0] as PhysAddr, 0, PAGE_SIZE, 'to-device');
    iova.free();
    expect([b.sim.hazards.length, rangesInUse(device), iova.linkCount]).toEqual([1, 0, 0]);
  });

  it('is not there without an IOMMU, behind one that does not translate, or for a device that is not trusted', () => {
    const b = bench();
    expect(dmaIovaTryAlloc(b.device('cam'), PAGE_SIZE)).toBe(null);
    expect(dmaIovaTryAlloc(b.device('dock', { iommu: true, untrusted: true }), PAGE_SIZE)).toBe(null);
  });

  it('is null when no addresses are left', () => {
    const b = bench();
    expect(dmaIovaTryAlloc(b.device('cam', { iommu: true, dmaMaskBits: 20 }), 2 ** 21)).toBe(null);
  });
});

describe('a link', () => {
  function withRun(body: (iova: DmaIova, pages: PhysAddr[], b: Bench) => void): void {
    const b = bench({ hazards: 'throw' });
    const iova = reserved(b.device('nvme', { iommu: true }), 2 * PAGE_SIZE);
    body(iova, b.scatteredPages(2), b);
    if (iova.linkCount > 0) iova.unlink(0, iova.linkCount * PAGE_SIZE, 'to-device');
    iova.free();
  }

  it('where something is linked fails with EEXIST, and the first one stays', () => {
    withRun((iova, [one, two]) => {
      iova.link(one as PhysAddr, 0, PAGE_SIZE, 'to-device');
      expect(() => iova.link(two as PhysAddr, 0, PAGE_SIZE, 'to-device')).toThrow(errno('EEXIST'));
      expect(iova.linkCount).toBe(1);
    });
  });

  it('outside the run, at another place in the page, or in no direction is refused, and the argument is named', () => {
    withRun((iova, [one = physAddr(0)]) => {
      expect(() => iova.link(one, PAGE_SIZE, 2 * PAGE_SIZE, 'to-device')).toThrow(invariant('leaves the run'));
      expect(() => iova.link(one, -1, PAGE_SIZE, 'to-device')).toThrow(invariant('offset -1'));
      expect(() => iova.link(one, 0, 0, 'to-device')).toThrow(invariant('sizeBytes 0'));
      expect(() => iova.link(one, 64, 64, 'to-device')).toThrow(invariant('different places in their pages'));
      expect(() => iova.link(one, 0, 64, 'up' as 'to-device')).toThrow(invariant('dir up'));
      expect(iova.linkCount).toBe(0);
    });
  });

  it('is not synced before it is made, and is unlinked whole, as it was made', () => {
    withRun((iova, [one = physAddr(0)]) => {
      expect(() => iova.sync()).toThrow(invariant('nothing is linked at offset 0'));
      iova.link(one, 0, PAGE_SIZE, 'to-device');
      expect(() => iova.sync()).toThrow(invariant('nothing is linked at offset 4096'));
      iova.sync(0, PAGE_SIZE);
      expect(() => iova.unlink(0, 64, 'to-device')).toThrow(invariant('end at 4096, not at 64'));
      expect(() => iova.unlink(0, 2 * PAGE_SIZE, 'to-device')).toThrow(invariant('end at 4096, not at 8192'));
      expect(() => iova.unlink(64, 64, 'to-device')).toThrow(invariant('no piece begins at offset 64'));
      expect(() => iova.unlink(0, PAGE_SIZE, 'from-device')).toThrow(invariant('linked to-device'));
      expect(iova.linkCount).toBe(1);
    });
  });

  it('of a run that was freed is refused, and so is a second free', () => {
    const b = bench();
    const iova = reserved(b.device('nvme', { iommu: true }), PAGE_SIZE);
    iova.free();
    expect(() => iova.link(b.scatteredPages(1)[0] as PhysAddr, 0, 64, 'to-device')).toThrow(invariant('was freed'));
    expect(() => iova.free()).toThrow(invariant('freed before'));
  });
});
