/**
 * How a picture lies in a buffer: its planes, each a number of rows with a distance from row to row.
 *
 * ```
 * NV12  Y: height rows of width bytes | UV: height/2 rows of width bytes, U and V in turn        one stride for both
 * I420  Y: height rows of width bytes | U, then V: height/2 rows of width/2 bytes            chroma: half the stride
 * XR24  height rows of 4 * width bytes: B, G, R, X
 * ```
 *
 * Planes follow each other without a gap.
 *
 * @see Linux 6.1 `include/uapi/drm/drm_fourcc.h`; `Documentation/userspace-api/media/v4l/pixfmt-yuv-planar.rst`
 */
import { ErrnoError } from '../../base/errors.ts';

/** A pixel format by its usual four letters. */
export type PixelFormat = 'NV12' | 'I420' | 'XR24';

/** One plane of a picture, in bytes. */
export interface FramePlane {
  /** From the start of the buffer. */
  readonly offsetBytes: number;
  /** From one row to the next. */
  readonly strideBytes: number;
  /** Used bytes of a row; the rest up to the stride is padding. */
  readonly rowBytes: number;
  readonly rows: number;
}

/** Made by {@link frameLayout}. */
export interface FrameLayout {
  readonly format: PixelFormat;
  /** In pixels. */
  readonly width: number;
  readonly height: number;
  readonly planes: readonly FramePlane[];
  /** Bytes with padding, of all planes: what a buffer has to hold. */
  readonly sizeBytes: number;
  /** Bytes without padding. */
  readonly packedBytes: number;
}

/** Size of a picture in pixels and the distance of its rows. */
export interface FrameSize {
  readonly width: number;
  readonly height: number;
  /** Of the first plane, in bytes. Default: no padding. */
  readonly strideBytes?: number;
}

/**
 * The layout of a picture. Plain.
 *
 * @throws {ErrnoError} `EINVAL` a side that is no whole number > 0, an odd one where chroma is halved, or a stride that is
 *   shorter than a row or can not be halved (never retry).
 */
export function frameLayout(format: PixelFormat, size: FrameSize): FrameLayout {
  const { width, height } = size;
  const chroma = format !== 'XR24';
  for (const [name, pixels] of Object.entries({ width, height })) {
    if (!Number.isSafeInteger(pixels) || pixels <= 0) throw refused(`${name} ${pixels} is no whole number > 0`);
    if (chroma && pixels % 2 !== 0) throw refused(`${name} ${pixels} is odd, which ${format} can not be`);
  }
  const rowBytes = chroma ? width : 4 * width;
  const strideBytes = size.strideBytes ?? rowBytes;
  if (!Number.isSafeInteger(strideBytes) || strideBytes < rowBytes) {
    throw refused(`strideBytes ${strideBytes} is less than the ${rowBytes} bytes of a row`);
  }
  if (format === 'I420' && strideBytes % 2 !== 0) {
    throw refused(`strideBytes ${strideBytes} is odd: the stride of I420's chroma is half of it`);
  }
  const shapes = [{ strideBytes, rowBytes, rows: height }];
  const half = { strideBytes: strideBytes / 2, rowBytes: width / 2, rows: height / 2 };
  if (format === 'NV12') shapes.push({ strideBytes, rowBytes: width, rows: height / 2 });
  if (format === 'I420') shapes.push(half, half);
  let sizeBytes = 0;
  let packedBytes = 0;
  const planes = shapes.map((shape): FramePlane => {
    const plane = { ...shape, offsetBytes: sizeBytes };
    sizeBytes += shape.strideBytes * shape.rows;
    packedBytes += shape.rowBytes * shape.rows;
    return plane;
  });
  return { format, width, height, planes, sizeBytes, packedBytes };
}

/** Copies a picture without padding to its places in `out`; padding stays as it is there. Plain. */
export function spreadRows(packed: Uint8Array, layout: FrameLayout, out: Uint8Array): void {
  let from = 0;
  for (const { offsetBytes, strideBytes, rowBytes, rows } of layout.planes) {
    for (let row = 0; row < rows; row++) {
      out.set(packed.subarray(from, from + rowBytes), offsetBytes + row * strideBytes);
      from += rowBytes;
    }
  }
}

function refused(why: string): ErrnoError {
  return new ErrnoError('EINVAL', 'frameLayout', why);
}
