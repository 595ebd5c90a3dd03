/**
 * The ranges in use of an IOVA space, sorted, in a tree of blocks. Above each block and node stands how long its free runs are at most,
 * for each alignment, so that a search from the top passes by what can not serve it. What is freed raises the bounds; what is
 * allocated leaves them, and the next search that looks in vain lowers them. So a search costs the height of the tree and the blocks
 * that changed since, not the number of ranges.
 *
 * @internal
 */
import { BLOCK_RANGES, IovaBlock } from './iova-block.ts';
import { alignedRun, orderOf, raiseBounds } from './iova-bounds.ts';
import { type IovaChild, IovaNode, NODE_CHILDREN } from './iova-node.ts';

/** Stands above the space: no limit reaches it, it is never freed. @internal */
export const ANCHOR = 2 ** 52;

/** A search has to go on below. */
const NOT_HERE = -2;

/** @internal Plain data: checks nothing. */
export class IovaTree {
  /** Ranges that a walk from range to range would have passed in the last {@link search}. */
  rangesPassed = 0;
  /** Where the last {@link locate} or {@link search} ended. */
  block: IovaBlock;
  index = 0;
  #root: IovaNode;

  constructor() {
    this.block = new IovaBlock();
    this.block.insert(0, ANCHOR, ANCHOR, true);
    this.#root = new IovaNode(1);
    this.#root.insert(0, this.block, 0);
    this.#count(this.block, 1);
    this.#raise(this.block, 0, ANCHOR - 1);
  }

  /** The lowest block. */
  get first(): IovaBlock {
    let child: IovaChild = this.#root;
    while (child instanceof IovaNode) child = child.children[0] as IovaChild;
    return child;
  }

  /** Finds the last range that begins at or below `page`: {@link block}, and {@link index}, -1 if there is none. */
  locate(page: number): void {
    let node = this.#root;
    while (node.height > 1) node = node.children[node.slotFor(page)] as IovaNode;
    this.block = node.children[node.slotFor(page)] as IovaBlock;
    this.index = this.block.indexOf(page);
  }

  /** Puts a range at {@link index} of {@link block}. */
  insertHere(lo: number, hi: number, reserved: boolean): void {
    const { block, index } = this;
    block.insert(index, lo, hi, reserved);
    this.#count(block, 1);
    if (index === 0) this.#lowerFirst(block, lo);
    if (block.count <= BLOCK_RANGES) return;
    const upper = block.split();
    this.#adopt(block, upper, upper.lo[0] as number);
  }

  /** Takes the range at {@link index} of {@link block} out. */
  removeHere(): void {
    const { block, index } = this;
    const first = block.lastBelow(index) + 1;
    const last = block.firstAbove(index, ANCHOR) - 1;
    const { next } = block;
    block.remove(index);
    this.#count(block, -1);
    const above = index < block.count ? block : next;
    if (block.count === 0) {
      block.unlink();
      this.#drop(block);
    }
    if (above !== null) this.#raise(above, first, last);
  }

  /**
   * The highest place for `size` pages, aligned to `align`, below `limit` and not below `low`, at or under the range that begins at
   * `from`. Leaves in {@link block} and {@link index} where to insert it. @returns -1 if there is none.
   */
  search(from: number, size: number, align: number, limit: number, low: number): number {
    const order = orderOf(align);
    this.locate(from);
    let block: IovaBlock | null = this.block;
    let { index } = this;
    while (block !== null) {
      if ((block.bounds[order] as number) >= size) {
        const place = this.#searchBlock(block, index, size, align, limit, low);
        if (place !== NOT_HERE) return place;
        if (index === block.count - 1) lowerBlock(block, order);
      } else this.rangesPassed += index + 1;
      if ((block.lo[0] as number) < low) return -1;
      block = this.#blockBelow(block, size, order);
      if (block !== null) index = block.count - 1;
    }
    return -1;
  }

  /** @returns a place; -1: there is none at all; {@link NOT_HERE}: none in this block. */
  #searchBlock(block: IovaBlock, from: number, size: number, align: number, limit: number, low: number): number {
    const { lo, hi } = block;
    for (let index = from; index >= 0; index--) {
      this.rangesPassed++;
      const start = lo[index] as number;
      const last = (start < limit ? start : limit) - size;
      const place = last - (last % align);
      if (last < low || place < low) return -1;
      if (place <= (index > 0 ? (hi[index - 1] as number) : block.lastBelow(0))) continue;
      this.block = block;
      this.index = index;
      return place;
    }
    return NOT_HERE;
  }

  /** The nearest block below `block` that could serve, or null; what is passed by is counted. */
  #blockBelow(block: IovaBlock, size: number, order: number): IovaBlock | null {
    let child: IovaChild = block;
    for (let node = block.parent; node !== null; node = node.parent) {
      const found = this.#descend(node, node.slotOf(child), size, order);
      if (found !== null) return found;
      child = node;
    }
    return null;
  }

  /** The highest block below the first `end` children of `node` that could serve, or null. */
  #descend(node: IovaNode, end: number, size: number, order: number): IovaBlock | null {
    const { children } = node;
    for (let slot = end - 1; slot >= 0; slot--) {
      const child = children[slot] as IovaChild;
      if ((child.bounds[order] as number) < size) {
        this.rangesPassed += child.count;
        continue;
      }
      if (child instanceof IovaBlock) return child;
      const found = this.#descend(child, child.children.length, size, order);
      if (found !== null) return found;
    }
    if (end === children.length) lowerNode(node, order);
    return null;
  }

  /** There is a free run from `first` to `last` below a range of `block`. */
  #raise(block: IovaBlock, first: number, last: number): void {
    for (let child: IovaChild | null = block; child !== null; child = child.parent) {
      raiseBounds(child.bounds, first, last);
    }
  }

  #count(block: IovaBlock, more: number): void {
    for (let node = block.parent; node !== null; node = node.parent) node.count += more;
  }

  /** The first range of `block` begins at `lo` now. */
  #lowerFirst(block: IovaBlock, lo: number): void {
    let child: IovaChild = block;
    for (let node = block.parent; node !== null; node = node.parent) {
      const slot = node.slotOf(child);
      if ((node.firsts[slot] as number) > lo) node.firsts[slot] = lo;
      if (slot > 0) return;
      child = node;
    }
  }

  /** Puts `upper`, which begins at `first`, behind `lower`; splits nodes that become too full. */
  #adopt(lower: IovaChild, upper: IovaChild, first: number): void {
    const node = lower.parent;
    if (node === null) return this.#grow(lower as IovaNode, upper as IovaNode, first);
    node.insert(node.slotOf(lower) + 1, upper, first);
    if (node.children.length <= NODE_CHILDREN) return;
    const half = node.split();
    this.#adopt(node, half, half.firsts[0] as number);
  }

  #grow(lower: IovaNode, upper: IovaNode, first: number): void {
    const root = new IovaNode(lower.height + 1);
    root.insert(0, lower, 0);
    root.insert(1, upper, first);
    root.bounds.set(lower.bounds);
    root.count = lower.count + upper.count;
    this.#root = root;
  }

  /** Takes an empty block out, and the nodes that become empty by it. */
  #drop(block: IovaBlock): void {
    let child: IovaChild = block;
    for (let node = block.parent; node !== null; node = node.parent) {
      node.remove(node.slotOf(child));
      if (node.children.length > 0) break;
      child = node;
    }
    while (this.#root.height > 1 && this.#root.children.length === 1) {
      this.#root = this.#root.children[0] as IovaNode;
      this.#root.parent = null;
    }
  }
}

/** A search found nothing in all of `block`: its bound becomes exact. */
function lowerBlock(block: IovaBlock, order: number): void {
  let bound = 0;
  let last = block.lastBelow(0);
  for (let i = 0; i < block.count; i++) {
    const run = alignedRun(last + 1, (block.lo[i] as number) - 1, order);
    if (run > bound) bound = run;
    last = block.hi[i] as number;
  }
  block.bounds[order] = bound;
}

function lowerNode(node: IovaNode, order: number): void {
  let bound = 0;
  for (const { bounds } of node.children) if ((bounds[order] as number) > bound) bound = bounds[order] as number;
  node.bounds[order] = bound;
}
