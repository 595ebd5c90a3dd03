/**
 * An address space of a GPU: its own page table, on top of device addresses. A GPU virtual address leads to a device
 * address, and that through the IOMMU, if there is one, to memory.
 *
 * 1. Addresses of one context mean nothing in another: the same address may lead to different buffers.
 * 2. A mapping takes the lowest free pages that fit; one page after it stays free, so that an overrun faults.
 * 3. A page is present, and writable or not.
 *
 * **Inaccuracies.** The table is one flat level and no memory of the machine is used for it; there is no TLB, so a mapping
 * that is taken away is gone at once.
 */
import { type Brand, type DmaAddr, hex, PAGE_SIZE } from '../../base/addr.ts';
import { assert } from '../../base/assert.ts';
import { ErrnoError } from '../../base/errors.ts';
import { pagesFor } from '../../base/units.ts';
import type { Device } from '../../dma-api/device.ts';
import type { SgTable } from '../../dma-api/sg-table.ts';
import { onePiece } from '../../trace/address-pieces.ts';

/** Bytes, as a job of one GPU context sees memory. */
export type GpuAddr = Brand<number, 'GpuAddr'>;

/** Where the first mapping of a context lies: 1 MiB, so that small numbers lead nowhere. */
const FIRST_PAGE = 256;
const ABSENT = -1;

interface Range {
  readonly page: number;
  readonly pages: number;
  /** Its number in the address book; 0: it has none. */
  bookId: number;
}

/** One address space. Plain throughout. */
export class GpuContext {
  readonly name: string;
  /** Device address of each page from {@link FIRST_PAGE} on, or {@link ABSENT}. */
  #table = new Float64Array(0);
  #writable = new Uint8Array(0);
  /** Ascending. */
  readonly #ranges: Range[] = [];
  readonly #dev: Device | null;

  /** @param name - as fault records call it. @param dev - whose addresses it leads to; without one its mappings are in no book. */
  constructor(name: string, dev: Device | null = null) {
    this.name = name;
    this.#dev = dev;
  }

  /** Mappings that live. */
  get mappingCount(): number {
    return this.#ranges.length;
  }

  /**
   * Enters the pages of a mapped table.
   *
   * @returns the address of the buffer's first byte.
   * @throws {ErrnoError} `EINVAL` a segment begins inside a page, or ends in one and is not the last (never retry).
   */
  mapBuffer(sgt: SgTable, rights: { readonly writable: boolean }): GpuAddr {
    let bytes = 0;
    for (let i = 0; i < sgt.nents; i++) {
      const aligned =
        sgt.dmaAddress(i) % PAGE_SIZE === 0 && (i === sgt.nents - 1 || sgt.dmaLength(i) % PAGE_SIZE === 0);
      if (!aligned) {
        const what = `segment ${i} is ${sgt.dmaLength(i)} bytes at ${hex(sgt.dmaAddress(i))}: no whole pages`;
        throw new ErrnoError('EINVAL', 'mapBuffer', what);
      }
      bytes += sgt.dmaLength(i);
    }
    assert(bytes > 0, 'mapBuffer: the table is not mapped for the device');
    const range = this.#place(pagesFor(bytes));
    let entry = range.page - FIRST_PAGE;
    this.#grow(entry + range.pages);
    this.#writable.fill(rights.writable ? 1 : 0, entry, entry + range.pages);
    for (let i = 0; i < sgt.nents; i++) {
      const end = sgt.dmaAddress(i) + sgt.dmaLength(i);
      for (let at: number = sgt.dmaAddress(i); at < end; at += PAGE_SIZE) this.#table[entry++] = at;
    }
    if (this.#dev?.sim.addresses.enabled === true) this.#note(this.#dev, range, sgt, bytes, rights.writable);
    return (range.page * PAGE_SIZE) as GpuAddr;
  }

  /** Takes a mapping of {@link mapBuffer} out. @throws {InvariantError} none begins at `gpuVa`. */
  unmapBuffer(gpuVa: GpuAddr): void {
    const at = this.#ranges.findIndex(({ page }) => page * PAGE_SIZE === gpuVa);
    const range = this.#ranges[at];
    assert(range !== undefined, 'unmapBuffer: no mapping of %s begins at %s', this.name, hex(gpuVa));
    this.#ranges.splice(at, 1);
    const sim = this.#dev?.sim;
    if (sim?.addresses.enabled === true) {
      const end = { how: 'unmap' as const, call: 'unmapBuffer', timeNs: sim.now, site: sim.site() };
      sim.addresses.end(range.bookId, end);
    }
    this.#table.fill(ABSENT, range.page - FIRST_PAGE, range.page - FIRST_PAGE + range.pages);
  }

  /** Where `gpuVa` leads, as the device sees it; `undefined` when nowhere. */
  translate(gpuVa: number): DmaAddr | undefined {
    const base = this.#table[Math.floor(gpuVa / PAGE_SIZE) - FIRST_PAGE];
    return base === undefined || base === ABSENT ? undefined : ((base + (gpuVa % PAGE_SIZE)) as DmaAddr);
  }

  /** Whether a job may write at `gpuVa`. */
  isWritable(gpuVa: number): boolean {
    return this.translate(gpuVa) !== undefined && this.#writable[Math.floor(gpuVa / PAGE_SIZE) - FIRST_PAGE] === 1;
  }

  /** Bytes from the translated `gpuVa` on, at most `limit`, that lead to neighbouring device addresses with equal rights. */
  runBytes(gpuVa: number, limit: number): number {
    const table = this.#table;
    let entry = Math.floor(gpuVa / PAGE_SIZE) - FIRST_PAGE;
    const writable = this.#writable[entry];
    let run = PAGE_SIZE - (gpuVa % PAGE_SIZE);
    while (
      run < limit &&
      table[entry + 1] === (table[entry] as number) + PAGE_SIZE &&
      this.#writable[entry + 1] === writable
    ) {
      run += PAGE_SIZE;
      entry++;
    }
    return Math.min(run, limit);
  }

  #note({ name, sim }: Device, range: Range, sgt: SgTable, bytes: number, writable: boolean): void {
    const { dmaAddress, dmaLength } = sgt.columns;
    const pieces = { base: dmaAddress.slice(0, sgt.nents), size: dmaLength.slice(0, sgt.nents) };
    range.bookId = sim.addresses.begin({
      space: 'gpu-va',
      owner: this.name,
      pieces: onePiece(range.page * PAGE_SIZE, bytes),
      to: { space: 'dma', owner: name, pieces },
      call: 'mapBuffer',
      object: sim.addresses.get(sgt.bookId)?.object ?? '',
      writable,
      sinceNs: sim.now,
      site: sim.site(),
    });
  }

  #place(pages: number): Range {
    let page = FIRST_PAGE;
    let at = 0;
    for (const range of this.#ranges) {
      if (page + pages < range.page) break;
      page = range.page + range.pages + 1;
      at++;
    }
    const placed = { page, pages, bookId: 0 };
    this.#ranges.splice(at, 0, placed);
    return placed;
  }

  #grow(entries: number): void {
    if (entries <= this.#table.length) return;
    const capacity = Math.max(entries, 2 * this.#table.length);
    const table = new Float64Array(capacity).fill(ABSENT);
    table.set(this.#table);
    this.#table = table;
    const writable = new Uint8Array(capacity);
    writable.set(this.#writable);
    this.#writable = writable;
  }
}
