/** A driver gives its device a physical address; there is no IOMMU, so it works, here. */
import { armSoc, dmaAddr, dmaMappingError, dmaMapSingle, pfnToPhys, type Simulator } from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const soc = armSoc({ hazards: 'record' });
  const nic = soc.addDevice({ name: 'nic0', coherent: true });
  soc.dmaDebug?.driverProbe(nic, 'nic');
  const page = pfnToPhys(soc.pages.allocPages({ order: 0, owner: 'driver' }));
  const address = nearMiss ? dmaMapSingle(nic, page, 4096, 'from-device') : dmaAddr(page);
  if (nearMiss && dmaMappingError(nic, address)) return soc.sim;
  nic.port.write(address, Uint8Array.of(1), 0, 1);
  return soc.sim;
}
