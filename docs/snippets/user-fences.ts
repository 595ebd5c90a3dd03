/** Two fences of a sw_sync timeline go onto a buffer, come back as one sync file, and are waited for with poll. */
import * as lib from '../../src/index.ts';

const soc = lib.armSoc();
const app = soc.addProcess({ name: 'app' });
const { read, write } = lib.DMA_BUF_SYNC;
const now = () => `${soc.sim.now / 1000} us`;

soc.sim.run(function* () {
  const buf = app.fds.install(soc.systemHeap.alloc(4096, 'frame'));
  const timeline = yield* app.open(lib.SW_SYNC_PATH);
  const writer = (yield* app.ioctl(timeline, lib.SW_SYNC_IOC_CREATE_FENCE, { value: 1 })).fence;
  const reader = (yield* app.ioctl(timeline, lib.SW_SYNC_IOC_CREATE_FENCE, { value: 2 })).fence;
  yield* app.ioctl(buf, lib.DMA_BUF_IOCTL_IMPORT_SYNC_FILE, { flags: write, fd: writer });
  yield* app.ioctl(buf, lib.DMA_BUF_IOCTL_IMPORT_SYNC_FILE, { flags: read, fd: reader });

  for (const [name, flags] of Object.entries({ 'to read ': read, 'to write': write })) {
    const { fd } = yield* app.ioctl(buf, lib.DMA_BUF_IOCTL_EXPORT_SYNC_FILE, { flags });
    const { num_fences: count, status } = yield* app.ioctl(fd, lib.SYNC_IOC_FILE_INFO, {});
    console.log(`${name}: wait for ${count} fence(s), status ${status}`);
    yield* app.close(fd);
  }

  app.spawn('driver', function* () {
    yield* soc.sim.delay(5000);
    yield* app.ioctl(timeline, lib.SW_SYNC_IOC_INC, { value: 1 });
    yield* soc.sim.delay(5000);
    yield* app.close(timeline); // what is left fails
  });
  const ask: lib.PollRequest = { fd: buf, events: lib.POLL.in | lib.POLL.out };
  yield* app.poll([ask]);
  console.log(`${now()}: ${ask.revents === lib.POLL.in ? 'may be read' : 'may be read and written'}`);
  yield* app.poll([{ fd: buf, events: lib.POLL.out }]);
  const { status } = yield* app.ioctl(reader, lib.SYNC_IOC_FILE_INFO, {});
  console.log(`${now()}: may be written; the last fence has status ${status}`);
  app.exit();
});
