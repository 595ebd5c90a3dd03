/** The app ends a bracket that it never began. */
import { armSoc, DMA_BUF_IOCTL_SYNC, DMA_BUF_SYNC, type Simulator } from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const soc = armSoc({ hazards: 'record' });
  const app = soc.addProcess({ name: 'app' });
  const { start, end, read } = DMA_BUF_SYNC;
  soc.sim.run(function* () {
    const fd = app.fds.install(soc.systemHeap.alloc(4096, 'frame'));
    if (nearMiss) yield* app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: start | read });
    yield* app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: end | read });
  });
  return soc.sim;
}
