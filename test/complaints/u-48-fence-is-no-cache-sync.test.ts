/** A reader waits for the fence of the writer and not for the caches: the right time, the old bytes. */
import { describe, expect, it } from 'vitest';
import {
  DMA_BUF_IOCTL_EXPORT_SYNC_FILE,
  DMA_BUF_SYNC,
  Gpu,
  type MachineOptions,
  POLL,
  us,
  videoCore6,
} from '../../src/index.ts';
import { bytesOf, deviceOf, freeHardware, machineOf, open, type Platform, reports, sync, wrong } from './scene.ts';

const BYTES = 4096;
const { start, end, read } = DMA_BUF_SYNC;

/** The GPU draws for 50 us; the app waits for the fence, for the bracket, or for nothing. */
function look(
  platform: Platform,
  waits: { readonly fence: boolean; readonly bracket: boolean },
  options: MachineOptions = {},
) {
  const machine = machineOf(platform, options);
  const { sim } = machine;
  const gpu = new Gpu(deviceOf(machine, platform, 'gpu0'), videoCore6);
  const app = machine.addProcess({ name: 'app' });
  const wrongBytes = sim.run(function* () {
    const buf = machine.systemHeap.alloc(BYTES, 'frame');
    const target = yield* gpu.importBuffer(buf);
    const { fd, pixels } = yield* open(app, buf);
    pixels.read(0, BYTES); // in the cache, as it was
    yield* gpu.submitSynced({
      name: 'draw',
      writes: [target],
      *run(memory) {
        yield* sim.delay(us(50));
        memory.write(target.gpuVa, bytesOf(0x77, BYTES), 0, BYTES);
      },
    });
    if (waits.fence) {
      const fence = (yield* app.ioctl(fd, DMA_BUF_IOCTL_EXPORT_SYNC_FILE, { flags: read })).fd;
      yield* app.poll([{ fd: fence, events: POLL.in }]);
      yield* app.close(fence);
    }
    if (waits.bracket) yield* sync(app, fd, start | read);
    const seen = wrong(pixels.read(0, BYTES), 0x77);
    if (waits.bracket) yield* sync(app, fd, end | read);
    yield* gpu.release();
    app.exit();
    return seen;
  });
  return { wrongBytes, found: reports(sim) };
}

describe('U-48: "I wait for the fence, and the picture is the old one; x86 is coherent, isn’t it?"', () => {
  it('is fine on a platform whose devices snoop', () => {
    expect(look('pc', { fence: true, bracket: false })).toEqual({ wrongBytes: 0, found: [] });
  });

  it('is the old picture on one whose devices do not: the fence says when, the bracket makes it visible', () => {
    const { wrongBytes, found } = look('arm', { fence: true, bracket: false });
    expect(wrongBytes).toBe(BYTES);
    expect(found).toEqual([expect.stringMatching(/^cpu-read\.stale <- missing-begin-cpu-access: app must call/)]);
  });

  it('is right with both, whatever the hardware does in between', () => {
    for (const options of [{}, ...freeHardware()]) {
      expect(look('arm', { fence: true, bracket: true }, options)).toEqual({ wrongBytes: 0, found: [] });
    }
  });

  it('is right with the bracket alone on hardware that fetches nothing on its own: START waits for the fence as well', () => {
    expect(look('arm', { fence: false, bracket: true })).toEqual({ wrongBytes: 0, found: [] });
  });

  it('but START waits after the exporter has dropped the old lines: speculation brings them back before the GPU writes', () => {
    const runs = freeHardware(16).map((options) => look('arm', { fence: false, bracket: true }, options));
    const bad = runs.filter(({ wrongBytes }) => wrongBytes > 0);
    expect(bad.length).toBeGreaterThan(0);
    for (const { found } of bad) {
      expect(found).toEqual([`cpu-read.stale <- missing-fence: app must call wait for fence gpu0:1 (job 'draw')`]);
    }
  });

  it('is a race without both, also where everything snoops', () => {
    expect(look('pc', { fence: false, bracket: false }).found).toEqual(['access.read-while-writing']);
  });
});
