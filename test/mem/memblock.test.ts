import { describe, expect, it } from 'vitest';
import { physAddr } from '../../src/base/addr.ts';
import { GIB, MIB } from '../../src/base/units.ts';
import { PageAllocator } from '../../src/mem/page-allocator.ts';
import { machine } from './machine.ts';

describe('Memblock', () => {
  it('takes the highest aligned place below the limit, beside what is reserved', () => {
    const { memory } = machine([
      [0, 3 * GIB],
      [4 * GIB, GIB],
    ]);
    const { memblock } = memory;
    expect(memblock.reserve({ name: 'a', bytes: MIB }).base).toBe(5 * GIB - MIB);
    expect(memblock.reserve({ name: 'b', bytes: MIB, below: physAddr(4 * GIB) }).base).toBe(3 * GIB - MIB);
    expect(memblock.reserve({ name: 'c', bytes: MIB, align: 4 * MIB }).base).toBe(5 * GIB - 4 * MIB);
    expect(memblock.reserved.map((r) => r.name)).toEqual(['b', 'c', 'a']);
  });

  it('leaves the rest to the page allocator, adjacent regions joined', () => {
    const { memory } = machine([
      [0x0000, 0x4000],
      [0x4000, 0x4000],
      [0x10000, 0x2000],
    ]);
    memory.memblock.reserve({ name: 'image', base: physAddr(0x1000), bytes: 0x1000 });
    expect(memory.memblock.freeRanges()).toEqual([
      { first: 0, count: 1 },
      { first: 2, count: 6 },
      { first: 16, count: 2 },
    ]);
    expect(new PageAllocator(memory).pages).toBe(9);
  });

  it('refuses overlaps, places outside one RAM region, no room, bad sizes and late calls, and keeps its state', () => {
    const { memory } = machine([
      [0, 0x4000],
      [0x4000, 0x4000],
    ]);
    const { memblock } = memory;
    memblock.reserve({ name: 'first', base: physAddr(0x1000), bytes: 0x1000 });
    expect(() => memblock.reserve({ name: 'x', base: physAddr(0), bytes: 0x2000 })).toThrow(/x.*overlaps.*first/);
    expect(() => memblock.reserve({ name: 'x', base: physAddr(0x3000), bytes: 0x2000 })).toThrow(/one RAM region/);
    expect(() => memblock.reserve({ name: 'x', bytes: 0x5000 })).toThrow(/no free RAM/);
    expect(() => memblock.reserve({ name: 'x', bytes: 100 })).toThrow(/bytes 100/);
    expect(() => memblock.reserve({ name: 'x', bytes: 0x1000, align: 100 })).toThrow(/align 100/);
    expect(() => memblock.reserve({ name: 'x', base: physAddr(0x2001), bytes: 0x1000 })).toThrow(/0x2001/);
    new PageAllocator(memory);
    expect(() => memblock.reserve({ name: 'x', bytes: 0x1000 })).toThrow(/after the page allocator/);
    expect(memblock.reserved.map((r) => r.name)).toEqual(['first']);
    expect(() => new PageAllocator(memory)).toThrow(/already/);
  });
});
