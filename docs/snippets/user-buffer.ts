/** A process allocates a buffer from a heap, maps it, writes between brackets, fails, and looks at it as the kernel shows it. */
import * as lib from '../../src/index.ts';

const soc = lib.armSoc();
const app = soc.addProcess({ name: 'app' });
const { start, end, write } = lib.DMA_BUF_SYNC;

soc.sim.run(function* () {
  const heap = yield* app.open('/dev/dma_heap/system');
  const { fd } = yield* app.ioctl(heap, lib.DMA_HEAP_IOCTL_ALLOC, { len: 10_000, fd_flags: lib.O.rdwr });
  yield* app.ioctl(fd, lib.DMA_BUF_SET_NAME_B, 'frame');
  const pixels = yield* app.mmap(fd);
  yield* app.ioctl(fd, lib.DMA_BUF_IOCTL_SYNC, { flags: start | write });
  pixels.write(0, Uint8Array.of(7));
  yield* app.ioctl(fd, lib.DMA_BUF_IOCTL_SYNC, { flags: end | write });
  for (const line of app.fdinfo(fd)) console.log(line.replace('\t', ' '));
  yield* app.close(fd); // the mapping keeps the buffer

  const readOnly = app.ioctl(heap, lib.DMA_HEAP_IOCTL_ALLOC, { len: 4096 }, { readOnly: true });
  try {
    yield* readOnly; // the kernel cannot tell the program its new descriptor
  } catch (error) {
    if (error instanceof lib.ErrnoError) console.log(`${error.code}; open: fd ${app.fds.open.join(', ')}`);
  }
  app.exit();
});
console.log(`held at the end: ${soc.memory.ledger.liveBytes} bytes`);
