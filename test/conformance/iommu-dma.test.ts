import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { formatReports, loadFamilies, readCases, runCases } from './runner.ts';
import type { Json, JsonObject, VectorCase, VectorOp } from './vector-case.ts';

const HERE = import.meta.dirname;
const families = await loadFamilies(join(HERE, 'families'));

function casesOf(family: string): readonly VectorCase[] {
  return readCases(join(HERE, 'vectors', `${family}.jsonl`));
}

/** `op` with another answer in the first field of its result. */
function falsified(op: VectorOp): VectorOp {
  const [[key, value] = ['none', null]] = Object.entries(op.result ?? {});
  const wrong: Json = typeof value === 'number' ? value + 1 : typeof value === 'boolean' ? !value : ['wrong'];
  return { ...op, result: { ...op.result, [key]: wrong } };
}

describe.each([
  ['iommu-sg-map', 93],
  ['iommu-lazy', 53],
  ['iommu-cpus', 27],
])('family %s', (family, total) => {
  it('matches every recorded case', () => {
    expect(formatReports(runCases(casesOf(family), families), true)).toEqual([
      `${family}: ${total}/${total}`,
      `${total} of ${total} match`,
    ]);
  });

  it('compares every recorded answer', () => {
    const seen = new Set<string>();
    for (const vector of casesOf(family)) {
      for (const [at, op] of vector.ops.entries()) {
        if (!hasFields(op.result) || seen.has(op.op)) continue;
        seen.add(op.op);
        const wrong: VectorCase = { ...vector, ops: vector.ops.with(at, falsified(op)) };
        const [report] = runCases([wrong], families);
        expect(report?.failed[0]?.mismatch.op, op.op).toBe(at);
      }
    }
    const recorded = casesOf(family).flatMap(({ ops }) => ops.filter((op) => hasFields(op.result)).map((op) => op.op));
    expect([...seen].sort()).toEqual([...new Set(recorded)].sort());
  });
});

function hasFields(result: JsonObject | undefined): boolean {
  return result !== undefined && Object.keys(result).length > 0;
}
