/** A camera that does not snoop writes two frames; the driver forgets the sync before it reads the second one. */
import { armSoc, describeHazard, dmaAllocPages, dmaSyncSingleForCpu } from '../../src/index.ts';

const soc = armSoc({ hazards: 'record' });
const camera = soc.addDevice({ name: 'camera0', coherent: false });
const buf = dmaAllocPages(camera, 4096, 'from-device');
if (buf === null) throw new Error('no memory');

camera.port.write(buf.address, Uint8Array.of(1), 0, 1);
dmaSyncSingleForCpu(camera, buf.address, 4096, 'from-device');
console.log(`frame 1, synced:     the driver reads ${buf.read(0, 1)[0]}`);

camera.port.write(buf.address, Uint8Array.of(2), 0, 1);
console.log(`frame 2, not synced: the driver reads ${buf.read(0, 1)[0]}`);

dmaSyncSingleForCpu(camera, buf.address, 4096, 'from-device');
console.log(`frame 2, synced:     the driver reads ${buf.read(0, 1)[0]}`);
for (const hazard of soc.sim.hazards) console.log(describeHazard(hazard));
