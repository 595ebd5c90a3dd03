/**
 * Numbers that stand for objects of the kernel: the lowest free one, from 1 on.
 *
 * @see Linux 6.1 `lib/idr.c` idr_alloc
 */

/** @internal Plain throughout. */
export class HandleTable<T> {
  /** By number - 1. */
  readonly #slots: (T | null)[] = [];
  /** No slot below is free. */
  #lowest = 0;

  /** Numbers that are in use, ascending. */
  get handles(): number[] {
    return this.#slots.flatMap((value, i) => (value === null ? [] : [i + 1]));
  }

  /** Gives `value` a number. */
  add(value: T): number {
    let i = this.#lowest;
    while (i < this.#slots.length && this.#slots[i] !== null) i++;
    this.#slots[i] = value;
    this.#lowest = i + 1;
    return i + 1;
  }

  /** What `handle` stands for, or `null`. */
  get(handle: number): T | null {
    return this.#slots[handle - 1] ?? null;
  }

  /** Takes `handle` away. @returns what it stood for, or `null`. */
  remove(handle: number): T | null {
    const value = this.get(handle);
    if (value === null) return null;
    this.#slots[handle - 1] = null;
    this.#lowest = Math.min(this.#lowest, handle - 1);
    return value;
  }
}
