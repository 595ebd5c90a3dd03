/**
 * A device as the DMA API sees it: how far it reaches, whether it snoops, and behind which IOMMU domain it sits. A model
 * of a device has one of these; its memory accesses go through {@link Device.port}.
 */

import { assert } from '../base/assert.ts';
import { ErrnoError } from '../base/errors.ts';
import { KIB } from '../base/units.ts';
import type { CoherencyDomain } from '../cache/coherency.ts';
import type { IommuGroup } from '../iommu/iommu-group.ts';
import type { CmaArea } from '../mem/cma.ts';
import type { PageAllocator } from '../mem/page-allocator.ts';
import type { Simulator } from '../sim/simulator.ts';
import type { CoherentPool } from './coherent-pool.ts';
import { checkPresent } from './dma-args.ts';
import type { DmaDebug } from './dma-debug.ts';
import { DirectDma } from './dma-direct.ts';
import { IommuDma } from './dma-iommu.ts';
import type { ReservedIova } from './dma-iommu-master.ts';
import { DmaLints } from './dma-lints.ts';
import type { DmaMaster, DmaOps } from './dma-ops.ts';
import { DmaPath } from './dma-path.ts';
import { DmaPort } from './dma-port.ts';
import { checkDmaRanges, type DmaRange } from './dma-range.ts';
import { LiveMappings } from './live-mappings.ts';
import { OwnCache, type OwnCacheParams } from './own-cache.ts';
import type { Swiotlb } from './swiotlb.ts';

/** How to make a {@link Device}. */
export interface DeviceOptions {
  readonly name: string;
  readonly coherency: CoherencyDomain;
  /** Whether its accesses snoop the CPU caches (`dma-coherent` in the device tree). */
  readonly coherent: boolean;
  /**
   * Whether its accesses look into the machine's system cache, if there is one; those of a coherent device do always. Default: if it is
   * `coherent`. What else that asks of its driver is in `docs/coherency.md`.
   */
  readonly seesSystemCache?: boolean;
  /** It has a cache of its own, which all its accesses go through: {@link Device.cache}. Default: it has none. */
  readonly cache?: OwnCacheParams;
  /** In this group of an IOMMU, which it joins; without one its addresses are physical addresses. */
  readonly iommuGroup?: IommuGroup;
  /** Requester id of its accesses: bus, device and function of a PCI function in 8, 5 and 3 bits, or a stream id. */
  readonly sourceId?: number;
  /** Further ids that its accesses may carry, as behind a PCI bridge. */
  readonly aliases?: readonly number[];
  /** Where memory for its coherent allocations comes from; without it they fail. */
  readonly pages?: PageAllocator;
  /** The pool that mappings out of its reach, or not to be shared with it, go through; without one they fail. */
  readonly swiotlb?: Swiotlb;
  /** Mappings that would have to bounce fail instead. Default false. */
  readonly refuseBounce?: boolean;
  /** Where large coherent allocations come from first, if no IOMMU makes small pieces do. */
  readonly cma?: CmaArea;
  /** Where coherent allocations come from that must not wait, if it does not snoop; without it they fail. */
  readonly coherentPool?: CoherentPool;
  /** Bits of address the device can drive: 0 to 64, without an IOMMU 24 to 64. Default 32, as Linux's. */
  readonly dmaMaskBits?: number;
  /** Bits of address for coherent allocations: 0 to 64. Default 32, as Linux's. */
  readonly coherentDmaMaskBits?: number;
  /** The last address that the bus carries; default 0: no limit of its own. */
  readonly busDmaLimit?: number;
  /** Where the bus sees memory at other addresses (`dma-ranges`); default: everywhere at its own. */
  readonly dmaRanges?: readonly DmaRange[];
  /** Longest segment in bytes. Default 64 KiB, as Linux's. */
  readonly maxSegmentSizeBytes?: number;
  /** No segment crosses a multiple of this many bytes (a power of two). Default 4 GiB. */
  readonly segBoundaryBytes?: number;
  /** Low address bits that a bounce buffer must keep: 0 or one below a power of two, at most 0xffff. Default 0. */
  readonly minAlignMask?: number;
  /** A PCI device: behind an IOMMU its addresses come from below 4 GiB as long as there are any. Default false. */
  readonly pci?: boolean;
  /** It could be hostile (an external port): parts of pages are never mapped for it, but bounced. Default false. */
  readonly untrusted?: boolean;
  /** Its IO addresses are not taken from below 4 GiB first, although it is a PCI device. Default false. @see `Documentation/admin-guide/kernel-parameters.txt` iommu.forcedac */
  readonly forceDac?: boolean;
  /**
   * IO addresses that are never handed out to it: windows of its PCI host bridge (which would take the access for a peer's), what its
   * IOMMU keeps for message interrupts. Default none.
   */
  readonly reservedIova?: readonly ReservedIova[];
  /** The machine's checker of the DMA API; without one nothing is checked, at no cost. */
  readonly dmaDebug?: DmaDebug;
  /** A back end of the user's own, instead of what the platform would choose. */
  readonly dmaOps?: (device: DmaMaster) => DmaOps;
}

/** One device of a machine. */
export class Device implements DmaMaster {
  readonly name: string;
  readonly sim: Simulator;
  readonly coherency: CoherencyDomain;
  /** Whether its accesses snoop, so that syncing it is a no-op. */
  readonly coherent: boolean;
  /** Whether its accesses look into the system cache. */
  readonly seesSystemCache: boolean;
  /** Its own cache if it was made with one, or `null`. That of a GPU belongs to the model: `GpuParams.cache`. */
  readonly cache: OwnCache | null;
  /** The group of an IOMMU that it is in, or `null`. */
  readonly iommuGroup: IommuGroup | null;
  declare readonly sourceId?: number;
  declare readonly aliases?: readonly number[];
  /** Where memory for its coherent allocations comes from, or `null`. */
  readonly pages: PageAllocator | null;
  /** Its bounce pool, or `null`. */
  readonly swiotlb: Swiotlb | null;
  readonly refuseBounce: boolean;
  /** Where large coherent allocations come from first, or `null`. */
  readonly cma: CmaArea | null;
  /** Where coherent allocations come from that must not wait, or `null`. */
  readonly coherentPool: CoherentPool | null;
  readonly busDmaLimit: number;
  readonly dmaRanges: readonly DmaRange[];
  readonly pci: boolean;
  readonly untrusted: boolean;
  readonly forceDac: boolean;
  readonly reservedIova: readonly ReservedIova[];
  /** The checker of its calls of the DMA API, or `null`. */
  readonly dmaDebug: DmaDebug | null;
  /** @internal What it has mapped and allocated. */
  readonly live = new LiveMappings();
  /** Its way to memory. */
  readonly port: DmaPort;
  /** Whether it may start accesses (the bus master bit of a PCI device). Without it, they do nothing and nobody is told. */
  busMaster = true;
  #isRemoved = false;
  #maxSegmentSizeBytes: number;
  #hasSegmentLimit: boolean;
  #segBoundaryBytes: number;
  #minAlignMask: number;
  #dmaMaskBits: number;
  #coherentDmaMaskBits: number;
  /** Asked for each page of an access, so it is kept. */
  #dmaLimit: number;
  readonly #direct: DmaOps;
  readonly #translated: DmaOps | null;
  readonly #custom: DmaOps | null;

  /**
   * Makes a device and puts it into its group.
   *
   * @throws {InvariantError} a mask, limit, window, segment size, boundary, alignment or the cache out of range; the text names it.
   * @throws {ErrnoError} `EBUSY` another group answers for one of its requester ids (never retry).
   */
  constructor(sim: Simulator, options: DeviceOptions) {
    const bits = checkBits('dmaMaskBits', options.dmaMaskBits ?? 32);
    this.sim = sim;
    this.name = options.name;
    this.coherency = options.coherency;
    this.coherent = options.coherent;
    this.seesSystemCache = options.coherent || (options.seesSystemCache ?? false);
    this.iommuGroup = options.iommuGroup ?? null;
    if (options.sourceId !== undefined) this.sourceId = options.sourceId;
    if (options.aliases !== undefined) this.aliases = options.aliases;
    this.pages = options.pages ?? null;
    this.swiotlb = options.swiotlb ?? null;
    this.refuseBounce = options.refuseBounce ?? false;
    this.cma = options.cma ?? null;
    this.coherentPool = options.coherentPool ?? null;
    this.busDmaLimit = checkBusLimit(options.busDmaLimit ?? 0);
    this.dmaRanges = checkDmaRanges(options.dmaRanges ?? []);
    this.#maxSegmentSizeBytes = checkSegmentSize(options.maxSegmentSizeBytes ?? 64 * KIB);
    this.#hasSegmentLimit = options.maxSegmentSizeBytes !== undefined;
    this.#segBoundaryBytes = checkBoundary(options.segBoundaryBytes ?? 2 ** 32);
    this.#minAlignMask = checkAlignMask(options.minAlignMask ?? 0);
    this.pci = options.pci ?? false;
    this.untrusted = options.untrusted ?? false;
    this.forceDac = options.forceDac ?? false;
    this.reservedIova = checkReserved(options.reservedIova ?? []);
    this.dmaDebug = options.dmaDebug ?? null;
    this.#dmaMaskBits = bits;
    this.#coherentDmaMaskBits = checkBits('coherentDmaMaskBits', options.coherentDmaMaskBits ?? 32);
    this.#dmaLimit = 2 ** this.dmaMaskBits;
    this.#direct = new DirectDma(this);
    const isDirect = this.iommuGroup === null && options.dmaOps === undefined;
    const isFarEnough = !isDirect || this.#direct.supportsMask?.(bits) !== false;
    assert(isFarEnough, 'dmaMaskBits: %s does not reach the end of the DMA zone and there is no IOMMU', bits);
    this.#translated = this.iommuGroup === null ? null : new IommuDma(this, this.iommuGroup);
    this.#custom = options.dmaOps?.(this) ?? null;
    this.port = new DmaPort(this, new DmaPath(this, this.iommuGroup));
    this.cache = options.cache === undefined ? null : new OwnCache(this, options.cache);
    this.iommuGroup?.addDevice(this);
  }

  /**
   * @internal The back end of the DMA API; drivers can not see which. The user's own if there is one; behind an IOMMU whose default
   * domain translates, IO addresses; else physical ones.
   *
   * @see Linux 6.1 `drivers/iommu/dma-iommu.c` iommu_setup_dma_ops
   */
  get backEnd(): DmaOps {
    if (this.#isRemoved) checkPresent('the DMA API', this);
    return this.#ops;
  }

  /** @internal {@link backEnd} for everybody else: with `lints` the look is reported. @throws {HazardError} `dma.backend-peek`. */
  get dmaOps(): DmaOps {
    if (this.sim.lints) this.sim.part(DmaLints).peeked(this);
    return this.backEnd;
  }

  get #ops(): DmaOps {
    if (this.#custom !== null) return this.#custom;
    return this.isTranslated && this.#translated !== null ? this.#translated : this.#direct;
  }

  /** Whether {@link destroy} was called. */
  get isRemoved(): boolean {
    return this.#isRemoved;
  }

  /**
   * The device goes, as when it is unplugged: its accesses do nothing from now on, it leaves its group, and what its driver left mapped or
   * allocated is ended: addresses, bounce slots and memory come back, no byte is synced or copied. Every later call of the DMA API for it is
   * an error. Plain.
   *
   * A group stays, with its default domain: it can be freed when nobody is in it any more. `Machine.removeDevice` does that.
   *
   * @throws {HazardError} `dma-debug.pending-at-unbind` under policy `'throw'`: mappings or allocations were alive; the device is gone all
   * the same.
   * @throws {InvariantError} it was removed before; or a mapping was unmapped behind the DMA API; the device is gone all the same.
   * @see Linux 6.1 `drivers/base/core.c` device_del; `drivers/iommu/iommu.c` iommu_release_device
   */
  destroy(): void {
    assert(!this.#isRemoved, 'destroy: %s was removed before', this.name);
    this.port.end();
    try {
      this.dmaDebug?.deviceRemoved(this, this.destroy);
    } finally {
      try {
        this.live.endAll(this, this.#ops);
      } finally {
        this.#isRemoved = true;
        this.iommuGroup?.removeDevice(this);
      }
    }
  }

  /** Whether its addresses are physical ones as the bus shows them: no IOMMU translates, and it has no back end of the user's own. */
  get isDirect(): boolean {
    return this.#custom === null && !this.isTranslated;
  }

  /** Whether its group's default domain translates: neither without an IOMMU nor with an identity domain. */
  get isTranslated(): boolean {
    const type = this.iommuGroup?.defaultDomain?.type;
    return type === 'dma' || type === 'dma-fq';
  }

  /** Bits of address the device can drive, for streaming mappings. */
  get dmaMaskBits(): number {
    return readMask(this.#dmaMaskBits);
  }

  /** Bits of address for coherent allocations. */
  get coherentDmaMaskBits(): number {
    return this.#coherentDmaMaskBits;
  }

  /** Longest segment that its DMA engine takes, in bytes. */
  get maxSegmentSizeBytes(): number {
    return this.#maxSegmentSizeBytes;
  }

  /** No segment crosses a multiple of this many bytes. */
  get segBoundaryBytes(): number {
    return this.#segBoundaryBytes;
  }

  /** Low address bits that a bounce buffer must keep. */
  get minAlignMask(): number {
    return this.#minAlignMask;
  }

  /** The first address the device can not drive. */
  get dmaLimit(): number {
    return this.#dmaLimit;
  }

  /**
   * Sets how far the device reaches, for streaming mappings and coherent allocations; live mappings stay as they are. Plain.
   *
   * @param bits - 0 to 64; 0 reads as 32 for streaming mappings and lets every coherent allocation fail.
   * @throws {ErrnoError} `EIO` the back end does not support the mask (without an IOMMU: it does not reach the end of the DMA zone,
   *   24 bits, or more behind a bus that shifts memory); the old ones stay (never retry).
   * @throws {InvariantError} `bits` is out of range; the old masks stay.
   * @see Linux 6.1 `include/linux/dma-mapping.h` dma_set_mask_and_coherent
   */
  setDmaMask(bits: number): void {
    this.setStreamingDmaMask(bits);
    this.#coherentDmaMaskBits = bits;
  }

  /** As {@link setDmaMask}, for streaming mappings only. @see Linux 6.1 `kernel/dma/mapping.c` dma_set_mask */
  setStreamingDmaMask(bits: number): void {
    this.#checkMask('setStreamingDmaMask', 'dmaMaskBits', bits);
    this.#dmaMaskBits = bits;
    this.#dmaLimit = 2 ** this.dmaMaskBits;
  }

  /** As {@link setDmaMask}, for coherent allocations only. @see Linux 6.1 `kernel/dma/mapping.c` dma_set_coherent_mask */
  setCoherentDmaMask(bits: number): void {
    this.#checkMask('setCoherentDmaMask', 'coherentDmaMaskBits', bits);
    this.#coherentDmaMaskBits = bits;
  }

  /**
   * Says how long a segment may be; a driver does when it probes, else 64 KiB are assumed. Live mappings stay as they are. Plain.
   *
   * @throws {InvariantError} no whole number above 0; the old limit stays.
   * @see Linux 6.1 `include/linux/dma-mapping.h` dma_set_max_seg_size
   */
  setMaxSegmentSize(bytes: number): void {
    this.#maxSegmentSizeBytes = checkSegmentSize(bytes);
    this.#hasSegmentLimit = true;
  }

  /** Whether somebody said how long a segment may be. Without, 64 KiB are assumed, which few engines need. */
  get hasSegmentLimit(): boolean {
    return this.#hasSegmentLimit;
  }

  /**
   * Says which boundary no segment may cross, in bytes. Plain.
   *
   * @throws {InvariantError} no power of two; the old boundary stays.
   * @see Linux 6.1 `include/linux/dma-mapping.h` dma_set_seg_boundary
   */
  setSegBoundary(bytes: number): void {
    this.#segBoundaryBytes = checkBoundary(bytes);
  }

  /**
   * Says which low address bits a bounce buffer must keep. Plain.
   *
   * @throws {InvariantError} not one below a power of two, or above 0xffff; the old mask stays.
   * @see Linux 6.1 `include/linux/dma-mapping.h` dma_set_min_align_mask
   */
  setMinAlignMask(mask: number): void {
    this.#minAlignMask = checkAlignMask(mask);
  }

  #checkMask(op: string, what: string, bits: number): void {
    checkPresent(op, this);
    checkBits(what, bits);
    if (this.backEnd.supportsMask?.(bits) ?? true) return;
    throw new ErrnoError('EIO', op, `${this.name}: ${bits} bits do not reach the end of the DMA zone`);
  }
}

/** A mask of 0 was never set, and reads as 32 bits. @see Linux 6.1 `include/linux/dma-mapping.h` dma_get_mask */
function readMask(bits: number): number {
  return bits === 0 ? 32 : bits;
}

function checkBits(what: string, bits: number): number {
  assert(Number.isInteger(bits) && bits >= 0 && bits <= 64, '%s: %s is not in [0, 64]', what, bits);
  return bits;
}

function checkBusLimit(last: number): number {
  assert(Number.isSafeInteger(last) && last >= 0, 'busDmaLimit: %s is no whole number >= 0', last);
  return last;
}

function checkReserved(ranges: readonly ReservedIova[]): readonly ReservedIova[] {
  for (const [i, { first, last }] of ranges.entries()) {
    const isRange = Number.isSafeInteger(first) && Number.isSafeInteger(last) && first >= 0 && first <= last;
    assert(isRange, 'reservedIova[%s]: first %s and last %s are no range', i, first, last);
  }
  return ranges;
}

function checkSegmentSize(bytes: number): number {
  assert(Number.isSafeInteger(bytes) && bytes > 0, 'maxSegmentSizeBytes: %s is no whole number of bytes > 0', bytes);
  return bytes;
}

function checkBoundary(bytes: number): number {
  assert(bytes >= 1 && Number.isInteger(Math.log2(bytes)), 'segBoundaryBytes: %s is no power of two', bytes);
  return bytes;
}

function checkAlignMask(mask: number): number {
  const isMask = Number.isInteger(mask) && mask >= 0 && mask <= 0xffff && Number.isInteger(Math.log2(mask + 1));
  assert(isMask, 'minAlignMask: %s is not one below a power of two, at most 0xffff', mask);
  return mask;
}
