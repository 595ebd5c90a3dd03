/** A supplier of table pages for tests: ascending frames, a limit, and a count of what is out. */
import { type Pfn, pfn } from '../../src/base/addr.ts';
import { ErrnoError } from '../../src/base/errors.ts';
import type { TablePages } from '../../src/iommu/io-pgtable.ts';

const FIRST_FRAME = 0x1_0000;

/** Hands out frames in ascending order, aligned to their number. */
export class FrameCounter implements TablePages {
  /** Frames that are out. */
  outstanding = 0;
  /** Frames that may be out at once. */
  limit: number;
  readonly #orders = new Map<number, number>();
  #next = FIRST_FRAME;

  constructor(limit = Number.POSITIVE_INFINITY) {
    this.limit = limit;
  }

  alloc(order: number): Pfn {
    const count = 2 ** order;
    if (this.outstanding + count > this.limit) throw new ErrnoError('ENOMEM', 'alloc_pages', 'the test allows no more');
    const frame = Math.ceil(this.#next / count) * count;
    this.#next = frame + count;
    this.outstanding += count;
    this.#orders.set(frame, order);
    return pfn(frame);
  }

  free(frame: Pfn, order: number): void {
    if (this.#orders.get(frame) !== order) throw new Error(`frame ${frame} of order ${order} is not out`);
    this.#orders.delete(frame);
    this.outstanding -= 2 ** order;
  }
}
