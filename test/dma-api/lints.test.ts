import { describe, expect, it } from 'vitest';
import { type DmaAddr, dmaAddr, PAGE_SIZE, type PhysAddr, pfnToPhys, physAddr } from '../../src/base/addr.ts';
import type { Device } from '../../src/dma-api/device.ts';
import { dmaMapSgtable, dmaSyncSgtableForDevice, dmaUnmapSgtable } from '../../src/dma-api/dma-map.ts';
import { dmaMapPage, dmaMapResource, dmaUnmapPage } from '../../src/dma-api/dma-single.ts';
import { SgTable } from '../../src/dma-api/sg-table.ts';
import { type DmaBuf, exportDmaBuf } from '../../src/dmabuf/dma-buf.ts';
import type { DmaBufOps } from '../../src/dmabuf/dma-buf-ops.ts';
import { type Bench, bench } from '../bench.ts';

const BAR = physAddr(0xe000_0000);

function scene(options: Parameters<typeof bench>[0] = {}) {
  const b = bench({ hazards: 'record', lints: true, dmaDebug: false, atRest: false, ...options });
  const page = pfnToPhys(b.machine.pages.allocPages({ order: 0, owner: 'driver' }));
  return { b, page, cam: b.device('cam0', { iommu: true }) };
}

function mapOnce(dev: Device, page: PhysAddr, attrs = {}): DmaAddr {
  const address = dmaMapPage(dev, page, PAGE_SIZE, 'to-device', attrs);
  dmaUnmapPage(dev, address, PAGE_SIZE, 'to-device', attrs);
  return address;
}

function codes({ sim }: Bench): string[] {
  return sim.hazards.map(({ hazard }) => hazard);
}

/** A buffer over `memory`, mapped for `dev`. */
function exportAndMap(
  b: Bench,
  dev: Device,
  name: string,
  memory: SgTable,
  ops: Partial<DmaBufOps<object>> = {},
): DmaBuf {
  const buf = exportDmaBuf(b.sim, {
    ...{ exporterName: 'vram', name, sizeBytes: memory.sizeBytes, priv: {} },
    ops: {
      mapDmaBuf(att, dir) {
        const sgt = memory.clone();
        dmaMapSgtable(att.dev, sgt, dir);
        return sgt;
      },
      unmapDmaBuf: (att, sgt, dir) => dmaUnmapSgtable(att.dev, sgt, dir),
      release() {},
      ...ops,
    },
  });
  b.sim.run(function* () {
    const att = yield* buf.attach(dev);
    yield* att.mapUnlocked('bidirectional');
  });
  return buf;
}

describe('dma.map-as-flush', () => {
  it('is no habit when three buffers have one page after the other', () => {
    const { b, cam } = scene();
    b.sim.run(function* () {
      for (const name of ['frame0', 'frame1', 'frame2']) {
        const buf = b.machine.systemHeap.alloc(PAGE_SIZE, name);
        const att = yield* buf.attach(cam);
        yield* att.unmapUnlocked(yield* att.mapUnlocked('bidirectional'), 'bidirectional');
        yield* buf.detach(att);
        buf.put();
        yield* b.sim.delay(1);
      }
    });
    expect(codes(b)).toEqual([]);
  });

  it('is a habit from the third mapping in a row on that the device never looked through', () => {
    const { b, page, cam } = scene();
    mapOnce(cam, page);
    mapOnce(cam, page);
    expect(codes(b)).toEqual([]);
    mapOnce(cam, page);
    expect(b.sim.hazards).toMatchObject([
      {
        hazard: 'dma.map-as-flush',
        who: 'cam0 driver',
        what: expect.stringContaining('3 times in a row (dmaMapPage)'),
      },
    ]);
    for (let i = 0; i < 5; i++) mapOnce(cam, page);
    expect(codes(b)).toHaveLength(1);
  });

  it('is told of tables, too', () => {
    const { b, cam } = scene();
    const sgt = b.scattered(3);
    for (let i = 0; i < 3; i++) {
      dmaMapSgtable(cam, sgt, 'to-device');
      dmaUnmapSgtable(cam, sgt, 'to-device');
    }
    expect(codes(b)).toEqual(['dma.map-as-flush']);
  });

  it('is no habit when the device looks in between, even once', () => {
    const { b, page, cam } = scene();
    for (let i = 0; i < 5; i++) {
      const address = dmaMapPage(cam, page, PAGE_SIZE, 'to-device');
      if (i % 2 === 1) cam.port.read(address, new Uint8Array(4), 0, 4);
      dmaUnmapPage(cam, address, PAGE_SIZE, 'to-device');
    }
    expect(codes(b)).toEqual([]);
  });

  it('is none for several buffers, for a device that snoops, without cache maintenance, or without lints', () => {
    const { b, page, cam } = scene();
    const snooping = b.device('nic0', { coherent: true });
    for (let i = 0; i < 4; i++) {
      mapOnce(snooping, page);
      mapOnce(cam, page, { skipCpuSync: true });
      mapOnce(cam, pfnToPhys(b.machine.pages.allocPages({ order: 0, owner: 'driver' })));
    }
    expect(codes(b)).toEqual([]);
    const quiet = scene({ lints: false });
    for (let i = 0; i < 4; i++) mapOnce(quiet.cam, quiet.page);
    expect(codes(quiet.b)).toEqual([]);
  });

  it('is none where one mapping stays and is synced', () => {
    const { b, cam } = scene();
    const sgt = b.scattered(1);
    dmaMapSgtable(cam, sgt, 'to-device');
    for (let i = 0; i < 4; i++) dmaSyncSgtableForDevice(cam, sgt, 'to-device');
    dmaUnmapSgtable(cam, sgt, 'to-device');
    expect(codes(b)).toEqual([]);
  });
});

describe('dma.map-resource-in-sg', () => {
  it('is told when an exporter gives a table with such an address', () => {
    const { b, cam } = scene();
    const bar = dmaMapResource(cam, BAR, PAGE_SIZE, 'bidirectional');
    exportAndMap(b, cam, 'vram', b.scattered(1), {
      mapDmaBuf() {
        const sgt = new SgTable([{ phys: BAR, length: PAGE_SIZE }]);
        sgt.addSegment(bar, PAGE_SIZE);
        return sgt;
      },
      unmapDmaBuf() {},
    });
    expect(b.sim.hazards).toMatchObject([
      { hazard: 'dma.map-resource-in-sg', who: 'vram', what: expect.stringContaining('device side') },
    ]);
  });

  it('is told when a driver maps a table with such an address for memory', () => {
    const { b, cam } = scene();
    const bar = dmaMapResource(cam, BAR, PAGE_SIZE, 'bidirectional');
    const sgt = new SgTable([{ phys: physAddr(bar), length: PAGE_SIZE }]);
    dmaMapSgtable(cam, sgt, 'bidirectional', { skipCpuSync: true });
    expect(b.sim.hazards).toMatchObject([
      { hazard: 'dma.map-resource-in-sg', who: 'cam0 driver', what: expect.stringContaining('cpu side') },
    ]);
  });

  it('is silent for a table of memory beside a mapped resource', () => {
    const { b, page, cam } = scene();
    dmaMapResource(cam, BAR, PAGE_SIZE, 'bidirectional');
    dmaMapSgtable(cam, new SgTable([{ phys: page, length: PAGE_SIZE }]), 'bidirectional');
    expect(codes(b)).toEqual([]);
  });

  it('is silent where addresses are physical and the table says the memory itself', () => {
    const { b } = scene();
    const nic = b.device('nic0', { dmaMaskBits: 64 });
    dmaMapResource(nic, BAR, PAGE_SIZE, 'bidirectional');
    dmaMapSgtable(nic, new SgTable([{ phys: BAR, length: PAGE_SIZE }]), 'bidirectional', { skipCpuSync: true });
    expect(codes(b)).toEqual([]);
  });
});

describe('dma.backend-peek', () => {
  it('is told when somebody outside the DMA API asks for the back end', () => {
    const { b, cam } = scene();
    expect(cam.dmaOps).toBe(cam.backEnd);
    expect(b.sim.hazards).toMatchObject([{ hazard: 'dma.backend-peek', who: 'cam0 driver' }]);
  });

  it('is silent while the DMA API works, and without lints', () => {
    const { b, page, cam } = scene();
    mapOnce(cam, page);
    cam.setDmaMask(40);
    expect(codes(b)).toEqual([]);
    const quiet = scene({ lints: false });
    expect([quiet.cam.dmaOps === quiet.cam.backEnd, codes(quiet.b)]).toEqual([true, []]);
  });
});

describe('dmabuf.alias', () => {
  const two = (ops: Partial<DmaBufOps<object>> = {}, isShared = true) => {
    const { b, cam } = scene();
    const memory = b.scattered(3);
    exportAndMap(b, cam, 'one', memory);
    const last = new SgTable([{ phys: memory.physAddress(2), length: PAGE_SIZE }]);
    exportAndMap(b, cam, 'two', isShared ? last : b.scattered(2), ops);
    return b;
  };

  it('is told once of two buffers that show one page at the same time', () => {
    const b = two();
    expect(b.sim.hazards).toMatchObject([
      { hazard: 'dmabuf.alias', who: 'vram', what: expect.stringMatching(/^two and one \(dmaMapSgtable.* both show/) },
    ]);
  });

  it('is silent when the exporter says so, for other memory, and for two mappings of one buffer', () => {
    expect(codes(two({ mayAlias: true }))).toEqual([]);
    expect(codes(two({}, false))).toEqual([]);
    const { b, cam } = scene();
    const buf = exportAndMap(b, cam, 'one', b.scattered(1));
    b.sim.run(function* () {
      const att = yield* buf.attach(b.device('gpu0', { iommu: true }));
      yield* att.mapUnlocked('bidirectional');
    });
    expect(codes(b)).toEqual([]);
  });

  it('is silent for buffers that have the same memory one after the other', () => {
    const { b, cam } = scene();
    const memory = b.scattered(1);
    for (const name of ['one', 'two']) {
      const buf = exportAndMap(b, cam, name, memory);
      b.sim.run(function* () {
        const [att] = buf.attachments;
        if (att === undefined) return;
        for (const [sgt, dir] of att.mappings) yield* att.unmapUnlocked(sgt, dir);
      });
    }
    expect(codes(b)).toEqual([]);
  });
});

it('a lint that throws leaves nothing mapped that was to be unmapped', () => {
  const { page, cam } = scene({ hazards: 'throw' });
  mapOnce(cam, page);
  mapOnce(cam, page);
  expect(() => mapOnce(cam, page)).toThrow(/^dma\.map-as-flush/);
  expect(cam.port.peek(dmaAddr(2 ** 32 - PAGE_SIZE), new Uint8Array(1), 0, 1)).toBe(0);
});
