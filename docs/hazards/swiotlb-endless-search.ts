/** A device keeps 16 bits of an address, and the pool has room, but no slot with those bits. */
import { dmaMapSingle, dmaUnmapSingle, pc, pfnToPhys, physAddr, type Simulator } from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const machine = pc({ hazards: 'record', swiotlbBytes: 512 * 1024, dmaDebug: false });
  const nic = machine.addDevice({ name: 'nic0', coherent: true, dmaMaskBits: 32 });
  const nvme = machine.addDevice({ name: 'nvme0', coherent: true, dmaMaskBits: 32, minAlignMask: 0xffff });
  const pages = pfnToPhys(machine.pages.allocPages({ order: 6, owner: 'driver' })); // above 4 GiB
  const [first] = [0, 1].map(() => dmaMapSingle(nic, pages, 256 * 1024, 'to-device'));
  if (first !== undefined) dmaUnmapSingle(nic, first, 256 * 1024, 'to-device');
  for (let i = 0; i < 5; i++) dmaMapSingle(nearMiss ? nic : nvme, physAddr(pages + 0x800), 512, 'to-device');
  return machine.sim;
}
