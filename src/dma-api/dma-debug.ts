/**
 * The checker of the DMA API: remembers every mapping with who made it, and complains when a call does not fit. One per machine, given to
 * its devices; a device without one is not checked and pays nothing.
 *
 * Rules, as recorded from the kernel:
 *
 * 1. An unmap must repeat address, size, kind of call, direction and count of entries. Each that differs is a complaint of its own.
 * 2. A sync must lie in one mapping. A bidirectional mapping may be synced in any direction; others only in their own.
 * 3. A driver must ask for a mapping error before it unmaps.
 * 4. No two mappings that a device may write begin in the same cache line. Clones of one table are one buffer that devices share on purpose
 *    and are left out; so are mappings with `skipCpuSync`.
 * 5. What is alive when a driver lets go of its device is one complaint, with the count and the oldest.
 *
 * A complaint is a hazard. With policy `'throw'` the first one ends the call before anything has changed; with `'record'` the call goes on, and
 * the books afterwards say what the kernel's would.
 *
 * Deviations from the kernel's checker, all of them fewer false alarms: rule 4 for clones; the direction of a sync of a clone (a heap syncs
 * the tables of all attachments with the direction of the CPU's access) is not compared; pages of `dmaAllocPages` need no question
 * for a mapping error. A sync that begins in a mapping and ends beyond it has a code of its own; the kernel calls it never mapped.
 *
 * @see Linux 6.1 `kernel/dma/debug.c`; `Documentation/core-api/dma-api.rst` part III
 */
import { type DmaAddr, hex } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import type { DmaCallFacts, DmaDebugCode } from '../base/dma-hazards.ts';
import type { Simulator } from '../sim/simulator.ts';
import { callSite, type DmaCaller } from './call-site.ts';
import { type DmaDirection, deviceWrites } from './direction.ts';
import type { DmaAttrs } from './dma-attrs.ts';
import { callFacts, DmaDebugEntry, type DmaDebugRef, type DmaDebugState } from './dma-debug-entry.ts';
import { DmaDebugIndex } from './dma-debug-index.ts';
import { CachelineTracker, MAX_LINE_OVERLAP } from './dma-debug-lines.ts';
import { DMA_DEBUG_REMEDIES } from './dma-debug-remedies.ts';
import { syncComplaints, unmapComplaints } from './dma-debug-rules.ts';
import type { DmaMaster } from './dma-ops.ts';
import { DMA_MAPPING_ERROR } from './mapping-error.ts';
import type { SgTable } from './sg-table.ts';

/** How to make a {@link DmaDebug}. */
export interface DmaDebugOptions {
  /** True: reports say where in the driver each call stands; costs microseconds a call. Default false. */
  readonly callSites?: boolean;
}

/** A call that takes or took a list. @internal */
export interface DmaListCall {
  readonly caller: DmaCaller;
  readonly sgt: SgTable;
  /** Entries, as the call says. */
  readonly entries: number;
  readonly dir: DmaDirection;
}

/** The books of one machine. Plain throughout: nothing waits, nothing is charged. */
export class DmaDebug {
  readonly #sim: Simulator;
  readonly #callSites: boolean;
  readonly #devices = new Map<DmaMaster, DmaDebugIndex>();
  readonly #drivers = new Map<DmaMaster, string>();
  readonly #lines = new CachelineTracker();
  /** Tables of one buffer, by their original. */
  readonly #buffers = new WeakMap<SgTable, number>();
  /** Serial number of the last mapping when a device's leftovers were complained about. */
  readonly #told = new WeakMap<DmaMaster, number>();
  #serial = 0;
  #lastBuffer = 0;
  #limitWasTold = false;

  constructor(sim: Simulator, options: DmaDebugOptions = {}) {
    this.#sim = sim;
    this.#callSites = options.callSites ?? false;
  }

  /** What is mapped or allocated for `dev` now, oldest first, each segment of a list by itself. For tests and printing. */
  mappingsOf(dev: DmaMaster): DmaCallFacts[] {
    const live = this.#devices.get(dev)?.live() ?? [];
    return live.map((entry) => callFacts(dev.name, entry, entry.timeNs));
  }

  /**
   * A driver takes the device.
   *
   * @throws {InvariantError} another one has it; nothing has happened.
   * @see Linux 6.1 `drivers/base/dd.c` really_probe
   */
  driverProbe(dev: DmaMaster, driver = 'driver'): void {
    const bound = this.#drivers.get(dev);
    assert(bound === undefined, 'driverProbe: %s is bound to %s already; unbind it first', dev.name, bound);
    this.#drivers.set(dev, driver);
  }

  /** @internal Whether a driver has it. */
  hasDriver(dev: DmaMaster): boolean {
    return this.#drivers.has(dev);
  }

  /**
   * The driver has let go of the device, and should have left nothing behind.
   *
   * @throws {HazardError} `dma-debug.pending-at-unbind` under policy `'throw'`: mappings or allocations are alive; the device is unbound.
   * @throws {InvariantError} no driver has it; nothing has happened.
   * @see Linux 6.1 `kernel/dma/debug.c` dma_debug_device_change
   */
  driverUnbind(dev: DmaMaster): void {
    const driver = this.#drivers.get(dev);
    assert(driver !== undefined, 'driverUnbind: no driver is bound to %s; driverProbe comes first', dev.name);
    this.#drivers.delete(dev);
    const left = this.#devices.get(dev)?.live() ?? [];
    this.#told.set(dev, this.#serial);
    this.#leaves(dev, left, `${driver} lets go of ${dev.name}`, this.driverUnbind);
  }

  /**
   * @internal The device is gone with whatever its driver left; its books are closed. What an unbind complained about is not repeated.
   *
   * @throws {HazardError} as {@link driverUnbind}; the books are closed all the same.
   */
  deviceRemoved(dev: DmaMaster, caller: DmaCaller): void {
    const left = this.#devices.get(dev)?.live() ?? [];
    const told = this.#told.get(dev) ?? 0;
    this.#devices.delete(dev);
    this.#drivers.delete(dev);
    for (const { dir, phys } of left) if (deviceWrites(dir)) this.#lines.remove(lineOf(dev, phys));
    const untold = left.filter(({ serial }) => serial >= told + 1);
    this.#leaves(dev, untold, `${dev.name} is removed`, caller);
  }

  /** @internal Where the driver called `caller`, or ''. */
  siteOf(caller: DmaCaller): string {
    return this.#callSites ? callSite(caller) : '';
  }

  /** @internal The driver asked whether `address` is an error. */
  mappingErrorChecked(dev: DmaMaster, address: DmaAddr): void {
    this.#devices.get(dev)?.markChecked(address);
  }

  /** @internal Memory that is not for DMA is mapped through its linear address. */
  mapsForbidden(dev: DmaMaster, ref: DmaDebugRef, hazard: 'dma-debug.maps-stack' | 'dma-debug.maps-kernel-text'): void {
    const memory = hazard === 'dma-debug.maps-stack' ? 'a stack' : 'kernel text';
    this.#complain(hazard, `${dev.name} would reach ${memory} at ${hex(ref.phys)}`, dev, ref, null, null);
  }

  /** @internal A mapping or allocation was made. With policy `'throw'` it may be refused: then undo it. */
  mapped(dev: DmaMaster, ref: DmaDebugRef, attrs: DmaAttrs, errorCheck: DmaDebugState['errorCheck']): void {
    if (deviceWrites(ref.dir)) this.#takeLine(dev, ref, 0, attrs);
    const state = { timeNs: this.#sim.now, serial: ++this.#serial, sgMappedEnts: 0, errorCheck };
    this.#of(dev).add(new DmaDebugEntry(ref, state));
  }

  /** @internal A list was mapped. With policy `'throw'` it may be refused: then undo it. */
  mappedSg(dev: DmaMaster, { caller, sgt, entries, dir }: DmaListCall, attrs: DmaAttrs): void {
    const segments = sgt.nents;
    const site = this.siteOf(caller);
    const call = caller.name;
    let first = Number.POSITIVE_INFINITY;
    let end = 0;
    for (let i = 0; i < segments; i++) {
      const address = sgt.dmaAddress(i);
      const length = sgt.dmaLength(i);
      first = Math.min(first, address);
      end = Math.max(end, address + length);
      if (sgt.length(i) > dev.maxSegmentSizeBytes || crosses(address, length, dev.segBoundaryBytes)) {
        this.#badSegment(dev, refOf(sgt, i, { call, dir, entries, site }), sgt.length(i));
      }
    }
    if (deviceWrites(dir)) this.#takeLines(dev, sgt, { call, dir, entries, site }, attrs);
    const serial = ++this.#serial;
    this.#of(dev).addList({ call, sgt, segments, entries, dir, timeNs: this.#sim.now, serial, site, first, end });
  }

  /** @internal A mapping or allocation is about to end. */
  unmapping(dev: DmaMaster, ref: DmaDebugRef): void {
    const index = this.#of(dev);
    const entry = index.findExact(ref);
    if (entry === null) return this.#freesUnknown(dev, ref, index);
    for (const [hazard, what] of unmapComplaints(entry, ref)) this.#complain(hazard, what, dev, ref, dev, entry);
    index.remove(entry);
    if (deviceWrites(entry.dir)) this.#lines.remove(lineOf(dev, entry.phys));
  }

  /** @internal A list is about to be unmapped. */
  unmappingSg(dev: DmaMaster, { caller, sgt, entries, dir }: DmaListCall): void {
    const index = this.#of(dev);
    const list = index.listOf(sgt);
    if (list !== undefined && list.entries === entries && list.dir === dir) {
      index.removeList(list);
      if (!deviceWrites(dir)) return;
      for (let i = 0; i < list.segments; i++) this.#lines.remove(lineOf(dev, sgt.extentPhys(i)));
      return;
    }
    const how = { call: caller.name, dir, entries, site: this.siteOf(caller) };
    const count = this.#segmentsOf(index, refOf(sgt, 0, how), entries);
    for (let i = 0; i < count; i++) this.unmapping(dev, refOf(sgt, i, how));
  }

  /** @internal Part of a mapping is about to be synced. @returns false when it is in no mapping at all. */
  syncing(dev: DmaMaster, ref: DmaDebugRef, toCpu: boolean): boolean {
    const index = this.#of(dev);
    const entry = index.findContaining(ref);
    if (entry === null) return this.#syncsUnknown(dev, ref, index);
    for (const [hazard, what] of syncComplaints(entry, ref, toCpu)) this.#complain(hazard, what, dev, ref, dev, entry);
    return true;
  }

  /** @internal A list is about to be synced. */
  syncingSg(dev: DmaMaster, { caller, sgt, entries, dir }: DmaListCall, toCpu: boolean): void {
    const index = this.#of(dev);
    const list = index.listOf(sgt);
    const fits =
      list !== undefined &&
      list.entries === entries &&
      (list.dir === dir || list.dir === 'bidirectional' || sgt.isShare);
    if (fits) return;
    const how = { call: caller.name, dir, entries, site: this.siteOf(caller) };
    const count = this.#segmentsOf(index, refOf(sgt, 0, how), entries);
    for (let i = 0; i < count; i++) this.syncing(dev, refOf(sgt, i, how), toCpu);
  }

  /** How many entries of a list the kernel's checker looks at: not more than the list became segments, if it is known. */
  #segmentsOf(index: DmaDebugIndex, first: DmaDebugRef, entries: number): number {
    const mapped = index.findExact(first)?.sgMappedEnts ?? 0;
    return mapped === 0 ? entries : Math.min(entries, mapped);
  }

  #of(dev: DmaMaster): DmaDebugIndex {
    let index = this.#devices.get(dev);
    if (index === undefined) {
      index = new DmaDebugIndex();
      this.#devices.set(dev, index);
    }
    return index;
  }

  #freesUnknown(dev: DmaMaster, ref: DmaDebugRef, index: DmaDebugIndex): void {
    if (ref.address === DMA_MAPPING_ERROR) {
      const what = `${dev.name} unmaps the address that stands for a failed mapping`;
      return this.#complain('dma-debug.free-invalid-address', what, dev, ref, null, null);
    }
    const near = index.findAt(ref.address);
    const what = `${dev.name} unmaps ${hex(ref.address)}, where ${near === null ? 'nothing is mapped' : NO_SUCH_MAPPING}`;
    this.#complain('dma-debug.free-not-mapped', what, dev, ref, dev, near);
  }

  #syncsUnknown(dev: DmaMaster, ref: DmaDebugRef, index: DmaDebugIndex): boolean {
    const near = index.findAt(ref.address);
    if (near === null) {
      const what = `${dev.name} syncs ${hex(ref.address)}, where nothing is mapped`;
      this.#complain('dma-debug.sync-not-mapped', what, dev, ref, null, null);
      return false;
    }
    const beyond = ref.address + ref.sizeBytes - near.address - near.sizeBytes;
    if (beyond > 0) {
      const what = `${dev.name} syncs ${beyond} bytes beyond the end of a mapping of ${near.sizeBytes}`;
      this.#complain('dma-debug.sync-out-of-range', what, dev, ref, dev, near);
    } else {
      const what = `${dev.name} syncs ${hex(ref.address)}, where several mappings lie and none fits`;
      this.#complain('dma-debug.sync-not-mapped', what, dev, ref, dev, near);
    }
    return true;
  }

  #leaves(dev: DmaMaster, left: readonly DmaDebugEntry[], how: string, caller: DmaCaller): void {
    const [first] = left;
    if (first === undefined) return;
    const what = `${how} with ${left.length} mapping(s) alive`;
    const call = { ...first, call: caller.name, sgCallEnts: 0, site: this.siteOf(caller) };
    this.#complain('dma-debug.pending-at-unbind', what, dev, call, dev, first, left.length);
  }

  #badSegment(dev: DmaMaster, ref: DmaDebugRef, entryBytes: number): void {
    const { name, maxSegmentSizeBytes: most, segBoundaryBytes: boundary } = dev;
    if (entryBytes > most) {
      const what = `${name} takes segments of ${most} bytes, and an entry has ${entryBytes}`;
      this.#complain('dma-debug.sg-segment-too-long', what, dev, ref, null, null);
    }
    if (crosses(ref.address, ref.sizeBytes, boundary)) {
      const what = `${name} can not cross a multiple of ${hex(boundary)}, and a segment from ${hex(ref.address)} does`;
      this.#complain('dma-debug.sg-segment-crosses-boundary', what, dev, ref, null, null);
    }
  }

  /** Takes the first line of each segment, or none. */
  #takeLines(dev: DmaMaster, sgt: SgTable, how: ListHow, attrs: DmaAttrs): void {
    const buffer = this.#bufferOf(sgt);
    let taken = 0;
    let complete = false;
    try {
      for (; taken < sgt.nents; taken++) {
        const line = lineOf(dev, sgt.extentPhys(taken));
        if (this.#lines.add(line, buffer)) this.#overlaps(dev, refOf(sgt, taken, how), attrs);
      }
      complete = true;
    } finally {
      if (!complete) for (let i = taken - 1; i >= 0; i--) this.#lines.remove(lineOf(dev, sgt.extentPhys(i)));
    }
  }

  #takeLine(dev: DmaMaster, ref: DmaDebugRef, buffer: number, attrs: DmaAttrs): void {
    if (this.#lines.add(lineOf(dev, ref.phys), buffer)) this.#overlaps(dev, ref, attrs);
  }

  /** The line that was taken last had a mapping already. With policy `'throw'` it is given back. */
  #overlaps(dev: DmaMaster, ref: DmaDebugRef, attrs: DmaAttrs): void {
    const { overlaps, isShared } = this.#lines;
    if (isShared) return;
    const line = lineOf(dev, ref.phys);
    const [otherDev, other] = this.#mappingIn(dev, line);
    let complete = false;
    try {
      const others = `${overlaps} other mapping(s) that a device may write`;
      if (overlaps > MAX_LINE_OVERLAP && !this.#limitWasTold) {
        this.#limitWasTold = true;
        const what = `the cache line of ${hex(ref.phys)} is in more than ${MAX_LINE_OVERLAP} further mappings`;
        this.#complain('dma-debug.cacheline-overlap-limit', what, dev, ref, otherDev, other);
      }
      if (attrs.skipCpuSync !== true) {
        const what = `the cache line of ${hex(ref.phys)} is in ${others}`;
        this.#complain('dma-debug.cacheline-overlap', what, dev, ref, otherDev, other);
      }
      complete = true;
    } finally {
      if (!complete) this.#lines.remove(line);
    }
  }

  /** The oldest mapping that begins in `line` and that a device may write. */
  #mappingIn(dev: DmaMaster, line: number): readonly [DmaMaster | null, DmaDebugEntry | null] {
    for (const [each, index] of this.#devices) {
      const entry = index.live().find(({ dir, phys }) => deviceWrites(dir) && lineOf(dev, phys) === line);
      if (entry !== undefined) return [each, entry];
    }
    return [null, null];
  }

  #bufferOf(sgt: SgTable): number {
    const known = this.#buffers.get(sgt.original);
    if (known !== undefined) return known;
    this.#buffers.set(sgt.original, ++this.#lastBuffer);
    return this.#lastBuffer;
  }

  #complain(
    hazard: DmaDebugCode,
    what: string,
    dev: DmaMaster,
    call: DmaDebugRef,
    mappedBy: DmaMaster | null,
    mapping: DmaDebugEntry | null,
    leaked = 0,
  ): void {
    const isKnown = mappedBy !== null && mapping !== null;
    this.#sim.report({
      hazard,
      device: dev.name,
      what,
      call: callFacts(dev.name, call, this.#sim.now),
      mapping: isKnown ? callFacts(mappedBy.name, mapping, mapping.timeNs) : null,
      leaked,
      remedy: DMA_DEBUG_REMEDIES[hazard],
    });
  }
}

/** What all segments of a list have in common. */
interface ListHow {
  readonly call: string;
  readonly dir: DmaDirection;
  readonly entries: number;
  readonly site: string;
}

const NO_SUCH_MAPPING = 'no mapping begins, or several do and none fits';

function refOf(sgt: SgTable, i: number, { call, dir, entries, site }: ListHow): DmaDebugRef {
  const { address, length: sizeBytes } = sgt.rawSegment(i);
  return { call, kind: 'sg', address, phys: sgt.extentPhys(i), sizeBytes, dir, sgCallEnts: entries, site };
}

function lineOf(dev: DmaMaster, phys: number): number {
  return Math.floor(phys / dev.coherency.cache.lineBytes);
}

function crosses(address: number, length: number, boundary: number): boolean {
  return Math.floor(address / boundary) !== Math.floor((address + length - 1) / boundary);
}
