/**
 * A user process: descriptors, system calls and mappings of shared buffers. What a program does with a real fd, it does here.
 *
 * System calls that can wait are operations. Each charges `syscallNs`, also when it fails, and holds a reference of the
 * file while it lasts, so that a close in the meantime does not pull it away. At its end the buffers are released whose last
 * reference it put.
 *
 * A process ends with {@link Process.exit} or {@link Process.kill}, wherever its threads are: everything it held is given back.
 *
 * **Inaccuracies.** What is called on the descriptor table itself, and `munmap` of a mapping, charge no `syscallNs`.
 * @see Linux 6.1 `fs/ioctl.c`, `fs/read_write.c`, `mm/mmap.c`, `kernel/fork.c`, `kernel/exit.c`
 */
import { ErrnoError } from '../base/errors.ts';
import type { CoherencyDomain } from '../cache/coherency.ts';
import type { DmaFence } from '../dmabuf/dma-fence.ts';
import { lift, type MaybeOp, type Op } from '../sim/op.ts';
import type { Simulator } from '../sim/simulator.ts';
import type { Task } from '../sim/task.ts';
import { AddressSpace } from './address-space.ts';
import { deviceNodes } from './device-nodes.ts';
import { fcntl } from './fcntl.ts';
import { FdTable } from './fd-table.ts';
import { type InstallFenceOptions, installFence } from './fence-file.ts';
import { type FileStat, O, type OpenFile } from './file.ts';
import { type Fields, IoctlCall, type IoctlRequest, type UserStruct } from './ioctl.ts';
import { type IoctlArgument, type IoctlOptions, UserArgument } from './ioctl-argument.ts';
import { type MmapRange, mapFile } from './mmap.ts';
import { FdNotes } from './object-notes.ts';
import { type PollRequest, pollFds, type SelectSets, selectFds } from './poll.ts';
import { ProcessEnd } from './process-end.ts';
import { ProcessThreads } from './process-threads.ts';
import { SignalState } from './signals.ts';
import {
  asSocket,
  type IncomingMessage,
  type OutgoingMessage,
  openSocketPair,
  type ReceiveOptions,
  type SocketOptions,
} from './socket.ts';
import { SyncBrackets } from './sync-brackets.ts';
import { holding, SyscallGate } from './syscall.ts';
import type { UserMapping } from './user-mapping.ts';

/** How to make a {@link Process}. */
export interface ProcessOptions {
  readonly name: string;
  /** What each system call charges, in ns. Default 0. */
  readonly syscallNs?: number;
  /** `RLIMIT_NOFILE`. Default 1024. */
  readonly maxFds?: number;
  /** Whether brackets of CPU access that do not pair are reported. Default: as the simulator watches, which that of a machine does. */
  readonly watch?: boolean;
}

/** Bytes of a command's name. @see Linux 6.1 `include/linux/sched.h` TASK_COMM_LEN */
const COMM_BYTES = 15;

/** One process of the machine. */
export class Process {
  readonly name: string;
  readonly sim: Simulator;
  /** Its descriptors. */
  readonly fds: FdTable;
  readonly #coherency: CoherencyDomain;
  readonly #syscallNs: number;
  readonly #signals: SignalState;
  readonly #gate: SyscallGate;
  readonly #children: Process[] = [];
  readonly #threads: ProcessThreads;
  /** @internal `null`: nobody watches them. */
  readonly brackets: SyncBrackets | null;
  readonly #space: AddressSpace;
  readonly #end: ProcessEnd;

  /**
   * @param inherited - @internal what a fork passes on.
   * @throws {InvariantError} `maxFds` is no whole number >= 3.
   */
  constructor(
    sim: Simulator,
    coherency: CoherencyDomain,
    options: ProcessOptions,
    inherited: { readonly fds: FdTable; readonly space: AddressSpace } | null = null,
  ) {
    this.name = options.name;
    this.sim = sim;
    this.fds = inherited?.fds ?? new FdTable(options.maxFds);
    this.#space = inherited?.space ?? new AddressSpace(coherency);
    if (sim.objects.enabled) this.fds.notes = new FdNotes(sim, this.name, this.fds);
    this.#coherency = coherency;
    this.#syscallNs = options.syscallNs ?? 0;
    this.#signals = new SignalState(sim, options.name, this);
    this.#gate = new SyscallGate(sim, this.fds, this.#signals);
    this.#threads = new ProcessThreads(sim, options.name);
    this.brackets = (options.watch ?? sim.syncs.enabled) ? new SyncBrackets(sim, options.name) : null;
    const parts = { name: this.name, fds: this.fds, space: this.#space, threads: this.#threads, gate: this.#gate };
    this.#end = new ProcessEnd(sim, { ...parts, brackets: this.brackets });
  }

  /** Its name, as short as the kernel keeps it. */
  get comm(): string {
    return this.name.slice(0, COMM_BYTES);
  }

  /** Its mappings, oldest first. */
  get mappings(): readonly UserMapping[] {
    return this.#space.mappings;
  }

  /** Its threads that have not ended, oldest first. */
  get threads(): readonly Task<unknown>[] {
    return this.#threads.live;
  }

  /** What it has forked, oldest first. */
  get children(): readonly Process[] {
    return this.#children;
  }

  /**
   * Opens a device node. May wait for its driver.
   *
   * @param flags - {@link O} bits. Default: reading and writing.
   * @throws {ErrnoError} `ENOENT` there is none at `path` (never retry); `EMFILE` (retry after a close); what the driver throws.
   */
  *open(path: string, flags: number = O.rdwr): Op<number> {
    return yield* this.#syscall('open', () => this.#open(path, flags));
  }

  /** Closes `fd`; waits for the release of what it was the last reference of. @throws as {@link FdTable.close}. */
  *close(fd: number): Op<void> {
    yield* this.#syscall('close', () => this.fds.close(fd));
  }

  /**
   * Does `request` on `fd`. May wait for whatever the file waits for.
   *
   * @param argument - for a typed request the struct it points to: fields that are missing are 0, and what the kernel copies back is
   *   in the object afterwards, also when the call fails. Or the bytes themselves, which may be too few; a number by value; a string,
   *   which is passed with its final zero; `null` for a bad pointer.
   * @returns of a typed request the struct, of a number what the kernel answers.
   * @throws {ErrnoError} `EBADF` not open; `ENOTTY` the file does not know it; `EFAULT` bad memory (never retry); else what the
   *   file throws.
   * @see Linux 6.1 `fs/ioctl.c` ioctl
   */
  ioctl<F extends Fields>(
    fd: number,
    request: IoctlRequest<F>,
    argument: Partial<UserStruct<F>> | Uint8Array | number | null,
    options?: IoctlOptions,
  ): Op<UserStruct<F>>;
  ioctl(fd: number, request: number, argument: IoctlArgument, options?: IoctlOptions): Op<number>;
  *ioctl<F extends Fields>(
    fd: number,
    request: IoctlRequest<F> | number,
    argument: Partial<UserStruct<F>> | IoctlArgument,
    options: IoctlOptions = {},
  ): Op<UserStruct<F> | number> {
    const user = new UserArgument(request, argument, options);
    try {
      const result = yield* this.#withFile(fd, 'ioctl', (file) =>
        file.ioctl(new IoctlCall(this, user.code, user.address, user.memory)),
      );
      return user.struct() ?? result;
    } finally {
      user.copyBack();
    }
  }

  /**
   * Maps a part of the file behind `fd`; the mapping holds a reference of its own, so the fd may be closed. May wait for the
   * exporter.
   *
   * @throws {ErrnoError} `EBADF` not open; `EINVAL` an offset off a page, length 0, or what the file does not allow; `EACCES` it was
   *   not opened for that; `ENODEV` it cannot be mapped; `ENOMEM` more than the address space has (never retry); what the file throws.
   *   Nothing is mapped then.
   * @throws {InvariantError} the exporter gave fewer bytes than the buffer has.
   * @see Linux 6.1 `mm/mmap.c` do_mmap
   */
  *mmap(fd: number, range: MmapRange = {}): Op<UserMapping> {
    return yield* this.#withFile(fd, 'mmap', (file) => mapFile(this.#space, { name: this.name, fd, file }, range));
  }

  /** Unmaps a range. Plain. @returns new mappings for what is left of those it cuts. @throws as `AddressSpace.unmap`. @see munmap(2) */
  munmap(address: number, length: number): UserMapping[] {
    this.sim.charge(this.#syscallNs);
    return this.#space.unmap(address, length);
  }

  /** Moves or asks the position. Plain. @throws {ErrnoError} `EBADF` not open; `ESPIPE` none; else what the file throws. @see lseek(2) */
  lseek(fd: number, offset: number, whence: number): number {
    this.sim.charge(this.#syscallNs);
    return this.fds.file(fd, 'lseek').lseek(offset, whence);
  }

  /** Reads at most `count` bytes. May wait. @throws {ErrnoError} `EBADF` not open for reading; what the file throws. @see read(2) */
  *read(fd: number, count: number): Op<Uint8Array> {
    return yield* this.#withFile(fd, 'read', (file) => {
      if (!file.isReadable) throw new ErrnoError('EBADF', 'read', `fd ${fd} is not open for reading`);
      return file.read(count);
    });
  }

  /** Writes. May wait. @returns how many bytes. @throws {ErrnoError} `EBADF` not open for writing; what the file throws. @see write(2) */
  *write(fd: number, bytes: Uint8Array): Op<number> {
    return yield* this.#withFile(fd, 'write', (file) => {
      if (!file.isWritable) throw new ErrnoError('EBADF', 'write', `fd ${fd} is not open for writing`);
      return file.write(bytes);
    });
  }

  /** Reads from `offset` on. May wait. @throws {ErrnoError} `EBADF` not open; `ESPIPE`; what the file throws. @see pread(2) */
  *pread(fd: number, count: number, offset: number): Op<Uint8Array> {
    return yield* this.#withFile(fd, 'pread', (file) => file.pread(count, offset));
  }

  /** Does a command of `F` on the descriptor or its file. Plain. @throws {ErrnoError} `EBADF`; `EINVAL`; `EMFILE`. @see fcntl(2) */
  fcntl(fd: number, command: number, argument = 0): number {
    this.sim.charge(this.#syscallNs);
    return fcntl(this.fds, fd, command, argument);
  }

  /** Changes the size of a regular file. Plain. @throws {ErrnoError} `EBADF`; `EINVAL` it is none. @see ftruncate(2) */
  ftruncate(fd: number, length: number): void {
    this.sim.charge(this.#syscallNs);
    const file = this.fds.file(fd, 'ftruncate');
    if (!file.isWritable) throw new ErrnoError('EINVAL', 'ftruncate', `fd ${fd} is not open for writing`);
    file.ftruncate(length);
  }

  /** Makes room in a regular file. Plain. @throws {ErrnoError} `EBADF`; `ENODEV` it is none. @see fallocate(2) */
  fallocate(fd: number, mode: number, offset: number, length: number): void {
    this.sim.charge(this.#syscallNs);
    const file = this.fds.file(fd, 'fallocate');
    if (!file.isWritable) throw new ErrnoError('EBADF', 'fallocate', `fd ${fd} is not open for writing`);
    file.fallocate(mode, offset, length);
  }

  /** Plain. @throws {ErrnoError} `EBADF`; `EINVAL` the file has no disk. @see fsync(2) */
  fsync(fd: number): void {
    this.sim.charge(this.#syscallNs);
    this.fds.file(fd, 'fsync').fsync();
  }

  /** Plain. @throws {ErrnoError} `EBADF`. @see fstat(2) */
  fstat(fd: number): FileStat {
    this.sim.charge(this.#syscallNs);
    return this.fds.file(fd, 'fstat').fstat();
  }

  /** The lines of `/proc/self/fdinfo/FD`. Plain. @throws {ErrnoError} `ENOENT` not open. @see proc_pid_fdinfo(5) */
  fdinfo(fd: number): string[] {
    const file = this.#procFile(fd, 'fdinfo');
    const flags = file.flags | (this.fds.isCloexec(fd) ? O.cloexec : 0);
    const shared = [`pos:\t${file.pos}`, `flags:\t0${flags.toString(8)}`, 'mnt_id:\t1', `ino:\t${file.ino}`];
    return [...shared, ...file.fdinfo()];
  }

  /** What `/proc/self/fd/FD` points to. Plain. @throws {ErrnoError} `ENOENT` not open. @see proc_pid_fd(5) */
  readlink(fd: number): string {
    return this.#procFile(fd, 'readlink').path;
  }

  /** Opens `/proc/self/fd/FD` anew. Plain. @throws {ErrnoError} `ENOENT` not open; `ENXIO` it has no name (never retry); `EMFILE`. */
  reopen(fd: number, flags: number = O.rdwr): number {
    this.sim.charge(this.#syscallNs);
    const file = this.#procFile(fd, 'open');
    return this.fds.install(file.reopen(flags), { cloexec: (flags & O.cloexec) !== 0 });
  }

  /**
   * Waits until something that was asked for is ready, and notes it in the requests.
   *
   * @param timeoutNs - at most so long; negative: no limit; 0 only asks.
   * @returns how many requests have something ready; 0 when the time is up.
   * @throws {ErrnoError} `EINTR` a signal came first (retry); `EINVAL` more requests than descriptors allowed (never retry).
   * @see Linux 6.1 `fs/select.c` do_sys_poll
   */
  *poll(requests: readonly PollRequest[], timeoutNs = -1): Op<number> {
    return yield* this.#syscall('poll', () => pollFds(this, requests, timeoutNs));
  }

  /** As {@link poll}, in the older form. @throws {ErrnoError} `EBADF` a descriptor is not open (never retry); `EINTR`. @see select(2) */
  *select(sets: SelectSets, timeoutNs = -1): Op<Required<SelectSets>> {
    return yield* this.#syscall('select', () => selectFds(this, sets, timeoutNs));
  }

  /**
   * A signal comes whose handler does nothing: calls of every thread that wait so that they can be interrupted end with `EINTR`, have
   * changed nothing and can be made again. These are `read`, `write` and `recvmsg`, `poll` and `select`, and the waits for fences and sync
   * objects of `ioctl`; waits for locks, exporters and drivers go on. Plain. @see signal(7)
   */
  interrupt(): void {
    this.#signals.deliver();
  }

  /** Two descriptors of connected sockets. Plain. @throws {ErrnoError} `EMFILE`; nothing is left. @see socketpair(2) */
  socketpair(options: SocketOptions = {}): [number, number] {
    this.sim.charge(this.#syscallNs);
    return openSocketPair(this.sim, this.fds, options);
  }

  /** Sends bytes and files. Plain. @throws {ErrnoError} `EBADF`, `ENOTSOCK`, `EPIPE`, `EINVAL` (never retry). @see sendmsg(2) */
  sendmsg(fd: number, message: OutgoingMessage): number {
    this.sim.charge(this.#syscallNs);
    return asSocket(this.fds.file(fd, 'sendmsg'), 'sendmsg').send(this.fds, message);
  }

  /** Receives; waits for a message. @throws {ErrnoError} `EBADF`, `ENOTSOCK` (never retry); `EAGAIN` (retry). @see recvmsg(2) */
  *recvmsg(fd: number, options: ReceiveOptions = {}): Op<IncomingMessage> {
    return yield* this.#withFile(fd, 'recvmsg', (file) => asSocket(file, 'recvmsg').receive(this.fds, options));
  }

  /**
   * A descriptor for a new sync file of `fence`, which takes a reference of its own: how a driver answers a submission. Plain; charges
   * nothing, since it is part of a request.
   *
   * @throws {ErrnoError} `EMFILE`, `ENOMEM` (retry later); nothing is left then. {InvariantError} `fence` is none.
   * @see Linux 6.1 sync_file_create, fd_install
   */
  installFence(fence: DmaFence, options: InstallFenceOptions = {}): number {
    return installFence(this, fence, options);
  }

  /** A thread: a task that ends with the process. */
  spawn<T>(name: string, body: () => Op<T>): Task<T> {
    return this.#threads.spawn(name, body);
  }

  /** A child with the same descriptors and mappings, which hold references of their own. Plain. @see fork(2) */
  fork(name: string): Process {
    this.sim.charge(this.#syscallNs);
    const inherited = { fds: this.fds.copy(), space: this.#space.fork(name) };
    const options = { name, syscallNs: this.#syscallNs, watch: this.brackets !== null };
    const child = new Process(this.sim, this.#coherency, options, inherited);
    this.#children.push(child);
    return child;
  }

  /** Begins another program: unmaps everything and closes what is closed on exec. Plain. @throws as {@link exit}. @see execve(2) */
  exec(): void {
    this.sim.charge(this.#syscallNs);
    this.#end.exec();
  }

  /**
   * Ends the process: kills its other threads, and when they are gone unmaps everything, closes every descriptor, gives reserved numbers
   * back. Plain. Without other threads that is now; else at this instant, or when what they owe and wait for in `finally` is over.
   * The running task, if it is a thread of the process, goes on: it should end here.
   *
   * @throws {InvariantError} a mapping or descriptor has the last reference of a buffer that a device is attached to. That
   *   one is kept, everything else is given back; the first such error is thrown at the end (retry after the detach).
   * @throws {HazardError} `dmabuf.unbalanced-sync` under policy `'throw'`: a bracket was open; everything is given back.
   * @see _exit(2), exit_group(2)
   */
  exit(): void {
    this.#end.exit();
  }

  /**
   * Ends the process and its threads, wherever they are; waits until they are gone. Nothing is said of open brackets. A thread of the
   * process itself that calls this ends here. @throws as {@link exit}. @see kill(2) SIGKILL
   */
  kill(): Op<void> {
    return this.#end.kill();
  }

  #syscall<T>(op: string, body: () => MaybeOp<T>): Op<T> {
    this.sim.charge(this.#syscallNs);
    return this.#gate.run(op, body);
  }

  *#withFile<T>(fd: number, op: string, body: (file: OpenFile) => MaybeOp<T>): Op<T> {
    return yield* this.#syscall(op, () => holding(this.fds.file(fd, op), body));
  }

  *#open(path: string, flags: number): Op<number> {
    const node = deviceNodes(this.sim).find(path);
    const fd = this.fds.reserve({ cloexec: (flags & O.cloexec) !== 0 });
    let isOpen = false;
    try {
      this.fds.installReserved(fd, yield* lift(node(this, flags & ~O.cloexec)));
      isOpen = true;
      return fd;
    } finally {
      if (!isOpen) this.fds.unreserve(fd);
    }
  }

  #procFile(fd: number, op: string): OpenFile {
    this.sim.charge(this.#syscallNs);
    try {
      return this.fds.file(fd, op);
    } catch (error) {
      if (error instanceof ErrnoError) throw new ErrnoError('ENOENT', op, `there is no /proc/self/fd/${fd}`);
      throw error;
    }
  }
}
