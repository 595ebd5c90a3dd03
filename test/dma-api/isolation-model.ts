/**
 * What devices behind an IOMMU may reach, worked out the naive way: a list of pages for each address space. It knows the rules of the
 * DMA API, and nothing of page tables, caches of translations or allocators of addresses.
 */
import { PAGE_SIZE } from '../../src/base/addr.ts';
import { ms } from '../../src/base/units.ts';
import type { DmaDirection } from '../../src/dma-api/direction.ts';

/** Ranges of one CPU that wait for a flush at most. */
const QUEUE_RANGES = 255;
const FLUSH_AFTER_NS = ms(10);

/** One page of IO addresses, and what lies behind it. */
export interface ModelPage {
  readonly io: number;
  readonly phys: number;
  readonly writable: boolean;
}

/** Whether an access gets through at a page: `'maybe'` when its translation is gone but may be remembered. */
interface Verdict {
  readonly pass: 'yes' | 'no' | 'maybe';
  /** The page of memory, unless the answer is `'no'`. */
  readonly phys: number;
}

const NO: Verdict = { pass: 'no', phys: 0 };

/** One address space. */
export class ModelSpace {
  readonly #lazy: boolean;
  readonly #live = new Map<number, ModelPage>();
  readonly #dead = new Map<number, ModelPage>();
  #queued = 0;
  #flushAtNs = Number.POSITIVE_INFINITY;

  constructor(lazy: boolean) {
    this.#lazy = lazy;
  }

  /** Pages that are mapped. */
  get livePages(): number {
    return this.#live.size;
  }

  /** Pages that a device may still reach. */
  get deadPages(): number {
    return this.#dead.size;
  }

  /** @returns what is wrong with handing these addresses out, or ''. */
  map(pages: readonly ModelPage[]): string {
    for (const page of pages) {
      if (this.#live.has(page.io)) return `${page.io.toString(16)} was handed out twice`;
      if (this.#dead.has(page.io)) return `${page.io.toString(16)} was handed out before the flush`;
      this.#live.set(page.io, page);
    }
    return '';
  }

  unmap(pages: readonly ModelPage[], nowNs: number): void {
    if (this.#lazy) this.#enqueue(nowNs);
    for (const page of pages) {
      this.#live.delete(page.io);
      if (this.#lazy) this.#dead.set(page.io, page);
    }
  }

  /** Time has come to `nowNs`. */
  passed(nowNs: number): void {
    if (nowNs < this.#flushAtNs) return;
    this.#flushAtNs = Number.POSITIVE_INFINITY;
    this.#flush();
  }

  /** Whether an access to the page at `io` gets through. A device can read whatever is mapped, by both formats. */
  verdict(io: number, isWrite: boolean): Verdict {
    const live = this.#live.get(io);
    const page = live ?? this.#dead.get(io);
    if (page === undefined || (isWrite && !page.writable)) return NO;
    return { pass: live === undefined ? 'maybe' : 'yes', phys: page.phys };
  }

  /** A range goes to the queue; a full queue is flushed first. */
  #enqueue(nowNs: number): void {
    if (this.#queued === QUEUE_RANGES) this.#flush();
    this.#queued++;
    this.#flushAtNs = Math.min(this.#flushAtNs, nowNs + FLUSH_AFTER_NS);
  }

  #flush(): void {
    this.#queued = 0;
    this.#dead.clear();
  }
}

/** A run of device addresses or of memory, in bytes. */
export interface Run {
  readonly start: number;
  readonly length: number;
}

/** Pages of a mapping: byte i of `memory`, in the order of its runs, is seen at byte i of `seen`. */
export function pagesOf(memory: readonly Run[], seen: readonly Run[], dir: DmaDirection): ModelPage[] {
  const found = new Map<number, ModelPage>();
  let done = 0;
  for (const { start, length } of memory) {
    const inPage = start % PAGE_SIZE;
    for (let at = -inPage; at < length; at += PAGE_SIZE) {
      const first = Math.max(at, 0);
      const address = addressAt(seen, done + first);
      const io = address - (address % PAGE_SIZE);
      found.set(io, { io, phys: start + at, writable: dir !== 'to-device' });
    }
    done += length;
  }
  return [...found.values()];
}

function addressAt(seen: readonly Run[], offset: number): number {
  let left = offset;
  for (const { start, length } of seen) {
    if (left < length) return start + left;
    left -= length;
  }
  throw new Error(`byte ${offset} is not mapped`);
}
