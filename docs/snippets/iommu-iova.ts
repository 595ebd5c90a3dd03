/** Which IO addresses a PCI device gets: from the top of the low 4 GiB, aligned to their size, the last freed one first. */
import { dmaMapPage, dmaUnmapPage, hex, IommuGroup, pc, physAddr } from '../../src/index.ts';

const machine = pc({ dmaDebug: false });
if (machine.iommu === null) throw new Error('no IOMMU');
const group = new IommuGroup(machine.iommu, { name: 'nic0' });
const nic = machine.addDevice({ name: 'nic0', coherent: true, iommu: group, pci: true, dmaMaskBits: 64 });
const map = (pages: number) => dmaMapPage(nic, physAddr(0x10_0000), pages * 4096, 'to-device');

const [one, three, two] = [map(1), map(3), map(2)];
console.log(`1 page  ${hex(one)}\n3 pages ${hex(three)} (4 are taken)\n2 pages ${hex(two)}`);
dmaUnmapPage(nic, one, 4096, 'to-device');
console.log(`1 page  ${hex(map(1))} again: from this CPU's cache`);

const iovas = group.defaultDomain?.cookie?.iovas;
if (iovas === undefined) throw new Error('no addresses to hand out');
console.log(`in use  ${[...iovas.tree.ranges()].map(({ firstPfn, lastPfn }) => `${hex(firstPfn)}-${hex(lastPfn)}`)}`);
