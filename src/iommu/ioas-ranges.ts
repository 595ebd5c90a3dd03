/** Sets of address ranges of an IO address space: what is reserved, by whom, and what is allowed. */
import { hex } from '../base/addr.ts';
import { ErrnoError } from '../base/errors.ts';

/** Addresses `start` to `last`, both included: `last` may be the last address that there is. */
export interface IoasRange {
  readonly start: number;
  readonly last: number;
}

/** Last IO virtual address. Stands for 2^64 - 1 of the real interface, as addresses have 52 bits here. */
export const IOAS_LAST = 2 ** 52 - 1;

interface OwnedRange extends IoasRange {
  readonly owner: object | null;
}

/** Ranges that may overlap, each with an owner. @internal */
export class IoasRanges {
  /** Ascending by start. */
  #ranges: OwnedRange[] = [];

  get isEmpty(): boolean {
    return this.#ranges.length === 0;
  }

  /** Adds `start` to `last` for `owner`. */
  add(start: number, last: number, owner: object): void {
    const at = this.#ranges.findIndex((range) => range.start > start);
    this.#ranges.splice(at < 0 ? this.#ranges.length : at, 0, { start, last, owner });
  }

  /** Adds `start` to `last`, which begin behind all others, for nobody. */
  append(start: number, last: number): void {
    this.#ranges.push({ start, last, owner: null });
  }

  /** Takes all ranges of `owner` out. */
  removeOf(owner: object): void {
    this.#ranges = this.#ranges.filter((range) => range.owner !== owner);
  }

  /** The largest last address of a range that has a byte in `start` to `last`, or -1. */
  lastOverlap(start: number, last: number): number {
    let found = -1;
    for (const range of this.#ranges) {
      if (range.start > last) break;
      if (range.last >= start && range.last > found) found = range.last;
    }
    return found;
  }

  /** True when a range has a byte in `start` to `last`. */
  overlaps(start: number, last: number): boolean {
    return this.lastOverlap(start, last) >= 0;
  }

  /** The ranges, joined where they overlap or adjoin, ascending. */
  joined(): IoasRange[] {
    const out: { start: number; last: number }[] = [];
    for (const { start, last } of this.#ranges) {
      const before = out.at(-1);
      if (before !== undefined && start <= before.last + 1) before.last = Math.max(before.last, last);
      else out.push({ start, last });
    }
    return out;
  }

  /** What lies in no range, ascending. */
  holes(): IoasRange[] {
    const out: IoasRange[] = [];
    let from = 0;
    for (const { start, last } of this.joined()) {
      if (start > from) out.push({ start: from, last: start - 1 });
      from = last + 1;
    }
    if (from <= IOAS_LAST) out.push({ start: from, last: IOAS_LAST });
    return out;
  }
}

/**
 * The last address of `length` bytes from `start` on.
 *
 * @throws {ErrnoError} `EOVERFLOW` there is none, or `start` is no address; `EINVAL` no byte at all (never retry).
 * @internal
 */
export function lastOf(op: string, start: number, length: number): number {
  if (length === 0) throw new ErrnoError('EINVAL', op, 'length is 0');
  const last = start + length - 1;
  const isRange = Number.isSafeInteger(start) && start >= 0 && Number.isSafeInteger(length) && length > 0;
  if (!isRange || last > IOAS_LAST)
    throw new ErrnoError(
      'EOVERFLOW',
      op,
      `${length} bytes from ${start < 0 ? start : hex(start)} leave the address space`,
    );
  return last;
}
