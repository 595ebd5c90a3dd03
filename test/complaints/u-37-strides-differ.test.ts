/** A producer's stride is a multiple of 16 bytes, the display's of 64: the import is refused, and says which multiple is missing. */
import { describe, expect, it } from 'vitest';
import { Display, reducedBlankingMode } from '../../src/index.ts';
import { deviceOf, failing, machineOf } from './scene.ts';

function importWith(strideBytes: number): string {
  const machine = machineOf('arm');
  const params = { mode: reducedBlankingMode(60, 32, 60), strideAlignBytes: 64 };
  const display = new Display(deviceOf(machine, 'arm', 'display0'), params);
  return machine.sim.run(function* () {
    const buf = machine.systemHeap.alloc(strideBytes * 32, 'picture');
    const size = { width: 60, height: 32, strideBytes, format: 'XR24' } as const;
    const error = yield* failing(() => display.importFramebuffer(buf, size));
    yield* display.release();
    buf.put();
    return error;
  });
}

describe('U-37: "video is black with a stride of 240, and fine with 256"', () => {
  it('is refused at import, with the stride and the multiple', () => {
    expect(importWith(240)).toMatch(/EINVAL.*picture: strideBytes 240 is no multiple of 64/);
  });

  it('is taken when the producer pads its rows', () => {
    expect(importWith(256)).toBe('none');
  });
});
