/** A captured frame is read through its mapping without a sync: fine on a PC, old on an Arm board. */
import { describe, expect, it } from 'vitest';
import { Camera, type MachineOptions } from '../../src/index.ts';
import {
  bracketed,
  bytesOf,
  deviceOf,
  FRAME_BYTES,
  freeHardware,
  machineOf,
  open,
  type Platform,
  reports,
  smallCamera,
  wrong,
} from './scene.ts';

/** Captures two frames into one buffer and reads each. @returns wrong bytes of the second. */
function secondFrame(
  platform: Platform,
  isBracketed: boolean,
  options: MachineOptions = {},
): { wrongBytes: number; found: string[] } {
  const machine = machineOf(platform, options);
  const camera = new Camera(deviceOf(machine, platform, 'camera0'), smallCamera, {
    source: (sequence) => bytesOf(sequence + 1, FRAME_BYTES),
  });
  const app = machine.addProcess({ name: 'app' });
  const wrongBytes = machine.sim.run(function* () {
    const buf = machine.systemHeap.alloc(FRAME_BYTES, 'frame');
    const buffer = yield* camera.importBuffer(buf);
    const { fd, pixels } = yield* open(app, buf);
    let seen = 0;
    for (const round of [0, 1]) {
      yield* camera.qbuf(buffer);
      if (round === 0) yield* camera.streamOn();
      const { sequence } = yield* camera.dqbuf();
      const frame = yield* bracketed(app, fd, 'read', () => pixels.read(0, FRAME_BYTES), isBracketed);
      seen = wrong(frame, sequence + 1);
    }
    yield* camera.release();
    app.exit();
    return seen;
  });
  return { wrongBytes, found: reports(machine.sim) };
}

describe('U-01: "the picture that I read from the camera is the last one, but only on my Arm board"', () => {
  it('is right on a platform whose devices snoop the caches, without a sync', () => {
    expect(secondFrame('pc', false)).toEqual({ wrongBytes: 0, found: [] });
  });

  it('is the old picture on one whose devices do not, and the report names the ioctl', () => {
    const { wrongBytes, found } = secondFrame('arm', false);
    expect(wrongBytes).toBe(FRAME_BYTES);
    expect(found.at(-1)).toMatch(/^cpu-read\.stale <- missing-begin-cpu-access: app must call ioctl.*START \| .*READ/);
  });

  it.each(['arm', 'pc'] as const)('is right everywhere in a bracket for reading: %s', (platform) => {
    expect(secondFrame(platform, true)).toEqual({ wrongBytes: 0, found: [] });
    for (const options of freeHardware()) {
      expect(secondFrame(platform, true, options)).toEqual({ wrongBytes: 0, found: [] });
    }
  });
});
