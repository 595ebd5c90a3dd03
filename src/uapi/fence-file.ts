/**
 * A sync file as a process sees it: a fence that can be polled, looked into, hurried, and merged with another.
 *
 * @see Linux 6.1 `drivers/dma-buf/sync_file.c` sync_file_fops; `include/uapi/linux/sync_file.h`
 */
import { assert } from '../base/assert.ts';
import { ErrnoError } from '../base/errors.ts';
import { DmaFence } from '../dmabuf/dma-fence.ts';
import { type SyncFenceInfo, SyncFile } from '../dmabuf/sync-file.ts';
import { noIoctl, OpenFile, POLL, type PollTable } from './file.ts';
import { type IoctlCall, ioctlRequest, struct } from './ioctl.ts';
import type { Process } from './process.ts';

/** Makes a new sync file, `fence`, of this one and `fd2`. @see Linux 6.1 `include/uapi/linux/sync_file.h` struct sync_merge_data */
export const SYNC_IOC_MERGE = ioctlRequest('SYNC_IOC_MERGE', 'rw', '>', 3, {
  name: 'char[32]',
  fd2: 's32',
  fence: 's32',
  flags: 'u32',
  pad: 'u32',
});

/**
 * Looks into a sync file. `num_fences` is the room at `sync_fence_info`, in {@link SYNC_FENCE_INFO}s; 0 asks for the number only.
 *
 * @see Linux 6.1 `include/uapi/linux/sync_file.h` struct sync_file_info
 */
export const SYNC_IOC_FILE_INFO = ioctlRequest('SYNC_IOC_FILE_INFO', 'rw', '>', 4, {
  name: 'char[32]',
  status: 's32',
  flags: 'u32',
  num_fences: 'u32',
  pad: 'u32',
  sync_fence_info: 'ptr',
});

/**
 * Tells the drivers of a sync file's fences by when the program would like them signalled: a hint, in simulated ns. From Linux 6.6 on.
 *
 * @see Linux 6.6 `include/uapi/linux/sync_file.h` struct sync_set_deadline
 */
export const SYNC_IOC_SET_DEADLINE = ioctlRequest('SYNC_IOC_SET_DEADLINE', 'w', '>', 5, {
  deadline_ns: 'u64',
  pad: 'u64',
});

/** One fence of a sync file. @see Linux 6.1 `include/uapi/linux/sync_file.h` struct sync_fence_info */
export const SYNC_FENCE_INFO = struct({
  obj_name: 'char[32]',
  driver_name: 'char[32]',
  status: 's32',
  flags: 'u32',
  timestamp_ns: 'u64',
});

/** Who made a sync file, for whoever finds it left. */
export interface SyncFileMaker {
  readonly process: string;
  /** The call: `'SYNC_IOC_MERGE'`. */
  readonly call: string;
  readonly timeNs: number;
}

/** How a driver gives a process a fence; see `Process.installFence`. */
export interface InstallFenceOptions {
  /** The sync file's name. Default: driver, timeline and number of the fence. */
  readonly name?: string;
  /** The request that does it, as the text of a leak calls it: `'GPU_SUBMIT'`. Default `'sync_file_create'`. */
  readonly call?: string;
  /** The descriptor is closed on exec, as those of drivers are. Default true. */
  readonly cloexec?: boolean;
}

/** The file that stands for a {@link SyncFile}; the last reference releases it, in place. */
export class FenceFile extends OpenFile {
  readonly path = 'anon_inode:sync_file';
  readonly syncFile: SyncFile;
  /** Who made it, or `null`: nobody said. */
  readonly maker: SyncFileMaker | null;

  /** Takes `syncFile` over. */
  constructor(syncFile: SyncFile, maker: SyncFileMaker | null = null) {
    super();
    this.syncFile = syncFile;
    this.maker = maker;
  }

  /**
   * Plain.
   *
   * @throws {ErrnoError} `ENOTTY` another request; `EFAULT` bad memory; `EINVAL` flags or pad that are not 0, or room for too few
   *   fences; `ENOENT` `fd2` is no sync file (never retry); `EMFILE`, `ENOMEM` (retry later).
   * @see Linux 6.1 sync_file_ioctl
   */
  override ioctl(call: IoctlCall): number {
    if (call.code === SYNC_IOC_MERGE.code) this.#merge(call);
    else if (call.code === SYNC_IOC_FILE_INFO.code) this.#info(call);
    else if (call.code === SYNC_IOC_SET_DEADLINE.code) this.#setDeadline(call);
    else throw noIoctl(call);
    return 0;
  }

  override poll(_events: number, wait: PollTable): number {
    wait?.(this.syncFile.waiters);
    return this.syncFile.poll() ? POLL.in : 0;
  }

  override get parts(): readonly object[] {
    return [this.syncFile];
  }

  protected override release(): void {
    this.syncFile.release();
  }

  #merge(call: IoctlCall): void {
    const { layout } = SYNC_IOC_MERGE;
    let asked = layout.decode(new Uint8Array());
    call.process.fds.publish(
      () => {
        asked = call.copyIn(layout);
        const { name, fd2, flags, pad } = asked;
        if (flags !== 0 || pad !== 0) throw new ErrnoError('EINVAL', 'SYNC_IOC_MERGE', 'flags and pad must be 0');
        const other = fenceFileAt(call.process, fd2);
        if (other === null) throw new ErrnoError('ENOENT', 'SYNC_IOC_MERGE', `fd2 ${fd2} is no sync file`);
        return new FenceFile(this.syncFile.merge(other.syncFile, name), makerOf(call.process, 'SYNC_IOC_MERGE'));
      },
      (fence) => call.copyOut(layout, { ...asked, fence }),
      { cloexec: true },
    );
  }

  #setDeadline(call: IoctlCall): void {
    const { deadline_ns, pad } = call.copyIn(SYNC_IOC_SET_DEADLINE.layout);
    if (pad !== 0) throw new ErrnoError('EINVAL', 'SYNC_IOC_SET_DEADLINE', 'pad must be 0');
    this.syncFile.fence.setDeadline(asDeadline(deadline_ns));
  }

  #info(call: IoctlCall): void {
    const { layout } = SYNC_IOC_FILE_INFO;
    const asked = call.copyIn(layout);
    if (asked.flags !== 0 || asked.pad !== 0) {
      throw new ErrnoError('EINVAL', 'SYNC_IOC_FILE_INFO', 'flags and pad must be 0');
    }
    const { name, status, numFences, fences } = this.syncFile.info(asked.num_fences);
    for (const [at, fence] of fences.entries()) {
      call.memory.copyTo(asked.sync_fence_info + at * SYNC_FENCE_INFO.sizeBytes, encodeFence(fence));
    }
    call.copyOut(layout, { ...asked, name, status, num_fences: numFences });
  }
}

/**
 * @internal A file for a new sync file of `fence`, of which it takes a reference, made for `process` by `call`. Plain.
 *
 * @throws {ErrnoError} `ENOMEM` (retry later).
 * @see Linux 6.1 sync_file_create
 */
export function fenceFileFor(process: Process, fence: DmaFence, call: string, name?: string): FenceFile {
  return new FenceFile(new SyncFile(process.sim, fence, name), makerOf(process, call));
}

/** @internal See `Process.installFence`. */
export function installFence(process: Process, fence: DmaFence, options: InstallFenceOptions): number {
  const { name, call = 'sync_file_create', cloexec = true } = options;
  assert(fence instanceof DmaFence, 'installFence: fence of %s is no DmaFence', call);
  return process.fds.publish(
    () => fenceFileFor(process, fence, call, name),
    () => undefined,
    { cloexec },
  );
}

/** The sync file behind `fd`, or `null`. Takes no reference. Plain. @see Linux 6.1 sync_file_fdget */
export function fenceFileAt(process: Process, fd: number): FenceFile | null {
  try {
    const file = process.fds.file(fd, 'sync_file_fdget');
    return file instanceof FenceFile ? file : null;
  } catch (error) {
    if (error instanceof ErrnoError) return null;
    throw error;
  }
}

/** @internal A time that a program gives, of 64 bits: what is negative to the kernel has passed, what the clock never shows is its end. */
export function asDeadline(ns: number): number {
  return Math.min(Math.max(0, ns), Number.MAX_SAFE_INTEGER);
}

function makerOf({ name: process, sim }: Process, call: string): SyncFileMaker {
  return { process, call, timeNs: sim.now };
}

function encodeFence({ objName, driverName, status, timestampNs }: SyncFenceInfo): Uint8Array {
  return SYNC_FENCE_INFO.encode({
    obj_name: objName,
    driver_name: driverName,
    status,
    flags: 0,
    timestamp_ns: timestampNs,
  });
}
