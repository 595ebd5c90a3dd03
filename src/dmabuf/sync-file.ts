/**
 * A fence as a file that processes can pass around, wait for and merge. The file descriptor is somebody else's: this is what it
 * refers to.
 *
 * @see Linux 6.1 `drivers/dma-buf/sync_file.c`; `Documentation/driver-api/sync_file.rst`
 */
import { assert } from '../base/assert.ts';
import { ErrnoError } from '../base/errors.ts';
import type { Op } from '../sim/op.ts';
import type { Simulator } from '../sim/simulator.ts';
import { WaitQueue } from '../sim/wait-queue.ts';
import type { DmaFence } from './dma-fence.ts';
import { dmaFenceUnwrap, dmaFenceUnwrapMerge } from './dma-fence-unwrap.ts';
import { dmaFenceWorld } from './dma-fence-world.ts';

/** One of the fences in a {@link SyncFile}. @see Linux 6.1 `include/uapi/linux/sync_file.h` struct sync_fence_info */
export interface SyncFenceInfo {
  /** Name of the timeline. */
  readonly objName: string;
  readonly driverName: string;
  /** 0 pending, 1 signalled, a negative errno failed. */
  readonly status: number;
  /** When it signalled, in ns of simulated time; 0 while it is pending. */
  readonly timestampNs: number;
}

/** What a {@link SyncFile} holds. @see Linux 6.1 `include/uapi/linux/sync_file.h` struct sync_file_info */
export interface SyncFileInfo {
  readonly name: string;
  /** 0 while anything is pending; else the error of the first fence that failed; else 1. */
  readonly status: number;
  readonly numFences: number;
  /** Empty when only their number was asked for. */
  readonly fences: readonly SyncFenceInfo[];
}

/** Bytes of a name with its final zero; the rest of a longer one is cut off. */
const NAME_BYTES = 32;

/** See the header. */
export class SyncFile {
  readonly fence: DmaFence;
  /** Who polls waits here; woken when the fence signals, once {@link poll} was asked. */
  readonly waiters: WaitQueue;
  readonly #sim: Simulator;
  readonly #userName: string;
  #armed = false;
  #released = false;

  /**
   * Takes a reference of its own to `fence`.
   *
   * @param userName - default: made from the fence, see {@link name}.
   * @throws {ErrnoError} `ENOMEM` (retry later).
   * @see Linux 6.1 sync_file_create
   */
  constructor(sim: Simulator, fence: DmaFence, userName = '') {
    dmaFenceWorld(sim).admit('sync_file_create');
    this.#sim = sim;
    this.#userName = cut(userName);
    this.waiters = new WaitQueue(sim, `sync_file ${this.#userName === '' ? fence.name : this.#userName}`);
    this.fence = fence.getFor(this);
  }

  /** The name it was given, or else driver, timeline, number of context and sequence number of its fence. */
  get name(): string {
    if (this.#userName !== '') return this.#userName;
    const { driverName, timelineName, context, seqno } = this.fence;
    return cut(`${driverName}-${timelineName}${context.id}-${seqno}`);
  }

  /**
   * A new file for what is pending in this one and in `other`: a snapshot, see `dmaFenceUnwrapMerge`. When nothing is, it has
   * signalled with status 1, even if a part failed. Plain.
   *
   * @throws {ErrnoError} `ENOMEM` (retry later).
   * @see Linux 6.1 sync_file_merge, SYNC_IOC_MERGE
   */
  merge(other: SyncFile, name: string): SyncFile {
    this.#mustLive('merge');
    other.#mustLive('merge');
    const merged = dmaFenceUnwrapMerge(this.#sim, [this.fence, other.fence]);
    try {
      return new SyncFile(this.#sim, merged, name);
    } finally {
      merged.put();
    }
  }

  /**
   * What it holds, asked now: a fence that its driver says is over signals by that. Plain.
   *
   * @param room - so many fences the caller can take; 0: he wants status and number only, the status then being that of the
   *   whole: an error of a part counts only if the whole took it over.
   * @throws {ErrnoError} `EINVAL` it holds more than `room` fences (retry with more).
   * @throws {InvariantError} `room` is no whole number >= 0.
   * @see Linux 6.1 sync_file_ioctl_fence_info, SYNC_IOC_FILE_INFO
   */
  info(room = Number.MAX_SAFE_INTEGER): SyncFileInfo {
    this.#mustLive('info');
    assert(Number.isSafeInteger(room) && room >= 0, 'SyncFile.info: room %s is no whole number >= 0', room);
    const parts = dmaFenceUnwrap(this.fence);
    const numFences = parts.length;
    if (room === 0) return { name: this.name, status: this.fence.getStatus(), numFences, fences: [] };
    if (room < numFences) {
      throw new ErrnoError(
        'EINVAL',
        'SyncFile.info',
        `there is room for ${room} of ${numFences} fences; ask with room 0 first`,
      );
    }
    const fences = parts.map(infoOf);
    const status = fences.reduce((all, part) => (all <= 0 ? all : part.status), 1);
    return { name: this.name, status, numFences, fences };
  }

  /**
   * Whether its fence has signalled, with or without error: what `poll` shows as POLLIN. Plain. From the first call on the fence
   * is watched, and who waits in {@link waiters} is woken when it signals.
   *
   * @see Linux 6.1 sync_file_poll
   */
  poll(): boolean {
    this.#mustLive('poll');
    if (!this.#armed) {
      this.#armed = true;
      if (!this.fence.addCallback(this.#wake)) this.waiters.wakeUpAll();
    }
    return this.fence.isSignaled();
  }

  /** Waits at most `ns` for its fence. @returns ns left, at least 1; 0 when it is pending. @throws as `fence.waitTimeout`. */
  waitTimeout(ns: number): Op<number> {
    return this.fence.waitTimeout(ns);
  }

  /**
   * The last reference to the file is gone: gives the one to the fence back. Plain.
   *
   * @throws {InvariantError} it was released before.
   * @see Linux 6.1 sync_file_release
   */
  release(): void {
    this.#mustLive('release');
    this.#released = true;
    if (this.#armed) this.fence.removeCallback(this.#wake);
    this.fence.putFor(this);
  }

  readonly #wake = (): undefined => {
    this.waiters.wakeUpAll();
  };

  #mustLive(op: string): void {
    assert(!this.#released, 'SyncFile %s: %s after its release; the last fd of it was closed', this.#userName, op);
  }
}

function infoOf(fence: DmaFence): SyncFenceInfo {
  const status = fence.getStatus();
  const { timelineName, driverName, timestampNs } = fence;
  return { objName: cut(timelineName), driverName: cut(driverName), status, timestampNs: timestampNs ?? 0 };
}

function cut(name: string): string {
  return name.slice(0, NAME_BYTES - 1);
}
