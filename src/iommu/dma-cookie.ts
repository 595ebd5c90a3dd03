/**
 * What the DMA API keeps for an IOMMU domain that it manages: which addresses are in use, which are never handed out, and with lazy
 * invalidation the queue of those that wait for a flush. A domain has one cookie, shared by all its devices.
 *
 * @see Linux 6.1 `drivers/iommu/dma-iommu.c` iommu_get_dma_cookie, iommu_dma_init_domain
 */
import { ADDRESS_BITS, hex, type Iova } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import { FlushQueue, type FlushQueueClock, type FlushTarget } from './flush-queue.ts';
import type { UnlinkedTables } from './iotlb-gather.ts';
import { IovaSpace } from './iova-space.ts';

/** How to make an {@link IommuDmaCookie}. */
export interface IommuDmaCookieOptions {
  /** The domain's smallest page in bytes, a power of two. Default 4096. */
  readonly granuleBytes?: number;
  /** First byte of the addresses the domain translates. Default 0; page 0 is never handed out. */
  readonly apertureStart?: number;
  /** Last byte of them. Default 2^52 - 1. */
  readonly apertureEnd?: number;
  /** True: unmapped ranges wait for a flush. Default false: strict invalidation. */
  readonly lazy?: boolean;
}

/** The DMA API's share of one IOMMU domain. Plain throughout: nothing waits. */
export class IommuDmaCookie {
  readonly iovas: IovaSpace;
  readonly granuleBytes: number;
  readonly apertureStart: number;
  /** Last byte. */
  readonly apertureEnd: number;
  readonly #clock: FlushQueueClock;
  readonly #target: FlushTarget;
  #flushQueue: FlushQueue | null = null;

  /**
   * @param clock - the simulator.
   * @param target - the domain, for flushes.
   * @throws {InvariantError} the page size is no power of two, or the aperture holds no page beyond page 0.
   */
  constructor(clock: FlushQueueClock, target: FlushTarget, options: IommuDmaCookieOptions = {}) {
    this.#clock = clock;
    this.#target = target;
    this.granuleBytes = options.granuleBytes ?? 4096;
    this.apertureStart = options.apertureStart ?? 0;
    this.apertureEnd = options.apertureEnd ?? 2 ** ADDRESS_BITS - 1;
    const { granuleBytes, apertureStart, apertureEnd } = this;
    assert(Number.isInteger(Math.log2(granuleBytes)), 'granuleBytes: %s is no power of two', granuleBytes);
    const startPfn = Math.max(1, Math.floor(apertureStart / granuleBytes));
    assert(
      Number.isSafeInteger(apertureEnd) && apertureStart >= 0 && Math.floor(apertureEnd / granuleBytes) >= startPfn,
      'aperture: from %s to %s there is no page to hand out',
      apertureStart,
      apertureEnd,
    );
    this.iovas = new IovaSpace(clock, { startPfn, dma32EndPfn: Math.ceil(2 ** 32 / granuleBytes) });
    if (options.lazy === true) this.enableFlushQueue();
  }

  /** The queue of ranges that wait for a flush; `null` with strict invalidation. */
  get flushQueue(): FlushQueue | null {
    return this.#flushQueue;
  }

  /** True with lazy invalidation. */
  get isLazy(): boolean {
    return this.#flushQueue !== null;
  }

  /** Changes from strict to lazy invalidation; addresses in use stay so. Does nothing when it is lazy already. */
  enableFlushQueue(): void {
    this.#flushQueue ??= new FlushQueue(this.#clock, this.#target, this.iovas);
  }

  /**
   * Keeps a range, in bytes with both ends, from ever being handed out: a host bridge's window, a region that the unit does not
   * translate, the doorbell of message interrupts. The pages it touches are taken whole.
   *
   * @throws {InvariantError} not `0 <= firstByte <= lastByte`.
   * @see Linux 6.1 `drivers/iommu/dma-iommu.c` iova_reserve_iommu_regions, iova_reserve_pci_windows
   */
  reserveRange(firstByte: number, lastByte: number): void {
    assert(
      Number.isSafeInteger(firstByte) && Number.isSafeInteger(lastByte) && 0 <= firstByte && firstByte <= lastByte,
      'reserveRange: no range of bytes: %s to %s',
      firstByte,
      lastByte,
    );
    const { granuleBytes } = this;
    this.iovas.tree.reserve(Math.floor(firstByte / granuleBytes), Math.floor(lastByte / granuleBytes));
  }

  /**
   * Gives a range back that was unmapped: at once, or with `isQueued` after the next flush.
   *
   * @param sizeBytes - a multiple of the granule, as allocated; rounding is done here.
   * @param tables - table pages that hung in the range, released when no walker can reach them any more.
   * @throws {InvariantError} `isQueued` with strict invalidation.
   */
  freeRange(iova: Iova, sizeBytes: number, isQueued: boolean, tables: UnlinkedTables | null = null): void {
    const first = iova / this.granuleBytes;
    const pages = sizeBytes / this.granuleBytes;
    if (!isQueued) {
      tables?.release();
      this.iovas.freeFast(first, pages);
      return;
    }
    const queue = this.#flushQueue;
    if (queue === null) return assert(false, 'freeRange: %s was queued, but the domain has no flush queue', hex(iova));
    queue.queue(first, pages, tables);
  }

  /** Ends the cookie with its domain: a running flush timer is stopped. */
  dispose(): void {
    this.#flushQueue?.dispose();
  }
}
