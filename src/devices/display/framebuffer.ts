/** A buffer that a display can show. */
import { ErrnoError } from '../../base/errors.ts';
import type { DmaBuf } from '../../dmabuf/dma-buf.ts';
import type { BufferImport } from '../shared/buffer-import.ts';
import type { DisplayParams } from './display-params.ts';

/** How a picture lies in a buffer. @see Linux 6.1 `include/uapi/drm/drm_mode.h` struct drm_mode_fb_cmd2 */
export interface FramebufferFormat {
  /** In pixels; the display does not scale. */
  readonly width: number;
  readonly height: number;
  /** From row to row, in bytes. */
  readonly strideBytes: number;
  /** XRGB8888: the bytes B, G, R, X. */
  readonly format: 'XR24';
}

/** Made by `display.importFramebuffer`. */
export class Framebuffer {
  readonly buf: DmaBuf;
  readonly format: FramebufferFormat;
  /** @internal */
  readonly import: BufferImport;

  /** @internal */
  constructor(imported: BufferImport, format: FramebufferFormat) {
    this.buf = imported.buf;
    this.import = imported;
    this.format = format;
  }

  /** Bytes of the picture with padding. */
  get sizeBytes(): number {
    return this.format.strideBytes * this.format.height;
  }
}

/** @internal @throws {ErrnoError} `EINVAL` with what there is and what is needed. */
export function checkFormat(params: DisplayParams, buf: DmaBuf, format: FramebufferFormat): void {
  const problem = formatProblem(params, buf, format);
  if (problem !== null) throw new ErrnoError('EINVAL', 'importFramebuffer', `${buf.name}: ${problem}`);
}

function formatProblem(
  { mode, strideAlignBytes }: DisplayParams,
  buf: DmaBuf,
  format: FramebufferFormat,
): string | null {
  const { width, height, strideBytes } = format;
  if (format.format !== 'XR24') return `format ${format.format}; it shows XR24`;
  if (width !== mode.hdisplay || height !== mode.vdisplay) {
    return `${width}x${height}; its mode is ${mode.hdisplay}x${mode.vdisplay}`;
  }
  if (strideBytes < 4 * width) return `strideBytes ${strideBytes} is less than the ${4 * width} bytes of a row`;
  if (strideBytes % strideAlignBytes !== 0) return `strideBytes ${strideBytes} is no multiple of ${strideAlignBytes}`;
  const needed = strideBytes * height;
  return buf.sizeBytes < needed ? `it has ${buf.sizeBytes} bytes, the picture needs ${needed}` : null;
}

/** @internal @throws {ErrnoError} `EINVAL` the mapped buffer is not in one piece for the device. */
export function checkContiguous(imported: BufferImport, neededBytes: number): void {
  const { contiguousBytes, runs } = imported.window;
  if (contiguousBytes >= neededBytes) return;
  const what = `${runs} separate segments, the first of ${contiguousBytes} bytes; scanout needs ${neededBytes} in one`;
  const remedy = 'allocate contiguous memory or put the display behind an IOMMU';
  throw new ErrnoError('EINVAL', 'importFramebuffer', `${imported.buf.name}: ${what}: ${remedy}`);
}
