/** A number from a driver's log, and what it is: after the unmap, as a physical address, in 32 bits. */
import { armSoc, dmaMapSgtable, dmaUnmapSgtable, explain, pfnToPhys, SgTable } from '../../src/index.ts';

const soc = armSoc({ ramBytes: 4 * 1024 ** 3 });
const isp = soc.addDevice({ name: 'isp0', coherent: false, iommu: true });
const dsp = soc.addDevice({ name: 'dsp0', coherent: false, dmaMaskBits: 40 });
const page = soc.pages.allocPages({ order: 0, owner: 'driver' });
const forIsp = SgTable.fromPages([page], { sizeBytes: 4096 });
const forDsp = forIsp.clone();
dmaMapSgtable(isp, forIsp, 'from-device');
dmaMapSgtable(dsp, forDsp, 'from-device');
const address = forIsp.dmaAddress(0);

const show = (title: string, { text }: { readonly text: string }) => {
  console.log(`${title}\n${text.replace(/ \(explain\.ts:[\d:]+\)/g, '').replace(/^/gm, '  ')}`);
};
show('a live address', explain(soc, address + 8, 'dma', 'isp0'));
show('the physical address, in a register of isp0', explain(soc, pfnToPhys(page) + 8, 'dma', 'isp0'));
show('the same in 32 bits, in a register of dsp0', explain(soc, (pfnToPhys(page) + 8) % 2 ** 32, 'dma', 'dsp0'));
dmaUnmapSgtable(isp, forIsp, 'from-device');
show('after the unmap', explain(soc, address + 8, 'dma', 'isp0'));
