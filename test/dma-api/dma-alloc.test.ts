import { describe, expect, it } from 'vitest';
import { type DmaAddr, PAGE_SIZE, pfn, physAddr } from '../../src/base/addr.ts';
import type { Device } from '../../src/dma-api/device.ts';
import type { DmaDirection } from '../../src/dma-api/direction.ts';
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
import type { DmaAllocation } from '../../src/dma-api/dma-allocation.ts';
import {
  dmaMapSgtable,
  dmaSyncSgtableForCpu,
  dmaSyncSgtableForDevice,
  dmaUnmapSgtable,
} from '../../src/dma-api/dma-map.ts';
import { dmaGetSgtable, dmaMmap, dmaVmapNoncontiguous } from '../../src/dma-api/dma-mmap.ts';
import type { DmaBacking, DmaOps } from '../../src/dma-api/dma-ops.ts';
import {
  dmaMapPage,
  dmaMappingError,
  dmaSyncSingleForCpu,
  dmaSyncSingleForDevice,
  dmaUnmapPage,
} from '../../src/dma-api/dma-single.ts';
import { type Bench, bench, errno, invariant, pattern } from '../bench.ts';

function present(allocation: DmaAllocation | null): DmaAllocation {
  return allocation ?? expect.fail('no memory');
}

/** What the device at `address` reads. */
function deviceReads(device: Device, address: DmaAddr, length: number): Uint8Array {
  const out = new Uint8Array(length);
  device.port.read(address, out, 0, length);
  return out;
}

const places: readonly [string, Parameters<Bench['device']>[1]][] = [
  ['without an IOMMU', {}],
  ['behind an IOMMU', { iommu: true }],
];

describe.each(places)('coherent memory %s', (_where, spec) => {
  it.each([true, false])('is seen alike by device and CPU, without syncs (coherent: %s)', (coherent) => {
    const b = bench({ hazards: 'throw' });
    const device = b.device('cam', { ...spec, coherent });
    const buffer = present(dmaAllocCoherent(device, 8192));
    expect(buffer.read(0, 8192).every((byte) => byte === 0)).toBe(true);
    buffer.write(4000, pattern(200));
    if (buffer.attribute === 'write-combined')
      b.machine.coherency.barrier(buffer.cpu?.accessor ?? expect.fail('no view'));
    expect(deviceReads(device, (buffer.address + 4000) as DmaAddr, 200)).toEqual(pattern(200));
    device.port.write((buffer.address + 100) as DmaAddr, pattern(64, 2), 0, 64);
    expect(buffer.read(100, 64)).toEqual(pattern(64, 2));
    dmaFreeCoherent(device, buffer);
    expect([buffer.freed, buffer.cpu]).toEqual([true, null]);
  });

  it('is write-combined when asked, and cached for a device that snoops', () => {
    const b = bench();
    for (const coherent of [true, false]) {
      const device = b.device(`cam${coherent}`, { ...spec, coherent });
      const buffer = present(dmaAllocAttrs(device, 4096, { writeCombine: true }));
      expect(buffer.attribute).toBe(coherent ? 'cached' : 'write-combined');
      dmaFreeAttrs(device, buffer, { writeCombine: true });
    }
  });

  it('without a kernel mapping is not for the kernel to touch, and a process may map it', () => {
    const b = bench({ hazards: 'record' });
    const device = b.device('cam', spec);
    const attrs = { noKernelMapping: true };
    const buffer = present(dmaAllocAttrs(device, 4096, attrs));
    expect(buffer.cpu).toBe(null);
    expect(buffer.read(0, 4)).toEqual(new Uint8Array(4));
    buffer.write(0, pattern(4));
    expect(b.sim.hazards).toMatchObject([
      { hazard: 'dma-alloc.no-kernel-mapping', call: 'read' },
      { hazard: 'dma-alloc.no-kernel-mapping', call: 'write' },
    ]);
    expect(dmaMmap(device, buffer).extents).toHaveLength(1);
    dmaFreeAttrs(device, buffer, attrs);
  });

  it('can not be freed twice, or as another device’s: that is a clear error, and nothing happens', () => {
    const b = bench({ dmaDebug: false });
    const [cam, gpu] = [b.device('cam', spec), b.device('gpu', spec)];
    const buffer = present(dmaAllocCoherent(cam, 4096));
    expect(() => dmaFreeCoherent(gpu, buffer)).toThrow(invariant('the allocation is of cam, not of gpu'));
    expect(() => dmaFreePages(cam, buffer)).toThrow(invariant('dmaFreePages: it was made by dmaAllocCoherent'));
    expect(buffer.freed).toBe(false);
    dmaFreeCoherent(cam, buffer);
    expect(() => dmaFreeCoherent(cam, buffer)).toThrow(invariant('freed before'));
    expect(() => buffer.read(0, 4)).toThrow(invariant('was freed'));
  });

  it('freed twice or with another size is a hazard where calls are checked, and it is freed once', () => {
    const b = bench({ hazards: 'record' });
    const device = b.device('cam', spec);
    const buffer = present(dmaAllocCoherent(device, 8192));
    dmaFreeCoherent(device, buffer, { sizeBytes: 4096 });
    dmaFreeCoherent(device, buffer);
    const codes = b.sim.hazards.map(({ hazard }) => hazard);
    expect(codes).toEqual(['dma-debug.size-mismatch', 'dma-debug.free-not-mapped']);
  });

  it('with another size is not freed when the checker throws', () => {
    const b = bench({ hazards: 'throw' });
    const device = b.device('cam', spec);
    const buffer = present(dmaAllocCoherent(device, 8192));
    const wrong = expect.objectContaining({ hazard: 'dma-debug.size-mismatch' });
    expect(() => dmaFreeCoherent(device, buffer, { sizeBytes: 4096 })).toThrow(wrong);
    expect(buffer.freed).toBe(false);
    dmaFreeCoherent(device, buffer);
  });

  it('is null when there is none, and nothing is left', () => {
    const b = bench();
    const device = b.device('cam', { ...spec, coherentDmaMaskBits: 20 });
    if (spec?.iommu !== true) expect(dmaAllocCoherent(device, 4096)).toBe(null);
    expect(dmaAllocCoherent(device, 2 ** 40)).toBe(null);
  });
});

describe.each(places)('pages %s', (_where, spec) => {
  it('are cached, and change hands by syncs', () => {
    const b = bench({ hazards: 'throw' });
    const device = b.device('cam', spec);
    const buffer = present(dmaAllocPages(device, 5000, 'bidirectional'));
    expect([buffer.attribute, buffer.extents.map(({ length }) => length)]).toEqual(['cached', [8192]]);
    buffer.write(0, pattern(5000));
    dmaSyncSingleForDevice(device, buffer.address, 5000, 'bidirectional');
    expect(deviceReads(device, buffer.address, 5000)).toEqual(pattern(5000));
    device.port.write(buffer.address, pattern(64, 3), 0, 64);
    dmaSyncSingleForCpu(device, buffer.address, 5000, 'bidirectional');
    expect(buffer.read(0, 64)).toEqual(pattern(64, 3));
    dmaFreePages(device, buffer);
  });

  it('show the device old bytes when the sync is forgotten', () => {
    const b = bench({ hazards: 'record' });
    const device = b.device('cam', spec);
    const buffer = present(dmaAllocPages(device, 4096, 'to-device'));
    buffer.write(0, pattern(64));
    deviceReads(device, buffer.address, 64);
    expect(b.sim.hazards).toMatchObject([{ hazard: 'device-read.stale', writer: { via: 'dmaAllocPages' } }]);
    dmaFreePages(device, buffer);
  });

  it('freed with another direction or another function are a hazard', () => {
    const b = bench({ hazards: 'record' });
    const device = b.device('cam', spec);
    dmaFreePages(device, present(dmaAllocPages(device, 4096, 'to-device')), 'from-device');
    dmaFreeCoherent(device, present(dmaAllocPages(device, 4096, 'bidirectional')));
    const codes = b.sim.hazards.map(({ hazard }) => hazard);
    expect(codes).toEqual(['dma-debug.unmap-direction-mismatch', 'dma-debug.wrong-function']);
  });

  it('are null when there are none, and nothing is left', () => {
    const b = bench();
    expect(dmaAllocPages(b.device('cam', spec), 2 ** 30, 'to-device')).toBe(null);
    expect(dmaAllocNoncontiguous(b.device('gpu', spec), 2 ** 30, 'to-device')).toBe(null);
  });
});

describe.each(places)('a noncontiguous allocation %s', (_where, spec) => {
  it('is one run for the device and one view for the CPU, and changes hands by syncs of its table', () => {
    const b = bench({ hazards: 'throw' });
    const device = b.device('cam', { ...spec, maxSegmentSizeBytes: 2 ** 31 });
    const held = b.machine.pages.allocBulk({ pageCount: 64, owner: 'holes', orders: [0] });
    const bytes = 20 * PAGE_SIZE;
    const buffer = present(dmaAllocNoncontiguous(device, bytes, 'bidirectional'));
    const table = buffer.sgt ?? expect.fail('no table');
    expect(table.sizeBytes).toBe(bytes);
    const view = dmaVmapNoncontiguous(device, buffer);
    view.write(0, pattern(bytes));
    dmaSyncSgtableForDevice(device, table, 'bidirectional');
    expect(deviceReads(device, buffer.address, bytes)).toEqual(pattern(bytes));
    device.port.write((buffer.address + bytes - 64) as DmaAddr, pattern(64, 5), 0, 64);
    dmaSyncSgtableForCpu(device, table, 'bidirectional');
    expect(buffer.read(bytes - 64, 64)).toEqual(pattern(64, 5));
    dmaFreeNoncontiguous(device, buffer);
    b.machine.pages.freeBulk(held);
  });

  it('is freed once, by its own function', () => {
    const b = bench({ dmaDebug: false });
    const device = b.device('cam', spec);
    const buffer = present(dmaAllocNoncontiguous(device, 8192, 'to-device'));
    expect(() => dmaFreeCoherent(device, buffer)).not.toThrow(invariant('freed before'));
    expect(() => dmaFreeNoncontiguous(device, buffer)).toThrow(invariant('freed before'));
    const other = present(dmaAllocCoherent(device, 4096));
    expect(() => dmaFreeNoncontiguous(device, other)).toThrow(invariant('made by dmaAllocCoherent'));
    expect(() => dmaVmapNoncontiguous(device, other)).toThrow(invariant('made by dmaAllocCoherent'));
    dmaFreeCoherent(device, other);
  });
});

describe('behind an IOMMU', () => {
  it.each([false, true])(
    'a noncontiguous allocation is one segment within the coherent mask, however short the device takes them (untrusted: %s)',
    (untrusted) => {
      const b = bench({ hazards: 'throw', dmaDebug: false });
      const limits = { maxSegmentSizeBytes: PAGE_SIZE, coherentDmaMaskBits: 28 };
      const device = b.device('cam', { iommu: true, untrusted, ...limits });
      const holes = b.machine.pages.allocBulk({ pageCount: 64, owner: 'holes', orders: [0] });
      for (let i = 0; i < 64; i += 2) b.machine.pages.freePages(pfn(holes.firsts[i] as number), 1);
      const bytes = 21 * PAGE_SIZE;
      const buffer = present(dmaAllocNoncontiguous(device, bytes, 'to-device'));
      const table = buffer.sgt ?? expect.fail('no table');
      expect(table.origNents).toBeGreaterThan(1);
      expect(table.segments()).toEqual([{ address: buffer.address, length: bytes }]);
      expect(buffer.address + bytes).toBeLessThanOrEqual(2 ** 28);
      buffer.write(0, pattern(bytes));
      dmaSyncSgtableForDevice(device, table, 'to-device');
      expect(deviceReads(device, buffer.address, bytes)).toEqual(pattern(bytes));
      dmaFreeNoncontiguous(device, buffer);
      for (let i = 1; i < 64; i += 2) b.machine.pages.freePages(pfn(holes.firsts[i] as number), 1);
    },
  );

  it('several pages come from the CMA area first, a single one never', () => {
    const b = bench();
    const device = b.device('cam', { iommu: true });
    const kinds = [2 * PAGE_SIZE, PAGE_SIZE].map((bytes) => {
      const buffer = present(dmaAllocPages(device, bytes, 'to-device'));
      const live = b.machine.memory.ledger.liveAllocations().find(({ owner }) => owner.startsWith('cam'));
      dmaFreePages(device, buffer);
      return live?.kind;
    });
    expect(kinds).toEqual(['cma', 'pages']);
  });
});

describe('an allocation', () => {
  it('can be mapped for another device by its table', () => {
    const b = bench({ hazards: 'throw' });
    const [cam, gpu] = [b.device('cam', { coherent: true }), b.device('gpu', { iommu: true, coherent: true })];
    const buffer = present(dmaAllocCoherent(cam, 8192));
    buffer.write(0, pattern(8192));
    const sgt = dmaGetSgtable(cam, buffer);
    dmaMapSgtable(gpu, sgt, 'to-device');
    expect(deviceReads(gpu, sgt.dmaAddress(0), 8192)).toEqual(pattern(8192));
    dmaUnmapSgtable(gpu, sgt, 'to-device');
    dmaFreeCoherent(cam, buffer);
    expect(() => dmaGetSgtable(cam, buffer)).toThrow(invariant('was freed'));
    expect(() => dmaMmap(cam, buffer)).toThrow(invariant('was freed'));
  });

  it('of memory without pages has no table, and the text says what to do instead', () => {
    const b = bench();
    b.machine.memory.addRegion({ kind: 'carve-out', name: 'sram', base: physAddr(0x2000_0000), bytes: PAGE_SIZE });
    const backing: DmaBacking = {
      address: 0x100 as DmaAddr,
      extents: [{ phys: physAddr(0x2000_0000), length: PAGE_SIZE }],
      attribute: 'uncached',
    };
    const ops = { alloc: () => backing, free: () => undefined, canMmap: () => false } as unknown as DmaOps;
    const device = b.device('dsp', { dmaOps: () => ops });
    const buffer = present(dmaAllocCoherent(device, 4096));
    expect(() => dmaGetSgtable(device, buffer)).toThrow(errno('ENXIO'));
    expect(() => dmaMmap(device, buffer)).toThrow(errno('ENXIO'));
    dmaFreeCoherent(device, buffer);
  });

  it('is mapped by a process page by page, of the type the kernel maps it with', () => {
    const b = bench();
    const device = b.device('cam', { iommu: true });
    const buffer = present(dmaAllocCoherent(device, 5 * PAGE_SIZE));
    const all = dmaMmap(device, buffer);
    expect([all.attribute, all.extents]).toEqual([buffer.attribute, buffer.extents]);
    const part = dmaMmap(device, buffer, { pageOffset: 1, sizeBytes: PAGE_SIZE + 1 });
    expect(part.extents.reduce((sum, { length }) => sum + length, 0)).toBe(2 * PAGE_SIZE);
    const first = buffer.extents[0] ?? expect.fail('no extent');
    expect(part.extents[0]?.phys).toBe(first.length > PAGE_SIZE ? first.phys + PAGE_SIZE : buffer.extents[1]?.phys);
    expect(() => dmaMmap(device, buffer, { pageOffset: 4, sizeBytes: 2 * PAGE_SIZE })).toThrow(errno('ENXIO'));
    expect(() => dmaMmap(device, buffer, { pageOffset: 5 })).toThrow(errno('ENXIO'));
    expect(() => dmaMmap(device, buffer, { pageOffset: 0.5 })).toThrow(invariant('pageOffset'));
    expect(() => dmaMmap(device, buffer, { sizeBytes: 0 })).toThrow(invariant('sizeBytes'));
    dmaFreeCoherent(device, buffer);
  });

  it.each([0, -1, 1.5, Number.NaN])('of %s bytes is refused, and the argument is named', (size) => {
    const b = bench();
    const device = b.device('cam');
    expect(() => dmaAllocCoherent(device, size)).toThrow(invariant('dmaAllocCoherent: sizeBytes'));
    expect(() => dmaAllocAttrs(device, size, {})).toThrow(invariant('dmaAllocAttrs: sizeBytes'));
    expect(() => dmaAllocPages(device, size, 'to-device')).toThrow(invariant('dmaAllocPages: sizeBytes'));
    expect(() => dmaAllocNoncontiguous(device, size, 'to-device')).toThrow(invariant('sizeBytes'));
  });

  it('with a direction that is none is refused, and the argument is named', () => {
    const b = bench();
    const device = b.device('cam');
    const dir = 'sideways' as DmaDirection;
    expect(() => dmaAllocPages(device, 4096, dir)).toThrow(invariant('dmaAllocPages: dir'));
    expect(() => dmaAllocNoncontiguous(device, 4096, dir)).toThrow(invariant('dmaAllocNoncontiguous: dir'));
  });

  it('whose memory somebody still has mapped for writing is refused by the checker, and nothing is left', () => {
    const b = bench({ hazards: 'throw' });
    const device = b.device('cam', { coherent: true });
    const first = present(dmaAllocCoherent(device, 4096));
    const { phys } = first.extents[0] ?? expect.fail('no extent');
    dmaFreeCoherent(device, first);
    const address = dmaMapPage(device, phys, 64, 'from-device');
    dmaMappingError(device, address);
    const refused = expect.objectContaining({ hazard: 'dma-debug.cacheline-overlap' });
    expect(() => dmaAllocCoherent(device, 4096)).toThrow(refused);
    dmaUnmapPage(device, address, 64, 'from-device');
    const again = present(dmaAllocCoherent(device, 4096));
    expect(again.extents[0]?.phys).toBe(phys);
    dmaFreeCoherent(device, again);
  });
});
