/** The correct programs of the study. */
import type { Program } from './program.ts';
import { driverPrograms } from './programs-driver.ts';
import { fencePrograms } from './programs-fences.ts';
import { sharedPrograms } from './programs-shared.ts';

/** All of them; names are unique. */
export const programs: readonly Program[] = [...driverPrograms, ...sharedPrograms, ...fencePrograms];
