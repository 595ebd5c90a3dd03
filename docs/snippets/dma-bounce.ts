/** A sound card that reaches 4 GiB, a buffer above: the device works on a copy. */
import {
  dmaMapPage,
  dmaMappingError,
  dmaSyncSingleRangeForDevice,
  hex,
  pc,
  pfnToPhys,
  physAddr,
} from '../../src/index.ts';

const machine = pc({ swiotlbBytes: 512 * 1024 });
const sound = machine.addDevice({ name: 'sound0', coherent: true, dmaMaskBits: 32, minAlignMask: 0xff });
const pages = pfnToPhys(machine.pages.allocPages({ order: 7, owner: 'driver' }));
const buffer = physAddr(pages + 0x7c0);
machine.coherency.poke(buffer, Uint8Array.of(1, 1, 1, 1));

const address = dmaMapPage(sound, buffer, 4096, 'to-device');
console.log(`the buffer is at ${hex(buffer)}, the device sees ${hex(address)}: the low 8 bits are kept`);
const played = () => {
  const bytes = new Uint8Array(4);
  sound.port.read(address, bytes, 0, 4);
  return bytes;
};
machine.coherency.poke(buffer, Uint8Array.of(2, 2, 2, 2));
console.log(`after a CPU write the device reads ${played()}`);
dmaSyncSingleRangeForDevice(sound, address, { offset: 0, sizeBytes: 2 }, 'to-device');
console.log(`after a sync of 2 bytes            ${played()}`);

const tooLong = dmaMapPage(sound, pages, 300_000, 'to-device');
console.log(`${dmaMappingError(sound, tooLong)}: ${machine.swiotlb?.lastFailure?.text}`);
let next = address;
while (!dmaMappingError(sound, next)) next = dmaMapPage(sound, pages, 65536, 'to-device');
console.log(`true: ${machine.swiotlb?.lastFailure?.text}`);
