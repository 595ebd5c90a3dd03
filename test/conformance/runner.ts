/**
 * Replays recorded kernel vectors against the library.
 *
 * A family is a file in `families/` with a default export of type `Family`; nothing else has to be registered.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Family, Mismatch } from './family.ts';
import { isObject, type Json, type VectorCase } from './vector-case.ts';

/** What keeps a run from starting: a bad argument, file, line or family. Its message is one line. */
export class ConformanceInputError extends Error {
  override readonly name = 'ConformanceInputError';
}

/** A case that does not match. */
export interface FailedCase {
  readonly case: string;
  readonly mismatch: Mismatch;
}

/** What became of one family's cases. */
export interface FamilyReport {
  readonly family: string;
  readonly total: number;
  readonly failed: readonly FailedCase[];
}

/** Loads every family in `folder`. @throws {ConformanceInputError} a file there exports none, or two have one name. */
export async function loadFamilies(folder: string): Promise<ReadonlyMap<string, Family>> {
  const families = new Map<string, Family>();
  for (const file of readdirSync(folder).sort()) {
    if (!file.endsWith('.ts') || file.endsWith('.test.ts')) continue;
    const module: { readonly default?: Family } = await import(pathToFileURL(join(folder, file)).href);
    const family = module.default;
    if (family === undefined) throw new ConformanceInputError(`families/${file} has no default export`);
    if (families.has(family.family)) throw new ConformanceInputError(`two files are family ${family.family}`);
    families.set(family.family, family);
  }
  return families;
}

/** Reads the cases of a `*.jsonl` file. @throws {ConformanceInputError} unreadable, no JSON, or no case; names file and line. */
export function readCases(file: string): readonly VectorCase[] {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw new ConformanceInputError(`cannot read ${file}: ${messageOf(error)}`);
  }
  const cases: VectorCase[] = [];
  text.split('\n').forEach((line, index) => {
    if (line.trim() !== '') cases.push(parseCase(line, `${file}:${index + 1}`));
  });
  return cases;
}

/** Runs `cases`, grouped by family in order of first appearance. Cases of a family that is unknown do not match. */
export function runCases(cases: readonly VectorCase[], families: ReadonlyMap<string, Family>): readonly FamilyReport[] {
  const groups = new Map<string, VectorCase[]>();
  for (const vector of cases) {
    const group = groups.get(vector.family);
    if (group === undefined) groups.set(vector.family, [vector]);
    else group.push(vector);
  }
  const reports: FamilyReport[] = [];
  for (const [name, group] of groups) {
    const family = families.get(name);
    const failed: FailedCase[] = [];
    for (const vector of group) {
      const mismatch = family === undefined ? UNKNOWN : runOne(family, vector);
      if (mismatch !== null) failed.push({ case: vector.case, mismatch });
    }
    reports.push({ family: name, total: group.length, failed });
  }
  return reports;
}

/** The lines to print: one a mismatch with `verbose`, one a family, and the sum. */
export function formatReports(reports: readonly FamilyReport[], verbose: boolean): readonly string[] {
  const lines: string[] = [];
  let matched = 0;
  let total = 0;
  for (const report of reports) {
    if (verbose) for (const failed of report.failed) lines.push(describe(report.family, failed));
    lines.push(`${report.family}: ${report.total - report.failed.length}/${report.total}`);
    matched += report.total - report.failed.length;
    total += report.total;
  }
  lines.push(`${matched} of ${total} match`);
  return lines;
}

const UNKNOWN: Mismatch = { op: null, field: '', reason: 'its family is unknown' };

/** The families of `cases` that nobody has built, in order of first appearance. */
export function unknownFamilies(
  cases: readonly VectorCase[],
  families: ReadonlyMap<string, Family>,
): readonly string[] {
  return [...new Set(cases.map(({ family }) => family))].filter((family) => !families.has(family));
}

function runOne(family: Family, vector: VectorCase): Mismatch | null {
  try {
    return family.run(vector);
  } catch (error) {
    return { op: null, field: '', reason: `threw ${messageOf(error)}` };
  }
}

function describe(family: string, { case: name, mismatch }: FailedCase): string {
  const where = mismatch.op === null ? `${family} ${name}` : `${family} ${name} op ${mismatch.op}`;
  if (mismatch.reason !== undefined) return `${where}: ${mismatch.reason}`;
  return `${where}: ${mismatch.field}: expected ${text(mismatch.expected)}, got ${text(mismatch.got)}`;
}

function text(value: Json | undefined): string {
  return value === undefined ? 'nothing' : JSON.stringify(value);
}

function parseCase(line: string, where: string): VectorCase {
  let value: Json;
  try {
    value = JSON.parse(line);
  } catch (error) {
    throw new ConformanceInputError(`${where}: no JSON: ${messageOf(error)}`);
  }
  if (!isVectorCase(value)) {
    throw new ConformanceInputError(`${where}: no case: it needs family, case, setup and ops`);
  }
  return value;
}

function isVectorCase(value: Json | VectorCase): value is VectorCase {
  return (
    typeof value === 'object' &&
    value !== null &&
    'family' in value &&
    typeof value.family === 'string' &&
    'case' in value &&
    typeof value.case === 'string' &&
    'setup' in value &&
    isObject(value.setup) &&
    'ops' in value &&
    Array.isArray(value.ops) &&
    value.ops.every((op: Json) => isObject(op) && typeof op['op'] === 'string' && isObject(op['args'] ?? {}))
  );
}

function messageOf(error: unknown): string {
  const message = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  return message.split('\n', 1)[0] ?? '';
}
