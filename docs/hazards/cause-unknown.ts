/** Nobody keeps the calls that would tell. */
import { armSoc, DMA_BUF_IOCTL_SYNC, DMA_BUF_SYNC, type Simulator } from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const soc = armSoc({ hazards: 'record', watch: false });
  const camera = soc.addDevice({ name: 'camera0', coherent: false, iommu: true });
  const app = soc.addProcess({ name: 'app' });
  const { start, read } = DMA_BUF_SYNC;
  soc.sim.run(function* () {
    const frame = soc.systemHeap.alloc(4096, 'frame');
    const fd = app.fds.install(frame);
    const pixels = yield* app.mmap(fd);
    const sgt = yield* (yield* frame.attach(camera)).mapUnlocked('from-device');
    camera.port.write(sgt.dmaAddress(0), Uint8Array.of(0xc5), 0, 1);
    if (nearMiss) yield* app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: start | read });
    pixels.read(0, 1);
  });
  return soc.sim;
}
