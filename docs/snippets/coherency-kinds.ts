/** One page, four devices: one snoops, one sees the system cache, one sees memory only, one has a cache of its own. */
import { armSoc, DMA_BUF_IOCTL_SYNC, DMA_BUF_SYNC, type DmaAddr, physAddr } from '../../src/index.ts';

const systemCache = { sets: 1024, ways: 8, beyondPointOfCoherency: true };
const soc = armSoc({ systemCache, shadow: false }); // looks at old bytes on purpose
const devices = [
  soc.addDevice({ name: 'net0', coherent: true, iommu: true }),
  soc.addDevice({ name: 'video0', coherent: false, seesSystemCache: true, iommu: true }),
  soc.addDevice({ name: 'camera0', coherent: false }),
  soc.addDevice({ name: 'npu0', coherent: true, cache: {}, iommu: true }),
];
const app = soc.addProcess({ name: 'app' });
const { start, end, write } = DMA_BUF_SYNC;

soc.sim.run(function* () {
  const buf = soc.systemHeap.alloc(4096, 'page');
  const fd = app.fds.install(buf);
  const pixels = yield* app.mmap(fd);
  const addresses: DmaAddr[] = [];
  for (const device of devices) {
    const sgt = yield* (yield* buf.attach(device)).mapUnlocked('bidirectional');
    addresses.push(sgt.dmaAddress(0));
  }
  const show = (when: string): void => {
    const seen = devices.map(({ name, port }, i) => {
      const byte = new Uint8Array(1);
      port.read(addresses[i] as DmaAddr, byte, 0, 1);
      return `${name} ${byte[0]}`.padEnd(11);
    });
    console.log(`${when.padEnd(38)}${seen.join('').trimEnd()}`);
  };
  show('a new page');
  yield* app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: start | write });
  pixels.write(0, Uint8Array.of(7));
  show('the process wrote 7');
  yield* app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: end | write });
  show('… and ended its bracket');
  soc.coherency.maintainSystemCache('clean', physAddr(buf.priv.memory.physAddress(0)), 4096);
  show('… the system cache was cleaned');
  devices[3]?.cache?.invalidate();
  show('… npu0 invalidated its own');
});
