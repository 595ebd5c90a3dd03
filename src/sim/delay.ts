/** The wait for time to pass. */
import { type Op, type Suspend, WAITABLE } from './op.ts';
import { PARKED, type Task, Waitable } from './task.ts';

/** @internal What a delay needs of the scheduler. */
export interface SleepHost {
  /** Parks the running task for `delayNs` after its debt. */
  sleep(delayNs: number): void;
  /** Ends a `sleep` early. */
  cancelSleep(task: Task<unknown>): void;
}

/** @internal One `sim.delay(ns)`. Nothing keeps it once the wait has begun, so most of them are never really made. */
export class Delay implements Op<void> {
  readonly #host: SleepHost;
  readonly #ns: number;

  constructor(host: SleepHost, ns: number) {
    this.#host = host;
    this.#ns = ns;
  }

  get [WAITABLE](): true {
    return true;
  }

  [Symbol.iterator](): Iterator<Suspend, void, unknown> {
    this.#host.sleep(this.#ns);
    return PARKED;
  }
}

/** @internal What every sleeping task of a simulator is parked in. */
export class Sleep extends Waitable<void> {
  readonly #host: SleepHost;

  constructor(host: SleepHost) {
    super();
    this.#host = host;
  }

  protected park(): boolean {
    return true;
  }

  protected take(): void {}

  cancel(task: Task<unknown>): void {
    this.#host.cancelSleep(task);
  }

  describe(): string {
    return 'time to pass';
  }
}
