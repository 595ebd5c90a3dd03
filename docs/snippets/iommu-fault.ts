/** A GPU reads past its buffer, and then writes into it although it may only read. */
import { dmaMapPage, dmaMappingError, pc, pfnToPhys, vtdFaultRecord } from '../../src/index.ts';

const machine = pc();
const spec = { name: 'gpu0', coherent: true, iommu: true, pci: true, dmaMaskBits: 48, sourceId: 0x10 };
const gpu = machine.addDevice(spec);
const page = pfnToPhys(machine.pages.allocPages({ order: 0, owner: 'driver' }));
const address = dmaMapPage(gpu, page, 4096, 'to-device');
if (dmaMappingError(gpu, address)) throw new Error('no IO addresses');

const done = gpu.port.read(address, new Uint8Array(8192), 0, 8192);
console.log(`read ${done} of 8192 bytes`);
gpu.port.write(address, Uint8Array.of(1), 0, 1);

for (const fault of machine.iommu?.faults.pending ?? []) {
  console.log(`${fault.device}: ${fault.access}: ${fault.reason}, stage ${fault.stage}, level ${fault.level}`);
  console.log(`  ${vtdFaultRecord(fault).log}`);
}
