/** A signal interrupts SYNC_START, the app does not look at its result, reads, and ends a bracket that never began. */
import { describe, expect, it } from 'vitest';
import { DMA_BUF_SYNC, ErrnoError, Gpu, type Op, type Process, videoCore6 } from '../../src/index.ts';
import { bytesOf, deviceOf, machineOf, open, reports, sync, wrong } from './scene.ts';

const BYTES = 4096;
const { start, end, read } = DMA_BUF_SYNC;

function* startOnce(app: Process, fd: number): Op<boolean> {
  try {
    yield* sync(app, fd, start | read);
    return true;
  } catch (error) {
    if (error instanceof ErrnoError && error.code === 'EINTR') return false;
    throw error;
  }
}

/** The GPU draws for 50 us, the app wants to look, a signal comes after 10. */
function program(retries: boolean) {
  const machine = machineOf('arm');
  const gpu = new Gpu(deviceOf(machine, 'arm', 'gpu0'), { ...videoCore6, launchNs: 0 });
  const app = machine.addProcess({ name: 'app' });
  const { sim } = machine;
  const wrongBytes = sim.run(function* () {
    const buf = machine.systemHeap.alloc(BYTES, 'frame');
    const target = yield* gpu.importBuffer(buf, { access: 'write' });
    const { fd, pixels } = yield* open(app, buf);
    yield* gpu.submitSynced({
      name: 'draw',
      writes: [target],
      *run(memory) {
        yield* sim.delay(50_000);
        memory.write(target.gpuVa, bytesOf(0x77, BYTES), 0, BYTES);
      },
    });
    sim.after(10_000, () => {
      app.interrupt();
      return undefined;
    });
    let began = yield* startOnce(app, fd);
    while (retries && !began) began = yield* startOnce(app, fd);
    const seen = wrong(pixels.read(0, BYTES), 0x77);
    yield* sync(app, fd, end | read);
    yield* gpu.release();
    app.exit();
    return seen;
  });
  return { wrongBytes, sim };
}

describe('U-02: "reading back a frame sometimes gives garbage; I do call SYNC_START"', () => {
  it('happens when a signal ends SYNC_START early and nobody looks: END is without a START', () => {
    const { wrongBytes, sim } = program(false);
    expect(wrongBytes).toBe(BYTES);
    expect(sim.hazards.find(({ hazard }) => hazard === 'dmabuf.unbalanced-sync')).toMatchObject({
      buf: 'frame',
      who: 'app',
      call: 'ioctl(DMA_BUF_IOCTL_SYNC, END | READ)',
      open: '',
      remedy: expect.stringMatching(/START \| READ\) failed with EINTR.*repeat it/),
    });
  });

  it('is mended by trying again until SYNC_START succeeds', () => {
    const { wrongBytes, sim } = program(true);
    expect([wrongBytes, reports(sim)]).toEqual([0, []]);
  });
});
