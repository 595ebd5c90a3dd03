/** Causes that lie in a device's own cache. */
import { describe, expect, it } from 'vitest';
import type { Accessor } from '../../src/base/hazards.ts';
import { dmaMapSingle, dmaSyncSingleForCpu } from '../../src/dma-api/dma-single.ts';
import { bytes, CauseBench, isBetween, planted } from './cause-bench.ts';

describe('a device with a cache of its own', () => {
  it('keeps what it wrote until it flushes', () => {
    const program = (flushes: boolean) => {
      const { bench, cache, port } = npu();
      bench.soc.coherency.deviceWrite(bench.page, bytes(64, 5), 0, 64, port);
      const line = planted();
      if (flushes) cache.flush();
      bench.view('uncached').read(0, bytes(64, 0));
      return { bench, line };
    };
    expect(program(true).bench.reports).toEqual([]);
    const { bench, line } = program(false);
    expect(bench.reports).toMatchObject([{ hazard: 'cpu-read.stale', newestIn: 'device cache' }]);
    expect(bench.cause).toMatchObject({ code: 'missing-device-flush', call: 'npu.flush()', by: 'nic0 driver' });
    expect(isBetween(bench.cause, line)).toBe(true);
  });

  it('is to blame when it flushes only after the sync for the CPU: the CPU has fetched the old line again', () => {
    const program = (early: boolean) => {
      const { bench, cache, port } = npu();
      const { cpu, nic, page, soc } = bench;
      cpu.read(0, bytes(64, 0));
      const address = dmaMapSingle(nic, page, 4096, 'from-device');
      soc.coherency.deviceWrite(page, bytes(64, 5), 0, 64, port);
      if (early) cache.flush();
      dmaSyncSingleForCpu(nic, address, 4096, 'from-device');
      soc.coherency.prefetch(page, 64); // hardware may
      if (!early) cache.flush();
      cpu.read(0, bytes(64, 0));
      return bench;
    };
    expect(program(true).reports).toEqual([]);
    const bench = program(false);
    expect(bench.reports).toMatchObject([{ newestIn: 'memory' }]);
    expect(bench.cause).toMatchObject({ code: 'missing-device-flush', call: 'npu.flush()' });
  });

  it('works on old lines until it invalidates', () => {
    const program = (invalidates: boolean) => {
      const { bench, cache, port } = npu();
      bench.soc.coherency.deviceRead(bench.page, bytes(64, 0), 0, 64, port);
      bench.view('uncached').write(0, bytes(64, 5));
      const line = planted();
      if (invalidates) cache.invalidate();
      bench.soc.coherency.deviceRead(bench.page, bytes(64, 0), 0, 64, port);
      return { bench, line };
    };
    expect(program(true).bench.reports).toEqual([]);
    const { bench, line } = program(false);
    expect(bench.cause).toMatchObject({
      code: 'missing-device-invalidate',
      call: 'npu.invalidate()',
      by: 'nic0 driver',
    });
    expect(isBetween(bench.cause, line)).toBe(true);
  });
});

function npu() {
  const bench = new CauseBench();
  const accessor: Accessor = {
    ...{ name: 'nic0', kind: 'device', via: 'dma' },
    ...{ beforeRead: 'npu.invalidate()', afterWrite: 'npu.flush()' },
  };
  const cache = bench.soc.coherency.addDeviceCache({ accessor });
  return { bench, cache, port: { snoops: false, accessor, cache } };
}
