/** A driver drops 32 received bytes from the cache by hand; the other half of their line is a counter of its own. */
import { armSoc, CpuView, pfnToPhys, type Simulator } from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const soc = armSoc({ hazards: 'record' });
  const page = pfnToPhys(soc.pages.allocPages({ order: 0, owner: 'driver' }));
  const accessor = { name: 'nic driver', kind: 'cpu', via: 'linear map', beforeRead: '', afterWrite: '' } as const;
  const extents = [{ phys: page, sizeBytes: 4096 }];
  const cpu = new CpuView(soc.coherency, { extents, attribute: 'cached', accessor });
  cpu.write(nearMiss ? 64 : 32, Uint8Array.of(1)); // the counter
  soc.coherency.invalidate(page, 32, accessor);
  return soc.sim;
}
