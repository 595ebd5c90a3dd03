/** What a device has mapped and allocated, so that all of it can be given back when the device goes. */
import type { DmaDirection } from './direction.ts';
import type { DmaAllocation } from './dma-allocation.ts';
import type { DmaAttrs } from './dma-attrs.ts';
import { endBooked } from './dma-notes.ts';
import type { DmaMaster, DmaOps } from './dma-ops.ts';
import { LiveAddresses, type LiveMapping } from './live-addresses.ts';
import type { SgTable } from './sg-table.ts';

/** Something that ends by itself when its device goes. */
interface Abandonable {
  abandon(): void;
}

/** Nobody owns the bytes any more, so none are handed over. */
const SKIP_SYNC: DmaAttrs = { skipCpuSync: true };

/** @internal Of one device. */
export class LiveMappings {
  /** Mapped one by one. */
  readonly addresses = new LiveAddresses();
  /** Mapped tables, each with its direction. */
  readonly tables = new Map<SgTable, DmaDirection>();
  /** Allocations, each with what gives it back. */
  readonly allocations = new Map<DmaAllocation, (allocation: DmaAllocation) => void>();
  /** Runs of the two-step API. */
  readonly runs = new Set<Abandonable>();

  /**
   * Ends everything of `dev`, by way of `ops`: addresses, bounce slots and memory come back, no byte is copied or synced. What fails does not keep
   * the rest alive.
   */
  endAll(dev: DmaMaster, ops: DmaOps): void {
    const ends: (() => void)[] = [];
    for (const mapping of this.addresses.takeAll()) ends.push(() => endMapping(dev, ops, mapping));
    for (const [sgt, dir] of this.tables) ends.push(() => endTable(dev, ops, sgt, dir));
    for (const [allocation, giveBack] of this.allocations) ends.push(() => giveBack(allocation));
    for (const run of this.runs) ends.push(() => run.abandon());
    this.tables.clear();
    this.allocations.clear();
    this.runs.clear();
    callEach(ends);
  }
}

function endMapping(dev: DmaMaster, ops: DmaOps, mapping: LiveMapping): void {
  const { kind, address, sizeBytes, dir } = mapping;
  endBooked(dev, mapping, 'device-removed', 'destroy', null);
  try {
    if (kind === 'resource') ops.unmapResource(address, sizeBytes, dir, SKIP_SYNC);
    else ops.unmapPage(address, sizeBytes, dir, SKIP_SYNC);
  } finally {
    noteUnmap(dev, dir, sizeBytes);
  }
}

function endTable(dev: DmaMaster, ops: DmaOps, sgt: SgTable, dir: DmaDirection): void {
  const part = sgt.mappedPart ?? sgt;
  sgt.onPeek = null;
  endBooked(dev, sgt, 'device-removed', 'destroy', null);
  try {
    ops.unmapSg(part, dir, SKIP_SYNC);
  } finally {
    sgt.dropSegments();
    noteUnmap(dev, dir, part.sizeBytes);
  }
}

function noteUnmap({ name: device, sim }: DmaMaster, dir: DmaDirection, bytes: number): void {
  if (sim.trace.enabled) sim.trace.emit({ kind: 'dma.unmap', timeNs: sim.now, device, dir, bytes });
}

/** Calls all of them, whatever some throw; the last error is the one that is thrown on. */
function callEach(ends: (() => void)[]): void {
  let end = ends.pop();
  try {
    for (; end !== undefined; end = ends.pop()) end();
  } finally {
    if (ends.length > 0) callEach(ends);
  }
}
