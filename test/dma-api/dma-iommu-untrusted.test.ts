import { describe, expect, it, onTestFinished } from 'vitest';
import { dmaAddr, iova, PAGE_SIZE, physAddr } from '../../src/base/addr.ts';
import { KIB, MIB } from '../../src/base/units.ts';
import { freeCacheCosts } from '../../src/cache/cache-costs.ts';
import { CoherencyDomain } from '../../src/cache/coherency.ts';
import { Device, type DeviceOptions } from '../../src/dma-api/device.ts';
import {
  dmaMapSgtable,
  dmaSyncSgtableForCpu,
  dmaSyncSgtableForDevice,
  dmaUnmapSgtable,
} from '../../src/dma-api/dma-map.ts';
import {
  dmaMapPage,
  dmaMappingError,
  dmaSyncSingleForCpu,
  dmaSyncSingleForDevice,
  dmaUnmapPage,
} from '../../src/dma-api/dma-single.ts';
import { SgTable } from '../../src/dma-api/sg-table.ts';
import { Swiotlb } from '../../src/dma-api/swiotlb.ts';
import { Iommu } from '../../src/iommu/iommu.ts';
import { IommuGroup } from '../../src/iommu/iommu-group.ts';
import { PhysMemory } from '../../src/mem/phys-memory.ts';
import { Simulator } from '../../src/sim/simulator.ts';
import { errno, pattern } from '../bench.ts';
import { FrameCounter } from '../iommu/frame-counter.ts';

const TOP = 2 ** 32;
const BASE = 0x4000_0000;
/** Where the tests' buffers are, away from the pool at the end of RAM. */
const BUFFER = physAddr(BASE + MIB);

/** An untrusted device behind an IOMMU with a pool of 256 slots; at the end all slots and addresses must be back. */
function scene(options: Partial<DeviceOptions> = {}, hasPool = true) {
  const sim = new Simulator();
  const memory = new PhysMemory({ trace: sim.trace, now: () => sim.now });
  memory.addRegion({ kind: 'ram', name: 'ram', base: physAddr(BASE), bytes: 16 * MIB });
  const coherency = new CoherencyDomain(sim, memory, { costs: freeCacheCosts });
  const pool = new Swiotlb(sim, { coherency, slots: 256, force: hasPool ? 'auto' : 'noforce' });
  const iommuGroup = new IommuGroup(new Iommu(sim, { name: 'smmu0', pages: new FrameCounter() }), { name: 'port' });
  const port = { name: 'evil', coherency, coherent: true, iommuGroup, swiotlb: pool, untrusted: true };
  const device = new Device(sim, { ...port, ...options });
  onTestFinished(() => {
    expect([pool.usedSlots, ...(iommuGroup.defaultDomain?.pgtable.leaves() ?? [])]).toEqual([0]);
  });
  const write = (at: number, bytes: Uint8Array) => coherency.poke(physAddr(at), bytes);
  const read = (at: number, length: number) => {
    const bytes = new Uint8Array(length);
    coherency.peek(physAddr(at), bytes, 0, length, 'cached');
    return bytes;
  };
  const deviceRead = (at: number, length: number) => {
    const bytes = new Uint8Array(length);
    expect(device.port.read(dmaAddr(at), bytes, 0, length)).toBe(length);
    return bytes;
  };
  const physOf = (address: number) => iommuGroup.defaultDomain?.iovaToPhys(iova(address)) ?? null;
  const app = { name: 'app', kind: 'cpu' as const, via: 'test', beforeRead: '', afterWrite: '' };
  const cpuWrite = (at: number, bytes: Uint8Array) =>
    coherency.cpuWrite(physAddr(at), bytes, 0, bytes.length, 'cached', app);
  return { device, pool, write, read, cpuWrite, deviceRead, physOf };
}

describe('an untrusted device behind an IOMMU', () => {
  it('sees a part of a page in a page of its own, with zeros beside it, and at the start of that page', () => {
    const { device, write, deviceRead } = scene();
    write(BUFFER, pattern(PAGE_SIZE, 7));
    write(BUFFER + 100, pattern(50));
    const address = dmaMapPage(device, physAddr(BUFFER + 100), 50, 'to-device');
    expect(address).toBe(TOP - PAGE_SIZE);
    const seen = deviceRead(address, PAGE_SIZE);
    expect(seen.subarray(0, 50)).toEqual(pattern(50));
    expect(seen.subarray(50).every((byte) => byte === 0)).toBe(true);
    dmaUnmapPage(device, address, 50, 'to-device');
  });

  it('sees whole pages where they are', () => {
    const { device, pool, physOf } = scene();
    const address = dmaMapPage(device, BUFFER, 2 * PAGE_SIZE, 'bidirectional');
    expect([physOf(address), pool.usedSlots]).toEqual([BUFFER, 0]);
    dmaUnmapPage(device, address, 2 * PAGE_SIZE, 'bidirectional');
  });

  it.each([
    [100, PAGE_SIZE],
    [0, 100],
    [0, 2 * PAGE_SIZE - 1],
  ])('gets a buffer at offset %s of %s bytes by way of the pool', (offset, sizeBytes) => {
    const { device, pool, physOf } = scene();
    const address = dmaMapPage(device, physAddr(BUFFER + offset), sizeBytes, 'bidirectional');
    expect(pool.isBounce(physOf(address) ?? 0)).toBe(true);
    expect(address % PAGE_SIZE).toBe(0);
    dmaUnmapPage(device, address, sizeBytes, 'bidirectional');
  });

  it('fills the buffer when it is unmapped, and what it did not write comes back as zeros unless it could read', () => {
    for (const dir of ['from-device', 'bidirectional'] as const) {
      const { device, write, read } = scene();
      write(BUFFER, pattern(64, 1));
      const address = dmaMapPage(device, BUFFER, 64, dir);
      device.port.write(address, pattern(16, 2), 0, 16);
      expect(read(BUFFER, 64)).toEqual(pattern(64, 1));
      dmaUnmapPage(device, address, 64, dir);
      expect(read(BUFFER, 16)).toEqual(pattern(16, 2));
      const rest = dir === 'bidirectional' ? pattern(64, 1).subarray(16) : new Uint8Array(48);
      expect(read(BUFFER + 16, 48)).toEqual(rest);
    }
  });

  it('sees later bytes of the CPU after a sync, and the CPU its', () => {
    const { device, write, read, deviceRead } = scene();
    const address = dmaMapPage(device, BUFFER, 64, 'bidirectional');
    write(BUFFER, pattern(64, 3));
    dmaSyncSingleForDevice(device, address, 64, 'bidirectional');
    expect(deviceRead(address, 64)).toEqual(pattern(64, 3));
    device.port.write(address, pattern(64, 4), 0, 64);
    dmaSyncSingleForCpu(device, address, 64, 'bidirectional');
    expect(read(BUFFER, 64)).toEqual(pattern(64, 4));
    dmaUnmapPage(device, address, 64, 'bidirectional', { skipCpuSync: true });
  });

  it('gets a table as one segment an extent, also of neighbours, and syncs and unmaps each', () => {
    const { device, write, read, deviceRead } = scene();
    const extents = [0, 1, 2].map((i) => ({
      phys: physAddr(BUFFER + i * PAGE_SIZE),
      length: i === 1 ? 100 : PAGE_SIZE,
    }));
    const sgt = new SgTable(extents);
    dmaMapSgtable(device, sgt, 'bidirectional');
    expect(sgt.segments().map(({ length }) => length)).toEqual([PAGE_SIZE, 100, PAGE_SIZE]);
    write(BUFFER + PAGE_SIZE, pattern(100, 5));
    dmaSyncSgtableForDevice(device, sgt, 'bidirectional');
    expect(deviceRead(sgt.dmaAddress(1), 100)).toEqual(pattern(100, 5));
    device.port.write(sgt.dmaAddress(1), pattern(100, 6), 0, 100);
    dmaSyncSgtableForCpu(device, sgt, 'bidirectional');
    expect(read(BUFFER + PAGE_SIZE, 100)).toEqual(pattern(100, 6));
    dmaUnmapSgtable(device, sgt, 'bidirectional');
    expect(sgt.nents).toBe(0);
  });

  it('gives back every segment of a table, also when several of them have something to report', () => {
    const { device, write, read, cpuWrite } = scene({ coherent: false });
    const extents = [0, 1, 2, 3].map((i) => ({ phys: physAddr(BUFFER + i * PAGE_SIZE), length: PAGE_SIZE }));
    const sgt = new SgTable(extents);
    for (const { phys } of extents) write(phys, pattern(64, 1));
    dmaMapSgtable(device, sgt, 'from-device');
    for (const { phys } of extents) cpuWrite(phys, pattern(64, 2));
    expect(() => dmaUnmapSgtable(device, sgt, 'from-device')).toThrow('cpu-write.lost');
    expect(sgt.nents).toBe(0);
    for (const { phys } of extents) expect(read(phys, 64)).toEqual(pattern(64, 1));
  });

  it('is refused what is too long for the pool, and a table with such an extent leaves nothing behind', () => {
    const { device } = scene();
    expect(device.dmaOps.maxMappingBytes()).toBe(256 * KIB);
    expect(dmaMappingError(device, dmaMapPage(device, physAddr(BUFFER + 1), 256 * KIB + 1, 'to-device'))).toBe(true);
    const sgt = new SgTable([
      { phys: BUFFER, length: 100 },
      { phys: physAddr(BUFFER + MIB + 1), length: 300 * KIB },
    ]);
    expect(() => dmaMapSgtable(device, sgt, 'to-device')).toThrow(errno('EIO'));
    expect(() => dmaMapSgtable(device, sgt, 'to-device')).toThrow(/evil: extent 1, 307200 bytes/);
    expect(sgt.nents).toBe(0);
  });

  it('is refused everything but whole pages without a pool', () => {
    const { device } = scene({}, false);
    expect(dmaMappingError(device, dmaMapPage(device, BUFFER, 100, 'to-device'))).toBe(true);
    const address = dmaMapPage(device, BUFFER, PAGE_SIZE, 'to-device');
    expect(dmaMappingError(device, address)).toBe(false);
    dmaUnmapPage(device, address, PAGE_SIZE, 'to-device');
    const sgt = new SgTable([{ phys: BUFFER, length: 100 }]);
    expect(() => dmaMapSgtable(device, sgt, 'to-device')).toThrow(/there is no bounce pool/);
  });

  it('gives the slots back when no IO address is left, and the buffer stays as it was', () => {
    const { device, pool, write, read } = scene({ dmaMaskBits: 13 });
    write(BUFFER, pattern(100));
    const first = dmaMapPage(device, BUFFER, 100, 'from-device');
    const used = pool.usedSlots;
    expect(dmaMappingError(device, dmaMapPage(device, BUFFER, 100, 'from-device'))).toBe(true);
    expect([pool.usedSlots, read(BUFFER, 100)]).toEqual([used, pattern(100)]);
    dmaUnmapPage(device, first, 100, 'from-device');
  });
});
