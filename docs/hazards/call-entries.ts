/** What the calls of the DMA API, of dma-buf and of an IOMMU find by themselves, and what fences, locks and system calls do. */
import type { HazardCode } from '../../src/index.ts';
import type { CatalogueEntry } from './catalogue-entry.ts';
import { program as dmaAllocNoKernelMapping } from './dma-alloc-no-kernel-mapping.ts';
import { program as dmaIovaLeftoverLink } from './dma-iova-leftover-link.ts';
import { program as dmaMapPageless } from './dma-map-pageless.ts';
import { program as dmaMapRejectsVmalloc } from './dma-map-rejects-vmalloc.ts';
import { program as dmaMapResourceIsRam } from './dma-map-resource-is-ram.ts';
import { program as dmabufPagePeek } from './dmabuf-page-peek.ts';
import { program as dmabufSharedTable } from './dmabuf-shared-table.ts';
import { program as fenceCompareAcrossContexts } from './fence-compare-across-contexts.ts';
import { program as fenceErrorAfterSignal } from './fence-error-after-signal.ts';
import { program as fenceNestedContainer } from './fence-nested-container.ts';
import { program as fenceReleasedPending } from './fence-released-pending.ts';
import { program as fenceUseAfterFree } from './fence-use-after-free.ts';
import { program as iommuMapNothing } from './iommu-map-nothing.ts';
import { program as iommuMapOverSuperpage } from './iommu-map-over-superpage.ts';
import { program as iommuUnmapInsideSuperpage } from './iommu-unmap-inside-superpage.ts';
import { program as iommuUnmapWithoutTable } from './iommu-unmap-without-table.ts';
import { program as lockHeldAtExit } from './lock-held-at-exit.ts';
import { program as resvChanged } from './resv-changed.ts';
import { program as resvContainerAdded } from './resv-container-added.ts';
import { program as resvHeld } from './resv-held.ts';
import { program as resvNotHeld } from './resv-not-held.ts';
import { program as swiotlbEndlessSearch } from './swiotlb-endless-search.ts';
import { program as syscallHeldAtReturn } from './syscall-held-at-return.ts';

/** By code. */
export const callEntries = {
  'dma-map.rejects-vmalloc': {
    meaning:
      'Memory from `vmalloc` is mapped as one buffer: its pages need not be contiguous, so the device would reach pages of others.',
    right: 'Allocate with `kmalloc`, or map the pages one by one as a table.',
    file: 'dma-map-rejects-vmalloc',
    program: dmaMapRejectsVmalloc,
    finds: { device: 'nic0', call: 'dmaMapSingle' },
  },
  'dma-map.pageless': {
    meaning: 'Registers or device memory are mapped as if they were RAM. They have no `struct page`.',
    right: 'Map them with `dmaMapResource`.',
    file: 'dma-map-pageless',
    program: dmaMapPageless,
    finds: { device: 'nic0', call: 'dmaMapPage' },
  },
  'dma-map.resource-is-ram': {
    meaning: 'RAM is mapped as if it were a register: nothing takes care of the caches.',
    right: 'Map RAM with `dmaMapPage` or as a table.',
    file: 'dma-map-resource-is-ram',
    program: dmaMapResourceIsRam,
    finds: { device: 'nic0', call: 'dmaMapResource' },
  },
  'dma-alloc.no-kernel-mapping': {
    meaning: 'The kernel touches memory that it was told not to map.',
    right: 'Allocate without `noKernelMapping`, or let a process touch it through its own mapping.',
    file: 'dma-alloc-no-kernel-mapping',
    program: dmaAllocNoKernelMapping,
    finds: { device: 'nic0', call: 'write' },
  },
  'dma-iova.leftover-link': {
    meaning:
      'IO addresses are freed while pieces of memory are still linked to them: the next owner of the addresses shares them.',
    right: 'Unlink every piece before the free, or destroy the run with the length that was linked.',
    file: 'dma-iova-leftover-link',
    program: dmaIovaLeftoverLink,
    finds: { device: 'nic0', call: 'dmaIovaFree' },
  },
  'dmabuf.page-peek': {
    meaning:
      'An importer looks for the memory behind a table that a dma-buf gave it. There may be none, as with device memory, and touching it goes around the exporter.',
    right: 'Use the device side (`dmaAddress`, `dmaLength`) for DMA, and `vmap` or `mmap` of the dma-buf for the CPU.',
    file: 'dmabuf-page-peek',
    program: dmabufPagePeek,
    finds: { device: 'gpu0', call: 'physAddress' },
  },
  'dmabuf.shared-table': {
    meaning:
      'An exporter gave one table to two mappings. The unmap of one takes the addresses of the other away, and each device needs addresses of its own.',
    right: 'Make a table for each mapping: `SgTable.clone`, then `dmaMapSgtable`.',
    file: 'dmabuf-shared-table',
    program: dmabufSharedTable,
    finds: { exporter: 'vram', devices: ['gpu0', 'display0'] },
  },
  'resv.not-held': {
    meaning:
      'A call or callback needs the reservation lock, and nobody holds it. Which calls do is a matter of the kernel version, see `DmaBufProfile`.',
    right: 'Take the lock, or call the form that takes it itself (`…Unlocked`).',
    file: 'resv-not-held',
    program: resvNotHeld,
    finds: { call: 'map', buf: 'frame', task: 'main', holder: 'nobody', rules: 'linux-6.2' },
  },
  'resv.held': {
    meaning: 'A call is made under the reservation lock that it, or the exporter behind it, takes.',
    right: 'Give the lock back before the call.',
    file: 'resv-held',
    program: resvHeld,
    finds: { call: 'attach', buf: 'frame', task: 'main', holder: 'main' },
  },
  'resv.changed': {
    meaning: 'A callback took the reservation lock or gave it back, and returned so.',
    right: 'Leave the lock as it was when the callback was called.',
    file: 'resv-changed',
    program: resvChanged,
    finds: { call: 'beginCpuAccess', buf: 'tile' },
  },
  'resv.container-added': {
    meaning: 'A merged fence is added to a reservation, which then cannot replace the fences in it.',
    right: 'Add each fence that `dmaFenceUnwrap` gives.',
    file: 'resv-container-added',
    program: resvContainerAdded,
    finds: { fence: 'dma_fence_array:1', who: 'main' },
  },
  'fence.error-after-signal': {
    meaning: 'A fence gets an error after it has signalled. Who looked before believes that the work was done.',
    right: 'Set the error, then signal.',
    file: 'fence-error-after-signal',
    program: fenceErrorAfterSignal,
    finds: { fence: 'gpu0:1' },
  },
  'fence.compare-across-contexts': {
    meaning: 'Two fences of different contexts are compared. Their numbers have nothing to do with each other.',
    right: 'Compare fences of one context only; wait for both else.',
    file: 'fence-compare-across-contexts',
    program: fenceCompareAcrossContexts,
    finds: { fence: 'gpu0:2' },
  },
  'fence.nested-container': {
    meaning: 'An array or chain of fences becomes a member of an array. Who unwraps that array does not look inside.',
    right: 'Merge with `dmaFenceUnwrapMerge`, which takes the members.',
    file: 'fence-nested-container',
    program: fenceNestedContainer,
    finds: { fence: 'dma_fence_array:1' },
  },
  'fence.released-pending': {
    meaning: 'The last reference to a fence is gone, and somebody waits for it: nobody can ever signal it.',
    right: 'Signal before the last `put`.',
    file: 'fence-released-pending',
    program: fenceReleasedPending,
    finds: { fence: 'gpu0:1', who: 'gpu0' },
  },
  'fence.use-after-free': {
    meaning: 'A fence is used after its last reference is gone.',
    right: 'Keep a reference as long as the fence is used; take one of a fence that may be dying with `tryGet`.',
    file: 'fence-use-after-free',
    program: fenceUseAfterFree,
    finds: { fence: 'gpu0:1' },
  },
  'iommu.map-nothing': {
    meaning: 'A driver maps 0 bytes; in caching mode the invalidation of nothing stops the kernel.',
    right: 'Do not map 0 bytes.',
    file: 'iommu-map-nothing',
    program: iommuMapNothing,
    finds: { domain: 'guest', sizeBytes: 0 },
  },
  'iommu.map-over-superpage': {
    meaning:
      'A driver maps where a large page is mapped; the kernel would take that page for a table and write into it.',
    right: 'Unmap the large page first.',
    file: 'iommu-map-over-superpage',
    program: iommuMapOverSuperpage,
    finds: { domain: 'guest', iova: 0x200000 },
  },
  'iommu.unmap-inside-superpage': {
    meaning:
      'A driver unmaps from the middle of a large page; the kernel would take that page for a table and clear it.',
    right: 'Unmap from its first byte, or map with pages of the size to be unmapped.',
    file: 'iommu-unmap-inside-superpage',
    program: iommuUnmapInsideSuperpage,
    finds: { domain: 'guest', iova: 0x201000 },
  },
  'iommu.unmap-without-table': {
    meaning: 'A driver unmaps where no table was ever made; the kernel would clear up to 512 GiB from there on.',
    right: 'Unmap only what was mapped.',
    file: 'iommu-unmap-without-table',
    program: iommuUnmapWithoutTable,
    finds: { domain: 'guest', iova: 0x40000000 },
  },
  'swiotlb.endless-search': {
    meaning:
      'The device keeps more low bits of an address than a bounce slot has, and no slot with those bits is free. Linux 6.1 then searches for ever with the lock of the pool held.',
    right: 'Align the buffer to `minAlignMask + 1`, or give the device a `minAlignMask` below 2048.',
    file: 'swiotlb-endless-search',
    program: swiotlbEndlessSearch,
    finds: { device: 'nvme0', minAlignMask: 0xffff },
  },
  'lock.held-at-exit': {
    meaning: 'A task ended with a lock held; who waits for it waits for ever.',
    right: 'Unlock on every way out: `withLock`, or a `finally` block.',
    file: 'lock-held-at-exit',
    program: lockHeldAtExit,
    finds: { task: 'worker', held: ['queue lock'] },
  },
  'syscall.held-at-return': {
    meaning: 'A system call returned to the process with a lock, or with a reserved descriptor, that is the kernel’s.',
    right: 'Release both on every way out of the call.',
    file: 'syscall-held-at-return',
    program: syscallHeldAtReturn,
    finds: { call: 'ioctl', held: ['1 reserved descriptors'] },
  },
} as const satisfies Partial<Record<HazardCode, CatalogueEntry>>;
