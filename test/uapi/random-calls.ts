/** The calls that random programs make, with arguments that fit most often. */
import { ErrnoError } from '../../src/base/errors.ts';
import { DMA_BUF_SYNC } from '../../src/dmabuf/dma-buf-sync.ts';
import type { MaybeOp, Op } from '../../src/sim/op.ts';
import type { Prng } from '../../src/sim/prng.ts';
import {
  DMA_BUF_IOCTL_EXPORT_SYNC_FILE,
  DMA_BUF_IOCTL_IMPORT_SYNC_FILE,
  DMA_BUF_IOCTL_SYNC,
  DmaBufFile,
} from '../../src/uapi/dma-buf-file.ts';
import { DMA_HEAP_IOCTL_ALLOC, DmaHeapFile } from '../../src/uapi/dma-heap-file.ts';
import { DrmFile } from '../../src/uapi/drm-file.ts';
import {
  DRM_IOCTL_GEM_CLOSE,
  DRM_IOCTL_GEM_FLINK,
  DRM_IOCTL_GEM_OPEN,
  DRM_IOCTL_MODE_MAP_DUMB,
  DRM_IOCTL_PRIME_FD_TO_HANDLE,
  DRM_IOCTL_PRIME_HANDLE_TO_FD,
  DRM_IOCTL_VGEM_FENCE_ATTACH,
  DRM_IOCTL_VGEM_FENCE_SIGNAL,
} from '../../src/uapi/drm-ioctl.ts';
import { FenceFile, SYNC_IOC_MERGE } from '../../src/uapi/fence-file.ts';
import { O, type OpenFile } from '../../src/uapi/file.ts';
import type { Process } from '../../src/uapi/process.ts';
import { SocketFile } from '../../src/uapi/socket.ts';
import { SW_SYNC_IOC_INC, SW_SYNC_PATH, SwSyncFile } from '../../src/uapi/sw-sync.ts';
import type { Marks } from './mark-and-sweep.ts';
import { CARDS, createDumb, fenceAt, HEAP } from './system.ts';

/** So few that a process often has no descriptor left. */
export const MAX_FDS = 20;

/** A system call to make. */
export interface Call {
  readonly name: string;
  /** Of whose files it holds a reference while it lasts. */
  readonly fds: readonly number[];
  /** Gets the first of them. */
  readonly body: (fd: number) => MaybeOp<unknown>;
  readonly events?: number;
  readonly timeoutNs?: number;
}

function* alloc(process: Process, heap: number): Op<void> {
  yield* process.ioctl(heap, DMA_HEAP_IOCTL_ALLOC, { len: 12_288, fd_flags: O.rdwr | O.cloexec });
}

/** Makes calls; each notes what can not be seen from outside. */
export class RandomCalls {
  readonly #marks: Marks;
  readonly #random: Prng;
  readonly #peers = new Map<OpenFile, OpenFile>();

  constructor(marks: Marks, random: Prng) {
    this.#marks = marks;
    this.#random = random;
  }

  /** Which call, and with which arguments. Each notes what it holds while it lasts. */
  anything(process: Process, what: number): Call {
    const fd = this.#fd(process);
    const card = this.fdOf(process, DrmFile);
    if (what < 13) return this.open(process);
    if (what < 20)
      return { name: 'alloc', fds: [this.fdOf(process, DmaHeapFile)], body: (heap) => alloc(process, heap) };
    if (what < 22)
      return {
        name: 'dup',
        fds: [],
        body: () => process.fds.dup(fd),
      };
    if (what < 23) return { name: 'dup2', fds: [], body: () => this.#dup2(process, fd) };
    if (what < 25) return { name: 'close', fds: [], body: () => process.close(fd) };
    if (what < 30) return this.mmap(process, card);
    if (what < 32) return { name: 'munmap', fds: [], body: () => this.#munmap(process) };
    if (what < 33) return { name: 'socketpair', fds: [], body: () => this.#socketpair(process) };
    if (what < 36) return this.#send(process);
    if (what < 39) return this.#receive(process);
    if (what < 41) return { name: 'create', fds: [card], body: () => createDumb(process, card, 1 + this.below(3)) };
    if (what < 44) return this.#export(process, card);
    if (what < 48) return this.import(process, card);
    if (what < 50) return this.#gemClose(process, card);
    if (what < 51) return this.#name(process, card);
    if (what < 53) return this.#fence(process, card);
    if (what < 56) return this.syncFile(process);
    if (what < 57) return this.bracket(process);
    return this.#poll(process);
  }

  open(process: Process): Call {
    const path = this.pick([HEAP, ...CARDS, SW_SYNC_PATH, '/dev/null']) ?? HEAP;
    return { name: 'open', fds: [], body: () => process.open(path, O.rdwr | (this.chance(0.5) ? O.cloexec : 0)) };
  }

  #dup2(process: Process, fd: number): void {
    process.fds.dup2(fd, 3 + this.below(MAX_FDS));
  }

  mmap(process: Process, card: number): Call {
    const fd = this.chance(0.6) ? this.fdOf(process, DmaBufFile) : card;
    const client = this.#fileOrNull(process, fd);
    if (!(client instanceof DrmFile)) return { name: 'mmap', fds: [fd], body: () => process.mmap(fd) };
    const handle = this.#handle(client);
    return {
      name: 'mmap',
      fds: [fd],
      *body() {
        const { offset } = yield* process.ioctl(fd, DRM_IOCTL_MODE_MAP_DUMB, { handle });
        yield* process.mmap(fd, { offset, length: 4096 });
      },
    };
  }

  #munmap(process: Process): void {
    const mapping = this.pick(process.mappings);
    if (mapping === undefined) return;
    if (this.chance(0.5)) mapping.munmap();
    else process.munmap(mapping.address + 4096 * this.below(3), 4096);
  }

  #socketpair(process: Process): void {
    const [one, two] = process.socketpair().map((fd) => process.fds.file(fd));
    if (one === undefined || two === undefined) return;
    this.#peers.set(one, two);
    this.#peers.set(two, one);
  }

  #send(process: Process): Call {
    const socket = this.fdOf(process, SocketFile);
    const isSocket = (fd: number) => this.#fileOrNull(process, fd) instanceof SocketFile;
    const fds = [this.#fd(process), this.#fd(process)].filter((fd) => !isSocket(fd));
    const marks = this.#marks;
    const peers = this.#peers;
    return {
      name: 'send',
      fds: [],
      body() {
        const files = fds.map((fd) => process.fds.file(fd));
        const from = process.fds.file(socket);
        process.sendmsg(socket, { bytes: new Uint8Array(1), fds });
        const to = peers.get(from);
        if (to !== undefined) marks.messages.set(to, [...(marks.messages.get(to) ?? []), files]);
      },
    };
  }

  #receive(process: Process): Call {
    const socket = this.fdOf(process, SocketFile);
    const marks = this.#marks;
    const maxFds = this.below(4);
    return {
      name: 'receive',
      fds: [socket],
      *body() {
        const at = process.fds.file(socket);
        yield* process.recvmsg(socket, { maxFds });
        marks.messages.set(at, (marks.messages.get(at) ?? []).slice(1));
      },
    };
  }

  #export(process: Process, card: number): Call {
    const client = this.#fileOrNull(process, card);
    const handle = client instanceof DrmFile ? this.#handle(client) : 0;
    const options = { readOnly: this.chance(0.1) };
    const note = () => {
      if (client instanceof DrmFile && client.handles.includes(handle)) this.#marks.notePrime(client, handle);
    };
    return {
      name: 'export',
      fds: [card],
      *body() {
        try {
          yield* process.ioctl(card, DRM_IOCTL_PRIME_HANDLE_TO_FD, { handle, flags: O.rdwr }, options);
          note();
        } catch (error) {
          // The object is a buffer already when the process can not be told of its descriptor.
          if (error instanceof ErrnoError && error.code === 'EFAULT') note();
          throw error;
        }
      },
    };
  }

  import(process: Process, card: number): Call {
    const fd = this.chance(0.9) ? this.fdOf(process, DmaBufFile) : this.#fd(process);
    const client = this.#fileOrNull(process, card);
    const note = (handle: number) => {
      if (client instanceof DrmFile) this.#marks.notePrime(client, handle);
    };
    return {
      name: 'import',
      fds: [card],
      *body() {
        note((yield* process.ioctl(card, DRM_IOCTL_PRIME_FD_TO_HANDLE, { fd })).handle);
      },
    };
  }

  #gemClose(process: Process, card: number): Call {
    const client = this.#fileOrNull(process, card);
    const handle = client instanceof DrmFile ? this.#handle(client) : 0;
    const prime = this.#marks.prime;
    return {
      name: 'gem close',
      fds: [card],
      *body() {
        yield* process.ioctl(card, DRM_IOCTL_GEM_CLOSE, { handle });
        if (client instanceof DrmFile) prime.get(client)?.delete(handle);
      },
    };
  }

  #name(process: Process, card: number): Call {
    const client = this.#fileOrNull(process, card);
    const handle = client instanceof DrmFile ? this.#handle(client) : 0;
    return {
      name: 'name',
      fds: [card],
      *body() {
        const { name } = yield* process.ioctl(card, DRM_IOCTL_GEM_FLINK, { handle });
        yield* process.ioctl(card, DRM_IOCTL_GEM_OPEN, { name });
      },
    };
  }

  #fence(process: Process, card: number): Call {
    const client = this.#fileOrNull(process, card);
    const handle = client instanceof DrmFile ? this.#handle(client) : 0;
    const [flags, fence] = [this.below(2), this.below(8)];
    const attaches = this.chance(0.5);
    return {
      name: attaches ? 'attach' : 'signal',
      fds: [card],
      *body() {
        if (attaches) yield* process.ioctl(card, DRM_IOCTL_VGEM_FENCE_ATTACH, { handle, flags });
        else yield* process.ioctl(card, DRM_IOCTL_VGEM_FENCE_SIGNAL, { fence });
      },
    };
  }

  /** Something with timelines and sync files. */
  syncFile(process: Process): Call {
    const [timeline, value] = [this.fdOf(process, SwSyncFile), this.below(40)];
    const [one, two] = [this.fdOf(process, FenceFile), this.fdOf(process, FenceFile)];
    const buffer = this.fdOf(process, DmaBufFile);
    const flags = 1 + this.below(3);
    const calls: Call[] = [
      { name: 'fence', fds: [timeline], body: () => fenceAt(process, timeline, value) },
      { name: 'inc', fds: [timeline], body: () => process.ioctl(timeline, SW_SYNC_IOC_INC, { value: this.below(8) }) },
      { name: 'merge', fds: [one], body: () => process.ioctl(one, SYNC_IOC_MERGE, { name: 'merged', fd2: two }) },
      {
        name: 'export sync file',
        fds: [buffer],
        body: () => process.ioctl(buffer, DMA_BUF_IOCTL_EXPORT_SYNC_FILE, { flags }),
      },
      {
        name: 'import sync file',
        fds: [buffer],
        body: () => process.ioctl(buffer, DMA_BUF_IOCTL_IMPORT_SYNC_FILE, { flags, fd: one }),
      },
    ];
    return this.pick(calls) as Call;
  }

  /** May wait for fences for as long as it likes. */
  bracket(process: Process): Call {
    const fd = this.fdOf(process, DmaBufFile);
    const { start, end, rw } = DMA_BUF_SYNC;
    return {
      name: 'bracket',
      fds: [fd],
      *body() {
        yield* process.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: start | rw });
        yield* process.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: end | rw });
      },
    };
  }

  #poll(process: Process): Call {
    const fds = Array.from({ length: 1 + this.below(3) }, () => this.#fd(process));
    if (this.chance(0.7)) fds.push(this.fdOf(process, DmaBufFile));
    const events = [1, 4, 5][this.below(3)] ?? 1;
    const timeoutNs = this.chance(0.3) ? 0 : 1 + this.below(5_000_000);
    const requests = fds.map((fd) => ({ fd, events }));
    return { name: 'poll', fds, body: () => process.poll(requests, timeoutNs), events, timeoutNs };
  }

  #handle(client: DrmFile): number {
    return this.chance(0.9) ? (this.pick(client.handles) ?? 0) : this.below(6);
  }

  /** An open descriptor, most often. */
  #fd(process: Process): number {
    return this.chance(0.95) ? (this.pick(process.fds.open) ?? 99) : 99;
  }

  /** A descriptor of a kind, most often. */
  fdOf(process: Process, kind: abstract new (...args: never[]) => OpenFile): number {
    const fds = process.fds.open.filter((fd) => process.fds.file(fd) instanceof kind);
    return this.chance(0.97) ? (this.pick(fds) ?? this.#fd(process)) : this.#fd(process);
  }

  #fileOrNull(process: Process, fd: number): OpenFile | null {
    return process.fds.open.includes(fd) ? process.fds.file(fd) : null;
  }

  pick<T>(from: readonly T[]): T | undefined {
    return from.length === 0 ? undefined : from[this.below(from.length)];
  }

  chance(share: number): boolean {
    return this.#random.float() < share;
  }

  below(bound: number): number {
    return this.#random.int(bound);
  }
}
