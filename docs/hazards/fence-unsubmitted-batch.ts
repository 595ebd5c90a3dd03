/** A user-level driver has recorded the drawing and not submitted it: to the kernel the buffer is idle. */
import { armSoc, DMA_BUF_IOCTL_SYNC, DMA_BUF_SYNC, Gpu, type Simulator, videoCore6 } from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const soc = armSoc({ hazards: 'record' });
  const gpu = new Gpu(soc.addDevice({ name: 'gpu0', coherent: true, iommu: true }), videoCore6);
  const app = soc.addProcess({ name: 'app' });
  const { start, end, read } = DMA_BUF_SYNC;
  soc.sim.run(function* () {
    const buf = soc.systemHeap.alloc(4096, 'frame');
    const frame = yield* gpu.importBuffer(buf);
    const fd = app.fds.install(buf);
    const pixels = yield* app.mmap(fd);
    const batch = gpu.batch({ name: 'draw' });
    batch.add({
      name: 'clear',
      writes: [frame],
      run: (memory) => void memory.write(frame.gpuVa, new Uint8Array(4096).fill(1), 0, 4096),
    });
    if (nearMiss) yield* batch.flush();
    yield* app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: start | read }); // nothing to wait for
    pixels.read(0, 4096);
    yield* app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: end | read });
    yield* batch.flush();
  });
  return soc.sim;
}
