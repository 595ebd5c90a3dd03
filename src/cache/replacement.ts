/**
 * Which line of a full set makes room.
 *
 * `'lru'` the one used longest ago; `'fifo'` the one fetched longest ago; `'random'` any; `'tree-plru'` a binary tree over the
 * ways, whose every node points away from the half that was used last, as in most L2 caches.
 *
 * @see Hennessy, Patterson: Computer Architecture, appendix B.1; Intel 486 manual, "cache replacement" (tree pseudo-LRU)
 */
import { assert } from '../base/assert.ts';
import type { RandomSource } from '../base/random.ts';

/** How a cache picks the line that makes room in a full set. */
export type ReplacementPolicy = 'lru' | 'fifo' | 'random' | 'tree-plru';

/** Picks a way of a full set. @internal */
export interface Replacement {
  /** Slot `slot`, way `way` of set `set`, was read, written or filled. */
  used(slot: number, set: number, way: number): void;
  /** Slot `slot` has a new line. */
  filled(slot: number, set: number, way: number): void;
  /** The way of the full set `set`, whose slots begin at `base`, that has to leave. */
  victim(base: number, set: number): number;
}

/** The policy of this name, but for `'lru'`, which a cache has built in. @throws {InvariantError} ways that are no power of two for a tree. @internal */
export function replacementOf(
  policy: Exclude<ReplacementPolicy, 'lru'>,
  shape: { readonly sets: number; readonly ways: number },
  random: RandomSource | undefined,
): Replacement {
  const { sets, ways } = shape;
  if (policy === 'fifo') return new FirstIn(sets * ways, ways);
  if (policy === 'tree-plru') return new Tree(sets, ways);
  assert(random !== undefined, 'cache: replacement random needs a source of random numbers');
  return new AnyWay(ways, random);
}

class FirstIn implements Replacement {
  readonly #ages: Float64Array;
  readonly #ways: number;
  #clock = 0;

  constructor(slots: number, ways: number) {
    this.#ages = new Float64Array(slots);
    this.#ways = ways;
  }

  used(): void {
    // what was fetched first leaves first, used or not
  }

  filled(slot: number): void {
    this.#ages[slot] = ++this.#clock;
  }

  victim(base: number): number {
    let first = 0;
    for (let way = 1; way < this.#ways; way++) {
      if ((this.#ages[base + way] as number) < (this.#ages[base + first] as number)) first = way;
    }
    return first;
  }
}

class AnyWay implements Replacement {
  readonly #ways: number;
  readonly #random: RandomSource;

  constructor(ways: number, random: RandomSource) {
    this.#ways = ways;
    this.#random = random;
  }

  used(): void {
    // use does not matter
  }

  filled(): void {
    // nor does age
  }

  victim(): number {
    return this.#random.int(this.#ways);
  }
}

class Tree implements Replacement {
  /** One node a byte, `ways` a set, from 1 on in each: 0 points to the lower half, 1 to the upper one. */
  readonly #nodes: Uint8Array;
  readonly #ways: number;

  constructor(sets: number, ways: number) {
    assert(Number.isInteger(Math.log2(ways)), 'cache: ways %s is no power of two, as tree-plru needs', ways);
    this.#nodes = new Uint8Array(sets * ways);
    this.#ways = ways;
  }

  used(_slot: number, set: number, way: number): void {
    const base = set * this.#ways;
    for (let node = way + this.#ways; node > 1; node >>= 1) this.#nodes[base + (node >> 1)] = (node & 1) ^ 1;
  }

  filled(slot: number, set: number, way: number): void {
    this.used(slot, set, way);
  }

  victim(_base: number, set: number): number {
    const base = set * this.#ways;
    let node = 1;
    while (node < this.#ways) node = 2 * node + (this.#nodes[base + node] as number);
    return node - this.#ways;
  }
}
