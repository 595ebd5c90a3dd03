import { beforeEach, describe, expect, it } from 'vitest';
import { physAddr } from '../../src/base/addr.ts';
import { InvariantError } from '../../src/base/assert.ts';
import { KIB } from '../../src/base/units.ts';
import { CpuCache } from '../../src/cache/cpu-cache.ts';
import { at, BASE, bytesOf, LINE, Machine } from './machine.ts';

describe('CpuCache', () => {
  let machine: Machine;
  let cache: CpuCache;
  beforeEach(() => {
    machine = new Machine();
    cache = new CpuCache(machine.memory, { sets: 2, ways: 2 });
  });

  it('fetches a line at the first read and finds it at the second', () => {
    machine.memory.write(BASE, bytesOf(4, 7), 0, 4);
    const out = new Uint8Array(4);
    cache.read(BASE, out, 0, 4);
    cache.read(at(2), out, 0, 2);
    expect([...out]).toEqual([7, 7, 7, 7]);
    expect(cache.counters).toMatchObject({ hits: 1, misses: 1 });
  });

  it('keeps written bytes from memory until they are cleaned', () => {
    cache.write(BASE, bytesOf(8, 5), 0, 8);
    expect(byteInMemory(0)).toBe(0);
    expect(cache.clean(BASE, 8)).toBe(1);
    expect(byteInMemory(0)).toBe(5);
    expect(cache.peekLine(BASE)).toMatchObject({ dirty: false });
    expect(cache.counters).toMatchObject({ cleaned: 1, writtenBackBytes: LINE });
  });

  it('keeps the rest of a line that is written in part', () => {
    machine.memory.write(BASE, bytesOf(LINE, 9), 0, LINE);
    cache.write(at(10), bytesOf(1, 1), 0, 1);
    const bytes = cache.peekLine(BASE)?.bytes;
    expect(bytes?.[9]).toBe(9);
    expect(bytes?.[10]).toBe(1);
    expect(bytes?.[11]).toBe(9);
  });

  it('does not see what changes in memory below a cached line', () => {
    const out = new Uint8Array(1);
    cache.read(BASE, out, 0, 1);
    machine.memory.write(BASE, bytesOf(1, 3), 0, 1);
    cache.read(BASE, out, 0, 1);
    expect(out[0]).toBe(0);
    cache.invalidate(BASE, 1);
    cache.read(BASE, out, 0, 1);
    expect(out[0]).toBe(3);
  });

  it('tells lines apart that are far from each other in one set, whatever the number of sets', () => {
    for (const sets of [64, 48]) {
      const { memory } = new Machine({ bytes: false });
      const far = new CpuCache(memory, { sets, ways: 2 });
      const first = 3 + sets * 400;
      const lines = [first, first + sets * 2 ** 26, first + sets * 2 ** 38];
      const touch = (n: number): void => far.read(physAddr((lines[n] as number) * LINE), null, 0, LINE);
      for (const n of [0, 1, 0, 2, 0, 1]) touch(n);
      expect(far.counters).toMatchObject({ hits: 2, misses: 4, evictions: 2 });
      expect([far.validLines, far.clean(physAddr(first * LINE), LINE)]).toEqual([2, 1]);
      far.invalidate(physAddr((lines[1] as number) * LINE), LINE);
      expect([far.validLines, far.counters.invalidated]).toEqual([1, 1]);
    }
  });

  it('lets the line go that was used longest ago, and writes it back if it is dirty', () => {
    cache.write(at(0), bytesOf(1, 1), 0, 1);
    cache.write(at(2 * LINE), bytesOf(1, 2), 0, 1);
    cache.read(at(0), null, 0, 1);
    cache.read(at(4 * LINE), null, 0, 1);
    expect(cache.peekLine(at(0))).toBeDefined();
    expect(cache.peekLine(at(2 * LINE))).toBeUndefined();
    expect(byteInMemory(2 * LINE)).toBe(2);
    expect(byteInMemory(0)).toBe(0);
    expect(cache.counters).toMatchObject({ evictions: 1, writtenBackBytes: LINE });
  });

  it('counts the lines of a range with the partial ones at both edges', () => {
    expect(cache.clean(at(0), LINE)).toBe(1);
    expect(cache.clean(at(1), LINE)).toBe(2);
    expect(cache.invalidate(at(63), 2)).toBe(2);
    expect(cache.cleanInvalidate(at(63), 2 * LINE + 2)).toBe(4);
    expect(cache.clean(at(5), 0)).toBe(0);
  });

  it('destroys the dirty bytes of a neighbour in the same line when it invalidates', () => {
    cache.write(at(32), bytesOf(32, 8), 0, 32);
    cache.invalidate(at(0), 32);
    expect(cache.peekLine(BASE)).toBeUndefined();
    expect(byteInMemory(32)).toBe(0);
    expect(cache.counters).toMatchObject({ invalidated: 1, cleaned: 0, writtenBackBytes: 0 });
  });

  it('treats a range larger than itself like its lines one by one', () => {
    const byRange = new CpuCache(machine.memory, { sets: 16, ways: 4 });
    const byLine = new CpuCache(machine.memory, { sets: 16, ways: 4 });
    for (const one of [byRange, byLine]) {
      for (let line = 0; line < 64; line += 3) one.write(at(line * LINE), bytesOf(LINE, line), 0, LINE);
      one.read(at(50 * KIB), null, 0, 1);
    }
    expect(byRange.cleanInvalidate(at(10), 40 * KIB)).toBe(641);
    for (let line = 0; line <= 640; line++) byLine.cleanInvalidate(at(line * LINE), LINE);
    expect(byRange.counters).toEqual(byLine.counters);
    expect(byRange.validLines).toBe(1);
    expect(byteInMemory(63 * LINE)).toBe(63);
  });

  it('copies long unaligned reads and writes as exactly as aligned ones', () => {
    const big = new CpuCache(machine.memory);
    const source = Uint8Array.from({ length: 2000 }, (_, i) => i % 251);
    for (const [shift, inArray] of [
      [0, 0],
      [4, 4],
      [3, 0],
      [0, 5],
      [60, 2],
    ] as const) {
      big.write(at(shift), source, inArray, 1000);
      const out = new Uint8Array(1100);
      big.read(at(shift), out, inArray, 1000);
      expect(out.subarray(inArray, inArray + 1000)).toEqual(source.subarray(inArray, inArray + 1000));
      expect(out[inArray + 1000]).toBe(0);
    }
  });

  it('keeps tags and counters over memory without bytes', () => {
    const tags = new CpuCache(new Machine({ bytes: false }).memory, { sets: 2, ways: 2 });
    tags.write(BASE, null, 0, 3 * LINE);
    expect(tags.dirtyLines).toBe(3);
    expect(tags.clean(BASE, LINE)).toBe(1);
    expect(tags.dirtyLines).toBe(2);
    expect(tags.peekLine(at(LINE))).toMatchObject({ dirty: true, bytes: new Uint8Array(0) });
  });

  it('lets dirty bytes of unplugged memory go nowhere', () => {
    const bar = machine.memory.addRegion({ name: 'bar', kind: 'bar', base: physAddr(0x1000), bytes: 4 * KIB });
    cache.write(physAddr(0x1000), bytesOf(LINE, 1), 0, LINE);
    machine.memory.removeRegion(bar);
    expect(() => cache.clean(physAddr(0x1000), LINE)).not.toThrow();
    expect(cache.dirtyLines).toBe(0);
  });

  it('refuses a shape that is none, naming the parameter', () => {
    expect(() => new CpuCache(machine.memory, { sets: 0 })).toThrow(InvariantError);
    expect(() => new CpuCache(machine.memory, { ways: 1.5 })).toThrow(/ways 1.5/);
    expect(() => new CpuCache(machine.memory, { lineBytes: 48 })).toThrow(/lineBytes 48/);
  });

  function byteInMemory(offset: number): number | undefined {
    const out = new Uint8Array(1);
    machine.memory.read(at(offset), out, 0, 1);
    return out[0];
  }
});
