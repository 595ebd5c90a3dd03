/**
 * Puts the kernel's sharing devices where processes can open them, and the two calls that make files without a node.
 *
 * @see Linux 6.1 `drivers/dma-buf/dma-heap.c` dma_heap_add; memfd_create(2), eventfd(2)
 */
import type { DmaHeap } from '../dmabuf/dma-heap.ts';
import type { Simulator } from '../sim/simulator.ts';
import { deviceNodes, type OpenNode } from './device-nodes.ts';
import { DmaHeapFile } from './dma-heap-file.ts';
import type { DrmDevice } from './drm-device.ts';
import { DrmFile } from './drm-file.ts';
import { EFD, EventFd } from './eventfd.ts';
import { Memfd, type MemfdOptions, MFD } from './memfd.ts';
import type { Process } from './process.ts';
import { UdmabufFile, type UdmabufOptions } from './udmabuf.ts';

/**
 * @internal The nodes that a machine comes with: its heaps and `/dev/udmabuf`. Whoever adds one of the same path replaces it. Plain.
 */
export function addStockNodes(sim: Simulator, heaps: readonly DmaHeap[], udmabuf: UdmabufOptions): void {
  const nodes = deviceNodes(sim);
  for (const heap of heaps) nodes.addStock(`/dev/dma_heap/${heap.name}`, openHeap(heap));
  nodes.addStock('/dev/udmabuf', openUdmabuf(sim, udmabuf));
}

/** Adds `/dev/dma_heap/NAME`. Plain. @throws {ErrnoError} `EEXIST` there is a heap of that name (never retry). */
export function addDmaHeap(sim: Simulator, heap: DmaHeap): void {
  deviceNodes(sim).add(`/dev/dma_heap/${heap.name}`, openHeap(heap));
}

/** Adds `/dev/udmabuf`. Plain. @throws {ErrnoError} `EEXIST` there is one (never retry). */
export function addUdmabuf(sim: Simulator, options: UdmabufOptions): void {
  deviceNodes(sim).add('/dev/udmabuf', openUdmabuf(sim, options));
}

/** Adds `path`, such as `/dev/dri/card0`. Plain. @throws {ErrnoError} `EEXIST` there is one (never retry). */
export function addDrmNode(device: DrmDevice, path: string): void {
  deviceNodes(device.sim).add(path, (_process, flags) => new DrmFile(device, flags));
}

/**
 * A new file in memory. Plain.
 *
 * @returns its descriptor.
 * @throws {ErrnoError} as {@link Memfd}; `EMFILE` (retry after a close).
 * @see memfd_create(2)
 */
export function memfdCreate(process: Process, options: MemfdOptions): number {
  const cloexec = ((options.flags ?? 0) & MFD.cloexec) !== 0;
  return process.fds.publish(
    () => new Memfd(process.sim, options, process),
    () => undefined,
    { cloexec },
  );
}

/**
 * A new counter. Plain.
 *
 * @returns its descriptor.
 * @throws {ErrnoError} `EINVAL` unknown flags (never retry); `EMFILE` (retry after a close).
 * @see eventfd(2)
 */
export function eventfd(process: Process, initial = 0, flags = 0): number {
  return process.fds.publish(
    () => new EventFd(process.sim, initial, flags),
    () => undefined,
    { cloexec: (flags & EFD.cloexec) !== 0 },
  );
}

function openHeap(heap: DmaHeap): OpenNode {
  return (_process, flags) => new DmaHeapFile(heap, flags);
}

function openUdmabuf(sim: Simulator, options: UdmabufOptions): OpenNode {
  return () => new UdmabufFile(sim, options);
}
