/** A bounce buffer is a copy of the driver's memory: who reads the old one of the two is told so, byte by byte. */
import { describe, expect, it } from 'vitest';
import { type DmaAddr, pfnToPhys } from '../../src/base/addr.ts';
import type { DmaDirection } from '../../src/dma-api/direction.ts';
import { dmaSyncSingleForCpu, dmaSyncSingleForDevice, dmaUnmapSingle } from '../../src/dma-api/dma-single.ts';
import { DMA_BUF_SYNC } from '../../src/dmabuf/dma-buf-sync.ts';
import { exportHeapBuffer } from '../../src/dmabuf/heap-buffer.ts';
import { pc } from '../../src/platform/pc.ts';
import { DMA_BUF_IOCTL_SYNC } from '../../src/uapi/dma-buf-file.ts';
import { Bench, bytes, ones, reportsOf } from './bounce-bench.ts';

const { start, end, write } = DMA_BUF_SYNC;

describe('a device that reads its bounce buffer', () => {
  it('sees the bytes of map time without a sync, and the new ones with it', () => {
    const old = played({ sync: false });
    expect(old.got).toEqual(bytes(64, 1));
    expect(old.reports).toMatchObject([
      {
        hazard: 'device-read.stale',
        staleLines: 1,
        staleBytes: 16,
        newestIn: 'cpu cache',
        values: { phys: old.address + 16, found: ones(8, 1), newest: ones(8, 2) },
        reader: { who: 'sound0' },
        writer: { who: 'driver' },
        cause: { code: 'bounce-without-sync', call: 'dmaSyncSingleForDevice(sound0, to-device)', by: 'sound0 driver' },
      },
    ]);
    const fresh = played({ sync: true });
    expect([...fresh.got.subarray(14, 18), ...fresh.got.subarray(31, 33)]).toEqual([1, 1, 2, 2, 2, 1]);
    expect(fresh.reports).toEqual([]);
  });

  it('is not reported for bytes that are equal by luck, nor for those it does not read', () => {
    expect(played({ sync: false, value: 1 }).reports).toEqual([]);
    expect(played({ sync: false, readBytes: 16 }).reports).toEqual([]);
  });

  it('is reported for the part that a sync has left out', () => {
    const { reports } = played({ sync: true, syncBytes: 24 });
    expect(reports).toMatchObject([
      {
        staleBytes: 8,
        cause: { code: 'range-too-small', call: 'dmaSyncSingleForDevice(sound0, to-device)' },
      },
    ]);
  });

  it('is found by versions alone where memory holds no bytes', () => {
    expect(played({ sync: false, bytes: false }).reports).toMatchObject([
      { hazard: 'device-read.stale', staleBytes: 0, cause: { code: 'bounce-without-sync' } },
    ]);
    expect(played({ sync: true, bytes: false }).reports).toEqual([]);
  });

  it('tells where the newest copy is when it has left the cache', () => {
    const { reports } = played({ sync: false, evict: true });
    expect(reports).toMatchObject([{ newestIn: 'memory', cause: { code: 'bounce-without-sync' } }]);
  });
});

describe('a driver that reads memory whose device writes a bounce buffer', () => {
  it('sees the old bytes without a sync or unmap, and the new ones with either', () => {
    const old = recorded({});
    expect(old.got).toEqual(bytes(64, 1));
    expect(old.reports).toMatchObject([
      {
        hazard: 'cpu-read.stale',
        staleBytes: 16,
        newestIn: 'bounce slot',
        values: { phys: old.page + 16, found: ones(8, 1), newest: ones(8, 3) },
        reader: { who: 'driver' },
        writer: { who: 'sound0' },
        cause: {
          code: 'bounce-without-sync',
          call: 'dmaSyncSingleForCpu(sound0, from-device)',
          or: 'dmaUnmapSingle(sound0, from-device)',
          by: 'sound0 driver',
        },
      },
    ]);
    for (const how of ['sync', 'unmap'] as const) {
      const fresh = recorded({ how });
      expect(fresh.reports).toEqual([]);
      expect(fresh.got[20]).toBe(3);
    }
  });

  it('is told when the unmap was for the other direction, or skipped the copy: nothing brings the bytes back', () => {
    const wrong = recorded({ how: 'unmap', dir: 'to-device' });
    expect(wrong.reports).toMatchObject([
      {
        newestIn: 'lost',
        cause: {
          code: 'wrong-direction',
          call: 'dmaUnmapSingle(sound0, from-device)',
          instead: expect.stringMatching(/^dmaUnmapSingle\(sound0, to-device\) at /),
        },
      },
    ]);
    const skipped = recorded({ how: 'unmap', skip: true });
    expect(skipped.reports).toMatchObject([
      { newestIn: 'lost', cause: { code: 'skipped-sync', call: 'dmaUnmapSingle(sound0, from-device)' } },
    ]);
  });

  it('hears nothing once it has written the bytes itself', () => {
    const bench = new Bench();
    const address = bench.map('from-device');
    bench.deviceWrites(address, 3);
    dmaUnmapSingle(bench.sound, address, 4096, 'from-device', { skipCpuSync: true });
    bench.cpu.write(0, bytes(64, 9));
    bench.cpu.read(0, bytes(64, 0));
    expect(bench.reports).toEqual([]);
  });
});

describe('a copy that goes over newer bytes', () => {
  it('loses what the CPU wrote into memory that its device has', () => {
    const bench = new Bench();
    const address = bench.map('bidirectional');
    bench.cpu.write(0, bytes(8, 2));
    dmaUnmapSingle(bench.sound, address, 4096, 'bidirectional');
    expect(bench.reports).toMatchObject([
      {
        hazard: 'cpu-write.lost',
        writer: { who: 'driver' },
        destroyer: { who: 'kernel', via: 'swiotlb copy' },
        cause: { code: 'bounce-without-sync', call: 'dmaSyncSingleForDevice(sound0, bidirectional)' },
      },
    ]);
  });

  it('loses what the device wrote, when the driver hands the buffer over without having taken it', () => {
    const program = (sync: boolean) => {
      const bench = new Bench();
      const address = bench.map('bidirectional');
      bench.deviceWrites(address, 3);
      if (sync) dmaSyncSingleForCpu(bench.sound, address, 4096, 'bidirectional');
      dmaSyncSingleForDevice(bench.sound, address, 4096, 'bidirectional');
      return bench.reports;
    };
    expect(program(true)).toEqual([]);
    expect(program(false)).toMatchObject([
      {
        hazard: 'device-write.lost',
        writer: { who: 'sound0' },
        cause: { code: 'bounce-without-sync', call: 'dmaSyncSingleForCpu(sound0, bidirectional)' },
      },
    ]);
  });
});

describe('a dma-buf above the reach of a display', () => {
  it('is shown as it was at import, unless the writer ends its bracket', () => {
    const old = shown(false);
    expect(old.got).toEqual(bytes(64, 0));
    expect(old.reports).toMatchObject([
      {
        hazard: 'device-read.stale',
        cause: {
          code: 'bounce-without-sync',
          call: 'ioctl(DMA_BUF_IOCTL_SYNC, END | WRITE)',
          object: 'frame',
          by: 'app',
        },
      },
    ]);
    const fresh = shown(true);
    expect(fresh.got).toEqual(bytes(64, 5));
    expect(fresh.reports).toEqual([]);
  });
});

interface Played {
  readonly sync: boolean;
  readonly syncBytes?: number;
  readonly readBytes?: number;
  readonly value?: number;
  readonly bytes?: boolean;
  readonly evict?: boolean;
}

/** The driver changes bytes 16 to 31 after it has mapped them, and the device reads. */
function played({ sync, syncBytes = 4096, readBytes = 64, value = 2, bytes: isReal = true, evict = false }: Played) {
  const bench = new Bench({ bytes: isReal });
  bench.cpu.write(0, bytes(64, 1));
  const address = bench.map('to-device');
  bench.cpu.write(16, bytes(16, value));
  if (evict) bench.machine.coherency.evict(bench.page, 64);
  if (sync) dmaSyncSingleForDevice(bench.sound, address, syncBytes, 'to-device');
  const got = new Uint8Array(readBytes);
  bench.sound.port.read(address, got, 0, readBytes);
  return { got, address, reports: bench.reports };
}

interface Recorded {
  readonly how?: 'sync' | 'unmap';
  readonly dir?: DmaDirection;
  readonly skip?: boolean;
}

/** The device writes bytes 16 to 31, and the driver reads. */
function recorded({ how, dir = 'from-device', skip = false }: Recorded) {
  const bench = new Bench();
  bench.cpu.write(0, bytes(64, 1));
  const address = bench.map('from-device');
  bench.sound.port.write((address + 16) as DmaAddr, bytes(16, 3), 0, 16);
  if (how === 'sync') dmaSyncSingleForCpu(bench.sound, address, 4096, dir);
  if (how === 'unmap') dmaUnmapSingle(bench.sound, address, 4096, dir, { skipCpuSync: skip });
  const got = new Uint8Array(64);
  bench.cpu.read(0, got);
  return { got, page: bench.page, reports: bench.reports };
}

/** An app draws into a buffer that a display has imported before. */
function shown(ends: boolean) {
  const machine = pc({ hazards: 'record' });
  const display = machine.addDevice({ name: 'display0', coherent: true, dmaMaskBits: 32 });
  const app = machine.addProcess({ name: 'app' });
  const got = new Uint8Array(64);
  machine.sim.run(function* () {
    const pfn = machine.pages.allocPages({ order: 0, owner: 'frame' });
    const buf = exportHeapBuffer(machine.sim, {
      ...{ heap: 'high', name: 'frame', extents: [{ phys: pfnToPhys(pfn), length: 4096 }], clearer: machine.coherency },
      free: () => machine.pages.freePages(pfn, 1),
    });
    const fd = app.fds.install(buf);
    const pixels = yield* app.mmap(fd);
    const sgt = yield* (yield* buf.attach(display)).mapUnlocked('to-device');
    yield* app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: start | write });
    pixels.write(0, bytes(64, 5));
    if (ends) yield* app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: end | write });
    display.port.read(sgt.dmaAddress(0), got, 0, 64);
  });
  return { got, reports: reportsOf(machine) };
}
