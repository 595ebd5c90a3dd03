import { describe, expect, it } from 'vitest';
import type { DmaAddr, PhysAddr } from '../../src/base/addr.ts';
import type { Device } from '../../src/dma-api/device.ts';
import { dmaMapPage, dmaMappingError, dmaUnmapPage } from '../../src/dma-api/dma-single.ts';
import { dmaSyncRectForCpu, dmaSyncRectForDevice } from '../../src/dma-api/dma-sync-rect.ts';
import { type Bench, bench, invariant } from '../bench.ts';

const PITCH = 1024;
const IMAGE = 4 * PITCH;

/** Maps a page of four rows, and notes `'invalidate <first byte> + <bytes>'` of each cache maintenance. */
function withImage(body: (dev: Device, address: DmaAddr, seen: string[], b: Bench) => void): void {
  const b = bench({ hazards: 'throw' });
  const device = b.device('cam');
  const page = b.scatteredPages(1)[0] as PhysAddr;
  const address = dmaMapPage(device, page, IMAGE, 'bidirectional');
  dmaMappingError(device, address);
  const seen: string[] = [];
  b.sim.trace.on('cache.maintain', ({ op, phys, bytes }) => {
    seen.push(`${op} ${phys - page} + ${bytes}`);
    return undefined;
  });
  body(device, address, seen, b);
  dmaUnmapPage(device, address, IMAGE, 'bidirectional');
}

describe('syncing a rectangle', () => {
  it('touches the lines of its rows only, in both directions', () => {
    withImage((device, address, seen) => {
      const rect = { pitchBytes: PITCH, x: 128, widthBytes: 64, y: 1, rows: 2 };
      dmaSyncRectForCpu(device, address, rect, 'bidirectional');
      dmaSyncRectForDevice(device, address, rect, 'bidirectional');
      expect(seen).toEqual(['invalidate 1152 + 64', 'invalidate 2176 + 64', 'clean 1152 + 64', 'clean 2176 + 64']);
    });
  });

  it('as wide as the image is one call', () => {
    withImage((device, address, seen, b) => {
      dmaSyncRectForCpu(device, address, { pitchBytes: PITCH, widthBytes: PITCH, rows: 4 }, 'bidirectional');
      expect([seen, b.count('dma.sync')]).toEqual([[`invalidate 0 + ${IMAGE}`], 1]);
    });
  });

  it('that ends below the mapping is a hazard, and nothing happens', () => {
    withImage((device, address, seen) => {
      const rect = { pitchBytes: PITCH, widthBytes: 64, y: 1, rows: 4 };
      expect(() => dmaSyncRectForCpu(device, address, rect, 'bidirectional')).toThrow(
        expect.objectContaining({ hazard: 'dma-debug.sync-out-of-range' }),
      );
      expect(seen).toEqual([]);
    });
  });

  it.each([
    ['pitchBytes', { pitchBytes: 0, widthBytes: 64, rows: 1 }],
    ['x', { pitchBytes: PITCH, x: -1, widthBytes: 64, rows: 1 }],
    ['widthBytes', { pitchBytes: PITCH, widthBytes: 0, rows: 1 }],
    ['widthBytes', { pitchBytes: PITCH, x: 1, widthBytes: PITCH, rows: 1 }],
    ['y', { pitchBytes: PITCH, widthBytes: 64, y: 0.5, rows: 1 }],
    ['rows', { pitchBytes: PITCH, widthBytes: 64, rows: Number.NaN }],
  ])('refuses a bad %s, and names it', (what, rect) => {
    withImage((device, address, seen) => {
      expect(() => dmaSyncRectForCpu(device, address, rect, 'bidirectional')).toThrow(invariant(what));
      expect(() => dmaSyncRectForDevice(device, address, rect, 'bidirectional')).toThrow(invariant(what));
      expect(seen).toEqual([]);
    });
  });
});
