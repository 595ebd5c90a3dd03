/** Each cause of a driver's own memory: planted once, and the right form beside it. */
import { describe, expect, it } from 'vitest';
import { dmaAllocAttrs } from '../../src/dma-api/dma-alloc.ts';
import { dmaMapSgtable, dmaSyncSgtableForCpu, dmaSyncSgtableForDevice } from '../../src/dma-api/dma-map.ts';
import {
  dmaMapSingle,
  dmaSyncSingleForCpu,
  dmaSyncSingleForDevice,
  dmaUnmapSingle,
} from '../../src/dma-api/dma-single.ts';
import { SgTable } from '../../src/dma-api/sg-table.ts';
import { bytes, CauseBench, deviceReads, deviceWrites, isBetween, planted } from './cause-bench.ts';

describe('a driver that reads what its device wrote', () => {
  it('is told the sync for the CPU that it left out, of a single mapping', () => {
    const { cpu, nic, page, ...rest } = received({ sync: false });
    expect(cpu.peek(0)[0]).toBe(0);
    expect(rest.bench.cause).toMatchObject({
      code: 'missing-sync-for-cpu',
      call: 'dmaSyncSingleForCpu(nic0, from-device)',
      or: 'dmaUnmapSingle(nic0, from-device)',
      by: 'nic0 driver',
      after: { who: 'nic0', action: 'write' },
      before: { who: 'nic0 driver', action: 'read' },
      instead: '',
    });
    expect(isBetween(rest.bench.cause, rest.line)).toBe(true);
    expect([nic.name, page]).toEqual(['nic0', rest.bench.page]);
    expect(received({ sync: true }).bench.reports).toEqual([]);
  });

  it('is told the table call if it mapped a table', () => {
    const bench = new CauseBench();
    const { cpu, gpu, page } = bench;
    const sgt = new SgTable([{ phys: page, length: 4096 }]);
    cpu.read(0, bytes(64, 0));
    dmaMapSgtable(gpu, sgt, 'bidirectional');
    deviceWrites(gpu, sgt.dmaAddress(0), 7);
    cpu.read(0, bytes(64, 0));
    expect(bench.cause).toMatchObject({
      code: 'missing-sync-for-cpu',
      call: 'dmaSyncSgtableForCpu(gpu0, bidirectional)',
      or: 'dmaUnmapSgtable(gpu0, bidirectional)',
      by: 'gpu0 driver',
    });
  });

  it('is told the unmap if that is how it ended the rounds before', () => {
    const bench = new CauseBench();
    const { cpu, nic, page } = bench;
    cpu.read(0, bytes(64, 0));
    const first = dmaMapSingle(nic, page, 4096, 'from-device');
    deviceWrites(nic, first, 1);
    dmaUnmapSingle(nic, first, 4096, 'from-device');
    expect(cpu.peek(0)[0]).toBe(1);
    cpu.read(0, bytes(64, 0));
    const second = dmaMapSingle(nic, page, 4096, 'from-device');
    deviceWrites(nic, second, 2);
    cpu.read(0, bytes(64, 0));
    expect(bench.cause).toMatchObject({
      call: 'dmaUnmapSingle(nic0, from-device)',
      or: 'dmaSyncSingleForCpu(nic0, from-device)',
    });
  });

  it('is told the same when it has only invalidated before the transfer, and the line was fetched again', () => {
    const program = (after: boolean) => {
      const bench = new CauseBench();
      const { cpu, nic, page, soc } = bench;
      cpu.read(0, bytes(64, 0));
      const address = dmaMapSingle(nic, page, 4096, 'from-device');
      dmaSyncSingleForCpu(nic, address, 4096, 'from-device');
      soc.coherency.prefetch(page, 64); // hardware may
      deviceWrites(nic, address, 3);
      if (after) dmaSyncSingleForCpu(nic, address, 4096, 'from-device');
      cpu.read(0, bytes(64, 0));
      return bench;
    };
    expect(program(true).reports).toEqual([]);
    expect(program(false).cause).toMatchObject({
      code: 'missing-sync-for-cpu',
      call: 'dmaSyncSingleForCpu(nic0, from-device)',
    });
  });

  it('is told that its sync or unmap was for the other direction', () => {
    const unmapped = received({ sync: false, unmap: 'to-device' });
    expect(unmapped.bench.cause).toMatchObject({
      code: 'wrong-direction',
      call: 'dmaUnmapSingle(nic0, from-device)',
      instead: expect.stringMatching(/^dmaUnmapSingle\(nic0, to-device\) at causes\.test\.ts:\d+:\d+$/),
    });
    expect(received({ sync: false, unmap: 'from-device' }).bench.reports).toEqual([]);
  });

  it('is told that its unmap skipped the sync', () => {
    const { bench } = received({ sync: false, unmap: 'from-device', skip: true });
    expect(bench.cause).toMatchObject({
      code: 'skipped-sync',
      call: 'dmaUnmapSingle(nic0, from-device)',
      by: 'nic0 driver',
      instead: expect.stringMatching(/^dmaUnmapSingle\(nic0, from-device, skipCpuSync\) at /),
    });
  });

  it('is told that it synced too few bytes, and how many', () => {
    const { bench } = received({ sync: true, syncBytes: 128, readBytes: 256 });
    const [facts] = bench.reports;
    expect(facts).toMatchObject({ phys: bench.page + 128, staleLines: 2, staleBytes: 128 });
    expect(bench.cause).toMatchObject({
      code: 'range-too-small',
      call: 'dmaSyncSingleForCpu(nic0, from-device)',
      instead: expect.stringMatching(
        /^dmaSyncSingleForCpu\(nic0, from-device\) at causes\.test\.ts:\d+:\d+, for 128 bytes$/,
      ),
    });
    expect(received({ sync: true, syncBytes: 256, readBytes: 256 }).bench.reports).toEqual([]);
  });

  it('is told that there is no mapping at all', () => {
    const bench = new CauseBench();
    bench.cpu.read(0, bytes(64, 0));
    deviceWrites(bench.nic, bench.page, 1);
    bench.cpu.read(0, bytes(64, 0));
    expect(bench.cause).toMatchObject({
      code: 'missing-map',
      call: 'dmaMapSgtable(nic0, from-device)',
      by: 'nic0 driver',
    });
  });

  it('hears nothing when the old bytes are equal by luck', () => {
    const bench = new CauseBench();
    bench.cpu.read(0, bytes(64, 0));
    deviceWrites(bench.nic, bench.page, 0);
    bench.cpu.read(0, bytes(64, 0));
    expect(bench.reports).toEqual([]);
  });
});

describe('a driver that writes for its device', () => {
  it('is told the sync for the device that it left out', () => {
    const program = (sync: boolean) => {
      const bench = new CauseBench();
      const { cpu, nic, page } = bench;
      const address = dmaMapSingle(nic, page, 4096, 'to-device');
      cpu.write(0, bytes(64, 1));
      const line = planted();
      if (sync) dmaSyncSingleForDevice(nic, address, 4096, 'to-device');
      nic.port.read(address, bytes(64, 0), 0, 64);
      return { bench, line };
    };
    expect(program(true).bench.reports).toEqual([]);
    const { bench, line } = program(false);
    expect(bench.cause).toMatchObject({
      code: 'missing-sync-for-device',
      call: 'dmaSyncSingleForDevice(nic0, to-device)',
      by: 'nic0 driver',
      after: { who: 'nic0 driver', action: 'write' },
      before: { who: 'nic0', action: 'read' },
    });
    expect(isBetween(bench.cause, line)).toBe(true);
  });

  it('is told that the mapping it made skipped the sync', () => {
    const program = (skipCpuSync: boolean) => {
      const bench = new CauseBench();
      const { cpu, gpu, page } = bench;
      const sgt = new SgTable([{ phys: page, length: 4096 }]);
      cpu.write(0, bytes(64, 1));
      dmaMapSgtable(gpu, sgt, 'to-device', { skipCpuSync });
      deviceReads(gpu, sgt.dmaAddress(0));
      return bench;
    };
    expect(program(false).reports).toEqual([]);
    expect(program(true).cause).toMatchObject({
      code: 'skipped-sync',
      call: 'dmaMapSgtable(gpu0, to-device)',
      instead: expect.stringMatching(/^dmaMapSgtable\(gpu0, to-device, skipCpuSync\) at /),
    });
  });

  it('is told that it synced the wrong bytes', () => {
    const bench = new CauseBench();
    const { cpu, nic, page } = bench;
    const address = dmaMapSingle(nic, page, 4096, 'to-device');
    cpu.write(0, bytes(256, 1));
    dmaSyncSingleForDevice(nic, address, 64, 'to-device');
    deviceReads(nic, address, 256);
    expect(bench.cause).toMatchObject({ code: 'range-too-small', call: 'dmaSyncSingleForDevice(nic0, to-device)' });
  });

  it('is told that the device has no mapping', () => {
    const bench = new CauseBench();
    bench.cpu.write(0, bytes(64, 1));
    deviceReads(bench.nic, bench.page);
    expect(bench.cause).toMatchObject({
      code: 'missing-map',
      call: 'dmaMapSgtable(nic0, to-device)',
      by: 'nic0 driver',
    });
  });

  it('is told of the barrier when the bytes wait in a write-combining buffer', () => {
    const program = (barrier: boolean) => {
      const bench = new CauseBench();
      const ring = dmaAllocAttrs(bench.gpu, 4096, { writeCombine: true });
      if (ring === null) throw new Error('no memory');
      ring.write(0, bytes(8, 1));
      const line = planted();
      if (barrier) bench.soc.coherency.barrier();
      bench.gpu.port.read(ring.address, bytes(8, 0), 0, 8);
      return { bench, line };
    };
    expect(program(true).bench.reports).toEqual([]);
    const { bench, line } = program(false);
    expect(bench.cause).toMatchObject({ code: 'missing-barrier', call: 'barrier()', by: 'gpu0 driver' });
    expect(isBetween(bench.cause, line)).toBe(true);
  });
});

describe('bytes that are lost', () => {
  it('were written by the CPU and dropped by the unmap: the sync for the device is missing', () => {
    const program = (sync: boolean) => {
      const bench = new CauseBench();
      const { cpu, nic, page } = bench;
      const address = dmaMapSingle(nic, page, 4096, 'bidirectional');
      dmaSyncSingleForCpu(nic, address, 4096, 'bidirectional');
      cpu.write(0, bytes(64, 1));
      const line = planted();
      if (sync) dmaSyncSingleForDevice(nic, address, 4096, 'bidirectional');
      dmaUnmapSingle(nic, address, 4096, 'bidirectional');
      return { bench, line };
    };
    expect(program(true).bench.reports).toEqual([]);
    const { bench, line } = program(false);
    expect(bench.reports).toMatchObject([{ hazard: 'cpu-write.lost' }]);
    expect(bench.cause).toMatchObject({
      code: 'missing-sync-for-device',
      call: 'dmaSyncSingleForDevice(nic0, bidirectional)',
      after: { who: 'nic0 driver', action: 'write' },
      before: { action: 'invalidate' },
    });
    expect(isBetween(bench.cause, line)).toBe(true);
  });

  it('were written by the CPU while the device had them: it wrote outside of its turn', () => {
    const bench = new CauseBench();
    const { cpu, nic, page } = bench;
    const address = dmaMapSingle(nic, page, 4096, 'bidirectional');
    cpu.write(0, bytes(64, 1));
    dmaUnmapSingle(nic, address, 4096, 'bidirectional');
    expect(bench.cause).toMatchObject({
      code: 'write-outside-bracket',
      call: 'dmaSyncSingleForDevice(nic0, bidirectional)',
    });
  });

  it('were written by the device and overwritten by an eviction: the CPU wrote first, outside of its turn', () => {
    const program = (early: boolean) => {
      const bench = new CauseBench();
      const { cpu, nic, page, soc } = bench;
      if (early) cpu.write(0, bytes(64, 1));
      const address = dmaMapSingle(nic, page, 4096, 'from-device');
      if (!early) cpu.write(0, bytes(64, 1));
      deviceWrites(nic, address, 2);
      soc.coherency.evict(page, 64);
      return bench;
    };
    expect(program(true).reports).toEqual([]);
    const bench = program(false);
    expect(bench.reports).toMatchObject([{ hazard: 'device-write.lost', writer: { who: 'nic0' } }]);
    expect(bench.cause).toMatchObject({
      code: 'write-outside-bracket',
      after: { who: 'nic0 driver', action: 'write' },
      before: { who: 'nic0', action: 'write' },
    });
  });

  it('were written by the device and overwritten by an old line that the CPU wrote into later: a sync for the CPU is missing', () => {
    const program = (sync: boolean) => {
      const bench = new CauseBench();
      const { cpu, gpu, page } = bench;
      const sgt = new SgTable([{ phys: page, length: 4096 }]);
      cpu.read(0, bytes(64, 0));
      dmaMapSgtable(gpu, sgt, 'bidirectional');
      gpu.port.write(sgt.dmaAddress(0), bytes(64, 2), 0, 64);
      const line = planted();
      if (sync) dmaSyncSgtableForCpu(gpu, sgt, 'bidirectional');
      cpu.write(0, bytes(4, 1));
      dmaSyncSgtableForDevice(gpu, sgt, 'bidirectional');
      return { bench, line };
    };
    expect(program(true).bench.reports).toEqual([]);
    const { bench, line } = program(false);
    expect(bench.reports).toMatchObject([
      { hazard: 'device-write.lost', values: { phys: bench.page + 4, found: bytesOf(8, 0), newest: bytesOf(8, 2) } },
    ]);
    expect(bench.cause).toMatchObject({
      code: 'missing-sync-for-cpu',
      call: 'dmaSyncSgtableForCpu(gpu0, bidirectional)',
      after: { who: 'gpu0', action: 'write' },
      before: { who: 'nic0 driver', action: 'write' },
    });
    expect(isBetween(bench.cause, line)).toBe(true);
  });

  it('lay beside a buffer in the same line: both owners share it', () => {
    const bench = new CauseBench();
    const { cpu, nic, page } = bench;
    const address = dmaMapSingle(nic, page, 32, 'from-device');
    bench.view('cached', 'counter').write(48, bytes(4, 1));
    deviceWrites(nic, address, 2, 32);
    dmaUnmapSingle(nic, address, 32, 'from-device');
    expect(bench.cause).toMatchObject({
      code: 'shared-line',
      call: '',
      instead: expect.stringMatching(/^dmaUnmapSingle\(nic0, from-device\) at /),
    });
    expect(cpu.sizeBytes).toBe(4096);
    const apart = new CauseBench();
    const other = dmaMapSingle(apart.nic, apart.page, 64, 'from-device');
    apart.view('cached', 'counter').write(64, bytes(4, 1));
    deviceWrites(apart.nic, other, 2, 64);
    dmaUnmapSingle(apart.nic, other, 64, 'from-device');
    expect(apart.reports).toEqual([]);
  });

  it('are met again by who reads them later: with the cause of the loss', () => {
    const bench = new CauseBench();
    const { cpu, nic, page } = bench;
    const address = dmaMapSingle(nic, page, 4096, 'bidirectional');
    dmaSyncSingleForCpu(nic, address, 4096, 'bidirectional');
    cpu.write(0, bytes(64, 1));
    dmaUnmapSingle(nic, address, 4096, 'bidirectional');
    cpu.read(0, bytes(64, 0));
    const [lost, stale] = bench.reports;
    expect(stale).toMatchObject({ hazard: 'cpu-read.stale', newestIn: 'lost' });
    expect(stale?.cause).toBe(lost?.cause);
  });
});

describe('two views of one memory', () => {
  it('that do not share a copy are the cause themselves', () => {
    const bench = new CauseBench();
    bench.cpu.write(0, bytes(4, 1));
    bench.view('uncached').read(0, bytes(4, 0));
    expect(bench.cause).toMatchObject({ code: 'mixed-attributes', call: '' });
    const same = new CauseBench();
    same.view('uncached').write(0, bytes(4, 1));
    same.view('uncached').read(0, bytes(4, 0));
    expect(same.reports).toEqual([]);
  });
});

describe('a machine that keeps no books', () => {
  it('reports without a cause, and quotes what the accessor says', () => {
    const bench = new CauseBench({ watch: false });
    bench.cpu.write(0, bytes(64, 1));
    deviceReads(bench.nic, bench.page);
    expect(bench.cause).toMatchObject({ code: 'unknown' });
  });
});

interface Round {
  readonly sync: boolean;
  readonly syncBytes?: number;
  readonly readBytes?: number;
  readonly unmap?: 'from-device' | 'to-device';
  readonly skip?: boolean;
}

/** A packet arrives in a page whose old bytes are in the cache, and the driver reads it. */
function received({ sync, syncBytes = 4096, readBytes = 64, unmap, skip = false }: Round) {
  const bench = new CauseBench();
  const { cpu, nic, page } = bench;
  cpu.read(0, bytes(4096, 0));
  const address = dmaMapSingle(nic, page, 4096, 'from-device');
  nic.port.write(address, bytes(4096, 5), 0, 4096);
  const line = planted();
  if (sync) dmaSyncSingleForCpu(nic, address, syncBytes, 'from-device');
  if (unmap !== undefined) dmaUnmapSingle(nic, address, 4096, unmap, { skipCpuSync: skip });
  cpu.read(0, bytes(readBytes, 0));
  return { bench, line, cpu, nic, page };
}

function bytesOf(length: number, value: number): number[] {
  return Array.from(bytes(length, value));
}
