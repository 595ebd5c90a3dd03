import { describe, expect, it } from 'vitest';
import { PAGE_SIZE, pfnToPhys, physAddr } from '../../src/base/addr.ts';
import { KIB } from '../../src/base/units.ts';
import { dmaAllocCoherent, dmaFreeCoherent } from '../../src/dma-api/dma-alloc.ts';
import { dmaIovaTryAlloc } from '../../src/dma-api/dma-iova.ts';
import {
  dmaMapSg,
  dmaMapSgtable,
  dmaSyncSgtableForCpu,
  dmaSyncSgtableForDevice,
  dmaUnmapSg,
  dmaUnmapSgtable,
} from '../../src/dma-api/dma-map.ts';
import {
  dmaMapPage,
  dmaSyncSingleForCpu,
  dmaSyncSingleRangeForDevice,
  dmaUnmapPage,
} from '../../src/dma-api/dma-single.ts';
import { dmaSyncRectForCpu } from '../../src/dma-api/dma-sync-rect.ts';
import { SgTable } from '../../src/dma-api/sg-table.ts';
import { pc } from '../../src/platform/pc.ts';
import { type Bench, bench } from '../bench.ts';

function scene(options: Parameters<typeof bench>[0] = {}) {
  const b = bench({ dmaDebug: false, ...options });
  return { b, cam: b.device('cam0', { iommu: true }) };
}

/** Oldest first: what, and of which bytes. */
function notes({ sim }: Pick<Bench, 'sim'>) {
  const records = [...sim.syncs.youngestFirst()].reverse();
  return records.map(({ op, call, phys }) => [
    op,
    call,
    ...(phys === null ? [] : Array.from(phys.base, (at, i) => [at, phys.size[i]])),
  ]);
}

describe('what the DMA API notes of hand-overs', () => {
  it('is each call of a table as the driver writes it, with the memory of all extents', () => {
    const { b, cam } = scene();
    const sgt = b.scattered(2);
    const memory = sgt.extents().map(({ phys, length }) => [phys, length]);
    dmaMapSgtable(cam, sgt, 'from-device');
    dmaSyncSgtableForCpu(cam, sgt, 'from-device');
    dmaSyncSgtableForDevice(cam, sgt, 'from-device');
    dmaUnmapSgtable(cam, sgt, 'from-device', { skipCpuSync: true });
    expect(notes(b)).toEqual([
      ['map', 'dmaMapSgtable(cam0, from-device)', ...memory],
      ['sync-for-cpu', 'dmaSyncSgtableForCpu(cam0, from-device)', ...memory],
      ['sync-for-device', 'dmaSyncSgtableForDevice(cam0, from-device)', ...memory],
      ['unmap', 'dmaUnmapSgtable(cam0, from-device, skipCpuSync)', ...memory],
    ]);
    const [last] = b.sim.syncs.youngestFirst();
    expect(last).toMatchObject({ by: 'cam0 driver', device: 'cam0', dir: 'from-device', skipped: true, within: 0 });
    expect(last?.site?.text).toMatch(/^sync-notes\.test\.ts:\d+:\d+$/);
  });

  it('is the part of a table that was mapped', () => {
    const { b, cam } = scene();
    const sgt = b.scattered(3);
    dmaMapSg(cam, sgt, 'to-device', {}, 2);
    dmaUnmapSg(cam, sgt, 'to-device');
    expect(notes(b).map((note) => note.length - 2)).toEqual([2, 2]);
  });

  it('is the memory behind the addresses that are synced, in the middle of a mapping and row by row', () => {
    const { b, cam } = scene();
    const frame = b.machine.pages.allocPages({ pageCount: 2, owner: 'test' });
    const phys = pfnToPhys(frame) + 0x40;
    const address = dmaMapPage(cam, physAddr(phys), PAGE_SIZE, 'bidirectional');
    dmaSyncSingleForCpu(cam, address, 64, 'bidirectional');
    dmaSyncSingleRangeForDevice(cam, address, { offset: 100, sizeBytes: 8 }, 'bidirectional');
    dmaSyncRectForCpu(cam, address, { pitchBytes: 256, x: 16, widthBytes: 32, y: 1, rows: 3 }, 'bidirectional');
    dmaUnmapPage(cam, address, PAGE_SIZE, 'bidirectional');
    b.machine.pages.freePages(frame, 2);
    expect(notes(b)).toEqual([
      ['map', 'dmaMapPage(cam0, bidirectional)', [phys, PAGE_SIZE]],
      ['sync-for-cpu', 'dmaSyncSingleForCpu(cam0, bidirectional)', [phys, 64]],
      ['sync-for-device', 'dmaSyncSingleRangeForDevice(cam0, bidirectional)', [phys + 100, 8]],
      [
        'sync-for-cpu',
        'dmaSyncRectForCpu(cam0, bidirectional)',
        ...[1, 2, 3].map((row) => [phys + 256 * row + 16, 32]),
      ],
      ['unmap', 'dmaUnmapPage(cam0, bidirectional)', [phys, PAGE_SIZE]],
    ]);
  });

  it('is the original of a bounced mapping, not the slot', () => {
    const machine = pc({ swiotlb: 'force', swiotlbBytes: 256 * KIB });
    const dsp = machine.addDevice({ name: 'dsp0', coherent: true });
    const phys = pfnToPhys(machine.pages.allocPages({ order: 0, owner: 'test' }));
    const sgt = new SgTable([{ phys, length: PAGE_SIZE }]);
    dmaMapSgtable(dsp, sgt, 'to-device');
    expect(machine.swiotlb?.isBounce(sgt.dmaAddress(0))).toBe(true);
    dmaUnmapSgtable(dsp, sgt, 'to-device');
    expect(notes(machine).map(([, , piece]) => piece)).toEqual([
      [phys, PAGE_SIZE],
      [phys, PAGE_SIZE],
    ]);
  });

  it('is an allocation with its end, and a piece of a run with its own', () => {
    const { b, cam } = scene();
    const ring = dmaAllocCoherent(cam, 100) ?? expect.fail('no memory');
    dmaFreeCoherent(cam, ring);
    const run = dmaIovaTryAlloc(cam, PAGE_SIZE) ?? expect.fail('no run');
    run.link(b.scattered(1).physAddress(0), 0, PAGE_SIZE, 'to-device');
    run.destroy(PAGE_SIZE, 'to-device');
    expect(notes(b).map(([op, call]) => [op, call])).toEqual([
      ['map', 'dmaAllocCoherent(cam0, bidirectional)'],
      ['unmap', 'dmaFreeCoherent(cam0, bidirectional)'],
      ['map', 'dmaIovaLink(cam0, to-device)'],
      ['unmap', 'dmaIovaUnlink(cam0, to-device)'],
    ]);
  });

  it('is nothing while nobody watches', () => {
    const { b, cam } = scene({ watch: false });
    const sgt = b.scattered(1);
    dmaMapSgtable(cam, sgt, 'to-device');
    dmaUnmapSgtable(cam, sgt, 'to-device');
    expect(notes(b)).toEqual([]);
  });

  it('ends with the device what its driver left mapped', () => {
    const b = bench({ hazards: 'record', dmaDebug: false });
    const cam = b.device('cam0', { iommu: true });
    dmaMapSgtable(cam, b.scattered(1), 'to-device');
    b.machine.removeDevice(cam);
    expect([...b.sim.addresses.live]).toEqual([]);
    expect(Array.from(b.sim.addresses.ended, ({ end }) => end?.how)).toEqual(['device-removed']);
  });
});
