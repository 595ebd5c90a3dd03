import { describe, expect, it } from 'vitest';
import { PAGE_SIZE } from '../../src/base/addr.ts';
import { GIB, KIB, MIB } from '../../src/base/units.ts';
import { armSoc } from '../../src/platform/arm-soc.ts';
import { invariant } from '../bench.ts';

describe('armSoc', () => {
  it('has 2 GiB of RAM, 256 MiB of CMA, a cache of 1 MiB, both heaps and an IOMMU', () => {
    const { memory, cma, pages, coherency, systemHeap, cmaHeap, iommu } = armSoc();
    expect(memory.regions.map(({ base, bytes }) => [base, bytes])).toEqual([[0x4000_0000, 2 * GIB]]);
    expect([cma.pages, pages.freePageCount()].map((count) => count * PAGE_SIZE)).toEqual([256 * MIB, 1792 * MIB]);
    expect(coherency.cache.slots * 64).toBe(MIB);
    expect([systemHeap.name, cmaHeap.name, iommu?.name]).toEqual(['system', 'reserved', 'smmu0']);
  });

  it('takes what it is told', () => {
    const { memory, cma, coherency } = armSoc({ ramBytes: 64 * MIB, cmaBytes: 8 * MIB, cacheBytes: 64 * KIB });
    expect(memory.regions[0]?.bytes).toBe(64 * MIB);
    expect([cma.base, cma.pages * PAGE_SIZE]).toEqual([0x4000_0000 + 56 * MIB, 8 * MIB]);
    expect(coherency.cache.slots * 64).toBe(64 * KIB);
  });

  it('keeps its CMA area below 4 GiB, where devices of 32 bits reach it', () => {
    const { cma } = armSoc({ ramBytes: 16 * GIB });
    expect(cma.base + cma.pages * PAGE_SIZE).toBe(4 * GIB);
  });

  it.each([
    ['cacheBytes: 0', { cacheBytes: 0 }],
    ['cacheBytes: 49152', { cacheBytes: 48 * KIB }],
    ['cacheBytes: 512', { cacheBytes: 512 }],
    ['cacheBytes: NaN', { cacheBytes: Number.NaN }],
    ['ramBytes: 0', { ramBytes: 0 }],
    ['ramBytes: -4096', { ramBytes: -4096 }],
    ['ramBytes: 5', { ramBytes: 5 }],
    ['cmaBytes: 0', { cmaBytes: 0 }],
    ['cmaBytes: 4097', { cmaBytes: 4097 }],
    ['cmaBytes: 4294967296 do not fit', { cmaBytes: 4 * GIB }],
    ['cmaBytes: 268435456 do not fit into the RAM below 4 GiB (ramBytes: 67108864)', { ramBytes: 64 * MIB }],
    ['seed: 1.5', { seed: 1.5 }],
  ])('names the option that is out of range: %s', (message, options) => {
    expect(() => armSoc(options)).toThrow(invariant(message));
  });

  it('costs no memory of the host however much RAM it has, until that is written', () => {
    const machine = armSoc({ ramBytes: 64 * GIB });
    expect(machine.memory.allocatedBytes).toBe(0);
    expect(machine.pages.freePageCount() * PAGE_SIZE).toBe(64 * GIB - 256 * MIB);
    const buf = machine.systemHeap.alloc(MIB, 'frame');
    expect(buf.priv.memory.physAddress(0)).toBeGreaterThanOrEqual(4 * GIB);
    expect(machine.memory.allocatedBytes).toBe(0);
    machine.memory.write(buf.priv.memory.physAddress(0), new Uint8Array([1]), 0, 1);
    expect(machine.memory.allocatedBytes).toBeGreaterThan(0);
    expect(machine.memory.allocatedBytes).toBeLessThan(8 * MIB);
  });
});
