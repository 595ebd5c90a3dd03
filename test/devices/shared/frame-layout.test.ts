import { describe, expect, it } from 'vitest';
import { frameLayout, spreadRows } from '../../../src/devices/shared/frame-layout.ts';
import { errnoMessage } from '../bench.ts';

describe('frameLayout', () => {
  it('places the two planes of NV12 with one stride', () => {
    expect(frameLayout('NV12', { width: 6, height: 4, strideBytes: 8 })).toEqual({
      format: 'NV12',
      width: 6,
      height: 4,
      sizeBytes: 48,
      packedBytes: 36,
      planes: [
        { offsetBytes: 0, strideBytes: 8, rowBytes: 6, rows: 4 },
        { offsetBytes: 32, strideBytes: 8, rowBytes: 6, rows: 2 },
      ],
    });
  });

  it('places the three planes of I420, chroma with half the stride', () => {
    const { planes, sizeBytes } = frameLayout('I420', { width: 6, height: 4, strideBytes: 8 });
    expect(sizeBytes).toBe(48);
    expect(planes.slice(1)).toEqual([
      { offsetBytes: 32, strideBytes: 4, rowBytes: 3, rows: 2 },
      { offsetBytes: 40, strideBytes: 4, rowBytes: 3, rows: 2 },
    ]);
  });

  it('has no padding by default', () => {
    expect(frameLayout('XR24', { width: 3, height: 5 }).sizeBytes).toBe(60);
    expect(frameLayout('NV12', { width: 1920, height: 1080 }).sizeBytes).toBe(3_110_400);
  });

  it('refuses sides and strides that are none, with both numbers', () => {
    const refused = (format: 'NV12' | 'I420' | 'XR24', width: number, height: number, strideBytes?: number) =>
      errnoMessage('EINVAL', () => frameLayout(format, { width, height, ...(strideBytes && { strideBytes }) }));
    expect(refused('XR24', 0, 2)).toContain('width 0');
    expect(refused('XR24', 2, 2.5)).toContain('height 2.5');
    expect(refused('NV12', 7, 4)).toContain('width 7 is odd');
    expect(refused('NV12', 8, 3)).toContain('height 3 is odd');
    expect(refused('XR24', 4, 4, 15)).toContain('strideBytes 15 is less than the 16 bytes');
    expect(refused('I420', 6, 4, 7)).toContain('strideBytes 7 is odd');
  });
});

describe('spreadRows', () => {
  it('puts each row of each plane at its place and leaves padding alone', () => {
    const layout = frameLayout('I420', { width: 4, height: 2, strideBytes: 6 });
    const out = new Uint8Array(layout.sizeBytes).fill(0xee);
    spreadRows(
      Uint8Array.from({ length: 12 }, (_, i) => i),
      layout,
      out,
    );
    const pad = 0xee;
    expect([...out]).toEqual([0, 1, 2, 3, pad, pad, 4, 5, 6, 7, pad, pad, 8, 9, pad, 10, 11, pad]);
  });
});
