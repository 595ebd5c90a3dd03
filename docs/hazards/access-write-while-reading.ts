/** The app draws into a picture that the GPU is still reading. */
import {
  armSoc,
  DMA_BUF_IOCTL_SYNC,
  DMA_BUF_SYNC,
  Gpu,
  type GpuJob,
  type Simulator,
  us,
  videoCore6,
} from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const soc = armSoc({ hazards: 'record' });
  const gpu = new Gpu(soc.addDevice({ name: 'gpu0', coherent: true, iommu: true }), videoCore6);
  const app = soc.addProcess({ name: 'app' });
  const { start, end, write } = DMA_BUF_SYNC;
  soc.sim.run(function* () {
    const buf = soc.systemHeap.alloc(4096, 'frame');
    const frame = yield* gpu.importBuffer(buf);
    const fd = app.fds.install(buf);
    const pixels = yield* app.mmap(fd);
    const job: GpuJob = {
      name: 'show',
      reads: [frame],
      *run(memory) {
        memory.read(frame.gpuVa, new Uint8Array(2048), 0, 2048);
        yield* soc.sim.delay(us(50));
        memory.read(frame.gpuVa, new Uint8Array(4096), 0, 4096);
      },
    };
    if (nearMiss) yield* gpu.submitSynced(job);
    else gpu.submit(job); // leaves no fence in the buffer
    yield* soc.sim.delay(us(40)); // the job has begun
    yield* app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: start | write }); // waits for the fences it finds
    pixels.write(0, new Uint8Array(64).fill(2));
    yield* app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: end | write });
  });
  return soc.sim;
}
