/**
 * A pair of connected sockets over which processes pass bytes and open files (`SCM_RIGHTS`). A file on its way is held by the
 * message: it stays open although its sender has closed it, until somebody receives it or the socket goes.
 *
 * **Inaccuracies.** Messages keep their bounds (`SOCK_SEQPACKET`), and there is no limit to what is on its way. Sockets that hold
 * each other by messages, with nobody else holding them, are not found and stay.
 *
 * @see Linux 6.1 `net/unix/af_unix.c`, `net/core/scm.c`; unix(7)
 */
import { ErrnoError } from '../base/errors.ts';
import type { Op } from '../sim/op.ts';
import type { Simulator } from '../sim/simulator.ts';
import { WaitQueue } from '../sim/wait-queue.ts';
import type { FdTable } from './fd-table.ts';
import { O, OpenFile, POLL, type PollTable } from './file.ts';
import { waitInterruptibly } from './signals.ts';

/** Most files that one message carries. @see Linux 6.1 `include/net/scm.h` SCM_MAX_FD */
const LARGEST_COUNT = 253;

/** What a process sends. */
export interface OutgoingMessage {
  readonly bytes: Uint8Array;
  /** Descriptors of the sender whose files go along. Default: none. */
  readonly fds?: readonly number[];
}

/** How a process receives. */
export interface ReceiveOptions {
  /** Bytes that it has room for; the rest of the message is lost. Default: all. */
  readonly maxBytes?: number;
  /** Descriptors that it has room for; files beyond are closed. Default: all. */
  readonly maxFds?: number;
  /** The new descriptors are closed on exec (`MSG_CMSG_CLOEXEC`). Default false. */
  readonly cloexec?: boolean;
}

/** How to make a pair. */
export interface SocketOptions {
  /** Both descriptors are closed on exec. Default false. */
  readonly cloexec?: boolean;
  /** Receiving does not wait. Default false. */
  readonly nonblock?: boolean;
}

/** What a process receives. No bytes and no descriptors: the other side is closed. */
export interface IncomingMessage {
  readonly bytes: Uint8Array;
  /** New descriptors, in the sender's order. */
  readonly fds: readonly number[];
  /** Files were closed, as there was no room for them or no free descriptor (`MSG_CTRUNC`). */
  readonly isControlCut: boolean;
}

interface Message {
  readonly bytes: Uint8Array;
  /** Each with a reference of the message's. */
  readonly files: readonly OpenFile[];
}

/** One end of a pair; `Process.socketpair` makes them. */
export class SocketFile extends OpenFile {
  readonly path: string;
  readonly #sim: Simulator;
  readonly #queue: WaitQueue;
  readonly #incoming: Message[] = [];
  #peer: SocketFile | null = null;

  /** @internal Use `Process.socketpair`. */
  constructor(sim: Simulator, name: string, flags: number) {
    super(flags);
    this.path = name;
    this.#sim = sim;
    this.#queue = new WaitQueue(sim, name);
  }

  /** @internal Files in messages that nobody has received yet. */
  get filesOnTheirWay(): readonly OpenFile[] {
    return this.#incoming.flatMap(({ files }) => files);
  }

  /** @internal */
  connect(peer: SocketFile): void {
    this.#peer = peer;
    peer.#peer = this;
  }

  /**
   * Sends a message with files of `fds`. Plain: there is always room.
   *
   * @throws {ErrnoError} `EPIPE` the other side is closed; `EBADF` a descriptor is not open; `EINVAL` more than 253 (never retry).
   *   Nothing is sent then.
   */
  send(fds: FdTable, message: OutgoingMessage): number {
    const peer = this.#peer;
    const numbers = message.fds ?? [];
    if (numbers.length > LARGEST_COUNT) throw new ErrnoError('EINVAL', 'sendmsg', `${numbers.length} descriptors`);
    const files = numbers.map((fd) => fds.file(fd, 'sendmsg'));
    if (peer === null) throw new ErrnoError('EPIPE', 'sendmsg', 'the other side is closed');
    peer.#incoming.push({ bytes: message.bytes.slice(), files: files.map((file) => file.getFor(peer)) });
    peer.#queue.wakeUpAll();
    return message.bytes.length;
  }

  /**
   * Receives the next message; waits for one.
   *
   * @throws {ErrnoError} `EAGAIN` there is none and the file does not wait; `EINTR` a signal came first (retry). Nothing is taken then.
   */
  *receive(fds: FdTable, options: ReceiveOptions = {}): Op<IncomingMessage> {
    if ((this.flags & O.nonblock) !== 0 && this.#incoming.length === 0 && this.#peer !== null) {
      throw new ErrnoError('EAGAIN', 'recvmsg', 'there is no message');
    }
    const hasNews = () => this.#incoming.length > 0 || this.#peer === null;
    yield* waitInterruptibly(this.#sim, this.#queue, hasNews, 'recvmsg');
    const message = this.#incoming.shift();
    if (message === undefined) return { bytes: new Uint8Array(), fds: [], isControlCut: false };
    const { maxBytes = Number.POSITIVE_INFINITY, maxFds = Number.POSITIVE_INFINITY, cloexec = false } = options;
    const numbers: number[] = [];
    for (const file of message.files) {
      const fd = numbers.length < maxFds ? this.#tryInstall(fds, file, cloexec) : null;
      if (fd === null) break;
      numbers.push(fd);
    }
    for (const file of message.files.slice(numbers.length)) file.putFor(this);
    return {
      bytes: message.bytes.slice(0, Math.min(maxBytes, message.bytes.length)),
      fds: numbers,
      isControlCut: numbers.length < message.files.length,
    };
  }

  override poll(_events: number, wait: PollTable): number {
    wait?.(this.#queue);
    const isOver = this.#peer === null;
    return (this.#incoming.length > 0 || isOver ? POLL.in | POLL.rdnorm : 0) | POLL.out | (isOver ? POLL.hup : 0);
  }

  #tryInstall(fds: FdTable, file: OpenFile, cloexec: boolean): number | null {
    file.objects?.unhold(this, file.counted);
    try {
      return fds.install(file, { cloexec });
    } catch (error) {
      file.objects?.adopt(this, file.counted);
      if (error instanceof ErrnoError && error.code === 'EMFILE') return null;
      throw error;
    }
  }

  protected override release(): void {
    const peer = this.#peer;
    this.#peer = null;
    if (peer !== null) {
      peer.#peer = null;
      peer.#queue.wakeUpAll();
    }
    for (const { files } of this.#incoming.splice(0)) for (const file of files) file.putFor(this);
  }
}

/** @internal See `Process.socketpair`. */
export function openSocketPair(sim: Simulator, fds: FdTable, options: SocketOptions): [number, number] {
  const flags = O.rdwr | (options.nonblock === true ? O.nonblock : 0);
  const [one, two] = [new SocketFile(sim, 'socket:[1]', flags), new SocketFile(sim, 'socket:[2]', flags)];
  one.connect(two);
  const first = fds.reserve(options);
  let second = -1;
  try {
    second = fds.install(two, options);
  } finally {
    if (second < 0) fds.unreserve(first);
  }
  fds.installReserved(first, one);
  return [first, second];
}

/** @internal The socket that `file` is. @throws {ErrnoError} `ENOTSOCK` it is none (never retry). */
export function asSocket(file: OpenFile, op: string): SocketFile {
  if (file instanceof SocketFile) return file;
  throw new ErrnoError('ENOTSOCK', op, `${file.path} is no socket`);
}
