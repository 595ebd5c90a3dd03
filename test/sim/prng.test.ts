import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Prng } from '../../src/sim/prng.ts';
import { Simulator } from '../../src/sim/simulator.ts';

const draw = (stream: Prng, count = 20): number[] => Array.from({ length: count }, () => stream.int(2 ** 31));

describe('Prng', () => {
  it('gives the same numbers for the same seed and name, and others for another seed or name', () => {
    const seen = new Map<string, string>();
    for (const seed of [0, 1, 2, -1, 2 ** 31 - 1]) {
      for (const name of ['a', 'b', 'camera0', 'camera1']) {
        const numbers = draw(new Prng(seed).fork(name)).join();
        expect(draw(new Prng(seed).fork(name)).join()).toBe(numbers);
        expect(seen.get(numbers)).toBeUndefined();
        seen.set(numbers, `${seed} ${name}`);
      }
    }
  });

  it('gives a stream that depends neither on the order of forks nor on what others have drawn', () => {
    const alone = draw(new Simulator({ seed: 5 }).prng.fork('b'));
    const { prng } = new Simulator({ seed: 5 });
    draw(prng);
    const a = prng.fork('a');
    draw(a, 7);
    const b = prng.fork('b');
    const mixed = alone.map(() => {
      a.int(10);
      prng.float();
      return b.int(2 ** 31);
    });
    expect(mixed).toEqual(alone);
  });

  it('refuses a name that is taken, at its own level only', () => {
    const prng = new Prng(1);
    const a = prng.fork('a');
    a.fork('a');
    expect(() => prng.fork('a')).toThrow('prng.fork: a is taken already in the simulator');
    expect(() => a.fork('a')).toThrow('prng.fork: a is taken already in /a');
  });

  it('gives other numbers for a fork of a fork than for one name with a slash', () => {
    expect(draw(new Prng(1).fork('a').fork('b'))).not.toEqual(draw(new Prng(1).fork('a/b')));
  });

  it('gives first numbers that do not follow the seed or the name', () => {
    const bySeed = Array.from({ length: 256 }, (_, seed) => new Prng(seed).fork('chooser').int(2));
    const flips = bySeed.filter((bit, at) => at > 0 && bit !== bySeed[at - 1]).length;
    expect(flips).toBeGreaterThan(80);
    expect(flips).toBeLessThan(176);
    const floats = Array.from({ length: 64 }, (_, seed) => new Prng(seed).fork('x').float());
    expect(Math.max(...floats) - Math.min(...floats)).toBeGreaterThan(0.8);
  });

  it('draws evenly, within its bounds', () => {
    const stream = new Prng(7).fork('dice');
    for (let i = 0; i < 6; i++) expect(stream.int(1)).toBe(0);
    const even = new Array<number>(6).fill(0);
    for (let i = 0; i < 60_000; i++) {
      const face = stream.int(6);
      even[face] = (even[face] ?? 0) + 1;
    }
    for (const n of even) expect(Math.abs(n - 10_000)).toBeLessThan(500);
    for (let i = 0; i < 1000; i++) {
      const value = stream.float();
      expect(value >= 0 && value < 1).toBe(true);
    }
  });

  it('gives these very numbers, so that a seed means the same run in every version', () => {
    const stream = new Prng(1).fork('camera0');
    expect(Array.from({ length: 4 }, () => stream.int(1000))).toEqual([569, 504, 331, 463]);
  });

  it('refuses bad bounds and seeds', () => {
    const prng = new Prng(1);
    for (const bad of [0, -1, 1.5, 2 ** 31 + 1, Number.NaN]) expect(() => prng.int(bad)).toThrow('prng.int: bound');
    for (const bad of [0.5, Number.NaN, Infinity]) expect(() => new Prng(bad)).toThrow('is no whole number');
    expect(() => new Simulator({ seed: 0.5 })).toThrow('seed: 0.5 is no whole number');
  });

  it('does not take two seeds for one', () => {
    fc.assert(
      fc.property(fc.integer(), fc.integer(), (one, other) => {
        fc.pre(one !== other);
        expect(draw(new Prng(one), 4)).not.toEqual(draw(new Prng(other), 4));
      }),
    );
    expect(() => new Prng(2 ** 32 + 1)).toThrow('seed: 4294967297 is no whole number');
  });
});
