import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { formatReports, loadFamilies, readCases, runCases } from './runner.ts';
import { isObject, type Json, type VectorCase } from './vector-case.ts';

const HERE = import.meta.dirname;
const families = await loadFamilies(join(HERE, 'families'));
const recorded = readdirSync(join(HERE, 'vectors')).map((file) => file.replace('.jsonl', ''));
const built = recorded.filter((family) => families.has(family));

/** Answers that are changed in each family. */
const CHANGES = 40;

interface Answer {
  readonly vector: VectorCase;
  readonly op: number | null;
  readonly path: readonly (string | number)[];
}

/** Every number, text and truth value in the kernel's answers of a case. */
function* answersOf(vector: VectorCase): Iterable<Answer> {
  for (const path of leavesOf(vector.result ?? null)) yield { vector, op: null, path };
  for (const [op, { result }] of vector.ops.entries()) {
    for (const path of leavesOf(result ?? null)) if (!isQuestion(path)) yield { vector, op, path };
  }
}

/** An address that was asked for: it stands beside the answer, but is none. */
function isQuestion([first, , third]: readonly (string | number)[]): boolean {
  return first === 'probe_at' || (first === 'probe' && third === 0);
}

function* leavesOf(value: Json): Iterable<(string | number)[]> {
  if (typeof value !== 'object') return yield [];
  const entries: Iterable<[string | number, Json]> = Array.isArray(value)
    ? value.entries()
    : Object.entries(value ?? {});
  for (const [key, inner] of entries) for (const path of leavesOf(inner)) yield [key, ...path];
}

function changedAt(value: Json, path: readonly (string | number)[]): Json {
  const [key, ...rest] = path;
  if (key === undefined) return other(value);
  if (Array.isArray(value)) return value.map((item, i) => (i === key ? changedAt(item, rest) : item));
  if (!isObject(value)) throw new Error('no such path');
  return { ...value, [key]: changedAt(value[key] ?? null, rest) };
}

/** Something of the same kind that the kernel did not answer. */
function other(value: Json): Json {
  if (typeof value === 'number') return value + 1;
  if (typeof value === 'boolean') return !value;
  if (typeof value !== 'string' || value === '') return 'something else';
  const last = value.at(-1) === '1' ? '2' : '1';
  return `${value.slice(0, -1)}${last}`;
}

function withChange({ vector, op, path }: Answer): VectorCase {
  if (op === null) return { ...vector, result: changedAt(vector.result ?? null, path) as VectorCase['ops'][0]['args'] };
  const ops = vector.ops.map((entry, i) =>
    i === op ? { ...entry, result: changedAt(entry.result ?? null, path) as VectorCase['ops'][0]['args'] } : entry,
  );
  return { ...vector, ops };
}

describe.each(built)('family %s', (family) => {
  const cases = readCases(join(HERE, 'vectors', `${family}.jsonl`));

  it('matches every answer recorded from the kernel', () => {
    const [line] = formatReports(runCases(cases, families), false);
    expect(line).toBe(`${family}: ${cases.length}/${cases.length}`);
  });

  it('notices a changed answer, wherever it is', () => {
    const answers = cases.flatMap((vector) => [...answersOf(vector)]);
    const step = Math.max(1, Math.floor(answers.length / CHANGES));
    const unnoticed: string[] = [];
    for (let i = 0; i < answers.length; i += step) {
      const answer = answers[i];
      if (answer === undefined) continue;
      const [report] = runCases([withChange(answer)], families);
      if (report?.failed.length !== 1) {
        unnoticed.push(
          `${answer.vector.case} op ${answer.op} ${answer.vector.ops[answer.op ?? 0]?.op}.${answer.path.join('.')}`,
        );
      }
    }
    expect(unnoticed).toEqual([]);
  });
});
