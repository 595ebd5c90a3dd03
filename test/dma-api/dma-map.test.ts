import { describe, expect, it } from 'vitest';
import { PAGE_SIZE, physAddr } from '../../src/base/addr.ts';
import type { Accessor } from '../../src/base/hazards.ts';
import type { DmaDirection } from '../../src/dma-api/direction.ts';
import {
  dmaMapSg,
  dmaMapSgtable,
  dmaSyncSgForCpu,
  dmaSyncSgForDevice,
  dmaSyncSgtableForCpu,
  dmaSyncSgtableForDevice,
  dmaUnmapSg,
  dmaUnmapSgtable,
} from '../../src/dma-api/dma-map.ts';
import { SgTable } from '../../src/dma-api/sg-table.ts';
import { type Bench, bench, errno, invariant, pattern } from '../bench.ts';
import { rangesInUse } from '../iova-use.ts';

const LINES_PER_PAGE = PAGE_SIZE / 64;
const APP: Accessor = { name: 'app', kind: 'cpu', via: 'test', beforeRead: 'begin', afterWrite: 'end' };

/** `clean 128` and so on: each cache maintenance from now on, with its lines. */
function maintenanceOf(b: Bench): string[] {
  const seen: string[] = [];
  b.sim.trace.on('cache.maintain', ({ op, lines }) => {
    seen.push(`${op} ${lines}`);
    return undefined;
  });
  return seen;
}

/** Makes `count` dirty lines at the start of `sgt`. */
function dirty(b: Bench, sgt: SgTable, count: number): void {
  b.machine.coherency.cpuWrite(sgt.physAddress(0), pattern(count * 64), 0, count * 64, 'cached', APP);
}

describe('the cache maintenance of a mapping', () => {
  const perDirection: readonly [DmaDirection, string[]][] = [
    ['to-device', ['clean 64', 'clean 64', '-', '-', 'clean 64', 'clean 64', '-', '-']],
    [
      'from-device',
      [
        'clean 64',
        'clean 64',
        '-',
        'invalidate 64',
        'invalidate 64',
        '-',
        'clean 64',
        'clean 64',
        '-',
        'invalidate 64',
        'invalidate 64',
        '-',
      ],
    ],
    [
      'bidirectional',
      [
        'clean 64',
        'clean 64',
        '-',
        'invalidate 64',
        'invalidate 64',
        '-',
        'clean 64',
        'clean 64',
        '-',
        'invalidate 64',
        'invalidate 64',
        '-',
      ],
    ],
  ];

  it.each(perDirection)(
    'of a device that does not snoop, %s: clean for the device, invalidate for the CPU if it wrote',
    (dir, expected) => {
      const b = bench();
      const device = b.device('cam');
      const sgt = b.scattered(2);
      const seen = maintenanceOf(b);
      dmaMapSgtable(device, sgt, dir);
      seen.push('-');
      dmaSyncSgtableForCpu(device, sgt, dir);
      seen.push('-');
      dmaSyncSgtableForDevice(device, sgt, dir);
      seen.push('-');
      dmaUnmapSgtable(device, sgt, dir);
      seen.push('-');
      expect(seen.join(' ')).toBe(expected.join(' '));
    },
  );

  it.each<DmaDirection>(['to-device', 'from-device', 'bidirectional'])('of a device that snoops, %s: none', (dir) => {
    const b = bench();
    const device = b.device('nic', { coherent: true });
    const sgt = b.scattered(2);
    dmaMapSgtable(device, sgt, dir);
    dmaSyncSgtableForCpu(device, sgt, dir);
    dmaSyncSgtableForDevice(device, sgt, dir);
    dmaUnmapSgtable(device, sgt, dir);
    expect(b.count('cache.maintain')).toBe(0);
    expect(b.count('dma.sync')).toBe(2);
  });

  it('is left out where the caller says so', () => {
    const b = bench();
    const device = b.device('cam');
    const sgt = b.scattered(1);
    dmaMapSgtable(device, sgt, 'bidirectional', { skipCpuSync: true });
    dmaUnmapSgtable(device, sgt, 'bidirectional', { skipCpuSync: true });
    expect(b.count('cache.maintain')).toBe(0);
  });

  it('writes dirty lines back for the device and keeps them, and drops lines for the CPU', () => {
    const b = bench();
    const device = b.device('cam');
    const sgt = b.scattered(1);
    const { cache } = b.machine.coherency;
    dirty(b, sgt, 3);
    dmaMapSgtable(device, sgt, 'bidirectional');
    const line = cache.peekLine(sgt.physAddress(0));
    expect([line?.dirty, line?.bytes]).toEqual([false, pattern(64)]);
    const inMemory = new Uint8Array(192);
    b.machine.memory.read(sgt.physAddress(0), inMemory, 0, 192);
    expect(inMemory).toEqual(pattern(192));
    dmaUnmapSgtable(device, sgt, 'bidirectional');
    expect(cache.peekLine(sgt.physAddress(0))).toBeUndefined();
  });

  it('costs each line of the buffer and a barrier an extent', () => {
    const b = bench({ dmaDebug: false });
    const device = b.device('cam');
    const sgt = b.scattered(2);
    const step = (body: () => void): number => {
      const start = b.sim.now;
      b.sim.run(body);
      return b.sim.now - start;
    };
    const extentNs = LINES_PER_PAGE * 10 + 200;
    expect(step(() => dmaMapSgtable(device, sgt, 'from-device'))).toBe(2 * extentNs);
    expect(step(() => dmaSyncSgtableForCpu(device, sgt, 'to-device'))).toBe(0);
    expect(step(() => dmaSyncSgtableForCpu(device, sgt, 'from-device'))).toBe(2 * extentNs);
    expect(step(() => dmaUnmapSgtable(device, sgt, 'from-device'))).toBe(2 * extentNs);
  });

  it('keeps what lies beside a buffer in its first and last line', () => {
    const b = bench();
    const device = b.device('cam');
    const { coherency } = b.machine;
    const [page = physAddr(0)] = b.scatteredPages(1);
    const sgt = new SgTable([{ phys: physAddr(page + 96), length: 128 }]);
    const before = pattern(96, 5);
    const after = pattern(32, 6);
    dmaMapSgtable(device, sgt, 'from-device');
    coherency.cpuWrite(page, before, 0, 96, 'cached', APP);
    coherency.cpuWrite(physAddr(page + 224), after, 0, 32, 'cached', APP);
    const seen = maintenanceOf(b);
    dmaUnmapSgtable(device, sgt, 'from-device');
    expect(seen).toEqual(['clean-invalidate 1', 'invalidate 1', 'clean-invalidate 1']);
    const now = new Uint8Array(256);
    coherency.peek(page, now, 0, 256, 'cached');
    expect(now.subarray(0, 96)).toEqual(before);
    expect(now.subarray(224)).toEqual(after);
    expect(b.sim.hazards).toEqual([]);
  });

  it.each([
    ['inside one line', 8, 16, ['clean-invalidate 1']],
    ["from a line's start", 64, 70, ['invalidate 1', 'clean-invalidate 1']],
    ["to a line's end", 60, 68, ['clean-invalidate 1', 'invalidate 1']],
    ['over two halves', 32, 64, ['clean-invalidate 1', 'clean-invalidate 1']],
    ['of whole lines', 128, 128, ['invalidate 2']],
  ])('cleans partial lines only, for a buffer %s', (_what, offset, length, expected) => {
    const b = bench();
    const device = b.device('cam');
    const [page = physAddr(0)] = b.scatteredPages(1);
    const sgt = new SgTable([{ phys: physAddr(page + offset), length }]);
    dmaMapSgtable(device, sgt, 'from-device');
    const seen = maintenanceOf(b);
    dmaUnmapSgtable(device, sgt, 'from-device');
    expect(seen).toEqual(expected);
  });
});

describe('a hazard in the cache maintenance', () => {
  it("of an unmap names the CPU's lost lines once for the whole buffer, and the buffer is unmapped", () => {
    const b = bench({ hazards: 'throw' });
    const device = b.device('cam', { iommu: true });
    const sgt = b.scattered(2);
    dmaMapSgtable(device, sgt, 'from-device');
    for (const i of [0, 1]) b.machine.coherency.cpuWrite(sgt.physAddress(i), pattern(128), 0, 128, 'cached', APP);
    expect(() => dmaUnmapSgtable(device, sgt, 'from-device')).toThrow('4 lines that app wrote');
    expect(b.sim.hazards.map(({ hazard }) => hazard)).toEqual(['cpu-write.lost']);
    expect(sgt.nents).toBe(0);
  });

  it('of a mapping leaves nothing mapped', () => {
    const b = bench({ hazards: 'throw' });
    const device = b.device('cam', { iommu: true });
    const sgt = b.scattered(1);
    dirty(b, sgt, 1);
    dmaMapSgtable(device, sgt, 'from-device', { skipCpuSync: true });
    device.port.write(sgt.dmaAddress(0), pattern(64, 9), 0, 64);
    dmaUnmapSgtable(device, sgt, 'from-device', { skipCpuSync: true });
    expect(() => dmaMapSgtable(device, sgt, 'from-device')).toThrow(
      expect.objectContaining({ hazard: 'device-write.lost' }),
    );
    expect(sgt.nents).toBe(0);
  });
});

describe('a table', () => {
  it('is mapped once at a time: a second mapping is refused and the first one stays', () => {
    const b = bench();
    const [cam, gpu] = [b.device('cam', { iommu: true }), b.device('gpu', { iommu: true })];
    const sgt = b.scattered(1);
    dmaMapSgtable(cam, sgt, 'to-device');
    for (const device of [cam, gpu]) {
      expect(() => dmaMapSgtable(device, sgt, 'to-device')).toThrow(invariant('mapped for cam already'));
    }
    expect([sgt.nents, rangesInUse(cam), rangesInUse(gpu)]).toEqual([1, 1, 0]);
    dmaUnmapSgtable(cam, sgt, 'to-device');
  });

  it.each([
    ['dmaUnmapSgtable', dmaUnmapSgtable],
    ['dmaSyncSgtableForCpu', dmaSyncSgtableForCpu],
    ['dmaSyncSgtableForDevice', dmaSyncSgtableForDevice],
  ])('is refused by %s for a device it is not mapped for, and nothing happens', (name, call) => {
    const b = bench({ dmaDebug: false });
    const [cam, gpu] = [b.device('cam'), b.device('gpu')];
    const sgt = b.scattered(1);
    expect(() => call(cam, sgt, 'from-device')).toThrow(
      invariant(`${name}: the table is mapped for nobody, not for cam`),
    );
    dmaMapSgtable(cam, sgt, 'from-device');
    const before = b.count('cache.maintain');
    expect(() => call(gpu, sgt, 'from-device')).toThrow(invariant(`${name}: the table is mapped for cam, not for gpu`));
    expect([b.count('cache.maintain'), sgt.nents]).toEqual([before, 1]);
    dmaUnmapSgtable(cam, sgt, 'from-device');
    expect(() => call(cam, sgt, 'from-device')).toThrow(invariant('mapped for nobody'));
  });

  it.each([
    ['dmaUnmapSgtable', dmaUnmapSgtable, 'dma-debug.free-not-mapped'],
    ['dmaSyncSgtableForCpu', dmaSyncSgtableForCpu, 'dma-debug.sync-not-mapped'],
    ['dmaSyncSgtableForDevice', dmaSyncSgtableForDevice, 'dma-debug.sync-not-mapped'],
  ])('is a hazard of %s for such a device where calls are checked, and nothing happens', (_name, call, hazard) => {
    const b = bench();
    const [cam, gpu] = [b.device('cam'), b.device('gpu')];
    const sgt = b.scattered(1);
    dmaMapSgtable(cam, sgt, 'from-device');
    const before = b.count('cache.maintain');
    expect(() => call(gpu, sgt, 'from-device')).toThrow(expect.objectContaining({ hazard }));
    expect([b.count('cache.maintain'), sgt.nents]).toEqual([before, 1]);
    dmaUnmapSgtable(cam, sgt, 'from-device');
    expect(() => call(cam, sgt, 'from-device')).toThrow(expect.objectContaining({ hazard }));
  });

  it('can be mapped again after the unmap, for another device', () => {
    const b = bench();
    const [cam, gpu] = [b.device('cam'), b.device('gpu', { iommu: true })];
    const sgt = b.scattered(2);
    for (const device of [cam, gpu, cam]) {
      dmaMapSgtable(device, sgt, 'bidirectional');
      expect(sgt.nents).toBe(device === cam ? 2 : 1);
      dmaUnmapSgtable(device, sgt, 'bidirectional');
    }
  });
});

describe('dmaMapSg', () => {
  it('answers how many segments the list became', () => {
    const b = bench();
    const [cam, gpu] = [b.device('cam'), b.device('gpu', { iommu: true })];
    for (const [device, segments] of [
      [cam, 3],
      [gpu, 1],
    ] as const) {
      const sgt = b.scattered(3);
      expect([dmaMapSg(device, sgt, 'bidirectional'), sgt.nents]).toEqual([segments, segments]);
      dmaUnmapSg(device, sgt, 'bidirectional');
      expect(sgt.nents).toBe(0);
    }
  });

  it('maps the first entries only, syncs and unmaps those, and leaves the others alone', () => {
    const b = bench();
    const device = b.device('cam');
    const sgt = b.scattered(3);
    expect(dmaMapSg(device, sgt, 'from-device', {}, 2)).toBe(2);
    expect(sgt.segments()).toEqual(
      sgt
        .extents()
        .slice(0, 2)
        .map(({ phys, length }) => ({ address: phys, length })),
    );
    const seen = maintenanceOf(b);
    dmaSyncSgForCpu(device, sgt, 'from-device');
    dmaSyncSgForDevice(device, sgt, 'from-device', 2);
    dmaUnmapSg(device, sgt, 'from-device', {}, 2);
    expect(seen).toEqual(['invalidate 64', 'invalidate 64', 'clean 64', 'clean 64', 'invalidate 64', 'invalidate 64']);
    dmaMapSgtable(device, sgt, 'to-device');
    expect(sgt.nents).toBe(3);
    dmaUnmapSgtable(device, sgt, 'to-device');
  });

  it('answers 0 where dmaMapSgtable throws, and nothing is mapped', () => {
    const b = bench();
    const device = b.device('cam', { dmaMaskBits: 24 });
    const sgt = b.scattered(2);
    expect(dmaMapSg(device, sgt, 'to-device')).toBe(0);
    expect(() => dmaMapSgtable(device, sgt, 'to-device')).toThrow(errno('EIO'));
    expect([sgt.nents, b.count('dma.map')]).toEqual([0, 0]);
  });

  it.each([0, -1, 3, 1.5, Number.NaN])('refuses %s of two entries, and names the argument', (entries) => {
    const b = bench();
    const device = b.device('cam');
    const sgt = b.scattered(2);
    const text = invariant('entries');
    expect(() => dmaMapSg(device, sgt, 'to-device', {}, entries)).toThrow(text);
    expect(() => dmaUnmapSg(device, sgt, 'to-device', {}, entries)).toThrow(text);
    expect(() => dmaSyncSgForCpu(device, sgt, 'to-device', entries)).toThrow(text);
    expect(() => dmaSyncSgForDevice(device, sgt, 'to-device', entries)).toThrow(text);
    expect(sgt.nents).toBe(0);
  });
});

describe('a call of the DMA API', () => {
  it.each(['sideways', '', 'TO-DEVICE', undefined])('refuses direction %s, and names the argument', (word) => {
    const b = bench();
    const device = b.device('cam');
    const sgt = b.scattered(1);
    const dir = word as unknown as DmaDirection;
    for (const call of [dmaMapSgtable, dmaUnmapSgtable, dmaSyncSgtableForCpu, dmaSyncSgtableForDevice]) {
      expect(() => call(device, sgt, dir)).toThrow(invariant(`${call.name}: dir`));
    }
    expect(sgt.nents).toBe(0);
  });
});
