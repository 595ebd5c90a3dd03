/** A driver invalidates before it starts the DMA, and reads afterwards: a speculative load has brought old lines back in between. */
import { describe, expect, it } from 'vitest';
import { type Chooser, DMA_BUF_SYNC, dmaAddr, FifoChooser, Prng } from '../../src/index.ts';
import { AdversarialChooser } from '../../src/sim/adversarial-chooser.ts';
import { bytesOf, deviceOf, machineOf, mappedFor, open, reports, sync, wrong } from './scene.ts';

const BYTES = 4096;
const { start, end, read } = DMA_BUF_SYNC;

/** The camera fills the frame in pieces, while the app works on its neighbour in memory. */
function capture(chooser: Chooser, syncs: 'before' | 'after') {
  const machine = machineOf('arm', { chooser });
  const camera = deviceOf(machine, 'arm', 'camera0');
  const app = machine.addProcess({ name: 'app' });
  const wrongBytes = machine.sim.run(function* () {
    const buf = machine.systemHeap.alloc(2 * BYTES, 'frame');
    const { fd, pixels } = yield* open(app, buf);
    return yield* mappedFor(camera, buf, 'from-device', function* (sgt) {
      if (syncs === 'before') yield* sync(app, fd, start | read);
      pixels.read(BYTES, BYTES); // the half that is not captured into
      for (let at = 0; at < BYTES; at += 512) {
        camera.port.write(dmaAddr(sgt.dmaAddress(0) + at), bytesOf(0xc5, 512), 0, 512);
        pixels.read(BYTES, 512);
        yield* machine.sim.delay(1000);
      }
      if (syncs === 'after') yield* sync(app, fd, start | read);
      const seen = wrong(pixels.read(0, BYTES), 0xc5);
      yield* sync(app, fd, end | read);
      return seen;
    });
  });
  app.exit();
  return { wrongBytes, found: reports(machine.sim) };
}

describe('U-35: "I do invalidate the buffer before the DMA, and still see old data now and then"', () => {
  const seeds = Array.from({ length: 8 }, (_, seed) => seed + 1);

  it('looks right on hardware that fetches nothing on its own', () => {
    expect(capture(new FifoChooser(), 'before').wrongBytes).toBe(0);
  });

  it('is wrong with some speculative loads, and the report names the call that belongs behind the DMA', () => {
    const runs = seeds.map((seed) => capture(new AdversarialChooser(new Prng(seed)), 'before'));
    const bad = runs.filter(({ wrongBytes }) => wrongBytes > 0);
    expect(bad.length).toBeGreaterThan(0);
    for (const { found } of bad)
      expect(found).toEqual(['cpu-read.stale <- missing-fence: app must call wait for the fence of camera0']);
  });

  it('is right whatever the hardware does with the invalidate behind the DMA', () => {
    for (const seed of seeds) {
      expect(capture(new AdversarialChooser(new Prng(seed)), 'after')).toEqual({ wrongBytes: 0, found: [] });
    }
  });
});
