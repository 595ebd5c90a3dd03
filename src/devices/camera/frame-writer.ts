/** The camera's DMA engine: brings a picture into the layout of its buffer and writes it there. */
import { assert } from '../../base/assert.ts';
import type { Device } from '../../dma-api/device.ts';
import { type FrameLayout, spreadRows } from '../shared/frame-layout.ts';
import type { SgWindow } from '../shared/sg-window.ts';

/** @internal One for each camera. Plain throughout. */
export class FrameWriter {
  readonly #dev: Device;
  readonly #layout: FrameLayout;
  /** A picture with padding, for sources that give none. */
  #staging: Uint8Array | null = null;

  constructor(dev: Device, layout: FrameLayout) {
    this.#dev = dev;
    this.#layout = layout;
  }

  /**
   * The picture as it lies in memory, until the next one; `null` in tag mode.
   *
   * @throws {InvariantError} the source gave nothing though memory stores bytes, or another size.
   */
  layOut(picture: Uint8Array | null, sequence: number): Uint8Array | null {
    const { name, coherency } = this.#dev;
    if (!coherency.memory.storesBytes) return null;
    assert(picture !== null, '%s: its source gave no bytes for frame %s, but memory stores some', name, sequence);
    const { sizeBytes, packedBytes } = this.#layout;
    const { length } = picture;
    if (length === sizeBytes) return picture;
    assert(
      length === packedBytes,
      '%s: its source gave %s bytes for frame %s, not %s (with padding %s)',
      name,
      length,
      sequence,
      packedBytes,
      sizeBytes,
    );
    this.#staging ??= new Uint8Array(sizeBytes);
    spreadRows(picture, this.#layout, this.#staging);
    return this.#staging;
  }

  /**
   * Writes lines [begin, end) of `picture`, which {@link layOut} gave, with the chroma that belongs to them; all lines as
   * one access.
   *
   * @returns false after a fault.
   */
  writeLines(window: SgWindow, picture: Uint8Array | null, begin: number, end: number): boolean {
    const { height, planes, sizeBytes } = this.#layout;
    if (begin === 0 && end === height) return window.write(0, picture, 0, sizeBytes) === sizeBytes;
    return planes.every(({ offsetBytes, strideBytes, rows }) => {
      const first = Math.floor((begin * rows) / height);
      const at = offsetBytes + first * strideBytes;
      const length = Math.floor((end * rows) / height) * strideBytes - first * strideBytes;
      return window.write(at, picture, at, length) === length;
    });
  }
}
