/** A display that reaches little memory shows the copy that was made when the buffer was imported: a picture of zeros. */
import { describe, expect, it } from 'vitest';
import { type Device, dmaSyncSgtableForDevice, type Op, pc, type SgTable } from '../../src/index.ts';
import { bytesOf, mappedFor, reports, wrong } from './scene.ts';

const BYTES = 4096;

/** A decoder writes above 4 GiB, a display with 32 address bits imported the buffer before. */
function decoded(handsOver: (display: Device, sgt: SgTable) => void, displayBits = 32) {
  const machine = pc({ vtd: false, hazards: 'record', swiotlbBytes: 1024 * 1024 });
  const decoder = machine.addDevice({ name: 'decoder0', coherent: true, dmaMaskBits: 40 });
  const display = machine.addDevice({ name: 'display0', coherent: true, dmaMaskBits: displayBits });
  const out = new Uint8Array(BYTES);
  machine.sim.run(function* () {
    const frame = machine.systemHeap.alloc(BYTES, 'nv12');
    yield* mappedFor(display, frame, 'to-device', function* (shown): Op<void> {
      yield* mappedFor(decoder, frame, 'from-device', function* (sgt): Op<void> {
        decoder.port.write(sgt.dmaAddress(0), bytesOf(0x90, BYTES), 0, BYTES);
        yield* machine.sim.delay(1000);
      });
      handsOver(display, shown);
      display.port.read(shown.dmaAddress(0), out, 0, BYTES);
    });
    frame.put();
  });
  return { wrongBytes: wrong(out, 0x90), sim: machine.sim };
}

describe('U-03: "the video is all green: NV12 of zeros"', () => {
  it('comes from the bounce copy, which nobody brings up to date after import', () => {
    const { wrongBytes, sim } = decoded(() => undefined);
    expect(wrongBytes).toBe(BYTES);
    expect(reports(sim)).toEqual([
      expect.stringMatching(
        /^device-read\.stale <- bounce-without-sync: display0 driver must call dmaSyncSgtableForDevice/,
      ),
    ]);
  });

  it('is gone when the driver of the display hands the buffer over for each frame', () => {
    const { wrongBytes, sim } = decoded((display, sgt) => {
      dmaSyncSgtableForDevice(display, sgt, 'to-device');
    });
    expect([wrongBytes, reports(sim)]).toEqual([0, []]);
  });

  it('is gone when the display reaches the memory, and then no sync is needed', () => {
    const { wrongBytes, sim } = decoded(() => undefined, 40);
    expect([wrongBytes, reports(sim)]).toEqual([0, []]);
  });
});
