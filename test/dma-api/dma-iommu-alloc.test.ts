import { describe, expect, it, onTestFinished } from 'vitest';
import { dmaAddr, PAGE_SIZE } from '../../src/base/addr.ts';
import { KIB, MIB } from '../../src/base/units.ts';
import { CoherentPool } from '../../src/dma-api/coherent-pool.ts';
import type { DmaAttrs } from '../../src/dma-api/dma-attrs.ts';
import type { DmaBacking } from '../../src/dma-api/dma-ops.ts';
import type { Extent } from '../../src/dma-api/sg-table.ts';
import { type Bench, bench, invariant, pattern } from '../bench.ts';

const TOP = 2 ** 32;

/** A bench, a device, and allocations that are given back when the test ends. */
function scene(spec: Parameters<Bench['device']>[1] = {}) {
  const b = bench();
  const device = b.device('gpu', { iommu: true, ...spec });
  const { dmaOps } = device;
  const alloc = (sizeBytes: number, attrs: DmaAttrs = {}): DmaBacking => {
    const backing = dmaOps.alloc(sizeBytes, attrs) ?? expect.fail('no memory');
    onTestFinished(() => dmaOps.free(backing, sizeBytes, attrs));
    return backing;
  };
  return { b, device, dmaOps, alloc };
}

/** Makes RAM so that no two free pages are neighbours, until the test ends. */
function scatterRam({ machine }: Bench): void {
  const { pages } = machine;
  const taken = Array.from({ length: pages.freePageCount() }, () => pages.allocPages({ pageCount: 1, owner: 'test' }));
  for (const frame of taken) if (frame % 2 === 0) pages.freePages(frame, 1);
  onTestFinished(() => {
    for (const frame of taken) if (frame % 2 === 1) pages.freePages(frame, 1);
  });
}

/** Every page of `extents`, ascending. */
function pagesOf(extents: readonly Extent[]): number[] {
  const pages = extents.flatMap(({ phys, length }) =>
    Array.from({ length: length / PAGE_SIZE }, (_, i) => phys + i * PAGE_SIZE),
  );
  return pages.sort((a, b) => a - b);
}

describe('coherent memory behind an IOMMU', () => {
  it('is one run of addresses for the device, wherever its pages are', () => {
    const { b, device, alloc } = scene();
    scatterRam(b);
    const backing = alloc(5 * PAGE_SIZE - 7);
    expect(backing.address).toBe(TOP - 8 * PAGE_SIZE);
    expect(backing.extents).toHaveLength(5);
    expect(device.port.write(backing.address, pattern(5 * PAGE_SIZE), 0, 5 * PAGE_SIZE)).toBe(5 * PAGE_SIZE);
    const seen = new Uint8Array(PAGE_SIZE);
    for (const [i, { phys }] of backing.extents.entries()) {
      b.machine.memory.read(phys, seen, 0, PAGE_SIZE);
      expect(seen).toEqual(pattern(5 * PAGE_SIZE).subarray(i * PAGE_SIZE, (i + 1) * PAGE_SIZE));
    }
  });

  it('reads as zeros for the device, although another owner left bytes in the pages', () => {
    const { b, device, dmaOps, alloc } = scene();
    const before = dmaOps.alloc(4 * PAGE_SIZE, {}) ?? expect.fail('no memory');
    const { extents } = before;
    device.port.write(before.address, pattern(4 * PAGE_SIZE), 0, 4 * PAGE_SIZE);
    dmaOps.free(before, 4 * PAGE_SIZE, {});
    const left = new Uint8Array(1);
    b.machine.memory.read(extents[0]?.phys ?? expect.fail('no extent'), left, 0, 1);
    const backing = alloc(4 * PAGE_SIZE);
    expect([pagesOf(backing.extents), left]).toEqual([pagesOf(extents), pattern(1)]);
    const seen = pattern(4 * PAGE_SIZE, 9);
    device.port.read(backing.address, seen, 0, seen.length);
    expect(seen.every((byte) => byte === 0)).toBe(true);
  });

  it('leaves no line of it in the caches of a device that does not snoop', () => {
    const { b, alloc } = scene();
    alloc(PAGE_SIZE);
    const { cleaned, invalidated } = b.machine.coherency.cache.counters;
    expect([cleaned, invalidated]).toEqual([64, 64]);
  });

  it.each([
    [{ coherent: true }, {}, 'cached'],
    [{ coherent: true }, { writeCombine: true }, 'cached'],
    [{}, {}, 'uncached'],
    [{}, { writeCombine: true }, 'write-combined'],
    [{}, { noKernelMapping: true }, 'uncached'],
  ] as const)('for a device %j, asked for with %j, is %s for the CPU', (spec, attrs, attribute) => {
    expect(scene(spec).alloc(PAGE_SIZE, attrs).attribute).toBe(attribute);
  });

  it('for callers that can not wait is one piece: of the coherent pool, or of free pages if the device snoops', () => {
    const b = bench({ atRest: false });
    const coherentPool = new CoherentPool(b.machine.coherency, b.machine.pages, { bytesPerZone: 4 * PAGE_SIZE });
    expect(b.device('gpu', { iommu: true, coherentPool }).dmaOps.alloc(8 * PAGE_SIZE, { atomic: true })).toBeNull();
    for (const coherent of [true, false]) {
      const device = b.device(`dma${coherent}`, { iommu: true, coherent, coherentPool });
      const backing = device.dmaOps.alloc(3 * PAGE_SIZE, { atomic: true }) ?? expect.fail('no memory');
      expect([backing.extents.length, coherentPool.usedBytes]).toEqual([1, coherent ? 0 : 3 * PAGE_SIZE]);
      device.dmaOps.free(backing, 3 * PAGE_SIZE, { atomic: true });
      expect(coherentPool.usedBytes).toBe(0);
    }
  });

  it('comes in blocks of the sizes that the page table knows, or in pages if asked', () => {
    const { device, b, alloc } = scene();
    const leaves = () => [...(device.iommuGroup?.defaultDomain?.pgtable.leaves() ?? [])].length;
    alloc(2 * MIB);
    expect(leaves()).toBe(1);
    alloc(2 * MIB, { allocSinglePages: true });
    const blocks = b.machine.memory.ledger.liveAllocations().filter(({ owner }) => owner === 'gpu coherent');
    expect(blocks.filter(({ bytes }) => bytes === PAGE_SIZE)).toHaveLength(512);
  });

  it('is one piece of memory with forceContiguous: of the CMA area, else of free pages, else there is none', () => {
    const { b, dmaOps, alloc } = scene();
    const { cma } = b.machine;
    expect(alloc(3 * PAGE_SIZE, { forceContiguous: true }).extents).toHaveLength(1);
    expect(cma.usedPages).toBe(3);
    const rest = Array.from({ length: cma.pages - 3 }, () => cma.alloc(1, { owner: 'test' }));
    onTestFinished(() => {
      for (const page of rest) cma.free(page, 1);
    });
    expect(alloc(64 * KIB, { forceContiguous: true }).extents).toHaveLength(1);
    scatterRam(b);
    expect(dmaOps.alloc(2 * MIB, { forceContiguous: true })).toBeNull();
    expect(alloc(2 * PAGE_SIZE).extents).toHaveLength(2);
  });

  it('goes by the coherent mask, which may be narrower than the other, or reach nothing', () => {
    expect(scene({ coherentDmaMaskBits: 24 }).alloc(PAGE_SIZE).address).toBe(2 ** 24 - PAGE_SIZE);
    const { b, dmaOps } = scene({ coherentDmaMaskBits: 0 });
    expect(dmaOps.alloc(PAGE_SIZE, {})).toBeNull();
    expect(b.leftovers()).toEqual([]);
  });

  it.each([
    ['pages', ({ machine }: Bench) => machine.pages.freePageCount() * PAGE_SIZE + PAGE_SIZE],
    ['IO addresses', () => 32 * PAGE_SIZE],
  ])('is refused when there are not enough %s, and nothing is left', (what, sizeOf) => {
    const { b, dmaOps } = scene(what === 'pages' ? {} : { coherentDmaMaskBits: 16 });
    expect(dmaOps.alloc(sizeOf(b), {})).toBeNull();
    expect(b.leftovers()).toEqual([]);
  });

  it('is refused when a table page is missing, and nothing is left', () => {
    const { b, dmaOps } = scene();
    b.machine.memory.failNext = ({ owner }) => owner === 'iommu tables';
    expect(dmaOps.alloc(PAGE_SIZE, {})).toBeNull();
    b.machine.memory.failNext = undefined;
    expect(b.leftovers()).toEqual([]);
  });

  it('can only be freed by the back end that made it', () => {
    const { dmaOps } = scene();
    const foreign: DmaBacking = { address: dmaAddr(0), extents: [], attribute: null };
    expect(() => dmaOps.free(foreign, PAGE_SIZE, {})).toThrow(invariant('of another back end'));
  });
});
