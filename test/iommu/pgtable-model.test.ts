import process from 'node:process';
import { describe, it } from 'vitest';
import { PGTABLE_CASES } from './pgtable-cases.ts';
import { expectModel, type PgtableCase } from './pgtable-model.ts';

/** Programs for each format; 50 times as many with DMABUF_SIM_RUNS=50. */
const RUNS = 200 * Number(process.env['DMABUF_SIM_RUNS'] ?? 1);

/** The configurations of a format share its programs. */
function runsOf({ format }: PgtableCase): number {
  return Math.ceil(RUNS / PGTABLE_CASES.filter((other) => other.format === format).length);
}

describe.each(PGTABLE_CASES)('page table $name', (kase) => {
  it(
    'answers any program as a Map of entries does, tells a device all that it must forget, and gives every page back',
    () => expectModel(kase, runsOf(kase)),
    20_000 + RUNS * 10,
  );
});
