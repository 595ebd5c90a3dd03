/**
 * Every range of addresses that was given out, in every space, alive or ended: what `explain` and the checks of stray accesses look up.
 *
 *     gpu-va of a context --> dma of a device --> phys          user-va of a process --> phys          kernel-va --> phys
 *
 * A mapping is a list of pieces in its own space and where each leads in the space below. Ended ones are kept in a ring, the youngest
 * {@link AddressBook.capacity} of them, and fewer if they have very many pieces; live ones for as long as they live. While
 * {@link AddressBook.enabled} is false nothing is noted, at no cost.
 *
 * A mapping that somebody declared dead may be used a little longer, until the work that was going on is over
 * ({@link AddressBook.endAfter}); it ends when it is looked up after that.
 */
import type { Site } from '../base/site.ts';
import { pieceAt } from './address-pieces.ts';
import { AddressSpaceIndex } from './address-space-index.ts';

/** What kind of number an address is. `dma` belongs to a device, `gpu-va` to a context of a GPU, `user-va` to a process. */
export type AddressSpace = 'phys' | 'dma' | 'gpu-va' | 'user-va' | 'kernel-va';

/** Ranges in a row: piece i is `[base[i], base[i] + size[i])`. Made once, then only read. */
export interface AddressPieces {
  readonly base: Float64Array;
  readonly size: Float64Array;
}

/** How a mapping ended. */
export type MappingEnd = 'unmap' | 'move' | 'revoke' | 'detach' | 'device-removed' | 'exit';

/** What someone made valid in one space. */
export interface AddressMapping {
  readonly id: number;
  readonly space: AddressSpace;
  /** Whose numbers: `'gpu0'`, `'gpu0/context0'`, `'app'`. */
  readonly owner: string;
  readonly pieces: AddressPieces;
  /** Where piece i leads, as many as there are pieces or, if the sides are cut differently, in the same order of bytes. */
  readonly to: { readonly space: AddressSpace; readonly owner: string; readonly pieces: AddressPieces } | null;
  /** The call that made it: `'dmaMapSgtable'`, `'mmap'`. */
  readonly call: string;
  /** The buffer it shows: `'frame1'`; `''` when nobody said. */
  readonly object: string;
  readonly writable: boolean;
  readonly sinceNs: number;
  readonly site: Site | null;
}

/** How, when and where a mapping ended. */
export interface AddressEnd {
  readonly how: MappingEnd;
  readonly call: string;
  readonly timeNs: number;
  readonly site: Site | null;
}

/** A mapping with its end, if it has ended. */
export interface AddressEntry extends AddressMapping {
  readonly end: AddressEnd | null;
}

/** One for each simulator: `sim.addresses`. Plain throughout. */
export class AddressBook {
  /** Whether mappings are noted. */
  enabled = false;
  /** Ended mappings that are kept. */
  readonly capacity: number;
  readonly #live = new Map<number, BookEntry>();
  readonly #indexes = new Map<string, AddressSpaceIndex<BookEntry>>();
  /** Oldest first from {@link #oldest} on; before it, nothing is kept any more. */
  #ended: BookEntry[] = [];
  #oldest = 0;
  #endedPieces = 0;
  #next = 1;

  /** @param capacity - a whole number >= 1. */
  constructor(capacity = 4096) {
    this.capacity = capacity;
  }

  /** Mappings that are alive, oldest first. */
  get live(): Iterable<AddressEntry> {
    return this.#live.values();
  }

  /** Ended mappings that are remembered, oldest first. */
  get ended(): Iterable<AddressEntry> {
    return this.#ended.slice(this.#oldest);
  }

  /** Whether `owner` was ever given an address of `space`. */
  knows(space: AddressSpace, owner: string): boolean {
    return this.#indexes.get(`${space} ${owner}`)?.isUsed === true;
  }

  /** Notes a mapping. @returns its number for {@link end}; 0 while nothing is noted. */
  begin(mapping: Omit<AddressMapping, 'id'>): number {
    if (!this.enabled) return 0;
    const entry = new BookEntry(this.#next++, mapping);
    this.#live.set(entry.id, entry);
    this.indexOf(mapping.space, mapping.owner).add(entry);
    return entry.id;
  }

  /** @internal Whether somebody accessed memory through a live mapping. */
  isUsed(id: number): boolean {
    return this.#live.get(id)?.used === true;
  }

  /** The live mapping of this number. */
  get(id: number): AddressEntry | undefined {
    return this.#live.get(id);
  }

  /** Says which buffer a live mapping shows; a number that is not alive is passed over. */
  name(id: number, object: string): void {
    const entry = this.#live.get(id);
    if (entry !== undefined) entry.object = object;
  }

  /** A mapping ends; a number that is not alive (0 as well) is passed over. */
  end(id: number, end: AddressEnd): void {
    const entry = this.#live.get(id);
    if (entry === undefined) return;
    entry.end = entry.dying?.end ?? end;
    entry.dying = null;
    this.#live.delete(id);
    this.#indexes.get(`${entry.space} ${entry.owner}`)?.remove(entry);
    this.#keep(entry);
  }

  /** A mapping ends as soon as `isOver` says so, or by {@link end}: until then what was going on may use it. The first end counts. */
  endAfter(id: number, end: AddressEnd, isOver: () => boolean): void {
    const entry = this.#live.get(id);
    if (entry === undefined || entry.dying !== null) return;
    if (isOver()) this.end(id, end);
    else entry.dying = { end, isOver };
  }

  /** The live mapping of `owner` in `space` that `address` lies in; the youngest of several. */
  find(space: AddressSpace, owner: string, address: number): AddressEntry | undefined {
    const index = this.#indexes.get(`${space} ${owner}`);
    return index === undefined ? undefined : this.findIn(index, address);
  }

  /** @internal The mappings of one owner, for those who ask often. */
  indexOf(space: AddressSpace, owner: string): AddressSpaceIndex<BookEntry> {
    const key = `${space} ${owner}`;
    let index = this.#indexes.get(key);
    if (index === undefined) {
      index = new AddressSpaceIndex();
      this.#indexes.set(key, index);
    }
    return index;
  }

  /** @internal As {@link find}, of an {@link indexOf}. */
  findIn(index: AddressSpaceIndex<BookEntry>, address: number): BookEntry | undefined {
    for (;;) {
      const entry = index.find(address);
      if (entry?.dying == null || !entry.dying.isOver()) return entry;
      this.end(entry.id, entry.dying.end);
    }
  }

  /** The youngest ended mapping that `[address, address + 1)` lay in. */
  findEnded(space: AddressSpace, owner: string, address: number): AddressEntry | undefined {
    for (let i = this.#ended.length - 1; i >= this.#oldest; i--) {
      const entry = this.#ended[i] as BookEntry;
      if (entry.space !== space || entry.owner !== owner || address < entry.low || address >= entry.high) continue;
      if (pieceAt(entry.pieces, address) >= 0) return entry;
    }
    return undefined;
  }

  #keep(entry: BookEntry): void {
    this.#ended.push(entry);
    this.#endedPieces += entry.weight;
    while (this.#ended.length - this.#oldest > this.capacity || this.#endedPieces > MAX_ENDED_PIECES) {
      if (this.#oldest === this.#ended.length - 1) break;
      this.#endedPieces -= (this.#ended[this.#oldest] as BookEntry).weight;
      this.#oldest++;
    }
    if (this.#oldest <= this.capacity) return;
    this.#ended = this.#ended.slice(this.#oldest);
    this.#oldest = 0;
  }
}

/** Of all ended mappings that are kept: 16 bytes each. */
const MAX_ENDED_PIECES = 2 ** 18;

/** @internal A mapping as the book keeps it. */
export class BookEntry implements AddressEntry {
  readonly id: number;
  readonly space: AddressSpace;
  readonly owner: string;
  readonly pieces: AddressPieces;
  readonly to: AddressMapping['to'];
  readonly call: string;
  object: string;
  readonly writable: boolean;
  readonly sinceNs: number;
  readonly site: Site | null;
  end: AddressEnd | null = null;
  /** It was declared dead, and is used until the work that was going on is over. */
  dying: { readonly end: AddressEnd; readonly isOver: () => boolean } | null = null;
  /** Somebody asked what lies there, for an access. */
  used = false;
  /** No piece begins below, or ends above. */
  readonly low: number;
  readonly high: number;

  constructor(id: number, mapping: Omit<AddressMapping, 'id'>) {
    this.id = id;
    this.space = mapping.space;
    this.owner = mapping.owner;
    this.pieces = mapping.pieces;
    this.to = mapping.to;
    this.call = mapping.call;
    this.object = mapping.object;
    this.writable = mapping.writable;
    this.sinceNs = mapping.sinceNs;
    this.site = mapping.site;
    const { base, size } = mapping.pieces;
    let low = Number.POSITIVE_INFINITY;
    let high = Number.NEGATIVE_INFINITY;
    for (let i = 0; i < base.length; i++) {
      const at = base[i] as number;
      if (at < low) low = at;
      if (at + (size[i] as number) > high) high = at + (size[i] as number);
    }
    this.low = low;
    this.high = high;
  }

  get weight(): number {
    return this.pieces.base.length + (this.to?.pieces.base.length ?? 0);
  }
}
