/** Runs a program under every order of ready tasks, depth first, up to a limit. */
import type { Chooser } from '../../src/sim/chooser.ts';

/** @returns how many schedules there were; Infinity when `limit` was not enough. */
export function everySchedule(limit: number, body: (chooser: Chooser) => void): number {
  let prefix: number[] = [];
  for (let runs = 1; runs <= limit; runs++) {
    const counts: number[] = [];
    const made: number[] = [];
    body({
      choose(count) {
        const choice = prefix[made.length] ?? 0;
        counts.push(count);
        made.push(choice);
        return choice;
      },
    });
    while (made.length > 0 && (made.at(-1) ?? 0) + 1 >= (counts[made.length - 1] ?? 0)) made.pop();
    if (made.length === 0) return runs;
    prefix = [...made.slice(0, -1), (made.at(-1) ?? 0) + 1];
  }
  return Infinity;
}
