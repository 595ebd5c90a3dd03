/** The layer: one call for an access, one for a submission. */
import { armSoc, DMA_HEAP_IOCTL_ALLOC, Gpu, O, POLL, SharedBuffer } from '../../src/index.ts';

const soc = armSoc({ hazards: 'record' });
const gpu = new Gpu(soc.addDevice({ name: 'gpu0', coherent: false }), { launchNs: 20_000, pixelNs: 1, bytesPerNs: 4 });
const app = soc.addProcess({ name: 'app' });

soc.sim.run(function* () {
  const heap = yield* app.open('/dev/dma_heap/system');
  const { fd } = yield* app.ioctl(heap, DMA_HEAP_IOCTL_ALLOC, { len: 4096, fd_flags: O.rdwr });
  const batch = gpu.batch();
  const buffer = SharedBuffer.open(app, fd, { batches: [batch] });
  const target = yield* gpu.importBuffer(app.fds.get(fd));

  yield* buffer.write(0, Uint8Array.of(1, 2, 3, 4));
  batch.add({
    name: 'invert',
    writes: [target],
    run(memory) {
      const bytes = new Uint8Array(4);
      memory.read(target.gpuVa, bytes, 0, 4);
      memory.write(
        target.gpuVa,
        bytes.map((byte) => ~byte),
        0,
        4,
      );
    },
  });
  console.log(`${soc.sim.now} ns: recorded`);
  console.log(`${yield* buffer.read(0, 4)} at ${soc.sim.now} ns: flushed, waited for, read`);

  // A job of the program's own: implicit waiters find its fence in the buffer, explicit ones get it as a sync file.
  const done = yield* buffer.submit('write', (waits) =>
    gpu.submit({
      name: 'clear',
      waits,
      run: (memory) => void memory.write(target.gpuVa, new Uint8Array(4), 0, 4),
    }),
  );
  const busy = (yield* app.poll([{ fd, events: POLL.in, revents: 0 }], 0)) === 0;
  console.log(`implicit: ${busy ? 'busy' : 'idle'}; explicit: sync file ${done} is ${app.readlink(done)}`);
  console.log(`${yield* buffer.read(0, 4)} at ${soc.sim.now} ns`);
  yield* buffer.close();
});
console.log(`hazards: ${soc.sim.hazards.length}`);
