/** The IO addresses of a 32-bit device run out, with RAM to spare: every mapping that is kept takes some. */
import { describe, expect, it } from 'vitest';
import { type Device, dmaMapSgtable, dmaUnmapSgtable, GIB, type Machine, MIB, pc, SgTable } from '../../src/index.ts';

const FRAME_BYTES = 128 * MIB;
const FRAMES = 40;

function setUp(): { machine: Machine; codec: Device; frame: SgTable } {
  const machine = pc({ cmaBytes: FRAME_BYTES, shadow: false, dmaDebug: false, bytes: false });
  const codec = machine.addDevice({
    ...{ name: 'codec0', coherent: true, iommu: true, dmaMaskBits: 32 },
    maxSegmentSizeBytes: 2 ** 31,
  });
  return { machine, codec, frame: new SgTable([{ phys: machine.cma.base, length: FRAME_BYTES }]) };
}

/** Maps `FRAMES` frames one after the other. @returns how many worked, and the error of the next. */
function decode(end: (codec: Device, sgt: SgTable) => void): { decoded: number; error: string } {
  const { codec, frame } = setUp();
  for (let decoded = 0; decoded < FRAMES; decoded++) {
    const sgt = frame.clone();
    try {
      dmaMapSgtable(codec, sgt, 'to-device');
    } catch (error) {
      return { decoded, error: String(error) };
    }
    end(codec, sgt);
  }
  return { decoded: FRAMES, error: 'none' };
}

describe('U-14: "the codec cannot map frames any more after a while, and free shows gigabytes"', () => {
  it('ends when 4 GiB of IO addresses are in use, however much RAM is free', () => {
    const { decoded, error } = decode(() => undefined);
    expect(decoded).toBeGreaterThan((4 * GIB) / FRAME_BYTES - 3);
    expect(decoded).toBeLessThan((4 * GIB) / FRAME_BYTES);
    expect(error).toMatch(/ENOMEM.*codec0/);
  });

  it('goes on for ever when each mapping ends with its frame', () => {
    expect(decode((codec, sgt) => dmaUnmapSgtable(codec, sgt, 'to-device'))).toEqual({
      decoded: FRAMES,
      error: 'none',
    });
  });

  it('goes on for ever with a cache of mappings that is bounded', () => {
    const cached: SgTable[] = [];
    const { decoded } = decode((codec, sgt) => {
      cached.push(sgt);
      const oldest = cached.length > 16 ? cached.shift() : undefined;
      if (oldest !== undefined) dmaUnmapSgtable(codec, oldest, 'to-device');
    });
    expect(decoded).toBe(FRAMES);
  });
});
