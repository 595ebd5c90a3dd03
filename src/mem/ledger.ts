/**
 * The ledger of physical memory: who holds which frames, since when, and who held them before.
 *
 * Every allocator of a memory opens an entry when it hands frames out and closes it when they come back; nothing else
 * writes here. Entries are columns, not objects; an {@link Allocation} is made when somebody asks for it. With a trace
 * listener each opening and closing is a `mem.alloc` / `mem.free` event.
 */
import { hex, type Nanos, PAGE_SIZE, type Pfn, pfn, pfnToPhys } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import type { TraceBus } from '../trace/trace-bus.ts';
import { FrameOwners } from './frame-owners.ts';

/** Which kind of allocator handed the memory out. */
export type AllocationKind = 'pages' | 'cma' | 'carve-out' | 'bar';

/** One live allocation, as it stood when it was asked for. */
export interface Allocation {
  /** Counts allocations of this memory from 1; never reused. */
  readonly id: number;
  readonly owner: string;
  readonly kind: AllocationKind;
  readonly first: Pfn;
  readonly bytes: number;
  /** When it was made, ns. */
  readonly timeNs: number;
  /** The allocating call, if the allocator was told. */
  readonly site?: string;
}

/** Who had a frame before, and until when (ns). */
export interface FormerOwner {
  readonly owner: string;
  readonly freedAtNs: number;
}

/** Whom an allocation belongs to. */
export interface AllocationOwner {
  /** Whoever has to give it back; names it in reports: `'heap system'`, `'gpu0 page tables'`. */
  readonly owner: string;
  /** The allocating call, for reports of leaks. */
  readonly site?: string;
}

/** All live allocations of one memory. Plain throughout: nothing waits, nothing is charged. */
export class MemLedger {
  readonly #trace: TraceBus;
  readonly #now: () => Nanos;
  readonly #frames = new FrameOwners();
  readonly #ownerIds = new Map<string, number>();
  readonly #owners: string[] = [];
  readonly #ownerBytes: number[] = [];
  readonly #ownerPeak: number[] = [];
  // Columns of the entries; a closed entry has id 0 and waits in #freeSlots.
  readonly #ids: number[] = [];
  readonly #ownerOf: number[] = [];
  readonly #kinds: AllocationKind[] = [];
  readonly #firsts: number[] = [];
  readonly #pageCounts: number[] = [];
  readonly #times: number[] = [];
  readonly #sites: (string | undefined)[] = [];
  readonly #freeSlots: number[] = [];
  #lastId = 0;
  #liveCount = 0;
  #liveBytes = 0;

  constructor(trace: TraceBus, now: () => Nanos) {
    this.#trace = trace;
    this.#now = now;
  }

  /** How many allocations are live. */
  get liveCount(): number {
    return this.#liveCount;
  }

  /** Bytes of all live allocations. */
  get liveBytes(): number {
    return this.#liveBytes;
  }

  /** The live allocations in the order they were made. */
  liveAllocations(): readonly Allocation[] {
    const live: Allocation[] = [];
    for (let slot = 0; slot < this.#ids.length; slot++) if (this.#ids[slot] !== 0) live.push(this.#entry(slot));
    return live.sort((a, b) => a.id - b.id);
  }

  /** Bytes held now by each owner that holds any, owners in the order they first appeared. */
  bytesByOwner(): ReadonlyMap<string, number> {
    return this.#totals(this.#ownerBytes);
  }

  /** The most bytes each owner has ever held at once, owners in the order they first appeared. */
  peakBytesByOwner(): ReadonlyMap<string, number> {
    return this.#totals(this.#ownerPeak);
  }

  /** The live allocation that `frame` is part of, or `undefined`. */
  allocationAt(frame: Pfn): Allocation | undefined {
    const slot = this.#frames.slotAt(frame);
    return slot < 0 ? undefined : this.#entry(slot);
  }

  /** Who holds `frame` now, or `undefined`. Cheaper than {@link allocationAt}. */
  ownerOf(frame: Pfn): string | undefined {
    const slot = this.#frames.slotAt(frame);
    return slot < 0 ? undefined : this.#owners[this.#ownerOf[slot] as number];
  }

  /** The last owner that gave `frame` back (its present owner, if any, came later), or `undefined`: never given back. */
  previousOwner(frame: Pfn): FormerOwner | undefined {
    const id = this.#frames.previousAt(frame);
    if (id < 0) return undefined;
    return { owner: this.#owners[id] as string, freedAtNs: this.#frames.freedAtNs(frame) };
  }

  /** Enters an allocation of frames that are in no live one. @internal for allocators */
  open(kind: AllocationKind, first: Pfn, pageCount: number, who: AllocationOwner): void {
    const owner = this.#intern(who.owner);
    const slot = this.#freeSlots.pop() ?? this.#ids.length;
    const bytes = pageCount * PAGE_SIZE;
    const timeNs = this.#now();
    this.#ids[slot] = ++this.#lastId;
    this.#ownerOf[slot] = owner;
    this.#kinds[slot] = kind;
    this.#firsts[slot] = first;
    this.#pageCounts[slot] = pageCount;
    this.#times[slot] = timeNs;
    this.#sites[slot] = who.site;
    this.#frames.assign(first, pageCount, slot);
    this.#liveCount++;
    this.#liveBytes += bytes;
    const held = (this.#ownerBytes[owner] as number) + bytes;
    this.#ownerBytes[owner] = held;
    if (held > (this.#ownerPeak[owner] as number)) this.#ownerPeak[owner] = held;
    if (this.#trace.enabled)
      this.#trace.emit({ kind: 'mem.alloc', timeNs, owner: who.owner, phys: pfnToPhys(first), bytes });
  }

  /**
   * Strikes out the allocation that starts at `first`.
   *
   * @throws {InvariantError} no live allocation of `kind` starts there (the text tells who freed it before, or which
   * allocation covers it), or it has not `pageCount` pages. Nothing is changed.
   * @internal for allocators
   */
  close(op: string, kind: AllocationKind, first: Pfn, pageCount: number): void {
    const slot = this.#frames.slotAt(first);
    if (slot < 0) assert(false, '%s: frame %s is not allocated%s', op, hex(first), this.#history(first));
    assert(
      this.#firsts[slot] === first && this.#kinds[slot] === kind,
      '%s: frame %s is not the start of an allocation of kind %s, but lies in %s page(s) of kind %s from frame %s (%s)',
      op,
      hex(first),
      kind,
      this.#pageCounts[slot],
      this.#kinds[slot],
      hex(this.#firsts[slot] as number),
      this.#owners[this.#ownerOf[slot] as number],
    );
    assert(
      this.#pageCounts[slot] === pageCount,
      '%s: frame %s was allocated with %s page(s), not %s',
      op,
      hex(first),
      this.#pageCounts[slot],
      pageCount,
    );
    this.#strike(slot, first, pageCount * PAGE_SIZE);
  }

  /** Pages of the live allocation that starts at `first`, or 0. @internal for allocators */
  pageCountAt(first: Pfn): number {
    const slot = this.#frames.slotAt(first);
    return slot >= 0 && this.#firsts[slot] === first ? (this.#pageCounts[slot] as number) : 0;
  }

  #strike(slot: number, first: Pfn, bytes: number): void {
    const owner = this.#ownerOf[slot] as number;
    const timeNs = this.#now();
    this.#frames.release(first, bytes / PAGE_SIZE, owner, timeNs);
    this.#ids[slot] = 0;
    this.#sites[slot] = undefined;
    this.#freeSlots.push(slot);
    this.#liveCount--;
    this.#liveBytes -= bytes;
    this.#ownerBytes[owner] = (this.#ownerBytes[owner] as number) - bytes;
    if (this.#trace.enabled) {
      const name = this.#owners[owner] as string;
      this.#trace.emit({ kind: 'mem.free', timeNs, owner: name, phys: pfnToPhys(first), bytes });
    }
  }

  #history(frame: Pfn): string {
    const former = this.previousOwner(frame);
    return former === undefined ? ' and never was' : `: ${former.owner} freed it at ${former.freedAtNs} ns`;
  }

  #intern(owner: string): number {
    const known = this.#ownerIds.get(owner);
    if (known !== undefined) return known;
    const id = this.#owners.push(owner) - 1;
    this.#ownerIds.set(owner, id);
    this.#ownerBytes.push(0);
    this.#ownerPeak.push(0);
    return id;
  }

  #totals(column: readonly number[]): ReadonlyMap<string, number> {
    const totals = new Map<string, number>();
    for (const [id, owner] of this.#owners.entries()) {
      const bytes = column[id] as number;
      if (bytes > 0) totals.set(owner, bytes);
    }
    return totals;
  }

  #entry(slot: number): Allocation {
    const site = this.#sites[slot];
    return {
      id: this.#ids[slot] as number,
      owner: this.#owners[this.#ownerOf[slot] as number] as string,
      kind: this.#kinds[slot] as AllocationKind,
      first: pfn(this.#firsts[slot] as number),
      bytes: (this.#pageCounts[slot] as number) * PAGE_SIZE,
      timeNs: this.#times[slot] as number,
      ...(site === undefined ? {} : { site }),
    };
  }
}
