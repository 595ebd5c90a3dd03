import { describe, expect, it } from 'vitest';
import { type DmaAddr, PAGE_SIZE, type PhysAddr, physAddr } from '../../src/base/addr.ts';
import { HazardError } from '../../src/base/errors.ts';
import type { Device } from '../../src/dma-api/device.ts';
import type { DmaDirection } from '../../src/dma-api/direction.ts';
import {
  dmaMapPage,
  dmaMappingError,
  dmaMapResource,
  dmaMapSingle,
  dmaSyncSingleForCpu,
  dmaSyncSingleForDevice,
  dmaSyncSingleRangeForCpu,
  dmaSyncSingleRangeForDevice,
  dmaUnmapPage,
  dmaUnmapResource,
  dmaUnmapSingle,
} from '../../src/dma-api/dma-single.ts';
import { DMA_MAPPING_ERROR } from '../../src/dma-api/mapping-error.ts';
import { type Bench, bench, invariant } from '../bench.ts';

const DEVICE_MEMORY = physAddr(0x2000_0000);

function pageOf(b: Bench): PhysAddr {
  return b.scatteredPages(1)[0] as PhysAddr;
}

/** `'clean 1'` and so on: each cache maintenance from now on, with its lines. */
function maintenanceOf(b: Bench): string[] {
  const seen: string[] = [];
  b.sim.trace.on('cache.maintain', ({ op, lines }) => {
    seen.push(`${op} ${lines}`);
    return undefined;
  });
  return seen;
}

const kinds: readonly [string, typeof dmaMapPage, typeof dmaUnmapPage][] = [
  ['a page', dmaMapPage, dmaUnmapPage],
  ['a single buffer', dmaMapSingle, dmaUnmapSingle],
  ['a resource', (dev, _phys, ...rest) => dmaMapResource(dev, DEVICE_MEMORY, ...rest), dmaUnmapResource],
];

describe.each(kinds)('a mapping of %s', (_what, map, unmap) => {
  it.each([true, false])('is made and ended, and traced (checked: %s)', (dmaDebug) => {
    const b = bench({ dmaDebug });
    const device = b.device('cam');
    const address = map(device, pageOf(b), 300, 'from-device');
    expect(dmaMappingError(device, address)).toBe(false);
    unmap(device, address, 300, 'from-device');
    expect([b.count('dma.map'), b.count('dma.unmap')]).toEqual([1, 1]);
  });

  it('can not be ended twice: without the checker that is a clear error, and nothing happens', () => {
    const b = bench({ dmaDebug: false });
    const device = b.device('cam');
    const address = map(device, pageOf(b), 300, 'from-device');
    unmap(device, address, 300, 'from-device');
    const seen = maintenanceOf(b);
    expect(() => unmap(device, address, 300, 'from-device')).toThrow(invariant('nothing is mapped at 0x'));
    expect([seen, b.count('dma.unmap')]).toEqual([[], 1]);
  });

  it.each([0, -64, 1.5, Number.NaN, Number.POSITIVE_INFINITY])('refuses %s bytes, and names the argument', (size) => {
    const b = bench();
    const device = b.device('cam');
    expect(() => map(device, pageOf(b), size, 'to-device')).toThrow(invariant('sizeBytes'));
    expect(() => unmap(device, 0 as DmaAddr, size, 'to-device')).toThrow(invariant('sizeBytes'));
    expect(b.count('dma.map')).toBe(0);
  });

  it('refuses a direction that is none, and names the argument', () => {
    const b = bench();
    const device = b.device('cam');
    const dir = 'sideways' as DmaDirection;
    expect(() => map(device, pageOf(b), 64, dir)).toThrow(invariant('dir sideways is none of'));
    expect(() => unmap(device, 0 as DmaAddr, 64, dir)).toThrow(invariant('dir sideways is none of'));
  });

  it('that fits nothing is left alone when the checker throws', () => {
    const b = bench({ hazards: 'throw' });
    const device = b.device('cam');
    const address = map(device, pageOf(b), 300, 'from-device');
    dmaMappingError(device, address);
    const seen = maintenanceOf(b);
    expect(() => unmap(device, address, 200, 'to-device')).toThrow(HazardError);
    expect([seen, b.count('dma.unmap'), b.machine.dmaDebug?.mappingsOf(device).length]).toEqual([[], 0, 1]);
    unmap(device, address, 300, 'from-device');
  });
});

describe('a mapping of memory', () => {
  it.each([-1, 0.5, Number.NaN, 2 ** 52])('refuses address %s, and names the argument', (phys) => {
    const b = bench();
    const device = b.device('cam');
    for (const map of [dmaMapPage, dmaMapSingle, dmaMapResource]) {
      expect(() => map(device, phys as PhysAddr, 64, 'to-device')).toThrow(invariant('phys'));
    }
  });

  it('without pages is refused by the functions for pages, and is fine as a resource (T3)', () => {
    const b = bench({ hazards: 'record' });
    const device = b.device('cam', { coherent: true });
    expect(dmaMapPage(device, DEVICE_MEMORY, 64, 'to-device')).toBe(DMA_MAPPING_ERROR);
    expect(dmaMapSingle(device, DEVICE_MEMORY, 64, 'to-device')).toBe(DMA_MAPPING_ERROR);
    expect(b.sim.hazards.map(({ hazard }) => hazard)).toEqual(['dma-map.pageless', 'dma-map.pageless']);
    const address = dmaMapResource(device, DEVICE_MEMORY, 64, 'to-device');
    dmaMappingError(device, address);
    dmaUnmapResource(device, address, 64, 'to-device');
    expect(b.sim.hazards).toHaveLength(2);
  });

  it('that ends in memory without pages is refused, too', () => {
    const b = bench({ hazards: 'throw' });
    const { end } = b.machine.memory.regionAt(pageOf(b)) ?? expect.fail('no region');
    expect(() => dmaMapPage(b.device('cam'), physAddr(end - 64), 128, 'to-device')).toThrow(
      expect.objectContaining({ hazard: 'dma-map.pageless' }),
    );
  });

  it('with pages is refused as a resource', () => {
    const b = bench({ hazards: 'record' });
    const device = b.device('cam');
    expect(dmaMapResource(device, pageOf(b), 64, 'to-device')).toBe(DMA_MAPPING_ERROR);
    expect(b.sim.hazards).toMatchObject([{ hazard: 'dma-map.resource-is-ram', device: 'cam' }]);
  });

  it('is ended again when the checker refuses it', () => {
    const b = bench({ hazards: 'throw' });
    const device = b.device('cam', { iommu: true });
    const phys = pageOf(b);
    const address = dmaMapPage(device, phys, 64, 'from-device');
    dmaMappingError(device, address);
    const refused = expect.objectContaining({ hazard: 'dma-debug.cacheline-overlap' });
    expect(() => dmaMapPage(device, phys, 64, 'from-device')).toThrow(refused);
    expect(() => dmaMapSingle(device, { kind: 'text', phys, inLinearMap: true }, 64, 'to-device')).toThrow(
      expect.objectContaining({ hazard: 'dma-debug.maps-kernel-text' }),
    );
    dmaUnmapPage(device, address, 64, 'from-device');
    expect(b.machine.dmaDebug?.mappingsOf(device)).toEqual([]);
  });

  it('of an unknown kind is refused, and the argument is named', () => {
    const b = bench();
    const memory = { kind: 'heap', phys: pageOf(b) } as unknown as PhysAddr;
    expect(() => dmaMapSingle(b.device('cam'), memory, 64, 'to-device')).toThrow(invariant('memory.kind heap'));
  });
});

describe('syncing a part of a mapping', () => {
  function withMapping(dir: DmaDirection, body: (b: Bench, device: Device, address: DmaAddr) => void): void {
    const b = bench();
    const device = b.device('cam');
    const address = dmaMapPage(device, pageOf(b), PAGE_SIZE, dir);
    dmaMappingError(device, address);
    body(b, device, address);
    dmaUnmapPage(device, address, PAGE_SIZE, dir);
  }

  it('touches the lines of that part only, by address or by offset', () => {
    withMapping('bidirectional', (b, device, address) => {
      const seen = maintenanceOf(b);
      const part = { offset: 512, sizeBytes: 128 };
      dmaSyncSingleForCpu(device, (address + 512) as DmaAddr, 128, 'bidirectional');
      dmaSyncSingleRangeForCpu(device, address, part, 'bidirectional');
      dmaSyncSingleForDevice(device, (address + 512) as DmaAddr, 128, 'bidirectional');
      dmaSyncSingleRangeForDevice(device, address, part, 'bidirectional');
      expect(seen).toEqual(['invalidate 2', 'invalidate 2', 'clean 2', 'clean 2']);
      expect(b.count('dma.sync')).toBe(4);
    });
  });

  it.each([-1, 0.5, Number.NaN])('refuses offset %s, and names the argument', (offset) => {
    withMapping('bidirectional', (_b, device, address) => {
      for (const sync of [dmaSyncSingleRangeForCpu, dmaSyncSingleRangeForDevice]) {
        expect(() => sync(device, address, { offset, sizeBytes: 64 }, 'bidirectional')).toThrow(invariant('offset'));
      }
    });
  });

  it('refuses a size or a direction that is none, and names the argument', () => {
    withMapping('bidirectional', (_b, device, address) => {
      for (const sync of [dmaSyncSingleForCpu, dmaSyncSingleForDevice]) {
        expect(() => sync(device, address, 0, 'bidirectional')).toThrow(invariant(`${sync.name}: sizeBytes 0`));
        expect(() => sync(device, address, 64, 'up' as DmaDirection)).toThrow(invariant(`${sync.name}: dir up`));
      }
    });
  });

  it('does nothing when the checker throws', () => {
    withMapping('to-device', (b, device, address) => {
      const seen = maintenanceOf(b);
      expect(() => dmaSyncSingleForCpu(device, address, 64, 'from-device')).toThrow(
        expect.objectContaining({ hazard: 'dma-debug.sync-direction-mismatch' }),
      );
      expect(seen).toEqual([]);
    });
  });
});
