/**
 * Files in memory without a name, and seals that take rights away from everybody for good: the way to make sure that a process
 * that shares memory does not cut it off.
 *
 * **Inaccuracies.** Mappings get their pages at once, without faults, also beyond the file's end, and keep them when the file is
 * cut, where Linux raises SIGBUS at the access. Huge pages are not modelled.
 *
 * @see memfd_create(2), fcntl(2) "File Sealing"; Linux 6.1 `mm/memfd.c`, `mm/shmem.c`
 */
import { PAGE_SIZE, type Pfn, type PhysAddr, pfnToPhys } from '../base/addr.ts';
import { ErrnoError } from '../base/errors.ts';
import type { Accessor } from '../base/hazards.ts';
import { ms, pagesFor } from '../base/units.ts';
import type { CoherencyDomain } from '../cache/coherency.ts';
import { SgTable } from '../dma-api/sg-table.ts';
import type { PageAllocator } from '../mem/page-allocator.ts';
import type { Simulator } from '../sim/simulator.ts';
import { type FileStat, O, OpenFile, PROT, type VmaBacking, type VmaRequest } from './file.ts';
import { PageCharges } from './mem-cgroup.ts';
import { MemfdPages } from './memfd-pages.ts';
import type { Process } from './process.ts';

/** Flags of memfd_create(2). @see Linux 6.1 `include/uapi/linux/memfd.h` */
export const MFD = { cloexec: 1, allowSealing: 2 } as const;

/** Seals. @see Linux 6.1 `include/uapi/linux/fcntl.h` */
export const F_SEAL = { seal: 1, shrink: 2, grow: 4, write: 8, futureWrite: 0x10 } as const;

const ALL_SEALS = 0x1f;
/** Longest name, in bytes. */
const NAME_BYTES = 249;
/** How long F_SEAL_WRITE waits for pins to go away: four naps of 10, 20, 40 and 80 ms. */
const PIN_WAIT_NS = ms(150);
/** Largest size of a file in pages. @see Linux 6.1 `include/linux/fs.h` MAX_LFS_FILESIZE */
const MAX_PAGES = 2 ** 51;

/** What a {@link Memfd} is made from. */
export interface MemfdOptions {
  readonly name: string;
  /** {@link MFD} bits. Default 0: it cannot be sealed. `MFD_CLOEXEC` is for whoever installs it. */
  readonly flags?: number;
  readonly pages: PageAllocator;
  readonly coherency: CoherencyDomain;
}

/** A file in memory. New ones are empty and open for reading and writing. */
export class Memfd extends OpenFile {
  readonly path: string;
  readonly #sim: Simulator;
  readonly #content: MemfdPages;
  readonly #coherency: CoherencyDomain;
  #sizeBytes = 0;
  #seals: number;
  /** Mappings that count as writable: with a descriptor for writing, all shared ones do. */
  #writableMappings = 0;

  /**
   * @param creator - pays for pages that are touched outside of system calls; see `mem-cgroup.ts`.
   * @throws {ErrnoError} `EINVAL` unknown flags, or a name of more than 249 bytes (never retry). @see memfd_create(2)
   */
  constructor(sim: Simulator, options: MemfdOptions, creator: Process | null = null) {
    const { name, flags = 0, pages, coherency } = options;
    super(O.rdwr);
    this.#sim = sim;
    const bytes = new TextEncoder().encode(name).length;
    if ((flags & ~(MFD.cloexec | MFD.allowSealing)) !== 0 || bytes > NAME_BYTES) {
      throw new ErrnoError('EINVAL', 'memfd_create', `flags 0x${flags.toString(16)}, a name of ${bytes} bytes`);
    }
    this.path = `/memfd:${name} (deleted)`;
    this.#seals = (flags & MFD.allowSealing) === 0 ? F_SEAL.seal : 0;
    this.#coherency = coherency;
    this.#content = new MemfdPages(pages, coherency, `memfd ${name}`, new PageCharges(sim, creator));
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /**
   * @internal Keeps pages of the file for somebody who shares them on, until {@link unpin}.
   *
   * @param first - index of the first page.
   * @throws {ErrnoError} `EFBIG` beyond the largest file; `EINVAL` beyond the end of the file (never retry); `ENOMEM` (retry later).
   * @see Linux 6.1 `mm/shmem.c` shmem_read_mapping_page
   */
  pin(first: number, pageCount: number): readonly Pfn[] {
    if (first >= MAX_PAGES) throw new ErrnoError('EFBIG', 'shmem_read_mapping_page', `page ${first}`);
    const end = pagesFor(this.#sizeBytes);
    if (first + pageCount > end) {
      throw new ErrnoError('EINVAL', 'shmem_read_mapping_page', `page ${first + pageCount - 1} of ${end}`);
    }
    return this.#content.hold(first, pageCount, true);
  }

  /** @internal Ends {@link pin}. */
  unpin(frames: readonly Pfn[]): void {
    this.#content.drop(frames, true);
  }

  override getSeals(): number {
    return this.#seals;
  }

  /**
   * Adds {@link F_SEAL} bits. Charges 150 ms when it waits in vain for pins to go away.
   *
   * @throws {ErrnoError} `EINVAL` unknown seals; `EPERM` it is sealed against seals, or not open for writing (never retry); `EBUSY` it
   *   is to be sealed against writing while it is mapped writable or its pages are pinned (retry when it is not).
   * @see Linux 6.1 `mm/memfd.c` memfd_add_seals
   */
  override addSeals(seals: number): void {
    if (!this.isWritable) throw new ErrnoError('EPERM', 'F_ADD_SEALS', 'it is not open for writing');
    if ((seals & ~ALL_SEALS) !== 0) throw new ErrnoError('EINVAL', 'F_ADD_SEALS', `seals 0x${seals.toString(16)}`);
    if ((this.#seals & F_SEAL.seal) !== 0) throw new ErrnoError('EPERM', 'F_ADD_SEALS', 'it is sealed against seals');
    if ((seals & F_SEAL.write) !== 0 && (this.#seals & F_SEAL.write) === 0) this.#denyWriters();
    this.#seals |= seals;
  }

  /** @throws {ErrnoError} `EINVAL` negative; `EPERM` a seal forbids it; `EFBIG` too large (never retry). @see ftruncate(2) */
  override ftruncate(length: number): void {
    if (length < 0) throw new ErrnoError('EINVAL', 'ftruncate', `length ${length}`);
    if (length >= MAX_PAGES * PAGE_SIZE) throw new ErrnoError('EFBIG', 'ftruncate', `length ${length}`);
    const forbidden = length < this.#sizeBytes ? F_SEAL.shrink : length > this.#sizeBytes ? F_SEAL.grow : 0;
    if ((this.#seals & forbidden) !== 0)
      throw new ErrnoError('EPERM', 'ftruncate', `sealed: 0x${this.#seals.toString(16)}`);
    if (length < this.#sizeBytes) this.#cut(length);
    this.#sizeBytes = length;
  }

  override mmap(vma: VmaRequest): VmaBacking {
    const { offset, length, shared, prot } = vma;
    const counts = shared && this.isWritable;
    const writes = (prot & PROT.write) !== 0;
    const sealedNow = (this.#seals & F_SEAL.write) !== 0 && counts;
    const sealedForNew = (this.#seals & F_SEAL.futureWrite) !== 0 && counts && writes;
    if (sealedNow || sealedForNew) throw new ErrnoError('EPERM', 'mmap', `${this.path} is sealed against writing`);
    const frames = this.#content.hold(offset / PAGE_SIZE, length / PAGE_SIZE, false);
    let users = 1;
    // With F_SEAL_FUTURE_WRITE a mapping for reading can never become writable, so it does not count.
    const isWriter = counts && (this.#seals & F_SEAL.futureWrite) === 0;
    if (isWriter) this.#writableMappings++;
    return {
      memory: { extents: SgTable.fromPages(frames, { sizeBytes: length }).extents(), attribute: 'cached' },
      name: this.path,
      opened: () => {
        users++;
        if (isWriter) this.#writableMappings++;
        return undefined;
      },
      closed: () => {
        users--;
        if (isWriter) this.#writableMappings--;
        if (users === 0) this.#content.drop(frames, false);
        return undefined;
      },
    };
  }

  override read(count: number): Uint8Array {
    const bytes = this.pread(count, this.pos);
    this.pos += bytes.length;
    return bytes;
  }

  override write(bytes: Uint8Array): number {
    const written = this.pwrite(bytes, this.pos);
    this.pos += written;
    return written;
  }

  override pread(count: number, offset: number): Uint8Array {
    const out = new Uint8Array(Math.max(0, Math.min(count, this.#sizeBytes - offset)));
    this.#eachPage(offset, out.length, (index, within, at, length) => {
      const frame = this.#content.peek(index);
      if (frame === null) return;
      this.#coherency.cpuRead(addressIn(frame, within), out, at, length, 'cached', this.#accessor('read(2)'));
    });
    return out;
  }

  override pwrite(bytes: Uint8Array, offset: number): number {
    const isSealed = (this.#seals & (F_SEAL.write | F_SEAL.futureWrite)) !== 0;
    const grows = offset + bytes.length > this.#sizeBytes;
    if (isSealed || (grows && (this.#seals & F_SEAL.grow) !== 0)) {
      throw new ErrnoError('EPERM', 'write', `sealed: 0x${this.#seals.toString(16)}`);
    }
    this.#eachPage(offset, bytes.length, (index, within, at, length) => {
      const phys = addressIn(this.#content.at(index), within);
      this.#coherency.cpuWrite(phys, bytes, at, length, 'cached', this.#accessor('write(2)'));
    });
    if (grows) this.#sizeBytes = offset + bytes.length;
    return bytes.length;
  }

  /** @throws {ErrnoError} `EINVAL` a position below 0, or an unknown `whence` (never retry). @see lseek(2) */
  override lseek(offset: number, whence: number): number {
    const from = [0, this.pos, this.#sizeBytes][whence];
    if (from === undefined || from + offset < 0) throw new ErrnoError('EINVAL', 'lseek', `${offset} from ${whence}`);
    this.pos = from + offset;
    return this.pos;
  }

  override fallocate(mode: number, offset: number, length: number): void {
    if (mode !== 0) throw new ErrnoError('EOPNOTSUPP', 'fallocate', `mode ${mode}`);
    if (offset < 0 || length <= 0) throw new ErrnoError('EINVAL', 'fallocate', `${length} bytes from ${offset}`);
    if (offset + length > this.#sizeBytes) this.ftruncate(offset + length);
    for (let i = Math.floor(offset / PAGE_SIZE); i < pagesFor(offset + length); i++) this.#content.at(i);
  }

  override fsync(): void {}

  override fstat(): FileStat {
    const blocks = (this.#content.present * PAGE_SIZE) / 512;
    return { size: this.#sizeBytes, mode: 0o100777, nlink: 0, blocks, blksize: PAGE_SIZE, ino: this.ino };
  }

  protected override release(): void {
    this.#content.truncate(0);
  }

  #denyWriters(): void {
    const busy = (why: string) => new ErrnoError('EBUSY', 'F_ADD_SEALS', `${this.path} is ${why}`);
    if (this.#writableMappings > 0) throw busy(`mapped writable ${this.#writableMappings} times; unmap it first`);
    if (this.#content.pinned === 0) return;
    this.#sim.charge(PIN_WAIT_NS);
    throw busy(`pinned (${this.#content.pinned} pages), by a udmabuf for example; close that first`);
  }

  /** What lies behind the new end in the last page reads as 0 when the file grows again. */
  #cut(length: number): void {
    this.#content.truncate(pagesFor(length));
    const within = length % PAGE_SIZE;
    const frame = within === 0 ? null : this.#content.peek(Math.floor(length / PAGE_SIZE));
    if (frame !== null)
      this.#coherency.zero(addressIn(frame, within), PAGE_SIZE - within, this.#accessor('ftruncate(2)'));
  }

  #eachPage(
    offset: number,
    count: number,
    use: (index: number, within: number, at: number, length: number) => void,
  ): void {
    for (let at = 0; at < count; ) {
      const within = (offset + at) % PAGE_SIZE;
      const length = Math.min(PAGE_SIZE - within, count - at);
      use(Math.floor((offset + at) / PAGE_SIZE), within, at, length);
      at += length;
    }
  }

  #accessor(via: string): Accessor {
    const sync = 'DMA_BUF_IOCTL_SYNC on the buffer that was made from the file';
    return { name: 'kernel', kind: 'cpu', via: `${via} of ${this.path}`, beforeRead: sync, afterWrite: sync };
  }
}

function addressIn(frame: Pfn, within: number): PhysAddr {
  return (pfnToPhys(frame) + within) as PhysAddr;
}
