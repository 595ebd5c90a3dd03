/** Runs a race between two processes in every order in which tasks that are ready at one instant can run. */
import { expect } from 'vitest';
import type { Chooser } from '../../src/sim/chooser.ts';
import type { Op } from '../../src/sim/op.ts';
import type { Process } from '../../src/uapi/process.ts';
import { everySchedule } from '../sim/every-schedule.ts';
import { SMALL, System } from './system.ts';

const LIMIT = 4000;

/** What runs in one order: prepares, then races. */
export type Race = (race: { readonly system: System; readonly one: Process; readonly two: Process }) => void;

/** Nothing goes wrong in any order. @returns how many orders there are. */
export function explore(race: Race): number {
  const orders = everySchedule(LIMIT, (chooser) => runOnce(race, chooser));
  expect(orders).toBeLessThan(LIMIT);
  return orders;
}

/** What goes wrong in some order, and in how many orders nothing does. */
export function judge(race: Race): { readonly wrong: readonly string[]; readonly right: number } {
  const wrong = new Set<string>();
  let right = 0;
  everySchedule(LIMIT, (chooser) => {
    try {
      runOnce(race, chooser);
      right++;
    } catch (error) {
      wrong.add(error instanceof Error ? error.message : String(error));
    }
  });
  return { wrong: [...wrong], right };
}

/** Somebody else may run here. */
export function pause({ sim }: System): Op<void> {
  return sim.delay(0);
}

/** Nothing may be left at the end, and nobody may wait for ever. */
function runOnce(race: Race, chooser: Chooser): void {
  const system = new System({ ...SMALL, chooser });
  const one = system.machine.addProcess({ name: 'one', watch: true });
  const two = system.machine.addProcess({ name: 'two', watch: true });
  race({ system, one, two });
  system.sim.run();
  for (const process of [one, two]) process.exit();
  system.sim.run();
  system.expectNothingLeft();
}
