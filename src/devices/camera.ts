/**
 * A camera with a queue of buffers, as V4L2 has it.
 *
 * ```
 *  sensor --lines--> receiver --> image processor --NV12/I420--> DMA engine --dev.port--> memory
 *  frame timer                                                      |
 *                              queue: oldest QUEUED buffer ---------+
 * ```
 *
 * Rules:
 * 1. A frame starts every `frameRate.denominator / frameRate.numerator` s after stream-on plus `startupNs`, without drift.
 * 2. At its start a frame takes the buffer that has been queued longest; one queued at this very instant is in time.
 *    Without a buffer the frame is dropped and counted.
 * 3. Line `i` of the picture has arrived `(i + 1) * lineTimeNs` after the start. Batches of `linesPerBatch` lines are written
 *    when their last line has arrived; after the last batch the buffer is DONE.
 * 4. There are no fences: V4L2 has none. `dqbuf` is the synchronisation: when it returns, the picture is in memory. The
 *    camera does not look at fences of others either; wait for who still reads a buffer before `qbuf`.
 * 5. A buffer is mapped at its first `qbuf` and stays so until `streamOff` or `releaseBuffer` (`mapping: 'stream'`), or it is
 *    mapped at each `qbuf` and unmapped at each `dqbuf` (`'frame'`, as videobuf2 does).
 *
 * Time and register parameters: {@link CameraParams}.
 *
 * **Inaccuracies.** No exposure, no gain, no rolling-shutter image; the picture is delivered as the source gives it. Padding
 * at the end of rows is written, as zeros, or as the source gives it. Between two batches nothing is written. While no buffer
 * is queued, the camera sleeps: dropped frames are computed, they make no events.
 *
 * @see Linux 6.1 `drivers/media/common/videobuf2/videobuf2-core.c`; `Documentation/userspace-api/media/v4l/dmabuf.rst`
 */

import { assert } from '../base/assert.ts';
import { ErrnoError } from '../base/errors.ts';
import type { Device } from '../dma-api/device.ts';
import type { DmaBuf } from '../dmabuf/dma-buf.ts';
import { Signal } from '../sim/event.ts';
import { Mutex } from '../sim/mutex.ts';
import type { Op } from '../sim/op.ts';
import { settle } from '../sim/settle.ts';
import type { Simulator } from '../sim/simulator.ts';
import type { Task } from '../sim/task.ts';
import { CameraBuffer, type CapturedFrame } from './camera/camera-buffer.ts';
import { type CameraParams, checkCameraParams, type FrameSource } from './camera/camera-params.ts';
import { FrameWriter } from './camera/frame-writer.ts';
import { BufferImport } from './shared/buffer-import.ts';
import { Cadence } from './shared/cadence.ts';
import { ringDoorbell } from './shared/doorbell.ts';
import { type FrameLayout, frameLayout } from './shared/frame-layout.ts';
import { takesAnySegment } from './shared/segment-limit.ts';
import { sleepUntil } from './shared/sleep-until.ts';
import { unwind } from './shared/unwind.ts';

/** How to make a {@link Camera}. */
export interface CameraOptions {
  /** Where its pictures come from. Default: frames without content, without end; for tag mode only. */
  readonly source?: FrameSource;
  /** How long a buffer stays mapped; see rule 5 of this file. Default `'stream'`. */
  readonly mapping?: 'stream' | 'frame';
}

/** One camera. */
export class Camera {
  readonly dev: Device;
  readonly params: CameraParams;
  /** How a picture lies in a buffer. */
  readonly layout: FrameLayout;
  readonly mapping: 'stream' | 'frame';
  readonly #sim: Simulator;
  readonly #source: FrameSource;
  readonly #writer: FrameWriter;
  readonly #buffers: CameraBuffer[] = [];
  readonly #queued: CameraBuffer[] = [];
  readonly #done: CapturedFrame[] = [];
  /** Taken by all calls that change the queue; not held while `dqbuf` waits for a frame. */
  readonly #lock: Mutex;
  /** A buffer came into the queue. */
  readonly #fed: Signal;
  /** A frame is done, or none will ever be. */
  readonly #ready: Signal;
  #buffersMade = 0;
  #engine: Task<void> | null = null;
  #streaming = false;
  #ended = false;
  #cadence: Cadence | null = null;
  /** The first frame whose fate is open. */
  #nextSequence = 0;
  #dropped = 0;

  /** @throws {InvariantError} a parameter out of range. @throws {ErrnoError} `EINVAL` a size or `bytesPerLine` that is none. */
  constructor(dev: Device, params: CameraParams, options: CameraOptions = {}) {
    checkCameraParams(params);
    const { width, height, format, bytesPerLine: strideBytes } = params;
    this.dev = dev;
    takesAnySegment(dev);
    this.params = params;
    this.layout = frameLayout(format, { width, height, ...(strideBytes === undefined ? {} : { strideBytes }) });
    this.mapping = options.mapping ?? 'stream';
    this.#sim = dev.sim;
    this.#source = options.source ?? (() => null);
    this.#writer = new FrameWriter(dev, this.layout);
    this.#lock = new Mutex(dev.sim, `${dev.name} queue`);
    this.#fed = new Signal(dev.sim, `${dev.name} to get a buffer`);
    this.#ready = new Signal(dev.sim, `${dev.name} frame`);
  }

  /** Its buffers, in order of import. */
  get buffers(): readonly CameraBuffer[] {
    return this.#buffers;
  }

  /** Between stream-on and stream-off. */
  get streaming(): boolean {
    return this.#streaming;
  }

  /** The source said `'end'` since the last stream-on. */
  get ended(): boolean {
    return this.#ended;
  }

  /** Frames since stream-on that started and found no buffer. */
  get droppedFrames(): number {
    return this.#dropped + this.#missed();
  }

  /**
   * Makes `buf` one of the camera's buffers: takes a reference and attaches. Waits for the exporter.
   *
   * @throws {ErrnoError} `EINVAL` it is smaller than a frame, both sizes are named (never retry); what the exporter's
   *   `attach` throws. Nothing is left then.
   */
  *importBuffer(buf: DmaBuf): Op<CameraBuffer> {
    const { sizeBytes } = this.layout;
    if (buf.sizeBytes < sizeBytes) {
      const what = `${buf.name} has ${buf.sizeBytes} bytes, a frame of ${this.dev.name} needs ${sizeBytes}`;
      throw new ErrnoError('EINVAL', 'importBuffer', what);
    }
    const imported = yield* BufferImport.open(buf, this.dev, 'from-device');
    const buffer = new CameraBuffer(this.#buffersMade++, imported);
    this.#buffers.push(buffer);
    return buffer;
  }

  /**
   * Gives a buffer up: unmaps, detaches, drops the reference. A picture in it that was not dequeued is forgotten. Waits for
   * the reservation lock and the exporter.
   *
   * @throws {ErrnoError} `EINVAL` not a buffer of this camera (never retry); `EBUSY` the camera still has it (retry after
   *   `dqbuf` or `streamOff`).
   */
  releaseBuffer(buffer: CameraBuffer): Op<void> {
    return this.#lock.withLock(() => this.#drop(buffer));
  }

  /**
   * Hands a buffer to the camera, which will fill it. Waits for the reservation lock and the exporter when it has to be
   * mapped. Works before stream-on. Charges the barrier of a register write, behind which the CPU's writes are in memory.
   *
   * Ownership: the user's before; the camera's after, until {@link dqbuf}.
   *
   * @throws {ErrnoError} `EINVAL` not a buffer of this camera, or not DEQUEUED (never retry); `EFAULT` the camera needs it in
   *   one piece and it is not; what mapping throws. The buffer stays DEQUEUED and unmapped then.
   * @see Linux 6.1 `drivers/media/common/videobuf2/videobuf2-core.c` vb2_core_qbuf
   */
  qbuf(buffer: CameraBuffer): Op<void> {
    return this.#lock.withLock(() => this.#enqueue(buffer));
  }

  /**
   * Waits for the next frame and hands its buffer to the user. This is the synchronisation with the camera: the picture is
   * in memory. A CPU still brackets its access (`buf.beginCpuAccess`).
   *
   * @throws {ErrnoError} `EINVAL` not streaming, or stopped meanwhile (retry after `streamOn`); `EPIPE` the source has ended
   *   and all its frames were dequeued (never retry).
   * @see Linux 6.1 `drivers/media/common/videobuf2/videobuf2-core.c` vb2_core_dqbuf
   */
  *dqbuf(): Op<CapturedFrame> {
    for (;;) {
      if (!this.#streaming) throw new ErrnoError('EINVAL', 'dqbuf', `${this.dev.name} is not streaming`);
      if (this.#done.length > 0) {
        const frame = yield* this.#lock.withLock(() => this.#dequeue());
        if (frame !== null) return frame;
      } else {
        if (this.#ended) throw new ErrnoError('EPIPE', 'dqbuf', `the source of ${this.dev.name} has ended`);
        yield* this.#ready;
      }
    }
  }

  /**
   * Starts the sensor and waits `startupNs`; the first frame starts then, with sequence 0. Does nothing when it streams.
   *
   * @throws {ErrnoError} `EINVAL` there is no buffer (retry after `importBuffer`).
   */
  streamOn(): Op<void> {
    return this.#lock.withLock(() => this.#start());
  }

  /**
   * Stops the sensor, also in the middle of a frame, and returns all buffers to the user, unmapped. Who waits in
   * {@link dqbuf} gets `EINVAL`. Waits for the reservation locks and the exporters. Does nothing when it does not stream.
   *
   * @see Linux 6.1 `drivers/media/common/videobuf2/videobuf2-core.c` vb2_core_streamoff
   */
  streamOff(): Op<void> {
    return this.#lock.withLock(() => this.#halt());
  }

  /** Stops streaming and gives all buffers up. Waits as {@link streamOff}. Nothing is left afterwards. */
  release(): Op<void> {
    return this.#lock.withLock(() =>
      unwind([() => this.#halt(), ...this.#buffers.map((buffer) => () => this.#drop(buffer))]),
    );
  }

  #check(buffer: CameraBuffer, op: string): void {
    if (this.#buffers.includes(buffer)) return;
    throw new ErrnoError('EINVAL', op, `${buffer.buf.name} is no buffer of ${this.dev.name}`);
  }

  *#drop(buffer: CameraBuffer): Op<void> {
    this.#check(buffer, 'releaseBuffer');
    if (buffer.state !== 'DEQUEUED' && buffer.state !== 'DONE') {
      throw new ErrnoError('EBUSY', 'releaseBuffer', `${buffer.buf.name} is ${buffer.state}; dqbuf or streamOff first`);
    }
    const at = this.#done.findIndex((frame) => frame.buffer === buffer);
    if (at >= 0) this.#done.splice(at, 1);
    this.#buffers.splice(this.#buffers.indexOf(buffer), 1);
    yield* buffer.import.close();
  }

  *#enqueue(buffer: CameraBuffer): Op<void> {
    this.#check(buffer, 'qbuf');
    if (buffer.state !== 'DEQUEUED') {
      throw new ErrnoError('EINVAL', 'qbuf', `${buffer.buf.name} is ${buffer.state}, not DEQUEUED`);
    }
    ringDoorbell(this.dev);
    yield* this.#prepare(buffer);
    buffer.state = 'QUEUED';
    if (this.#streaming) this.#takeOn(buffer);
    this.#queued.push(buffer);
    this.#fed.notify();
  }

  /** @returns `null` when another task took the frame first. */
  *#dequeue(): Op<CapturedFrame | null> {
    const frame = this.#done.shift();
    if (frame === undefined) return null;
    frame.buffer.state = 'DEQUEUED';
    if (this.mapping === 'frame') yield* frame.buffer.import.unmap();
    return frame;
  }

  *#start(): Op<void> {
    if (this.#buffers.length === 0) throw new ErrnoError('EINVAL', 'streamOn', `${this.dev.name} has no buffer`);
    if (this.#streaming) return;
    yield* this.#sim.delay(this.params.startupNs);
    const { numerator, denominator } = this.params.frameRate;
    this.#cadence = new Cadence(this.#sim.now, { numeratorNs: 1e9 * denominator, denominator: numerator });
    this.#nextSequence = 0;
    this.#dropped = 0;
    this.#streaming = true;
    this.#ended = false;
    for (const buffer of this.#queued) this.#takeOn(buffer);
    this.#engine = this.#sim.spawn(this.dev.name, () => this.#run(), { daemon: true });
  }

  *#halt(): Op<void> {
    this.#endCounting();
    this.#streaming = false;
    const engine = this.#engine;
    this.#engine = null;
    if (engine !== null) {
      engine.kill();
      yield* engine.exit;
    }
    this.#queued.length = 0;
    this.#done.length = 0;
    for (const buffer of this.#buffers) {
      buffer.state = 'DEQUEUED';
      this.#endWork(buffer);
    }
    this.#ready.notify();
    yield* unwind(this.#buffers.map((buffer) => () => buffer.import.unmap()));
  }

  *#prepare(buffer: CameraBuffer): Op<void> {
    yield* buffer.import.map();
    if (this.params.contiguousOnly !== true) return;
    const { contiguousBytes } = buffer.import.window;
    if (contiguousBytes >= this.layout.sizeBytes) return;
    yield* buffer.import.unmap();
    const what = `contiguous chunk is too small ${contiguousBytes}/${this.layout.sizeBytes} bytes`;
    throw new ErrnoError('EFAULT', 'qbuf', `${buffer.buf.name}: ${what}; use contiguous memory or an IOMMU`);
  }

  /** Filling it is a work, as `activity.ts` has it. */
  #takeOn(buffer: CameraBuffer): void {
    const { coherency, port, name: camera } = this.dev;
    const { name } = buffer.buf;
    if (coherency.activity === null) return;
    const remedy = `dequeue ${name} from ${camera} (dqbuf)`;
    buffer.work = coherency.activity.submit({ accessor: port.accessor, name: `frame in ${name}`, fence: '', remedy });
  }

  #endWork(buffer: CameraBuffer): void {
    this.dev.coherency.activity?.end(buffer.work);
    buffer.work = null;
  }

  /** Frames whose start has passed and whose fate is open: nobody took a buffer for them. */
  #missed(): number {
    if (this.#cadence === null || this.#ended) return 0;
    return Math.max(0, this.#cadence.indexAtOrAfter(this.#sim.now) - this.#nextSequence);
  }

  #endCounting(): void {
    this.#dropped += this.#missed();
    this.#cadence = null;
  }

  *#run(): Op<void> {
    for (;;) {
      yield* settle(this.#sim);
      const cadence = this.#cadence;
      if (cadence === null) return;
      if (this.#queued.length === 0) {
        yield* this.#fed;
        continue;
      }
      const sequence = Math.max(this.#nextSequence, cadence.indexAtOrAfter(this.#sim.now));
      yield* sleepUntil(this.#sim, cadence.at(sequence));
      this.#dropped += sequence - this.#nextSequence;
      this.#nextSequence = sequence + 1;
      const picture = this.#source(sequence);
      if (picture === 'end') break;
      const buffer = this.#queued.shift();
      assert(buffer !== undefined, '%s: its queue lost a buffer', this.dev.name);
      yield* this.#capture(buffer, sequence, this.#writer.layOut(picture, sequence));
    }
    this.#endCounting();
    this.#ended = true;
    this.#ready.notify();
  }

  *#capture(buffer: CameraBuffer, sequence: number, picture: Uint8Array | null): Op<void> {
    const { lineTimeNs, height, linesPerBatch = height } = this.params;
    const startNs = this.#sim.now;
    buffer.state = 'ACTIVE';
    this.dev.coherency.activity?.begin(buffer.work);
    let complete = true;
    for (let line = 0; line < height; line += linesPerBatch) {
      const end = Math.min(height, line + linesPerBatch);
      yield* sleepUntil(this.#sim, startNs + Math.ceil(end * lineTimeNs));
      complete = complete && this.#writer.writeLines(buffer.import.window, picture, line, end);
    }
    yield* settle(this.#sim);
    this.#endWork(buffer);
    buffer.state = 'DONE';
    const bytesUsed = complete ? this.layout.sizeBytes : 0;
    this.#done.push({ buffer, sequence, timestampNs: this.#sim.now, bytesUsed, error: !complete });
    const { trace, now } = this.#sim;
    const { name: device } = this.dev;
    if (trace.enabled) trace.emit({ kind: 'device.frame', timeNs: now, device, stage: 'captured', frame: sequence });
    this.#ready.notify();
  }
}
