/** A blitter with 32 address bits, on a board with 8 GiB: buffers above 4 GiB are rejected. */
import { describe, expect, it } from 'vitest';
import { armSoc, GIB, MIB, SystemHeap } from '../../src/index.ts';
import { failing, reports } from './scene.ts';

/** Maps a buffer of the system heap, or of one whose pages lie below 4 GiB, for the blitter. */
function blit(ramBytes: number, zone: 'NORMAL' | 'DMA32' = 'NORMAL'): string {
  const board = armSoc({ ramBytes, cmaBytes: 4 * MIB, hazards: 'record' });
  const blitter = board.addDevice({ name: 'rga0', coherent: false, dmaMaskBits: 32 });
  const heap = new SystemHeap(board.sim, board.pages, board.coherency, { zone });
  return board.sim.run(function* () {
    const buf = heap.alloc(4096, 'canvas');
    const att = yield* buf.attach(blitter);
    const error = yield* failing(() => att.mapUnlocked('bidirectional'));
    for (const sgt of att.tables.keys()) yield* att.unmapUnlocked(sgt, 'bidirectional');
    yield* buf.detach(att);
    buf.put();
    expect(reports(board.sim)).toEqual([]);
    return error;
  });
}

describe('U-13: "the 2D engine works on the 1 GiB board and fails on the 8 GiB one"', () => {
  it('is refused when the buffer lies above what 32 bits reach, and the error names the address and the limit', () => {
    expect(blit(8 * GIB)).toMatch(/EIO.*ends at 0x1[0-9a-f]{8}, beyond the 32-bit mask of rga0/);
  });

  it('works by luck on the small board, where all memory is in reach', () => {
    expect(blit(1 * GIB)).toBe('none');
  });

  it('works everywhere from a heap of memory below 4 GiB', () => {
    expect([blit(8 * GIB, 'DMA32'), blit(1 * GIB, 'DMA32')]).toEqual(['none', 'none']);
  });
});
