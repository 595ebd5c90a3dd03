/**
 * The pages of a file in memory. A page comes, cleared, when it is first touched. Who maps or pins it holds a reference; the
 * file itself holds one until it is cut off.
 *
 * @see Linux 6.1 `mm/shmem.c`
 */
import { PAGE_SIZE, type Pfn, pfnToPhys } from '../base/addr.ts';
import type { Accessor } from '../base/hazards.ts';
import type { CoherencyDomain } from '../cache/coherency.ts';
import type { PageAllocator } from '../mem/page-allocator.ts';
import type { PageCharges } from './mem-cgroup.ts';

const NO_PAGE = -1;

const CLEARING: Accessor = {
  name: 'kernel',
  kind: 'cpu',
  via: 'memfd clearing a page',
  beforeRead: '',
  afterWrite: 'map the buffer for the device before it is used (dma_map_sgtable cleans the caches)',
};

/** @internal Pages by index, with counts. Plain throughout. */
export class MemfdPages {
  readonly #pages: PageAllocator;
  readonly #coherency: CoherencyDomain;
  readonly #owner: string;
  readonly #charges: PageCharges;
  #frames = new Int32Array(0);
  /** References other than the file's own. */
  readonly #holds = new Map<Pfn, number>();
  #pinned = 0;

  constructor(pages: PageAllocator, coherency: CoherencyDomain, owner: string, charges: PageCharges) {
    this.#pages = pages;
    this.#charges = charges;
    this.#coherency = coherency;
    this.#owner = owner;
  }

  /** Pages that somebody has pinned, each as often as it is. */
  get pinned(): number {
    return this.#pinned;
  }

  /** Pages that the file has now. */
  get present(): number {
    return this.#frames.reduce((sum, frame) => sum + (frame === NO_PAGE ? 0 : 1), 0);
  }

  /** The frame of page `index`, or `null`: nobody has touched it. */
  peek(index: number): Pfn | null {
    const frame = this.#frames[index] ?? NO_PAGE;
    return frame === NO_PAGE ? null : (frame as Pfn);
  }

  /** The frame of page `index`, a new one if need be. @throws {ErrnoError} `ENOMEM`, also over a limit of who pays (retry later). */
  at(index: number): Pfn {
    const have = this.peek(index);
    if (have !== null) return have;
    const frame = this.#charges.alloc(() => this.#pages.allocPages({ pageCount: 1, owner: this.#owner }));
    this.#coherency.zero(pfnToPhys(frame), PAGE_SIZE, CLEARING);
    if (index >= this.#frames.length) this.#grow(index + 1);
    this.#frames[index] = frame;
    return frame;
  }

  /**
   * Takes a reference to `pageCount` pages from `first` on.
   *
   * @param pin - it is a pin: whoever has it lets devices or others write the pages.
   * @throws {ErrnoError} `ENOMEM` (retry later); nothing is taken then.
   */
  hold(first: number, pageCount: number, pin: boolean): Pfn[] {
    const frames: Pfn[] = [];
    for (let i = 0; i < pageCount; i++) frames.push(this.at(first + i));
    for (const frame of frames) this.#holds.set(frame, (this.#holds.get(frame) ?? 0) + 1);
    if (pin) this.#pinned += pageCount;
    return frames;
  }

  /** Gives what {@link hold} took back. A page that the file has lost meanwhile is freed with its last reference. */
  drop(frames: readonly Pfn[], pin: boolean): void {
    const own = new Set(this.#frames);
    for (const frame of frames) {
      const left = (this.#holds.get(frame) ?? 0) - 1;
      if (left > 0) {
        this.#holds.set(frame, left);
        continue;
      }
      this.#holds.delete(frame);
      if (!own.has(frame)) this.#free(frame);
    }
    if (pin) this.#pinned -= frames.length;
  }

  /** Cuts the pages from `pageCount` on off; those that somebody holds live on without the file. */
  truncate(pageCount: number): void {
    for (let i = pageCount; i < this.#frames.length; i++) {
      const frame = this.peek(i);
      this.#frames[i] = NO_PAGE;
      if (frame !== null && !this.#holds.has(frame)) this.#free(frame);
    }
  }

  #free(frame: Pfn): void {
    this.#pages.freePages(frame, 1);
    this.#charges.free(frame);
  }

  #grow(count: number): void {
    const frames = new Int32Array(Math.max(count, 2 * this.#frames.length)).fill(NO_PAGE);
    frames.set(this.#frames);
    this.#frames = frames;
  }
}
