/**
 * The built-in job: reads an NV12 or I420 picture and writes it as XRGB8888, batch by batch: read, compute, write. What a
 * batch reads is read when its time begins, what it writes is written when its time is over.
 *
 * **Inaccuracies.** Rows are moved with their padding; the padding of what is written is zeros.
 */
import { assert } from '../../base/assert.ts';
import { ErrnoError } from '../../base/errors.ts';
import type { Op } from '../../sim/op.ts';
import type { Simulator } from '../../sim/simulator.ts';
import type { FrameLayout, FramePlane } from '../shared/frame-layout.ts';
import type { GpuAddr } from './gpu-context.ts';
import type { GpuBuffer } from './gpu-job.ts';
import type { GpuMemory } from './gpu-memory.ts';
import type { GpuParams } from './gpu-params.ts';
import { type ChromaRows, convertRows } from './yuv-to-rgb.ts';

/** How the two pictures of a conversion lie in their buffers. */
export interface Conversion {
  /** NV12 or I420. */
  readonly source: FrameLayout;
  /** XR24 of the same size; its stride is a multiple of 4. */
  readonly target: FrameLayout;
  /** Number of the frame in traces. Default: the fence's sequence number. */
  readonly frame?: number;
}

/** Host memory for one batch, used again by each job. @internal */
export class ConvertScratch {
  #yuv = new Uint8Array(0);
  #pixels = new Int32Array(0);
  #stride = 0;

  /** At least `bytes` bytes, with whatever was in them. */
  yuv(bytes: number): Uint8Array {
    if (this.#yuv.length < bytes) this.#yuv = new Uint8Array(bytes);
    return this.#yuv;
  }

  /** At least `count` pixels in rows of `stride`; what lies between rows is 0, whatever was converted before. */
  pixels(count: number, stride: number): Int32Array {
    if (this.#pixels.length < count || this.#stride !== stride) this.#pixels = new Int32Array(count);
    this.#stride = stride;
    return this.#pixels;
  }
}

/** @internal What a conversion works with. */
export interface ConvertPlan {
  readonly src: GpuBuffer;
  readonly dst: GpuBuffer;
  readonly source: FrameLayout;
  readonly target: FrameLayout;
  readonly params: GpuParams;
  readonly scratch: ConvertScratch;
}

/** @internal @throws {ErrnoError} `EINVAL` formats, sizes or contexts that do not go together; both sides are named. */
export function checkConversion(src: GpuBuffer, dst: GpuBuffer, { source, target }: Conversion): void {
  const problem = conversionProblem(src, dst, source, target);
  if (problem !== null) throw new ErrnoError('EINVAL', 'submitConvert', problem);
}

function conversionProblem(src: GpuBuffer, dst: GpuBuffer, source: FrameLayout, target: FrameLayout): string | null {
  if (source.format === 'XR24' || target.format !== 'XR24') {
    return `from ${source.format} to ${target.format}; from NV12 or I420 to XR24 is possible`;
  }
  if (source.width !== target.width || source.height !== target.height) {
    return `from ${source.width}x${source.height} to ${target.width}x${target.height}; it does not scale`;
  }
  const stride = firstPlane(target).strideBytes;
  if (stride % 4 !== 0) return `the target's strideBytes ${stride} is no multiple of 4`;
  if (src.buf.sizeBytes < source.sizeBytes) {
    return `${src.buf.name} has ${src.buf.sizeBytes} bytes, its picture needs ${source.sizeBytes}`;
  }
  if (dst.buf.sizeBytes < target.sizeBytes) {
    return `${dst.buf.name} has ${dst.buf.sizeBytes} bytes, its picture needs ${target.sizeBytes}`;
  }
  if (src.context !== dst.context) return `source in context ${src.context.name}, target in ${dst.context.name}`;
  return null;
}

/** @internal The work itself. */
export function* runConversion(sim: Simulator, memory: GpuMemory, plan: ConvertPlan): Op<void> {
  const { source, target, params } = plan;
  const { height, width } = source;
  const rowsPerBatch = Math.min(height, params.rowsPerBatch ?? height);
  for (let row = 0; row < height && memory.fault === null; row += rowsPerBatch) {
    const rows = Math.min(rowsPerBatch, height - row);
    const yuv = memory.storesBytes ? plan.scratch.yuv(source.sizeBytes) : null;
    let bytes = 0;
    for (const plane of source.planes) bytes += readRows(memory, plan, plane, row, rows, yuv);
    const { strideBytes } = firstPlane(target);
    const pixels = yuv === null ? null : shade(plan, yuv, row, rows);
    bytes += rows * strideBytes;
    yield* sim.delay(Math.ceil(Math.max(rows * width * params.pixelNs, bytes / params.bytesPerNs)));
    const out = pixels === null ? null : new Uint8Array(pixels.buffer);
    memory.write((plan.dst.gpuVa + row * strideBytes) as GpuAddr, out, 0, rows * strideBytes);
  }
}

/** Reads the part of `plane` that belongs to rows [row, row + rows) of the picture, to the same place in `yuv`. */
function readRows(
  memory: GpuMemory,
  plan: ConvertPlan,
  plane: FramePlane,
  row: number,
  rows: number,
  yuv: Uint8Array | null,
): number {
  const share = plane.rows / plan.source.height;
  const at = plane.offsetBytes + row * share * plane.strideBytes;
  const length = rows * share * plane.strideBytes;
  memory.read((plan.src.gpuVa + at) as GpuAddr, yuv, at, length);
  return length;
}

function shade({ source, target, scratch }: ConvertPlan, yuv: Uint8Array, row: number, rows: number): Int32Array {
  const luma = firstPlane(source);
  const stride = firstPlane(target).strideBytes / 4;
  const pixels = scratch.pixels(rows * stride, stride);
  const offset = luma.offsetBytes + row * luma.strideBytes;
  const rowsOfLuma = { bytes: yuv, offset, strideBytes: luma.strideBytes };
  convertRows(source.width, rows, rowsOfLuma, chromaRows(source, row), { pixels, stride });
  return pixels;
}

function chromaRows({ planes }: FrameLayout, row: number): ChromaRows {
  const [, first, second] = planes;
  assert(first !== undefined, 'convert: a picture without chroma');
  const { strideBytes } = first;
  const down = (row / 2) * strideBytes;
  const u = first.offsetBytes + down;
  return second === undefined
    ? { u, v: u + 1, step: 2, strideBytes }
    : { u, v: second.offsetBytes + down, step: 1, strideBytes };
}

function firstPlane(layout: FrameLayout): FramePlane {
  const [plane] = layout.planes;
  assert(plane !== undefined, 'layout: a picture without planes');
  return plane;
}
