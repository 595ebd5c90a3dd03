/** A driver maps and unmaps a buffer for a device that never looks, to get the caches cleaned. */
import {
  armSoc,
  dmaMappingError,
  dmaMapSingle,
  dmaSyncSingleForDevice,
  dmaUnmapSingle,
  pfnToPhys,
  type Simulator,
} from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const soc = armSoc({ hazards: 'record', lints: true });
  const gpu = soc.addDevice({ name: 'gpu0', coherent: false, iommu: true });
  const page = pfnToPhys(soc.pages.allocPages({ order: 0, owner: 'driver' }));
  const once = dmaMapSingle(gpu, page, 4096, 'to-device');
  if (dmaMappingError(gpu, once)) return soc.sim;
  for (let frame = 0; frame < 3; frame++) {
    if (nearMiss) dmaSyncSingleForDevice(gpu, once, 4096, 'to-device');
    else {
      const address = dmaMapSingle(gpu, page, 4096, 'to-device');
      if (!dmaMappingError(gpu, address)) dmaUnmapSingle(gpu, address, 4096, 'to-device');
    }
  }
  return soc.sim;
}
