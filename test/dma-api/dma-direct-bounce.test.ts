import { describe, expect, it } from 'vitest';
import { type DmaAddr, dmaAddr, PAGE_SIZE, physAddr } from '../../src/base/addr.ts';
import { GIB, KIB, MIB } from '../../src/base/units.ts';
import type { Device } from '../../src/dma-api/device.ts';
import { dmaMapSgtable, dmaSyncSgtableForDevice, dmaUnmapSgtable } from '../../src/dma-api/dma-map.ts';
import { dmaNeedSync } from '../../src/dma-api/dma-query.ts';
import {
  dmaMapPage,
  dmaMappingError,
  dmaMapResource,
  dmaSyncSingleForCpu,
  dmaSyncSingleForDevice,
  dmaUnmapPage,
} from '../../src/dma-api/dma-single.ts';
import { SgTable } from '../../src/dma-api/sg-table.ts';
import { errno } from '../bench.ts';
import { DirectMachine, HIGH } from './direct-machine.ts';

/** What the device reads. */
function deviceReads(device: Device, address: DmaAddr, length: number): Uint8Array {
  const out = new Uint8Array(length);
  expect(device.port.read(address, out, 0, length)).toBe(length);
  return out;
}

function deviceWrites(device: Device, address: DmaAddr, length: number, value: number): void {
  expect(device.port.write(address, new Uint8Array(length).fill(value), 0, length)).toBe(length);
}

/** The message of the error that mapping `extents` throws. */
function refusal(device: Device, sgt: SgTable): string {
  try {
    dmaMapSgtable(device, sgt, 'to-device');
  } catch (error) {
    expect(error).toEqual(errno('EIO'));
    return String(error);
  }
  throw new Error('it was mapped');
}

const highPage = () => new SgTable([{ phys: HIGH, length: PAGE_SIZE }]);

describe('a mapping without an IOMMU', () => {
  it('goes through the pool only where its memory is out of reach (E-01)', () => {
    const m = new DirectMachine();
    const device = m.device({ dmaMaskBits: 32 });
    const sgt = new SgTable([
      { phys: physAddr(MIB), length: 100 },
      { phys: physAddr(HIGH + 100), length: 100 },
      { phys: physAddr(2 * MIB), length: 100 },
    ]);
    dmaMapSgtable(device, sgt, 'bidirectional');
    expect(sgt.segments()).toEqual([
      { address: MIB, length: 100 },
      { address: m.swiotlb?.base, length: 100 },
      { address: 2 * MIB, length: 100 },
    ]);
    expect([0, 1, 2].map((i) => dmaNeedSync(device, sgt.dmaAddress(i)))).toEqual([false, true, false]);
    dmaUnmapSgtable(device, sgt, 'bidirectional');
    expect(m.swiotlb?.usedSlots).toBe(0);
  });

  it.each([
    ['its bus carries no address so far up', { dmaMaskBits: 64, busDmaLimit: 2 ** 32 - 1 }],
    [
      'its bus has no window on it',
      {
        dmaMaskBits: 64,
        dmaRanges: [{ cpuStart: physAddr(0), dmaStart: dmaAddr(GIB), sizeBytes: 64 * MIB }],
      },
    ],
  ])('bounces where %s', (_why, options) => {
    const m = new DirectMachine();
    const device = m.device(options);
    m.cpuWrites(HIGH, 64, 0x11);
    const address = dmaMapPage(device, HIGH, 64, 'to-device');
    const shift = (device.dmaRanges[0]?.dmaStart ?? 0) - (device.dmaRanges[0]?.cpuStart ?? 0);
    expect(address - shift).toBe(m.swiotlb?.base);
    expect(deviceReads(device, address, 64)[0]).toBe(0x11);
    dmaUnmapPage(device, address, 64, 'to-device');
  });

  it('always bounces where the pool is forced, but resources never do', () => {
    const m = new DirectMachine({ swiotlb: { force: 'force' } });
    const device = m.device({ dmaMaskBits: 64 });
    const address = dmaMapPage(device, physAddr(MIB), 64, 'to-device');
    expect(m.swiotlb?.isBounce(address)).toBe(true);
    dmaUnmapPage(device, address, 64, 'to-device');
    expect(dmaMapResource(device, physAddr(8 * GIB), 64, 'to-device')).toBe(8 * GIB);
    const short = m.device({ dmaMaskBits: 32 });
    expect(dmaMappingError(short, dmaMapResource(short, physAddr(8 * GIB), 64, 'to-device'))).toBe(true);
  });

  it.each([true, false])('hands data over and back through its copy (device snoops: %s)', (coherent) => {
    const m = new DirectMachine({ policy: 'record' });
    const device = m.device({ coherent });
    m.cpuWrites(HIGH, 256, 1);
    const address = dmaMapPage(device, HIGH, 256, 'bidirectional');
    const seen = [deviceReads(device, address, 256)[0]];
    m.cpuWrites(HIGH, 256, 2);
    seen.push(deviceReads(device, address, 256)[0]);
    dmaSyncSingleForDevice(device, address, 256, 'bidirectional');
    seen.push(deviceReads(device, address, 256)[0]);
    deviceWrites(device, address, 128, 3);
    dmaSyncSingleForCpu(device, address, 256, 'bidirectional');
    seen.push(...m.cpuReads(physAddr(HIGH + 127), 2));
    deviceWrites(device, address, 256, 4);
    dmaUnmapPage(device, address, 256, 'bidirectional');
    seen.push(m.cpuReads(HIGH, 256)[255]);
    expect(seen).toEqual([1, 1, 2, 3, 2, 4]);
    expect(m.sim.hazards).toMatchObject([{ hazard: 'device-read.stale', staleBytes: 256, writer: { who: 'app' } }]);
  });

  it('is checked for the caches of its copy without bytes as well', () => {
    const m = new DirectMachine({ bytes: false, policy: 'record' });
    const device = m.device({ coherent: false });
    m.cpuWrites(HIGH, 64, 1);
    const sgt = highPage();
    dmaMapSgtable(device, sgt, 'to-device', { skipCpuSync: true });
    device.port.read(sgt.dmaAddress(0), null, 0, 64);
    expect(m.sim.hazards.splice(0).map(({ hazard }) => hazard)).toEqual(['device-read.stale']);
    dmaSyncSgtableForDevice(device, sgt, 'to-device');
    device.port.read(sgt.dmaAddress(0), null, 0, 64);
    dmaUnmapSgtable(device, sgt, 'to-device');
    expect(m.sim.hazards).toEqual([]);
  });

  it('keeps the original when it ends with the CPU sync skipped', () => {
    const m = new DirectMachine({ policy: 'record' });
    const device = m.device();
    const address = dmaMapPage(device, HIGH, 64, 'from-device');
    deviceWrites(device, address, 64, 9);
    dmaUnmapPage(device, address, 64, 'from-device', { skipCpuSync: true });
    expect([m.cpuReads(HIGH, 1)[0], m.swiotlb?.usedSlots]).toEqual([0, 0]);
    expect(m.sim.hazards).toMatchObject([{ hazard: 'cpu-read.stale', newestIn: 'lost', writer: { who: 'dev0' } }]);
  });
});

describe('a mapping that can not bounce', () => {
  it('fails with EIO, and the text tells a full pool from a mapping above the limit (E-02, U-05, U-07)', () => {
    const m = new DirectMachine();
    const device = m.device();
    const long = refusal(device, new SgTable([{ phys: HIGH, length: 257 * KIB }]));
    expect(long).toMatch(
      /extent 0 can not be bounced: 263168 bytes for dev0 exceed .* 262144 bytes, in a pool of any size/,
    );
    const whole = new SgTable([
      { phys: HIGH, length: 256 * KIB },
      { phys: physAddr(HIGH + MIB), length: 256 * KIB },
    ]);
    dmaMapSgtable(device, whole, 'to-device');
    expect(refusal(device, highPage())).toMatch(/swiotlb is full: .* 2 of 256 slots are needed, 256 are in use/);
    dmaUnmapSgtable(device, whole, 'to-device');
    const page = highPage();
    dmaMapSgtable(device, page, 'to-device');
    dmaUnmapSgtable(device, page, 'to-device');
  });

  it('is mapped whole or not at all', () => {
    const m = new DirectMachine();
    const device = m.device();
    const sgt = new SgTable([0, 1, 2].map((i) => ({ phys: physAddr(HIGH + i * MIB), length: 200 * KIB })));
    expect(refusal(device, sgt)).toContain('extent 2');
    expect([sgt.nents, m.swiotlb?.usedSlots]).toEqual([0, 0]);
  });

  it('leaves no slot taken when copying finds a hazard', () => {
    const m = new DirectMachine();
    const [camera, device] = [m.device({ dmaMaskBits: 64, coherent: false }), m.device({ dmaMaskBits: 32 })];
    m.cpuReads(HIGH, 64);
    deviceWrites(camera, dmaAddr(HIGH), 64, 9);
    const sgt = highPage();
    expect(() => dmaMapSgtable(device, sgt, 'to-device')).toThrow('cpu-read.stale');
    expect(() => dmaMapPage(device, HIGH, 64, 'to-device')).toThrow('cpu-read.stale');
    expect([sgt.nents, m.swiotlb?.usedSlots]).toEqual([0, 0]);
  });

  it('leaves no slot taken when cleaning the copy finds a hazard', () => {
    const m = new DirectMachine();
    const [rogue, device] = [m.device({ dmaMaskBits: 64, coherent: false }), m.device({ coherent: false })];
    const { base } = m.swiotlb ?? { base: physAddr(0) };
    const mapping = (): unknown => dmaMapPage(device, HIGH, 32, 'to-device');
    m.cpuReads(base, 64);
    deviceWrites(rogue, dmaAddr(base + 32), 32, 9);
    expect(mapping).toThrow('device-write.lost');
    expect(m.swiotlb?.usedSlots).toBe(0);
  });

  it('says so when there is no pool, and when the device refuses bouncing; nothing is copied (E-04, U-04)', () => {
    const none = new DirectMachine({ swiotlb: null });
    expect(refusal(none.device(), highPage())).toContain('beyond the 32-bit mask of dev0; allocate it lower');
    const off = new DirectMachine({ swiotlb: { force: 'noforce' } });
    expect(refusal(off.device({ busDmaLimit: 0xffffff }), highPage())).toContain('or the limit 0xffffff of its bus');
    const m = new DirectMachine();
    expect(refusal(m.device({ refuseBounce: true }), highPage())).toContain('dev0 refuses bouncing');
    expect(m.swiotlb?.bytesCopied).toBe(0);
  });

  it('says so when the pool is out of reach, too, and gives its slots back', () => {
    const m = new DirectMachine();
    const device = m.device({ dmaMaskBits: 24 });
    expect(refusal(device, highPage())).toContain('has a bounce buffer that ends at');
    expect(dmaMappingError(device, dmaMapPage(device, HIGH, 64, 'to-device'))).toBe(true);
    expect(m.swiotlb?.usedSlots).toBe(0);
  });

  it('because it is a BAR is refused, not copied (BG-60)', () => {
    for (const force of ['auto', 'force'] as const) {
      const m = new DirectMachine({ swiotlb: { force } });
      const sgt = new SgTable([{ phys: physAddr(8 * GIB), length: 64 }]);
      expect(refusal(m.device(), sgt)).toContain('has no pages, so it can not be bounced');
      expect(m.swiotlb?.bytesCopied).toBe(0);
    }
  });
});

describe('dmaNeedSync', () => {
  it('is true for every mapping of a device that does not snoop, and for a bounced one of a device that does (V10)', () => {
    const m = new DirectMachine();
    const asked = [true, false].map((coherent) => {
      const device = m.device({ coherent });
      return [physAddr(MIB), HIGH].map((phys) => {
        const address = dmaMapPage(device, phys, 64, 'to-device');
        const need = dmaNeedSync(device, address);
        dmaUnmapPage(device, address, 64, 'to-device');
        return need;
      });
    });
    expect(asked).toEqual([
      [false, true],
      [true, true],
    ]);
  });
});
