/**
 * A rhythm in exact arithmetic: tick `n` happens `n` periods after the start, rounded down to whole ns. The period is a
 * ratio of two whole numbers, and each tick is computed from its own number, so nothing drifts.
 */
import { type Nanos, nanos } from '../../base/addr.ts';
import { assert } from '../../base/assert.ts';

/** A span of time as a ratio of whole numbers, in ns: 30 a second is `{ numeratorNs: 1e9, denominator: 30 }`. */
export interface Period {
  readonly numeratorNs: number;
  readonly denominator: number;
}

/** The ticks of a frame timer or a vertical blank. Plain: it only computes. */
export class Cadence {
  readonly startNs: Nanos;
  readonly #wholeNs: number;
  readonly #rest: number;
  readonly #denominator: number;

  /** @throws {InvariantError} a period that is no ratio of whole numbers, or below 1 ns. */
  constructor(startNs: Nanos, { numeratorNs, denominator }: Period) {
    assert(Number.isSafeInteger(numeratorNs) && numeratorNs > 0, 'period: %s ns is no whole number > 0', numeratorNs);
    assert(Number.isSafeInteger(denominator) && denominator > 0, 'period: denominator %s', denominator);
    assert(numeratorNs >= denominator, 'period: %s/%s ns is below 1 ns', numeratorNs, denominator);
    this.startNs = startNs;
    this.#rest = numeratorNs % denominator;
    this.#wholeNs = (numeratorNs - this.#rest) / denominator;
    this.#denominator = denominator;
  }

  /** When tick `n` happens; tick 0 is the start. */
  at(n: number): Nanos {
    return nanos(this.startNs + n * this.#wholeNs + Math.floor((n * this.#rest) / this.#denominator));
  }

  /** The first tick at `timeNs` or later. */
  indexAtOrAfter(timeNs: number): number {
    const sinceNs = timeNs - this.startNs;
    if (sinceNs <= 0) return 0;
    const periodNs = this.#wholeNs + this.#rest / this.#denominator;
    let n = Math.max(0, Math.floor(sinceNs / periodNs) - 1);
    while (this.at(n) < timeNs) n++;
    return n;
  }
}
