/** Family `dma-buf-user`: buffers of the system heap and of udmabuf through system calls. */

import { dmaBufCore } from '../../../src/dmabuf/dma-buf-core.ts';
import { bufinfo } from '../../../src/dmabuf/dma-buf-info.ts';
import {
  DMA_BUF_IOCTL_EXPORT_SYNC_FILE,
  DMA_BUF_IOCTL_IMPORT_SYNC_FILE,
  DMA_BUF_IOCTL_SYNC,
  DMA_BUF_SET_NAME_A,
  DMA_BUF_SET_NAME_B,
} from '../../../src/uapi/dma-buf-file.ts';
import { DMA_HEAP_IOCTL_ALLOC } from '../../../src/uapi/dma-heap-file.ts';
import { F } from '../../../src/uapi/fcntl.ts';
import { F_SEAL, MFD } from '../../../src/uapi/memfd.ts';
import { UDMABUF_CREATE, UDMABUF_CREATE_ITEM, UDMABUF_CREATE_LIST } from '../../../src/uapi/udmabuf.ts';
import { Buffers, exactBytes, otherArgument, retOf } from '../dma-buf-user-bench.ts';
import { replayedFamily } from '../family.ts';
import { ANOTHER_FILE, CLOSED, errnoOr, hexIn, UserBench } from '../user-bench.ts';
import { type Json, type JsonObject, numberIn, stringIn, type VectorCase, type VectorOp } from '../vector-case.ts';

const WHENCE: readonly string[] = ['SEEK_SET', 'SEEK_CUR', 'SEEK_END', 'SEEK_DATA', 'SEEK_HOLE'];
/** What the recorder put where a new descriptor is told. */
const UNTOLD = -7;
/** Number of the fence that operations on "a sync file" use, and an address where nothing is. */
const SPARE = -2;
const BAD_POINTER = 16;

export default replayedFamily('dma-buf-user', (vector) => new Replay(vector));

class Replay {
  readonly #bench = new UserBench();
  readonly #buffers = new Buffers(this.#bench);
  readonly #setup: JsonObject;
  /** Descriptors of the case's buffers; most cases have one. */
  readonly #fds: number[] = [];
  #dup = CLOSED;
  /** The file in memory of `udmabuf-*`, and where the buffer begins in it. */
  #memfd = CLOSED;
  #offset = 0;

  constructor({ setup }: VectorCase) {
    this.#setup = setup;
    const { exporter, size, timelines } = setup;
    if (typeof exporter === 'string' && typeof size === 'number') this.#fds.push(this.#buffers.make(exporter, size));
    for (let i = 0; typeof timelines === 'number' && i < timelines; i++) this.#bench.openTimeline(i);
  }

  step({ op, args, result = {} }: VectorOp): JsonObject {
    if (op === 'dup' && args['fence'] === undefined) {
      this.#dup = this.#bench.app.fds.dup(this.#fd);
      return { ret: 0 };
    }
    return (
      this.#bench.step(op, args) ??
      this.#ioctl(op, args, result) ??
      this.#fileCall(op, args) ??
      this.#memoryCall(op, args) ??
      this.#makerCall(op, args, result) ??
      unknown(op)
    );
  }

  get #fd(): number {
    return this.#fds[0] ?? CLOSED;
  }

  /** Requests of buffers and sync files. */
  #ioctl(op: string, args: JsonObject, result: JsonObject): JsonObject | null {
    switch (op) {
      case 'DMA_BUF_IOCTL_SYNC':
        return 'blocked' in result ? this.#blockingSync(args) : { ret: this.#sync(args) };
      case 'DMA_BUF_SET_NAME_A':
      case 'DMA_BUF_SET_NAME_B':
        return this.#setName(op === 'DMA_BUF_SET_NAME_A' ? DMA_BUF_SET_NAME_A : DMA_BUF_SET_NAME_B, args);
      case 'DMA_BUF_IOCTL_EXPORT_SYNC_FILE':
        return this.#export(args, result);
      case 'DMA_BUF_IOCTL_IMPORT_SYNC_FILE':
        return { ret: this.#import(args) };
      case 'SYNC_IOC_FILE_INFO': {
        const fd = this.#bench.fence(numberIn(args, 'fence'));
        const [num_fences, flags, pad] = [numberIn(args, 'num_fences'), numberIn(args, 'flags'), numberIn(args, 'pad')];
        const info = this.#bench.info(fd, { num_fences, flags, pad });
        return 'poll' in result ? { ...info, poll: this.#bench.poll(fd, 1) } : info;
      }
      case 'poll':
        return { poll: this.#bench.poll(this.#polled(args['fence']), hexIn(args, 'events')) };
      default:
        return null;
    }
  }

  /** Calls on the buffer's file. */
  #fileCall(op: string, args: JsonObject): JsonObject | null {
    const { app } = this.#bench;
    const fd = this.#fd;
    const ret = (body: Parameters<UserBench['ret']>[0]): JsonObject => ({ ret: this.#bench.ret(body) });
    switch (op) {
      case 'lseek':
        return {
          ret: errnoOr(() => app.lseek(fd, numberIn(args, 'offset'), WHENCE.indexOf(stringIn(args, 'whence')))),
        };
      case 'read':
      case 'readv':
        return ret(() => app.read(fd, numberIn(args, 'count')));
      case 'write':
        return ret(() => app.write(fd, new Uint8Array(numberIn(args, 'count'))));
      case 'pread':
        return ret(() => app.pread(fd, numberIn(args, 'count'), numberIn(args, 'offset')));
      case 'ftruncate':
        return ret(() => app.ftruncate(fd, numberIn(args, 'length')));
      case 'fallocate':
        return ret(() => app.fallocate(fd, 0, 0, numberIn(args, 'length')));
      case 'fsync':
        return ret(() => app.fsync(fd));
      case 'fstat':
        return this.#fstat();
      case 'fcntl_getfl':
        return { ret: app.fcntl(fd, F.getfl) };
      case 'fcntl_getfd':
        return { ret: app.fcntl(fd, F.getfd) };
      case 'fcntl_add_seals':
        return ret(() => app.fcntl(fd, F.addSeals, F_SEAL.shrink));
      case 'reopen_through_proc':
        return ret(() => app.reopen(fd));
      case 'fdinfo':
        return { fdinfo: this.#buffers.fdinfo(fd) };
      default:
        return null;
    }
  }

  /** What has to do with references and mappings. */
  #memoryCall(op: string, args: JsonObject): JsonObject | null {
    const { app } = this.#bench;
    switch (op) {
      case 'mmap': {
        const shared = stringIn(args, 'flags') === 'MAP_SHARED';
        const [offset, length, prot] = [numberIn(args, 'offset'), numberIn(args, 'length'), numberIn(args, 'prot')];
        return { ret: this.#bench.ret(() => app.mmap(this.#fd, { offset, length, prot, shared })) };
      }
      case 'map_write_close_read':
        return this.#mapWriteCloseRead();
      case 'mmap_keeps_reference': {
        const mapping = this.#bench.call(() => app.mmap(this.#fd));
        const fdinfo = this.#buffers.fdinfo(this.#fd);
        mapping.munmap();
        return { fdinfo };
      }
      case 'close_dup':
        this.#bench.call(() => app.close(this.#dup));
        return { fdinfo: this.#buffers.fdinfo(this.#fd) };
      case 'create':
        this.#fds.push(this.#buffers.make(stringIn(args, 'exporter'), numberIn(args, 'size')));
        return { ret: 0 };
      case 'bufinfo':
        return { lines: this.#bufinfo() };
      default:
        return null;
    }
  }

  /** Requests of heaps and of udmabuf, and what becomes of the file in memory. */
  #makerCall(op: string, args: JsonObject, result: JsonObject): JsonObject | null {
    switch (op) {
      case 'DMA_HEAP_IOCTL_ALLOC':
        return this.#alloc(args, result);
      case 'ioctl':
        return { ret: this.#otherRequest(stringIn(args, 'request'), args) };
      case 'UDMABUF_CREATE':
        return this.#createUdmabuf(args);
      case 'UDMABUF_CREATE_LIST':
        return this.#createList(args);
      case 'memfd_after_create': {
        const { app } = this.#bench;
        return {
          ftruncate_shrink: this.#bench.ret(() => app.ftruncate(this.#memfd, 0)),
          add_write_seal: this.#bench.ret(() => app.fcntl(this.#memfd, F.addSeals, F_SEAL.write)),
        };
      }
      case 'shared_memory':
        return this.#sharedMemory();
      default:
        return null;
    }
  }

  #sync(args: JsonObject): Json {
    const { app } = this.#bench;
    const fd = args['file'] === undefined ? this.#fd : ANOTHER_FILE;
    const bytes = 'arg' in args ? null : exactBytes(args['flags'] ?? '0x5');
    return this.#bench.ret(() => app.ioctl(fd, DMA_BUF_IOCTL_SYNC.code, bytes));
  }

  /** Whether the request waits for the fence that is pending; then it signals. */
  #blockingSync(args: JsonObject): JsonObject {
    const { app, machine } = this.#bench;
    const bytes = exactBytes(args['flags'] ?? '0x0');
    const task = machine.sim.spawn('sync', () => retOf(() => app.ioctl(this.#fd, DMA_BUF_IOCTL_SYNC.code, bytes)));
    machine.sim.runUntil(machine.sim.now + 1_000_000);
    const blocked = task.outcome === null;
    this.#bench.step('SW_SYNC_IOC_INC', { timeline: SPARE, value: 1 });
    // The recorder's child tells by its exit status.
    return { blocked, ret_after_signal: this.#bench.call(() => task.done) === 0 ? 0 : 1 };
  }

  #setName(code: number, args: JsonObject): JsonObject {
    const { app } = this.#bench;
    const fd = this.#fds[Number(args['buffer'] ?? 0)] ?? CLOSED;
    const name = args['name'] ?? null;
    const isText = typeof name === 'string' && name !== 'bad pointer';
    const ret = this.#bench.ret(() => app.ioctl(fd, code, isText ? name : name === null ? null : BAD_POINTER));
    if (args['length'] === undefined) return { ret };
    return { ret, fdinfo: this.#buffers.fdinfo(fd), link: app.readlink(fd) };
  }

  #export(args: JsonObject, result: JsonObject): JsonObject {
    const { app } = this.#bench;
    if ('arg' in args) return { ret: this.#bench.ret(() => app.ioctl(this.#fd, DMA_BUF_IOCTL_EXPORT_SYNC_FILE, null)) };
    const asked = { flags: hexIn(args, 'flags'), fd: UNTOLD };
    const ret = this.#bench.ret(() => app.ioctl(this.#fd, DMA_BUF_IOCTL_EXPORT_SYNC_FILE, asked));
    if (ret !== 0) return 'fd_after' in result ? { ret, fd_after: asked.fd } : { ret };
    const info = this.#bench.info(asked.fd, { num_fences: 24 });
    if (typeof args['fence'] === 'number') this.#bench.setFence(args['fence'], asked.fd);
    return 'getfd' in result ? { ret, getfd: this.#buffers.getfd(asked.fd), info } : { ret, info };
  }

  #import(args: JsonObject): Json {
    const { app } = this.#bench;
    if ('arg' in args) return this.#bench.ret(() => app.ioctl(this.#fd, DMA_BUF_IOCTL_IMPORT_SYNC_FILE, null));
    const asked = { flags: hexIn(args, 'flags'), fd: this.#syncFile(args['fd'] ?? args['fence']) };
    return this.#bench.ret(() => app.ioctl(this.#fd, DMA_BUF_IOCTL_IMPORT_SYNC_FILE, asked));
  }

  /** A fence by its number, or the buffer. */
  #polled(fence: Json | undefined): number {
    return typeof fence === 'number' ? this.#bench.fence(fence) : this.#fd;
  }

  #syncFile(what: Json | undefined): number {
    if (what === 'a dma-buf') return this.#fd;
    if (what !== 'sync_file' && what !== 'not signaled') return this.#bench.fileOf(what);
    if (this.#bench.fence(SPARE) < 0) {
      this.#bench.openTimeline(SPARE);
      this.#bench.step('SW_SYNC_IOC_CREATE_FENCE', { timeline: SPARE, value: 1, fence: SPARE });
    }
    return this.#bench.fence(SPARE);
  }

  #fstat(): JsonObject {
    const { size, mode, nlink, blocks, blksize } = this.#bench.app.fstat(this.#fd);
    const st_mode = mode.toString(8).padStart(4, '0');
    return { st_size: size, st_mode, st_nlink: nlink, st_blocks: blocks, st_blksize: blksize };
  }

  #mapWriteCloseRead(): JsonObject {
    const { app } = this.#bench;
    const [one, two] = this.#bench.call(
      function* (this: Replay) {
        return [yield* app.mmap(this.#fd), yield* app.mmap(this.#fd)] as const;
      }.bind(this),
    );
    const initial_byte = one.read(0, 1)[0] ?? null;
    one.write(0, Uint8Array.of(90));
    const second_mapping = two.read(0, 1)[0] ?? null;
    this.#bench.call(() => app.close(this.#fd));
    two.write(0, Uint8Array.of(7));
    return { initial_byte, second_mapping, after_close: one.read(0, 1)[0] ?? null };
  }

  #bufinfo(): string[] {
    const text = this.#bench.call(() => bufinfo(dmaBufCore(this.#bench.machine.sim)));
    const lines = text.replace(/\n$/, '').split('\n');
    return lines.map((line) => line.replace(/^((?:[0-9a-f]{8}\t){4}[^\t]+\t)\d{8}\t/, '$1<inode#>\t'));
  }

  #alloc(args: JsonObject, result: JsonObject): JsonObject {
    const { app } = this.#bench;
    const [len, fd_flags, heap_flags] = [hexIn(args, 'len'), hexIn(args, 'fd_flags'), hexIn(args, 'heap_flags')];
    const asked = { len, fd_flags, heap_flags, fd: numberIn(args, 'fd') };
    const ret = this.#bench.ret(() => app.ioctl(this.#buffers.heap(), DMA_HEAP_IOCTL_ALLOC, asked));
    if (ret !== 0) return { ret };
    const { fd } = asked;
    if ('fdinfo' in result) return { ret, st_size: app.fstat(fd).size, fdinfo: this.#buffers.fdinfo(fd) };
    const [mmap_shared_read, mmap_shared_write] = [1, 2].map((prot) => this.#buffers.mapsShared(fd, prot));
    const { getfl, getfd } = { getfl: this.#buffers.getfl(fd), getfd: this.#buffers.getfd(fd) };
    return {
      ret,
      getfl,
      getfd,
      mmap_shared_read: mmap_shared_read ?? null,
      mmap_shared_write: mmap_shared_write ?? null,
    };
  }

  /** Requests on the heap, on udmabuf, or on the buffer, whatever the case is about. */
  #otherRequest(request: string, args: JsonObject): Json {
    const isHeap = 'heap' in this.#setup;
    const fd = isHeap ? this.#buffers.heap() : this.#fd >= 0 ? this.#fd : this.#buffers.udmabuf();
    const [code, bytes] = otherArgument(request, args);
    return this.#bench.ret(() => this.#bench.app.ioctl(fd, code, 'arg' in args ? null : bytes));
  }

  #createUdmabuf(args: JsonObject): JsonObject {
    this.#memfd = this.#namedMemfd(stringIn(this.#setup, 'title'));
    this.#offset = hexIn(args, 'offset');
    const bytes = new Uint8Array(24);
    const head = UDMABUF_CREATE.layout.encode({ memfd: this.#memfd, flags: hexIn(args, 'flags') });
    bytes.set(head.subarray(0, 8));
    bytes.set(exactBytes(args['offset'] ?? 0, args['size'] ?? 0), 8);
    const made = this.#makeUdmabuf(UDMABUF_CREATE.code, bytes);
    if (made['ret'] !== 'fd') return made;
    return { ...made, getfd: this.#buffers.getfd(this.#fd), getfl: this.#buffers.getfl(this.#fd) };
  }

  #createList(args: JsonObject): JsonObject {
    const [, step = '', unit = '', factor = ''] =
      /offset (\d+)\*k, size (\d+)\*(.+)$/.exec(stringIn(args, 'rule')) ?? [];
    const count = numberIn(args, 'count');
    const sizeBytes = numberIn(this.#setup, 'memfd_size');
    const memfd = this.#buffers.memfd({ sizeBytes, flags: MFD.allowSealing, seals: F_SEAL.shrink });
    const items = Array.from({ length: count }, (_, k) => {
      const size = Number(unit) * (factor === '(k+1)' ? k + 1 : Number(factor));
      return [...UDMABUF_CREATE_ITEM.encode({ memfd, offset: Number(step) * k, size })];
    });
    const head = UDMABUF_CREATE_LIST.layout.encode({ flags: 1, count });
    return this.#makeUdmabuf(UDMABUF_CREATE_LIST.code, Uint8Array.from([...head, ...items.flat()]));
  }

  #makeUdmabuf(code: number, bytes: Uint8Array): JsonObject {
    const { app } = this.#bench;
    const made = errnoOr(() => this.#bench.call(() => app.ioctl(this.#buffers.udmabuf(), code, bytes)));
    if (typeof made !== 'number') return { ret: made };
    this.#fds[0] = made;
    return { ret: 'fd', size: app.lseek(made, 0, 2) };
  }

  /** The descriptor that the case's title speaks of. */
  #namedMemfd(title: string): number {
    const sizeBytes = numberIn(this.#setup, 'memfd_size');
    if (title === 'bad fd') return CLOSED;
    if (title === 'a dma-buf fd') return this.#buffers.make('dma-heap system', 4096);
    if (sizeBytes === 0) return ANOTHER_FILE;
    const flags = title.includes('without sealing allowed') ? 0 : MFD.allowSealing;
    return this.#buffers.memfd({ sizeBytes, flags, seals: hexIn(this.#setup, 'seals') });
  }

  #sharedMemory(): JsonObject {
    const { app } = this.#bench;
    const offset = this.#offset;
    const memfd = this.#bench.call(() => app.mmap(this.#memfd, { offset, length: 4096 }));
    const buffer = this.#bench.call(() => app.mmap(this.#fd));
    memfd.write(10, Uint8Array.of(0x5a));
    const memfd_write_seen_in_dmabuf = buffer.read(10, 1)[0] === 0x5a;
    buffer.write(20, Uint8Array.of(0xa5));
    return { memfd_write_seen_in_dmabuf, dmabuf_write_seen_in_memfd: memfd.read(20, 1)[0] === 0xa5 };
  }
}

function unknown(op: string): never {
  throw new Error(`unknown op ${op}`);
}
