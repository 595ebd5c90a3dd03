/** Of a byte in a bounce buffer and of its original, the younger is told byte by byte, whatever shares their lines and pages. */
import { describe, expect, it } from 'vitest';
import type { DmaAddr } from '../../src/base/addr.ts';
import { dmaSyncSingleRangeForCpu, dmaSyncSingleRangeForDevice, dmaUnmapSingle } from '../../src/dma-api/dma-single.ts';
import { AdversarialChooser } from '../../src/sim/adversarial-chooser.ts';
import { Prng } from '../../src/sim/prng.ts';
import { Bench, bytes } from './bounce-bench.ts';

describe('a line that driver and device share, each with bytes of its own', () => {
  it('is handed back and forth by halves, and no byte is old or lost', () => {
    expect(halves({})).toEqual([]);
    expect(halves({ evict: true })).toEqual([]);
    expect(halves({ bytes: false })).toEqual([]);
  });

  it('still loses what the device wrote into the half of the driver', () => {
    expect(halves({ strayByte: 40 })).toMatchObject([
      {
        hazard: 'device-write.lost',
        values: { found: [2], newest: [9] },
        writer: { who: 'sound0' },
        cause: { code: 'bounce-without-sync', call: 'dmaSyncSingleForCpu(sound0, bidirectional)' },
      },
    ]);
  });

  it('is as the driver left it where the driver wrote last', () => {
    const bench = new Bench();
    const address = bench.map('bidirectional');
    bench.deviceWrites(address, 3);
    bench.cpu.write(16, bytes(16, 9));
    bench.cpu.read(16, bytes(16, 0));
    dmaSyncSingleRangeForDevice(bench.sound, address, { offset: 16, sizeBytes: 16 }, 'bidirectional');
    expect(bench.reports).toEqual([]);
    bench.cpu.read(12, bytes(8, 0));
    expect(bench.reports).toMatchObject([{ staleBytes: 4, values: { phys: bench.page + 12 } }]);
  });

  it('raises no alarm when only the middle of a buffer is synced, whatever the caches do', () => {
    for (const untrusted of [false, true]) {
      for (let seed = 0; seed < 10; seed++) {
        const { reports, got } = middles(seed, untrusted);
        expect(reports, `seed ${seed}`).toEqual([]);
        expect([got[0], got[99], got[100], got[399], got[400], got[1023]]).toEqual([23, 23, 43, 43, 23, 23]);
      }
    }
  });

  it('keeps bytes lost that the driver wrote others beside', () => {
    const bench = new Bench();
    const address = bench.map('from-device');
    bench.sound.port.write((address + 16) as DmaAddr, bytes(16, 3), 0, 16);
    dmaUnmapSingle(bench.sound, address, 4096, 'from-device', { skipCpuSync: true });
    bench.cpu.write(0, bytes(24, 9));
    bench.machine.coherency.evict(bench.page, 64);
    bench.cpu.read(0, bytes(64, 0));
    expect(bench.reports).toMatchObject([{ staleBytes: 8, newestIn: 'lost', cause: { code: 'skipped-sync' } }]);
  });
});

describe('many mappings that bounce', () => {
  it('are each watched until their own end, also in one page', () => {
    const bench = new Bench();
    const first = bench.map('from-device', 0, 64);
    const second = bench.map('from-device', 64, 64);
    bench.deviceWrites(first, 3);
    bench.deviceWrites(second, 4);
    dmaUnmapSingle(bench.sound, first, 64, 'from-device');
    bench.cpu.read(0, bytes(128, 0));
    expect(bench.reports).toMatchObject([{ staleLines: 1, staleBytes: 64, values: { phys: bench.page + 64 } }]);
  });

  it('are found by any of their pages, and by an access that covers more than them', () => {
    for (const [from, length, staleBytes] of [
      [0, 8192, 3000],
      [4000, 192, 192],
      [5000, 1000, 500],
      [5500, 1000, 0],
    ] as const) {
      const bench = new Bench();
      const address = bench.map('from-device', 2048, 6144);
      bench.sound.port.write((address + 452) as DmaAddr, bytes(3000, 3), 0, 3000);
      bench.cpu.read(from, bytes(length, 0));
      expect(bench.reports).toMatchObject(staleBytes === 0 ? [] : [{ staleBytes, newestIn: 'bounce slot' }]);
    }
  });
});

interface Halves {
  readonly evict?: boolean;
  readonly bytes?: boolean;
  readonly strayByte?: number;
}

/** Of a mapped line the device writes bytes 0 to 31, while the driver has bytes 32 to 63, writes them and hands them back. */
function halves({ evict = false, bytes: isReal = true, strayByte }: Halves) {
  const bench = new Bench({ bytes: isReal });
  bench.cpu.write(0, bytes(4096, 1));
  const address = bench.map('bidirectional', 0, 64);
  const half = { offset: 32, sizeBytes: 32 };
  dmaSyncSingleRangeForCpu(bench.sound, address, half, 'bidirectional');
  bench.cpu.write(32, bytes(32, 2));
  bench.sound.port.write(address, bytes(32, 9), 0, 32);
  if (strayByte !== undefined) bench.sound.port.write((address + strayByte) as DmaAddr, bytes(1, 9), 0, 1);
  if (evict) bench.machine.coherency.evict(bench.page, 64);
  else if (strayByte === undefined) bench.cpu.read(32, bytes(32, 0));
  dmaSyncSingleRangeForDevice(bench.sound, address, half, 'bidirectional');
  bench.sound.port.read(address, bytes(64, 0), 0, 64);
  dmaUnmapSingle(bench.sound, address, 64, 'bidirectional');
  bench.cpu.read(0, bytes(64, 0));
  return bench.reports;
}

/** Of 1024 bytes that the device writes the driver takes 100 to 399, writes and hands them back; three times, with caches that do as they like. */
function middles(seed: number, untrusted: boolean) {
  const chooser = new AdversarialChooser(new Prng(seed));
  const bench = new Bench({ chooser }, untrusted ? { iommu: true, untrusted } : {});
  const middle = { offset: 100, sizeBytes: 300 };
  const got = new Uint8Array(1024);
  bench.cpu.write(0, bytes(4096, 1));
  for (let i = 1; i <= 3; i++) {
    const address = bench.map('bidirectional', 512, 1024);
    bench.sound.port.write(address, bytes(1024, 20 + i), 0, 1024);
    dmaSyncSingleRangeForCpu(bench.sound, address, middle, 'bidirectional');
    bench.cpu.write(612, bytes(300, 40 + i));
    dmaSyncSingleRangeForDevice(bench.sound, address, middle, 'bidirectional');
    dmaUnmapSingle(bench.sound, address, 1024, 'bidirectional');
    bench.cpu.read(512, got);
  }
  return { reports: bench.reports, got };
}
