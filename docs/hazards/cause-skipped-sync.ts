/** A driver maps with skipCpuSync a buffer that the CPU has just written. */
import { armSoc, CpuView, dmaMappingError, dmaMapSingle, pfnToPhys, type Simulator } from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const soc = armSoc({ hazards: 'record' });
  const nic = soc.addDevice({ name: 'nic0', coherent: false, iommu: true });
  const page = pfnToPhys(soc.pages.allocPages({ order: 0, owner: 'driver' }));
  const accessor = { name: 'nic0 driver', kind: 'cpu', via: 'linear map', beforeRead: '', afterWrite: '' } as const;
  const extents = [{ phys: page, sizeBytes: 4096 }];
  const cpu = new CpuView(soc.coherency, { extents, attribute: 'cached', accessor });
  cpu.write(0, new Uint8Array(64).fill(0x11));
  const address = dmaMapSingle(nic, page, 4096, 'to-device', { skipCpuSync: !nearMiss });
  if (dmaMappingError(nic, address)) return soc.sim;
  nic.port.read(address, new Uint8Array(64), 0, 64);
  return soc.sim;
}
