/**
 * Planted bugs that the simulator does not find, or does not name as it should; each with why. The study fails when one is missing here, and
 * when one is here that is no gap any more.
 */
import type { Gap } from './summary.ts';

/** Gaps by mutant, in the order of programs and steps. There are none now. */
export const knownGaps: ReadonlyMap<string, Gap['gap']> = new Map<string, Gap['gap']>([]);
