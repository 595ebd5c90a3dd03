/**
 * Freed ranges kept for reuse, so that a busy device seldom searches the tree.
 *
 * 1. There is a size class for 1, 2, 4, 8, 16 and 32 pages. In each, every CPU has two magazines of 127 ranges: it takes from
 *    the loaded one and puts into the loaded one, last in, first out.
 * 2. Taking: when the loaded magazine is empty, the other one is loaded if it holds anything; else a full one of the depot takes
 *    the place of the empty one. Then the newest range below the limit is taken, newer ones above it are passed over, and the newest
 *    of all moves into the gap. No other magazine is looked at when none is low enough.
 * 3. Putting: when the loaded magazine is full, the other one is loaded if it has room; else the loaded one goes to the depot, which
 *    all CPUs share, and an empty one is loaded. A depot holds 32 magazines of a class; what comes on top is freed for good.
 * 4. A range kept here stays allocated in the tree. Only {@link IovaRcaches.flush} and rule 3 free it there.
 *
 * @see Linux 6.1 `drivers/iommu/iova.c` __iova_rcache_get, __iova_rcache_insert
 */

/** Ranges in a magazine. */
const MAGAZINE_RANGES = 127;
/** Magazines in the depot of a size class. */
const DEPOT_MAGAZINES = 32;
/** Size classes: 1, 2, … 32 pages. */
const CLASSES = 6;

/** @internal Requests of up to so many pages are rounded up to a power of two, and their ranges kept. */
export const MOST_KEPT_PAGES = 2 ** (CLASSES - 1);

/** @internal Frees a range in the tree, by its first page. */
export interface RangeOwner {
  free(firstPfn: number): number;
}

/** @internal See the head of this file. Plain: never waits, charges nothing. A class is named by its order, log2 of its pages. */
export class IovaRcaches {
  readonly #owner: RangeOwner;
  /** By order + CPU * {@link CLASSES}; those of a CPU are made when it first comes. */
  readonly #shelves: Shelf[] = [];
  readonly #depots: Magazine[][] = Array.from({ length: CLASSES }, () => []);

  constructor(owner: RangeOwner) {
    this.#owner = owner;
  }

  /** Ranges kept, of all CPUs and classes, the depots included. */
  get rangeCount(): number {
    let sum = 0;
    for (const { loaded, previous } of this.#shelves) sum += loaded.count + previous.count;
    for (const depot of this.#depots) for (const { count } of depot) sum += count;
    return sum;
  }

  /**
   * A kept range of 2^`order` pages, for `cpu`.
   *
   * @param highestFirst - it begins at or below this page.
   * @returns its first page; -1 when there is none.
   */
  take(cpu: number, order: number, highestFirst: number): number {
    const at = cpu * CLASSES + order;
    if (at >= this.#shelves.length) this.#addCpus(cpu);
    const shelf = this.#shelves[at] as Shelf;
    let { loaded } = shelf;
    if (loaded.count === 0) {
      if (shelf.previous.count > 0) shelf.swap();
      else {
        const full = this.#depot(order).pop();
        if (full === undefined) return -1;
        shelf.loaded = full;
      }
      loaded = shelf.loaded;
    }
    return loaded.take(highestFirst);
  }

  /** Keeps a range of 2^`order` pages for `cpu`. */
  put(cpu: number, order: number, firstPfn: number): void {
    const at = cpu * CLASSES + order;
    if (at >= this.#shelves.length) this.#addCpus(cpu);
    const shelf = this.#shelves[at] as Shelf;
    const { loaded } = shelf;
    if (loaded.count < loaded.room) loaded.firsts[loaded.count++] = firstPfn;
    else this.#putBeside(shelf, order, firstPfn);
  }

  /** Frees everything kept, CPU by CPU, then the depots. */
  flush(): void {
    for (const { loaded, previous } of this.#shelves) {
      this.#empty(loaded);
      this.#empty(previous);
    }
    for (const depot of this.#depots) {
      for (const magazine of depot) this.#empty(magazine);
      depot.length = 0;
    }
  }

  /** Rule 3, when there is no room in the loaded magazine. */
  #putBeside(shelf: Shelf, order: number, firstPfn: number): void {
    let excess: Magazine | null = null;
    if (shelf.loaded.room === 0) shelf.loaded = new Magazine(MAGAZINE_RANGES);
    else if (shelf.previous.count < MAGAZINE_RANGES) {
      shelf.swap();
      if (shelf.loaded.room === 0) shelf.loaded = new Magazine(MAGAZINE_RANGES);
    } else {
      const depot = this.#depot(order);
      if (depot.length < DEPOT_MAGAZINES) depot.push(shelf.loaded);
      else excess = shelf.loaded;
      shelf.loaded = new Magazine(MAGAZINE_RANGES);
    }
    const { loaded } = shelf;
    loaded.firsts[loaded.count++] = firstPfn;
    if (excess !== null) this.#empty(excess);
  }

  #empty(magazine: Magazine): void {
    for (let i = 0; i < magazine.count; i++) this.#owner.free(magazine.firsts[i] as number);
    magazine.count = 0;
  }

  #depot(order: number): Magazine[] {
    return this.#depots[order] as Magazine[];
  }

  #addCpus(cpu: number): void {
    while (this.#shelves.length < (cpu + 1) * CLASSES) this.#shelves.push(new Shelf());
  }
}

/** What one CPU has of one class. Magazines without room stand for those that were never needed. */
class Shelf {
  loaded = new Magazine(0);
  previous = new Magazine(0);

  swap(): void {
    const { loaded } = this;
    this.loaded = this.previous;
    this.previous = loaded;
  }
}

class Magazine {
  /** Ranges it can hold. */
  readonly room: number;
  /** First pages, oldest first. */
  readonly firsts: Float64Array;
  count = 0;

  constructor(room: number) {
    this.room = room;
    this.firsts = new Float64Array(room);
  }

  /** Rule 2. @returns -1 when none begins at or below `highestFirst`. */
  take(highestFirst: number): number {
    const { firsts } = this;
    const last = this.count - 1;
    let i = last;
    while (i >= 0 && (firsts[i] as number) > highestFirst) i--;
    if (i < 0) return -1;
    const first = firsts[i] as number;
    firsts[i] = firsts[last] as number;
    this.count = last;
    return first;
  }
}
