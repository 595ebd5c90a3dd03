/**
 * Bare allocators of IO virtual addresses, with nothing but what the policy needs: top down, aligned to the size rounded up to a power of
 * two, the search starts at the last place.
 *
 *     node iova.mjs tree|blocks|magazines SPACE LIVE PAIRS     prints { "value": pairs a second, "sum": … }
 *
 * `tree` walks a red-black tree backwards range by range, as Linux does; `blocks` keeps sorted ranges in blocks of 16 with the largest gap of each;
 * `magazines` puts a stack a size class in front of `blocks`. SPACE is `small` (1 to 32 pages) or `large` (33 to 288 pages), both below 4 GiB.
 * A pair frees a random live range and allocates another. `sum` tells whether two programs gave the same addresses.
 */
import process from 'node:process';
import { cpuSeconds } from './cpu-seconds.mjs';
import { exercise } from './iova-pairs.mjs';
import { RangeTree } from './iova-tree.mjs';

const BLOCK = 16;
const ANCHOR = 2 ** 52;
const LOW_END = 2 ** 20;

/** @param {number} n */
const pow2 = (n) => (n <= 1 ? 1 : 2 ** (32 - Math.clz32(n - 1)));

/** Ranges in ascending order; a block's gap is the largest free run that ends at one of its ranges. */
class Blocks {
  constructor() {
    this.blocks = [this.make()];
    this.blocks[0].lo[0] = this.blocks[0].hi[0] = ANCHOR;
    this.blocks[0].count = 1;
    this.failed = LOW_END;
    this.from = ANCHOR;
    this.block = 0;
    this.foundBlock = 0;
    this.foundIndex = 0;
    this.measure(0);
  }

  make() {
    return { lo: new Float64Array(BLOCK + 1), hi: new Float64Array(BLOCK + 1), count: 0, gap: 0 };
  }

  measure(at) {
    const block = this.blocks[at];
    const { lo, hi, count } = block;
    let last = at > 0 ? this.lastBelow(at) : 0;
    let gap = 0;
    for (let i = 0; i < count; i++) {
      const free = lo[i] - last - 1;
      if (free > gap) gap = free;
      last = hi[i];
    }
    block.gap = gap;
  }

  lastBelow(at) {
    return at > 0 ? this.blocks[at - 1].hi[this.blocks[at - 1].count - 1] : -1;
  }

  /** Index of the last range that begins at or below `page`, in block `this.block`; -1: before it. */
  find(page) {
    const { blocks } = this;
    let low = 0;
    let high = blocks.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (blocks[middle].lo[0] <= page) low = middle;
      else high = middle - 1;
    }
    this.block = low;
    const { lo, count } = blocks[low];
    let first = 0;
    let end = count;
    while (first < end) {
      const middle = (first + end) >> 1;
      if (lo[middle] <= page) first = middle + 1;
      else end = middle;
    }
    return first - 1;
  }

  search(from, size, limit, low) {
    const align = pow2(size);
    let index = this.find(from);
    for (let at = this.block; at >= 0; at--, index = -2) {
      const block = this.blocks[at];
      const { lo, hi } = block;
      if (index === -2) {
        if (block.gap < size) {
          if (lo[0] < low) return -1;
          continue;
        }
        index = block.count - 1;
      }
      for (; index >= 0; index--) {
        const top = lo[index] < limit ? lo[index] : limit;
        const bottom = index > 0 ? hi[index - 1] : this.lastBelow(at);
        const last = top - size;
        if (last < low) return -1;
        const place = last - (last % align);
        if (place <= bottom || place < low) continue;
        this.foundBlock = at;
        this.foundIndex = index;
        return place;
      }
    }
    return -1;
  }

  alloc(size, limit) {
    if (size >= this.failed) return -1;
    let place = this.search(this.from, size, limit, 1);
    if (place < 0) {
      const at = this.find(this.from);
      const again = this.blocks[this.block].hi[at] + 1;
      if (again <= limit) place = this.search(this.above(limit), size, limit, again);
      if (place < 0) {
        this.failed = size;
        return -1;
      }
    }
    const { foundBlock: at, foundIndex: index } = this;
    const block = this.blocks[at];
    block.lo.copyWithin(index + 1, index, block.count);
    block.hi.copyWithin(index + 1, index, block.count);
    block.lo[index] = place;
    block.hi[index] = place + size - 1;
    if (++block.count > BLOCK) this.split(at);
    this.measure(at);
    this.from = place;
    return place;
  }

  split(at) {
    const block = this.blocks[at];
    const upper = this.make();
    const keep = BLOCK >> 1;
    upper.lo.set(block.lo.subarray(keep, block.count));
    upper.hi.set(block.hi.subarray(keep, block.count));
    upper.count = block.count - keep;
    block.count = keep;
    this.blocks.splice(at + 1, 0, upper);
    this.measure(at + 1);
  }

  above(limit) {
    const index = this.find(limit - 1);
    const block = this.blocks[this.block];
    if (index + 1 < block.count) return block.lo[index + 1];
    return this.blocks[this.block + 1]?.lo[0] ?? ANCHOR;
  }

  free(page) {
    const index = this.find(page);
    const at = this.block;
    const block = this.blocks[at];
    if (index < 0 || block.lo[index] !== page) throw new Error(`no range begins at ${page}`);
    const next = index + 1 < block.count ? block.lo[index + 1] : (this.blocks[at + 1]?.lo[0] ?? ANCHOR);
    if (page >= this.from) this.from = next;
    this.failed = LOW_END;
    block.lo.copyWithin(index, index + 1, block.count);
    block.hi.copyWithin(index, index + 1, block.count);
    block.count--;
    if (block.count === 0) this.blocks.splice(at, 1);
    if (at < this.blocks.length) this.measure(at);
    if (index === block.count && at + 1 < this.blocks.length) this.measure(at + 1);
  }
}

/** A stack for each power of two up to 32 pages. */
class Magazines {
  constructor(under) {
    this.under = under;
    this.stacks = Array.from({ length: 6 }, () => new Float64Array(4096));
    this.counts = new Int32Array(6);
  }

  alloc(size, limit) {
    const order = size <= 1 ? 0 : 32 - Math.clz32(size - 1);
    if (order >= 6) return this.under.alloc(size, limit);
    const count = this.counts[order];
    if (count === 0) return this.under.alloc(2 ** order, limit);
    this.counts[order] = count - 1;
    return this.stacks[order][count - 1];
  }

  free(page, size) {
    const order = size <= 1 ? 0 : 32 - Math.clz32(size - 1);
    if (order < 6 && this.counts[order] < 4096) this.stacks[order][this.counts[order]++] = page;
    else this.under.free(page);
  }
}

const [variant, space, live, pairs] = process.argv.slice(2);
const make = {
  tree: () => new RangeTree(Number(live) + 16),
  blocks: () => new Blocks(),
  magazines: () => new Magazines(new Blocks()),
}[variant];
if (make === undefined) throw new Error(`no variant ${variant}: tree, blocks or magazines`);
const allocator = make();
console.log(JSON.stringify(exercise(allocator, space, Number(live), Number(pairs), cpuSeconds)));
