import { describe, expect, it } from 'vitest';
import { type DmaAddr, dmaAddr, hex, type Iova, PAGE_SIZE, pfnToPhys, physAddr } from '../../src/base/addr.ts';
import type { DmaReachFacts } from '../../src/base/watch-hazards.ts';
import { GpuContext } from '../../src/devices/gpu/gpu-context.ts';
import type { Device } from '../../src/dma-api/device.ts';
import { dmaAllocCoherent, dmaAllocPages, dmaFreeCoherent, dmaFreePages } from '../../src/dma-api/dma-alloc.ts';
import { dmaIovaTryAlloc } from '../../src/dma-api/dma-iova.ts';
import { dmaMapSgtable, dmaUnmapSgtable } from '../../src/dma-api/dma-map.ts';
import {
  dmaMapPage,
  dmaMappingError,
  dmaMapResource,
  dmaUnmapPage,
  dmaUnmapResource,
} from '../../src/dma-api/dma-single.ts';
import type { SgTable } from '../../src/dma-api/sg-table.ts';
import { type DmaBuf, exportDmaBuf } from '../../src/dmabuf/dma-buf.ts';
import type { DmaBufOps } from '../../src/dmabuf/dma-buf-ops.ts';
import { linux71 } from '../../src/dmabuf/dma-buf-profile.ts';
import { Revocation } from '../../src/dmabuf/dma-buf-revoke.ts';
import { DmaResvUsage } from '../../src/dmabuf/dma-resv.ts';
import { IommuProt } from '../../src/iommu/io-pgtable.ts';
import { type Bench, bench } from '../bench.ts';

/** A bench that records, a page of RAM and devices behind an IOMMU and without. */
function scene(options: Parameters<typeof bench>[0] = {}) {
  const b = bench({ hazards: 'record', dmaDebug: false, atRest: false, ...options });
  const page = pfnToPhys(b.machine.pages.allocPages({ pageCount: 2, owner: 'driver' }));
  return { b, page, cam: b.device('cam0', { iommu: true }), nic: b.device('nic0', { dmaMaskBits: 64 }) };
}

function touch(dev: Device, address: number, length = 1): number {
  return dev.port.write(dmaAddr(address), new Uint8Array(length), 0, length);
}

function map(dev: Device, phys: number, sizeBytes = PAGE_SIZE): DmaAddr {
  const address = dmaMapPage(dev, physAddr(phys), sizeBytes, 'bidirectional');
  expect(dmaMappingError(dev, address)).toBe(false);
  return address;
}

function found({ sim }: Bench): DmaReachFacts[] {
  return sim.hazards.map((facts) => {
    if (!('address' in facts) || !('access' in facts)) return expect.fail(`found ${facts.hazard}`);
    return facts;
  });
}

function codes({ sim }: Bench): string[] {
  return sim.hazards.map(({ hazard }) => hazard);
}

describe('an access after the unmap', () => {
  it('that the IOMMU refuses names the mapping, its maker, and the unmap', () => {
    const { b, page, cam } = scene();
    const address = map(cam, page);
    dmaUnmapPage(cam, address, PAGE_SIZE, 'bidirectional');
    expect(touch(cam, address + 8, 16)).toBe(0);
    const [facts, ...more] = found(b);
    expect(more).toEqual([]);
    expect(facts).toMatchObject({
      hazard: 'dma.after-unmap',
      ...{ device: 'cam0', address: address + 8, access: 'write', sizeBytes: 16 },
      site: expect.stringMatching(/^stray-dma\.test\.ts:\d+:\d+$/),
    });
    expect(facts?.what).toMatch(
      /mapped by dmaMapPage at 0 ns \(stray-dma\.test\.ts:.*unmapped by dmaUnmapPage at 0 ns/,
    );
    expect(facts?.what).toContain('the IOMMU refused the access');
  });

  it('that no IOMMU stands in the way of is reported though it goes through', () => {
    const { b, page, nic } = scene();
    const address = map(nic, page);
    dmaUnmapPage(nic, address, PAGE_SIZE, 'bidirectional');
    expect(touch(nic, address)).toBe(1);
    expect(codes(b)).toEqual(['dma.after-unmap']);
    expect(found(b)[0]?.what).toContain('no IOMMU stands in the way');
  });

  it('is reported from the first byte that was unmapped on, when it begins in another mapping', () => {
    const { b, page, nic } = scene();
    map(nic, page);
    const second = map(nic, page + PAGE_SIZE);
    expect(touch(nic, page, 2 * PAGE_SIZE)).toBe(2 * PAGE_SIZE);
    expect(codes(b)).toEqual([]);
    dmaUnmapPage(nic, second, PAGE_SIZE, 'bidirectional');
    touch(nic, page, 2 * PAGE_SIZE);
    expect(found(b)).toMatchObject([{ address: second, sizeBytes: PAGE_SIZE }]);
  });

  it('is silent as long as one of two mappings of the memory is alive', () => {
    const { b, page, nic } = scene();
    map(nic, page);
    const again = map(nic, page, 64);
    dmaUnmapPage(nic, again, 64, 'bidirectional');
    touch(nic, page, 128);
    dmaUnmapPage(nic, again, PAGE_SIZE, 'bidirectional');
    expect(codes(b)).toEqual([]);
    touch(nic, page);
    expect(codes(b)).toEqual(['dma.after-unmap']);
  });

  it('is a count and no hazard where lazy invalidation lets a trusted device through', () => {
    const { b, page, cam } = scene({ lazyIommu: true });
    const address = map(cam, page);
    touch(cam, address);
    dmaUnmapPage(cam, address, PAGE_SIZE, 'bidirectional');
    expect(touch(cam, address)).toBe(1);
    expect([codes(b), cam.port.lateAccesses]).toEqual([[], 1]);
  });

  it('is a hazard where lazy invalidation lets a device through that is not trusted', () => {
    const { b, page } = scene({ lazyIommu: true });
    const plug = b.device('plug0', { iommu: true, untrusted: true });
    const address = map(plug, page);
    touch(plug, address);
    dmaUnmapPage(plug, address, PAGE_SIZE, 'bidirectional');
    touch(plug, address);
    expect([codes(b), plug.port.lateAccesses]).toEqual([['dma.after-unmap'], 0]);
  });

  it('ends the access with the hazard under policy throw, after it was made', () => {
    const { page, nic } = scene({ hazards: 'throw' });
    const address = map(nic, page);
    dmaUnmapPage(nic, address, PAGE_SIZE, 'bidirectional');
    expect(() => touch(nic, address)).toThrow(/^dma\.after-unmap: nic0 would write 1 bytes at 0x/);
  });

  it('is not looked for while no books are kept', () => {
    const { b, page, nic } = scene({ watch: false });
    const address = map(nic, page);
    dmaUnmapPage(nic, address, PAGE_SIZE, 'bidirectional');
    touch(nic, address);
    expect(codes(b)).toEqual([]);
  });
});

describe('an access to a buffer that was taken away', () => {
  /** A buffer of an exporter that maps as heaps do; with `pin` it may move. */
  function exported(b: Bench, ops: Partial<DmaBufOps<SgTable>>): DmaBuf<SgTable> {
    return exportDmaBuf(b.sim, {
      ...{ exporterName: 'vram', name: 'frame1', sizeBytes: PAGE_SIZE, priv: b.scattered(1), profile: linux71 },
      ops: {
        mapDmaBuf({ dev, buf }, dir) {
          const sgt = buf.priv.clone();
          dmaMapSgtable(dev, sgt, dir);
          return sgt;
        },
        unmapDmaBuf: ({ dev }, sgt, dir) => dmaUnmapSgtable(dev, sgt, dir),
        release() {},
        ...ops,
      },
    });
  }

  /** A dynamic attachment of cam0 with a mapping. */
  function* attached({ b, cam }: Pick<ReturnType<typeof scene>, 'b' | 'cam'>) {
    const buf = exported(b, { pin() {}, unpin() {} });
    const att = yield* buf.dynamicAttach(cam, { moveNotify() {} });
    const sgt = yield* buf.resv.withLock(() => att.map('bidirectional'));
    return { buf, att, sgt };
  }

  it('is found after a move, though the old mapping still works', () => {
    const s = scene();
    s.b.sim.run(function* () {
      const { buf, sgt } = yield* attached(s);
      expect(touch(s.cam, sgt.dmaAddress(0))).toBe(1);
      yield* buf.resv.withLock(() => buf.moveNotify());
      expect([codes(s.b), touch(s.cam, sgt.dmaAddress(0))]).toEqual([[], 1]);
    });
    expect(found(s.b)).toMatchObject([{ hazard: 'dma.after-move', what: expect.stringContaining("'frame1'") }]);
  });

  it('is legal after a move for work that was going on, until its fence signals', () => {
    const s = scene();
    s.b.sim.run(function* () {
      const { buf, sgt } = yield* attached(s);
      const fence = yield* s.b.fenceOn(buf.resv, DmaResvUsage.read);
      yield* buf.resv.withLock(() => buf.moveNotify());
      touch(s.cam, sgt.dmaAddress(0));
      expect(codes(s.b)).toEqual([]);
      fence.signal();
      touch(s.cam, sgt.dmaAddress(0));
    });
    expect(codes(s.b)).toEqual(['dma.after-move']);
  });

  it('is silent through a mapping that was made after the move', () => {
    const s = scene();
    s.b.sim.run(function* () {
      const { buf, att, sgt } = yield* attached(s);
      yield* buf.resv.withLock(() => buf.moveNotify());
      yield* buf.resv.withLock(() => att.unmap(sgt, 'bidirectional'));
      const anew = yield* buf.resv.withLock(() => att.map('bidirectional'));
      touch(s.cam, anew.dmaAddress(0));
    });
    expect(codes(s.b)).toEqual([]);
  });

  it('is found after a revoke', () => {
    const s = scene();
    const revocation = new Revocation();
    const { sim } = s.b;
    sim.run(function* () {
      const { buf, att, sgt } = yield* attached(s);
      sim.spawn('exporter', () => revocation.revoke(buf));
      yield* sim.delay(10);
      touch(s.cam, sgt.dmaAddress(0));
      yield* buf.resv.withLock(() => att.unmap(sgt, 'bidirectional'));
    });
    expect(codes(s.b)).toEqual(['dma.after-revoke']);
  });

  it('is found after a detach, which ended the mapping that the core had kept', () => {
    const { b, cam } = scene();
    const buf = exported(b, { cacheSgtMapping: true });
    b.sim.run(function* () {
      const att = yield* buf.attach(cam);
      const sgt = yield* att.mapUnlocked('bidirectional');
      const address = sgt.dmaAddress(0);
      yield* att.unmapUnlocked(sgt, 'bidirectional');
      touch(cam, address);
      expect(codes(b)).toEqual([]);
      yield* buf.detach(att);
      touch(cam, address);
    });
    expect(found(b)).toMatchObject([
      {
        hazard: 'dma.after-detach',
        what: expect.stringMatching(/^'frame1', mapped by dmaMapSgtable.*detached by detach/),
      },
    ]);
  });

  it('is silent where a static importer pins the buffer', () => {
    const { b, cam } = scene();
    const buf = exported(b, { pin() {}, unpin() {} });
    b.sim.run(function* () {
      const att = yield* buf.attach(cam);
      const sgt = yield* att.mapUnlocked('bidirectional');
      yield* buf.resv.withLock(() => buf.moveNotify());
      touch(cam, sgt.dmaAddress(0));
    });
    expect(codes(b)).toEqual([]);
  });
});

describe('an access by a number of another space', () => {
  it('is told as the physical address of what is mapped', () => {
    const { b, page, cam } = scene();
    const address = map(cam, page);
    touch(cam, page + 5);
    const [facts] = found(b);
    expect(facts).toMatchObject({ hazard: 'dma.wrong-address-space', device: 'cam0', address: page + 5 });
    expect(facts?.what).toMatch(new RegExp(`^${hex(page + 5)} is no address of cam0, but a physical address: memory`));
    expect(address).not.toBe(page);
  });

  it('is told as the address of another device', () => {
    const { b, page, cam } = scene();
    const other = b.device('gpu0', { iommu: true, dmaMaskBits: 40 });
    touch(cam, map(other, page));
    expect(found(b)[0]?.what).toContain('is no address of cam0, but an address of gpu0: memory');
  });

  it('is told as the address of a device without an IOMMU, though it works', () => {
    const { b, page, nic } = scene();
    const dsp = b.device('dsp0', { dmaMaskBits: 64 });
    expect(touch(dsp, map(nic, page))).toBe(1);
    expect(found(b)[0]?.what).toContain('an address of nic0, where it is a physical address');
  });

  it('is told as a GPU virtual address', () => {
    const { b } = scene();
    const gpu = b.device('gpu0', { iommu: true });
    const sgt = b.scattered(1);
    dmaMapSgtable(gpu, sgt, 'bidirectional');
    touch(gpu, new GpuContext('gpu0/context0', gpu).mapBuffer(sgt, { writable: true }));
    expect(found(b)[0]?.what).toContain('a GPU virtual address of gpu0/context0');
  });

  it('is silent for the addresses of a device of the same group', () => {
    const { b, page, cam } = scene();
    const twin = b.device('cam1', { iommu: cam.iommuGroup ?? expect.fail('no group') });
    expect(touch(twin, map(cam, page))).toBe(1);
    expect(codes(b)).toEqual([]);
  });
});

describe('an access to memory that nobody mapped', () => {
  it('is a bypass where addresses are physical, and the driver maps other buffers', () => {
    const { b, page, nic } = scene();
    map(nic, page);
    expect(touch(nic, page + PAGE_SIZE)).toBe(1);
    expect(found(b)).toMatchObject([
      { hazard: 'dma.api-bypass', what: expect.stringMatching(/^memory of driver; nothing/) },
    ]);
  });

  it('is a bypass for a device that a driver has taken, though it maps nothing', () => {
    const { b, page, nic } = scene({ dmaDebug: true });
    nic.dmaDebug?.driverProbe(nic, 'nic');
    touch(nic, page);
    expect(codes(b)).toEqual(['dma.api-bypass']);
  });

  it('is silent for a device that no driver has: firmware drives it, or a test', () => {
    const { b, page, nic } = scene({ dmaDebug: true });
    touch(nic, page);
    expect(codes(b)).toEqual([]);
  });
});

describe('what a device may use', () => {
  it('is a coherent allocation, an allocation of pages, a resource and a linked run, until each ends', () => {
    const { b, page, cam, nic } = scene();
    for (const dev of [cam, nic]) {
      const ring = dmaAllocCoherent(dev, 100) ?? expect.fail('no memory');
      const pages = dmaAllocPages(dev, 5000, 'bidirectional') ?? expect.fail('no memory');
      expect([touch(dev, ring.address, PAGE_SIZE), touch(dev, pages.address, 8192)]).toEqual([PAGE_SIZE, 8192]);
      expect(codes(b)).toEqual([]);
      dmaFreePages(dev, pages, 'bidirectional');
      dmaFreeCoherent(dev, ring);
      touch(dev, ring.address);
      expect(codes(b)).toEqual(['dma.after-unmap']);
      b.sim.hazards.length = 0;
    }
    const bar = dmaMapResource(cam, physAddr(0xe000_0000), PAGE_SIZE, 'bidirectional');
    const run = dmaIovaTryAlloc(cam, PAGE_SIZE) ?? expect.fail('no run');
    run.link(page, 0, PAGE_SIZE, 'bidirectional');
    touch(cam, bar);
    touch(cam, run.address, PAGE_SIZE);
    expect(codes(b)).toEqual([]);
    run.destroy(PAGE_SIZE, 'bidirectional');
    dmaUnmapResource(cam, bar, PAGE_SIZE, 'bidirectional');
    touch(cam, run.address);
    touch(cam, bar);
    expect(codes(b)).toEqual(['dma.after-unmap', 'dma.after-unmap']);
  });

  it('is the rest of a page of which a part is mapped', () => {
    const { b, page, cam, nic } = scene();
    const [one, other] = [map(cam, page + 100, 50), map(nic, page + 100, 50)];
    expect([touch(cam, one - 100, PAGE_SIZE), touch(nic, other - 100, PAGE_SIZE)]).toEqual([PAGE_SIZE, PAGE_SIZE]);
    expect(codes(b)).toEqual([]);
  });

  it('is whatever the owner of its group maps, in a domain of its own', () => {
    const { b, page, cam } = scene();
    map(cam, page);
    const { iommuGroup: group } = cam;
    const domain = b.machine.iommu?.allocDomain() ?? expect.fail('no IOMMU');
    group?.attach(domain);
    domain.map(page as unknown as Iova, page, PAGE_SIZE, IommuProt.read | IommuProt.write);
    expect(touch(cam, page)).toBe(1);
    expect(codes(b)).toEqual([]);
  });

  it('is what was reserved for it', () => {
    const { b, page } = scene();
    const gpu = b.device('gpu0', { iommu: true, reservedIova: [{ first: page, last: page + PAGE_SIZE - 1 }] });
    map(gpu, page);
    touch(gpu, page);
    expect(codes(b)).toEqual([]);
  });

  it('is a table whose addresses an exporter made by itself', () => {
    const { b, nic } = scene();
    map(nic, pfnToPhys(b.machine.pages.allocPages({ order: 0, owner: 'driver' })));
    const buf = b.fakeBuffer({
      mapDmaBuf(att) {
        const sgt = att.buf.priv.memory.clone();
        sgt.addSegment(sgt.physAddress(0), sgt.length(0));
        return sgt;
      },
      unmapDmaBuf() {},
    });
    b.sim.run(function* () {
      const att = yield* buf.attach(nic);
      const sgt = yield* att.mapUnlocked('bidirectional');
      const address = sgt.dmaAddress(0);
      touch(nic, address, 2 * PAGE_SIZE);
      expect(codes(b)).toEqual([]);
      yield* att.unmapUnlocked(sgt, 'bidirectional');
      touch(nic, address);
    });
    expect(codes(b)).toEqual(['dma.after-unmap']);
  });

  it('is found in tables of many pieces, whichever is used first', () => {
    const { b, nic } = scene();
    const sgt = b.scattered(50);
    dmaMapSgtable(nic, sgt, 'bidirectional');
    for (const i of [49, 0, 25, 26, 3]) touch(nic, sgt.dmaAddress(i), PAGE_SIZE);
    expect(codes(b)).toEqual([]);
    touch(nic, sgt.dmaAddress(7) + PAGE_SIZE);
    expect(codes(b)).toEqual(['dma.api-bypass']);
    dmaUnmapSgtable(nic, sgt, 'bidirectional');
  });
});
