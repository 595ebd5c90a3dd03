/** What to do about each complaint of the checker. */
import type { DmaDebugCode } from '../base/dma-hazards.ts';

/** @internal The remedy of a hazard's report, by its code. */
export const DMA_DEBUG_REMEDIES: Readonly<Record<DmaDebugCode, string>> = {
  'dma-debug.free-not-mapped':
    'unmap what was mapped, once, with the address that mapping answered and for the same device',
  'dma-debug.free-invalid-address': 'ask dmaMappingError after mapping, and leave out the unmap when it says true',
  'dma-debug.size-mismatch': 'unmap with the size of the mapping; a part of a mapping can not be unmapped',
  'dma-debug.wrong-function': 'end a mapping with the counterpart of the call that made it',
  'dma-debug.cpu-address-mismatch': 'free with the CPU address that the allocation answered',
  'dma-debug.sg-count-mismatch':
    'give the count of entries that was given when mapping, not the count of segments it answered',
  'dma-debug.unmap-direction-mismatch': 'unmap with the direction of the mapping',
  'dma-debug.map-error-unchecked':
    'ask dmaMappingError(dev, address) after every dmaMapPage, dmaMapSingle and dmaMapResource',
  'dma-debug.sync-not-mapped': 'sync only between mapping and unmapping, and only what lies in one mapping',
  'dma-debug.sync-out-of-range': 'sync no more than what was mapped',
  'dma-debug.sync-direction-mismatch': 'sync with the direction of the mapping, or map it bidirectional',
  'dma-debug.sync-read-only-for-cpu':
    'leave the sync out: the device only reads this mapping, so there is nothing new for the CPU',
  'dma-debug.sync-write-only-for-device':
    'leave the sync out: the device only writes this mapping, so it does not see what the CPU wrote',
  'dma-debug.maps-stack': 'allocate the buffer from the heap: the stack shares its cache lines, and is gone on return',
  'dma-debug.maps-kernel-text': 'copy the bytes into a buffer of their own: kernel text and constants are not for DMA',
  'dma-debug.cacheline-overlap':
    'give each mapping cache lines of its own; for one buffer that several devices share, map clones of one table (sgt.clone())',
  'dma-debug.cacheline-overlap-limit':
    'end mappings of this line; from here on the checker can not count them any more',
  'dma-debug.sg-segment-too-long': 'make shorter entries, or set maxSegmentSizeBytes to what the device really takes',
  'dma-debug.sg-segment-crosses-boundary':
    'place entries inside one boundary, or set segBoundaryBytes to what the device really needs',
  'dma-debug.pending-at-unbind': 'unmap and free everything before the driver lets go of the device',
};
