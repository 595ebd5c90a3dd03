/** One memory is mapped cached and uncached at the same time. */
import { armSoc, CpuView, pfnToPhys, type Simulator } from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const soc = armSoc({ hazards: 'record' });
  const page = pfnToPhys(soc.pages.allocPages({ order: 0, owner: 'driver' }));
  const accessor = { name: 'driver', kind: 'cpu', via: 'vmap', beforeRead: '', afterWrite: '' } as const;
  const extents = [{ phys: page, sizeBytes: 4096 }];
  const cached = new CpuView(soc.coherency, { extents, attribute: 'cached', accessor });
  const other = new CpuView(soc.coherency, { extents, attribute: nearMiss ? 'cached' : 'uncached', accessor });
  cached.write(0, Uint8Array.of(0x11));
  other.read(0, new Uint8Array(1));
  return soc.sim;
}
