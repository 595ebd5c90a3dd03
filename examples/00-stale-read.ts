/**
 * What it shows: a camera writes a buffer, the CPU reads it through its cache, and nobody has told the cache.
 * What to expect: the old byte, and a report that names the one call that is missing.
 */
import { armSoc, describeHazard } from '../src/index.ts';

const soc = armSoc({ hazards: 'record' });
const camera = soc.addDevice({ name: 'camera0', coherent: false, iommu: true });
const app = soc.addProcess({ name: 'app' });

soc.sim.run(function* () {
  const buf = soc.systemHeap.alloc(4096, 'frame0');
  const sgt = yield* (yield* buf.attach(camera)).mapUnlocked('from-device');
  const pixels = yield* app.mmap(app.fds.install(buf)); // the heap has cleared it: zeros are in the cache
  camera.port.write(sgt.dmaAddress(0), Uint8Array.of(0xc5), 0, 1); // the camera writes past the cache
  console.log(`the app reads ${pixels.read(0, 1)[0]}, the camera wrote ${0xc5}`);
});
for (const hazard of soc.sim.hazards) console.log(describeHazard(hazard));
