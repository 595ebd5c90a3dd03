/** What a display is made of, and its presets. */
import { assert } from '../../base/assert.ts';
import { checkMode, type DisplayMode, vic16 } from './display-mode.ts';

/** Time and register parameters of a `Display`. */
export interface DisplayParams {
  readonly mode: DisplayMode;
  /** A framebuffer's stride is a multiple of this many bytes. */
  readonly strideAlignBytes: number;
  /** Lines that are fetched at once. Default: all, when the first one is due. */
  readonly linesPerBatch?: number;
  /** The panel shows the last frame again by itself, so each frame is fetched once. Default true; see `display.ts`. */
  readonly selfRefresh?: boolean;
}

/** 1920x1080 at exactly 60 Hz over HDMI; strides of 64 bytes (assumed: one burst). */
export const hdmi1080p60: DisplayParams = { mode: vic16, strideAlignBytes: 64 };

/** @internal @throws {InvariantError} a parameter out of its range, named. */
export function checkDisplayParams({ mode, strideAlignBytes, linesPerBatch = 1 }: DisplayParams): void {
  checkMode(mode);
  for (const [name, value] of Object.entries({ strideAlignBytes, linesPerBatch })) {
    assert(Number.isInteger(value) && value > 0, '%s: %s is no whole number > 0', name, value);
  }
}
