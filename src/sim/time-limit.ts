/**
 * The limit of a wait. A plain timer keeps `sim.run()` going until it has expired; the limit of a daemon's wait must not,
 * so there it is a daemon as well.
 */
import type { Simulator } from './simulator.ts';
import type { Task } from './task.ts';

/** @internal Calls `expire` in `ns`, unless it is cancelled before; on behalf of `task`. */
export function startTimeLimit(
  sim: Simulator,
  task: Task<unknown>,
  ns: number,
  expire: () => undefined,
): { cancel(): unknown } {
  if (!task.daemon) return sim.after(ns, expire);
  let cancelled = false;
  const clock = sim.spawn(
    `${task.name}.limit`,
    function* () {
      yield* sim.delay(ns);
      if (!cancelled) expire();
    },
    { daemon: true },
  );
  return {
    cancel() {
      cancelled = true;
      clock.kill();
    },
  };
}
