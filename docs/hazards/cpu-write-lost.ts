/** The app marks a captured frame outside a bracket, and the next START drops the mark. */
import { armSoc, DMA_BUF_IOCTL_SYNC, DMA_BUF_SYNC, type Simulator } from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const soc = armSoc({ hazards: 'record' });
  const camera = soc.addDevice({ name: 'camera0', coherent: false, iommu: true });
  const app = soc.addProcess({ name: 'app' });
  const { start, end, read, write } = DMA_BUF_SYNC;
  soc.sim.run(function* () {
    const frame = soc.systemHeap.alloc(4096, 'frame');
    const fd = app.fds.install(frame);
    const pixels = yield* app.mmap(fd);
    yield* (yield* frame.attach(camera)).mapUnlocked('bidirectional');
    if (nearMiss) yield* app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: start | write });
    pixels.write(0, Uint8Array.of(0x11));
    if (nearMiss) yield* app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: end | write });
    yield* app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: start | read });
    pixels.read(0, 1);
    yield* app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: end | read });
  });
  return soc.sim;
}
