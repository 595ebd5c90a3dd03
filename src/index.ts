/**
 * The public interface: every name a user may import from `dmabuf-sim`, one by one, grouped by layer.
 * What is not listed here or in `testing/index.ts` is internal.
 */

// base
export {
  ADDRESS_BITS,
  type Brand,
  type DmaAddr,
  dmaAddr,
  hex,
  type Iova,
  iova,
  type Nanos,
  nanos,
  PAGE_SHIFT,
  PAGE_SIZE,
  type Pfn,
  type PhysAddr,
  pfn,
  pfnToPhys,
  physAddr,
  physToPfn,
  type VirtAddr,
  virtAddr,
} from './base/addr.ts';
export { InvariantError } from './base/assert.ts';
export type { Cause, CauseCode } from './base/cause.ts';
export type {
  DmaCallFacts,
  DmaCallMisuseFacts,
  DmaDebugCode,
  DmaDebugFacts,
  DmaHazardFacts,
} from './base/dma-hazards.ts';
export { ERRNO, type ErrnoCode } from './base/errno.ts';
export { DeadlockError, ErrnoError, HazardError, type Waiter } from './base/errors.ts';
export type {
  Accessor,
  EndlessSearchFacts,
  FenceFacts,
  HazardCode,
  HazardFacts,
  HazardPolicy,
  HeldFacts,
  IommuMisuseFacts,
  LostWriteFacts,
  ResvLockFacts,
  SharedTableFacts,
  StaleReadFacts,
  SyscallFacts,
  WrongBytes,
} from './base/hazards.ts';
export { describeHazard } from './base/hazards.ts';
export type { RandomSource } from './base/random.ts';
export { Site } from './base/site.ts';
export { alignDown, alignUp, formatBytes, GIB, KIB, MIB, ms, pagesFor, seconds, us } from './base/units.ts';
export type {
  BatchFacts,
  BracketFacts,
  DmaReachFacts,
  HazardSide,
  LeakFacts,
  LintFacts,
  RaceFacts,
  WatchHazardFacts,
} from './base/watch-hazards.ts';
export type { AccessKind, AccessWatch, Activity, WatchedAccess, Work, WorkSpec } from './cache/activity.ts';
// cache
export { type CacheCosts, freeCacheCosts } from './cache/cache-costs.ts';
export type { CacheCounters } from './cache/cache-counters.ts';
export { CoherencyDomain, type CoherencyOptions, type DevicePort } from './cache/coherency.ts';
export type { CacheGeometry, CpuCache } from './cache/cpu-cache.ts';
export type { MemoryAttribute } from './cache/cpu-port.ts';
export { CpuView, type CpuViewOptions, type PhysExtent } from './cache/cpu-view.ts';
export { DeviceCache, type DeviceCacheCounts, type DeviceCacheOptions } from './cache/device-cache.ts';
export type { SystemCacheOptions } from './cache/domain-caches.ts';
export type { MaintenanceCounts, MaintenanceOp, MemoryRect } from './cache/maintenance.ts';
export type { ReplacementPolicy } from './cache/replacement.ts';
export type { CameraBuffer, CameraBufferState, CapturedFrame } from './devices/camera/camera-buffer.ts';
export { type CameraParams, type FrameSource, imx219 } from './devices/camera/camera-params.ts';
// devices
export { Camera, type CameraOptions } from './devices/camera.ts';
export { type DisplayMode, reducedBlankingMode, vic4, vic16, vic97 } from './devices/display/display-mode.ts';
export { type DisplayParams, hdmi1080p60 } from './devices/display/display-params.ts';
export type { Framebuffer, FramebufferFormat } from './devices/display/framebuffer.ts';
export { Display, type DisplayOptions, type FlipDone, type FlipOptions, type ScanoutFrame } from './devices/display.ts';
export type { Conversion } from './devices/gpu/convert-job.ts';
export { GpuBatch, type GpuBatchOptions } from './devices/gpu/gpu-batch.ts';
export type { GpuCacheParams } from './devices/gpu/gpu-cache.ts';
export type { GpuAddr, GpuContext } from './devices/gpu/gpu-context.ts';
export type { GpuBuffer, GpuJob } from './devices/gpu/gpu-job.ts';
export type { GpuFault, GpuMemory } from './devices/gpu/gpu-memory.ts';
export { type GpuParams, videoCore6 } from './devices/gpu/gpu-params.ts';
export { Gpu, type GpuImportOptions } from './devices/gpu.ts';
export {
  type FrameLayout,
  type FramePlane,
  type FrameSize,
  frameLayout,
  type PixelFormat,
} from './devices/shared/frame-layout.ts';
// dma-api
export { CoherentPool, type CoherentPoolOptions, type PoolZone } from './dma-api/coherent-pool.ts';
export { Device, type DeviceOptions } from './dma-api/device.ts';
export { type DmaDirection, deviceReads, deviceWrites } from './dma-api/direction.ts';
export {
  type DmaFreeClaim,
  dmaAllocAttrs,
  dmaAllocCoherent,
  dmaAllocNoncontiguous,
  dmaAllocPages,
  dmaFreeAttrs,
  dmaFreeCoherent,
  dmaFreeNoncontiguous,
  dmaFreePages,
} from './dma-api/dma-alloc.ts';
export type { DmaAllocation, DmaAllocationKind } from './dma-api/dma-allocation.ts';
export type { DmaAttrs } from './dma-api/dma-attrs.ts';
export { DmaDebug, type DmaDebugOptions } from './dma-api/dma-debug.ts';
export type { ReservedIova } from './dma-api/dma-iommu-master.ts';
export { type DmaIova, dmaIovaTryAlloc } from './dma-api/dma-iova.ts';
export {
  dmaMapSg,
  dmaMapSgtable,
  dmaSyncSgForCpu,
  dmaSyncSgForDevice,
  dmaSyncSgtableForCpu,
  dmaSyncSgtableForDevice,
  dmaUnmapSg,
  dmaUnmapSgtable,
} from './dma-api/dma-map.ts';
export {
  type DmaCpuMapping,
  type DmaMmapRange,
  dmaGetSgtable,
  dmaMmap,
  dmaVmapNoncontiguous,
} from './dma-api/dma-mmap.ts';
export type { DmaBacking, DmaIovaOps, DmaMaster, DmaOps } from './dma-api/dma-ops.ts';
export type { PortFault } from './dma-api/dma-path.ts';
export type { DmaPort } from './dma-api/dma-port.ts';
export {
  type DmaDescription,
  describeDma,
  dmaAddressingLimited,
  dmaCanMmap,
  dmaGetCacheAlignment,
  dmaGetMask,
  dmaGetMergeBoundary,
  dmaGetRequiredMask,
  dmaMaxMappingSize,
  dmaNeedSync,
  dmaOptMappingSize,
} from './dma-api/dma-query.ts';
export type { DmaRange } from './dma-api/dma-range.ts';
export {
  type DmaByteRange,
  dmaMapPage,
  dmaMappingError,
  dmaMapResource,
  dmaMapSingle,
  dmaSyncSingleForCpu,
  dmaSyncSingleForDevice,
  dmaSyncSingleRangeForCpu,
  dmaSyncSingleRangeForDevice,
  dmaUnmapPage,
  dmaUnmapResource,
  dmaUnmapSingle,
} from './dma-api/dma-single.ts';
export { type DmaRect, dmaSyncRectForCpu, dmaSyncRectForDevice } from './dma-api/dma-sync-rect.ts';
export type { KernelBuffer, KernelMemory } from './dma-api/kernel-memory.ts';
export { DMA_MAPPING_ERROR } from './dma-api/mapping-error.ts';
export type { OwnCache, OwnCacheParams } from './dma-api/own-cache.ts';
export { hidePages, showPages } from './dma-api/page-peek.ts';
export { type Extent, type Segment, SgTable } from './dma-api/sg-table.ts';
export {
  type BounceRequest,
  type BouncingDevice,
  Swiotlb,
  type SwiotlbFailure,
  type SwiotlbForce,
  type SwiotlbOptions,
} from './dma-api/swiotlb.ts';
// dmabuf
export {
  AttachDemands,
  demandsConflict,
  demandsOf,
  demandsUnmet,
  type MergedDemands,
  mergeDemands,
  noDemands,
  type PlacementDemands,
} from './dmabuf/attach-constraints.ts';
export { type DmaBuf, exportDmaBuf } from './dmabuf/dma-buf.ts';
export { bindDmaBuf, type DescriptorTable, type DmaBufApi, type DmaBufSymbol } from './dmabuf/dma-buf-api.ts';
export type { DmaBufAttachment } from './dmabuf/dma-buf-attachment.ts';
export { type DmaBufCore, dmaBufCore, type KernelWarning } from './dmabuf/dma-buf-core.ts';
export type { DmaBufExportInfo } from './dmabuf/dma-buf-export.ts';
export {
  bufferFdinfo,
  bufinfo,
  type DmaBufExporterStats,
  type DmaBufStats,
  dmaBufStats,
} from './dmabuf/dma-buf-info.ts';
export type { CpuMapping, DmaBufAttachOps, DmaBufOps, DmaBufRange, DmaBufVma } from './dmabuf/dma-buf-ops.ts';
export { type DmaBufProfile, linux61, linux62, linux71 } from './dmabuf/dma-buf-profile.ts';
export { Revocation } from './dmabuf/dma-buf-revoke.ts';
export { DMA_BUF_SYNC, describeSync } from './dmabuf/dma-buf-sync.ts';
export { DmaFence } from './dmabuf/dma-fence.ts';
export { DmaFenceArray, type DmaFenceArrayOptions } from './dmabuf/dma-fence-array.ts';
export { DmaFenceChain, dmaFenceChainFindSeqno, dmaFenceChainWalk } from './dmabuf/dma-fence-chain.ts';
export type { DmaFenceCallback, DmaFenceOps } from './dmabuf/dma-fence-ops.ts';
export { dmaFenceGetStub, dmaFencePrivateStub } from './dmabuf/dma-fence-stub.ts';
export { DmaFenceTimeline } from './dmabuf/dma-fence-timeline.ts';
export { dedupDmaFences, dmaFenceUnwrap, dmaFenceUnwrapMerge } from './dmabuf/dma-fence-unwrap.ts';
export {
  allocDmaFenceContext,
  countLiveDmaFences,
  type DmaFenceAllocationSite,
  type DmaFenceContext,
  type DmaFenceRules,
  setDmaFenceRules,
} from './dmabuf/dma-fence-world.ts';
export {
  CarveoutHeap,
  type CarveoutHeapOptions,
  CmaHeap,
  type DmaHeap,
  type HeapCharge,
  SystemHeap,
  type SystemHeapOptions,
} from './dmabuf/dma-heap.ts';
export {
  DmaResv,
  type DmaResvEntry,
  DmaResvUsage,
  type DmaResvUsageValue,
  usageToWaitFor,
  withResvsLocked,
} from './dmabuf/dma-resv.ts';
export type { DmaResvIter } from './dmabuf/dma-resv-iter.ts';
export type { HeapBuffer, HeapMemoryType, MemoryClearer } from './dmabuf/heap-buffer.ts';
export { type ExportedSymbol, KernelModule, type KernelModuleInfo } from './dmabuf/kernel-module.ts';
export { type BackingSource, LateBacking } from './dmabuf/late-backing.ts';
export { type SyncFenceInfo, SyncFile, type SyncFileInfo } from './dmabuf/sync-file.ts';
// inspect
export type { AddressPath, AddressStep } from './inspect/address-walk.ts';
export { type AddressMeaning, type Explanation, explain } from './inspect/explain.ts';
export {
  checkLeaks,
  type Leak,
  type LeakOptions,
  type LeakReport,
  leakReport,
  type Simulated,
} from './inspect/leaks.ts';
export type { LedgerExpectation } from './inspect/ledger-expectation.ts';
export { GrowthDetector, type GrowthOptions } from './inspect/ledger-growth.ts';
export type { AddressConfusion, NearMiss } from './inspect/near-misses.ts';
// iommu
export { allocIoPgtable, type IoPgtableFormat, type IoPgtables, isIoPgtableFormat } from './iommu/alloc-io-pgtable.ts';
export { type DirtyReadOptions, TrackedDomain } from './iommu/dirty-tracking.ts';
export { IommuDmaCookie, type IommuDmaCookieOptions } from './iommu/dma-cookie.ts';
export type { DmaAccess, DmaFault, DmaFaultHandler, DmaFaultReason, FaultQueue } from './iommu/fault.ts';
export type { FlushQueue, FlushQueueClock, FlushTarget } from './iommu/flush-queue.ts';
export {
  IommuProt,
  type IoPgtable,
  type IoPgtableConfig,
  type IoPgtableDumpLeaf,
  IoPgtableLeaf,
  type IoPgtableQuirk,
  type IoPgtableTlb,
  type TablePages,
} from './iommu/io-pgtable.ts';
export type { ArmLpaeS1Registers } from './iommu/io-pgtable-arm.ts';
export type { ArmMaliLpaeRegisters } from './iommu/io-pgtable-arm-mali.ts';
export type { ArmLpaeS2Registers } from './iommu/io-pgtable-arm-s2.ts';
export type { ArmV7sRegisters } from './iommu/io-pgtable-arm-v7s.ts';
export type { VtdS2Registers, VtdTable } from './iommu/io-pgtable-vtd.ts';
export { Ioas, type IoasAreaInfo, type IoasMapOptions } from './iommu/ioas.ts';
export { IoasAccess, type IoasAccessOptions } from './iommu/ioas-access.ts';
export type { IoasBacking, PageSource, RevocablePages, UserPages, UserSpace } from './iommu/ioas-backing.ts';
export { type DeviceHwpt, IoasDevice } from './iommu/ioas-device.ts';
export type { DirtyRequest, IoasClient, IoasDomain, IoasDomainRequest } from './iommu/ioas-domain.ts';
export { Hwpt, type HwptOptions } from './iommu/ioas-hwpt.ts';
export { IommuIoasClient, IommuIoasDomain, IommuNestedDomain } from './iommu/ioas-iommu.ts';
export {
  type IoasNestedDomain,
  NestedHwpt,
  type NestedHwptData,
  type NestedInvalidation,
} from './iommu/ioas-nested.ts';
export { MemlockAccount } from './iommu/ioas-pages.ts';
export { IOAS_LAST, type IoasRange } from './iommu/ioas-ranges.ts';
export type { IoasOptions } from './iommu/ioas-table.ts';
export { UserMemory, type UserMemoryOptions } from './iommu/ioas-user-memory.ts';
export { Iommu, type IommuClient, type IommuContext, type IommuOptions } from './iommu/iommu.ts';
export { freeIommuCosts, type IommuCosts } from './iommu/iommu-costs.ts';
export { IommuDomain, type IommuDomainOptions, type IommuDomainType } from './iommu/iommu-domain.ts';
export { type IommuDefaultType, IommuGroup, type IommuGroupOptions } from './iommu/iommu-group.ts';
export { Iommufd, type IommufdOptions } from './iommu/iommufd.ts';
export {
  HW_CAP_DIRTY_TRACKING,
  HWPT_ALLOC,
  IOAS_MAP,
  IOMMUFD,
  IOMMUFD_OPTION,
} from './iommu/iommufd-commands.ts';
export { Iotlb, type IotlbEntry, type IotlbOptions } from './iommu/iotlb.ts';
export { IotlbGather, type UnlinkedTables } from './iommu/iotlb-gather.ts';
export { IovaAllocator, type IovaAllocatorOptions, type IovaRange } from './iommu/iova.ts';
export { type CpuSource, IovaSpace } from './iommu/iova-space.ts';
export type { LpaeWalkAttributes } from './iommu/lpae-registers.ts';
export type { LpaeTable } from './iommu/lpae-table.ts';
export type { IommuExtents } from './iommu/map-sg.ts';
export { NestedDomain, type NestedDomainOptions } from './iommu/nested-translation.ts';
export type { ShortTable } from './iommu/short-table.ts';
export { Translation } from './iommu/translation.ts';
export { formatSourceId, type VtdFaultRecord, vtdFaultRecord } from './iommu/vtd-fault.ts';
// mem
export type { AllocationAttempt, FailHook } from './mem/attempt.ts';
export { CarveoutAllocator, type CarveoutRequest } from './mem/carveout.ts';
export { CmaArea, type CmaOptions } from './mem/cma.ts';
export { Fragmentation, type FragmentOptions, fragmentCma, fragmentPages } from './mem/fragmenter.ts';
export type { Allocation, AllocationKind, AllocationOwner, FormerOwner, MemLedger } from './mem/ledger.ts';
export type { MemRegion, RegionKind, RegionPlace, RegionSpec, WindowResolver } from './mem/mem-region.ts';
export type { FrameRange, Memblock, Reservation, ReservationRequest } from './mem/memblock.ts';
export {
  type BuddyInfo,
  type BulkRequest,
  type ContiguousRequest,
  type FrameBlocks,
  PageAllocator,
  type PageAllocatorOptions,
  type PageRequest,
} from './mem/page-allocator.ts';
export { PhysMemory, type PhysMemoryOptions } from './mem/phys-memory.ts';
export { MAX_PAGE_ORDER, type ZoneLimits, type ZoneName } from './mem/zone.ts';
// platform
export { type ArmSocOptions, armSoc } from './platform/arm-soc.ts';
export { type DeviceSpec, Machine, type MachineOptions, type MachineSpec } from './platform/machine.ts';
export { type PcOptions, pc } from './platform/pc.ts';
export { smmuV3Costs } from './platform/smmu-v3.ts';
export { vtdCosts } from './platform/vt-d.ts';
export {
  type Accessible,
  type ChunkedTransfer,
  type Peekable,
  type Transferable,
  transferInChunks,
  transferNs,
} from './sim/access.ts';
// sim
export { AdversarialChooser, type AdversarialOptions } from './sim/adversarial-chooser.ts';
export {
  type ChoicePoint,
  type Chooser,
  FifoChooser,
  formatChoices,
  type HardwarePoint,
  parseChoices,
  RandomChooser,
  ReplayChooser,
} from './sim/chooser.ts';
export { all, type OpValue, type OpValues, race, type TimeoutResult, timeout } from './sim/combinators.ts';
export { Completion } from './sim/completion.ts';
export { Event, Signal } from './sim/event.ts';
export type { EventHandle } from './sim/event-queue.ts';
export { Mutex } from './sim/mutex.ts';
export { isOp, lift, type MaybeOp, type Op, type Suspend } from './sim/op.ts';
export { Prng } from './sim/prng.ts';
export { Semaphore } from './sim/semaphore.ts';
export { type RunOptions, Simulator, type SimulatorOptions, type SpawnOptions } from './sim/simulator.ts';
export { type Held, KilledError, type Task, type TaskOutcome } from './sim/task.ts';
export type { Timer } from './sim/timer.ts';
export { type WaitOptions, WaitQueue } from './sim/wait-queue.ts';
export { WwAcquireCtx, type WwAlgorithm, WwClass, type WwLock } from './sim/ww-acquire-ctx.ts';
export { WwMutex, wwLockAll } from './sim/ww-mutex.ts';
// trace
export {
  AddressBook,
  type AddressEnd,
  type AddressEntry,
  type AddressMapping,
  type AddressPieces,
  type AddressSpace,
  type MappingEnd,
} from './trace/address-book.ts';
export type { LedgerPeak, LedgerPeaks } from './trace/ledger-entry.ts';
export {
  type LedgerHolder,
  type LedgerObject,
  type NewCounted,
  type NewObject,
  type ObjectKind,
  ObjectLedger,
} from './trace/object-ledger.ts';
export { SyncLog, type SyncNote, type SyncRecord } from './trace/sync-log.ts';
export { TraceBus, type TraceListener } from './trace/trace-bus.ts';
export { TraceColumns } from './trace/trace-columns.ts';
export type { TraceEvent, TraceEventOf, TraceKind } from './trace/trace-events.ts';
export { formatTraceEvent, TraceHash } from './trace/trace-hash.ts';
// uapi
export {
  type BufferHolder,
  type BufferUsage,
  type DeviceUsage,
  describeLeftBuffers,
  type MemoryUsage,
  memoryUsage,
  type ProcessUsage,
} from './uapi/accounting.ts';
export { type DeviceNodes, deviceNodes, type OpenNode } from './uapi/device-nodes.ts';
export {
  DMA_BUF_IOCTL_EXPORT_SYNC_FILE,
  DMA_BUF_IOCTL_IMPORT_SYNC_FILE,
  DMA_BUF_IOCTL_SYNC,
  DMA_BUF_SET_NAME_A,
  DMA_BUF_SET_NAME_B,
  DmaBufFile,
  dmaBufFile,
  SEEK,
} from './uapi/dma-buf-file.ts';
export { DMA_HEAP_IOCTL_ALLOC, DmaHeapFile } from './uapi/dma-heap-file.ts';
export {
  DRM_CAP,
  DrmDevice,
  type DrmDeviceOptions,
  type DrmDriver,
  vgemDriver,
  vkmsDriver,
} from './uapi/drm-device.ts';
export { DrmFile } from './uapi/drm-file.ts';
export type { GemImport, GemObject } from './uapi/drm-gem.ts';
export {
  DRM_IOCTL_GEM_CLOSE,
  DRM_IOCTL_GEM_FLINK,
  DRM_IOCTL_GEM_OPEN,
  DRM_IOCTL_GET_CAP,
  DRM_IOCTL_MODE_CREATE_DUMB,
  DRM_IOCTL_MODE_DESTROY_DUMB,
  DRM_IOCTL_MODE_MAP_DUMB,
  DRM_IOCTL_PRIME_FD_TO_HANDLE,
  DRM_IOCTL_PRIME_HANDLE_TO_FD,
  DRM_IOCTL_VGEM_FENCE_ATTACH,
  DRM_IOCTL_VGEM_FENCE_SIGNAL,
} from './uapi/drm-ioctl.ts';
export {
  DRM_IOCTL_SYNCOBJ_CREATE,
  DRM_IOCTL_SYNCOBJ_DESTROY,
  DRM_IOCTL_SYNCOBJ_EVENTFD,
  DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE,
  DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD,
  DRM_IOCTL_SYNCOBJ_QUERY,
  DRM_IOCTL_SYNCOBJ_RESET,
  DRM_IOCTL_SYNCOBJ_SIGNAL,
  DRM_IOCTL_SYNCOBJ_TIMELINE_SIGNAL,
  DRM_IOCTL_SYNCOBJ_TIMELINE_WAIT,
  DRM_IOCTL_SYNCOBJ_TRANSFER,
  DRM_IOCTL_SYNCOBJ_WAIT,
  DRM_SYNCOBJ,
} from './uapi/drm-syncobj-requests.ts';
export { EFD, EventFd } from './uapi/eventfd.ts';
export { F } from './uapi/fcntl.ts';
export { type FdOptions, FdTable } from './uapi/fd-table.ts';
export {
  FenceFile,
  fenceFileAt,
  type InstallFenceOptions,
  SYNC_FENCE_INFO,
  SYNC_IOC_FILE_INFO,
  SYNC_IOC_MERGE,
  SYNC_IOC_SET_DEADLINE,
  type SyncFileMaker,
} from './uapi/fence-file.ts';
export {
  type FileStat,
  noIoctl,
  O,
  OpenFile,
  POLL,
  type PollTable,
  PROT,
  type VmaBacking,
  type VmaRequest,
} from './uapi/file.ts';
export {
  type Fields,
  type FieldType,
  IoctlCall,
  type IoctlDirection,
  type IoctlRequest,
  ioctlCode,
  ioctlParts,
  ioctlRequest,
  type KernelStruct,
  StructLayout,
  struct,
  type UserAddress,
  type UserStruct,
} from './uapi/ioctl.ts';
export type { IoctlArgument, IoctlOptions } from './uapi/ioctl-argument.ts';
export { MemCgroup, type MemCgroupOptions, type MemCgroups, memCgroups } from './uapi/mem-cgroup.ts';
export { F_SEAL, Memfd, type MemfdOptions, MFD } from './uapi/memfd.ts';
export type { MmapRange } from './uapi/mmap.ts';
export { addDmaHeap, addDrmNode, addUdmabuf, eventfd, memfdCreate } from './uapi/node-setup.ts';
export type { PollRequest, SelectSets } from './uapi/poll.ts';
export { Process, type ProcessOptions } from './uapi/process.ts';
export {
  type CommandBatch,
  type SharedAccess,
  type SharedAccessOptions,
  SharedBuffer,
  type SharedBufferOptions,
  type SharedSubmit,
  type SharedUse,
  submitShared,
} from './uapi/shared-buffer.ts';
export type { ExplicitFence } from './uapi/shared-buffer-fences.ts';
export { isSignalPending, waitForFences, waitInterruptibly } from './uapi/signals.ts';
export type { IncomingMessage, OutgoingMessage, ReceiveOptions, SocketOptions } from './uapi/socket.ts';
export { SW_SYNC_IOC_CREATE_FENCE, SW_SYNC_IOC_INC, SW_SYNC_PATH, SwSyncFile, SwSyncTimeline } from './uapi/sw-sync.ts';
export { describeLeftSyncFiles, type SyncFileUsage } from './uapi/sync-file-usage.ts';
export { Syncobj, type SyncobjListener } from './uapi/syncobj.ts';
export { SyncobjFile } from './uapi/syncobj-file.ts';
export {
  UDMABUF_CREATE,
  UDMABUF_CREATE_ITEM,
  UDMABUF_CREATE_LIST,
  UDMABUF_FLAGS_CLOEXEC,
  type UdmabufBuffer,
  UdmabufFile,
  type UdmabufOptions,
} from './uapi/udmabuf.ts';
export type { UserMapping } from './uapi/user-mapping.ts';
export { CallMemory } from './uapi/user-memory.ts';
