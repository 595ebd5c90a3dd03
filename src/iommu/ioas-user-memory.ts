/**
 * The memory of one user process, as far as an IO address space cares: mappings with pages behind them, which can be unmapped in part
 * while a device still uses them.
 *
 * A page lives as long as it is mapped or pinned: `munmap` and the end of the process take the address away, not the frame of a
 * pinned page. Addresses are never given out twice.
 *
 * **Inaccuracies**: every page is there from the start (no faults, no copy on write, no swap); one page size.
 *
 * @see Linux 6.2 `drivers/iommu/iommufd/pages.c` pfn_reader_user_pin; `mm/gup.c` pin_user_pages
 */
import { hex, PAGE_SIZE, type Pfn, type PhysAddr, pfn, physAddr } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import { ErrnoError } from '../base/errors.ts';
import { alignUp } from '../base/units.ts';
import type { PageAllocator } from '../mem/page-allocator.ts';
import type { PhysMemory } from '../mem/phys-memory.ts';
import type { UserPages, UserSpace } from './ioas-backing.ts';

/** How to make a {@link UserMemory}. */
export interface UserMemoryOptions {
  /** `'app'`; owner of the pages in the ledger. */
  readonly name: string;
  readonly memory: PhysMemory;
  readonly pages: PageAllocator;
}

interface Mapping {
  readonly start: number;
  readonly pageCount: number;
  readonly isWritable: boolean;
  /** Pages that are left. */
  mappedPages: number;
  /** Slot of each page + 1; 0 where it was unmapped. */
  readonly slots: Uint32Array;
}

const FIRST_ADDRESS = 0x7f00_0000_0000;
const FIRST_SLOTS = 64;
/** Room between mappings, so that an access behind the end of one finds nothing. */
const GUARD_BYTES = PAGE_SIZE;

/** Memory of one process. Plain throughout: nothing waits, nothing is charged. */
export class UserMemory implements UserSpace {
  readonly name: string;
  readonly memory: PhysMemory;
  readonly #pages: PageAllocator;
  /** Ascending; without those that are unmapped wholly. */
  #mappings: Mapping[] = [];
  // One slot for each page that is mapped or pinned.
  #frames = new Uint32Array(FIRST_SLOTS);
  #pins = new Uint32Array(FIRST_SLOTS);
  #mapped = new Uint8Array(FIRST_SLOTS);
  readonly #freeSlots: number[] = [];
  #slotCount = 0;
  #next = FIRST_ADDRESS;
  #isGone = false;
  #lastFound: Mapping | null = null;

  constructor(options: UserMemoryOptions) {
    this.name = options.name;
    this.memory = options.memory;
    this.#pages = options.pages;
  }

  /** Frames held: mapped, pinned, or both. */
  get heldPages(): number {
    return this.#slotCount - this.#freeSlots.length;
  }

  /** Pages that somebody has pinned. */
  get pinnedPages(): number {
    return this.#pins.reduce((sum, count) => sum + (count > 0 ? 1 : 0), 0);
  }

  /**
   * Maps `sizeBytes` of new memory, rounded up to pages; its bytes are whatever the last owner of the frames left there.
   *
   * @param options - `align`: alignment of the address, default a page; `isWritable`: default true.
   * @returns the address.
   * @throws {ErrnoError} `ENOMEM` not enough pages; nothing is taken (retry later).
   */
  mmap(sizeBytes: number, options: { readonly align?: number; readonly isWritable?: boolean } = {}): number {
    assert(
      Number.isSafeInteger(sizeBytes) && sizeBytes > 0,
      'mmap: sizeBytes %s is no whole number above 0',
      sizeBytes,
    );
    assert(!this.#isGone, 'mmap: process %s has ended', this.name);
    const pageCount = Math.ceil(sizeBytes / PAGE_SIZE);
    const blocks = this.#pages.allocBulk({ owner: this.name, pageCount, orders: [0] });
    const start = alignUp(this.#next, options.align ?? PAGE_SIZE);
    this.#next = start + pageCount * PAGE_SIZE + GUARD_BYTES;
    const slots = blocks.firsts.map((frame) => this.#newSlot(frame) + 1);
    this.#mappings.push({ start, pageCount, isWritable: options.isWritable ?? true, mappedPages: pageCount, slots });
    return start;
  }

  /**
   * Takes `[address, address + sizeBytes)` away, in whole pages; holes are fine.
   *
   * @throws {ErrnoError} `EINVAL` `address` is no multiple of a page (never retry).
   */
  munmap(address: number, sizeBytes: number): void {
    if (address % PAGE_SIZE !== 0)
      throw new ErrnoError('EINVAL', 'munmap', `address ${hex(address)} is no multiple of a page`);
    const end = address + alignUp(sizeBytes, PAGE_SIZE);
    let isGone = false;
    for (let at = this.#from(address); at < this.#mappings.length; at++) {
      const mapping = this.#mappings[at] as Mapping;
      if (mapping.start >= end) break;
      const first = Math.max(0, (address - mapping.start) / PAGE_SIZE);
      const last = Math.min(mapping.pageCount, (end - mapping.start) / PAGE_SIZE);
      for (let page = first; page < last; page++) {
        const slot = (mapping.slots[page] as number) - 1;
        if (slot < 0) continue;
        mapping.slots[page] = 0;
        mapping.mappedPages--;
        this.#mapped[slot] = 0;
        this.#release(slot);
      }
      isGone ||= mapping.mappedPages === 0;
    }
    if (!isGone) return;
    this.#mappings = this.#mappings.filter((mapping) => mapping.mappedPages > 0);
    this.#lastFound = null;
  }

  /** The process ends: everything is unmapped. What is pinned stays until it is unpinned. */
  exit(): void {
    this.#isGone = true;
    this.munmap(FIRST_ADDRESS, this.#next - FIRST_ADDRESS);
  }

  read(address: number, length: number): Uint8Array {
    this.#check('read', address, length, false);
    const bytes = new Uint8Array(length);
    this.#eachPiece('read', address, length, false, (phys, done, size) => this.memory.read(phys, bytes, done, size));
    return bytes;
  }

  write(address: number, bytes: Uint8Array): void {
    this.#check('write', address, bytes.length, true);
    this.#eachPiece('write', address, bytes.length, true, (phys, done, size) =>
      this.memory.write(phys, bytes, done, size),
    );
  }

  pagesAt(address: number): UserPages {
    const base = address - (address % PAGE_SIZE);
    return {
      kind: 'user',
      name: `memory of ${this.name}`,
      address: base,
      memory: this.memory,
      pin: (firstPage, pageCount, forWrite, handles, at) =>
        this.#pin(base + firstPage * PAGE_SIZE, pageCount, forWrite, handles, at),
      frameOf: (handle) => pfn(this.#frames[handle] as number),
      unpin: (handles, at, pageCount) => this.#unpin(handles, at, pageCount),
    };
  }

  /** The frame behind `address`. @throws {ErrnoError} `EFAULT` nothing is mapped there. */
  frameAt(address: number): Pfn {
    return pfn(this.#frames[this.#slotAt('frameAt', address, false)] as number);
  }

  #pin(address: number, pageCount: number, forWrite: boolean, handles: Uint32Array, at: number): void {
    for (let page = 0; page < pageCount; page++) {
      // All are looked up before the first is pinned.
      handles[at + page] = this.#slotAt('pin_user_pages', address + page * PAGE_SIZE, forWrite);
    }
    for (let i = at; i < at + pageCount; i++) {
      const slot = handles[i] as number;
      this.#pins[slot] = (this.#pins[slot] as number) + 1;
    }
  }

  #unpin(handles: Uint32Array, at: number, pageCount: number): void {
    for (let i = at; i < at + pageCount; i++) {
      const slot = handles[i] as number;
      if (this.#pins[slot] === 0) assert(false, 'unpin_user_pages: %s: slot %s is not pinned', this.name, slot);
      this.#pins[slot] = (this.#pins[slot] as number) - 1;
      this.#release(slot);
    }
  }

  #slotAt(op: string, address: number, forWrite: boolean): number {
    const mapping = this.#mappingAt(address);
    const page = mapping === null ? 0 : Math.floor((address - mapping.start) / PAGE_SIZE);
    const slot = mapping === null ? 0 : (mapping.slots[page] as number);
    if (mapping === null || slot === 0)
      throw new ErrnoError('EFAULT', op, `${this.name} has nothing mapped at ${hex(address)}`);
    if (forWrite && !mapping.isWritable)
      throw new ErrnoError('EFAULT', op, `${this.name} may not write to ${hex(address)}: it is mapped read-only`);
    return slot - 1;
  }

  #mappingAt(address: number): Mapping | null {
    const last = this.#lastFound;
    if (last !== null && contains(last, address)) return last;
    const found = this.#mappings[this.#from(address)];
    if (found === undefined || !contains(found, address)) return null;
    this.#lastFound = found;
    return found;
  }

  /** Index of the first mapping that ends behind `address`. */
  #from(address: number): number {
    let low = 0;
    let high = this.#mappings.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const { start, pageCount } = this.#mappings[middle] as Mapping;
      if (start + pageCount * PAGE_SIZE <= address) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #check(op: string, address: number, length: number, forWrite: boolean): void {
    const end = address + length;
    for (let at = address - (address % PAGE_SIZE); at < end; at += PAGE_SIZE) this.#slotAt(op, at, forWrite);
  }

  #eachPiece(
    op: string,
    address: number,
    length: number,
    forWrite: boolean,
    copy: (phys: PhysAddr, done: number, size: number) => void,
  ): void {
    for (let done = 0; done < length; ) {
      const inPage = (address + done) % PAGE_SIZE;
      const size = Math.min(length - done, PAGE_SIZE - inPage);
      const frame = this.#frames[this.#slotAt(op, address + done, forWrite)] as number;
      copy(physAddr(frame * PAGE_SIZE + inPage), done, size);
      done += size;
    }
  }

  #newSlot(frame: number): number {
    const slot = this.#freeSlots.pop() ?? this.#slotCount++;
    if (slot >= this.#frames.length) this.#grow();
    this.#frames[slot] = frame;
    this.#pins[slot] = 0;
    this.#mapped[slot] = 1;
    return slot;
  }

  #grow(): void {
    const size = 2 * this.#frames.length;
    const [frames, pins, mapped] = [this.#frames, this.#pins, this.#mapped];
    this.#frames = new Uint32Array(size);
    this.#pins = new Uint32Array(size);
    this.#mapped = new Uint8Array(size);
    this.#frames.set(frames);
    this.#pins.set(pins);
    this.#mapped.set(mapped);
  }

  #release(slot: number): void {
    if (this.#mapped[slot] !== 0 || this.#pins[slot] !== 0) return;
    this.#pages.freePages(pfn(this.#frames[slot] as number), 1);
    this.#freeSlots.push(slot);
  }
}

function contains(mapping: Mapping, address: number): boolean {
  return address >= mapping.start && address < mapping.start + mapping.pageCount * PAGE_SIZE;
}
