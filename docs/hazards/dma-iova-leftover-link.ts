/** A driver frees a run of IO addresses with memory behind them. */
import { armSoc, dmaIovaTryAlloc, pfnToPhys, type Simulator } from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const soc = armSoc({ hazards: 'record' });
  const nic = soc.addDevice({ name: 'nic0', coherent: false, iommu: true });
  const buffer = pfnToPhys(soc.pages.allocPages({ order: 0, owner: 'driver' }));
  const run = dmaIovaTryAlloc(nic, 4096);
  run?.link(buffer, 0, 4096, 'to-device');
  if (nearMiss) run?.unlink(0, 4096, 'to-device');
  run?.free();
  return soc.sim;
}
