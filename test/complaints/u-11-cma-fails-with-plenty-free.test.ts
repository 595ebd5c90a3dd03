/** Contiguous memory is refused although much is free: it is in pieces. */
import { describe, expect, it } from 'vitest';
import { addDmaHeap, DMA_HEAP_IOCTL_ALLOC, fragmentCma, MIB } from '../../src/index.ts';
import { failing, machineOf } from './scene.ts';

/** A process asks the heap for `bytes` after long use of the area. */
function allocAfterUse(bytes: number, maxFreeOrder: number) {
  const machine = machineOf('arm');
  addDmaHeap(machine.sim, machine.cmaHeap);
  const { cma } = machine;
  const used = fragmentCma(cma, machine.sim.prng.fork('uptime'), { freeFraction: 0.5, maxFreeOrder });
  const app = machine.addProcess({ name: 'app' });
  const freeBytes = (cma.pages - cma.usedPages) * 4096;
  const largestBytes = cma.largestFreePages * 4096;
  const [before, after] = machine.sim.run(function* () {
    const heap = yield* app.open('/dev/dma_heap/reserved');
    const alloc = () => failing(() => app.ioctl(heap, DMA_HEAP_IOCTL_ALLOC, { len: bytes }));
    const first = yield* alloc();
    used.release();
    const second = yield* alloc();
    app.exit();
    return [first, second];
  });
  return { before, after, freeBytes, largestBytes, runs: cma.freeRuns().length };
}

describe('U-11: "cma: alloc failed, although CmaFree is half of CmaTotal"', () => {
  it('fails when no free run is long enough, and the error has the largest run beside the total', () => {
    const { before, freeBytes, largestBytes } = allocAfterUse(2 * MIB, 6);
    expect(freeBytes).toBe(4 * MIB);
    expect(largestBytes).toBeLessThan(2 * MIB);
    expect(before).toMatch(/ENOMEM/);
    expect(before).toMatch(new RegExp(`${freeBytes / 4096}.*${largestBytes / 4096}`));
  });

  it('works for what fits into a run, and for all again once the area is in one piece', () => {
    expect(allocAfterUse(16 * 1024, 6).before).toBe('none');
    expect(allocAfterUse(2 * MIB, 6).after).toBe('none');
  });
});
