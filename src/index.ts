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
export { ERRNO, type ErrnoCode } from './base/errno.ts';
export { DeadlockError, ErrnoError, HazardError, type Waiter } from './base/errors.ts';
export type {
  Accessor,
  HazardCode,
  HazardFacts,
  HazardPolicy,
  HazardSide,
  HeldFacts,
  LostWriteFacts,
  StaleReadFacts,
} from './base/hazards.ts';
export { describeHazard } from './base/hazards.ts';
export type { RandomSource } from './base/random.ts';
export { alignDown, alignUp, formatBytes, GIB, KIB, MIB, ms, pagesFor, seconds, us } from './base/units.ts';
// cache
export { type CacheCosts, freeCacheCosts } from './cache/cache-costs.ts';
export type { CacheCounters } from './cache/cache-counters.ts';
export { CoherencyDomain, type CoherencyOptions, type DevicePort } from './cache/coherency.ts';
export type { CacheGeometry, CpuCache } from './cache/cpu-cache.ts';
export type { MemoryAttribute } from './cache/cpu-port.ts';
export { CpuView, type CpuViewOptions, type PhysExtent } from './cache/cpu-view.ts';
export type { CameraBuffer, CameraBufferState, CapturedFrame } from './devices/camera/camera-buffer.ts';
export { type CameraParams, type FrameSource, imx219 } from './devices/camera/camera-params.ts';
// devices
export { Camera, type CameraOptions } from './devices/camera.ts';
export { type DisplayMode, reducedBlankingMode, vic4, vic16, vic97 } from './devices/display/display-mode.ts';
export { type DisplayParams, hdmi1080p60 } from './devices/display/display-params.ts';
export type { Framebuffer, FramebufferFormat } from './devices/display/framebuffer.ts';
export { Display, type DisplayOptions, type FlipDone, type FlipOptions, type ScanoutFrame } from './devices/display.ts';
export type { Conversion } from './devices/gpu/convert-job.ts';
export type { GpuAddr, GpuContext } from './devices/gpu/gpu-context.ts';
export type { GpuBuffer, GpuJob } from './devices/gpu/gpu-job.ts';
export type { GpuFault, GpuMemory } from './devices/gpu/gpu-memory.ts';
export { type GpuParams, videoCore6 } from './devices/gpu/gpu-params.ts';
export { Gpu, type GpuImportOptions, type GpuOptions } from './devices/gpu.ts';
export {
  type FrameLayout,
  type FramePlane,
  type FrameSize,
  frameLayout,
  type PixelFormat,
} from './devices/shared/frame-layout.ts';
// dma-api
export { Device, type DeviceOptions } from './dma-api/device.ts';
export { type DmaDirection, deviceReads, deviceWrites } from './dma-api/direction.ts';
export { IommuDmaDomain, type IommuMapping } from './dma-api/dma-iommu.ts';
export {
  type DmaAttrs,
  dmaMapSgtable,
  dmaSyncSgtableForCpu,
  dmaSyncSgtableForDevice,
  dmaUnmapSgtable,
} from './dma-api/dma-map.ts';
export type { DmaMaster, PortFault } from './dma-api/dma-ops.ts';
export type { DmaPort } from './dma-api/dma-port.ts';
export { type Extent, type Segment, SgTable } from './dma-api/sg-table.ts';
// dmabuf
export { type DmaBuf, type DmaBufExportInfo, exportDmaBuf } from './dmabuf/dma-buf.ts';
export type { DmaBufAttachment } from './dmabuf/dma-buf-attachment.ts';
export type { CpuMapping, DmaBufOps } from './dmabuf/dma-buf-ops.ts';
export { DMA_BUF_SYNC, describeSync } from './dmabuf/dma-buf-sync.ts';
export { DmaFence, type DmaFenceCallback, type DmaFenceContext, DmaFenceTimeline } from './dmabuf/dma-fence.ts';
export { CmaHeap, type DmaHeap, SystemHeap, type SystemHeapOptions } from './dmabuf/dma-heap.ts';
export {
  DmaResv,
  type DmaResvEntry,
  DmaResvUsage,
  type DmaResvUsageValue,
  usageToWaitFor,
  withResvsLocked,
} from './dmabuf/dma-resv.ts';
export type { HeapBuffer, MemoryClearer } from './dmabuf/heap-buffer.ts';
// iommu
export { allocIoPgtable, type IoPgtableFormat, type IoPgtables, isIoPgtableFormat } from './iommu/alloc-io-pgtable.ts';
export type { DmaAccess, DmaFault, DmaFaultHandler, DmaFaultReason, FaultQueue } from './iommu/fault.ts';
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
export { Iommu, type IommuClient, type IommuContext, type IommuOptions } from './iommu/iommu.ts';
export { freeIommuCosts, type IommuCosts } from './iommu/iommu-costs.ts';
export { IommuDomain, type IommuDomainOptions } from './iommu/iommu-domain.ts';
export { Iotlb, type IotlbEntry, type IotlbOptions } from './iommu/iotlb.ts';
export { IotlbGather } from './iommu/iotlb-gather.ts';
export { IovaAllocator, type IovaAllocatorOptions, type IovaRange } from './iommu/iova.ts';
export type { LpaeWalkAttributes } from './iommu/lpae-registers.ts';
export type { LpaeTable } from './iommu/lpae-table.ts';
export type { ShortTable } from './iommu/short-table.ts';
export { Translation } from './iommu/translation.ts';
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
export { smmuV3Costs } from './platform/smmu-v3.ts';
// sim
export {
  type Accessible,
  type ChunkedTransfer,
  type Peekable,
  type Transferable,
  transferInChunks,
  transferNs,
} from './sim/access.ts';
export {
  type ChoicePoint,
  type Chooser,
  FifoChooser,
  formatChoices,
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
export { TraceBus, type TraceListener } from './trace/trace-bus.ts';
export { TraceColumns } from './trace/trace-columns.ts';
export type { TraceEvent, TraceEventOf, TraceKind } from './trace/trace-events.ts';
export { formatTraceEvent, TraceHash } from './trace/trace-hash.ts';
// uapi
export { FdTable } from './uapi/fd-table.ts';
export { DMA_BUF_IOCTL_SYNC, type MmapRange, Process, type ProcessOptions, SEEK } from './uapi/process.ts';
export type { UserMapping } from './uapi/user-mapping.ts';
