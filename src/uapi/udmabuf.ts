/**
 * `/dev/udmabuf`: turns pages of a file in memory into a shared buffer, which is how a guest's memory or a compositor's software
 * frames reach a device. File and buffer are the same memory both ways.
 *
 * The file must be sealed against shrinking and must not be against writing. The buffer keeps the pages, not the file.
 *
 * **Inaccuracies.** A CPU bracket cleans and invalidates the caches itself; Linux maps the buffer for the misc device at the first
 * one and syncs that mapping.
 *
 * @see Linux 6.1 `drivers/dma-buf/udmabuf.c`; `include/uapi/linux/udmabuf.h`
 */
import { PAGE_SIZE, type Pfn } from '../base/addr.ts';
import { ErrnoError } from '../base/errors.ts';
import type { CoherencyDomain } from '../cache/coherency.ts';
import type { DmaDirection } from '../dma-api/direction.ts';
import { dmaMapSgtable, dmaUnmapSgtable } from '../dma-api/dma-map.ts';
import { SgTable } from '../dma-api/sg-table.ts';
import { type DmaBuf, exportDmaBuf } from '../dmabuf/dma-buf.ts';
import type { DmaBufAttachment } from '../dmabuf/dma-buf-attachment.ts';
import type { DmaBufOps, DmaBufVma } from '../dmabuf/dma-buf-ops.ts';
import type { Simulator } from '../sim/simulator.ts';
import { openFileOrNull } from './fd-lookup.ts';
import { O, OpenFile } from './file.ts';
import { type IoctlCall, ioctlRequest, struct } from './ioctl.ts';
import { F_SEAL, Memfd } from './memfd.ts';
import type { Process } from './process.ts';

/** One range as a buffer. @see Linux 6.1 `include/uapi/linux/udmabuf.h` struct udmabuf_create */
export const UDMABUF_CREATE = ioctlRequest('UDMABUF_CREATE', 'w', 'u', 0x42, {
  memfd: 'u32',
  flags: 'u32',
  offset: 'u64',
  size: 'u64',
});

/** Several ranges, one behind the other: `count` of {@link UDMABUF_CREATE_ITEM} follow the struct. */
export const UDMABUF_CREATE_LIST = ioctlRequest('UDMABUF_CREATE_LIST', 'w', 'u', 0x43, { flags: 'u32', count: 'u32' });

/** One range of a list. @see Linux 6.1 struct udmabuf_create_item */
export const UDMABUF_CREATE_ITEM = struct({ memfd: 'u32', __pad: 'u32', offset: 'u64', size: 'u64' });

/** Flags of a request; unknown ones are ignored. */
export const UDMABUF_FLAGS_CLOEXEC = 1;

/** What a {@link UdmabufFile} is made from. */
export interface UdmabufOptions {
  readonly coherency: CoherencyDomain;
  /** Most ranges of a list. Default 1024. */
  readonly listLimit?: number;
  /** Most bytes of a buffer. Default 64 MiB. */
  readonly sizeLimitBytes?: number;
}

/** The exporter's own data of a buffer. */
export interface UdmabufBuffer {
  readonly memory: SgTable;
  /** @internal */
  readonly coherency: CoherencyDomain;
  /** @internal Gives the pages back. */
  readonly free: () => void;
  /** @internal Whether a CPU bracket was ever opened: before, closing one is EINVAL. */
  wasBracketed: boolean;
}

interface Item {
  readonly memfd: number;
  readonly offset: number;
  readonly size: number;
}

const udmabufOps: DmaBufOps<UdmabufBuffer> = {
  mapDmaBuf(att: DmaBufAttachment<UdmabufBuffer>, dir: DmaDirection): SgTable {
    const table = att.buf.priv.memory.clone();
    dmaMapSgtable(att.dev, table, dir);
    return table;
  },
  unmapDmaBuf(att: DmaBufAttachment<UdmabufBuffer>, table: SgTable, dir: DmaDirection): void {
    dmaUnmapSgtable(att.dev, table, dir);
  },
  release(buf: DmaBuf<UdmabufBuffer>): void {
    buf.priv.free();
  },
  beginCpuAccess({ priv }: DmaBuf<UdmabufBuffer>, dir: DmaDirection): void {
    priv.wasBracketed = true;
    if (dir === 'to-device') return;
    for (const { phys, length } of priv.memory.extents()) priv.coherency.cleanInvalidate(phys, length);
  },
  endCpuAccess({ priv, name }: DmaBuf<UdmabufBuffer>, dir: DmaDirection): void {
    if (!priv.wasBracketed) throw new ErrnoError('EINVAL', 'end_cpu_udmabuf', `${name}: no access was begun before`);
    if (dir === 'from-device') return;
    for (const { phys, length } of priv.memory.extents()) priv.coherency.clean(phys, length);
  },
  mmap({ priv, name }: DmaBuf<UdmabufBuffer>, vma: DmaBufVma) {
    if (vma.isPrivate === true) throw new ErrnoError('EINVAL', 'mmap', `MAP_PRIVATE of ${name}; use MAP_SHARED`);
    return { extents: priv.memory.extents(), attribute: 'cached' };
  },
};

/** The opened device. */
export class UdmabufFile extends OpenFile {
  readonly path = '/dev/udmabuf';
  readonly #sim: Simulator;
  readonly #coherency: CoherencyDomain;
  readonly #listLimit: number;
  readonly #pageLimit: number;
  #created = 0;

  constructor(sim: Simulator, options: UdmabufOptions) {
    super(O.rdwr);
    this.#sim = sim;
    this.#coherency = options.coherency;
    this.#listLimit = options.listLimit ?? 1024;
    this.#pageLimit = Math.floor((options.sizeLimitBytes ?? 64 * 2 ** 20) / PAGE_SIZE);
  }

  /**
   * {@link UDMABUF_CREATE}, {@link UDMABUF_CREATE_LIST}: a descriptor for a buffer. Plain.
   *
   * @returns the descriptor.
   * @throws {ErrnoError} `EINVAL` offset or size off a page, no page at all, more than the limits, beyond the file's end, not sealed
   *   against shrinking, or sealed against writing, be it of new mappings only; `EBADFD` a descriptor that is not open or no file in memory; `EFBIG` an offset
   *   beyond any file; `ENOTTY`, `EFAULT` (never retry); `ENOMEM`, `EMFILE` (retry later). Nothing is left.
   * @see Linux 6.1 udmabuf_ioctl, udmabuf_create
   */
  override ioctl(call: IoctlCall): number {
    if (call.code === UDMABUF_CREATE.code) {
      const { flags, memfd, offset, size } = call.copyIn(UDMABUF_CREATE.layout);
      return this.#create(call.process, flags, [{ memfd, offset, size }]);
    }
    if (call.code === UDMABUF_CREATE_LIST.code) {
      const { flags, count } = call.copyIn(UDMABUF_CREATE_LIST.layout);
      return this.#create(call.process, flags, this.#items(call, count));
    }
    return super.ioctl(call) as number;
  }

  #items(call: IoctlCall, count: number): Item[] {
    if (count > this.#listLimit) {
      throw new ErrnoError('EINVAL', 'UDMABUF_CREATE_LIST', `count: ${count}; at most ${this.#listLimit}`);
    }
    const { sizeBytes } = UDMABUF_CREATE_ITEM;
    const bytes = call.memory.copyFrom(call.argument + UDMABUF_CREATE_LIST.layout.sizeBytes, count * sizeBytes);
    return Array.from({ length: count }, (_, i) => UDMABUF_CREATE_ITEM.decode(bytes.subarray(i * sizeBytes)));
  }

  #create(process: Process, flags: number, items: readonly Item[]): number {
    const cloexec = (flags & UDMABUF_FLAGS_CLOEXEC) !== 0;
    return process.fds.publish(
      () => this.#export(process, items),
      () => {},
      { cloexec },
    );
  }

  #export(process: Process, items: readonly Item[]): DmaBuf {
    this.#checkSizes(items);
    const kept: { readonly memfd: Memfd; readonly frames: readonly Pfn[] }[] = [];
    const free = () => {
      for (const { memfd, frames } of kept) memfd.unpin(frames);
    };
    let complete = false;
    try {
      for (const item of items) kept.push(pinItem(process, item));
      const frames = kept.flatMap((one) => [...one.frames]);
      const memory = SgTable.fromPages(frames, { sizeBytes: frames.length * PAGE_SIZE });
      const priv: UdmabufBuffer = { memory, coherency: this.#coherency, free, wasBracketed: false };
      const info = { exporterName: 'udmabuf', sizeBytes: memory.sizeBytes, ops: udmabufOps, priv };
      const buf = exportDmaBuf(this.#sim, { ...info, name: `${process.name} udmabuf${this.#created++}` });
      complete = true;
      return buf;
    } finally {
      if (!complete) free();
    }
  }

  #checkSizes(items: readonly Item[]): void {
    const wrong = (why: string) => new ErrnoError('EINVAL', 'udmabuf_create', why);
    let pageCount = 0;
    for (const { offset, size } of items) {
      if (offset % PAGE_SIZE !== 0) throw wrong(`offset ${offset} is no multiple of a page`);
      if (size % PAGE_SIZE !== 0) throw wrong(`size ${size} is no multiple of a page`);
      pageCount += upperHalf(size) / PAGE_SIZE;
      if (pageCount > this.#pageLimit) throw wrong(`${pageCount} pages; at most ${this.#pageLimit}`);
    }
    if (pageCount === 0) throw wrong('no page at all');
  }
}

function pinItem(process: Process, item: Item): { readonly memfd: Memfd; readonly frames: readonly Pfn[] } {
  const memfd = memfdOf(process, item.memfd | 0);
  const seals = memfd.getSeals();
  if ((seals & F_SEAL.shrink) === 0 || (seals & (F_SEAL.write | F_SEAL.futureWrite)) !== 0) {
    const why = `seals 0x${seals.toString(16)}: it must be sealed against shrinking and not against writing`;
    throw new ErrnoError('EINVAL', 'udmabuf_create', why);
  }
  return { memfd, frames: memfd.pin(upperHalf(item.offset) / PAGE_SIZE, upperHalf(item.size) / PAGE_SIZE) };
}

function memfdOf(process: Process, fd: number): Memfd {
  const file = openFileOrNull(process.fds, fd);
  if (file instanceof Memfd) return file;
  throw new ErrnoError('EBADFD', 'udmabuf_create', `memfd: fd ${fd} is no file in memory`);
}

/** A 64-bit number as the kernel reads it; whole pages of the upper half are exact. */
function upperHalf(bytes: number): number {
  return bytes < 0 ? bytes + 2 ** 64 : bytes;
}
