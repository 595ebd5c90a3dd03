/** An importer demands more bytes than the geometry says: rows of padding. */
import { describe, expect, it } from 'vitest';
import { Camera, frameLayout } from '../../src/index.ts';
import { deviceOf, failing, machineOf, smallCamera } from './scene.ts';

const BYTES_PER_LINE = 128;
/** 64x32 in NV12. */
const GEOMETRY_BYTES = (64 * 32 * 3) / 2;

function importOf(sizeBytes: number): string {
  const machine = machineOf('arm');
  const camera = new Camera(deviceOf(machine, 'arm', 'camera0'), { ...smallCamera, bytesPerLine: BYTES_PER_LINE });
  return machine.sim.run(function* () {
    const buf = machine.systemHeap.alloc(sizeBytes, 'frame');
    const error = yield* failing(() => camera.importBuffer(buf));
    yield* camera.release();
    buf.put();
    return error;
  });
}

describe('U-39: "the buffer has all the bytes of an NV12 picture, and the import fails"', () => {
  const { sizeBytes } = frameLayout('NV12', { width: 64, height: 32, strideBytes: BYTES_PER_LINE });

  it('is refused with both numbers: what it has, and what the importer needs with its padding', () => {
    expect(importOf(GEOMETRY_BYTES)).toMatch(
      new RegExp(`EINVAL.*frame has 4096 bytes, a frame of camera0 needs ${sizeBytes}`),
    );
  });

  it('is taken with what frameLayout answers', () => {
    expect(importOf(sizeBytes)).toBe('none');
  });
});
