/** A 2 MiB block and a page, in the table of an SMMUv3 and in that of a VT-d unit: the descriptors that hardware reads. */
import { armSoc, IommuProt, iova, pc, physAddr } from '../../src/index.ts';

for (const { iommu } of [armSoc(), pc()]) {
  if (iommu === null) throw new Error('no IOMMU');
  const domain = iommu.allocDomain({ type: 'unmanaged' });
  domain.map(iova(0x20_0000), physAddr(0x8000_0000), 2 ** 21, IommuProt.read | IommuProt.write | IommuProt.cache);
  domain.map(iova(0x40_0000), physAddr(0x8765_4000), 4096, IommuProt.read);
  for (const address of [0x20_1234, 0x40_0010]) console.log(domain.pgtable.dump(iova(address)));
  domain.free();
}
