/**
 * Heaps: where user space gets shared buffers from.
 *
 * @see Linux 6.1 `drivers/dma-buf/dma-heap.c`; `Documentation/userspace-api/dma-buf-alloc-exchange.rst`
 */
import { PAGE_SIZE, type Pfn, pfnToPhys } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import { ErrnoError } from '../base/errors.ts';
import { pagesFor } from '../base/units.ts';
import type { Extent } from '../dma-api/sg-table.ts';
import type { CarveoutAllocator } from '../mem/carveout.ts';
import type { CmaArea } from '../mem/cma.ts';
import type { PageAllocator } from '../mem/page-allocator.ts';
import type { ZoneName } from '../mem/zone.ts';
import type { Simulator } from '../sim/simulator.ts';
import type { DmaBuf } from './dma-buf.ts';
import { exportHeapBuffer, type HeapBuffer, type HeapMemoryType, type MemoryClearer } from './heap-buffer.ts';

/** A size above wraps around when it is rounded up to whole pages. */
const LARGEST_BYTES = 2 ** 64 - PAGE_SIZE;

/** Who pays for the memory of one allocation. All plain. */
export interface HeapCharge {
  /** @throws {ErrnoError} `ENOMEM` he has no room for so many bytes: nothing is taken (retry later). */
  admit(bytes: number): void;
  /** They are taken. */
  charge(bytes: number): void;
  /** They are given back. */
  uncharge(): void;
}

/** Gives out cleared memory as shared buffers. */
export interface DmaHeap {
  /** Its name under `/dev/dma_heap`. */
  readonly name: string;
  /**
   * Allocates a buffer of `sizeBytes`, rounded up to whole pages and cleared by the CPU. Plain; charges the clearing. The
   * caller gets the only reference.
   *
   * @param name - as reports call the buffer, and as the memory's ledger calls its owner.
   * @param flags - of the buffer's file, as for open(2). Default `O_RDWR`. @param payer - default: nobody.
   * @throws {ErrnoError} `EINVAL` the size is 0, no whole number, or wraps around 2^64 when rounded up to pages (never retry);
   *   `ENOMEM` no room (retry later). Nothing is taken then.
   * @throws {InvariantError} `name` is empty.
   * @see Linux 6.1 dma_heap_buffer_alloc
   */
  alloc(sizeBytes: number, name: string, flags?: number, payer?: HeapCharge): DmaBuf<HeapBuffer>;
}

/** What to change of a {@link SystemHeap}. */
export interface SystemHeapOptions {
  /** Default `'system'`. */
  readonly name?: string;
  /** The highest zone its pages come from; default `'NORMAL'`: any. `'DMA32'` for devices with a 32-bit mask. */
  readonly zone?: ZoneName;
  /** How the CPU sees the memory; default `'cached'`. `'uncached'` is what `/dev/dma_heap/system-uncached` of Android gives. */
  readonly type?: HeapMemoryType;
}

/**
 * Pages from anywhere in memory, in blocks as large as there are: `/dev/dma_heap/system`.
 *
 * @see Linux 6.1 `drivers/dma-buf/heaps/system_heap.c`
 */
export class SystemHeap implements DmaHeap {
  readonly name: string;
  readonly #sim: Simulator;
  readonly #pages: PageAllocator;
  readonly #clearer: MemoryClearer;
  readonly #zone: ZoneName;
  readonly #type: HeapMemoryType;

  constructor(sim: Simulator, pages: PageAllocator, clearer: MemoryClearer, options: SystemHeapOptions = {}) {
    this.name = options.name ?? 'system';
    this.#sim = sim;
    this.#pages = pages;
    this.#clearer = clearer;
    this.#zone = options.zone ?? 'NORMAL';
    this.#type = options.type ?? 'cached';
  }

  alloc(sizeBytes: number, name: string, flags?: number, payer?: HeapCharge): DmaBuf<HeapBuffer> {
    const pageCount = checkedPages(sizeBytes, name);
    payer?.admit(pageCount * PAGE_SIZE);
    const blocks = this.#pages.allocBulk({ pageCount, owner: name, zone: this.#zone });
    const extents: Extent[] = Array.from(blocks.firsts, (first, i) => ({
      phys: pfnToPhys(first as Pfn),
      length: (blocks.pageCounts[i] as number) * PAGE_SIZE,
    }));
    const free = paidFor(payer, pageCount * PAGE_SIZE, () => this.#pages.freeBulk(blocks));
    const what = { heap: this.name, name, extents, clearer: this.#clearer, type: this.#type, privatePages: 1, free };
    return exportHeapBuffer(this.#sim, flags === undefined ? what : { ...what, flags });
  }
}

/**
 * Contiguous memory from one CMA area, and named like it: `/dev/dma_heap/reserved`.
 *
 * @see Linux 6.1 `drivers/dma-buf/heaps/cma_heap.c`
 */
export class CmaHeap implements DmaHeap {
  readonly name: string;
  readonly #sim: Simulator;
  readonly #area: CmaArea;
  readonly #clearer: MemoryClearer;

  constructor(sim: Simulator, area: CmaArea, clearer: MemoryClearer) {
    this.name = area.name;
    this.#sim = sim;
    this.#area = area;
    this.#clearer = clearer;
  }

  alloc(sizeBytes: number, name: string, flags?: number, payer?: HeapCharge): DmaBuf<HeapBuffer> {
    const pageCount = checkedPages(sizeBytes, name);
    payer?.admit(pageCount * PAGE_SIZE);
    const first = this.#area.alloc(pageCount, { owner: name });
    const extents = [{ phys: pfnToPhys(first), length: pageCount * PAGE_SIZE }];
    const free = paidFor(payer, pageCount * PAGE_SIZE, () => this.#area.free(first, pageCount));
    const what = { heap: this.name, name, extents, clearer: this.#clearer, free };
    return exportHeapBuffer(this.#sim, flags === undefined ? what : { ...what, flags });
  }
}

/** What to say of a {@link CarveoutHeap}. */
export interface CarveoutHeapOptions {
  readonly name: string;
  /** How the CPU sees the memory; default `'cached'`. `'protected'`: not at all, as memory for protected content. */
  readonly type?: HeapMemoryType;
}

/**
 * Contiguous memory from a carve-out, the lowest place that fits. Of `'protected'` memory firmware clears each buffer.
 *
 * @see `Documentation/userspace-api/dma-buf-heaps.rst`
 */
export class CarveoutHeap implements DmaHeap {
  readonly name: string;
  readonly #sim: Simulator;
  readonly #memory: CarveoutAllocator;
  readonly #clearer: MemoryClearer;
  readonly #type: HeapMemoryType;

  constructor(sim: Simulator, memory: CarveoutAllocator, clearer: MemoryClearer, options: CarveoutHeapOptions) {
    this.name = options.name;
    this.#sim = sim;
    this.#memory = memory;
    this.#clearer = clearer;
    this.#type = options.type ?? 'cached';
  }

  alloc(sizeBytes: number, name: string, flags?: number, payer?: HeapCharge): DmaBuf<HeapBuffer> {
    const length = Math.min(checkedPages(sizeBytes, name) * PAGE_SIZE, Number.MAX_SAFE_INTEGER);
    payer?.admit(length);
    const phys = this.#memory.alloc({ bytes: length, owner: name });
    const extents = [{ phys, length }];
    const free = paidFor(payer, length, () => this.#memory.free(phys));
    const what = { heap: this.name, name, extents, clearer: this.#clearer, type: this.#type, free };
    return exportHeapBuffer(this.#sim, flags === undefined ? what : { ...what, flags });
  }
}

/** Charges `payer` for memory that was taken. @returns what gives it back, and the charge. */
function paidFor(payer: HeapCharge | undefined, bytes: number, free: () => void): () => void {
  if (payer === undefined) return free;
  payer.charge(bytes);
  return () => {
    free();
    payer.uncharge();
  };
}

/** Pages of a buffer called `name`, or EINVAL. */
function checkedPages(sizeBytes: number, name: string): number {
  assert(name !== '', 'heap alloc: name is empty');
  if (Number.isInteger(sizeBytes) && sizeBytes > 0 && sizeBytes <= LARGEST_BYTES) return pagesFor(sizeBytes);
  throw new ErrnoError(
    'EINVAL',
    'DMA_HEAP_IOCTL_ALLOC',
    `sizeBytes: ${sizeBytes} is no whole number in [1, 2^64 - 4096]`,
  );
}
