import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type DmaAddr, PAGE_SIZE, type PhysAddr } from '../../src/base/addr.ts';
import type { Device } from '../../src/dma-api/device.ts';
import type { DmaDirection } from '../../src/dma-api/direction.ts';
import { DmaDebug } from '../../src/dma-api/dma-debug.ts';
import { CachelineTracker } from '../../src/dma-api/dma-debug-lines.ts';
import { dmaMapSgtable, dmaUnmapSgtable } from '../../src/dma-api/dma-map.ts';
import { dmaMapPage, dmaMappingError, dmaSyncSingleForCpu, dmaUnmapPage } from '../../src/dma-api/dma-single.ts';
import { SgTable } from '../../src/dma-api/sg-table.ts';
import { bench, invariant } from '../bench.ts';

describe('the report of a misuse', () => {
  it('names both calls with what they said and when, and the remedy', () => {
    const b = bench({ hazards: 'record' });
    const device = b.device('cam', { coherent: true });
    const page = b.scatteredPages(1)[0] as PhysAddr;
    b.sim.run(function* () {
      const address = dmaMapPage(device, page, 100, 'to-device');
      dmaMappingError(device, address);
      yield* b.sim.delay(500);
      dmaUnmapPage(device, address, 64, 'to-device');
    });
    const [facts] = b.sim.hazards;
    expect(facts).toMatchObject({
      hazard: 'dma-debug.size-mismatch',
      device: 'cam',
      call: { call: 'dmaUnmapPage', device: 'cam', address: Number(page), sizeBytes: 64, dir: 'to-device', site: '' },
      mapping: { call: 'dmaMapPage', sizeBytes: 100, timeNs: 0 },
      remedy: 'unmap with the size of the mapping; a part of a mapping can not be unmapped',
    });
    expect(facts !== undefined && 'call' in facts && facts.call).toMatchObject({ timeNs: b.sim.now });
  });

  it('says in the text of the error where in the driver each call stands, when asked to', () => {
    const b = bench({ hazards: 'throw', dmaDebug: { callSites: true }, atRest: false });
    const device = b.device('cam', { coherent: true });
    const address = dmaMapPage(device, b.scatteredPages(1)[0] as PhysAddr, 100, 'to-device');
    const site =
      /call: dmaUnmapPage at dma-debug\.test\.ts:\d+:\d+, cam, .*mapping: dmaMapPage at dma-debug\.test\.ts:/;
    expect(() => dmaUnmapPage(device, address, 64, 'to-device')).toThrow(site);
    const sgt = b.scattered(1);
    dmaMapSgtable(device, sgt, 'to-device');
    expect(() => dmaUnmapSgtable(device, sgt, 'from-device')).toThrow(/mapping: dmaMapSgtable at dma-debug\.test\.ts:/);
  });
});

describe('the checker', () => {
  it('is not there when the machine is made without it', () => {
    const b = bench({ dmaDebug: false });
    expect([b.machine.dmaDebug, b.device('cam').dmaDebug]).toEqual([null, null]);
  });

  it('lists what is mapped, oldest first, and forgets what has ended', () => {
    const b = bench();
    const device = b.device('cam', { coherent: true });
    const { dmaDebug } = b.machine;
    const page = b.scatteredPages(1)[0] as PhysAddr;
    const sgt = b.scattered(2);
    dmaMapSgtable(device, sgt, 'to-device');
    const address = dmaMapPage(device, page, 64, 'from-device');
    dmaMappingError(device, address);
    const list = () => dmaDebug?.mappingsOf(device).map(({ call, address: at }) => [call, at]);
    expect(list()).toEqual([
      ['dmaMapSgtable', sgt.dmaAddress(0)],
      ['dmaMapSgtable', sgt.dmaAddress(1)],
      ['dmaMapPage', address],
    ]);
    dmaUnmapSgtable(device, sgt, 'to-device');
    expect(list()).toEqual([['dmaMapPage', address]]);
    dmaUnmapPage(device, address, 64, 'from-device');
    expect(list()).toEqual([]);
  });

  it('reports a part of two mappings of one buffer as not mapped, as the kernel does', () => {
    const b = bench({ hazards: 'record' });
    const device = b.device('cam', { coherent: true });
    const page = b.scatteredPages(1)[0] as PhysAddr;
    for (const sizeBytes of [256, 512]) {
      dmaMappingError(device, dmaMapPage(device, page, sizeBytes, 'to-device'));
    }
    dmaSyncSingleForCpu(device, Number(page) as DmaAddr, 128, 'to-device');
    dmaSyncSingleForCpu(device, Number(page) as DmaAddr, 512, 'to-device');
    expect(b.sim.hazards.map(({ hazard }) => hazard)).toEqual(['dma-debug.sync-not-mapped']);
    dmaUnmapPage(device, Number(page) as DmaAddr, 256, 'to-device');
    dmaUnmapPage(device, Number(page) as DmaAddr, 512, 'to-device');
  });

  it('refuses a second driver and the unbind of none', () => {
    const b = bench();
    const debug = new DmaDebug(b.sim);
    const device = b.device('cam');
    expect(() => debug.driverUnbind(device)).toThrow(invariant('no driver is bound to cam'));
    debug.driverProbe(device, 'one');
    expect(() => debug.driverProbe(device, 'two')).toThrow(invariant('cam is bound to one already'));
    debug.driverUnbind(device);
  });

  it('is silent for every order of correct mappings and unmappings, and keeps nothing', () => {
    const dirs: readonly DmaDirection[] = ['to-device', 'from-device', 'bidirectional'];
    const step = fc.record({ what: fc.nat(3), at: fc.nat(15), size: fc.integer({ min: 1, max: 256 }), dir: fc.nat(2) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const b = bench({ hazards: 'throw' });
        const device = b.device('cam', { coherent: true });
        const pages = b.scatteredPages(16);
        const live: { end: () => void; line: number; writes: boolean }[] = [];
        for (const { what, at, size, dir: which } of steps) {
          const dir = dirs[which] as DmaDirection;
          if (what === 0) live.splice(at % Math.max(1, live.length), 1)[0]?.end();
          else if (what === 1) mapList(device, pages.slice(at % 8, (at % 8) + 2), dir, at, live);
          else mapOne(device, pages[at] as PhysAddr, size, dir, at, live);
        }
        for (const { end } of live) end();
        expect([b.sim.hazards, b.machine.dmaDebug?.mappingsOf(device)]).toEqual([[], []]);
      }),
      { numRuns: 60 * Number(process.env['DMABUF_SIM_RUNS'] ?? 1) },
    );
  });
});

interface Live {
  readonly end: () => void;
  readonly line: number;
  readonly writes: boolean;
}

/** Leaves out what would share a line that a device writes. */
function isFree(live: readonly Live[], line: number, dir: DmaDirection): boolean {
  return dir === 'to-device' || !live.some((each) => each.writes && each.line === line);
}

function mapOne(device: Device, page: PhysAddr, size: number, dir: DmaDirection, at: number, live: Live[]): void {
  if (!isFree(live, at, dir)) return;
  const address = dmaMapPage(device, page, size, dir);
  dmaMappingError(device, address);
  live.push({ end: () => dmaUnmapPage(device, address, size, dir), line: at, writes: dir !== 'to-device' });
}

function mapList(device: Device, pages: readonly PhysAddr[], dir: DmaDirection, at: number, live: Live[]): void {
  const first = at % 8;
  if (!isFree(live, first, dir) || !isFree(live, first + 1, dir)) return;
  const sgt = new SgTable(pages.map((phys) => ({ phys, length: PAGE_SIZE })));
  dmaMapSgtable(device, sgt, dir);
  const writes = dir !== 'to-device';
  let ended = false;
  const end = () => {
    if (!ended) dmaUnmapSgtable(device, sgt, dir);
    ended = true;
  };
  live.push({ end, line: first, writes }, { end, line: first + 1, writes });
}

describe('the lines in use', () => {
  it('are counted as by a plain map, whatever is added and removed', () => {
    const change = fc.tuple(
      fc.boolean(),
      fc.integer({ min: 0, max: 40 }).map((n) => n * 2 ** 30 + (n % 7)),
    );
    fc.assert(
      fc.property(fc.array(change, { maxLength: 400 }), (changes) => {
        const tracker = new CachelineTracker();
        const model = new Map<number, number>();
        for (const [isAdd, line] of changes) {
          const count = model.get(line);
          if (isAdd) {
            expect([tracker.add(line, 0), tracker.overlaps]).toEqual([
              count !== undefined,
              count === undefined ? 0 : Math.min(7, count) + 1,
            ]);
            model.set(line, count === undefined ? 0 : Math.min(7, count) + 1 > 7 ? 7 : count + 1);
          } else {
            tracker.remove(line);
            if (count === 0) model.delete(line);
            else if (count !== undefined) model.set(line, count - 1);
          }
        }
        expect(tracker.size).toBe(model.size);
      }),
      { numRuns: 100 * Number(process.env['DMABUF_SIM_RUNS'] ?? 1) },
    );
  });

  it('stay found when thousands of them come and go', () => {
    const tracker = new CachelineTracker();
    for (let line = 0; line < 5000; line++) expect(tracker.add(line * 64, 1)).toBe(false);
    for (let line = 0; line < 5000; line += 2) tracker.remove(line * 64);
    expect(tracker.size).toBe(2500);
    for (let line = 1; line < 5000; line += 2)
      expect([tracker.add(line * 64, 1), tracker.isShared]).toEqual([true, true]);
    for (let line = 0; line < 5000; line += 2) expect(tracker.add(line * 64, 1)).toBe(false);
  });
});
