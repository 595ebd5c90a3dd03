/** Eight pages that are not neighbours, mapped for a device without an IOMMU and for one behind it. */
import { armSoc, dmaMapSgtable, dmaUnmapSgtable, hex, SgTable } from '../../src/index.ts';

const soc = armSoc();
const dsp = soc.addDevice({ name: 'dsp0', coherent: false });
const gpu = soc.addDevice({ name: 'gpu0', coherent: false, iommu: true, maxSegmentSizeBytes: 16384 });

const pages = Array.from({ length: 16 }, () => soc.pages.allocPages({ order: 0, owner: 'driver' }));
const everySecond = pages.filter((_, i) => i % 2 === 0);
const table = SgTable.fromPages(everySecond, { sizeBytes: 8 * 4096 });

for (const device of [dsp, gpu]) {
  const sgt = table.clone(); // one mapping, one table
  dmaMapSgtable(device, sgt, 'to-device');
  console.log(`${device.name}: origNents ${sgt.origNents}, nents ${sgt.nents}`);
  for (const { address, length } of sgt.segments().slice(0, 2)) console.log(`  ${hex(address)} + ${length}`);
  dmaUnmapSgtable(device, sgt, 'to-device');
}
