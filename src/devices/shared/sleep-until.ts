/** Waiting for an instant instead of a span. */
import type { Op } from '../../sim/op.ts';
import { settle } from '../../sim/settle.ts';
import type { Simulator } from '../../sim/simulator.ts';

/** Pays what the running task owes, then waits until `timeNs`; not at all when that is over. */
export function* sleepUntil(sim: Simulator, timeNs: number): Op<void> {
  yield* settle(sim);
  if (timeNs > sim.now) yield* sim.delay(timeNs - sim.now);
}
