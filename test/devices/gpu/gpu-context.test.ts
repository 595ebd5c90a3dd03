import { describe, expect, it } from 'vitest';
import { physAddr } from '../../../src/base/addr.ts';
import { type GpuAddr, GpuContext } from '../../../src/devices/gpu/gpu-context.ts';
import { dmaMapSgtable } from '../../../src/dma-api/dma-map.ts';
import { SgTable } from '../../../src/dma-api/sg-table.ts';
import { Bench, errnoMessage } from '../bench.ts';

const MIB = 2 ** 20;

/** A mapped table of extents [address, bytes]. */
function mapped(...extents: readonly (readonly [number, number])[]): SgTable {
  const sgt = new SgTable(extents.map(([phys, length]) => ({ phys: physAddr(phys), length })));
  dmaMapSgtable(new Bench().device('gpu0'), sgt, 'bidirectional');
  return sgt;
}

describe('GpuContext', () => {
  it('leads each page of a buffer to its segment, and others nowhere', () => {
    const context = new GpuContext('gpu0/a');
    const va = context.mapBuffer(mapped([0x8000_4000, 8192], [0x8000_0000, 4096 + 100]), { writable: true });
    expect(va).toBe(MIB);
    const at = (offset: number) => context.translate(va + offset);
    expect([at(0), at(8191), at(8192), at(12_288)]).toEqual([0x8000_4000, 0x8000_5fff, 0x8000_0000, 0x8000_1000]);
    expect([at(-1), at(16_384), context.translate(0x8000_4000), context.translate(0)]).toEqual(
      Array(4).fill(undefined),
    );
  });

  it('gives runs up to where device addresses or rights break', () => {
    const context = new GpuContext('gpu0/a');
    const va = context.mapBuffer(mapped([0x8000_4000, 8192], [0x8000_6000, 4096], [0x8000_0000, 4096]), {
      writable: true,
    });
    expect(context.runBytes(va + 10, 1e6)).toBe(12_278);
    expect(context.runBytes(va + 10, 100)).toBe(100);
    expect(context.runBytes(va + 12_288, 1e6)).toBe(4096);
  });

  it('uses the lowest free place again and leaves a page free after each mapping', () => {
    const context = new GpuContext('gpu0/a');
    const two = mapped([0x8000_0000, 8192]);
    const map = () => context.mapBuffer(two, { writable: false });
    const [a, b, c] = [map(), map(), map()];
    expect([a, b, c]).toEqual([MIB, MIB + 3 * 4096, MIB + 6 * 4096]);
    context.unmapBuffer(b);
    expect([context.translate(b), context.translate(c)]).toEqual([undefined, 0x8000_0000]);
    expect([map(), map(), context.mappingCount]).toEqual([b, MIB + 9 * 4096, 4]);
    context.unmapBuffer(a);
    expect(context.mapBuffer(mapped([0x8000_0000, 12_288]), { writable: false })).toBe(MIB + 12 * 4096);
    expect(() => context.unmapBuffer((a + 4096) as GpuAddr)).toThrow('no mapping of gpu0/a begins at');
  });

  it('knows which pages may be written', () => {
    const context = new GpuContext('gpu0/a');
    const fixed = context.mapBuffer(mapped([0x8000_0000, 4096]), { writable: false });
    const free = context.mapBuffer(mapped([0x8000_0000, 4096]), { writable: true });
    expect([fixed, free, free + 4096].map((va) => context.isWritable(va))).toEqual([false, true, false]);
  });

  it('refuses segments that are no whole pages', () => {
    const context = new GpuContext('gpu0/a');
    const map = (sgt: SgTable) => errnoMessage('EINVAL', () => context.mapBuffer(sgt, { writable: true }));
    expect(map(mapped([0x8000_0010, 4096]))).toContain('segment 0 is 4096 bytes at 0x80000010');
    expect(map(mapped([0x8000_0000, 100], [0x8000_1000, 4096]))).toContain('segment 0 is 100 bytes');
    expect(context.mappingCount).toBe(0);
  });
});
