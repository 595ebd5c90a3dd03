import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PAGE_SIZE, physAddr } from '../../src/base/addr.ts';
import { GIB } from '../../src/base/units.ts';
import { CarveoutAllocator } from '../../src/mem/carveout.ts';
import { errnoOf, machine } from './machine.ts';

const BASE = 0x8_0000_3000;

function carveout(pageCount: number, kind: 'carve-out' | 'bar' = 'carve-out') {
  const { memory, clock } = machine([[0, PAGE_SIZE]]);
  const spec = { kind, name: 'vpu', base: physAddr(BASE), bytes: pageCount * PAGE_SIZE };
  const pool = new CarveoutAllocator(memory, memory.addRegion(spec));
  const alloc = (pages: number, align?: number) =>
    pool.alloc({ bytes: pages * PAGE_SIZE, owner: 'test', ...(align === undefined ? {} : { align }) });
  return { memory, clock, pool, alloc };
}

describe('CarveoutAllocator', () => {
  it('takes the lowest place that fits, whole pages, and reuses the lowest hole', () => {
    const { pool, alloc } = carveout(16);
    const [a, b, c] = [alloc(2), pool.alloc({ bytes: 5000, owner: 'test' }), alloc(1)];
    expect([a, b, c].map((phys) => (phys ?? 0) - BASE)).toEqual([0, 2 * PAGE_SIZE, 4 * PAGE_SIZE]);
    pool.free(physAddr(BASE + 2 * PAGE_SIZE));
    expect(alloc(3) - BASE).toBe(5 * PAGE_SIZE);
    expect(alloc(1) - BASE).toBe(2 * PAGE_SIZE);
    expect(pool.usedPages).toBe(7);
  });

  it('aligns the physical address', () => {
    const { pool, alloc } = carveout(16);
    expect(alloc(1, 4 * PAGE_SIZE)).toBe(0x8_0000_4000);
    expect(alloc(1)).toBe(BASE);
    expect(alloc(1, 3 * PAGE_SIZE) % (3 * PAGE_SIZE)).toBe(0);
    expect(pool.usedPages).toBe(3);
  });

  it('tells on exhaustion what was wanted, what is free and the largest run, and takes nothing', () => {
    const { memory, pool, alloc } = carveout(4);
    const [a] = [alloc(1), alloc(1), alloc(1)];
    pool.free(a ?? physAddr(0));
    const error = errnoOf('ENOMEM', () => alloc(2));
    expect(error.message).toMatch(/test wants 2 pages \(8 KiB\) from vpu .*: 2 pages \(8 KiB\) free, .* run 1 page /);
    expect(pool.freeRuns()).toHaveLength(2);
    expect(memory.ledger.liveCount).toBe(2);
  });

  it('enters a BAR as its own kind and costs little for a huge one', () => {
    const { memory, alloc } = carveout((64 * GIB) / PAGE_SIZE, 'bar');
    alloc((48 * GIB) / PAGE_SIZE);
    expect(memory.ledger.liveAllocations()).toMatchObject([{ kind: 'bar', bytes: 48 * GIB, owner: 'test' }]);
    expect(memory.allocatedBytes).toBe(0);
  });

  it('refuses a double free, an address inside an allocation and one outside the region', () => {
    const { clock, pool, alloc } = carveout(8);
    const phys = alloc(2);
    expect(() => pool.free(physAddr(phys + PAGE_SIZE))).toThrow(/not the start/);
    expect(() => pool.free(physAddr(phys + 1))).toThrow(/not page aligned/);
    expect(() => pool.free(physAddr(0))).toThrow(/not in vpu/);
    clock.ns = 33;
    pool.free(phys);
    expect(() => pool.free(phys)).toThrow('test freed it at 33 ns');
    expect(pool.freeRuns()).toEqual([{ first: BASE / PAGE_SIZE, count: 8 }]);
  });

  it('refuses bad arguments and regions of other kinds, and fails where injected', () => {
    const { memory, pool } = carveout(8);
    expect(() => pool.alloc({ bytes: 0, owner: 'test' })).toThrow(/bytes 0/);
    expect(() => pool.alloc({ bytes: 1, align: 100, owner: 'test' })).toThrow(/align 100/);
    expect(() => pool.alloc({ bytes: 1, owner: '' })).toThrow(/owner/);
    const [ram] = memory.regions;
    expect(() => new CarveoutAllocator(memory, ram ?? pool.region)).toThrow(/no carve-out or BAR/);
    expect(() => new CarveoutAllocator(machine().memory, pool.region)).toThrow(/no region of this memory/);
    memory.failNext = ({ allocator }) => allocator === 'vpu';
    errnoOf('ENOMEM', () => pool.alloc({ bytes: 1, owner: 'test' }));
    expect(pool.usedPages).toBe(0);
  });

  it('agrees with a naive bitmap and joins everything again', () => {
    const command = fc.record({
      frees: fc.boolean(),
      n: fc.nat(7),
      align: fc.integer({ min: 1, max: 5 }),
      which: fc.nat(),
    });
    fc.assert(
      fc.property(fc.array(command, { maxLength: 60 }), (commands) => {
        const { pool, alloc } = carveout(32);
        const first = BASE / PAGE_SIZE;
        const used = new Array<boolean>(32).fill(false);
        const live: { at: number; count: number }[] = [];
        for (const { frees, n, align, which } of commands) {
          if (frees) {
            const [victim] = live.splice(which % Math.max(1, live.length), 1);
            if (victim === undefined) continue;
            pool.free(physAddr(BASE + victim.at * PAGE_SIZE));
            used.fill(false, victim.at, victim.at + victim.count);
          } else {
            const count = n + 1;
            const at = used.findIndex(
              (_, i) => (first + i) % align === 0 && i + count <= 32 && used.slice(i, i + count).every((bit) => !bit),
            );
            if (at < 0) {
              errnoOf('ENOMEM', () => alloc(count, align * PAGE_SIZE));
            } else {
              expect(alloc(count, align * PAGE_SIZE) - BASE).toBe(at * PAGE_SIZE);
              used.fill(true, at, at + count);
              live.push({ at, count });
            }
          }
          expect(pool.usedPages).toBe(used.filter(Boolean).length);
        }
        for (const { at } of live) pool.free(physAddr(BASE + at * PAGE_SIZE));
        expect(pool.freeRuns()).toEqual([{ first, count: 32 }]);
      }),
      { numRuns: 150 },
    );
  });
});
