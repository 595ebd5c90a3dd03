/** The address that stands for a failed mapping. */
import type { DmaAddr } from '../base/addr.ts';

/**
 * What mapping a single buffer, a page or a resource answers when it fails: all address bits set, so -1 as a number of the upper half.
 * A driver must ask `dmaMappingError` before it uses an address.
 *
 * @see Linux 6.1 `include/linux/dma-mapping.h` DMA_MAPPING_ERROR
 */
export const DMA_MAPPING_ERROR = -1 as DmaAddr;
