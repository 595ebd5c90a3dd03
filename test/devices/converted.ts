import type { FrameLayout } from '../../src/devices/shared/frame-layout.ts';

/** The conversion pixel by pixel, straight from the formula. */
export function converted(source: Uint8Array, from: FrameLayout, to: FrameLayout): Uint8Array {
  const out = new Uint8Array(to.sizeBytes);
  const [luma, first, second] = from.planes;
  const stride = to.planes[0]?.strideBytes ?? 0;
  const sample = (plane: (typeof from.planes)[number] | undefined, row: number, at: number): number =>
    plane === undefined ? Number.NaN : (source[plane.offsetBytes + row * plane.strideBytes + at] ?? Number.NaN);
  for (let y = 0; y < from.height; y++) {
    for (let x = 0; x < from.width; x++) {
      const [row, at] = [Math.floor(y / 2), Math.floor(x / 2)];
      const c = sample(luma, y, x) - 16;
      const d = (from.format === 'NV12' ? sample(first, row, 2 * at) : sample(first, row, at)) - 128;
      const e = (from.format === 'NV12' ? sample(first, row, 2 * at + 1) : sample(second, row, at)) - 128;
      const rgb = [298 * c + 409 * e, 298 * c - 100 * d - 208 * e, 298 * c + 516 * d];
      const [r, g, b] = rgb.map((sum) => Math.min(255, Math.max(0, Math.floor((sum + 128) / 256))));
      out.set([b ?? 0, g ?? 0, r ?? 0, 0xff], y * stride + 4 * x);
    }
  }
  return out;
}
