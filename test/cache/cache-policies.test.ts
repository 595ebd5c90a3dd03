import { describe, expect, it } from 'vitest';
import { InvariantError } from '../../src/base/assert.ts';
import { ErrnoError } from '../../src/base/errors.ts';
import { KIB } from '../../src/base/units.ts';
import { CpuCache } from '../../src/cache/cpu-cache.ts';
import { Prng } from '../../src/sim/prng.ts';
import { app, at, BASE, bytesOf, LINE, Machine } from './machine.ts';

describe('a write-through cache', () => {
  it('needs no clean: a device reads what the CPU wrote, and the line stays clean', () => {
    const machine = new Machine({ cache: { writes: 'through' } });
    machine.view('cached').write(4, bytesOf(LINE, 5));
    expect(machine.deviceGets(at(4), LINE)).toEqual(bytesOf(LINE, 5));
    expect(machine.domain.cache.dirtyLines).toBe(0);
    expect(machine.domain.cache.validLines).toBe(2);
    expect(machine.domain.cache.counters.writtenBackBytes).toBe(LINE);
    expect(machine.takeHazards()).toEqual([]);
  });

  it('still needs an invalidate before the CPU reads what a device wrote', () => {
    const machine = new Machine({ cache: { writes: 'through' } });
    machine.view('cached').write(0, bytesOf(LINE, 5));
    machine.devicePuts(BASE, LINE, 7);
    machine.view('cached').read(0, new Uint8Array(LINE));
    expect(machine.takeStale()).toMatchObject({ hazard: 'cpu-read.stale', newestIn: 'memory', remedy: app.beforeRead });
  });

  it('loses nothing when it is invalidated', () => {
    const machine = new Machine({ cache: { writes: 'through' } });
    machine.view('cached').write(0, bytesOf(LINE, 5));
    machine.domain.invalidate(BASE, 8, app);
    expect(machine.takeHazards()).toEqual([]);
  });
});

describe('a cache without write-allocate', () => {
  it('lets a write that misses pass to memory and brings no line in', () => {
    const machine = new Machine({ cache: { writeAllocate: false } });
    const view = machine.view('cached');
    view.write(0, bytesOf(2 * LINE, 5));
    expect(machine.domain.cache.validLines).toBe(0);
    expect(machine.deviceGets(BASE, LINE)).toEqual(bytesOf(LINE, 5));
    view.read(0, new Uint8Array(1));
    view.write(0, bytesOf(8, 6));
    expect(machine.domain.cache.dirtyLines).toBe(1);
    expect(machine.domain.cache.counters).toMatchObject({ hits: 1, misses: 3 });
    expect(machine.takeHazards()).toEqual([]);
  });
});

describe('replacement', () => {
  /** Lines left of 4 after reading `lines` in turn, all of one set. */
  function left(replacement: 'lru' | 'fifo' | 'random' | 'tree-plru', lines: readonly number[], seed = 5): number[] {
    const { memory } = new Machine();
    const cache = new CpuCache(memory, { sets: 1, ways: 4, replacement }, new Prng(seed).fork('cache'));
    for (const line of lines) cache.read(at(line * LINE), null, 0, 1);
    return [...new Set(lines)].filter((line) => cache.peekLine(at(line * LINE)) !== undefined);
  }

  it('by LRU lets the line go that was used longest ago', () => {
    expect(left('lru', [0, 1, 2, 3, 0, 1, 4])).toEqual([0, 1, 3, 4]);
  });

  it('by FIFO lets the line go that came first, used since or not', () => {
    expect(left('fifo', [0, 1, 2, 3, 0, 1, 4])).toEqual([1, 2, 3, 4]);
  });

  it('by tree-PLRU goes to the half that was not used last, at every node', () => {
    expect(left('tree-plru', [0, 1, 2, 3, 0, 4])).toEqual([0, 1, 3, 4]);
    expect(left('tree-plru', [0, 1, 2, 3, 0, 2, 4])).toEqual([0, 2, 3, 4]);
  });

  it('at random is the same for the same seed, and no fixed order', () => {
    const lines = Array.from({ length: 40 }, (_, i) => i);
    expect(left('random', lines)).toEqual(left('random', lines));
    expect(new Set([1, 2, 3, 4, 5].map((seed) => left('random', lines, seed).join())).size).toBeGreaterThan(2);
  });

  it('at random draws from streams of their own in machines with several such caches', () => {
    const random = { sets: 1, ways: 4, replacement: 'random' } as const;
    const machine = new Machine({ cache: random, systemCache: random, gpu: { geometry: random } });
    expect(machine.gpuCache.validLines).toBe(0);
    const again = new Machine({ cache: random });
    for (const { domain } of [machine, again]) {
      for (let line = 0; line < 30; line++) domain.cpuRead(at(line * LINE), null, 0, 1, 'cached', app);
    }
    const kept = ({ domain }: Machine) => [...Array(30).keys()].filter((n) => domain.cache.peekLine(at(n * LINE)));
    expect(kept(machine)).toEqual(kept(again));
  });

  it('refuses a tree over ways that are no power of two, and chance without a source', () => {
    const { memory } = new Machine();
    expect(() => new CpuCache(memory, { ways: 3, replacement: 'tree-plru' })).toThrow(/ways 3 is no power of two/);
    expect(() => new CpuCache(memory, { replacement: 'random' })).toThrow(InvariantError);
  });
});

describe('a mapping of Device memory', () => {
  it('goes straight to memory and leaves the write-combining buffer alone', () => {
    const machine = new Machine();
    machine.view('write-combined').write(0, bytesOf(8, 1));
    machine.view('device').write(LINE, bytesOf(4, 2));
    expect(machine.deviceGets(at(LINE), 4)).toEqual(bytesOf(4, 2));
    expect(machine.domain.pendingLines).toBe(1);
    machine.view('uncached').write(LINE, bytesOf(4, 3));
    expect(machine.domain.pendingLines).toBe(0);
  });

  it('lets a doorbell overtake the data it announces, unless a barrier is between them', () => {
    const machine = new Machine();
    machine.view('write-combined').write(0, bytesOf(8, 1));
    machine.view('device').write(LINE, bytesOf(4, 1));
    expect(machine.deviceGets(BASE, 8)).toEqual(bytesOf(8, 0));
    expect(machine.takeStale()).toMatchObject({ newestIn: 'write buffer' });
    machine.domain.barrier();
    machine.view('device').write(LINE, bytesOf(4, 2));
    expect(machine.deviceGets(BASE, 8)).toEqual(bytesOf(8, 1));
    expect(machine.takeHazards()).toEqual([]);
  });

  it('refuses what is not aligned with EFAULT, and moves whole words', () => {
    const machine = new Machine();
    const view = machine.view('device');
    for (const [offset, length] of [
      [1, 2],
      [2, 4],
      [4, 8],
      [0, 3],
      [0, 12],
      [4, 16],
    ] as const) {
      expect(() => view.write(offset, bytesOf(length, 1))).toThrow(ErrnoError);
      expect(() => view.read(offset, new Uint8Array(length))).toThrow(/EFAULT.*alignment fault/);
    }
    expect(machine.memory.allocatedBytes).toBe(0);
    for (const [offset, length] of [
      [1, 1],
      [2, 2],
      [4, 4],
      [8, 8],
      [8, 64],
    ] as const) {
      view.write(offset, bytesOf(length, length));
      expect([...view.peek(offset, length)]).toEqual([...bytesOf(length, length)]);
    }
  });
});

describe('the write-combining buffers of several CPUs', () => {
  it('are drained by barriers of their own CPU only', () => {
    const machine = new Machine();
    const view = machine.view('write-combined');
    view.write(0, bytesOf(8, 1));
    machine.sim.runOnCpu(1);
    view.write(LINE, bytesOf(8, 2));
    expect(machine.domain.pendingLines).toBe(2);
    machine.domain.barrier();
    expect(machine.deviceGets(at(LINE), 8)).toEqual(bytesOf(8, 2));
    expect(machine.deviceGets(BASE, 8)).toEqual(bytesOf(8, 0));
    expect(machine.takeStale()).toMatchObject({ newestIn: 'write buffer' });
    machine.domain.clean(at(8 * LINE), 1);
    expect(machine.domain.pendingLines).toBe(1);
    machine.sim.runOnCpu(0);
    machine.domain.clean(at(8 * LINE), 1);
    expect(machine.deviceGets(BASE, 8)).toEqual(bytesOf(8, 1));
    expect(machine.takeHazards()).toEqual([]);
  });

  it('hide their bytes from each other, and the older ones can win in the end', () => {
    const machine = new Machine();
    const view = machine.view('write-combined');
    view.write(0, bytesOf(8, 1));
    machine.sim.runOnCpu(1);
    view.read(0, new Uint8Array(8));
    expect(machine.takeStale()).toMatchObject({ hazard: 'cpu-read.stale', newestIn: 'write buffer' });
    view.write(0, bytesOf(8, 2));
    machine.domain.barrier();
    machine.sim.runOnCpu(0);
    machine.domain.barrier();
    expect(machine.deviceGets(BASE, 8)).toEqual(bytesOf(8, 1));
    expect(machine.takeHazards()).toMatchObject([{ hazard: 'cpu-write.lost' }, { hazard: 'device-read.stale' }]);
  });

  it('share the cache: what one CPU wrote cached, the other reads', () => {
    const machine = new Machine();
    const view = machine.view('cached');
    view.write(0, bytesOf(8, 1));
    machine.sim.runOnCpu(1);
    expect(view.peek(0)[0]).toBe(1);
    const out = new Uint8Array(8);
    view.read(0, out);
    expect(out).toEqual(bytesOf(8, 1));
    expect(machine.takeHazards()).toEqual([]);
  });

  it('have at least one line', () => {
    expect(() => new Machine({ writeBuffers: 0 })).toThrow(/entries 0 is no whole number >= 1/);
  });
});

describe('the memory of the shadow', () => {
  it('is 64 KiB for each MiB that was written, twice that where memory was behind, and nothing without a shadow', () => {
    const mib = 1024 * KIB;
    const ramBytes = 4 * mib;
    const cost = (act: (machine: Machine) => void): number => {
      const machine = new Machine({ ramBytes, bytes: false, cache: { sets: 16 } });
      const before = machine.domain.shadowBytes;
      act(machine);
      return machine.domain.shadowBytes - before;
    };
    expect(cost((m) => m.domain.cpuRead(BASE, null, 0, mib, 'uncached', app))).toBe(0);
    expect(cost((m) => m.domain.deviceWrite(BASE, null, 0, mib, { snoops: false, accessor: app }))).toBe(64 * KIB);
    expect(cost((m) => m.domain.deviceWrite(BASE, null, 0, 3 * mib, { snoops: false, accessor: app }))).toBe(192 * KIB);
    expect(cost((m) => m.domain.cpuWrite(BASE, null, 0, mib, 'cached', app))).toBe(128 * KIB);
    expect(new Machine({ shadow: false }).domain.shadowBytes).toBe(0);
  });
});
