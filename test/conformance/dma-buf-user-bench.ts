/** The buffers of `dma-buf-user`: how a process makes them, and what it can find out about one. */
import { ErrnoError } from '../../src/base/errors.ts';
import type { Op } from '../../src/sim/op.ts';
import { DMA_HEAP_IOCTL_ALLOC, DmaHeapFile } from '../../src/uapi/dma-heap-file.ts';
import { F } from '../../src/uapi/fcntl.ts';
import { O, type OpenFile } from '../../src/uapi/file.ts';
import { type IoctlDirection, ioctlCode } from '../../src/uapi/ioctl.ts';
import { F_SEAL, Memfd, MFD } from '../../src/uapi/memfd.ts';
import { UDMABUF_CREATE, UDMABUF_CREATE_LIST, UdmabufFile } from '../../src/uapi/udmabuf.ts';
import type { UserBench } from './user-bench.ts';
import type { Json, JsonObject } from './vector-case.ts';

/** Buffers of one process. */
export class Buffers {
  readonly #bench: UserBench;

  constructor(bench: UserBench) {
    this.#bench = bench;
  }

  /** A descriptor for a new buffer of `exporter`. */
  make(exporter: string, sizeBytes: number): number {
    const { app } = this.#bench;
    if (exporter !== 'udmabuf') {
      const asked = { len: sizeBytes, fd: 0, fd_flags: O.rdwr | O.cloexec };
      this.#bench.call(() => app.ioctl(this.heap(), DMA_HEAP_IOCTL_ALLOC, asked));
      return asked.fd;
    }
    const memfd = this.memfd({ sizeBytes, flags: MFD.allowSealing, seals: F_SEAL.shrink });
    const bytes = UDMABUF_CREATE.layout.encode({ memfd, flags: 1, size: sizeBytes });
    const fd = this.#bench.call(() => app.ioctl(this.udmabuf(), UDMABUF_CREATE.code, bytes));
    this.#bench.call(() => app.close(memfd));
    return fd;
  }

  /** A descriptor of `/dev/dma_heap/system`. */
  heap(): number {
    return this.#open(new DmaHeapFile(this.#bench.machine.systemHeap));
  }

  /** A descriptor of `/dev/udmabuf`. */
  udmabuf(): number {
    const { sim, coherency } = this.#bench.machine;
    return this.#open(new UdmabufFile(sim, { coherency }));
  }

  memfd({ sizeBytes, flags, seals }: { sizeBytes: number; flags: number; seals: number }): number {
    const { app, machine } = this.#bench;
    const { sim, pages, coherency } = machine;
    const fd = this.#open(new Memfd(sim, { name: 'test', flags, pages, coherency }));
    app.ftruncate(fd, sizeBytes);
    if (seals !== 0) app.fcntl(fd, F.addSeals, seals);
    return fd;
  }

  fdinfo(fd: number): string[] {
    const named = [/^(mnt)_id:\t.*/, /^(ino):\t.*/];
    const texts = ['mnt_id:\t<mnt>', 'ino:\t<ino>'];
    return this.#bench.app
      .fdinfo(fd)
      .map((line) => named.reduce((text, pattern, i) => text.replace(pattern, texts[i] ?? ''), line));
  }

  getfd(fd: number): number {
    return this.#bench.app.fcntl(fd, F.getfd);
  }

  getfl(fd: number): string {
    return `0x${this.#bench.app.fcntl(fd, F.getfl).toString(16)}`;
  }

  /** 0 or the errno of a shared mapping of one page. */
  mapsShared(fd: number, prot: number): Json {
    return this.#bench.ret(() => this.#bench.app.mmap(fd, { length: 4096, prot }));
  }

  #open(file: OpenFile): number {
    return this.#bench.app.fds.install(file);
  }
}

/** The bytes of 64-bit numbers in hexadecimal or decimal, little endian, exactly. */
export function exactBytes(...numbers: readonly Json[]): Uint8Array {
  const bytes = new Uint8Array(8 * numbers.length);
  const view = new DataView(bytes.buffer);
  for (const [i, number] of numbers.entries())
    view.setBigUint64(8 * i, BigInt.asUintN(64, BigInt(String(number))), true);
  return bytes;
}

/** A request written as in C: `_IO('b',9)`, `_IOW('Z',0,alloc struct)`. @throws {Error} it is none. */
function requestCode(text: string): number {
  const [, kind = '', type = '', number = '', argument = ''] =
    /^_IO(R|W|WR)?\('(.)',(\d+)(?:,([^)]*))?\)$/.exec(text) ?? [];
  const sizes: Readonly<Record<string, number>> = { '': 0, u32: 4, u64: 8, 'alloc struct': 24 };
  const sizeBytes = sizes[argument];
  if (type === '' || sizeBytes === undefined) throw new Error(`unknown request ${text}`);
  const dirs: Readonly<Record<string, IoctlDirection>> = { '': 'none', R: 'r', W: 'w', WR: 'rw' };
  return ioctlCode(dirs[kind] ?? 'none', type, Number(number), sizeBytes);
}

/** The number and the argument of a request that is described in words. */
export function otherArgument(request: string, args: JsonObject): readonly [number, Uint8Array] {
  const { layout, code } = DMA_HEAP_IOCTL_ALLOC;
  const bytes = layout.encode({ len: 4096, fd_flags: 2 });
  const sized = (sizeBytes: number) => ioctlCode('rw', 'H', 0, sizeBytes);
  switch (request) {
    case 'alloc':
      return [code, bytes];
    case 'alloc with a larger struct': {
      const larger = new Uint8Array(bytes.length + 8).fill(args['extra_bytes_zero'] === false ? 0xff : 0);
      larger.set(bytes);
      return [sized(larger.length), larger];
    }
    case 'alloc with a struct without heap_flags':
      return [sized(16), bytes.slice(0, 16)];
    case 'UDMABUF_CREATE':
      return [UDMABUF_CREATE.code, bytes];
    case 'UDMABUF_CREATE_LIST':
      return [UDMABUF_CREATE_LIST.code, bytes];
    case 'unknown':
      return [ioctlCode('none', '?', 99, 0), bytes];
    default:
      return [requestCode(request), bytes];
  }
}

/** 0 or the errno of an operation, from within a task. */
export function* retOf(body: () => Op<unknown>): Op<Json> {
  try {
    yield* body();
    return 0;
  } catch (error) {
    if (error instanceof ErrnoError) return `-${error.code}`;
    throw error;
  }
}
