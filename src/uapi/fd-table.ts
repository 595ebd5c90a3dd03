/**
 * The file descriptors of a process. A descriptor is made in two steps, as in the kernel: a number is reserved (which can
 * fail), then a file is installed (which can not); between them nobody sees it.
 *
 * An installed descriptor owns one reference of its file. Whether it is closed on exec belongs to the descriptor, everything
 * else to the file, which its duplicates share.
 *
 * Inaccuracies: calls here charge nothing; closing a dma-buf runs its release at the caller's next wait (`dma-buf.ts`).
 *
 * @see Linux 6.1 `fs/file.c`
 */
import { assert } from '../base/assert.ts';
import { ErrnoError } from '../base/errors.ts';
import { DmaBuf } from '../dmabuf/dma-buf.ts';
import { DmaBufFile, dmaBufFile } from './dma-buf-file.ts';
import { type OpenFile, StandardFile } from './file.ts';
import type { FdNotes } from './object-notes.ts';

/** Descriptors that a process has from the start: standard input, output and error. */
const STANDARD_FDS = 3;
/** `sysctl_nr_open`: no table grows beyond. */
const LARGEST_LIMIT = 1_048_576;

type Entry =
  | { readonly state: 'free' | 'reserved'; readonly cloexec: boolean }
  | { readonly state: 'open'; readonly cloexec: boolean; readonly file: OpenFile };

const FREE: Entry = { state: 'free', cloexec: false };

/** How to make a descriptor. */
export interface FdOptions {
  /** It is closed on exec (`O_CLOEXEC`). Default false. */
  readonly cloexec?: boolean;
  /** The lowest number it may get. Default 0. */
  readonly from?: number;
}

/** Descriptor numbers and what they stand for. Plain throughout. */
export class FdTable {
  /** @internal Is told of each descriptor that was closed, after that, and by which call. */
  onClose: ((file: OpenFile, call: string) => void) | null = null;
  /** @internal Tells the ledger of its descriptors; `null` while nobody does. */
  notes: FdNotes | null = null;
  #limit: number;
  readonly #entries: Entry[] = [];
  #reservedCount = 0;

  /** @param limit - default 1024, as Linux's soft limit. @throws {InvariantError} no whole number >= 3. */
  constructor(limit = 1024) {
    assert(Number.isInteger(limit) && limit >= STANDARD_FDS, 'FdTable: limit %s is no whole number >= 3', limit);
    this.#limit = limit;
    for (let fd = 0; fd < STANDARD_FDS; fd++) {
      this.#entries.push({ state: 'open', cloexec: false, file: new StandardFile() });
    }
  }

  /** First number that is not given out (`RLIMIT_NOFILE`). Descriptors above a lowered limit stay open. */
  get limit(): number {
    return this.#limit;
  }

  /** @throws {ErrnoError} `EPERM` above what any table may have; `EINVAL` no whole number >= 0 (never retry). @see setrlimit(2) */
  set limit(limit: number) {
    if (!Number.isInteger(limit) || limit < 0) throw new ErrnoError('EINVAL', 'setrlimit', `limit ${limit}`);
    if (limit > LARGEST_LIMIT) throw new ErrnoError('EPERM', 'setrlimit', `limit ${limit} is above ${LARGEST_LIMIT}`);
    this.#limit = limit;
  }

  /** Descriptors that are open, ascending, without the standard ones the process began with. */
  get open(): number[] {
    return this.#entries.flatMap((entry, fd) =>
      entry.state === 'open' && !(entry.file instanceof StandardFile) ? [fd] : [],
    );
  }

  /** Numbers that are reserved and not installed, ascending. */
  get reserved(): number[] {
    return this.#entries.flatMap((entry, fd) => (entry.state === 'reserved' ? [fd] : []));
  }

  /** @internal How many are {@link reserved}. */
  get reservedCount(): number {
    return this.#reservedCount;
  }

  /**
   * Reserves the lowest free number. For everybody else it is not open.
   *
   * @throws {ErrnoError} `EMFILE` the table is full (retry after a close).
   * @see Linux 6.1 `fs/file.c` get_unused_fd_flags
   */
  reserve({ cloexec = false, from = 0 }: FdOptions = {}): number {
    let fd = from;
    while ((this.#entries[fd] ?? FREE).state !== 'free') fd++;
    if (fd >= this.#limit) throw new ErrnoError('EMFILE', 'fd', `all ${this.#limit} descriptors are in use`);
    this.#set(fd, { state: 'reserved', cloexec });
    this.#reservedCount++;
    return fd;
  }

  /** Gives a reserved number back unused. @throws {InvariantError} `fd` is not reserved. @see Linux 6.1 `fs/file.c` put_unused_fd */
  unreserve(fd: number): void {
    assert(this.#entries[fd]?.state === 'reserved', 'unreserve: fd %s is not reserved', fd);
    this.#entries[fd] = FREE;
    this.#reservedCount--;
  }

  /**
   * Opens a reserved number for `file` and hands it the caller's reference: from now on the process can use it.
   *
   * @throws {InvariantError} `fd` is not reserved, or the last reference of `file` was put; nothing changes.
   * @see Linux 6.1 `fs/file.c` fd_install
   */
  installReserved(fd: number, file: OpenFile | DmaBuf): void {
    const entry = this.#entries[fd];
    assert(entry?.state === 'reserved', 'installReserved: fd %s is not reserved', fd);
    checkReferenced('installReserved', file);
    this.#entries[fd] = { state: 'open', cloexec: entry.cloexec, file: asFile(file) };
    this.#reservedCount--;
    this.notes?.opened(fd, asFile(file));
  }

  /**
   * Makes a descriptor for `file`, the lowest free number, and hands it the caller's reference.
   *
   * @throws {ErrnoError} `EMFILE`; the caller keeps its reference then (retry after a close).
   * @throws {InvariantError} the last reference of `file` was put.
   * @see Linux 6.1 `drivers/dma-buf/dma-buf.c` dma_buf_fd
   */
  install(file: OpenFile | DmaBuf, options?: FdOptions): number {
    checkReferenced('install', file);
    const fd = this.reserve(options);
    this.installReserved(fd, file);
    return fd;
  }

  /**
   * Makes a file and a descriptor for it as a system call has to: the number is reserved first, the process is told of it, and
   * only then can it be used. Whatever fails, neither descriptor nor file is left.
   *
   * @param make - makes the file; its reference goes to the descriptor. @param tell - tells the process, which can fail.
   * @throws {ErrnoError} `EMFILE`, before anything is made (retry after a close); what `make` and `tell` throw.
   */
  publish(make: () => OpenFile | DmaBuf, tell: (fd: number) => void, options?: FdOptions): number {
    const fd = this.reserve(options);
    let made: OpenFile | DmaBuf | null = null;
    let installed = false;
    try {
      const file = make();
      made = file;
      tell(fd);
      this.installReserved(fd, file);
      installed = true;
      return fd;
    } finally {
      if (!installed) {
        this.unreserve(fd);
        made?.put();
      }
    }
  }

  /**
   * The buffer behind `fd`, with a reference of the caller's own.
   *
   * @throws {ErrnoError} `EBADF` the descriptor is not open; `EINVAL` it is no dma-buf (never retry).
   * @see Linux 6.1 dma_buf_get
   */
  get(fd: number): DmaBuf {
    const file = this.file(fd, 'dma_buf_get');
    if (!(file instanceof DmaBufFile)) throw new ErrnoError('EINVAL', 'dma_buf_get', `fd ${fd} is no dma-buf`);
    return file.buf.get();
  }

  /** The file behind `fd`, without a reference. @throws {ErrnoError} `EBADF` it is not open (never retry). */
  file(fd: number, op = 'fget'): OpenFile {
    const entry = this.#entries[fd];
    if (entry?.state !== 'open') throw new ErrnoError('EBADF', op, `fd ${fd} is not open`);
    return entry.file;
  }

  /** Whether `fd` is closed on exec. @throws {ErrnoError} `EBADF`. @see fcntl(2) F_GETFD */
  isCloexec(fd: number): boolean {
    this.file(fd, 'fcntl');
    return this.#entries[fd]?.cloexec ?? false;
  }

  /** Sets whether `fd` is closed on exec. @throws {ErrnoError} `EBADF`. @see fcntl(2) F_SETFD */
  setCloexec(fd: number, cloexec: boolean): void {
    const file = this.file(fd, 'fcntl');
    this.#entries[fd] = { state: 'open', cloexec, file };
  }

  /**
   * A second descriptor for the same file with a reference of its own, the lowest free number. The new one is not closed on
   * exec unless `options` say so.
   *
   * @throws {ErrnoError} `EBADF` it is not open; `EINVAL` `from` is not below the limit (never retry); `EMFILE` (retry after a
   *   close). Nothing changes then.
   * @see dup(2); fcntl(2) F_DUPFD, F_DUPFD_CLOEXEC
   */
  dup(fd: number, options: FdOptions = {}): number {
    const file = this.file(fd, 'dup');
    const { from = 0 } = options;
    if (!Number.isInteger(from) || from < 0 || from >= this.#limit) {
      throw new ErrnoError('EINVAL', 'dup', `from ${from} is no descriptor below ${this.#limit}`);
    }
    const copy = this.reserve(options);
    this.installReserved(copy, file.get());
    return copy;
  }

  /**
   * Makes `newFd` a second descriptor for the file of `fd`, closing what `newFd` was before. With both the same, nothing happens.
   *
   * @throws {ErrnoError} `EBADF` `fd` is not open, or `newFd` is no possible number (never retry); `EBUSY` `newFd` is reserved
   *   by a call that has not installed it yet (retry). Nothing changes then.
   * @throws {InvariantError} as {@link close} for what `newFd` was.
   * @see dup2(2)
   */
  dup2(fd: number, newFd: number): number {
    const file = this.file(fd, 'dup2');
    return fd === newFd ? newFd : this.#replace(file, newFd, false);
  }

  /** {@link dup2} with flags. @throws {ErrnoError} `EINVAL` both are the same (never retry); else as dup2. @see dup3(2) */
  dup3(fd: number, newFd: number, { cloexec = false }: Pick<FdOptions, 'cloexec'> = {}): number {
    if (fd === newFd) throw new ErrnoError('EINVAL', 'dup3', `fd ${fd} is both the old and the new one`);
    return this.#replace(this.file(fd, 'dup3'), newFd, cloexec);
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
    const file = this.file(fd, 'close');
    this.drop(fd);
    this.onClose?.(file, `close(${fd})`);
  }

  /** @internal {@link close}, of which nobody is told. */
  drop(fd: number): void {
    this.file(fd, 'close').put();
    this.#entries[fd] = FREE;
    this.notes?.closed(fd);
  }

  /** @internal Whether some descriptor stands for `file`. */
  isOpen(file: OpenFile): boolean {
    return this.#entries.some((entry) => entry.state === 'open' && entry.file === file);
  }

  /** @internal Fork: the same descriptors for the same files, each with a reference of its own. Reserved numbers stay behind. */
  copy(): FdTable {
    const table = new FdTable(Math.max(this.#limit, STANDARD_FDS));
    table.#limit = this.#limit;
    table.#entries.length = 0;
    for (const entry of this.#entries) {
      if (entry.state === 'open') entry.file.get();
      table.#entries.push(entry.state === 'open' ? entry : FREE);
    }
    return table;
  }

  /** @internal Descriptors that exec closes, ascending. */
  get closedOnExec(): number[] {
    return this.#entries.flatMap((entry, fd) => (entry.state === 'open' && entry.cloexec ? [fd] : []));
  }

  #replace(file: OpenFile, newFd: number, cloexec: boolean): number {
    if (!Number.isInteger(newFd) || newFd < 0 || newFd >= this.#limit) {
      throw new ErrnoError('EBADF', 'dup2', `newFd ${newFd} is no descriptor below ${this.#limit}`);
    }
    const old = this.#entries[newFd] ?? FREE;
    if (old.state === 'reserved') throw new ErrnoError('EBUSY', 'dup2', `newFd ${newFd} is being opened`);
    if (old.state === 'open') old.file.put();
    this.notes?.closed(newFd);
    this.#set(newFd, { state: 'open', cloexec, file: file.get() });
    this.notes?.opened(newFd, file);
    if (old.state === 'open') this.onClose?.(old.file, `dup2(…, ${newFd})`);
    return newFd;
  }

  #set(fd: number, entry: Entry): void {
    while (this.#entries.length < fd) this.#entries.push(FREE);
    this.#entries[fd] = entry;
  }
}

function asFile(file: OpenFile | DmaBuf): OpenFile {
  return file instanceof DmaBuf ? dmaBufFile(file) : file;
}

function checkReferenced(op: string, file: OpenFile | DmaBuf): void {
  const name = file instanceof DmaBuf ? file.name : file.path;
  assert(file.references > 0, '%s: the last reference of %s was put', op, name);
}
