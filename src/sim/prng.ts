/**
 * Named streams of random numbers. A stream depends only on the simulator's seed and on its own name, never on what
 * other streams were asked, so adding a device does not change what another one draws.
 */
import { uniformInt } from 'pure-rand/distribution/uniformInt';
import { xoroshiro128plusFromState } from 'pure-rand/generator/xoroshiro128plus';
import { assert } from '../base/assert.ts';
import type { RandomSource } from '../base/random.ts';

/** A stream; {@link Prng.fork} makes sub-streams that are independent of it. */
export class Prng implements RandomSource {
  readonly #path: string;
  readonly #seed: number;
  readonly #generator: ReturnType<typeof xoroshiro128plusFromState>;
  readonly #taken = new Set<string>();

  /** @param seed - a whole number of 32 bits, signed or not: -1 and 2^32 - 1 are the same. */
  constructor(seed: number, path = '') {
    assert((seed | 0) === seed || seed >>> 0 === seed, 'seed: %s is no whole number of 32 bits', seed);
    this.#seed = seed;
    this.#path = path;
    this.#generator = xoroshiro128plusFromState(initialState(seed, path));
  }

  /**
   * A stream of its own: the same seed and name give the same numbers in every run.
   *
   * @throws {InvariantError} `name` was forked before: two users of one name would draw the same numbers.
   */
  fork(name: string): Prng {
    assert(!this.#taken.has(name), 'prng.fork: %s is taken already in %s', name, this.#path || 'the simulator');
    this.#taken.add(name);
    // A slash in a name is escaped, so that no two paths are the same.
    return new Prng(this.#seed, `${this.#path}/${name.replaceAll('~', '~0').replaceAll('/', '~1')}`);
  }

  int(bound: number): number {
    assert(Number.isInteger(bound) && bound >= 1 && bound <= 2 ** 31, 'prng.int: bound %s is not in [1, 2^31]', bound);
    return uniformInt(this.#generator, 0, bound - 1);
  }

  float(): number {
    return (this.#generator.next() >>> 0) / 2 ** 32;
  }
}

/** 128 bits of state, from the seed and the name; different for different seeds. */
function initialState(seed: number, path: string): number[] {
  const name = hashName(path);
  return [0, 1, 2, 3].map((word) => mix(seed + Math.imul(word, GOLDEN)) ^ mix(name + Math.imul(word + 4, GOLDEN)));
}

/** 2^32 divided by the golden ratio: steps that visit all of 32 bits evenly. */
const GOLDEN = 0x9e3779b9;

/** Murmur3's finaliser: a bijection of 32 bits in which every input bit changes half of the output. */
function mix(word: number): number {
  let bits = word | 0;
  bits = Math.imul(bits ^ (bits >>> 16), 0x85ebca6b);
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
  return bits ^ (bits >>> 16);
}

/** FNV-1a. */
function hashName(name: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193);
  return hash;
}
