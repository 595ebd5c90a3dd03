/**
 * Memory that a process has mapped: its bytes are read and written through the caches, as the mapping's type says.
 *
 * A private mapping shows the file until it is written; each page that is written becomes the process's own copy.
 *
 * **Inaccuracies.** Pages are mapped at once, without faults. A private copy lies outside the simulated memory: reading and writing
 * it costs nothing, and its making reads the page once.
 */
import { hex, PAGE_SIZE, type VirtAddr } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import { ErrnoError } from '../base/errors.ts';
import type { CpuView } from '../cache/cpu-view.ts';
import { onePiece, slicePieces } from '../trace/address-pieces.ts';
import { type OpenFile, PROT, type VmaBacking } from './file.ts';
import { noteMmapped, noteMunmapped } from './object-notes.ts';

/** @internal A part of an address space that a file backs. */
export interface Vma {
  readonly address: VirtAddr;
  readonly sizeBytes: number;
  /** Where it begins in {@link view}. */
  readonly viewOffset: number;
  readonly view: CpuView;
  readonly backing: VmaBacking;
  /** Has a reference for the mapping. */
  readonly file: OpenFile;
  readonly shared: boolean;
  readonly prot: number;
  /** The most that {@link UserMapping.protect} gives. */
  readonly maxProt: number;
  /** Pages of its own, by offset in the view; private mappings only. */
  readonly ownPages: ReadonlyMap<number, Uint8Array>;
}

/** Made by `process.mmap`; valid until {@link UserMapping.munmap}. Plain throughout. */
export class UserMapping {
  /** Where the process sees it. */
  readonly address: VirtAddr;
  readonly sizeBytes: number;
  /** @internal */
  readonly vma: Vma;
  readonly #ownPages: Map<number, Uint8Array>;
  readonly #unmap: (mapping: UserMapping) => void;
  readonly #unmapped: () => void;
  readonly #bookId: number;
  #prot: number;
  #mapped = true;

  /** @internal @param unmap - takes it out of its address space; throws when it must stay. @param unmapped - called after {@link munmap}. */
  constructor(vma: Vma, unmap: (mapping: UserMapping) => void, unmapped: () => void) {
    this.address = vma.address;
    this.sizeBytes = vma.sizeBytes;
    this.vma = vma;
    this.#prot = vma.prot;
    this.#ownPages = new Map(vma.ownPages);
    this.#unmap = unmap;
    this.#unmapped = unmapped;
    noteMmapped(this);
    this.#bookId = noteMmap(vma);
  }

  /** Whether it is still mapped. */
  get mapped(): boolean {
    return this.#mapped;
  }

  /** What the process may do with it: `PROT` bits. */
  get prot(): number {
    return this.#prot;
  }

  /**
   * Reads `length` bytes from `offset`; what a load would see, stale or not. Charges the accesses.
   *
   * @throws {ErrnoError} `EFAULT` out of the mapping, or no right to read: a program would get a signal; nothing has happened
   *   (never retry).
   * @throws {HazardError} `cpu-read.stale`, `*-write.lost`, `access.*` or `fence.unsubmitted-batch` under policy `'throw'`; the read is done.
   * @throws {InvariantError} it was unmapped, or a number is no whole number >= 0.
   */
  read(offset: number, length: number): Uint8Array {
    this.#check('read', offset, length);
    const out = new Uint8Array(length);
    this.readInto(out, offset);
    return out;
  }

  /** {@link read}, into memory of the caller's: `out.length` bytes. Same errors; `out` holds what was read. */
  readInto(out: Uint8Array, offset: number): void {
    this.#check('read', offset, out.length);
    if (this.#ownPages.size === 0) this.vma.view.read(this.vma.viewOffset + offset, out);
    else this.#byPage(offset, out.length, (at, done, step, own) => this.#readPage(out, at, done, step, own));
  }

  /**
   * Writes `bytes` at `offset`. Charges the accesses.
   *
   * @throws {ErrnoError} `EFAULT` out of the mapping, or no right to write; nothing has happened (never retry).
   * @throws {HazardError} `*-write.lost`, `access.*` or `fence.unsubmitted-batch` under policy `'throw'`; the write is done.
   * @throws {InvariantError} it was unmapped, or `offset` is no whole number >= 0.
   */
  write(offset: number, bytes: Uint8Array): void {
    this.#check('write', offset, bytes.length);
    if (this.vma.shared) this.vma.view.write(this.vma.viewOffset + offset, bytes);
    else {
      this.#byPage(offset, bytes.length, (at, done, step) => {
        this.#ownPage(at).set(bytes.subarray(done, done + step), at % PAGE_SIZE);
      });
    }
  }

  /** Reads without charging and without changing any state: what {@link read} would give. @throws {ErrnoError} `EFAULT`. */
  peek(offset: number, length: number): Uint8Array {
    this.#check('peek', offset, length);
    const out = this.vma.view.peek(this.vma.viewOffset + offset, length);
    this.#byPage(offset, length, (at, done, step, own) => {
      if (own !== undefined) out.set(own.subarray(at % PAGE_SIZE, (at % PAGE_SIZE) + step), done);
    });
    return out;
  }

  /**
   * Changes what the process may do with it.
   *
   * @throws {ErrnoError} `EACCES` writing what was not opened for writing (never retry); {InvariantError} it was unmapped.
   * @see mprotect(2)
   */
  protect(prot: number): void {
    this.#checkMapped('protect');
    if ((prot & ~this.vma.maxProt) !== 0) {
      throw new ErrnoError('EACCES', 'mprotect', `prot ${prot}; the file allows ${this.vma.maxProt}`);
    }
    this.#prot = prot;
  }

  /**
   * Gives the mapping's reference of the file back and ends it.
   *
   * @throws {InvariantError} it was unmapped before (never retry); it has the last reference and a device is attached: it
   *   stays mapped and keeps its reference (retry after the detach).
   * @see munmap(2)
   */
  munmap(): void {
    this.remove();
    this.#unmapped();
  }

  /** @internal {@link munmap}, of which nobody is told. */
  remove(): void {
    this.#checkMapped('munmap');
    this.#unmap(this);
    this.#mapped = false;
    noteMunmapped(this);
    const { sim } = this.vma.view.domain;
    if (this.#bookId === 0) return;
    sim.addresses.end(this.#bookId, { how: 'unmap', call: 'munmap', timeNs: sim.now, site: sim.site() });
  }

  /** @internal The same from `offset` on, `sizeBytes` long, with the rights and pages of now. */
  part(offset: number, sizeBytes: number): Vma {
    const { vma } = this;
    return {
      ...vma,
      address: (vma.address + offset) as VirtAddr,
      sizeBytes,
      viewOffset: vma.viewOffset + offset,
      prot: this.#prot,
      ownPages: new Map([...this.#ownPages].map(([at, page]) => [at, page.slice()])),
    };
  }

  #readPage(out: Uint8Array, at: number, done: number, step: number, own: Uint8Array | undefined): void {
    if (own === undefined) this.vma.view.read(at, out.subarray(done, done + step));
    else out.set(own.subarray(at % PAGE_SIZE, (at % PAGE_SIZE) + step), done);
  }

  /** The process's own copy of the page at `at` in the view; made now if it has none. */
  #ownPage(at: number): Uint8Array {
    const first = at - (at % PAGE_SIZE);
    let page = this.#ownPages.get(first);
    if (page === undefined) {
      page = new Uint8Array(PAGE_SIZE);
      this.vma.view.read(first, page);
      this.#ownPages.set(first, page);
    }
    return page;
  }

  #byPage(
    offset: number,
    length: number,
    body: (at: number, done: number, step: number, own: Uint8Array | undefined) => void,
  ): void {
    for (let done = 0; done < length; ) {
      const at = this.vma.viewOffset + offset + done;
      const step = Math.min(length - done, PAGE_SIZE - (at % PAGE_SIZE));
      body(at, done, step, this.#ownPages.get(at - (at % PAGE_SIZE)));
      done += step;
    }
  }

  #check(op: 'read' | 'write' | 'peek', offset: number, length: number): void {
    this.#checkMapped(op);
    assert(Number.isSafeInteger(offset) && offset >= 0, '%s: offset %s is no whole number >= 0', op, offset);
    assert(Number.isSafeInteger(length) && length >= 0, '%s: length %s is no whole number >= 0', op, length);
    if (offset + length > this.sizeBytes) {
      const range = `${length} bytes at offset ${offset} leave the mapping of ${this.sizeBytes} bytes`;
      throw new ErrnoError('EFAULT', op, range);
    }
    // Neither x86 nor arm64 can map memory that is only written: any right lets a program read.
    const needed = op === 'write' ? PROT.write : PROT.read | PROT.write | PROT.exec;
    if ((this.#prot & needed) === 0) throw new ErrnoError('EFAULT', op, `the mapping has prot ${this.#prot}`);
  }

  #checkMapped(op: string): void {
    assert(this.#mapped, '%s: the mapping at %s was unmapped before', op, hex(this.address));
  }
}

/** @returns its number in the address book; 0: none is kept. */
function noteMmap({ address, sizeBytes, viewOffset, view, backing, prot }: Vma): number {
  const { sim } = view.domain;
  if (!sim.addresses.enabled) return 0;
  const { extents } = backing.memory;
  const memory = {
    base: Float64Array.from(extents, ({ phys }) => phys),
    size: Float64Array.from(extents, ({ length }) => length),
  };
  return sim.addresses.begin({
    space: 'user-va',
    owner: view.accessor.name,
    pieces: onePiece(address, sizeBytes),
    to: { space: 'phys', owner: '', pieces: slicePieces(memory, viewOffset, sizeBytes) },
    call: 'mmap',
    object: backing.name,
    writable: (prot & PROT.write) !== 0,
    sinceNs: sim.now,
    site: sim.site(),
  });
}
