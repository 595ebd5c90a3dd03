/**
 * Catching up with one's own debt: after `yield* settle(sim)` the clock shows the running task's own time.
 *
 * A wait registers at once and pays the debt meanwhile (rule 5 in `task.ts`). What has to begin only when the charged
 * work is over (a timeout, a transfer, the end of a critical section) settles first.
 */
import type { Op } from './op.ts';
import type { Simulator } from './simulator.ts';
import { Waitable } from './task.ts';

/** Waits until the running task owes nothing; does not wait at all when that is so already. */
export function settle(sim: Simulator): Op<void> {
  return new Settlement(sim);
}

class Settlement extends Waitable<void> {
  readonly #sim: Simulator;

  constructor(sim: Simulator) {
    super();
    this.#sim = sim;
  }

  protected park(): boolean {
    return this.#sim.scheduler.settleDebt(this);
  }

  protected take(): void {}

  cancel(): void {}

  describe(): string {
    return 'its debt to be paid';
  }
}
