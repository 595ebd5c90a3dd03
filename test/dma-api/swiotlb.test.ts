import { describe, expect, it } from 'vitest';
import { type PhysAddr, physAddr } from '../../src/base/addr.ts';
import { HazardError } from '../../src/base/errors.ts';
import { KIB, MIB } from '../../src/base/units.ts';
import { type BounceRequest, type BouncingDevice, Swiotlb, type SwiotlbOptions } from '../../src/dma-api/swiotlb.ts';
import type { TraceEvent } from '../../src/trace/trace-events.ts';
import { at, bytesOf, kernel, Machine, type MachineOptions, nic } from '../cache/machine.ts';

const SLOT = 2 * KIB;
const cam0: BouncingDevice = { name: 'cam0', minAlignMask: 0, segBoundaryBytes: 2 ** 32, dmaRanges: [] };

interface Bench {
  readonly machine: Machine;
  readonly pool: Swiotlb;
  /** Takes slots for `request`; a failure ends the test. */
  map(request: BounceRequest, dir?: Dir, dev?: BouncingDevice): PhysAddr;
  /** Bytes as a CPU sees them. */
  bytesAt(phys: PhysAddr, length: number): Uint8Array;
}
type Dir = 'to-device' | 'from-device' | 'bidirectional';

function bench(options: Partial<SwiotlbOptions> = {}, machineOptions: MachineOptions = {}): Bench {
  const machine = new Machine({ ramBytes: 4 * MIB, ...machineOptions });
  const pool = new Swiotlb(machine.sim, { coherency: machine.domain, slots: 256, ...options });
  return {
    machine,
    pool,
    map(request, dir = 'bidirectional', dev = cam0) {
      const tlb = pool.tblMapSingle(dev, request, dir);
      if (tlb === null) throw new Error(pool.lastFailure?.text);
      return tlb;
    },
    bytesAt(phys, length) {
      const out = new Uint8Array(length);
      machine.domain.peek(phys, out, 0, length, 'cached');
      return out;
    },
  };
}

function cpuWrites({ machine }: Bench, phys: PhysAddr, length: number, value: number): void {
  machine.domain.cpuWrite(phys, bytesOf(length, value), 0, length, 'cached', kernel);
}

describe('a bounced mapping', () => {
  it.each(['to-device', 'from-device', 'bidirectional'] as const)('begins as a copy of the original (%s)', (dir) => {
    const b = bench();
    cpuWrites(b, at(0x877), 3000, 0x5a);
    const tlb = b.map({ phys: at(0x877), mappingBytes: 3000 }, dir);
    expect(b.bytesAt(tlb, 3000)).toEqual(bytesOf(3000, 0x5a));
  });

  it('shows the device the bytes of map time until it is synced', () => {
    const b = bench();
    cpuWrites(b, at(0), 64, 1);
    const tlb = b.map({ phys: at(0), mappingBytes: 64 });
    cpuWrites(b, at(0), 64, 2);
    const before = b.bytesAt(tlb, 64)[0];
    b.pool.syncForDevice(cam0, tlb, 64, 'bidirectional');
    expect([before, b.bytesAt(tlb, 64)[0]]).toEqual([1, 2]);
  });

  it('brings back what the device wrote, and its own old bytes where the device wrote nothing', () => {
    const b = bench();
    cpuWrites(b, at(0), 4096, 7);
    const tlb = b.map({ phys: at(0), mappingBytes: 4096 }, 'from-device');
    b.machine.devicePuts(tlb, 36, 9, nic);
    b.pool.tblUnmapSingle(cam0, tlb, 4096, 'from-device');
    expect(b.bytesAt(at(0), 4096)).toEqual(Uint8Array.from({ length: 4096 }, (_, i) => (i < 36 ? 9 : 7)));
  });

  it('keeps what the device wrote when a from-device mapping is synced for the device', () => {
    const b = bench();
    const tlb = b.map({ phys: at(0), mappingBytes: 64 }, 'from-device');
    b.machine.devicePuts(tlb, 64, 9, nic);
    b.pool.syncForDevice(cam0, tlb, 64, 'from-device');
    b.pool.syncForCpu(cam0, tlb, 64, 'from-device');
    expect(b.bytesAt(at(0), 64)).toEqual(bytesOf(64, 9));
  });

  it('brings nothing back from a device that only reads, nor when the CPU sync is skipped', () => {
    const b = bench();
    const [read, skipped] = [
      b.map({ phys: at(0), mappingBytes: 64 }, 'to-device'),
      b.map({ phys: at(64), mappingBytes: 64 }),
    ];
    b.machine.devicePuts(read, 64, 9, nic);
    b.machine.devicePuts(skipped, 64, 9, nic);
    b.pool.syncForCpu(cam0, read, 64, 'to-device');
    b.pool.tblUnmapSingle(cam0, read, 64, 'to-device');
    b.pool.tblUnmapSingle(cam0, skipped, 64, 'bidirectional', { skipCpuSync: true });
    expect([b.bytesAt(at(0), 128), b.pool.usedSlots]).toEqual([bytesOf(128, 0), 0]);
  });

  it('charges for the copy and counts its bytes', () => {
    const costs = { hitLineNs: 1, missLineNs: 10, cleanLineNs: 0, invalidateLineNs: 0 };
    const more = { barrierNs: 0, wcLineNs: 0, uncachedAccessNs: 0, uncachedAccessBytes: 8 };
    const b = bench({}, { costs: { ...costs, ...more } });
    b.machine.sim.run(function* () {
      b.map({ phys: at(0), mappingBytes: 128 });
      yield* b.machine.sim.delay(0);
    });
    expect([b.machine.sim.now, b.pool.bytesCopied]).toEqual([40, 128]);
  });

  it('is found stale when a device that does not snoop reads it before the copy was cleaned, also without bytes', () => {
    const b = bench({}, { bytes: false });
    cpuWrites(b, at(0), 64, 1);
    const tlb = b.map({ phys: at(0), mappingBytes: 64 }, 'to-device');
    b.machine.deviceGets(tlb, 64);
    const clean = b.map({ phys: at(64), mappingBytes: 64 }, 'to-device');
    b.machine.domain.clean(clean, 64);
    b.machine.deviceGets(clean, 64);
    const stale = b.machine.takeStale();
    expect([stale.hazard, stale.writer.via, stale.remedy]).toEqual([
      'device-read.stale',
      'swiotlb copy',
      expect.stringContaining('dmaSyncSgtableForDevice'),
    ]);
  });
});

describe('the trace of bounced mappings', () => {
  it('tells what was copied where, for whom', () => {
    const b = bench();
    const events: TraceEvent[] = [];
    b.machine.sim.trace.on('swiotlb.bounced', (event) => {
      events.push(event);
      return undefined;
    });
    const tlb = b.map({ phys: at(0x40), mappingBytes: 100 });
    expect(events).toEqual([{ kind: 'swiotlb.bounced', timeNs: 0, device: 'cam0', phys: at(0x40), tlb, bytes: 100 }]);
  });
});

describe('the place of a copy', () => {
  it('keeps of the original only the address bits that the device asks to keep', () => {
    const b = bench();
    const kept = [0, 0x1ff, 0x7ff, 0xfff].map((minAlignMask) => {
      const tlb = b.map({ phys: at(0x1877), mappingBytes: 16 }, 'to-device', { ...cam0, minAlignMask });
      return tlb % 4096;
    });
    expect(kept).toEqual([0, 0x77 + 0x800, 0x77, 0x877]);
  });

  it('costs slots when the device keeps bits above a slot: 16 mappings of 512 bytes fill 512 slots', () => {
    const b = bench({ slots: 512 });
    const dev = { ...cam0, minAlignMask: 0xffff };
    let count = 0;
    while (b.pool.tblMapSingle(dev, { phys: at(0), mappingBytes: 512 }, 'to-device') !== null) count++;
    expect([count, b.pool.usedSlots, b.pool.lastFailure?.reason]).toEqual([16, 16, 'fragmented']);
  });

  it('crosses no segment boundary of the device', () => {
    const b = bench();
    const dev = { ...cam0, segBoundaryBytes: 8 * KIB };
    b.map({ phys: at(0), mappingBytes: SLOT });
    const tlb = b.map({ phys: at(0), mappingBytes: 4 * SLOT }, 'to-device', dev);
    expect([tlb % (8 * KIB), b.pool.tblMapSingle(dev, { phys: at(0), mappingBytes: 5 * SLOT }, 'to-device')]).toEqual([
      0,
      null,
    ]);
    expect(b.pool.lastFailure?.reason).toBe('too-large');
  });

  it('begins on the alignment that the caller asks for', () => {
    const b = bench({ base: at(0) });
    b.map({ phys: at(MIB), mappingBytes: 16 });
    const tlb = b.map({ phys: at(MIB), mappingBytes: 16, allocBytes: 16 * KIB, allocAlignMask: 0x3fff });
    expect(tlb).toBe(at(16 * KIB));
  });

  it('comes from the area of the running CPU first, and from the others when that is full', () => {
    let cpu = 1;
    const b = bench({ base: at(0), areas: 2, currentCpu: () => cpu });
    const places = [256 * KIB, 1, 1].map((mappingBytes) => b.map({ phys: at(MIB), mappingBytes }) - at(0));
    cpu = 0;
    places.push(b.map({ phys: at(MIB), mappingBytes: 1 }) - at(0));
    expect(places).toEqual([256 * KIB, 0, SLOT, 2 * SLOT]);
  });
});

describe('a mapping that gets no slots', () => {
  it('above 256 KiB fails in any pool, and says so though the pool is empty', () => {
    const b = bench({ slots: 1024 });
    const dev = { ...cam0, minAlignMask: 0xfff };
    expect(b.pool.tblMapSingle(dev, { phys: at(0), mappingBytes: 256 * KIB }, 'to-device')).not.toBeNull();
    expect(b.pool.tblMapSingle(cam0, { phys: at(1), mappingBytes: 256 * KIB }, 'to-device')).not.toBeNull();
    expect(b.pool.tblMapSingle(dev, { phys: at(1), mappingBytes: 256 * KIB }, 'to-device')).toBeNull();
    expect(b.pool.lastFailure).toMatchObject({ reason: 'too-large', device: 'cam0', sizeBytes: 256 * KIB });
    expect(b.pool.lastFailure?.text).toContain('in a pool of any size');
    expect(b.pool.tblMapSingle(cam0, { phys: at(0), mappingBytes: 256 * KIB + 1 }, 'to-device')).toBeNull();
    expect(b.pool.lastFailure?.reason).toBe('too-large');
    expect([0, 0x1ff, 0x7ff, 0xfff, 0xffff].map((mask) => b.pool.maxMappingBytes(mask) / KIB)).toEqual([
      256, 254, 254, 252, 192,
    ]);
  });

  it('for want of slots says that the pool is full, and is served after an unmap', () => {
    const b = bench({ slots: 128 });
    const whole = b.map({ phys: at(0), mappingBytes: 256 * KIB }, 'to-device');
    expect(b.pool.tblMapSingle(cam0, { phys: at(0), mappingBytes: 1 }, 'to-device')).toBeNull();
    expect(b.pool.lastFailure?.reason).toBe('full');
    expect(b.pool.lastFailure?.text).toMatch(/full.*1 of 128 slots are needed, 128 are in use/);
    b.pool.tblUnmapSingle(cam0, whole, 256 * KIB, 'to-device');
    expect(b.map({ phys: at(0), mappingBytes: 1 })).toBe(b.pool.base);
    expect(b.pool.highWaterSlots).toBe(128);
  });

  it('for want of a run says that no run fits', () => {
    const b = bench({ slots: 128 });
    const places = Array.from({ length: 128 }, () => b.map({ phys: at(0), mappingBytes: 1 }, 'to-device'));
    for (let i = 0; i < 128; i += 2) b.pool.tblUnmapSingle(cam0, places[i] as PhysAddr, 1, 'to-device');
    expect(b.pool.tblMapSingle(cam0, { phys: at(0), mappingBytes: SLOT + 1 }, 'to-device')).toBeNull();
    expect([b.pool.lastFailure?.reason, b.pool.usedSlots]).toEqual(['fragmented', 64]);
  });

  it('is a hazard where Linux would search for ever', () => {
    const dev = { ...cam0, minAlignMask: 0xffff };
    const request = { phys: at(0x800), mappingBytes: 512 };
    const fill = (b: Bench) => {
      for (let i = 0; i < 2; i++) b.map({ phys: at(0), mappingBytes: 256 * KIB });
      b.pool.tblUnmapSingle(cam0, b.pool.base, 256 * KIB, 'to-device');
      for (let i = 0; i < 4; i++) b.map(request, 'to-device', dev);
    };
    const records = bench();
    fill(records);
    expect(records.pool.tblMapSingle(dev, request, 'to-device')).toBeNull();
    expect(records.machine.takeHazards()).toEqual([
      {
        hazard: 'swiotlb.endless-search',
        device: 'cam0',
        phys: at(0x800),
        sizeBytes: 512,
        minAlignMask: 0xffff,
        timeNs: 0,
        remedy: expect.stringContaining('minAlignMask'),
      },
    ]);
    const throws = bench({}, { policy: 'throw' });
    fill(throws);
    const mapping = (): unknown => throws.pool.tblMapSingle(dev, request, 'to-device');
    expect(mapping).toThrow(HazardError);
    expect(mapping).toThrow('no slots fit 512 bytes at 0x80000800 with minAlignMask 0xffff');
    expect(throws.pool.usedSlots).toBe(records.pool.usedSlots);
  });

  it('because the original lies outside memory leaves no slot taken', () => {
    const b = bench();
    expect(() => b.map({ phys: physAddr(0x1000), mappingBytes: 16 })).toThrow('EFAULT');
    expect(b.pool.usedSlots).toBe(0);
  });
});

describe('a sync of a part', () => {
  it('past the end warns and stops at the end', () => {
    const b = bench();
    const tlb = b.map({ phys: at(0), mappingBytes: 100 });
    cpuWrites(b, at(0), 200, 3);
    b.pool.syncForDevice(cam0, physAddr(tlb + 40), 100, 'bidirectional');
    expect(b.bytesAt(tlb, 200)).toEqual(Uint8Array.from({ length: 200 }, (_, i) => (i >= 40 && i < 100 ? 3 : 0)));
    expect(b.pool.warnings).toBe(1);
  });

  it('in a later slot, at less than the offset of the original in its slot, warns and copies nothing', () => {
    const b = bench();
    const dev = { ...cam0, minAlignMask: 0x7ff };
    const tlb = b.map({ phys: at(0x500), mappingBytes: 4096 }, 'bidirectional', dev);
    cpuWrites(b, at(0x500), 4096, 3);
    b.pool.syncForDevice(dev, physAddr(tlb + 0x400), 8, 'bidirectional');
    b.pool.syncForDevice(dev, physAddr(tlb + 0x800), 8, 'bidirectional');
    expect([b.bytesAt(tlb, 4096).indexOf(3), b.pool.warnings]).toEqual([0x800, 1]);
  });

  it('of an address that no mapping has does nothing', () => {
    const b = bench();
    b.pool.syncForCpu(cam0, b.pool.base, 8, 'bidirectional');
    b.pool.syncForCpu(cam0, at(0), 8, 'bidirectional');
    expect([b.pool.bytesCopied, b.pool.warnings]).toEqual([0, 0]);
  });
});

describe('old bytes of a slot', () => {
  const secret = 0x5e;
  const afterSecret = (options: Partial<SwiotlbOptions>) => {
    const b = bench({ slots: 128, ...options });
    cpuWrites(b, at(0), 256 * KIB, secret);
    b.pool.tblUnmapSingle(cam0, b.map({ phys: at(0), mappingBytes: 256 * KIB }, 'to-device'), 256 * KIB, 'to-device');
    return b;
  };

  it('do not reach the original when the device writes less than was mapped', () => {
    const b = afterSecret({});
    const tlb = b.map({ phys: at(MIB), mappingBytes: 4096 }, 'from-device');
    b.machine.devicePuts(tlb, 36, 9, nic);
    b.pool.tblUnmapSingle(cam0, tlb, 4096, 'from-device');
    expect(b.bytesAt(at(MIB), 4096).includes(secret)).toBe(false);
  });

  it('do reach it when slots are filled only for devices that read, as before Linux 5.18', () => {
    const b = afterSecret({ fill: 'when-device-reads' });
    const tlb = b.map({ phys: at(MIB), mappingBytes: 4096 }, 'from-device');
    b.machine.devicePuts(tlb, 36, 9, nic);
    b.pool.tblUnmapSingle(cam0, tlb, 4096, 'from-device');
    expect(b.bytesAt(at(MIB), 4096).filter((byte) => byte === secret)).toHaveLength(4060);
  });

  it('stay around the copy unless padding is cleared', () => {
    const around = [false, true].map((zeroPadding) => {
      const b = afterSecret({ zeroPadding });
      const dev = { ...cam0, minAlignMask: 0x7ff };
      const tlb = b.map({ phys: at(MIB + 100), mappingBytes: 10 }, 'to-device', dev);
      return b.bytesAt(physAddr(tlb - 100), SLOT).filter((byte) => byte === secret).length;
    });
    expect(around).toEqual([SLOT - 10, 0]);
  });
});

describe('a pool', () => {
  it('that is switched off reserves no memory and takes no mapping', () => {
    const b = bench({ force: 'noforce' });
    expect([b.pool.isActive, b.machine.memory.memblock.reserved, b.pool.isBounce(physAddr(0))]).toEqual([
      false,
      [],
      false,
    ]);
    expect(() => b.map({ phys: at(0), mappingBytes: 1 })).toThrow('switched off');
  });

  it('ends below 4 GiB unless told where to lie', () => {
    const machine = new Machine();
    machine.memory.addRegion({ kind: 'ram', name: 'low', base: physAddr(4 * 2 ** 30 - 2 * MIB), bytes: 4 * MIB });
    const pool = new Swiotlb(machine.sim, { coherency: machine.domain, slots: 128 });
    expect(pool.base).toBe(2 ** 32 - 256 * KIB);
  });

  it('refuses the unmap of what is not mapped, and of the middle of a mapping', () => {
    const b = bench();
    const tlb = b.map({ phys: at(0), mappingBytes: 2 * SLOT });
    const unmap = (phys: PhysAddr) => () => b.pool.tblUnmapSingle(cam0, phys, 1, 'to-device');
    expect(unmap(physAddr(tlb + SLOT))).toThrow('no mapping begins');
    expect(unmap(at(0))).toThrow('no mapping begins');
    unmap(tlb)();
    expect(unmap(tlb)).toThrow('no mapping begins');
  });

  it.each([
    ['slots', { slots: 100 }],
    ['slots', { slots: 128, areas: 2 }],
    ['areas', { areas: 3 }],
  ] as const)('refuses %s out of range: %o', (name, options) => {
    expect(() => bench(options)).toThrow(name);
  });
});
