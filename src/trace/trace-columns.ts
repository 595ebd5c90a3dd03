/**
 * A record of every dispatched event in typed columns: cheap enough to stay on in long runs. Either a ring that keeps
 * the newest, or columns that grow.
 */
import { assert } from '../base/assert.ts';

const FIRST_ROWS = 65536;

/** Rows of (time, kind, argument); attach it with `sim.trace.recorder = columns`. */
export class TraceColumns {
  readonly #ring: boolean;
  #times: Float64Array;
  #kinds: Int32Array;
  #args: Int32Array;
  #capacity: number;
  #next = 0;
  #total = 0;

  /** @param ringRows - keep only so many newest rows; 0 keeps all. */
  constructor(ringRows = 0) {
    assert(Number.isInteger(ringRows) && ringRows >= 0, 'ringRows: %s is no whole number >= 0', ringRows);
    this.#ring = ringRows > 0;
    this.#capacity = this.#ring ? ringRows : FIRST_ROWS;
    this.#times = new Float64Array(this.#capacity);
    this.#kinds = new Int32Array(this.#capacity);
    this.#args = new Int32Array(this.#capacity);
  }

  /** Rows kept. */
  get length(): number {
    return this.#ring ? Math.min(this.#total, this.#capacity) : this.#total;
  }

  /** Rows ever added. */
  get total(): number {
    return this.#total;
  }

  /** Adds a row. */
  add(timeNs: number, kind: number, arg: number): void {
    let at = this.#next;
    if (at === this.#capacity) at = this.#wrap();
    this.#times[at] = timeNs;
    this.#kinds[at] = kind;
    this.#args[at] = arg;
    this.#next = at + 1;
    this.#total++;
  }

  /** The `index`-th oldest row kept. @throws {InvariantError} `index` out of [0, length). */
  row(index: number): { readonly timeNs: number; readonly kind: number; readonly arg: number } {
    assert(
      Number.isInteger(index) && index >= 0 && index < this.length,
      'row: %s is not in [0, %s)',
      index,
      this.length,
    );
    const at = (this.#total - this.length + index) % this.#capacity;
    return { timeNs: this.#times[at] as number, kind: this.#kinds[at] as number, arg: this.#args[at] as number };
  }

  #wrap(): number {
    if (this.#ring) return 0;
    const capacity = this.#capacity * 2;
    const times = new Float64Array(capacity);
    const kinds = new Int32Array(capacity);
    const args = new Int32Array(capacity);
    times.set(this.#times);
    kinds.set(this.#kinds);
    args.set(this.#args);
    this.#times = times;
    this.#kinds = kinds;
    this.#args = args;
    const at = this.#capacity;
    this.#capacity = capacity;
    return at;
  }
}
