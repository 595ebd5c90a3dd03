/** A compositor keeps the descriptor of each frame's buffer: "Too many open files" after a while. */
import { describe, expect, it } from 'vitest';
import { addDmaHeap, DMA_HEAP_IOCTL_ALLOC, describeLeftBuffers, memoryUsage, O } from '../../src/index.ts';
import { leakReport } from '../../src/inspect/leaks.ts';
import { GrowthDetector } from '../../src/inspect/ledger-growth.ts';
import { failing, machineOf } from './scene.ts';

const MAX_FDS = 64;

/** Takes and shows up to 100 frames. @returns how many worked, the error, and what is left. */
function compose(keepsLast: boolean) {
  const machine = machineOf('arm');
  addDmaHeap(machine.sim, machine.systemHeap);
  const app = machine.addProcess({ name: 'compositor', maxFds: MAX_FDS });
  const growth = new GrowthDetector(machine, { warmUpCycles: 0 });
  let frames = 0;
  const error = machine.sim.run(() =>
    failing(function* () {
      const heap = yield* app.open('/dev/dma_heap/system');
      for (; frames < 100; frames++) {
        const { fd } = yield* app.ioctl(heap, DMA_HEAP_IOCTL_ALLOC, { len: 4096, fd_flags: O.rdwr });
        const pixels = yield* app.mmap(fd);
        pixels.write(0, Uint8Array.of(frames));
        pixels.munmap();
        if (!keepsLast) yield* app.close(fd);
        growth.cycle();
      }
    }),
  );
  const usage = memoryUsage(machine.sim, [app]);
  const left = describeLeftBuffers(usage, machine.memory.ledger.liveAllocations());
  const table = leakReport(machine, { expect: [{ name: 'fd 3 of' }] });
  return { frames, error, left, table, hazards: machine.sim.hazards };
}

describe('U-24: "the compositor dies with Too many open files after some minutes"', () => {
  it('leaks one descriptor a frame until there are no more, and the table of what is left says who keeps them', () => {
    const { frames, error, left, table } = compose(true);
    expect(error).toMatch(/EMFILE/);
    expect(frames).toBe(MAX_FDS - 4); // three standard ones and the heap
    expect(left).toHaveLength(frames);
    expect(left[0]).toMatch(/compositor/);
    expect(table.leaks).toMatchObject([
      { object: 'fd', of: 'dmabuf', owner: 'compositor', count: frames, site: expect.stringContaining('u-24') },
    ]);
  });

  it('is reported after three frames, with the place that makes the descriptor', () => {
    const [first, ...others] = compose(true).hazards;
    expect(first).toMatchObject({
      hazard: 'ledger.growth',
      object: 'fd (dmabuf)',
      count: 3,
      site: expect.stringContaining('u-24'),
      remedy: 'close(4)',
    });
    expect(others).toEqual([]);
  });

  it('goes on for ever when each descriptor is closed', () => {
    const { frames, error, left, table, hazards } = compose(false);
    expect([frames, error, left, table.leaks, hazards]).toEqual([100, 'none', [], [], []]);
  });
});
