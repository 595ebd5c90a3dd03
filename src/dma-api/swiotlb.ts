/**
 * A bounce pool: memory that every device reaches, through which a mapping goes whose own memory the device does not reach. Rules:
 *
 * 1. Mapping copies the whole original into the pool, whatever the direction and with `skipCpuSync` as well: what the device
 *    does not overwrite comes back unchanged, and no earlier user's bytes with it.
 * 2. The original and its copy then live apart until {@link Swiotlb.syncForDevice} (only if the device may read),
 *    {@link Swiotlb.syncForCpu} and {@link Swiotlb.tblUnmapSingle} (only if it may write) copy.
 * 3. The copy keeps those bits of the original's address that the device's `minAlignMask` names, and no others.
 * 4. A sync past the end of the mapping warns and is cut. One that begins in a later slot, at an offset in the slot below the
 *    original's own, warns and copies nothing.
 * 5. Copying is done by the CPU through its caches and charged. Cache maintenance of the copy is the caller's.
 * 6. Where slots lie is told in `swiotlb-slots.ts`. A failure explains itself in {@link Swiotlb.lastFailure}: a mapping above
 *    the limit fails in any pool, a full pool is full only now.
 *
 * Inaccuracies: the rest of the slots around a copy keeps what earlier mappings left there, as in Linux, where the device could
 * read it (`zeroPadding` clears it). A sync that begins behind the mapping, in its last slot, is not noticed, as in Linux.
 * Pools do not grow; no second pool for one device (`restricted-dma-pool`) unless the user makes one.
 *
 * @see Linux 6.1 `kernel/dma/swiotlb.c`; `Documentation/core-api/dma-api.rst`
 */
import { hex, type PhysAddr, physAddr } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import type { Accessor } from '../base/hazards.ts';
import { alignUp, GIB } from '../base/units.ts';
import type { CoherencyDomain } from '../cache/coherency.ts';
import type { Simulator } from '../sim/simulator.ts';
import { type DmaDirection, deviceReads, deviceWrites } from './direction.ts';
import type { DmaAttrs } from './dma-attrs.ts';
import type { DmaMaster } from './dma-ops.ts';
import { physToBus } from './dma-range.ts';
import { SEGMENT_SLOTS, type SearchEnd, SLOT_BYTES, SlotMap, type SlotRun } from './swiotlb-slots.ts';

/** Which mappings bounce: those that have to, all, or none (then there is no pool). @see Linux 6.1 `swiotlb=` */
export type SwiotlbForce = 'auto' | 'force' | 'noforce';

/** How to make a {@link Swiotlb}. */
export interface SwiotlbOptions {
  readonly coherency: CoherencyDomain;
  /** First byte of the pool, page aligned; default the highest free place below {@link below}. */
  readonly base?: PhysAddr;
  /** Without `base`: the pool ends at or below this address. Default 4 GiB. */
  readonly below?: PhysAddr;
  /** Slots of 2 KiB, a positive multiple of 128 times {@link areas}. Default 32768 (64 MiB). */
  readonly slots?: number;
  /** Areas, a power of two: one a CPU keeps CPUs out of each other's way. Default 1. */
  readonly areas?: number;
  readonly force?: SwiotlbForce;
  /** Number of the running CPU; its area is searched first. Default always 0. */
  readonly currentCpu?: () => number;
  /** `'when-device-reads'`: mapping fills the slots only then, as before Linux 5.18: old bytes leak. Default `'always'`. */
  readonly fill?: 'always' | 'when-device-reads';
  /** Whether mapping clears the rest of its slots; Linux does not. Default false. */
  readonly zeroPadding?: boolean;
}

/** What the pool asks of a device. */
export type BouncingDevice = Pick<DmaMaster, 'name' | 'minAlignMask' | 'segBoundaryBytes' | 'dmaRanges'>;

/** What to bounce. */
export interface BounceRequest {
  /** First byte of the original. */
  readonly phys: PhysAddr;
  /** Bytes to copy, above 0. */
  readonly mappingBytes: number;
  /** Bytes to take from the pool, `mappingBytes` at least. Default `mappingBytes`. */
  readonly allocBytes?: number;
  /** One below the alignment that is wanted, counted from the pool's base. Default 0. */
  readonly allocAlignMask?: number;
}

/** Why a mapping got no slots. */
export interface SwiotlbFailure {
  /**
   * `'too-large'`: above what one mapping can have in any pool (never retry); `'full'`: too few slots are free;
   * `'fragmented'`: enough, but no run that fits (retry both after an unmap); `'endless-search'`: Linux 6.1 would hang here.
   */
  readonly reason: 'too-large' | SearchEnd;
  readonly device: string;
  /** Bytes asked for. */
  readonly sizeBytes: number;
  /** In words, with what to do. */
  readonly text: string;
}

const BOUNCE: Accessor = {
  name: 'kernel',
  kind: 'cpu',
  via: 'swiotlb copy',
  beforeRead: 'dmaSyncSgtableForCpu',
  afterWrite: 'dmaSyncSgtableForDevice',
};

/** One bounce pool. Plain throughout: nothing waits; copies charge cached reads and writes. */
export class Swiotlb {
  /** First byte of the pool. */
  readonly base: PhysAddr;
  /** Slots of 2 KiB; 0 with `'noforce'`. */
  readonly slots: number;
  readonly areas: number;
  readonly force: SwiotlbForce;
  readonly #sim: Simulator;
  readonly #coherency: CoherencyDomain;
  readonly #currentCpu: () => number;
  readonly #fill: 'always' | 'when-device-reads';
  readonly #zeroPadding: boolean;
  readonly #map: SlotMap;
  /** Where the bytes of each slot in use belong, counted as if the mapping began with its first slot. */
  readonly #orig: Float64Array;
  /** Bytes from there to the end of what was allocated; may be below 0 in its last slot. */
  readonly #left: Int32Array;
  /** Slots of the mapping that begins with this slot, or 0. */
  readonly #runOf: Uint8Array;
  #highWaterSlots = 0;
  #bytesCopied = 0;
  #warnings = 0;
  #lastFailure: SwiotlbFailure | null = null;

  /**
   * Reserves the pool in the memory of `coherency`, before its page allocator exists. With `force: 'noforce'` it reserves nothing.
   *
   * @throws {InvariantError} `slots` or `areas` out of range, or as `Memblock.reserve`. Nothing is reserved.
   * @see Linux 6.1 `kernel/dma/swiotlb.c` swiotlb_init_remap
   */
  constructor(sim: Simulator, options: SwiotlbOptions) {
    const { coherency, areas = 1, slots = 32768, force = 'auto' } = options;
    assert(areas >= 1 && Number.isInteger(Math.log2(areas)), 'swiotlb: areas %s is no power of two', areas);
    const isWhole = Number.isInteger(slots) && slots > 0 && slots % (SEGMENT_SLOTS * areas) === 0;
    assert(isWhole, 'swiotlb: slots %s is no positive multiple of %s', slots, SEGMENT_SLOTS * areas);
    const isNone = force === 'noforce';
    const place = options.base !== undefined ? { base: options.base } : { below: options.below ?? physAddr(4 * GIB) };
    const pool = { name: 'swiotlb', bytes: slots * SLOT_BYTES, ...place };
    this.base = isNone ? physAddr(0) : coherency.memory.memblock.reserve(pool).base;
    this.slots = isNone ? 0 : slots;
    this.areas = areas;
    this.force = force;
    this.#sim = sim;
    this.#coherency = coherency;
    this.#currentCpu = options.currentCpu ?? (() => 0);
    this.#fill = options.fill ?? 'always';
    this.#zeroPadding = options.zeroPadding ?? false;
    this.#map = new SlotMap(this.slots, areas);
    this.#orig = new Float64Array(this.slots).fill(-1);
    this.#left = new Int32Array(this.slots);
    this.#runOf = new Uint8Array(this.slots);
  }

  /** Whether there is a pool. @see Linux 6.1 `kernel/dma/swiotlb.c` is_swiotlb_active */
  get isActive(): boolean {
    return this.slots > 0;
  }

  /** Whether every streaming mapping bounces. @see Linux 6.1 `include/linux/swiotlb.h` is_swiotlb_force_bounce */
  get forcesBounce(): boolean {
    return this.force === 'force';
  }

  /** Slots in use. */
  get usedSlots(): number {
    return this.#map.used;
  }

  /** The most slots that ever were in use at once. */
  get highWaterSlots(): number {
    return this.#highWaterSlots;
  }

  /** Bytes copied so far, both ways. */
  get bytesCopied(): number {
    return this.#bytesCopied;
  }

  /** Kernel warnings so far: syncs that were cut or refused (rule 4). */
  get warnings(): number {
    return this.#warnings;
  }

  /** Why the newest mapping that failed did, or `null`: none has. */
  get lastFailure(): SwiotlbFailure | null {
    return this.#lastFailure;
  }

  /** Whether `phys` lies in the pool. @see Linux 6.1 `include/linux/swiotlb.h` is_swiotlb_buffer */
  isBounce(phys: number): boolean {
    return phys >= this.base && phys < this.base + this.slots * SLOT_BYTES;
  }

  /**
   * The longest mapping in bytes for a device with `minAlignMask`, wherever its memory lies.
   *
   * @see Linux 6.1 `kernel/dma/swiotlb.c` swiotlb_max_mapping_size
   */
  maxMappingBytes(minAlignMask: number): number {
    return SEGMENT_SLOTS * SLOT_BYTES - alignUp(minAlignMask, SLOT_BYTES);
  }

  /**
   * Takes slots for a mapping and copies its original there (rule 1). The caller owns them until {@link tblUnmapSingle}, and
   * does the cache maintenance of the copy.
   *
   * @returns the address of the copy in memory, or `null`: {@link lastFailure} says why; nothing is taken.
   * @throws {HazardError} `swiotlb.endless-search` under policy `'throw'`; or what copying finds. No slot is taken then.
   * @throws {ErrnoError} `EFAULT` the original lies outside memory (never retry); no slot is taken.
   * @throws {InvariantError} a size out of range, or no pool.
   * @see Linux 6.1 `kernel/dma/swiotlb.c` swiotlb_tbl_map_single
   */
  tblMapSingle(dev: BouncingDevice, request: BounceRequest, dir: DmaDirection, _attrs: DmaAttrs = {}): PhysAddr | null {
    const { phys, mappingBytes } = request;
    const allocBytes = request.allocBytes ?? mappingBytes;
    assert(this.isActive, 'swiotlb: %s maps through a pool that is switched off (noforce)', dev.name);
    const isSize = allocBytes < 2 ** 52 && mappingBytes > 0 && mappingBytes <= allocBytes;
    assert(isSize, 'swiotlb: %s bytes in %s bytes is no mapping', mappingBytes, allocBytes);
    const offset = keptInSlot(dev, phys);
    const run = this.#runFor(dev, phys, offset + allocBytes, request.allocAlignMask ?? 0);
    const slot = this.#map.take(run, this.#currentCpu() % this.areas);
    if (slot < 0) return this.#fail(dev, phys, allocBytes, run);
    this.#enter(slot, run.slots, phys, allocBytes);
    const { trace, now } = this.#sim;
    const tlb = physAddr(this.base + slot * SLOT_BYTES + offset);
    let complete = false;
    try {
      if (this.#zeroPadding) this.clear(physAddr(tlb - offset), run.slots * SLOT_BYTES);
      if (this.#fill === 'always' || deviceReads(dir)) this.#copy(tlb, phys, mappingBytes);
      if (trace.enabled) {
        trace.emit({ kind: 'swiotlb.bounced', timeNs: now, device: dev.name, phys, tlb, bytes: mappingBytes });
      }
      this.#coherency.bounces?.begin(phys, tlb, mappingBytes);
      complete = true;
    } finally {
      if (!complete) this.#release(slot);
    }
    return tlb;
  }

  /**
   * Ends a mapping: copies back what the device may have written, unless `skipCpuSync`, and gives the slots back. Their
   * bytes stay.
   *
   * @param tlb - what {@link tblMapSingle} answered.
   * @throws {HazardError} what copying finds, under policy `'throw'`; the slots are back all the same.
   * @throws {InvariantError} no mapping begins at `tlb`; nothing has happened.
   * @see Linux 6.1 `kernel/dma/swiotlb.c` swiotlb_tbl_unmap_single
   */
  tblUnmapSingle(
    dev: BouncingDevice,
    tlb: PhysAddr,
    mappingBytes: number,
    dir: DmaDirection,
    attrs: DmaAttrs = {},
  ): void {
    const slot = this.#slotOf(tlb);
    const begins = slot >= 0 && (this.#runOf[slot] as number) > 0;
    assert(begins, 'swiotlb: no mapping begins at %s; unmap what was mapped, once', hex(tlb));
    try {
      if (attrs.skipCpuSync !== true && deviceWrites(dir)) this.#bounce(dev, tlb, mappingBytes, false);
    } finally {
      this.#coherency.bounces?.end(tlb);
      this.#release(slot);
    }
  }

  /**
   * Copies `sizeBytes` from the original to the copy at `tlb` if the device may read; else nothing (it would wipe out what
   * the device wrote).
   *
   * @param tlb - any byte of the copy.
   * @throws {HazardError} what copying finds, under policy `'throw'`; the copy is made.
   * @see Linux 6.1 `kernel/dma/swiotlb.c` swiotlb_sync_single_for_device
   */
  syncForDevice(dev: BouncingDevice, tlb: PhysAddr, sizeBytes: number, dir: DmaDirection): void {
    if (deviceReads(dir)) this.#bounce(dev, tlb, sizeBytes, true);
  }

  /** The other way round: copies to the original if the device may write. @see Linux 6.1 `kernel/dma/swiotlb.c` swiotlb_sync_single_for_cpu */
  syncForCpu(dev: BouncingDevice, tlb: PhysAddr, sizeBytes: number, dir: DmaDirection): void {
    if (deviceWrites(dir)) this.#bounce(dev, tlb, sizeBytes, false);
  }

  /** Clears a part of the pool by the CPU, for padding that a device must not see. Charges a cached write. */
  clear(tlb: PhysAddr, sizeBytes: number): void {
    const isInside = this.isBounce(tlb) && tlb + sizeBytes <= this.base + this.slots * SLOT_BYTES;
    assert(isInside, 'swiotlb: %s bytes at %s lie not in the pool', sizeBytes, hex(tlb));
    if (sizeBytes > 0) this.#coherency.zero(tlb, sizeBytes, BOUNCE);
  }

  /** What the slots of a mapping must be like (rules 3 to 5 of `swiotlb-slots.ts`). */
  #runFor(dev: BouncingDevice, phys: number, bytes: number, allocAlignMask: number): SlotRun {
    const base = physToBus(dev.dmaRanges, this.base);
    const inBoundary = ((base % dev.segBoundaryBytes) + dev.segBoundaryBytes) % dev.segBoundaryBytes;
    // Masks have 32 bits, and `&` takes just those of an address.
    const alignMask = (dev.minAlignMask - (dev.minAlignMask % SLOT_BYTES)) | 0;
    const strideKept = Math.floor(dev.minAlignMask / SLOT_BYTES) + 1;
    const strideSize = bytes >= 2 * SLOT_BYTES ? 2 * strideKept : strideKept;
    return {
      slots: Math.ceil(bytes / SLOT_BYTES),
      stride: Math.max(strideSize, Math.floor(allocAlignMask / SLOT_BYTES) + 1),
      alignMask,
      wanted: phys & alignMask,
      base: inBoundary,
      baseSlots: Math.ceil(inBoundary / SLOT_BYTES),
      boundarySlots: Math.ceil(dev.segBoundaryBytes / SLOT_BYTES),
    };
  }

  #fail(dev: BouncingDevice, phys: PhysAddr, sizeBytes: number, run: SlotRun): null {
    const { end } = this.#map;
    const reason = end === 'endless-search' || isEverPossible(dev, run) ? end : 'too-large';
    const text = this.#explain(dev, sizeBytes, run, reason);
    this.#lastFailure = { reason, device: dev.name, sizeBytes, text };
    if (reason === 'endless-search') {
      const where = { device: dev.name, phys, sizeBytes, minAlignMask: dev.minAlignMask, timeNs: this.#sim.now };
      const remedy = 'align the buffer to minAlignMask + 1, or give the device a minAlignMask below 2048';
      this.#sim.report({ hazard: 'swiotlb.endless-search', ...where, remedy });
    }
    return null;
  }

  #explain(dev: BouncingDevice, sizeBytes: number, run: SlotRun, reason: SwiotlbFailure['reason']): string {
    const { slots, usedSlots } = this;
    const asked = `${sizeBytes} bytes for ${dev.name}`;
    const state = `${run.slots} of ${slots} slots are needed, ${usedSlots} are in use`;
    switch (reason) {
      case 'too-large': {
        const most = Math.min(this.maxMappingBytes(dev.minAlignMask), dev.segBoundaryBytes);
        return `${asked} exceed what one bounced mapping can surely have, ${most} bytes, in a pool of any size; map it in smaller pieces (dmaMaxMappingSize)`;
      }
      case 'full':
        return `swiotlb is full: ${asked}: ${state}; unmap something, or make the pool larger`;
      case 'fragmented':
        return `swiotlb has no run of free slots that fits: ${asked}: ${state}; unmap something, or make the pool larger`;
      case 'endless-search':
        return `swiotlb has no run of free slots that fits, and Linux 6.1 would search for ever: ${asked}: ${state}`;
    }
  }

  #enter(slot: number, slots: number, phys: number, allocBytes: number): void {
    for (let i = 0; i < slots; i++) {
      this.#orig[slot + i] = phys + i * SLOT_BYTES;
      this.#left[slot + i] = allocBytes - i * SLOT_BYTES;
    }
    this.#runOf[slot] = slots;
    this.#highWaterSlots = Math.max(this.#highWaterSlots, this.#map.used);
  }

  #release(slot: number): void {
    const slots = this.#runOf[slot] as number;
    this.#runOf[slot] = 0;
    this.#orig.fill(-1, slot, slot + slots);
    this.#map.give(slot, slots);
  }

  /** Copies between a mapping and its original by what the slot of `tlb` knows (rule 4). */
  #bounce(dev: BouncingDevice, tlb: PhysAddr, sizeBytes: number, toSlot: boolean): void {
    const slot = this.#slotOf(tlb);
    const orig = slot < 0 ? -1 : (this.#orig[slot] as number);
    if (orig < 0) return;
    const left = this.#left[slot] as number;
    const into = ((tlb - this.base) % SLOT_BYTES) - keptInSlot(dev, orig);
    if (into < 0 || (left >= 0 && into > left)) {
      this.#warnings++;
      return;
    }
    // Linux keeps what is left as an unsigned number: one below 0 cuts nothing.
    const most = left < 0 ? sizeBytes : left - into;
    if (sizeBytes > most) this.#warnings++;
    const bytes = Math.min(sizeBytes, most);
    const at = physAddr(orig + into);
    const { bounces } = this.#coherency;
    bounces?.copying(tlb, bytes, toSlot, BOUNCE);
    try {
      if (toSlot) this.#copy(tlb, at, bytes);
      else this.#copy(at, tlb, bytes);
    } finally {
      bounces?.copied(tlb, bytes);
    }
  }

  #copy(dst: PhysAddr, src: PhysAddr, bytes: number): void {
    if (bytes === 0) return;
    this.#bytesCopied += bytes;
    this.#coherency.copy(dst, src, bytes, BOUNCE);
  }

  #slotOf(tlb: number): number {
    return this.isBounce(tlb) ? Math.floor((tlb - this.base) / SLOT_BYTES) : -1;
  }
}

/** Whether an empty pool would do: the run fits a segment, from the first slot that keeps the right address bits, and the boundary. */
function isEverPossible(dev: BouncingDevice, run: SlotRun): boolean {
  const period = alignUp(dev.minAlignMask + 1, SLOT_BYTES);
  const skipped = (run.wanted - (run.base & run.alignMask) + period) % period;
  return run.slots + skipped / SLOT_BYTES <= SEGMENT_SLOTS && run.slots <= run.boundarySlots;
}

/** The offset in a slot that the copy of what lies at `phys` keeps. */
function keptInSlot(dev: BouncingDevice, phys: number): number {
  return phys & dev.minAlignMask & (SLOT_BYTES - 1);
}
