/**
 * An open file: what descriptors, mappings and messages in sockets refer to, whatever kind of thing it is.
 *
 * 1. Each descriptor, mapping and message holds one reference. A system call holds one while it lasts.
 * 2. The last {@link OpenFile.put} calls `release`, in place. A file whose object has a count of its own shows that one.
 * 3. A kind of file is a subclass. Whatever it does not implement answers what Linux answers for a file without it.
 *
 * @see Linux 6.1 `include/linux/fs.h` struct file, struct file_operations; `fs/file_table.c`
 */
import { assert } from '../base/assert.ts';
import { ErrnoError } from '../base/errors.ts';
import type { CpuMapping } from '../dmabuf/dma-buf-ops.ts';
import type { MaybeOp } from '../sim/op.ts';
import type { WaitQueue } from '../sim/wait-queue.ts';
import type { ObjectLedger } from '../trace/object-ledger.ts';
import type { IoctlCall } from './ioctl.ts';

/** Flags of open(2). @see Linux 6.1 `include/uapi/asm-generic/fcntl.h` */
export const O = {
  rdonly: 0,
  wronly: 1,
  rdwr: 2,
  accmode: 3,
  nonblock: 0o4000,
  cloexec: 0o2000000,
} as const;

/** Events of poll(2). @see Linux 6.1 `include/uapi/asm-generic/poll.h` */
export const POLL = {
  in: 1,
  pri: 2,
  out: 4,
  err: 8,
  hup: 0x10,
  nval: 0x20,
  rdnorm: 0x40,
  rdband: 0x80,
  wrnorm: 0x100,
  wrband: 0x200,
} as const;

/** Rights of a mapping. @see mmap(2) */
export const PROT = { none: 0, read: 1, write: 2, exec: 4 } as const;

/** What fstat(2) tells. */
export interface FileStat {
  readonly size: number;
  /** Type and permission bits. */
  readonly mode: number;
  readonly nlink: number;
  /** Blocks of 512 bytes. */
  readonly blocks: number;
  readonly blksize: number;
  readonly ino: number;
}

/** A range that a process wants to map; in whole pages. */
export interface VmaRequest {
  /** Bytes from the file's start. */
  readonly offset: number;
  readonly length: number;
  /** {@link PROT} bits. */
  readonly prot: number;
  /** `MAP_SHARED`; else `MAP_PRIVATE`. */
  readonly shared: boolean;
}

/** What a file gives to be mapped. */
export interface VmaBacking {
  /** The memory of exactly the range that was asked for, and its type. */
  readonly memory: CpuMapping;
  /** The file that the mapping keeps; it brings a reference for it. Default: the file that was mapped. */
  readonly file?: OpenFile;
  /** As reports call it: `'cam0'`. */
  readonly name: string;
  /** One more mapping of it came to be: a fork copied it, or it was split. */
  opened?(): undefined;
  /** One mapping of it is gone; called once for the first, and once for each {@link opened}. */
  closed?(): undefined;
  /** What to call before reading and after writing through fd `fd`, for reports of stale accesses. */
  remedy?(fd: number): { readonly beforeRead: string; readonly afterWrite: string };
}

/** Where a poll learns what to wait for. `null` asks only for the state. */
export type PollTable = ((queue: WaitQueue) => void) | null;

/** See the header. */
export abstract class OpenFile {
  /** What it is, as `/proc/PID/fd` shows it: `'/dmabuf:'`, `'anon_inode:sync_file'`. */
  abstract readonly path: string;
  /** Access mode and status flags as F_GETFL shows them: {@link O} bits. */
  flags: number;
  /** Where read and write go on. */
  pos = 0;
  /** @internal The ledger that knows it, once a process has it. */
  objects: ObjectLedger | null = null;
  #references = 1;

  constructor(flags: number = O.rdonly) {
    this.flags = flags;
  }

  /** References that are held. 0: it is gone. */
  get references(): number {
    return this.#references;
  }

  /** Whether it was opened for reading: an access mode of 3 allows neither. */
  get isReadable(): boolean {
    return ((this.flags + 1) & 1) !== 0;
  }

  /** Whether it was opened for writing. */
  get isWritable(): boolean {
    return ((this.flags + 1) & 2) !== 0;
  }

  /** Takes a reference. Plain. @throws {InvariantError} the last one was put. @see Linux 6.1 get_file */
  get(): this {
    assert(this.references > 0, '%s: get after its last put', this.path);
    this.#references++;
    this.objects?.got(this);
    return this;
  }

  /** Gives a reference back; the last releases the file. Plain. @throws {InvariantError} more puts than gets. @see Linux 6.1 fput */
  put(): void {
    assert(this.#references > 0, '%s: more puts than gets', this.path);
    this.#references--;
    this.objects?.put(this);
    if (this.#references === 0) this.release();
  }

  /** @internal {@link get} for `holder`: the ledger knows whose reference it is. */
  getFor(holder: object): this {
    this.objects?.hold(holder, this.counted);
    return this.get();
  }

  /** @internal {@link put} of what {@link getFor} took for `holder`. */
  putFor(holder: object): void {
    this.put();
    this.objects?.unhold(holder, this.counted);
  }

  /** @internal What the references are counted of. */
  get counted(): object {
    return this;
  }

  /** @internal What is a part of it and holds other things. */
  get parts(): readonly object[] {
    return [];
  }

  /** The last reference is gone. Must succeed. */
  protected release(): void {}

  /** Does a request. @returns the system call's result. @throws {ErrnoError} `ENOTTY` it knows none, or not this one. */
  ioctl(call: IoctlCall): MaybeOp<number> {
    throw noIoctl(call);
  }

  /** Lets a process map it. Rights were checked against {@link flags}. @throws {ErrnoError} `ENODEV` it cannot be mapped. */
  mmap(_vma: VmaRequest): MaybeOp<VmaBacking> {
    throw new ErrnoError('ENODEV', 'mmap', `${this.path} cannot be mapped`);
  }

  /**
   * What is ready now, {@link POLL} bits: exactly what the kernel's poll callback returns. May wait for a lock. The first argument is what
   * the caller wants to hear of (`err` and `hup` always); the second gets every queue that is woken when that changes.
   */
  poll(_events: number, _wait: PollTable): MaybeOp<number> {
    return POLL.in | POLL.out | POLL.rdnorm | POLL.wrnorm;
  }

  /** Reads at most `count` bytes. @throws {ErrnoError} `EINVAL` it has nothing to read. */
  read(_count: number): MaybeOp<Uint8Array> {
    throw new ErrnoError('EINVAL', 'read', `${this.path} has nothing to read`);
  }

  /** Writes. @returns how many bytes. @throws {ErrnoError} `EINVAL` it takes no bytes. */
  write(_bytes: Uint8Array): MaybeOp<number> {
    throw new ErrnoError('EINVAL', 'write', `${this.path} takes no bytes`);
  }

  /** Reads from `offset` on, without {@link pos}. @throws {ErrnoError} `ESPIPE` it has no positions. */
  pread(_count: number, _offset: number): MaybeOp<Uint8Array> {
    throw new ErrnoError('ESPIPE', 'pread', `${this.path} has no positions`);
  }

  /** Writes from `offset` on. @throws {ErrnoError} `ESPIPE` it has no positions. */
  pwrite(_bytes: Uint8Array, _offset: number): MaybeOp<number> {
    throw new ErrnoError('ESPIPE', 'pwrite', `${this.path} has no positions`);
  }

  /** Moves {@link pos}. @throws {ErrnoError} `ESPIPE` it has no positions. */
  lseek(_offset: number, _whence: number): number {
    throw new ErrnoError('ESPIPE', 'lseek', `${this.path} has no positions`);
  }

  /** Changes its size. @throws {ErrnoError} `EINVAL` it is no regular file. */
  ftruncate(_length: number): void {
    throw new ErrnoError('EINVAL', 'ftruncate', `${this.path} is no regular file`);
  }

  /** Makes room. @throws {ErrnoError} `ENODEV` it is no regular file. */
  fallocate(_mode: number, _offset: number, _length: number): void {
    throw new ErrnoError('ENODEV', 'fallocate', `${this.path} is no regular file`);
  }

  /** Brings it to its disk. @throws {ErrnoError} `EINVAL` it has none. */
  fsync(): void {
    throw new ErrnoError('EINVAL', 'fsync', `${this.path} has no disk`);
  }

  /** F_ADD_SEALS. @throws {ErrnoError} `EINVAL` it has no seals. */
  addSeals(_seals: number): void {
    throw new ErrnoError('EINVAL', 'fcntl', `${this.path} has no seals`);
  }

  /** F_GET_SEALS. @throws {ErrnoError} `EINVAL` it has no seals. */
  getSeals(): number {
    throw new ErrnoError('EINVAL', 'fcntl', `${this.path} has no seals`);
  }

  /** Opens what it stands for anew, through `/proc/self/fd`. @throws {ErrnoError} `ENXIO` it has no name in a file system. */
  reopen(_flags: number): OpenFile {
    throw new ErrnoError('ENXIO', 'open', `${this.path} has no name in a file system`);
  }

  /** What fstat(2) tells. Default: an empty file of mode 0600 without a type, as all files without a name are. */
  fstat(): FileStat {
    return { size: 0, mode: 0o600, nlink: 1, blocks: 0, blksize: 4096, ino: this.ino };
  }

  /** Its number in its file system. Files without a name all share one. */
  get ino(): number {
    return 1;
  }

  /** Lines of `/proc/PID/fdinfo/FD` behind those that all files have. */
  fdinfo(): string[] {
    return [];
  }
}

/** @internal Standard input, output and error: a terminal that nobody reads. */
export class StandardFile extends OpenFile {
  readonly path = '/dev/pts/0';

  constructor() {
    super(O.rdwr);
  }

  override write(bytes: Uint8Array): number {
    return bytes.length;
  }

  override fstat(): FileStat {
    return { ...super.fstat(), mode: 0o20620, blksize: 1024 };
  }

  override reopen(): OpenFile {
    return new StandardFile();
  }
}

/** What a file answers to a request that it does not know. */
export function noIoctl(call: IoctlCall): ErrnoError {
  return new ErrnoError('ENOTTY', 'ioctl', `request 0x${call.code.toString(16)} is unknown to this file`);
}
