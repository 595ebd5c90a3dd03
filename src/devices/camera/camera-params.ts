/** What a camera is made of, its presets, and where its pictures come from. */
import { assert } from '../../base/assert.ts';

/** Time and register parameters of a {@link Camera}. */
export interface CameraParams {
  /** Size of the pictures it delivers, in pixels; both even. */
  readonly width: number;
  readonly height: number;
  readonly format: 'NV12' | 'I420';
  /** From row to row of the first plane, in bytes. Default: no padding. */
  readonly bytesPerLine?: number;
  /** Frames in so many seconds, exactly: `{ numerator: 30000, denominator: 1001 }` a second. */
  readonly frameRate: { readonly numerator: number; readonly denominator: number };
  /** Time in which one line of the picture arrives, in ns; a fraction is allowed. All lines must fit into a frame. */
  readonly lineTimeNs: number;
  /** From stream-on to the start of the first frame, in ns. */
  readonly startupNs: number;
  /** Lines that are written to memory at once; even. Default: all, at the end of the frame. */
  readonly linesPerBatch?: number;
  /** Its DMA engine has one address register: a buffer must be one run as the device sees it. Default false. */
  readonly contiguousOnly?: boolean;
}

/**
 * Sony IMX219 in its 1920x1080 mode at 30 frames a second, behind a receiver and an image processor that deliver NV12.
 *
 * A line of 3448 pixel clocks at 182.4 MHz takes 18904 ns; power-up takes 6.2 ms (both from the sensor's public register
 * description as the Linux driver restates it). The rate is the nominal one: the mode's 1763 lines a frame make 30.005.
 *
 * @see Linux 6.1 `drivers/media/i2c/imx219.c`
 */
export const imx219: CameraParams = {
  width: 1920,
  height: 1080,
  format: 'NV12',
  frameRate: { numerator: 30, denominator: 1 },
  lineTimeNs: 18904,
  startupNs: 6_200_000,
};

/**
 * Gives the picture of frame `sequence` when its readout begins. Plain.
 *
 * Bytes: the picture without padding, or laid out as in memory with it. They are used until the frame is done.
 * `null`: a frame without content, where memory holds no bytes (tag mode).
 * `'end'`: the film is over; no further frame is captured.
 */
export type FrameSource = (sequence: number) => Uint8Array | null | 'end';

/** @internal @throws {InvariantError} a parameter out of its range, named. */
export function checkCameraParams(params: CameraParams): void {
  const { frameRate, lineTimeNs, startupNs, height, linesPerBatch = height } = params;
  for (const [name, value] of Object.entries(frameRate)) {
    assert(Number.isSafeInteger(value) && value > 0, 'frameRate.%s: %s is no whole number > 0', name, value);
  }
  assert(Number.isSafeInteger(startupNs) && startupNs >= 0, 'startupNs: %s is no whole number >= 0', startupNs);
  assert(
    Number.isInteger(linesPerBatch) && linesPerBatch > 0 && linesPerBatch % 2 === 0,
    'linesPerBatch: %s is no even number > 0',
    linesPerBatch,
  );
  const periodNs = (1e9 * frameRate.denominator) / frameRate.numerator;
  const readoutNs = Math.ceil(height * lineTimeNs);
  assert(
    lineTimeNs >= 0 && readoutNs <= periodNs,
    'lineTimeNs: %s lines of %s ns do not fit into a frame of %s ns',
    height,
    lineTimeNs,
    periodNs,
  );
}
