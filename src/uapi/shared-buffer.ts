/**
 * A layer for programs over the descriptor of a shared buffer: does what has to be done around an access, in the order in which it has to
 * be done. It uses system calls only, so a program can do the same by hand.
 *
 * ```
 *  CPU:    flush own batches --> wait: explicit fences, poll --> SYNC START --> access --> drain --> SYNC END
 *  device: flush own batches --> EXPORT_SYNC_FILE --> submit with those fences --> IMPORT_SYNC_FILE; a sync file for the caller
 * ```
 *
 * 1. Work that is recorded and not submitted comes first: the kernel would call the buffer idle (`gpu-batch.ts`).
 * 2. START comes after the wait, not instead of it: the exporter empties the caches first and waits for fences then, and a cache
 *    may fetch old bytes again in between.
 * 3. A write begins as a read does, too: the caches get whole lines, and the bytes beside those that are written must not be old ones.
 *    Only who overwrites everything needs no reading (`overwrite`).
 * 4. END comes whatever happens in between: also when the body throws or the task is killed.
 * 5. A signal (`EINTR`) ends nothing: the call is made again.
 * 6. A submission tells both worlds: implicit waiters find the fence in the buffer, explicit ones get it as a sync file.
 *
 * **Limits.** Between its export and its import of fences somebody else may submit work of his own on the buffer: the two requests take the
 * buffer's lock one after the other, and to import first would let two producers of two buffers wait for each other. Who shares a buffer among
 * several producers agrees with them on turns, as with the bare calls; hazard `access.write-while-writing` names who does not.
 *
 * @see Linux 6.1 `include/uapi/linux/dma-buf.h`; `Documentation/driver-api/dma-buf.rst` "Implicit Fence Poll Support"
 */
import { assert } from '../base/assert.ts';
import { ErrnoError } from '../base/errors.ts';
import { DMA_BUF_SYNC } from '../dmabuf/dma-buf-sync.ts';
import { DmaFence } from '../dmabuf/dma-fence.ts';
import { lift, type MaybeOp, type Op } from '../sim/op.ts';
import { DMA_BUF_IOCTL_EXPORT_SYNC_FILE, DMA_BUF_IOCTL_IMPORT_SYNC_FILE, DMA_BUF_IOCTL_SYNC } from './dma-buf-file.ts';
import { F } from './fcntl.ts';
import { fenceFileAt } from './fence-file.ts';
import { POLL } from './file.ts';
import type { Process } from './process.ts';
import { type ExplicitFence, retried, waitForExplicit, waitReady } from './shared-buffer-fences.ts';
import type { UserMapping } from './user-mapping.ts';

/** What a program does with the bytes. */
export type SharedAccess = 'read' | 'write' | 'read-write';

/** A list of commands that the program keeps itself, such as a `GpuBatch`. */
export interface CommandBatch {
  /** Commands that are not submitted. */
  readonly pendingJobs: number;
  /** Submits them, with implicit fences. @returns their fences, each with a reference that the layer gives back. */
  flush(): Op<readonly DmaFence[]>;
}

/** How to open a {@link SharedBuffer}. */
export interface SharedBufferOptions {
  /** The program's lists of commands that may use the buffer. */
  readonly batches?: readonly CommandBatch[];
}

/** How to access a {@link SharedBuffer} with the CPU. */
export interface SharedAccessOptions {
  /** Fences that were handed over explicitly: waited for as well. */
  readonly after?: readonly ExplicitFence[];
  /** The body writes every byte of the buffer; with access `'write'` only. Default false. */
  readonly overwrite?: boolean;
}

/** What a submission does with one buffer. */
export interface SharedUse {
  readonly buffer: SharedBuffer;
  readonly access: SharedAccess;
}

/**
 * Gives a job to a device: it begins when all `waits` have signalled, whatever their error. Cannot wait. Who submits takes references of
 * the `waits` if he needs them longer, as `gpu.submit` does.
 *
 * @returns its fence, with a reference that the layer takes over: what `gpu.submit` gives.
 */
export type SharedSubmit = (waits: readonly DmaFence[]) => DmaFence;

const ACCESSES: readonly SharedAccess[] = ['read', 'write', 'read-write'];
const { read: READ, rw: RW, start: START, end: END, write: WRITE } = DMA_BUF_SYNC;

/** One shared buffer, as one process sees it. */
export class SharedBuffer {
  readonly process: Process;
  /** Its own descriptor of the buffer. */
  readonly fd: number;
  readonly #batches: readonly CommandBatch[];
  #map: UserMapping | null = null;
  #closed = false;

  private constructor(process: Process, fd: number, options: SharedBufferOptions) {
    this.process = process;
    this.fd = fd;
    this.#batches = options.batches ?? [];
  }

  /**
   * Takes a buffer on by its descriptor, which is duplicated, so that the caller may close his. Plain.
   *
   * @throws {ErrnoError} `EBADF` not open; `EINVAL` no dma-buf (never retry); `EMFILE` (retry after a close). Nothing is left then.
   */
  static open(process: Process, fd: number, options: SharedBufferOptions = {}): SharedBuffer {
    process.fds.get(fd).put();
    return new SharedBuffer(process, process.fcntl(fd, F.dupfdCloexec), options);
  }

  /**
   * Reads `length` bytes at `offset`: {@link withAccess} for one read.
   *
   * @throws {ErrnoError} `EFAULT` beyond the buffer (never retry); else as {@link withAccess}.
   */
  read(offset: number, length: number, options: SharedAccessOptions = {}): Op<Uint8Array> {
    return this.withAccess<Uint8Array>('read', (map) => map.read(offset, length), options);
  }

  /** Writes `bytes` at `offset`: {@link withAccess} for one write. @throws as {@link read}. */
  write(offset: number, bytes: Uint8Array, options: SharedAccessOptions = {}): Op<void> {
    return this.withAccess('write', (map) => map.write(offset, bytes), options);
  }

  /**
   * Runs `body` with the CPU's mapping of the buffer when nobody is at work on it that the access conflicts with, and everybody's bytes
   * are seen; afterwards everybody sees its own. Waits for reservation locks, fences, the exporter and whatever `body` waits for. Not to be
   * nested for one buffer.
   *
   * @returns what `body` gives.
   * @throws {ErrnoError} `ENODEV`, `EINVAL` the buffer can not be mapped (never retry); what the exporter throws. `body` did not run then,
   *   unless it is the end that the exporter failed.
   * @throws what `body` throws; the access is ended.
   * @throws {InvariantError} it was closed; an unknown `access`; or `overwrite` without `'write'`.
   */
  *withAccess<T>(
    access: SharedAccess,
    body: (map: UserMapping) => MaybeOp<T>,
    options: SharedAccessOptions = {},
  ): Op<T> {
    const { after = [], overwrite = false } = options;
    this.#check('withAccess');
    checkAccess('withAccess', access);
    assert(!overwrite || access === 'write', "withAccess: overwrite goes with 'write' only, not with %s", access);
    yield* this.#flush();
    for (const fence of after) yield* waitForExplicit(this.process, fence);
    yield* waitReady(this.process, this.fd, access === 'read' ? POLL.in : POLL.out);
    const map = yield* this.#mapping();
    const direction = access === 'read' ? READ : overwrite ? WRITE : RW;
    yield* this.#sync(START | direction);
    try {
      return yield* lift(body(map));
    } finally {
      try {
        if (access !== 'read') drain(map);
      } finally {
        yield* this.#sync(END | direction);
      }
    }
  }

  /**
   * Gives a job that uses this buffer to a device, behind the fences of everybody it conflicts with, and leaves its fence in the buffer.
   * Waits for reservation locks, not for the job. {@link submitShared} for a job with several buffers.
   *
   * @returns a sync file for the end of the job, close on exec; the caller closes it.
   * @throws as {@link submitShared}.
   */
  submit(access: SharedAccess, submit: SharedSubmit, after: readonly ExplicitFence[] = []): Op<number> {
    return submitShared([{ buffer: this, access }], submit, after);
  }

  /** Unmaps and closes. Waits for the release of what it was the last user of. Does nothing the second time. */
  *close(): Op<void> {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#map?.mapped === true) this.#map.munmap();
    yield* this.process.close(this.fd);
  }

  /** @internal Flushes the program's batches. */
  *flushBatches(): Op<void> {
    this.#check('submit');
    yield* this.#flush();
  }

  *#flush(): Op<void> {
    for (const batch of this.#batches) {
      const fences = batch.pendingJobs > 0 ? yield* batch.flush() : [];
      for (const fence of fences) fence.put();
    }
  }

  *#sync(flags: number): Op<void> {
    yield* retried(() => this.process.ioctl(this.fd, DMA_BUF_IOCTL_SYNC, { flags }));
  }

  *#mapping(): Op<UserMapping> {
    this.#map ??= yield* this.process.mmap(this.fd);
    return this.#map;
  }

  #check(op: string): void {
    assert(!this.#closed, 'SharedBuffer.%s: it was closed', op);
  }
}

/**
 * Gives a job that uses several buffers to a device: {@link SharedBuffer.submit} for all of them at once. Each buffer once.
 *
 * @param after - fences that were handed over explicitly. The job waits for sync files; points of sync objects are waited for here, before
 *   it is submitted.
 * @returns a sync file for the end of the job, close on exec; the caller closes it.
 * @throws {ErrnoError} `EMFILE`, `ENOMEM` (retry later); `EBADF`, `EINVAL` an explicit fence that is none (never retry). If the job was submitted
 *   by then, it is over: this has waited for it.
 * @throws what `submit` throws; nothing is submitted then.
 * @throws {InvariantError} no buffer, buffers of several processes, one that was closed, or an unknown access; `submit` gave no fence.
 */
export function* submitShared(
  uses: readonly SharedUse[],
  submit: SharedSubmit,
  after: readonly ExplicitFence[] = [],
): Op<number> {
  const [first] = uses;
  assert(first !== undefined, 'submitShared: uses is empty');
  const { process } = first.buffer;
  for (const { access } of uses) checkAccess('submitShared', access);
  assert(
    uses.every(({ buffer }) => buffer.process === process),
    'submitShared: buffers of several processes',
  );
  for (const { buffer } of uses) yield* buffer.flushBatches();
  const files: number[] = [];
  try {
    for (const fence of after) {
      if ('syncFile' in fence) files.push(process.fcntl(fence.syncFile, F.dupfdCloexec));
      else yield* waitForExplicit(process, fence);
    }
    for (const { buffer, access } of uses) files.push(yield* exportFences(buffer, access));
    const fence = submit(files.map((fd) => fenceOf(process, fd)));
    assert(fence instanceof DmaFence, 'submitShared: submit gave no fence');
    try {
      return yield* publish(uses, fence);
    } finally {
      fence.put();
    }
  } finally {
    for (const fd of files) yield* process.close(fd);
  }
}

/** Leaves `fence` in every buffer. @returns a sync file for it. */
function* publish(uses: readonly SharedUse[], fence: DmaFence): Op<number> {
  let complete = false;
  let fd = -1;
  const [first] = uses;
  assert(first !== undefined, 'submitShared: uses is empty');
  const { process } = first.buffer;
  try {
    fd = process.installFence(fence, { call: 'submitShared' });
    for (const { buffer, access } of uses) {
      const flags = access === 'read' ? READ : WRITE;
      yield* process.ioctl(buffer.fd, DMA_BUF_IOCTL_IMPORT_SYNC_FILE, { flags, fd });
    }
    complete = true;
    return fd;
  } finally {
    if (!complete) {
      yield* fence;
      if (fd >= 0) yield* process.close(fd);
    }
  }
}

function checkAccess(op: string, access: SharedAccess): void {
  assert(ACCESSES.includes(access), "%s: access %s is not 'read', 'write' or 'read-write'", op, access);
}

function* exportFences({ process, fd }: SharedBuffer, access: SharedAccess): Op<number> {
  const flags = access === 'read' ? READ : RW;
  return (yield* process.ioctl(fd, DMA_BUF_IOCTL_EXPORT_SYNC_FILE, { flags, fd: -1 })).fd;
}

function fenceOf(process: Process, fd: number): DmaFence {
  const file = fenceFileAt(process, fd);
  if (file === null) throw new ErrnoError('EINVAL', 'submitShared', `fd ${fd} is no sync file`);
  return file.syncFile.fence;
}

/** What the CPU wrote through a write-combined mapping leaves it, as by the barrier instruction of a program. */
function drain({ vma: { view } }: UserMapping): void {
  view.domain.barrier(view.accessor);
}
