/**
 * Pictures with 4:2:0 chroma, and their conversion to XRGB8888 as it is done OUTSIDE the simulation, to check it.
 *
 * ```
 * I420  Y: width x height | U: width/2 x height/2 | V: width/2 x height/2      no padding
 * NV12  Y: height rows of strideBytes | UV: height/2 rows of strideBytes, U and V in turn
 * ```
 *
 * Conversion: ITU-R BT.601, limited range (Y 16 to 235, chroma 16 to 240 around 128), in whole numbers, with
 * `c = Y - 16`, `d = U - 128`, `e = V - 128`:
 *
 * ```
 * R = clip((298 c         + 409 e + 128) >> 8)
 * G = clip((298 c - 100 d - 208 e + 128) >> 8)
 * B = clip((298 c + 516 d         + 128) >> 8)
 * ```
 *
 * Each 2x2 block of pixels takes the one chroma sample it has; nothing is interpolated. A pixel is the four bytes
 * B, G, R, 0xff, as `DRM_FORMAT_XRGB8888` lies in memory. Bytes of padding are 0.
 *
 * @see Microsoft, "Recommended 8-Bit YUV Formats for Video Rendering", "Converting 8-bit YUV to RGB888"
 * @see Linux 6.1 `include/uapi/drm/drm_fourcc.h` DRM_FORMAT_NV12, DRM_FORMAT_XRGB8888
 */

/** Size of a picture, in pixels; both even. */
export interface PictureSize {
  readonly width: number;
  readonly height: number;
}

/** Bytes of an NV12 picture of `height` rows with `strideBytes` from row to row, in both planes. */
export function nv12Bytes(height: number, strideBytes: number): number {
  return strideBytes * height * 1.5;
}

/**
 * Packs an I420 picture as NV12 with `strideBytes` from row to row; by default as tight as it goes.
 *
 * @throws {RangeError} odd size, `i420` of another length, or `strideBytes` below the width.
 */
export function packNv12(i420: Uint8Array, size: PictureSize, strideBytes: number = size.width): Uint8Array {
  const { width, height } = size;
  checkPicture('i420', i420, size, width);
  checkStride(strideBytes, width);
  const nv12 = new Uint8Array(nv12Bytes(height, strideBytes));
  const uPlane = width * height;
  const vPlane = uPlane + uPlane / 4;
  for (let y = 0; y < height; y++) {
    nv12.set(i420.subarray(y * width, (y + 1) * width), y * strideBytes);
  }
  for (let y = 0; y < height / 2; y++) {
    for (let x = 0; x < width / 2; x++) {
      const to = (height + y) * strideBytes + 2 * x;
      const from = (y * width) / 2 + x;
      nv12[to] = i420[uPlane + from] as number;
      nv12[to + 1] = i420[vPlane + from] as number;
    }
  }
  return nv12;
}

/**
 * Converts an I420 picture to XRGB8888 with `strideBytes` from row to row; by default as tight as it goes.
 *
 * @throws {RangeError} odd size, `i420` of another length, or `strideBytes` below four times the width.
 */
export function convertI420(i420: Uint8Array, size: PictureSize, strideBytes: number = size.width * 4): Uint8Array {
  const { width, height } = size;
  checkPicture('i420', i420, size, width);
  checkStride(strideBytes, width * 4);
  const xrgb = new Uint8Array(strideBytes * height);
  const uPlane = width * height;
  const vPlane = uPlane + uPlane / 4;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const chroma = Math.floor(y / 2) * (width / 2) + Math.floor(x / 2);
      const luma = i420[y * width + x] as number;
      const u = i420[uPlane + chroma] as number;
      const v = i420[vPlane + chroma] as number;
      putPixel(xrgb, y * strideBytes + x * 4, luma, u, v);
    }
  }
  return xrgb;
}

/**
 * Converts an NV12 picture, `strides.nv12` bytes from row to row, to XRGB8888, `strides.xrgb` bytes from row to row.
 * Gives the bytes that {@link convertI420} gives for the same samples.
 *
 * @throws {RangeError} odd size, `nv12` of another length, or a stride below the row's bytes.
 */
export function convertNv12(
  nv12: Uint8Array,
  size: PictureSize,
  strides: { readonly nv12: number; readonly xrgb: number },
): Uint8Array {
  const { width, height } = size;
  checkStride(strides.nv12, width);
  checkStride(strides.xrgb, width * 4);
  checkPicture('nv12', nv12, size, strides.nv12);
  const xrgb = new Uint8Array(strides.xrgb * height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const chroma = (height + Math.floor(y / 2)) * strides.nv12 + 2 * Math.floor(x / 2);
      const luma = nv12[y * strides.nv12 + x] as number;
      putPixel(xrgb, y * strides.xrgb + x * 4, luma, nv12[chroma] as number, nv12[chroma + 1] as number);
    }
  }
  return xrgb;
}

function putPixel(xrgb: Uint8Array, at: number, y: number, u: number, v: number): void {
  const c = y - 16;
  const d = u - 128;
  const e = v - 128;
  xrgb[at] = clip((298 * c + 516 * d + 128) >> 8);
  xrgb[at + 1] = clip((298 * c - 100 * d - 208 * e + 128) >> 8);
  xrgb[at + 2] = clip((298 * c + 409 * e + 128) >> 8);
  xrgb[at + 3] = 0xff;
}

function clip(value: number): number {
  return Math.min(255, Math.max(0, value));
}

function checkPicture(name: string, bytes: Uint8Array, { width, height }: PictureSize, strideBytes: number): void {
  for (const [side, pixels] of Object.entries({ width, height })) {
    if (!Number.isInteger(pixels) || pixels < 2 || pixels % 2 !== 0) {
      throw new RangeError(`${side} is ${pixels}, an even number from 2 up is needed`);
    }
  }
  const needed = nv12Bytes(height, strideBytes);
  if (bytes.length !== needed) {
    throw new RangeError(`${name} has ${bytes.length} bytes, ${width}x${height} needs ${needed}`);
  }
}

function checkStride(strideBytes: number, rowBytes: number): void {
  if (!Number.isInteger(strideBytes) || strideBytes < rowBytes) {
    throw new RangeError(`strideBytes is ${strideBytes}, a row needs ${rowBytes}`);
  }
}
