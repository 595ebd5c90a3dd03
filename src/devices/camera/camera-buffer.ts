/** A buffer in the queue of a camera. */
import type { Work } from '../../cache/activity.ts';
import type { DmaBuf } from '../../dmabuf/dma-buf.ts';
import type { BufferImport } from '../shared/buffer-import.ts';

/**
 * ```
 *             qbuf                      frame start           frame end
 * DEQUEUED ---------> PREPARING, QUEUED -----------> ACTIVE ------------> DONE --dqbuf--> DEQUEUED
 *     ^                                                                    |
 *     +------------------------------- streamOff, from any ---------------+
 * ```
 *
 * DEQUEUED belongs to the user, all others to the camera.
 *
 * @see Linux 6.1 `include/media/videobuf2-core.h` enum vb2_buffer_state
 */
export type CameraBufferState = 'DEQUEUED' | 'PREPARING' | 'QUEUED' | 'ACTIVE' | 'DONE';

/** Made by `camera.importBuffer`. */
export class CameraBuffer {
  /** Order of import, from 0. */
  readonly index: number;
  readonly buf: DmaBuf;
  /** @internal */
  readonly import: BufferImport;
  /** Who has it. Only its camera changes this. */
  state: CameraBufferState = 'DEQUEUED';
  /** @internal While the camera streams and may write it at any moment: from `qbuf` on until DONE. */
  work: Work | null = null;

  /** @internal */
  constructor(index: number, imported: BufferImport) {
    this.index = index;
    this.buf = imported.buf;
    this.import = imported;
  }

  /** Whether it is mapped for the camera. */
  get mapped(): boolean {
    return this.import.sgt !== null;
  }
}

/** What `camera.dqbuf` gives. */
export interface CapturedFrame {
  readonly buffer: CameraBuffer;
  /** Number of the frame; dropped frames are counted, so a gap shows them. */
  readonly sequence: number;
  /** When its last line was in memory, in ns. */
  readonly timestampNs: number;
  /** Bytes of the picture with padding; 0 after an error. */
  readonly bytesUsed: number;
  /** Part of it is missing: the camera could not write; see `camera.dev.port.faults`. */
  readonly error: boolean;
}
