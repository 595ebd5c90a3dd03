/** What the platform does with the mappings of five devices of one PC. */
import { describeDma, dmaMaxMappingSize, IommuGroup, pc } from '../../src/index.ts';

const machine = pc();
if (machine.iommu === null) throw new Error('this PC has no IOMMU');
const passthrough = new IommuGroup(machine.iommu, { name: 'trusted', defaultType: 'identity' });
const lazy = new IommuGroup(machine.iommu, { name: 'fast', defaultType: 'dma-fq' });

const devices = [
  machine.addDevice({ name: 'nic0', coherent: true, dmaMaskBits: 64 }),
  machine.addDevice({ name: 'sound0', coherent: true, dmaMaskBits: 32 }),
  machine.addDevice({ name: 'gpu0', coherent: true, iommu: true, pci: true }),
  machine.addDevice({ name: 'ssd0', coherent: true, iommu: lazy, pci: true }),
  machine.addDevice({ name: 'fpga0', coherent: true, iommu: passthrough, dmaMaskBits: 32 }),
];
for (const device of devices) {
  const { remapped, bounces, lazy } = describeDma(device);
  const where = remapped ? 'IO addresses' : 'physical addresses';
  const rest = [...(bounces ? ['may bounce'] : []), ...(lazy ? ['lazy'] : [])].join(', ');
  console.log(`${device.name.padEnd(7)}${where.padEnd(20)}longest ${dmaMaxMappingSize(device)}  ${rest}`.trimEnd());
}
