/** Reading an uncached buffer with the CPU is several times slower than a cached one with its syncs. */
import { describe, expect, it } from 'vitest';
import { SystemHeap } from '../../src/index.ts';
import { bracketed, bytesOf, deviceOf, machineOf, mappedFor, open, reports, wrong } from './scene.ts';

const BYTES = 64 * 1024;

/** Time to read what a camera wrote, in ns, with the bracket. */
function readTime(type: 'cached' | 'uncached') {
  const machine = machineOf('arm');
  const { sim } = machine;
  const camera = deviceOf(machine, 'arm', 'camera0');
  const app = machine.addProcess({ name: 'app' });
  const heap = new SystemHeap(sim, machine.pages, machine.coherency, { type, name: type });
  const result = sim.run(function* () {
    const buf = heap.alloc(BYTES, 'frame');
    const { fd, pixels } = yield* open(app, buf);
    return yield* mappedFor(camera, buf, 'from-device', function* (sgt) {
      camera.port.write(sgt.dmaAddress(0), bytesOf(0x33, BYTES), 0, BYTES);
      yield* sim.delay(0);
      const from = sim.now;
      const seen = yield* bracketed(app, fd, 'read', () => pixels.read(0, BYTES));
      yield* sim.delay(0); // pays what was charged
      return { ns: sim.now - from, wrongBytes: wrong(seen, 0x33) };
    });
  });
  app.exit();
  return { ...result, found: reports(sim) };
}

describe('U-33: "reading the frame takes 60 ms, and memcpy of my own memory takes 3"', () => {
  it('is uncached memory: five times slower and more than cached memory with all its syncs', () => {
    const [cached, uncached] = [readTime('cached'), readTime('uncached')];
    expect([cached.wrongBytes, uncached.wrongBytes]).toEqual([0, 0]);
    expect([cached.found, uncached.found]).toEqual([[], []]);
    expect(uncached.ns / cached.ns).toBeGreaterThan(5);
  });
});
