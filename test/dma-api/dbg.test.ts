/** What the checker of the DMA API complains about: each misuse has its own report, and its near miss has none. */
import { describe, expect, it } from 'vitest';
import { type DmaAddr, PAGE_SIZE, type PhysAddr } from '../../src/base/addr.ts';
import type { DmaDebugFacts } from '../../src/base/dma-hazards.ts';
import type { Device } from '../../src/dma-api/device.ts';
import type { DmaDirection } from '../../src/dma-api/direction.ts';
import { dmaAllocCoherent, dmaAllocPages, dmaFreeCoherent, dmaFreePages } from '../../src/dma-api/dma-alloc.ts';
import type { DmaAllocation } from '../../src/dma-api/dma-allocation.ts';
import {
  dmaMapSg,
  dmaMapSgtable,
  dmaSyncSgForCpu,
  dmaSyncSgtableForCpu,
  dmaUnmapSg,
  dmaUnmapSgtable,
} from '../../src/dma-api/dma-map.ts';
import {
  dmaMapPage,
  dmaMappingError,
  dmaMapResource,
  dmaMapSingle,
  dmaSyncSingleForCpu,
  dmaSyncSingleForDevice,
  dmaUnmapPage,
  dmaUnmapResource,
  dmaUnmapSingle,
} from '../../src/dma-api/dma-single.ts';
import { DMA_MAPPING_ERROR } from '../../src/dma-api/mapping-error.ts';
import { hidePages, showPages } from '../../src/dma-api/page-peek.ts';
import { SgTable } from '../../src/dma-api/sg-table.ts';
import { type Bench, bench } from '../bench.ts';

const DEVICE_MEMORY = 0x2000_0000 as PhysAddr;

/** A machine that goes on after a hazard, with one device. */
function setUp(spec: Parameters<Bench['device']>[1] = {}): { b: Bench; cam: Device; page: PhysAddr } {
  const b = bench({ hazards: 'record', atRest: false });
  const cam = b.device('cam', { coherent: true, ...spec });
  return { b, cam, page: b.scatteredPages(1)[0] as PhysAddr };
}

/** The codes of all hazards so far, without what they begin with. */
function complaints({ sim }: Bench): string[] {
  return sim.hazards.map(({ hazard }) => hazard.slice(hazard.indexOf('.') + 1));
}

/** The facts of the only hazard. */
function onlyFacts(b: Bench): DmaDebugFacts {
  const [facts] = b.sim.hazards;
  if (b.sim.hazards.length !== 1 || facts === undefined || !('mapping' in facts)) {
    throw new Error(`not one complaint: ${complaints(b)}`);
  }
  return facts;
}

function mapped(dev: Device, phys: PhysAddr, sizeBytes: number, dir: DmaDirection): DmaAddr {
  const address = dmaMapSingle(dev, phys, sizeBytes, dir);
  expect(dmaMappingError(dev, address)).toBe(false);
  return address;
}

function coherent(dev: Device, sizeBytes: number): DmaAllocation {
  const allocation = dmaAllocCoherent(dev, sizeBytes);
  if (allocation === null) throw new Error('no memory');
  return allocation;
}

function threeEntries(b: Bench): SgTable {
  return new SgTable(b.scatteredPages(3).map((phys) => ({ phys, length: PAGE_SIZE })));
}

describe('ending a mapping', () => {
  it('DBG-01: with the address that stands for an error is reported, and nothing is unmapped', () => {
    const { b, cam, page } = setUp();
    const address = mapped(cam, page, 100, 'to-device');
    dmaUnmapSingle(cam, DMA_MAPPING_ERROR, 100, 'to-device');
    expect(complaints(b)).toEqual(['free-invalid-address']);
    expect(onlyFacts(b).call).toMatchObject({ call: 'dmaUnmapSingle', device: 'cam', sizeBytes: 100 });
    dmaUnmapSingle(cam, address, 100, 'to-device');
    expect(complaints(b)).toHaveLength(1);
  });

  it('DBG-01: is silent when the error was asked for and nothing is unmapped', () => {
    const { b, cam } = setUp({ dmaMaskBits: 28 });
    const address = dmaMapSingle(cam, b.machine.cma.base, 100, 'to-device');
    expect(dmaMappingError(cam, address)).toBe(true);
    expect(complaints(b)).toEqual([]);
  });

  it('DBG-02: that was never made, or was ended before, is reported', () => {
    const { b, cam, page } = setUp();
    dmaUnmapSingle(cam, 0x123000 as DmaAddr, 64, 'to-device');
    const address = mapped(cam, page, 64, 'to-device');
    dmaUnmapSingle(cam, address, 64, 'to-device');
    dmaUnmapSingle(cam, address, 64, 'to-device');
    expect(complaints(b)).toEqual(['free-not-mapped', 'free-not-mapped']);
  });

  it('DBG-02: of a table twice, or through another device, is reported for each segment', () => {
    const { b, cam } = setUp();
    const gpu = b.device('gpu', { coherent: true });
    const sgt = threeEntries(b);
    dmaMapSgtable(cam, sgt, 'to-device');
    dmaUnmapSgtable(gpu, sgt, 'to-device');
    expect(complaints(b)).toEqual(Array(3).fill('free-not-mapped'));
    expect(sgt.nents).toBe(3);
    dmaUnmapSgtable(cam, sgt, 'to-device');
    expect(complaints(b)).toHaveLength(3);
    dmaUnmapSgtable(cam, sgt, 'to-device');
    expect(complaints(b)).toEqual(Array(6).fill('free-not-mapped'));
  });

  it('DBG-02: in its middle is ending what was never made, and names the mapping around', () => {
    const { b, cam, page } = setUp();
    const address = mapped(cam, page, 128, 'to-device');
    dmaUnmapSingle(cam, (address + 64) as DmaAddr, 64, 'to-device');
    expect(onlyFacts(b)).toMatchObject({ hazard: 'dma-debug.free-not-mapped', mapping: { address, sizeBytes: 128 } });
  });

  it('DBG-02: is silent when each of two mappings of one buffer is ended once', () => {
    const { b, cam, page } = setUp();
    const first = mapped(cam, page, 64, 'to-device');
    const second = mapped(cam, page, 64, 'bidirectional');
    expect(second).toBe(first);
    dmaUnmapSingle(cam, first, 64, 'to-device');
    dmaUnmapSingle(cam, second, 64, 'bidirectional');
    expect(complaints(b)).toEqual([]);
  });

  it('DBG-03: with another size is reported with both sizes', () => {
    const { b, cam, page } = setUp();
    const address = mapped(cam, page, 100, 'to-device');
    dmaUnmapSingle(cam, address, 64, 'to-device');
    expect(onlyFacts(b)).toMatchObject({
      hazard: 'dma-debug.size-mismatch',
      call: { call: 'dmaUnmapSingle', sizeBytes: 64 },
      mapping: { call: 'dmaMapSingle', sizeBytes: 100 },
    });
  });

  it('DBG-03: and with another direction too is two reports', () => {
    const { b, cam, page } = setUp();
    dmaUnmapSingle(cam, mapped(cam, page, 100, 'to-device'), 64, 'bidirectional');
    expect(complaints(b)).toEqual(['size-mismatch', 'unmap-direction-mismatch']);
  });

  it('DBG-03: is silent with the size of the mapping, whatever the page around it', () => {
    const { b, cam, page } = setUp();
    dmaUnmapPage(cam, mapped(cam, (page + 36) as PhysAddr, 100, 'to-device'), 100, 'to-device');
    expect(complaints(b)).toEqual([]);
  });

  it('DBG-04: with the function of another kind is reported, for every kind', () => {
    const { b, cam, page } = setUp();
    dmaUnmapResource(cam, mapped(cam, page, 4096, 'bidirectional'), 4096, 'bidirectional');
    dmaUnmapSingle(cam, coherent(cam, 8192).address, 8192, 'bidirectional');
    const resource = dmaMapResource(cam, DEVICE_MEMORY, 4096, 'bidirectional');
    dmaMappingError(cam, resource);
    dmaUnmapPage(cam, resource, 4096, 'bidirectional');
    const sgt = threeEntries(b);
    dmaMapSg(cam, sgt, 'to-device');
    dmaUnmapPage(cam, sgt.dmaAddress(0), 4096, 'to-device');
    expect(complaints(b)).toEqual(Array(4).fill('wrong-function'));
  });

  it('DBG-04: is silent between single and page, which are one kind', () => {
    const { b, cam, page } = setUp();
    dmaUnmapPage(cam, mapped(cam, page, 4096, 'to-device'), 4096, 'to-device');
    const resource = dmaMapResource(cam, DEVICE_MEMORY, 4096, 'bidirectional');
    dmaMappingError(cam, resource);
    dmaUnmapResource(cam, resource, 4096, 'bidirectional');
    expect(complaints(b)).toEqual([]);
  });

  it('of coherent memory with another CPU address is reported', () => {
    const { b, cam, page } = setUp();
    dmaFreeCoherent(cam, coherent(cam, 4096), { phys: page });
    dmaFreeCoherent(cam, coherent(cam, 4096));
    expect(complaints(b)).toEqual(['cpu-address-mismatch']);
  });

  it('DBG-06: of a list with another count is reported for each entry looked at, and leaves the others mapped', () => {
    const { b, cam } = setUp();
    const sgt = threeEntries(b);
    dmaMapSg(cam, sgt, 'to-device');
    dmaUnmapSg(cam, sgt, 'to-device', {}, 2);
    expect(complaints(b)).toEqual(['sg-count-mismatch', 'sg-count-mismatch']);
    expect(b.machine.dmaDebug?.mappingsOf(cam)).toHaveLength(1);
  });

  it('DBG-06: is silent with the count of entries, although there are fewer segments', () => {
    const { b, cam } = setUp({ iommu: true });
    const sgt = threeEntries(b);
    expect(dmaMapSg(cam, sgt, 'to-device')).toBe(1);
    dmaUnmapSg(cam, sgt, 'to-device', {}, 3);
    expect(complaints(b)).toEqual([]);
  });

  it('DBG-07: with another direction is reported with both', () => {
    const { b, cam, page } = setUp();
    dmaUnmapSingle(cam, mapped(cam, page, 100, 'to-device'), 100, 'from-device');
    expect(complaints(b)).toEqual(['unmap-direction-mismatch']);
    expect(onlyFacts(b).what).toBe('mapped to-device, unmapped from-device');
  });

  it('DBG-07: of a list is reported for each segment', () => {
    const { b, cam } = setUp();
    const sgt = threeEntries(b);
    dmaMapSgtable(cam, sgt, 'to-device');
    dmaUnmapSgtable(cam, sgt, 'from-device');
    expect(complaints(b)).toEqual(Array(3).fill('unmap-direction-mismatch'));
  });

  it('DBG-07: is silent for a bidirectional mapping that is ended so', () => {
    const { b, cam, page } = setUp();
    dmaUnmapSingle(cam, mapped(cam, page, 100, 'bidirectional'), 100, 'bidirectional');
    expect(complaints(b)).toEqual([]);
  });

  it('DBG-08: without having asked for an error is reported when it ends, not before', () => {
    const { b, cam, page } = setUp();
    const address = dmaMapPage(cam, page, 100, 'to-device');
    expect(complaints(b)).toEqual([]);
    dmaUnmapPage(cam, address, 100, 'to-device');
    expect(complaints(b)).toEqual(['map-error-unchecked']);
  });

  it('DBG-08: is silent for lists and allocations, where there is no address to ask about', () => {
    const { b, cam } = setUp();
    const sgt = threeEntries(b);
    dmaMapSgtable(cam, sgt, 'to-device');
    dmaUnmapSgtable(cam, sgt, 'to-device');
    const pages = dmaAllocPages(cam, 4096, 'to-device');
    if (pages === null) throw new Error('no memory');
    dmaFreePages(cam, pages);
    expect(complaints(b)).toEqual([]);
  });

  it('DBG-08: is silent when each of two mappings of one buffer was asked about', () => {
    const { b, cam, page } = setUp();
    const [first, second] = [mapped(cam, page, 64, 'to-device'), mapped(cam, page, 64, 'to-device')];
    dmaUnmapSingle(cam, first, 64, 'to-device');
    dmaUnmapSingle(cam, second, 64, 'to-device');
    expect(complaints(b)).toEqual([]);
  });
});

describe('syncing a mapping', () => {
  it('DBG-11: that was never made, or has ended, is reported', () => {
    const { b, cam, page } = setUp();
    dmaSyncSingleForCpu(cam, 0x123000 as DmaAddr, 64, 'from-device');
    const address = mapped(cam, page, 64, 'from-device');
    dmaUnmapSingle(cam, address, 64, 'from-device');
    dmaSyncSingleForCpu(cam, address, 64, 'from-device');
    expect(complaints(b)).toEqual(['sync-not-mapped', 'sync-not-mapped']);
  });

  it('DBG-11: is silent for any part of a mapping, and for one segment of a list', () => {
    const { b, cam, page } = setUp();
    const address = mapped(cam, page, 256, 'bidirectional');
    dmaSyncSingleForCpu(cam, (address + 200) as DmaAddr, 56, 'bidirectional');
    dmaUnmapSingle(cam, address, 256, 'bidirectional');
    const sgt = threeEntries(b);
    dmaMapSgtable(cam, sgt, 'from-device');
    dmaSyncSingleForCpu(cam, (sgt.dmaAddress(1) + 64) as DmaAddr, 64, 'from-device');
    dmaUnmapSgtable(cam, sgt, 'from-device');
    expect(complaints(b)).toEqual([]);
  });

  it('DBG-11: finds the start of a mapping of many megabytes', () => {
    const { b, cam } = setUp({ maxSegmentSizeBytes: 2 ** 31 });
    const address = mapped(cam, b.machine.cma.base, 2 ** 23, 'bidirectional');
    dmaSyncSingleForDevice(cam, (address + 2 ** 23 - 64) as DmaAddr, 64, 'bidirectional');
    expect(complaints(b)).toEqual([]);
  });

  it('DBG-12: beyond its end is reported with what is too much', () => {
    const { b, cam, page } = setUp();
    const address = mapped(cam, page, 256, 'bidirectional');
    dmaSyncSingleForCpu(cam, address, 300, 'bidirectional');
    expect(onlyFacts(b)).toMatchObject({
      hazard: 'dma-debug.sync-out-of-range',
      what: 'cam syncs 44 bytes beyond the end of a mapping of 256',
      mapping: { address, sizeBytes: 256 },
    });
  });

  it('DBG-12: is silent up to its last byte', () => {
    const { b, cam, page } = setUp();
    const address = mapped(cam, page, 256, 'bidirectional');
    dmaSyncSingleForCpu(cam, address, 256, 'bidirectional');
    dmaSyncSingleForCpu(cam, (address + 255) as DmaAddr, 1, 'bidirectional');
    expect(complaints(b)).toEqual([]);
  });

  const syncs: readonly [mappedAs: DmaDirection, forWhom: 'cpu' | 'device', dir: DmaDirection, found: string[]][] = [
    ['to-device', 'cpu', 'bidirectional', ['sync-direction-mismatch', 'sync-read-only-for-cpu']],
    ['to-device', 'cpu', 'from-device', ['sync-direction-mismatch', 'sync-read-only-for-cpu']],
    ['to-device', 'device', 'bidirectional', ['sync-direction-mismatch']],
    ['to-device', 'device', 'from-device', ['sync-direction-mismatch']],
    ['from-device', 'device', 'bidirectional', ['sync-direction-mismatch', 'sync-write-only-for-device']],
    ['from-device', 'device', 'to-device', ['sync-direction-mismatch', 'sync-write-only-for-device']],
    ['from-device', 'cpu', 'bidirectional', ['sync-direction-mismatch']],
    ['from-device', 'cpu', 'to-device', ['sync-direction-mismatch']],
    ['to-device', 'cpu', 'to-device', []],
    ['to-device', 'device', 'to-device', []],
    ['from-device', 'cpu', 'from-device', []],
    ['from-device', 'device', 'from-device', []],
    ['bidirectional', 'cpu', 'to-device', []],
    ['bidirectional', 'device', 'from-device', []],
  ];

  it.each(syncs)('DBG-13: made %s, for the %s as %s: %j', (mappedAs, forWhom, dir, found) => {
    const { b, cam, page } = setUp();
    const address = mapped(cam, page, 128, mappedAs);
    if (forWhom === 'cpu') dmaSyncSingleForCpu(cam, address, 128, dir);
    else dmaSyncSingleForDevice(cam, address, 128, dir);
    expect(complaints(b)).toEqual(found);
  });

  it('of a list with another count is reported for each entry looked at', () => {
    const { b, cam } = setUp();
    const sgt = threeEntries(b);
    dmaMapSg(cam, sgt, 'from-device');
    dmaSyncSgForCpu(cam, sgt, 'from-device', 2);
    dmaSyncSgForCpu(cam, sgt, 'from-device');
    expect(complaints(b)).toEqual(['sg-count-mismatch', 'sg-count-mismatch']);
  });
});

describe('making a mapping', () => {
  it('of a cache line that a device may write already is reported with both mappings', () => {
    const { b, cam, page } = setUp();
    const gpu = b.device('gpu', { coherent: true });
    mapped(cam, page, 32, 'from-device');
    mapped(gpu, (page + 32) as PhysAddr, 32, 'from-device');
    expect(onlyFacts(b)).toMatchObject({
      hazard: 'dma-debug.cacheline-overlap',
      call: { device: 'gpu' },
      mapping: { device: 'cam', sizeBytes: 32 },
    });
  });

  it('of a line is silent when only one may be written, beside it, after it has ended, or without syncs', () => {
    const { b, cam, page } = setUp();
    const address = mapped(cam, page, 64, 'from-device');
    mapped(cam, page, 64, 'to-device');
    mapped(cam, (page + 64) as PhysAddr, 64, 'from-device');
    dmaMapSingle(cam, page, 64, 'from-device', { skipCpuSync: true });
    dmaUnmapSingle(cam, address, 64, 'from-device');
    dmaUnmapSingle(cam, address, 64, 'from-device', { skipCpuSync: true });
    expect(complaints(b)).toEqual(['map-error-unchecked']);
    mapped(cam, page, 64, 'bidirectional');
    expect(complaints(b)).toHaveLength(1);
  });

  it('of one buffer by clones of its table is silent: devices share it on purpose', () => {
    const { b, cam } = setUp();
    const gpu = b.device('gpu', { coherent: true });
    const buffer = threeEntries(b);
    const tables = Array.from({ length: 12 }, () => buffer.clone());
    for (const [i, sgt] of tables.entries()) dmaMapSgtable(i % 2 === 0 ? cam : gpu, sgt, 'bidirectional');
    expect(complaints(b)).toEqual([]);
    dmaMapSgtable(cam, new SgTable(buffer.extents()), 'bidirectional');
    expect(new Set(complaints(b))).toEqual(new Set(['cacheline-overlap', 'cacheline-overlap-limit']));
  });

  it('of one line over and over is reported each time, and once that the count is lost', () => {
    const { b, cam, page } = setUp();
    const addresses = Array.from({ length: 12 }, () => mapped(cam, page, 64, 'bidirectional'));
    const found = complaints(b);
    expect(found.filter((code) => code === 'cacheline-overlap')).toHaveLength(11);
    expect(found.filter((code) => code === 'cacheline-overlap-limit')).toHaveLength(1);
    for (const address of addresses) dmaUnmapSingle(cam, address, 64, 'bidirectional');
    mapped(cam, page, 64, 'bidirectional');
    expect(complaints(b)).toHaveLength(12);
  });

  it('DBG-16: with an entry longer than the device takes is reported for each such entry', () => {
    const { b, cam } = setUp({ maxSegmentSizeBytes: 4096 });
    const [one, two, three] = b.scatteredPages(6) as [PhysAddr, PhysAddr, PhysAddr];
    const entries = [one, two, three].map((phys, i) => ({ phys, length: i === 1 ? 4096 : 4097 }));
    dmaMapSg(cam, new SgTable(entries), 'to-device');
    expect(complaints(b)).toEqual(['sg-segment-too-long', 'sg-segment-too-long']);
  });

  it('DBG-16: is silent at the limit', () => {
    const { b, cam } = setUp({ maxSegmentSizeBytes: PAGE_SIZE });
    dmaMapSgtable(cam, threeEntries(b), 'to-device');
    expect(complaints(b)).toEqual([]);
  });

  it('DBG-17: with a segment across the boundary of the device is reported', () => {
    const { b, cam, page } = setUp({ segBoundaryBytes: 4096 });
    dmaMapSgtable(cam, new SgTable([{ phys: (page + 4000) as PhysAddr, length: 97 }]), 'to-device');
    expect(complaints(b)).toEqual(['sg-segment-crosses-boundary']);
  });

  it('DBG-17: is silent for a segment that ends at the boundary', () => {
    const { b, cam, page } = setUp({ segBoundaryBytes: 4096 });
    dmaMapSgtable(cam, new SgTable([{ phys: (page + 4000) as PhysAddr, length: 96 }]), 'to-device');
    expect(complaints(b)).toEqual([]);
  });

  it('of vmalloc memory or a stack is refused, and of kernel text unnoticed', () => {
    const { b, cam, page: phys } = setUp();
    expect(dmaMapSingle(cam, { kind: 'vmalloc', phys }, 64, 'to-device')).toBe(DMA_MAPPING_ERROR);
    expect(dmaMapSingle(cam, { kind: 'stack', phys }, 64, 'to-device')).toBe(DMA_MAPPING_ERROR);
    expect(complaints(b)).toEqual(['rejects-vmalloc', 'rejects-vmalloc']);
    expect(dmaMapSingle(cam, { kind: 'text', phys }, 64, 'to-device')).toBe(Number(phys));
    expect(complaints(b)).toHaveLength(2);
  });

  it('of a stack or kernel text in the linear map is reported, and made', () => {
    const { b, cam, page: phys } = setUp();
    for (const kind of ['stack', 'text'] as const) {
      expect(dmaMapSingle(cam, { kind, phys, inLinearMap: true }, 64, 'to-device')).toBe(Number(phys));
    }
    expect(complaints(b)).toEqual(['maps-stack', 'maps-kernel-text']);
  });
});

describe('a driver that lets go of its device', () => {
  it('DBG-19: with mappings alive is reported once, with their count and the oldest', () => {
    const { b, cam, page } = setUp();
    const { dmaDebug } = b.machine;
    dmaDebug?.driverProbe(cam, 'camera');
    mapped(cam, page, 64, 'to-device');
    dmaMapSgtable(cam, threeEntries(b), 'to-device');
    coherent(cam, 4096);
    dmaDebug?.driverUnbind(cam);
    expect(onlyFacts(b)).toMatchObject({
      hazard: 'dma-debug.pending-at-unbind',
      leaked: 5,
      mapping: { call: 'dmaMapSingle', address: Number(page), sizeBytes: 64, timeNs: 0 },
    });
  });

  it('DBG-19: is silent when it has ended everything, and about the mappings of other devices', () => {
    const { b, cam, page } = setUp();
    const { dmaDebug } = b.machine;
    mapped(b.device('gpu', { coherent: true }), page, 64, 'to-device');
    dmaDebug?.driverProbe(cam);
    dmaUnmapSingle(cam, mapped(cam, page, 64, 'to-device'), 64, 'to-device');
    dmaFreeCoherent(cam, coherent(cam, 4096));
    dmaDebug?.driverUnbind(cam);
    expect(complaints(b)).toEqual([]);
  });
});

describe('an importer', () => {
  it('DBG-20: that looks at the pages behind a table it was given is reported', () => {
    const { b, cam } = setUp();
    const sgt = threeEntries(b);
    dmaMapSgtable(cam, sgt, 'to-device');
    hidePages(sgt, cam);
    sgt.physAddress(1);
    expect(b.sim.hazards).toMatchObject([{ hazard: 'dmabuf.page-peek', device: 'cam', call: 'physAddress' }]);
  });

  it('DBG-20: is silent when it uses the addresses of its device, syncs and unmaps, and when the exporter looks', () => {
    const { b, cam } = setUp({ coherent: false });
    const sgt = threeEntries(b);
    dmaMapSgtable(cam, sgt, 'bidirectional');
    hidePages(sgt, cam);
    expect([sgt.dmaAddress(2), sgt.dmaLength(2)].every((value) => value > 0)).toBe(true);
    dmaSyncSgtableForCpu(cam, sgt, 'bidirectional');
    showPages(sgt);
    sgt.physAddress(0);
    hidePages(sgt, cam);
    dmaUnmapSgtable(cam, sgt, 'bidirectional');
    sgt.physAddress(0);
    expect(complaints(b)).toEqual([]);
  });
});
