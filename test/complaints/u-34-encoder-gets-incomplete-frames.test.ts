/** A USB camera's frame is copied by the CPU and encoded by a device: some of it is old. */
import { describe, expect, it } from 'vitest';
import type { MachineOptions } from '../../src/index.ts';
import {
  bracketed,
  bytesOf,
  deviceOf,
  freeHardware,
  machineOf,
  mappedFor,
  open,
  type Platform,
  reports,
  wrong,
} from './scene.ts';

const BYTES = 4096;

function encode(platform: Platform, isBracketed: boolean, options: MachineOptions = {}) {
  const machine = machineOf(platform, options);
  const encoder = deviceOf(machine, platform, 'vpu0');
  const app = machine.addProcess({ name: 'gstreamer' });
  const wrongBytes = machine.sim.run(function* () {
    const buf = machine.systemHeap.alloc(BYTES, 'frame');
    const { fd, pixels } = yield* open(app, buf);
    return yield* mappedFor(encoder, buf, 'to-device', function* (sgt) {
      yield* bracketed(app, fd, 'write', () => pixels.write(0, bytesOf(0x42, BYTES)), isBracketed);
      const seen = new Uint8Array(BYTES);
      encoder.port.read(sgt.dmaAddress(0), seen, 0, BYTES);
      return wrong(seen, 0x42);
    });
  });
  app.exit();
  return { wrongBytes, found: reports(machine.sim) };
}

describe('U-34: "the encoded picture has stripes of the frame before"', () => {
  it('has, when the CPU wrote it without a bracket, and the report names the end of one', () => {
    const { wrongBytes, found } = encode('arm', false);
    expect(wrongBytes).toBeGreaterThan(0);
    expect(found).toEqual([
      expect.stringMatching(/^device-read\.stale <- missing-end-cpu-access: gstreamer must call ioctl.*END \| .*WRITE/),
    ]);
  });

  it('has not, in a bracket for writing, or where the encoder snoops', () => {
    expect(encode('arm', true)).toEqual({ wrongBytes: 0, found: [] });
    expect(encode('pc', false)).toEqual({ wrongBytes: 0, found: [] });
    for (const options of freeHardware()) {
      expect(encode('arm', true, options)).toEqual({ wrongBytes: 0, found: [] });
      expect(encode('pc', false, options)).toEqual({ wrongBytes: 0, found: [] });
    }
  });
});
