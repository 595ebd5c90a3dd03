/**
 * The hardware of the film examples: a small Arm SoC with a camera that films the film, a GPU, a display, and a user process
 * that holds every buffer by fd and has it mapped.
 *
 * ```
 * camera0 --NV12--> captured0..3 (system heap: scattered) --> gpu0 --XRGB--> converted0..2 (contiguous) --> display0
 *   behind the IOMMU                                    behind the IOMMU                             no IOMMU
 * ```
 */
import {
  alignUp,
  armSoc,
  Camera,
  type CameraBuffer,
  type CapturedFrame,
  Display,
  type DmaBuf,
  ErrnoError,
  type Framebuffer,
  type FrameLayout,
  frameLayout,
  Gpu,
  type GpuBuffer,
  type HeapBuffer,
  KIB,
  type Machine,
  MIB,
  type Op,
  type Process,
  reducedBlankingMode,
  type ScanoutFrame,
  type UserMapping,
  videoCore6,
} from '../../src/index.ts';
import { packNv12 } from './i420.ts';
import type { Film } from './y4m.ts';

/** Strides are multiples of so many bytes, which is also the size of a cache line. */
const STRIDE_ALIGN_BYTES = 64;
const CAPTURED_BUFFERS = 4;
const CONVERTED_BUFFERS = 3;
/** The last-level cache holds a little more than the luma of all captured buffers: some lines stay, some go. */
const CACHE_PER_LUMA = 1.5 * CAPTURED_BUFFERS;
const SMALLEST_CACHE_BYTES = 256 * KIB;
const LARGEST_CACHE_BYTES = 32 * MIB;
/** A frame is read out in this share of its time. */
const READOUT_SHARE = 0.8;
const STARTUP_NS = 1_000_000;

/** A buffer as the user process holds it. */
export interface UserBuffer {
  readonly buf: DmaBuf<HeapBuffer>;
  readonly fd: number;
  readonly pixels: UserMapping;
  readonly gpu: GpuBuffer;
}

/** What the camera fills. */
export interface CapturedBuffer extends UserBuffer {
  readonly camera: CameraBuffer;
}

/** What the GPU draws and the display shows. */
export interface ConvertedBuffer extends UserBuffer {
  readonly framebuffer: Framebuffer;
}

/** Everything, wired and streaming. */
export interface Rig {
  readonly soc: Machine;
  readonly app: Process;
  readonly camera: Camera;
  readonly gpu: Gpu;
  readonly display: Display;
  /** How the camera's and the GPU's pictures lie in memory. */
  readonly nv12: FrameLayout;
  readonly xrgb: FrameLayout;
  /** From row to row, in bytes. */
  readonly strides: { readonly nv12: number; readonly xrgb: number };
  /** The buffer that the camera knows by `index`. */
  captured(index: number): CapturedBuffer;
  /** The buffer for the `n`th frame that is shown: they take turns. */
  converted(n: number): ConvertedBuffer;
  /** Time from one refresh of the display to the next, in ns. */
  readonly refreshNs: number;
}

/** Bytes from row to row of the pictures that the display shows. */
export function xrgbStride(film: Film): number {
  return alignUp(film.width * 4, STRIDE_ALIGN_BYTES);
}

/** A power of two. */
function cacheBytesFor({ width, height }: Film): number {
  const wanted = 2 ** Math.ceil(Math.log2(width * height * CACHE_PER_LUMA));
  return Math.min(LARGEST_CACHE_BYTES, Math.max(SMALLEST_CACHE_BYTES, wanted));
}

/** Makes the machine and its devices. Nothing runs yet. */
export function makeRig(film: Film, onScanout: (frame: ScanoutFrame) => undefined) {
  const { width, height, framesPerSecond } = film;
  const { num, den } = framesPerSecond;
  const soc = armSoc({ hazards: 'record', cacheBytes: cacheBytesFor(film) });
  const strides = { nv12: alignUp(width, STRIDE_ALIGN_BYTES), xrgb: xrgbStride(film) };
  const nv12 = frameLayout('NV12', { width, height, strideBytes: strides.nv12 });
  const xrgb = frameLayout('XR24', { width, height, strideBytes: strides.xrgb });
  const camera = new Camera(
    soc.addDevice({ name: 'camera0', coherent: false, iommu: true }),
    {
      ...{ width, height, format: 'NV12', bytesPerLine: strides.nv12, startupNs: STARTUP_NS },
      frameRate: { numerator: num, denominator: den },
      lineTimeNs: Math.floor((READOUT_SHARE * 1e9 * den) / (num * height)),
    },
    { source: (index) => (index < film.frameCount ? packNv12(film.readFrame(index), film) : 'end') },
  );
  const gpu = new Gpu(soc.addDevice({ name: 'gpu0', coherent: false, iommu: true }), videoCore6);
  const refreshHz = Math.max(60, Math.ceil((2 * num) / den));
  const display = new Display(
    soc.addDevice({ name: 'display0', coherent: false }),
    { mode: reducedBlankingMode(width, height, refreshHz), strideAlignBytes: STRIDE_ALIGN_BYTES },
    { onScanout },
  );
  const app = soc.addProcess({ name: 'app' });
  return { soc, app, camera, gpu, display, nv12, xrgb, strides, refreshNs: Math.ceil(1e9 / refreshHz) };
}

/** Allocates the buffers, gives each to the process and to its devices, and starts camera and display. */
export function* startRig(parts: ReturnType<typeof makeRig>): Op<Rig> {
  const { soc, camera, display, nv12, xrgb, strides } = parts;
  const captured: CapturedBuffer[] = [];
  for (let i = 0; i < CAPTURED_BUFFERS; i++) {
    const buf = soc.systemHeap.alloc(nv12.sizeBytes, `captured${i}`);
    const shared = yield* share(parts, buf, 'read');
    captured.push({ ...shared, camera: yield* camera.importBuffer(buf) });
  }
  const converted: ConvertedBuffer[] = [];
  const { width, height } = xrgb;
  for (let i = 0; i < CONVERTED_BUFFERS; i++) {
    const buf = soc.cmaHeap.alloc(xrgb.sizeBytes, `converted${i}`);
    const format = { width, height, strideBytes: strides.xrgb, format: 'XR24' } as const;
    const shared = yield* share(parts, buf, 'write');
    converted.push({ ...shared, framebuffer: yield* display.importFramebuffer(buf, format) });
  }
  for (const { camera: buffer } of captured) yield* camera.qbuf(buffer);
  display.enable();
  yield* camera.streamOn();
  return {
    ...parts,
    captured: (index) => captured[index] as CapturedBuffer,
    converted: (n) => converted[n % CONVERTED_BUFFERS] as ConvertedBuffer,
  };
}

/** The next captured frame, or `null` when the film is over. */
export function* nextFrame(camera: Camera): Op<CapturedFrame | null> {
  try {
    return yield* camera.dqbuf();
  } catch (error) {
    if (error instanceof ErrnoError && error.code === 'EPIPE') return null;
    throw error;
  }
}

/** Stops everything and gives everything back. */
export function* stopRig({ camera, gpu, display, app }: Rig): Op<void> {
  yield* camera.release();
  yield* gpu.release();
  yield* display.release();
  app.exit();
}

/** The process gets the buffer as an fd (which now owns it) and maps it; the GPU imports it. */
function* share(parts: ReturnType<typeof makeRig>, buf: DmaBuf<HeapBuffer>, access: 'read' | 'write'): Op<UserBuffer> {
  const fd = parts.app.fds.install(buf);
  const pixels = yield* parts.app.mmap(fd);
  const gpu = yield* parts.gpu.importBuffer(buf, { access });
  return { buf, fd, pixels, gpu };
}
