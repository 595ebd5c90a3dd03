/** A driver syncs the header of a packet, and reads all of it. */
import {
  armSoc,
  CpuView,
  dmaMappingError,
  dmaMapSingle,
  dmaSyncSingleForCpu,
  pfnToPhys,
  type Simulator,
} from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const soc = armSoc({ hazards: 'record' });
  const nic = soc.addDevice({ name: 'nic0', coherent: false, iommu: true });
  const page = pfnToPhys(soc.pages.allocPages({ order: 0, owner: 'driver' }));
  const accessor = { name: 'nic0 driver', kind: 'cpu', via: 'linear map', beforeRead: '', afterWrite: '' } as const;
  const extents = [{ phys: page, sizeBytes: 4096 }];
  const cpu = new CpuView(soc.coherency, { extents, attribute: 'cached', accessor });
  cpu.read(0, new Uint8Array(4096)); // an older packet, now in the cache
  const address = dmaMapSingle(nic, page, 4096, 'from-device');
  if (dmaMappingError(nic, address)) return soc.sim;
  nic.port.write(address, new Uint8Array(1500).fill(0xaa), 0, 1500);
  dmaSyncSingleForCpu(nic, address, nearMiss ? 1500 : 64, 'from-device');
  cpu.read(0, new Uint8Array(1500));
  return soc.sim;
}
