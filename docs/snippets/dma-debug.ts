/** A driver unmaps a part of what it mapped, and had never asked whether mapping worked. */
import { armSoc, describeHazard, dmaMapPage, dmaUnmapPage, pfnToPhys } from '../../src/index.ts';

const soc = armSoc({ hazards: 'record' });
const nic = soc.addDevice({ name: 'nic0', coherent: false, iommu: true });
const page = pfnToPhys(soc.pages.allocPages({ order: 0, owner: 'driver' }));

soc.sim.run(function* () {
  const address = dmaMapPage(nic, page, 1500, 'from-device');
  yield* soc.sim.delay(1000);
  dmaUnmapPage(nic, address, 1024, 'from-device');
});
for (const hazard of soc.sim.hazards) console.log(describeHazard(hazard));
