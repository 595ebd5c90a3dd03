import { describe, expect, it } from 'vitest';
import { dmaAddr, PAGE_SIZE, physAddr } from '../../src/base/addr.ts';
import type { Accessor } from '../../src/base/hazards.ts';
import { GIB } from '../../src/base/units.ts';
import type { Device } from '../../src/dma-api/device.ts';
import { dmaMapSgtable, dmaUnmapSgtable } from '../../src/dma-api/dma-map.ts';
import type { SgTable } from '../../src/dma-api/sg-table.ts';
import { type Bench, bench, errno, invariant, pattern } from '../bench.ts';

const APP: Accessor = { name: 'app', kind: 'cpu', via: 'test', beforeRead: 'begin()', afterWrite: 'end()' };

/** Runs `body` with `pages` scattered pages mapped for a device behind the IOMMU. */
function withMapping(b: Bench, pages: number, body: (device: Device, sgt: SgTable) => void): void {
  const device = b.device('dev', { iommu: true });
  const sgt = b.scattered(pages);
  dmaMapSgtable(device, sgt, 'bidirectional');
  body(device, sgt);
  dmaUnmapSgtable(device, sgt, 'bidirectional');
}

function memoryAt(b: Bench, sgt: SgTable, extent: number, length: number): Uint8Array {
  const out = new Uint8Array(length);
  b.machine.memory.read(sgt.physAddress(extent), out, 0, length);
  return out;
}

describe('DmaPort', () => {
  it('reads and writes across pages that are scattered in memory', () => {
    const b = bench();
    withMapping(b, 3, ({ port }, sgt) => {
      const bytes = pattern(2 * PAGE_SIZE);
      const start = dmaAddr(sgt.dmaAddress(0) + 1000);
      expect(port.write(start, bytes, 0, bytes.length)).toBe(bytes.length);
      expect(memoryAt(b, sgt, 1, PAGE_SIZE)).toEqual(bytes.slice(PAGE_SIZE - 1000, 2 * PAGE_SIZE - 1000));
      const out = new Uint8Array(bytes.length + 20);
      expect(port.read(start, out, 10, bytes.length)).toBe(bytes.length);
      expect(out.subarray(10, -10)).toEqual(bytes);
      expect(out.subarray(0, 10)).toEqual(new Uint8Array(10));
    });
  });

  it('does what lies before a fault, and tells how many bytes that are and where it stopped', () => {
    const b = bench();
    withMapping(b, 2, ({ port }, sgt) => {
      const start = dmaAddr(sgt.dmaAddress(0) + 5000);
      const bytes = pattern(5000);
      expect(port.write(start, bytes, 0, 5000)).toBe(2 * PAGE_SIZE - 5000);
      const fault = {
        device: 'dev',
        address: start + 3192,
        length: 1808,
        access: 'write',
        reason: 'address-size', // the mapping ends at 4 GiB, which 32 bits do not reach beyond
        timeNs: 0,
      };
      expect(port.faults).toEqual([fault]);
      expect(memoryAt(b, sgt, 1, PAGE_SIZE).slice(904)).toEqual(bytes.slice(0, 3192));
      const out = new Uint8Array(10).fill(7);
      expect(port.read(dmaAddr(0x10_0000), out, 0, 10)).toBe(0);
      expect(out).toEqual(new Uint8Array(10).fill(7));
      expect([port.faultCount, port.faults[1]?.reason]).toEqual([2, 'unmapped']);
    });
  });

  it("refuses an address beyond the device's own mask, though the IOMMU would translate it", () => {
    const b = bench();
    withMapping(b, 1, (device, sgt) => {
      const address = sgt.dmaAddress(0);
      device.setDmaMask(20);
      expect(device.port.read(address, new Uint8Array(4), 0, 4)).toBe(0);
      expect(device.port.faults.map(({ reason }) => reason)).toEqual(['address-size']);
      expect(device.port.peek(address, new Uint8Array(4), 0, 4)).toBe(0);
      device.setDmaMask(32);
      expect(device.port.read(address, new Uint8Array(4), 0, 4)).toBe(4);
    });
  });

  it('refuses what the direction of the mapping does not allow', () => {
    const b = bench();
    const device = b.device('dev', { iommu: true });
    const sgt = b.scattered(1);
    dmaMapSgtable(device, sgt, 'to-device');
    expect(device.port.write(sgt.dmaAddress(0), pattern(4), 0, 4)).toBe(0);
    expect(device.port.faults.map(({ reason, access }) => [reason, access])).toEqual([['permission', 'write']]);
    expect(device.port.read(sgt.dmaAddress(0), new Uint8Array(4), 0, 4)).toBe(4);
    dmaUnmapSgtable(device, sgt, 'to-device');
  });

  it("tells the IOMMU's fault handler at the instant of the access", () => {
    const b = bench();
    withMapping(b, 1, ({ port, iommuGroup }) => {
      const seen: string[] = [];
      if (iommuGroup?.domain) {
        iommuGroup.domain.faultHandler = ({ device, access, reason }) => {
          seen.push(`${device} ${access} ${reason} at ${b.sim.now}`);
          return undefined;
        };
      }
      b.sim.run(function* () {
        yield* b.sim.delay(70);
        port.read(dmaAddr(4096), null, 0, 1);
      });
      expect(seen).toEqual(['dev read unmapped at 70']);
    });
  });

  it('keeps the newest 64 faults and counts all', () => {
    const { port } = bench().device('dev', { iommu: true });
    for (let i = 1; i <= 70; i++) port.read(dmaAddr(i * PAGE_SIZE), null, 0, 1);
    expect([port.faultCount, port.faults.length, port.faults[0]?.address]).toEqual([70, 64, 7 * PAGE_SIZE]);
  });

  it('faults where no memory answers, after the bytes before it', () => {
    const b = bench();
    const { port } = b.device('dev');
    const end = 0x4000_0000 + 64 * 1024 * 1024;
    expect(port.write(dmaAddr(end - 100), pattern(300), 0, 300)).toBe(100);
    expect(port.read(dmaAddr(0x100), null, 0, 8)).toBe(0);
    expect(port.faults.map(({ address, length, reason }) => [address, length, reason])).toEqual([
      [end, 200, 'no-memory'],
      [0x100, 8, 'no-memory'],
    ]);
  });

  it('faults beyond the mask of a device without an IOMMU (U-13: the DMA API was by-passed)', () => {
    const { port } = bench({ ramBytes: 8 * GIB }).device('blitter');
    expect(port.write(dmaAddr(4 * GIB - 8), pattern(16), 0, 16)).toBe(8);
    expect(port.faults.map(({ address, reason }) => [address, reason])).toEqual([[4 * GIB, 'address-size']]);
  });

  it('faults on a page of a remap window that leads nowhere', () => {
    const b = bench();
    const [page] = b.scatteredPages(1);
    const resolve = (offset: number) => (offset === 0 ? page : undefined);
    b.machine.memory.addRegion({
      kind: 'window',
      name: 'tiler',
      base: physAddr(0x2000_0000),
      bytes: 2 * PAGE_SIZE,
      resolve,
    });
    const { port } = b.device('dev');
    expect(port.write(dmaAddr(0x2000_0010), pattern(PAGE_SIZE), 0, PAGE_SIZE)).toBe(PAGE_SIZE - 16);
    const out = new Uint8Array(PAGE_SIZE);
    expect(port.peek(dmaAddr(0x2000_0000), out, 0, PAGE_SIZE)).toBe(PAGE_SIZE);
    expect(out.slice(16)).toEqual(pattern(PAGE_SIZE).slice(0, -16));
    expect(port.peek(dmaAddr(0x2000_1000), out, 0, 1)).toBe(0);
  });

  it.each([
    [-1, 4],
    [0, 9],
    [5, 4],
    [0.5, 4],
    [0, -1],
    [0, 1.5],
    [0, Number.NaN],
  ])('refuses offset %s and length %s of an array of 8 before anything happens', (offset, length) => {
    const b = bench();
    const { port } = b.device('dev');
    const [page = physAddr(0)] = b.scatteredPages(1);
    for (const act of ['read', 'write', 'peek'] as const) {
      expect(() => port[act](dmaAddr(page), new Uint8Array(8), offset, length)).toThrow(invariant(`port.${act}: `));
    }
    expect(port.faultCount).toBe(0);
  });

  it('does nothing for a length of 0', () => {
    const { port } = bench().device('dev', { iommu: true });
    expect([
      port.read(dmaAddr(0), null, 0, 0),
      port.write(dmaAddr(0), new Uint8Array(), 0, 0),
      port.faultCount,
    ]).toEqual([0, 0, 0]);
  });

  it('charges an IOTLB hit for each page and a walk of four reads for each that is new', () => {
    const b = bench();
    withMapping(b, 3, ({ port }, sgt) => {
      const cost = (): number => {
        const start = b.sim.now;
        b.sim.run(() => port.read(sgt.dmaAddress(0), null, 0, 3 * PAGE_SIZE));
        return b.sim.now - start;
      };
      expect(cost()).toBe(3 * (3 + 4 * 90));
      expect(cost()).toBe(3 * 3);
    });
  });

  it('works with no bytes in tag mode, and still finds stale lines', () => {
    const b = bench({ bytes: false, hazards: 'record' });
    withMapping(b, 2, ({ port }, sgt) => {
      b.machine.coherency.cpuWrite(sgt.physAddress(1), null, 0, 64, 'cached', APP);
      expect(port.read(sgt.dmaAddress(0), null, 0, 2 * PAGE_SIZE)).toBe(2 * PAGE_SIZE);
      expect(b.sim.hazards.map(({ hazard }) => hazard)).toEqual(['device-read.stale']);
      expect(port.write(sgt.dmaAddress(0), null, 0, 2 * PAGE_SIZE)).toBe(2 * PAGE_SIZE);
      expect(b.machine.memory.allocatedBytes).toBe(0);
    });
    b.sim.hazards.length = 0;
  });

  it('needs bytes to write where memory holds bytes', () => {
    const b = bench();
    withMapping(b, 1, ({ port }, sgt) => {
      expect(() => port.write(sgt.dmaAddress(0), null, 0, 4)).toThrow(invariant('src is null'));
    });
  });
});

describe('DmaPort and the CPU caches', () => {
  const write = (b: Bench, sgt: SgTable, extent: number, value: number): void =>
    b.machine.coherency.cpuWrite(sgt.physAddress(extent), new Uint8Array(64).fill(value), 0, 64, 'cached', APP);

  it('gives a device that snoops the dirty lines, and one that does not what memory has', () => {
    const b = bench({ hazards: 'record' });
    const [nic, cam] = [b.device('nic', { coherent: true }), b.device('cam')];
    const sgt = b.scattered(1);
    write(b, sgt, 0, 9);
    const out = new Uint8Array(64);
    nic.port.read(dmaAddr(sgt.physAddress(0)), out, 0, 64);
    expect([out[0], b.sim.hazards.length]).toEqual([9, 0]);
    cam.port.read(dmaAddr(sgt.physAddress(0)), out, 0, 64);
    expect(out[0]).toBe(0);
    expect(b.sim.hazards).toMatchObject([
      { hazard: 'device-read.stale', staleBytes: 64, reader: { who: 'cam' }, remedy: 'end()' },
    ]);
  });

  it('reports one stale read for all extents of an access, after all of it is done', () => {
    const b = bench({ hazards: 'throw', dmaDebug: false });
    withMapping(b, 3, ({ port }, sgt) => {
      for (const extent of [0, 1]) write(b, sgt, extent, 9);
      b.machine.memory.fill(sgt.physAddress(2), 64, 5);
      const out = new Uint8Array(3 * PAGE_SIZE);
      expect(() => port.read(sgt.dmaAddress(0), out, 0, out.length)).toThrow(
        'dev reads 2 stale lines (128 wrong bytes)',
      );
      expect([b.sim.hazards.length, out[2 * PAGE_SIZE]]).toEqual([1, 5]);
      dmaUnmapSgtable(b.machine.devices[0] ?? expect.fail('no device'), sgt, 'to-device');
      dmaMapSgtable(b.machine.devices[0] ?? expect.fail('no device'), sgt, 'bidirectional');
    });
  });

  it('peeks what a device would read, without a trace of it', () => {
    const b = bench({ hazards: 'throw' });
    const [nic, cam] = [b.device('nic', { coherent: true }), b.device('cam')];
    const sgt = b.scattered(1);
    const phys = sgt.physAddress(0);
    write(b, sgt, 0, 9);
    const { cache } = b.machine.coherency;
    const counters = { ...cache.counters };
    const look = (device: Device): number => {
      const out = new Uint8Array(80);
      expect(device.port.peek(dmaAddr(phys + 60), out, 0, 80)).toBe(80);
      return out.filter((byte) => byte === 9).length;
    };
    expect([look(nic), look(cam)]).toEqual([4, 0]);
    expect({ ...cache.counters }).toEqual(counters);
    expect([b.sim.hazards.length, nic.port.faultCount]).toEqual([0, 0]);
    b.machine.coherency.clean(phys, 64);
    expect(look(cam)).toBe(4);
  });

  it('peeks by the page table: nothing is filled, charged or recorded', () => {
    const b = bench();
    withMapping(b, 2, ({ port }, sgt) => {
      port.write(sgt.dmaAddress(0), pattern(PAGE_SIZE + 5), 0, PAGE_SIZE + 5);
      const { iotlb } = b.machine.iommu ?? expect.fail('no IOMMU');
      const before = [iotlb.size, iotlb.hits, iotlb.misses];
      const out = new Uint8Array(3 * PAGE_SIZE);
      expect(b.sim.run(() => port.peek(sgt.dmaAddress(0), out, 0, out.length))).toBe(2 * PAGE_SIZE);
      expect(out.slice(0, PAGE_SIZE + 5)).toEqual(pattern(PAGE_SIZE + 5));
      expect([iotlb.size, iotlb.hits, iotlb.misses]).toEqual(before);
      expect([port.faultCount, b.machine.iommu?.faults.pending.length, b.sim.now]).toEqual([0, 0, 0]);
    });
  });

  it("takes no error of memory out to the device's model", () => {
    const { port } = bench().device('dev');
    expect(() => port.read(dmaAddr(0), new Uint8Array(4), 0, 4)).not.toThrow(errno('EFAULT'));
  });
});
