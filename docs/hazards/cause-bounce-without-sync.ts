/** A sound card reaches 4 GiB, the buffer lies above: it plays a copy that was made when it was mapped. */
import {
  CpuView,
  dmaMappingError,
  dmaMapSingle,
  dmaSyncSingleForDevice,
  pc,
  pfnToPhys,
  type Simulator,
} from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const machine = pc({ hazards: 'record' });
  const sound = machine.addDevice({ name: 'sound0', coherent: true, dmaMaskBits: 32 });
  const page = pfnToPhys(machine.pages.allocPages({ order: 0, owner: 'driver' })); // above 4 GiB
  const accessor = { name: 'sound0 driver', kind: 'cpu', via: 'linear map', beforeRead: '', afterWrite: '' } as const;
  const extents = [{ phys: page, sizeBytes: 4096 }];
  const cpu = new CpuView(machine.coherency, { extents, attribute: 'cached', accessor });
  const address = dmaMapSingle(sound, page, 4096, 'to-device');
  if (dmaMappingError(sound, address)) return machine.sim;
  cpu.write(0, new Uint8Array(64).fill(0x11));
  if (nearMiss) dmaSyncSingleForDevice(sound, address, 64, 'to-device');
  sound.port.read(address, new Uint8Array(64), 0, 64);
  return machine.sim;
}
