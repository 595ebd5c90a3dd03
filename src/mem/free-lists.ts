/**
 * The free blocks of one zone: a doubly linked list for each order, and for each frame whether a free block starts there.
 *
 * A block of order k is 2^k frames, aligned to 2^k. Blocks of the largest order are linked in arrays with an entry a
 * block; smaller ones in a page of links that comes into being when its largest-order block is first divided. So an
 * untouched zone of 64 GiB costs about 150 KiB, and a divided 4 MiB block 9 KiB.
 *
 * Frames are counted from {@link FreeLists.baseFrame} here, so that they fit 31 bits and can be masked.
 */
import { assert } from '../base/assert.ts';
import { MAX_BLOCK_PAGES, MAX_PAGE_ORDER } from './zone.ts';

const BLOCK_MASK = MAX_BLOCK_PAGES - 1;
const NONE = -1;

/** Links of the blocks within one largest-order block, by frame. */
interface DividedBlock {
  /** 1 + order of the free block that starts at the frame, or 0. */
  readonly order: Uint8Array;
  readonly next: Int32Array;
  readonly prev: Int32Array;
}

/**
 * Lists of free blocks by order.
 *
 * @internal
 */
export class FreeLists {
  /** The frame that index 0 stands for; a multiple of {@link MAX_BLOCK_PAGES}. */
  readonly baseFrame: number;
  /** Free frames in all lists. */
  freePages = 0;
  readonly #isWhole: Uint8Array;
  readonly #nextWhole: Int32Array;
  readonly #prevWhole: Int32Array;
  readonly #divided: (DividedBlock | undefined)[];
  readonly #heads = new Int32Array(MAX_PAGE_ORDER + 1).fill(NONE);
  readonly #tails = new Int32Array(MAX_PAGE_ORDER + 1).fill(NONE);
  readonly #counts = new Int32Array(MAX_PAGE_ORDER + 1);

  /** For frames [first, end). @throws {InvariantError} more than 2^31 frames (8 TiB). */
  constructor(first: number, end: number) {
    this.baseFrame = Math.floor(first / MAX_BLOCK_PAGES) * MAX_BLOCK_PAGES;
    const blocks = Math.ceil((end - this.baseFrame) / MAX_BLOCK_PAGES);
    assert(blocks * MAX_BLOCK_PAGES < 2 ** 31, 'zone: spans %s frames, more than 2^31', end - first);
    this.#isWhole = new Uint8Array(blocks);
    this.#nextWhole = new Int32Array(blocks);
    this.#prevWhole = new Int32Array(blocks);
    this.#divided = new Array(blocks);
  }

  /** Free blocks of `order`. */
  countOf(order: number): number {
    return this.#counts[order] as number;
  }

  /** The first block of the list of `order`, or -1. */
  headOf(order: number): number {
    return this.#heads[order] as number;
  }

  /** The order of the free block that starts at `index`, or -1. */
  orderAt(index: number): number {
    const block = index >>> MAX_PAGE_ORDER;
    if (this.#isWhole[block] === 1) return (index & BLOCK_MASK) === 0 ? MAX_PAGE_ORDER : NONE;
    const divided = this.#divided[block];
    return divided === undefined ? NONE : (divided.order[index & BLOCK_MASK] as number) - 1;
  }

  /** The start of the free block that contains `index`, or -1. */
  containing(index: number): number {
    if (this.#isWhole[index >>> MAX_PAGE_ORDER] === 1) return index & ~BLOCK_MASK;
    for (let order = 0; order < MAX_PAGE_ORDER; order++) {
      const start = index & -(1 << order);
      if (this.orderAt(start) === order) return start;
    }
    return NONE;
  }

  /** Adds a block to the list of `order`, at its end if `atTail`. */
  add(index: number, order: number, atTail: boolean): void {
    const neighbour = (atTail ? this.#tails[order] : this.#heads[order]) as number;
    this.#setOrder(index, order);
    if (atTail) {
      this.#setNext(index, order, NONE);
      this.#setPrev(index, order, neighbour);
      this.#tails[order] = index;
      if (neighbour === NONE) this.#heads[order] = index;
      else this.#setNext(neighbour, order, index);
    } else {
      this.#setPrev(index, order, NONE);
      this.#setNext(index, order, neighbour);
      this.#heads[order] = index;
      if (neighbour === NONE) this.#tails[order] = index;
      else this.#setPrev(neighbour, order, index);
    }
    this.#counts[order] = (this.#counts[order] as number) + 1;
    this.freePages += 1 << order;
  }

  /** Takes the block at `index` out of the list of `order`. */
  remove(index: number, order: number): void {
    const next = this.#next(index, order);
    const prev = this.#prev(index, order);
    if (prev === NONE) this.#heads[order] = next;
    else this.#setNext(prev, order, next);
    if (next === NONE) this.#tails[order] = prev;
    else this.#setPrev(next, order, prev);
    if (order === MAX_PAGE_ORDER) this.#isWhole[index >>> MAX_PAGE_ORDER] = 0;
    else this.#links(index).order[index & BLOCK_MASK] = 0;
    this.#counts[order] = (this.#counts[order] as number) - 1;
    this.freePages -= 1 << order;
  }

  /** Calls `visit` with each free block, ascending. */
  eachAscending(visit: (index: number, order: number) => void): void {
    for (let block = 0; block < this.#isWhole.length; block++) {
      const start = block * MAX_BLOCK_PAGES;
      if (this.#isWhole[block] === 1) {
        visit(start, MAX_PAGE_ORDER);
        continue;
      }
      const orders = this.#divided[block]?.order;
      if (orders === undefined) continue;
      for (let i = 0; i < MAX_BLOCK_PAGES; i++) {
        const order = (orders[i] as number) - 1;
        if (order >= 0) visit(start + i, order);
      }
    }
  }

  #links(index: number): DividedBlock {
    const block = index >>> MAX_PAGE_ORDER;
    let links = this.#divided[block];
    if (links === undefined) {
      links = {
        order: new Uint8Array(MAX_BLOCK_PAGES),
        next: new Int32Array(MAX_BLOCK_PAGES),
        prev: new Int32Array(MAX_BLOCK_PAGES),
      };
      this.#divided[block] = links;
    }
    return links;
  }

  #setOrder(index: number, order: number): void {
    if (order === MAX_PAGE_ORDER) this.#isWhole[index >>> MAX_PAGE_ORDER] = 1;
    else this.#links(index).order[index & BLOCK_MASK] = order + 1;
  }

  #next(index: number, order: number): number {
    if (order === MAX_PAGE_ORDER) return this.#nextWhole[index >>> MAX_PAGE_ORDER] as number;
    return this.#links(index).next[index & BLOCK_MASK] as number;
  }

  #prev(index: number, order: number): number {
    if (order === MAX_PAGE_ORDER) return this.#prevWhole[index >>> MAX_PAGE_ORDER] as number;
    return this.#links(index).prev[index & BLOCK_MASK] as number;
  }

  #setNext(index: number, order: number, next: number): void {
    if (order === MAX_PAGE_ORDER) this.#nextWhole[index >>> MAX_PAGE_ORDER] = next;
    else this.#links(index).next[index & BLOCK_MASK] = next;
  }

  #setPrev(index: number, order: number, prev: number): void {
    if (order === MAX_PAGE_ORDER) this.#prevWhole[index >>> MAX_PAGE_ORDER] = prev;
    else this.#links(index).prev[index & BLOCK_MASK] = prev;
  }
}
