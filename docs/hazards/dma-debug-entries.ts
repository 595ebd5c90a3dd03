/** What the checker of the DMA API finds. */
import type { HazardCode } from '../../src/index.ts';
import type { CatalogueEntry } from './catalogue-entry.ts';
import { program as dmaDebugCachelineOverlap } from './dma-debug-cacheline-overlap.ts';
import { program as dmaDebugCachelineOverlapLimit } from './dma-debug-cacheline-overlap-limit.ts';
import { program as dmaDebugCpuAddressMismatch } from './dma-debug-cpu-address-mismatch.ts';
import { program as dmaDebugFreeInvalidAddress } from './dma-debug-free-invalid-address.ts';
import { program as dmaDebugFreeNotMapped } from './dma-debug-free-not-mapped.ts';
import { program as dmaDebugMapErrorUnchecked } from './dma-debug-map-error-unchecked.ts';
import { program as dmaDebugMapsKernelText } from './dma-debug-maps-kernel-text.ts';
import { program as dmaDebugMapsStack } from './dma-debug-maps-stack.ts';
import { program as dmaDebugPendingAtUnbind } from './dma-debug-pending-at-unbind.ts';
import { program as dmaDebugSgCountMismatch } from './dma-debug-sg-count-mismatch.ts';
import { program as dmaDebugSgSegmentCrossesBoundary } from './dma-debug-sg-segment-crosses-boundary.ts';
import { program as dmaDebugSgSegmentTooLong } from './dma-debug-sg-segment-too-long.ts';
import { program as dmaDebugSizeMismatch } from './dma-debug-size-mismatch.ts';
import { program as dmaDebugSyncDirectionMismatch } from './dma-debug-sync-direction-mismatch.ts';
import { program as dmaDebugSyncNotMapped } from './dma-debug-sync-not-mapped.ts';
import { program as dmaDebugSyncOutOfRange } from './dma-debug-sync-out-of-range.ts';
import { program as dmaDebugSyncReadOnlyForCpu } from './dma-debug-sync-read-only-for-cpu.ts';
import { program as dmaDebugSyncWriteOnlyForDevice } from './dma-debug-sync-write-only-for-device.ts';
import { program as dmaDebugUnmapDirectionMismatch } from './dma-debug-unmap-direction-mismatch.ts';
import { program as dmaDebugWrongFunction } from './dma-debug-wrong-function.ts';

/** By code. */
export const dmaDebugEntries = {
  'dma-debug.free-not-mapped': {
    meaning:
      'The driver ends a mapping that it never made, or has ended before. The addresses may be somebody else’s by now.',
    right: 'End each mapping once, with the address that mapping answered, for the same device.',
    file: 'dma-debug-free-not-mapped',
    program: dmaDebugFreeNotMapped,
    finds: { device: 'nic0', call: { call: 'dmaUnmapSingle' } },
  },
  'dma-debug.free-invalid-address': {
    meaning: 'The driver ends a mapping that failed: it passes the address that stands for an error.',
    right: 'Ask `dmaMappingError`, and leave the unmap out when it says true.',
    file: 'dma-debug-free-invalid-address',
    program: dmaDebugFreeInvalidAddress,
    finds: { device: 'nic0', call: { call: 'dmaUnmapSingle' } },
  },
  'dma-debug.size-mismatch': {
    meaning:
      'The driver ends a mapping with another size than it made it with. With an IOMMU the rest stays mapped for ever.',
    right: 'Unmap with the size of the mapping; a part of one cannot be unmapped.',
    file: 'dma-debug-size-mismatch',
    program: dmaDebugSizeMismatch,
    finds: { call: { call: 'dmaUnmapSingle', sizeBytes: 1024 }, mapping: { sizeBytes: 1500 } },
  },
  'dma-debug.wrong-function': {
    meaning: 'A mapping is ended by the function of another kind, which does another kind of work.',
    right:
      'End a mapping with the counterpart of the call that made it. `dmaMapSingle` and `dmaUnmapPage` are one kind.',
    file: 'dma-debug-wrong-function',
    program: dmaDebugWrongFunction,
    finds: { call: { call: 'dmaUnmapResource' }, mapping: { call: 'dmaMapSingle' } },
  },
  'dma-debug.cpu-address-mismatch': {
    meaning: 'Coherent memory is freed with the CPU address of something else.',
    right: 'Free with the CPU address that the allocation answered.',
    file: 'dma-debug-cpu-address-mismatch',
    program: dmaDebugCpuAddressMismatch,
    finds: { call: { call: 'dmaFreeCoherent' } },
  },
  'dma-debug.sg-count-mismatch': {
    meaning:
      'A list is unmapped or synced with another count than it was mapped with; often with the count of segments that mapping answered.',
    right: 'Give the count of entries that was given when mapping.',
    file: 'dma-debug-sg-count-mismatch',
    program: dmaDebugSgCountMismatch,
    finds: { call: { call: 'dmaUnmapSg', entries: 2 }, mapping: { entries: 3 } },
  },
  'dma-debug.unmap-direction-mismatch': {
    meaning: 'A mapping is ended for another direction: the wrong cache maintenance is done.',
    right: 'Unmap with the direction of the mapping.',
    file: 'dma-debug-unmap-direction-mismatch',
    program: dmaDebugUnmapDirectionMismatch,
    finds: { call: { call: 'dmaUnmapSingle', dir: 'from-device' }, mapping: { dir: 'to-device' } },
  },
  'dma-debug.map-error-unchecked': {
    meaning:
      'Nobody asked whether mapping had failed. It fails when bounce slots or IO addresses run out, and then the device writes to an address that means nothing.',
    right:
      'Ask `dmaMappingError` after every `dmaMapPage`, `dmaMapSingle` and `dmaMapResource`. Tables answer by an error of their own.',
    file: 'dma-debug-map-error-unchecked',
    program: dmaDebugMapErrorUnchecked,
    finds: { mapping: { call: 'dmaMapSingle' } },
  },
  'dma-debug.sync-not-mapped': {
    meaning: 'A buffer is synced that is not mapped, or not any more.',
    right: 'Sync only between mapping and unmapping.',
    file: 'dma-debug-sync-not-mapped',
    program: dmaDebugSyncNotMapped,
    finds: { call: { call: 'dmaSyncSingleForCpu' }, mapping: null },
  },
  'dma-debug.sync-out-of-range': {
    meaning: 'A sync goes beyond the end of the mapping: it drops or copies bytes of a neighbour.',
    right: 'Sync no more than what was mapped; any part of it may be synced.',
    file: 'dma-debug-sync-out-of-range',
    program: dmaDebugSyncOutOfRange,
    finds: { call: { call: 'dmaSyncSingleForCpu', sizeBytes: 1536 }, mapping: { sizeBytes: 1500 } },
  },
  'dma-debug.sync-direction-mismatch': {
    meaning: 'A sync names another direction than the mapping has.',
    right: 'Sync with the direction of the mapping, or map it `bidirectional`, which any sync fits.',
    file: 'dma-debug-sync-direction-mismatch',
    program: dmaDebugSyncDirectionMismatch,
    finds: { call: { call: 'dmaSyncSingleForDevice', dir: 'bidirectional' } },
  },
  'dma-debug.sync-read-only-for-cpu': {
    meaning: 'The CPU takes back, as if it had been written, what the device only reads.',
    right: 'Leave the sync out: there is nothing new for the CPU.',
    file: 'dma-debug-sync-read-only-for-cpu',
    program: dmaDebugSyncReadOnlyForCpu,
    finds: { call: { call: 'dmaSyncSingleForCpu', dir: 'from-device' }, mapping: { dir: 'to-device' } },
  },
  'dma-debug.sync-write-only-for-device': {
    meaning: 'The device gets, as if it read them, bytes of a mapping that it only writes.',
    right: 'Leave the sync out, or map the buffer for what the device really does.',
    file: 'dma-debug-sync-write-only-for-device',
    program: dmaDebugSyncWriteOnlyForDevice,
    finds: { call: { call: 'dmaSyncSingleForDevice', dir: 'to-device' }, mapping: { dir: 'from-device' } },
  },
  'dma-debug.maps-stack': {
    meaning:
      'A variable on a stack is mapped: it shares cache lines with others, and is gone when the function returns.',
    right: 'Allocate the buffer.',
    file: 'dma-debug-maps-stack',
    program: dmaDebugMapsStack,
    finds: { device: 'nic0', call: { call: 'dmaMapSingle' } },
  },
  'dma-debug.maps-kernel-text': {
    meaning: 'Code or a constant of the kernel image is mapped; a device could overwrite it.',
    right: 'Copy the bytes into a buffer of their own.',
    file: 'dma-debug-maps-kernel-text',
    program: dmaDebugMapsKernelText,
    finds: { device: 'nic0', call: { call: 'dmaMapSingle' } },
  },
  'dma-debug.cacheline-overlap': {
    meaning:
      'Two mappings that a device may write share a cache line. Maintenance for one destroys what the other received.',
    right:
      'Give each mapping cache lines of its own. Several devices share one buffer by clones of one table, which is no overlap.',
    file: 'dma-debug-cacheline-overlap',
    program: dmaDebugCachelineOverlap,
    finds: { call: { call: 'dmaMapSingle', sizeBytes: 32 }, mapping: { sizeBytes: 32 } },
  },
  'dma-debug.cacheline-overlap-limit': {
    meaning: 'A line is in so many mappings that the checker can not count them any more.',
    right: 'End mappings of the line before new ones are made.',
    file: 'dma-debug-cacheline-overlap-limit',
    program: dmaDebugCachelineOverlapLimit,
    finds: { call: { call: 'dmaMapSingle' } },
  },
  'dma-debug.sg-segment-too-long': {
    meaning: 'A list holds an entry that is longer than the device takes.',
    right: 'Make shorter entries, or set `maxSegmentSizeBytes` to what the device really takes.',
    file: 'dma-debug-sg-segment-too-long',
    program: dmaDebugSgSegmentTooLong,
    finds: { call: { call: 'dmaMapSg', sizeBytes: 8192 } },
  },
  'dma-debug.sg-segment-crosses-boundary': {
    meaning: 'A segment crosses a boundary that the device cannot cross.',
    right: 'Place entries inside one boundary; one may end at it.',
    file: 'dma-debug-sg-segment-crosses-boundary',
    program: dmaDebugSgSegmentCrossesBoundary,
    finds: { call: { call: 'dmaMapSg' } },
  },
  'dma-debug.pending-at-unbind': {
    meaning: 'A driver lets go of its device with mappings alive: the device may still write there.',
    right: 'Unmap and free everything before the driver lets go.',
    file: 'dma-debug-pending-at-unbind',
    program: dmaDebugPendingAtUnbind,
    finds: { leaked: 1, mapping: { call: 'dmaMapSingle', sizeBytes: 1500 } },
  },
} as const satisfies Partial<Record<HazardCode, CatalogueEntry>>;
