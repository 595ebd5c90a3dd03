/**
 * The works of devices that ended last, as far as they wrote: which one wrote a byte, and whether anybody has touched what it wrote since.
 *
 * {@link PastWorks.limit} are kept, the youngest; what a work waited for, or read, is not.
 */
import type { Accessor } from '../base/hazards.ts';
import type { WorkTold } from '../trace/cause-hints.ts';
import { ByteRanges } from './byte-ranges.ts';

/** Bytes, whatever is noted of them. */
type Written = Pick<ByteRanges<unknown>, 'find' | 'bounds'>;

interface PastWork {
  readonly told: WorkTold;
  readonly writes: Written;
  readonly low: number;
  readonly high: number;
  /** What others have touched since. */
  readonly touched: ByteRanges<null>;
}

/** @internal Of one coherency domain. Plain throughout. */
export class PastWorks {
  readonly limit = 16;
  /** Oldest first. */
  readonly #works: PastWork[] = [];
  /** Where the first of all begins, and the last ends. */
  #low = Number.POSITIVE_INFINITY;
  #high = Number.NEGATIVE_INFINITY;

  get count(): number {
    return this.#works.length;
  }

  /** A work is over that wrote `writes`, which belong to this from now on. */
  note(told: WorkTold, writes: Written | null): void {
    const bounds = writes?.bounds;
    if (writes === null || bounds === undefined) return;
    this.#works.push({ told, writes, low: bounds.start, high: bounds.end, touched: new ByteRanges<null>(() => true) });
    if (this.#works.length > this.limit) this.#works.shift();
    this.#low = Math.min(...this.#works.map(({ low }) => low));
    this.#high = Math.max(...this.#works.map(({ high }) => high));
  }

  /** Others than the work touch bytes [start, end). @returns whether they were the first to touch what a work had written there. */
  touch(start: number, end: number, accessor: Accessor): boolean {
    if (start >= this.#high || end <= this.#low) return false;
    let isFirst = false;
    let isOlder = false;
    for (let at = this.#works.length - 1; at >= 0; at--) {
      const { told, writes, low, high, touched } = this.#works[at] as PastWork;
      if (start >= high || low >= end || writes.find(start, end) === undefined) continue;
      const isNew = touched.find(start, end) === undefined;
      if (!isOlder) isFirst = isNew && told.accessor !== accessor;
      isOlder = true;
      if (isNew && told.accessor !== accessor) touched.add(Math.max(start, low), Math.min(end, high), null);
    }
    return isFirst;
  }

  /** The youngest work of `accessor` that wrote byte `phys`. */
  writerOf(accessor: Accessor, phys: number): WorkTold | undefined {
    return this.#works.findLast(({ told, writes }) => told.accessor === accessor && writes.find(phys, phys + 1))?.told;
  }
}
