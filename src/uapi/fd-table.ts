/**
 * The file descriptors of a process. A descriptor is made in two steps, as in the kernel: a number is reserved (which can
 * fail), then a file is installed (which can not); between them nobody sees it.
 *
 * An installed descriptor owns one reference of its file.
 *
 * Inaccuracies: files are dma-bufs or the standard ones; closing runs a release at the caller's next wait (`dma-buf.ts`).
 *
 * @see Linux 6.1 `fs/file.c`
 */
import { assert } from '../base/assert.ts';
import type { ErrnoCode } from '../base/errno.ts';
import { ErrnoError } from '../base/errors.ts';
import type { DmaBuf } from '../dmabuf/dma-buf.ts';

/** Descriptors that a process has from the start: standard input, output and error. */
const STANDARD_FDS = 3;

type Entry = { readonly state: 'free' | 'reserved' | 'standard' } | { readonly state: 'open'; readonly file: DmaBuf };

const FREE: Entry = { state: 'free' };
const RESERVED: Entry = { state: 'reserved' };
const STANDARD: Entry = { state: 'standard' };

/** Descriptor numbers and what they stand for. Plain throughout. */
export class FdTable {
  /** First number that is not given out (`RLIMIT_NOFILE`). */
  readonly limit: number;
  readonly #entries: Entry[] = Array.from({ length: STANDARD_FDS }, () => STANDARD);

  /** @param limit - default 1024, as Linux's soft limit. @throws {InvariantError} no whole number >= 3. */
  constructor(limit = 1024) {
    assert(Number.isInteger(limit) && limit >= STANDARD_FDS, 'FdTable: limit %s is no whole number >= 3', limit);
    this.limit = limit;
  }

  /** Descriptors of buffers that are open, ascending. */
  get open(): number[] {
    return this.#entries.flatMap((entry, fd) => (entry.state === 'open' ? [fd] : []));
  }

  /** Numbers that are reserved and not installed, ascending. */
  get reserved(): number[] {
    return this.#entries.flatMap((entry, fd) => (entry.state === 'reserved' ? [fd] : []));
  }

  /**
   * Reserves the lowest free number. For everybody else it is not open.
   *
   * @throws {ErrnoError} `EMFILE` the table is full (retry after a close).
   * @see Linux 6.1 `fs/file.c` get_unused_fd_flags
   */
  reserve(): number {
    const found = this.#entries.findIndex((entry) => entry.state === 'free');
    const fd = found >= 0 ? found : this.#entries.length;
    if (fd >= this.limit) throw new ErrnoError('EMFILE', 'fd', `all ${this.limit} descriptors are in use`);
    this.#entries[fd] = RESERVED;
    return fd;
  }

  /** Gives a reserved number back unused. @throws {InvariantError} `fd` is not reserved. @see Linux 6.1 `fs/file.c` put_unused_fd */
  unreserve(fd: number): void {
    assert(this.#entries[fd]?.state === 'reserved', 'unreserve: fd %s is not reserved', fd);
    this.#entries[fd] = FREE;
  }

  /**
   * Opens a reserved number for `buf` and hands it the caller's reference: from now on the process can use it.
   *
   * @throws {InvariantError} `fd` is not reserved, or the last reference of `buf` was put; nothing changes.
   * @see Linux 6.1 `fs/file.c` fd_install
   */
  installReserved(fd: number, buf: DmaBuf): void {
    assert(this.#entries[fd]?.state === 'reserved', 'installReserved: fd %s is not reserved', fd);
    assert(buf.references > 0, 'installReserved: the last reference of %s was put', buf.name);
    this.#entries[fd] = { state: 'open', file: buf };
  }

  /**
   * Makes a descriptor for `buf`, the lowest free number, and hands it the caller's reference.
   *
   * @throws {ErrnoError} `EMFILE`; the caller keeps its reference then (retry after a close).
   * @throws {InvariantError} the last reference of `buf` was put.
   * @see Linux 6.1 `drivers/dma-buf/dma-buf.c` dma_buf_fd
   */
  install(buf: DmaBuf): number {
    assert(buf.references > 0, 'install: the last reference of %s was put', buf.name);
    const fd = this.reserve();
    this.installReserved(fd, buf);
    return fd;
  }

  /**
   * The buffer behind `fd`, with a reference of the caller's own.
   *
   * @throws {ErrnoError} `EBADF` the descriptor is not open; `EINVAL` it is no dma-buf (never retry).
   * @see Linux 6.1 dma_buf_get
   */
  get(fd: number): DmaBuf {
    return this.peek(fd, 'dma_buf_get').get();
  }

  /**
   * @internal The buffer behind `fd`, without a reference. Same errors as {@link get}.
   *
   * @param otherFile - what `op` answers for a file that is no dma-buf.
   */
  peek(fd: number, op: string, otherFile: ErrnoCode = 'EINVAL'): DmaBuf {
    const entry = this.#entries[fd];
    if (entry?.state === 'standard') throw new ErrnoError(otherFile, op, `fd ${fd} is no dma-buf`);
    if (entry?.state !== 'open') throw new ErrnoError('EBADF', op, `fd ${fd} is not open`);
    return entry.file;
  }

  /**
   * A second descriptor for the same file, the lowest free number; for a buffer with a reference of its own.
   *
   * @throws {ErrnoError} `EBADF` it is not open (never retry); `EMFILE` (retry after a close). Nothing changes then.
   * @see dup(2)
   */
  dup(fd: number): number {
    const entry = this.#entries[fd];
    if (entry?.state !== 'open' && entry?.state !== 'standard') {
      throw new ErrnoError('EBADF', 'dup', `fd ${fd} is not open`);
    }
    const copy = this.reserve();
    if (entry.state === 'open') entry.file.get();
    this.#entries[copy] = entry;
    return copy;
  }

  /**
   * Gives the reference of `fd` back and closes it; its number is free at once.
   *
   * @throws {ErrnoError} `EBADF` it is not open (never retry).
   * @throws {InvariantError} it is the last reference and a device is attached: an importer keeps none of its own. `fd` stays
   *   open and keeps its reference (retry after the detach).
   * @see close(2)
   */
  close(fd: number): void {
    const entry = this.#entries[fd];
    if (entry?.state !== 'open' && entry?.state !== 'standard') {
      throw new ErrnoError('EBADF', 'close', `fd ${fd} is not open`);
    }
    if (entry.state === 'open') entry.file.put();
    this.#entries[fd] = FREE;
  }
}
