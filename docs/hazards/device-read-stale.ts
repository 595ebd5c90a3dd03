/** The app draws into its cache, the display reads memory. */
import { armSoc, DMA_BUF_IOCTL_SYNC, DMA_BUF_SYNC, type Simulator } from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const soc = armSoc({ hazards: 'record' });
  const display = soc.addDevice({ name: 'display0', coherent: false, iommu: true });
  const app = soc.addProcess({ name: 'app' });
  const { start, end, write } = DMA_BUF_SYNC;
  soc.sim.run(function* () {
    const frame = soc.systemHeap.alloc(4096, 'frame');
    const fd = app.fds.install(frame);
    const pixels = yield* app.mmap(fd);
    const sgt = yield* (yield* frame.attach(display)).mapUnlocked('to-device');
    yield* app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: start | write });
    pixels.write(0, Uint8Array.of(0x11));
    if (nearMiss) yield* app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: end | write });
    display.port.read(sgt.dmaAddress(0), new Uint8Array(1), 0, 1);
    if (!nearMiss) yield* app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: end | write }); // too late
  });
  return soc.sim;
}
