/** What a killed process wrote and never handed over is nobody's loss; what a living one loses is reported. */
import { expect, it } from 'vitest';
import { DMA_BUF_SYNC } from '../../src/dmabuf/dma-buf-sync.ts';
import { armSoc } from '../../src/platform/arm-soc.ts';
import { DMA_BUF_IOCTL_SYNC } from '../../src/uapi/dma-buf-file.ts';

const { start, write, rw } = DMA_BUF_SYNC;

/** A process writes in a bracket that it never ends, is killed or not, and another begins. @returns what is reported. */
function hazardsWhen(isKilled: boolean): string[] {
  const soc = armSoc({ hazards: 'record' });
  const camera = soc.addDevice({ name: 'camera0', coherent: false, iommu: true });
  const app = soc.addProcess({ name: 'app' });
  const child = app.fork('child');
  soc.sim.run(function* () {
    const frame = soc.systemHeap.alloc(4096, 'frame');
    yield* (yield* frame.attach(camera)).mapUnlocked('bidirectional');
    const childFd = child.fds.install(frame.get());
    const fd = app.fds.install(frame);
    const pixels = yield* child.mmap(childFd);
    yield* child.ioctl(childFd, DMA_BUF_IOCTL_SYNC, { flags: start | write });
    pixels.write(0, Uint8Array.of(9, 9, 9));
    if (isKilled) yield* child.kill();
    yield* app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: start | rw });
    (yield* app.mmap(fd)).read(0, 3);
  });
  return soc.sim.hazards.map(({ hazard }) => hazard);
}

it('does not blame the process that begins next for what a killed one left in the cache', () => {
  expect(hazardsWhen(true)).toEqual([]);
});

it('reports that the begin of one process drops what another, which lives, has in its bracket', () => {
  expect(hazardsWhen(false)).toContain('cpu-write.lost');
});
