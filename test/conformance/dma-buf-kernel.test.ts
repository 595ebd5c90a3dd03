import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import family from './families/dma-buf-kernel.ts';
import { formatReports, readCases, runCases } from './runner.ts';
import type { VectorCase } from './vector-case.ts';

const cases = readCases(join(import.meta.dirname, 'vectors', 'dma-buf-kernel.jsonl'));
const families = new Map([[family.family, family]]);

function caseWith(text: string): VectorCase {
  const found = cases.find((vector) => JSON.stringify(vector).includes(text));
  if (found === undefined) throw new Error(`no case with ${text}`);
  return found;
}

describe('family dma-buf-kernel', () => {
  it('matches every recorded case', () => {
    const reports = runCases(cases, families);
    expect(formatReports(reports, true)).toEqual(['dma-buf-kernel: 135/135', '135 of 135 match']);
  });

  it.each([
    ['"deferred":[{"cb":"release"}]', '"file_count":0'],
    ['"waited_for_fences":true', '"waited_for_fences":false'],
    ['"resv_locked":true', '"resv_locked":false'],
    ['"has_cached_sgt":true', '"has_cached_sgt":false'],
    ['"cb":"unpin"', '"cb":"pin"'],
    ['"peer2peer":true', '"peer2peer":false'],
    ['"warns":4', '"warns":3'],
    ['"vmapping_counter":2', '"vmapping_counter":1'],
  ])('notices a changed answer: %s', (from, to) => {
    const changed: VectorCase = JSON.parse(JSON.stringify(caseWith(from)).replace(from, to));
    expect(family.run(changed)).not.toBeNull();
  });
});
