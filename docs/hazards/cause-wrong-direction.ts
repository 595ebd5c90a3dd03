/** The app begins a bracket for writing, and reads. */
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
    const sgt = yield* (yield* frame.attach(camera)).mapUnlocked('from-device');
    camera.port.write(sgt.dmaAddress(0), Uint8Array.of(0xc5), 0, 1);
    const access = nearMiss ? read : write;
    yield* app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: start | access });
    pixels.read(0, 1);
    yield* app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: end | access });
  });
  return soc.sim;
}
