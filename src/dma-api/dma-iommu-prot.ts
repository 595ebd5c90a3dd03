/** Rights and attributes of what a device behind an IOMMU has mapped. */
import { IommuProt } from '../iommu/io-pgtable.ts';
import { type DmaDirection, deviceReads, deviceWrites } from './direction.ts';
import type { DmaAttrs } from './dma-attrs.ts';

/**
 * @internal As bits of {@link IommuProt}.
 *
 * @param coherent - whether accesses are to snoop: those of a device that does, but not of device memory.
 * @see Linux 6.1 `drivers/iommu/dma-iommu.c` dma_info_to_prot
 */
export function dmaInfoToProt(dir: DmaDirection, coherent: boolean, attrs: DmaAttrs): number {
  let prot = (deviceReads(dir) ? IommuProt.read : 0) + (deviceWrites(dir) ? IommuProt.write : 0);
  if (coherent) prot += IommuProt.cache;
  if (attrs.privileged === true) prot += IommuProt.priv;
  return prot;
}
