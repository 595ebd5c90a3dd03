/**
 * What can go wrong, one class a meaning:
 *
 * | class | means |
 * |---|---|
 * | {@link ErrnoError} | the modelled kernel would return this errno |
 * | {@link HazardError} | the simulator caught a broken protocol (see `hazards.ts`) |
 * | {@link DeadlockError} | no event left, tasks still wait |
 * | `InvariantError` (`assert.ts`) | a bug of this library, or an argument outside its contract |
 */
import { ERRNO, type ErrnoCode } from './errno.ts';
import type { HazardCode, HazardFacts } from './hazards.ts';
import { describeHazard } from './hazards.ts';

/** The modelled kernel's answer is `-errno`. Whether to retry is told by the throwing function's contract. */
export class ErrnoError extends Error {
  override readonly name = 'ErrnoError';
  /** `'EBUSY'` */
  readonly code: ErrnoCode;
  /** The positive number: 16 for `EBUSY`. */
  readonly errno: number;
  /** The operation that failed: `'attach'`. */
  readonly op: string;

  /** @param detail - why, in words that name the argument and what to do. */
  constructor(code: ErrnoCode, op: string, detail = '') {
    super(detail === '' ? `${op}: ${code}` : `${op}: ${code}: ${detail}`);
    this.code = code;
    this.errno = ERRNO[code];
    this.op = op;
  }
}

/** A broken protocol, with the facts of both sides. `facts.hazard` discriminates the union. */
export class HazardError extends Error {
  override readonly name = 'HazardError';
  readonly hazard: HazardCode;
  readonly facts: HazardFacts;

  constructor(facts: HazardFacts) {
    super(describeHazard(facts));
    this.hazard = facts.hazard;
    this.facts = facts;
  }
}

/** One task that cannot go on, and why. */
export interface Waiter {
  readonly task: string;
  /** What it waits for, in words: `'mutex resv(buf0), held by gpu0'`. */
  readonly waitsFor: string;
  /** When the wait began, in ns. */
  readonly sinceNs: number;
}

/** No event is left, or the time that was given is over, and tasks still wait. Carries each of them. */
export class DeadlockError extends Error {
  override readonly name = 'DeadlockError';
  readonly waiters: readonly Waiter[];

  /** @param why - default `'no event is left'`. */
  constructor(nowNs: number, waiters: readonly Waiter[], why = 'no event is left') {
    const lines = waiters.map((w) => `  task ${w.task} waits for ${w.waitsFor} since ${w.sinceNs} ns`);
    super([`${why} at ${nowNs} ns and ${waiters.length} task(s) still wait:`, ...lines].join('\n'));
    this.waiters = waiters;
  }
}
