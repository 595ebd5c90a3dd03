/**
 * A counter that a process waits for by reading or polling, and that the kernel or another process raises.
 *
 * **Inaccuracies.** Above 2^53 the counter keeps the magnitude, not every unit.
 *
 * @see eventfd(2); Linux 6.1 `fs/eventfd.c`
 */
import { ErrnoError } from '../base/errors.ts';
import type { Op } from '../sim/op.ts';
import type { Simulator } from '../sim/simulator.ts';
import { WaitQueue } from '../sim/wait-queue.ts';
import { O, OpenFile, POLL, type PollTable } from './file.ts';
import { struct } from './ioctl.ts';
import { waitInterruptibly } from './signals.ts';

/** Flags of eventfd(2). */
export const EFD = { semaphore: 1, nonblock: O.nonblock, cloexec: O.cloexec } as const;

const BYTES = 8;
/** No counter gets there by writing. */
const LIMIT = 2 ** 64;
/** The largest exact number below. */
const LARGEST = LIMIT - 2048;
const COUNTER = struct({ count: 'u64' });

/** See the header. */
export class EventFd extends OpenFile {
  readonly path = 'anon_inode:[eventfd]';
  /** Who reads or polls waits here. */
  readonly waiters: WaitQueue;
  readonly #sim: Simulator;
  readonly #isSemaphore: boolean;
  #count: number;

  /** @throws {ErrnoError} `EINVAL` unknown flags (never retry). `EFD_CLOEXEC` is for whoever installs it. @see eventfd(2) */
  constructor(sim: Simulator, initial = 0, flags = 0) {
    super(O.rdwr | (flags & O.nonblock));
    if ((flags & ~(EFD.semaphore | EFD.nonblock | EFD.cloexec)) !== 0) {
      throw new ErrnoError('EINVAL', 'eventfd', `flags 0x${flags.toString(16)}`);
    }
    this.#sim = sim;
    this.waiters = new WaitQueue(sim, 'eventfd');
    this.#isSemaphore = (flags & EFD.semaphore) !== 0;
    this.#count = initial;
  }

  /** The counter, as nobody but a debugger sees it without taking it. */
  get count(): number {
    return this.#count;
  }

  /** Raises the counter from inside the kernel, and wakes. Plain. @see Linux 6.1 eventfd_signal */
  raise(by = 1): void {
    this.#count = Math.min(this.#count + by, LIMIT);
    this.waiters.wakeUpAll();
  }

  /**
   * Takes the counter (of a semaphore: 1). Waits while it is 0.
   *
   * @throws {ErrnoError} `EINVAL` room for less than 8 bytes (never retry); `EAGAIN` it is 0 and the file is non-blocking;
   *   `EINTR` a signal came first (retry).
   */
  override *read(count: number): Op<Uint8Array> {
    if (count < BYTES) throw new ErrnoError('EINVAL', 'read', `${count} bytes; a counter has ${BYTES}`);
    if (this.#count === 0 && this.#isNonblocking) throw new ErrnoError('EAGAIN', 'read', 'the counter is 0');
    yield* waitInterruptibly(this.#sim, this.waiters, () => this.#count > 0, 'read');
    const taken = this.#isSemaphore ? 1 : this.#count;
    this.#count -= taken;
    this.waiters.wakeUpAll();
    return COUNTER.encode({ count: Math.min(taken, LARGEST) });
  }

  /**
   * Adds a number of 8 bytes. Waits while there is no room for it.
   *
   * @throws {ErrnoError} `EINVAL` less than 8 bytes, or 2^64 - 1 (never retry); `EAGAIN` no room and the file is non-blocking;
   *   `EINTR` a signal came first (retry). Nothing is added then.
   */
  override *write(bytes: Uint8Array): Op<number> {
    if (bytes.length < BYTES) throw new ErrnoError('EINVAL', 'write', `${bytes.length} bytes; a counter has ${BYTES}`);
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    const [low, high] = [view.getUint32(0, true), view.getUint32(4, true)];
    if (low === 0xffffffff && high === 0xffffffff) throw new ErrnoError('EINVAL', 'write', '2^64 - 1 is no count');
    const added = high * 2 ** 32 + low;
    const hasRoom = () => this.#count + added < LIMIT;
    if (!hasRoom() && this.#isNonblocking) throw new ErrnoError('EAGAIN', 'write', 'the counter is full');
    yield* waitInterruptibly(this.#sim, this.waiters, hasRoom, 'write');
    this.#count += added;
    if (added > 0) this.waiters.wakeUpAll();
    return BYTES;
  }

  override poll(_events: number, wait: PollTable): number {
    wait?.(this.waiters);
    const readable = this.#count > 0 ? POLL.in : 0;
    const overflown = this.#count >= LIMIT ? POLL.err : 0;
    const writable = this.#count < LARGEST ? POLL.out : 0;
    return readable | overflown | writable;
  }

  override fdinfo(): string[] {
    return [`eventfd-count: ${this.#count.toString(16).padStart(16)}`];
  }

  get #isNonblocking(): boolean {
    return (this.flags & O.nonblock) !== 0;
  }
}
