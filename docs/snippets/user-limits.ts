/** Two groups with limits; a shared buffer is paid for by the one who allocated it, until its charge is moved. */
import { armSoc, DMA_HEAP_IOCTL_ALLOC, ErrnoError, memCgroups, memoryUsage } from '../../src/index.ts';

const soc = armSoc();
const groups = memCgroups(soc.sim);
const service = soc.addProcess({ name: 'service' });
const app = soc.addProcess({ name: 'app' });
const services = groups.create({ name: 'services', limitBytes: 8192 });
const apps = groups.create({ name: 'apps' });
groups.move(service, services);
groups.move(app, apps);

soc.sim.run(function* () {
  const heap = yield* service.open('/dev/dma_heap/system');
  const alloc = () => service.ioctl(heap, DMA_HEAP_IOCTL_ALLOC, { len: 8192 });
  const { fd } = yield* alloc();
  const buf = service.fds.get(fd);
  app.fds.install(buf); // with the reference that get took
  console.log(`services ${services.usageBytes}, apps ${apps.usageBytes}`);
  try {
    yield* alloc();
  } catch (error) {
    if (error instanceof ErrnoError) console.log(error.message);
  }
  groups.transfer(buf, apps);
  yield* alloc();
  console.log(`services ${services.usageBytes}, apps ${apps.usageBytes}`);
});
for (const row of memoryUsage(soc.sim, soc.processes).processes) {
  console.log(`${row.process.padEnd(8)} ${row.buffers} buffer(s), RSS ${row.rssBytes}, PSS ${row.pssBytes}`);
}
for (const process of soc.processes) process.exit();
soc.sim.run();
console.log(`at the end ${groups.root.usageBytes}, the most was ${groups.root.peakBytes}`);
