/**
 * The pages behind one or several areas of IO address spaces: pinned once however often they are used, and charged once.
 *
 * Rules:
 * 1. A page is pinned in its backing while at least one user counts on it. Users are: each page table that an area is mapped in, and each
 *    access object's pin. The first one pins and charges the page, the last one unpins and uncharges it.
 * 2. Copying an area to another address space shares these pages; it pins nothing by itself.
 * 3. A revoked buffer loses all translations at once. Areas made before stay, empty, even when the buffer is given back.
 *
 * @see Linux 6.2 `drivers/iommu/iommufd/pages.c` struct iopt_pages
 */
import { PAGE_SIZE, type PhysAddr } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import { ErrnoError } from '../base/errors.ts';
import type { IoasArea } from './ioas-areas.ts';
import type { IoasBacking, PhysRun } from './ioas-backing.ts';

/** Pages that users may lock in memory, and how many are (`RLIMIT_MEMLOCK`). One for each user, shared by all his address spaces. */
export class MemlockAccount {
  /** Pages charged now. */
  lockedPages = 0;
  readonly limitPages: number;

  /** @param limitPages - default: no limit. */
  constructor(limitPages = Number.POSITIVE_INFINITY) {
    this.limitPages = limitPages;
  }

  /** Charges `pageCount` pages. @throws {ErrnoError} `ENOMEM` above the limit; nothing is charged (retry after an unmap). */
  charge(pageCount: number): void {
    if (this.lockedPages + pageCount > this.limitPages) {
      const detail = `${this.lockedPages} of ${this.limitPages} pages are locked, ${pageCount} more are asked for`;
      throw new ErrnoError('ENOMEM', 'account_locked_vm', detail);
    }
    this.lockedPages += pageCount;
  }

  /** Ends {@link charge}. */
  uncharge(pageCount: number): void {
    this.lockedPages -= pageCount;
    assert(this.lockedPages >= 0, 'account_locked_vm: %s pages more uncharged than charged', -this.lockedPages);
  }
}

/** A stretch of one backing. @internal */
export class IoasPages {
  readonly backing: IoasBacking;
  /** Offset of the first byte in the page it lies in. */
  readonly startByte: number;
  readonly isWritable: boolean;
  readonly pageCount: number;
  /** The areas that show these pages. */
  readonly areas = new Set<IoasArea>();
  readonly account: MemlockAccount;
  /** The buffer was revoked since these pages were mapped. */
  isRevoked = false;
  readonly #firstPage: number;
  #pins = new Uint32Array(0);
  #handles = new Uint32Array(0);
  #stopListening: (() => undefined) | null;

  /** @param offset - of the first byte, in bytes from the backing's page 0. */
  constructor(
    backing: IoasBacking,
    options: {
      readonly offset: number;
      readonly sizeBytes: number;
      readonly isWritable: boolean;
      readonly account: MemlockAccount;
    },
  ) {
    this.backing = backing;
    this.isWritable = options.isWritable;
    this.account = options.account;
    this.startByte = options.offset % PAGE_SIZE;
    this.#firstPage = (options.offset - this.startByte) / PAGE_SIZE;
    this.pageCount = Math.ceil((this.startByte + options.sizeBytes) / PAGE_SIZE);
    this.#stopListening = backing.kind === 'revocable' ? backing.onRevoke(() => this.#revoke()) : null;
  }

  /** Where byte 0 lies, in bytes: for alignment. */
  get address(): number {
    const { backing } = this;
    return (backing.kind === 'user' ? backing.address : 0) + this.#firstPage * PAGE_SIZE + this.startByte;
  }

  /** Adds an area. @internal */
  get(area: IoasArea): void {
    this.areas.add(area);
  }

  /** Ends {@link get}; with the last area the pages are of no more use. @internal */
  put(area: IoasArea): void {
    this.areas.delete(area);
    this.close();
  }

  /** Lets go of the backing unless an area shows it. @internal */
  close(): void {
    if (this.areas.size > 0) return;
    this.#stopListening?.();
    this.#stopListening = null;
  }

  /**
   * Counts one user more for each page of `[firstPage, firstPage + pageCount)`.
   *
   * @param isBrief - for one copy of bytes only: it is not charged, and ends before anybody else pins.
   * @throws {ErrnoError} of the backing's `pin` or of the account; nothing is pinned then.
   */
  pin(firstPage: number, pageCount: number, isBrief = false): void {
    if (this.#pins.length === 0) {
      this.#pins = new Uint32Array(this.pageCount);
      this.#handles = new Uint32Array(this.pageCount);
    }
    const pins = this.#pins;
    const end = firstPage + pageCount;
    let page = firstPage;
    try {
      while (page < end) {
        let stop = page;
        if (pins[page] === 0) {
          while (stop < end && pins[stop] === 0) stop++;
          this.#pinRun(page, stop - page, isBrief);
        } else {
          while (stop < end && pins[stop] !== 0) stop++;
        }
        for (; page < stop; page++) pins[page] = (pins[page] as number) + 1;
      }
    } catch (error) {
      this.unpin(firstPage, page - firstPage, isBrief);
      throw error;
    }
  }

  /** Ends one {@link pin} of each page of the range. */
  unpin(firstPage: number, pageCount: number, isBrief = false): void {
    const pins = this.#pins;
    const end = firstPage + pageCount;
    for (let page = firstPage; page < end; ) {
      let stop = page;
      while (stop < end && pins[stop] === 1) pins[stop++] = 0;
      if (stop > page) {
        this.backing.unpin(this.#handles, page, stop - page);
        if (this.#isCharged && !isBrief) this.account.uncharge(stop - page);
        page = stop;
        continue;
      }
      const count = pins[page] as number;
      if (count === 0) assert(false, 'iopt_pages: page %s of %s is not pinned', page, this.backing.name);
      pins[page++] = count - 1;
    }
  }

  /** Where byte `offset` (counted from page 0) lies. It must be pinned. */
  physAt(offset: number): PhysAddr {
    const inPage = offset % PAGE_SIZE;
    return (this.backing.frameOf(this.#handles[(offset - inPage) / PAGE_SIZE] as number) * PAGE_SIZE +
      inPage) as PhysAddr;
  }

  /** The longest run of adjoining memory from byte `offset` on, at most `maxBytes`; all of it must be pinned. */
  run(offset: number, maxBytes: number, out: PhysRun): void {
    const { backing } = this;
    const handles = this.#handles;
    const inPage = offset % PAGE_SIZE;
    let page = (offset - inPage) / PAGE_SIZE;
    let frame = backing.frameOf(handles[page] as number) as number;
    out.phys = (frame * PAGE_SIZE + inPage) as PhysAddr;
    let size = PAGE_SIZE - inPage;
    while (size < maxBytes && backing.frameOf(handles[++page] as number) === ++frame) size += PAGE_SIZE;
    out.sizeBytes = Math.min(size, maxBytes);
  }

  /** User memory counts as locked; a buffer of an exporter is accounted for by him. */
  get #isCharged(): boolean {
    return this.backing.kind === 'user';
  }

  #pinRun(page: number, count: number, isBrief: boolean): void {
    const isCharged = this.#isCharged && !isBrief;
    if (isCharged) this.account.charge(count);
    try {
      this.backing.pin(this.#firstPage + page, count, this.isWritable, this.#handles, page);
    } catch (error) {
      if (isCharged) this.account.uncharge(count);
      throw error;
    }
  }

  #revoke(): undefined {
    for (const area of this.areas) area.ioas.unfillAll(area);
    this.isRevoked = true;
  }
}
