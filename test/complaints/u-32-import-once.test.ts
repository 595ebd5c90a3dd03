/** A compositor imports a client's buffer for every frame; importing it once saves the mapping, the unmapping and the invalidations. */
import { describe, expect, it } from 'vitest';
import { Camera, type CameraOptions } from '../../src/index.ts';
import { bytesOf, deviceOf, FRAME_BYTES, machineOf, smallCamera } from './scene.ts';

const FRAMES = 8;

/** What so many frames cost. */
function capture(mapping: NonNullable<CameraOptions['mapping']>) {
  const machine = machineOf('arm');
  const dev = deviceOf(machine, 'arm', 'camera0');
  const camera = new Camera(dev, smallCamera, { mapping, source: () => bytesOf(1, FRAME_BYTES) });
  const counts = { maps: 0, unmaps: 0, maintained: 0 };
  machine.sim.trace.on('dma.map', () => {
    counts.maps++;
    return undefined;
  });
  machine.sim.trace.on('dma.unmap', () => {
    counts.unmaps++;
    return undefined;
  });
  machine.sim.trace.on('cache.maintain', () => {
    counts.maintained++;
    return undefined;
  });
  machine.sim.run(function* () {
    const buf = machine.systemHeap.alloc(FRAME_BYTES, 'frame');
    const buffer = yield* camera.importBuffer(buf);
    for (let frame = 0; frame < FRAMES; frame++) {
      yield* camera.qbuf(buffer);
      if (frame === 0) yield* camera.streamOn();
      yield* camera.dqbuf();
    }
    yield* camera.release();
    buf.put();
  });
  return { ...counts, invalidations: dev.iommuGroup?.domain?.iotlbSyncCount ?? 0 };
}

describe('U-32: "import once, not per frame"', () => {
  it('maps and unmaps once for all frames, or once for each', () => {
    const [once, each] = [capture('stream'), capture('frame')];
    expect([once.maps, once.unmaps, each.maps, each.unmaps]).toEqual([1, 1, FRAMES, FRAMES]);
    expect(once.maintained).toBeLessThan(each.maintained);
    expect([once.invalidations, each.invalidations]).toEqual([1, FRAMES]);
  });
});
