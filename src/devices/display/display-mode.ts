/** The timing of a video mode, and some modes. */
import { assert } from '../../base/assert.ts';
import type { Period } from '../shared/cadence.ts';

/**
 * One video mode. The line and the frame are longer than what is shown: the rest is blanking.
 *
 * @see Linux 6.1 `include/drm/drm_modes.h` struct drm_display_mode
 */
export interface DisplayMode {
  readonly pixelClockKhz: number;
  /** Pixels shown in a line, and pixel clocks of a whole line. */
  readonly hdisplay: number;
  readonly htotal: number;
  /** Lines shown in a frame, and lines of a whole frame. */
  readonly vdisplay: number;
  readonly vtotal: number;
}

/** 1280x720 at exactly 60 Hz. @see CTA-861 VIC 4 */
export const vic4: DisplayMode = { pixelClockKhz: 74_250, hdisplay: 1280, htotal: 1650, vdisplay: 720, vtotal: 750 };

/** 1920x1080 at exactly 60 Hz. @see CTA-861 VIC 16 */
export const vic16: DisplayMode = {
  pixelClockKhz: 148_500,
  hdisplay: 1920,
  htotal: 2200,
  vdisplay: 1080,
  vtotal: 1125,
};

/** 3840x2160 at exactly 60 Hz. @see CTA-861 VIC 97 */
export const vic97: DisplayMode = {
  pixelClockKhz: 594_000,
  hdisplay: 3840,
  htotal: 4400,
  vdisplay: 2160,
  vtotal: 2250,
};

/** Pixel clocks of horizontal blanking in a mode with reduced blanking. */
const REDUCED_HBLANK = 160;
/** Least vertical blanking in such a mode, in us. */
const REDUCED_VBLANK_US = 460;

/**
 * A mode of any size with reduced blanking. Plain. The pixel clock is rounded to whole kHz, so the rate is right to about
 * one in a hundred thousand. Real VESA modes also round the clock down to 250 kHz and the width to 8 pixels.
 *
 * @throws {InvariantError} a size or rate that is no whole number > 0, or a rate without time for lines.
 * @see VESA Coordinated Video Timings 1.2, "CVT-RB"
 */
export function reducedBlankingMode(hdisplay: number, vdisplay: number, refreshHz: number): DisplayMode {
  for (const [name, value] of Object.entries({ hdisplay, vdisplay, refreshHz })) {
    assert(Number.isInteger(value) && value > 0, 'reducedBlankingMode: %s %s is no whole number > 0', name, value);
  }
  const lineUs = (1e6 / refreshHz - REDUCED_VBLANK_US) / vdisplay;
  assert(lineUs > 0, 'reducedBlankingMode: %s Hz leave no time for lines', refreshHz);
  const vtotal = vdisplay + Math.floor(REDUCED_VBLANK_US / lineUs) + 1;
  const htotal = hdisplay + REDUCED_HBLANK;
  const pixelClockKhz = Math.max(1, Math.round((htotal * vtotal * refreshHz) / 1000));
  return { pixelClockKhz, hdisplay, htotal, vdisplay, vtotal };
}

/** The time of a whole frame. @internal */
export function framePeriod({ htotal, vtotal, pixelClockKhz }: DisplayMode): Period {
  return { numeratorNs: htotal * vtotal * 1e6, denominator: pixelClockKhz };
}

/** From the start of a frame to its line `line`: first the blanking, then the lines that are shown. @internal */
export function lineOffsetNs({ htotal, vdisplay, vtotal, pixelClockKhz }: DisplayMode, line: number): number {
  return Math.floor(((vtotal - vdisplay + line) * htotal * 1e6) / pixelClockKhz);
}

/** @internal @throws {InvariantError} no whole numbers > 0, or a total that leaves no blanking. */
export function checkMode(mode: DisplayMode): void {
  for (const [name, value] of Object.entries(mode)) {
    assert(Number.isSafeInteger(value) && value > 0, 'mode: %s %s is no whole number > 0', name, value);
  }
  const { hdisplay, htotal, vdisplay, vtotal } = mode;
  assert(htotal > hdisplay, 'mode: htotal %s is not above hdisplay %s', htotal, hdisplay);
  assert(vtotal > vdisplay, 'mode: vtotal %s is not above vdisplay %s', vtotal, vdisplay);
}
