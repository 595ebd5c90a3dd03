/** A device has a cache of its own; the CPU looks at memory before it is flushed. */
import { armSoc, CpuView, pfnToPhys, type Simulator } from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const soc = armSoc({ hazards: 'record' });
  const page = pfnToPhys(soc.pages.allocPages({ order: 0, owner: 'driver' }));
  const cpuAccessor = { name: 'npu0 driver', kind: 'cpu', via: 'linear map', beforeRead: '', afterWrite: '' } as const;
  const extents = [{ phys: page, sizeBytes: 4096 }];
  const cpu = new CpuView(soc.coherency, { extents, attribute: 'uncached', accessor: cpuAccessor });
  const calls = { beforeRead: 'npu.invalidateCaches()', afterWrite: 'npu.flushCaches()' };
  const accessor = { name: 'npu0', kind: 'device', via: 'dma', ...calls } as const;
  const cache = soc.coherency.addDeviceCache({ accessor });
  const port = { snoops: false, accessor, cache };
  soc.coherency.deviceWrite(page, Uint8Array.of(0x5a), 0, 1, port);
  if (nearMiss) cache.flush();
  cpu.read(0, new Uint8Array(1));
  return soc.sim;
}
