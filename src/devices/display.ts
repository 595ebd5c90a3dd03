/**
 * A display controller: one plane that covers the screen, flipped at vertical blanks.
 *
 * ```
 *  pageFlip: wait for fences --> latch at the next vblank --> CRTC --lines--> panel
 *                                                              |
 *                       vblank timer                        scanout: dev.port --> memory (one piece)
 *
 *  frame n:  | blanking: vtotal - vdisplay lines | line 0 | line 1 | ... | line vdisplay-1 |
 *            ^ vblank n: latch                   ^ fetch begins                             ^ vblank n + 1
 * ```
 *
 * Rules:
 * 1. Vblank 0 is at {@link Display.enable}; vblank `n` is `n` frame times later, without drift.
 * 2. A flip waits for the fences that were on the buffer when it was asked for: the writers. An explicit fence takes the
 *    place of all but the buffer's moves (KERNEL fences). Then it latches at the next vblank; what is ready at the very instant of a vblank is too late for it.
 * 3. Until then the old framebuffer is shown. Once latched, the old one is not read any more.
 * 4. One flip can be pending. It goes on when the task that asked for it is killed.
 * 5. The display leaves no fences of its own: who draws into a buffer again waits for the flip away from it.
 * 6. Scanout fetches lines when they are due, in batches of `linesPerBatch`. A frame with a batch that faults, or that is not
 *    over at the next vblank, is an underrun; a flip that is latched then cuts it off.
 *
 * Time and register parameters: {@link DisplayParams}.
 *
 * **Inaccuracies.** One plane, no scaling, no cursor, XRGB8888 only. With `selfRefresh` (the default, as panels with a memory
 * do) a frame is fetched once, in the frame time after its latch, and a still picture makes no events; without it every
 * refresh fetches, as long as the display is enabled. No FIFO: a batch is fetched in no time but what the port charges.
 *
 * @see Linux 6.1 `drivers/gpu/drm/drm_vblank.c`, `drm_atomic_helper.c`; `Documentation/gpu/drm-kms.rst`
 */

import { assert } from '../base/assert.ts';
import { ErrnoError } from '../base/errors.ts';
import type { Work } from '../cache/activity.ts';
import type { Device } from '../dma-api/device.ts';
import type { DmaBuf } from '../dmabuf/dma-buf.ts';
import type { DmaFence } from '../dmabuf/dma-fence.ts';
import { DmaResvUsage, usageToWaitFor } from '../dmabuf/dma-resv.ts';
import { Event } from '../sim/event.ts';
import type { Op } from '../sim/op.ts';
import { settle } from '../sim/settle.ts';
import type { Simulator } from '../sim/simulator.ts';
import type { Task } from '../sim/task.ts';
import { framePeriod, lineOffsetNs } from './display/display-mode.ts';
import { checkDisplayParams, type DisplayParams } from './display/display-params.ts';
import { checkContiguous, checkFormat, Framebuffer, type FramebufferFormat } from './display/framebuffer.ts';
import { BufferImport } from './shared/buffer-import.ts';
import { Cadence } from './shared/cadence.ts';
import { ringDoorbell } from './shared/doorbell.ts';
import { takesAnySegment } from './shared/segment-limit.ts';
import { sleepUntil } from './shared/sleep-until.ts';
import { unwind } from './shared/unwind.ts';

/** One frame as it went to the panel. */
export interface ScanoutFrame {
  readonly framebuffer: Framebuffer;
  /** The vblank it began with, and when that was, in ns. */
  readonly sequence: number;
  readonly timestampNs: number;
  /** What was fetched, with padding; used again for the next frame, so copy what you keep. `null` in tag mode. */
  readonly bytes: Uint8Array | null;
  /** A part could not be fetched, or came too late; `bytes` has the frame before there. */
  readonly underrun: boolean;
}

/** How to make a {@link Display}. */
export interface DisplayOptions {
  /** Called when the last line of a frame was fetched. Can not wait. */
  readonly onScanout?: (frame: ScanoutFrame) => undefined;
}

/** How to flip. */
export interface FlipOptions {
  /** Wait for this fence and for the buffer's moves (KERNEL fences), not for its writers. Its error does not matter. */
  readonly inFence?: DmaFence;
  /** Number of the frame in traces. Default: the vblank's. */
  readonly frame?: number;
}

/** When a flip was latched. */
export interface FlipDone {
  readonly vblankSequence: number;
  readonly timestampNs: number;
}

interface Shown {
  readonly framebuffer: Framebuffer;
  /** Its number in traces; by default that of the vblank. */
  readonly frame: number | undefined;
  /** Its scanout, from the end of the flip's waits until it is not read any more. */
  readonly work: Work | null;
}

interface PendingFlip extends Shown {
  /** What it waits for, with references. */
  readonly fences: readonly DmaFence[];
  readonly task: Task<void>;
  readonly done: Event<FlipDone>;
}

/** One display. */
export class Display {
  readonly dev: Device;
  readonly params: DisplayParams;
  readonly #sim: Simulator;
  readonly #onScanout: ((frame: ScanoutFrame) => undefined) | undefined;
  readonly #framebuffers: Framebuffer[] = [];
  #cadence: Cadence | null = null;
  #shown: Shown | null = null;
  #pending: PendingFlip | null = null;
  #scanout: Task<void> | null = null;
  /** The vblank of the frame that is fetched, from its blanking on; `null` between frames. */
  #fetching: number | null = null;
  #bytes: Uint8Array | null = null;
  #underruns = 0;

  /** @throws {InvariantError} a parameter out of range. */
  constructor(dev: Device, params: DisplayParams, options: DisplayOptions = {}) {
    checkDisplayParams(params);
    this.dev = dev;
    takesAnySegment(dev);
    this.params = params;
    this.#sim = dev.sim;
    this.#onScanout = options.onScanout;
  }

  /** Whether vblanks happen. */
  get enabled(): boolean {
    return this.#cadence !== null;
  }

  /** What is shown, or `null`. */
  get current(): Framebuffer | null {
    return this.#shown?.framebuffer ?? null;
  }

  /** A flip is asked for and not latched. */
  get flipPending(): boolean {
    return this.#pending !== null;
  }

  /** Framebuffers that are imported, in order of import. */
  get framebuffers(): readonly Framebuffer[] {
    return this.#framebuffers;
  }

  /** Frames that were not complete in time. */
  get underruns(): number {
    return this.#underruns;
  }

  /**
   * Makes `buf` a framebuffer: takes a reference, attaches, maps. Waits for the reservation lock and the exporter.
   *
   * @throws {ErrnoError} `EINVAL` size, stride or format that the mode can not show, a buffer that is too small, or one that is
   *   not in one piece as the display sees it (what there is and what is needed are named; never retry); what the exporter and
   *   the DMA API throw. Nothing is left then.
   */
  *importFramebuffer(buf: DmaBuf, format: FramebufferFormat): Op<Framebuffer> {
    checkFormat(this.params, buf, format);
    const imported = yield* BufferImport.open(buf, this.dev, 'to-device');
    let framebuffer: Framebuffer | null = null;
    try {
      yield* imported.map();
      checkContiguous(imported, format.strideBytes * format.height);
      framebuffer = new Framebuffer(imported, format);
    } finally {
      if (framebuffer === null) yield* imported.close();
    }
    this.#framebuffers.push(framebuffer);
    return framebuffer;
  }

  /**
   * Gives a framebuffer up: unmaps, detaches, drops the reference. Waits for the reservation lock and the exporter.
   *
   * @throws {ErrnoError} `EINVAL` not a framebuffer of this display (never retry); `EBUSY` it is shown or about to be (retry
   *   after a flip to another, or {@link disable}).
   */
  *releaseFramebuffer(framebuffer: Framebuffer): Op<void> {
    this.#check(framebuffer, 'releaseFramebuffer');
    if (framebuffer === this.current || framebuffer === this.#pending?.framebuffer) {
      throw new ErrnoError('EBUSY', 'releaseFramebuffer', `${framebuffer.buf.name} is shown or about to be`);
    }
    this.#framebuffers.splice(this.#framebuffers.indexOf(framebuffer), 1);
    yield* framebuffer.import.close();
  }

  /** Starts the vblanks, the first a frame time from now; nothing is shown yet. Plain. Does nothing when enabled. */
  enable(): void {
    if (this.#cadence !== null) return;
    this.#cadence = new Cadence(this.#sim.now, framePeriod(this.params.mode));
  }

  /**
   * Stops the vblanks, also in the middle of a frame; nothing is shown any more. A pending flip is dropped: who waits for it
   * gets `ECANCELED`. Waits for the end of scanout, at this instant. Does nothing when disabled.
   */
  *disable(): Op<void> {
    const pending = this.#pending;
    const scanout = this.#scanout;
    this.#endWork(pending);
    this.#endWork(this.#shown);
    this.#cadence = null;
    this.#shown = null;
    this.#pending = null;
    this.#scanout = null;
    this.#fetching = null;
    pending?.task.kill();
    scanout?.kill();
    pending?.done.fail(new ErrnoError('ECANCELED', 'pageFlip', `${this.dev.name} was disabled`));
    if (pending !== null) yield* pending.task.exit;
    for (const fence of pending?.fences ?? []) fence.put();
    if (scanout !== null) yield* scanout.exit;
  }

  /** Disables and gives all framebuffers up. Waits as these do. Nothing is left afterwards. */
  *release(): Op<void> {
    yield* unwind([
      () => this.disable(),
      ...this.#framebuffers.map((framebuffer) => () => this.releaseFramebuffer(framebuffer)),
    ]);
  }

  /**
   * Shows `framebuffer` from the next vblank after its fences have signalled, and waits until it is latched.
   *
   * @returns the vblank.
   * @throws {ErrnoError} as {@link queueFlip}; `ECANCELED` the display was disabled meanwhile.
   */
  *pageFlip(framebuffer: Framebuffer, options: FlipOptions = {}): Op<FlipDone> {
    return yield* this.queueFlip(framebuffer, options);
  }

  /**
   * Asks for a flip as {@link pageFlip} does, but does not wait. Plain. Fences are those on the buffer now. What the CPU wrote before is
   * in memory, past its write buffers; charges that barrier.
   *
   * @returns an event that happens when it is latched; it fails with `ECANCELED` when the display is disabled before.
   * @throws {ErrnoError} `EBUSY` a flip is pending (retry when it is latched); `EINVAL` the display is disabled, or not a
   *   framebuffer of this display (never retry). Nothing changes then.
   * @see Linux 6.1 drm_mode_page_flip_ioctl; drm_gem_plane_helper_prepare_fb
   */
  queueFlip(framebuffer: Framebuffer, { inFence, frame }: FlipOptions = {}): Event<FlipDone> {
    this.#check(framebuffer, 'pageFlip');
    const cadence = this.#cadence;
    if (cadence === null) throw new ErrnoError('EINVAL', 'pageFlip', `${this.dev.name} is disabled`);
    if (this.#pending !== null) {
      const { name } = this.#pending.framebuffer.buf;
      throw new ErrnoError('EBUSY', 'pageFlip', `the flip to ${name} is pending`);
    }
    const { resv } = framebuffer.buf;
    const explicit = inFence !== undefined;
    const fences = explicit ? [inFence, ...resv.fences(DmaResvUsage.kernel)] : resv.fences(usageToWaitFor('read'));
    ringDoorbell(this.dev);
    const done = new Event<FlipDone>(this.#sim, `${this.dev.name} flip to ${framebuffer.buf.name}`);
    const task = this.#sim.spawn(`${this.dev.name} flip`, () => this.#flip(cadence, fences));
    for (const fence of fences) fence.get();
    this.#pending = { framebuffer, frame, task, done, fences, work: this.#takeOn(framebuffer, fences) };
    return done;
  }

  /** Waits for the next vblank. @throws {ErrnoError} `EINVAL` the display is disabled. @see DRM_IOCTL_WAIT_VBLANK */
  *waitVblank(): Op<FlipDone> {
    yield* settle(this.#sim);
    const cadence = this.#cadence;
    if (cadence === null) throw new ErrnoError('EINVAL', 'waitVblank', `${this.dev.name} is disabled`);
    const vblankSequence = cadence.indexAtOrAfter(this.#sim.now + 1);
    const timestampNs = cadence.at(vblankSequence);
    yield* sleepUntil(this.#sim, timestampNs);
    return { vblankSequence, timestampNs };
  }

  /**
   * The bytes of row `y` of what is shown, as scanout would fetch them now. Plain; no time, no state change.
   *
   * @returns `null` when nothing is shown, nothing is mapped there, or memory holds no bytes.
   * @throws {InvariantError} `y` is no row.
   */
  peekLine(y: number): Uint8Array | null {
    const { hdisplay, vdisplay } = this.params.mode;
    assert(Number.isInteger(y) && y >= 0 && y < vdisplay, 'peekLine: %s is no row of %s', y, vdisplay);
    if (this.#shown === null || !this.dev.coherency.memory.storesBytes) return null;
    const { format, import: imported } = this.#shown.framebuffer;
    const line = new Uint8Array(4 * hdisplay);
    return imported.window.peek(y * format.strideBytes, line, 0, line.length) === line.length ? line : null;
  }

  #check(framebuffer: Framebuffer, op: string): void {
    if (this.#framebuffers.includes(framebuffer)) return;
    throw new ErrnoError('EINVAL', op, `${framebuffer.buf.name} is no framebuffer of ${this.dev.name}`);
  }

  *#flip(cadence: Cadence, fences: readonly DmaFence[]): Op<void> {
    for (const fence of fences) yield* fence;
    const vblankSequence = cadence.indexAtOrAfter(this.#sim.now + 1);
    const timestampNs = cadence.at(vblankSequence);
    yield* sleepUntil(this.#sim, timestampNs);
    const pending = this.#pending;
    assert(pending !== null, '%s: a flip was lost', this.dev.name);
    this.#endWork(this.#shown);
    for (const fence of fences) fence.put();
    this.#pending = null;
    this.#shown = pending;
    this.dev.coherency.activity?.begin(pending.work);
    this.#trace('latched', pending.frame ?? vblankSequence);
    pending.done.fire({ vblankSequence, timestampNs });
    this.#cutOff(vblankSequence);
    const daemon = this.params.selfRefresh === false;
    const refresh = () => this.#refresh(cadence, vblankSequence);
    this.#scanout = this.#sim.spawn(`${this.dev.name} scanout`, refresh, { daemon });
  }

  /** Its scanout is a work, as `activity.ts` has it: the display reads from the flip on, once its fences have signalled. */
  #takeOn({ buf: { name } }: Framebuffer, waits: readonly DmaFence[]): Work | null {
    const { coherency, port, name: display } = this.dev;
    if (coherency.activity === null) return null;
    const remedy =
      this.params.selfRefresh === false
        ? `wait for a page flip of ${display} away from ${name}`
        : `wait for the scanout of ${name} on ${display}, or for a page flip away from it,`;
    return coherency.activity.submit({ accessor: port.accessor, name: `scanout of ${name}`, fence: '', remedy, waits });
  }

  #endWork(shown: Shown | null): void {
    this.dev.coherency.activity?.end(shown?.work ?? null);
  }

  /** Ends what still scans out at vblank `sequence`; a frame of an earlier one should have been over by now. */
  #cutOff(sequence: number): void {
    if (this.#scanout === null || this.#scanout.outcome !== null) return;
    this.#scanout.kill();
    if (this.#fetching !== null && this.#fetching < sequence) this.#underruns++;
    this.#fetching = null;
  }

  /** Fetches the frame of vblank `first`, and all later ones for a panel without a memory. */
  *#refresh(cadence: Cadence, first: number): Op<void> {
    for (let sequence = first; ; sequence = Math.max(sequence + 1, cadence.indexAtOrAfter(this.#sim.now))) {
      yield* this.#scan(cadence, sequence);
      if (this.params.selfRefresh !== false) {
        this.#endWork(this.#shown);
        return;
      }
      yield* sleepUntil(this.#sim, cadence.at(sequence + 1));
    }
  }

  *#scan(cadence: Cadence, sequence: number): Op<void> {
    const { mode, linesPerBatch = mode.vdisplay } = this.params;
    const timestampNs = cadence.at(sequence);
    this.#fetching = sequence;
    yield* sleepUntil(this.#sim, timestampNs + lineOffsetNs(mode, 0));
    if (this.#shown === null) return;
    const { framebuffer, frame } = this.#shown;
    const { strideBytes } = framebuffer.format;
    const bytes = this.#panelBytes(framebuffer.sizeBytes);
    let complete = true;
    for (let line = 0; line < mode.vdisplay; line += linesPerBatch) {
      yield* sleepUntil(this.#sim, timestampNs + lineOffsetNs(mode, line));
      const at = line * strideBytes;
      const length = Math.min(linesPerBatch, mode.vdisplay - line) * strideBytes;
      if (framebuffer.import.window.read(at, bytes, at, length) < length) complete = false;
    }
    yield* settle(this.#sim);
    this.#fetching = null;
    const underrun = !complete || this.#sim.now > cadence.at(sequence + 1);
    if (underrun) this.#underruns++;
    this.#trace('scanned out', frame ?? sequence);
    this.#onScanout?.({ framebuffer, sequence, timestampNs, bytes, underrun });
  }

  /** What the panel holds; of one size as long as strides do not change. */
  #panelBytes(sizeBytes: number): Uint8Array | null {
    if (!this.dev.coherency.memory.storesBytes) return null;
    if (this.#bytes?.length !== sizeBytes) this.#bytes = new Uint8Array(sizeBytes);
    return this.#bytes;
  }

  #trace(stage: string, frame: number): void {
    const { trace, now } = this.#sim;
    if (trace.enabled) trace.emit({ kind: 'device.frame', timeNs: now, device: this.dev.name, stage, frame });
  }
}
