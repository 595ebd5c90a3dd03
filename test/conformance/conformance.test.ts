import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { conformanceCommand } from './command.ts';
import type { Family } from './family.ts';
import { formatReports, loadFamilies, readCases, runCases } from './runner.ts';
import type { VectorCase } from './vector-case.ts';

const HERE = import.meta.dirname;
const IOPGTABLE = join(HERE, 'vectors', 'iopgtable.jsonl');
const folder = mkdtempSync(join(tmpdir(), 'conformance-'));
afterAll(() => rmSync(folder, { recursive: true }));

const families = await loadFamilies(join(HERE, 'families'));

function write(name: string, text: string): string {
  const file = join(folder, name);
  writeFileSync(file, text);
  return file;
}

function s1Cases(): readonly VectorCase[] {
  return readCases(IOPGTABLE).filter((vector) => vector.setup['fmt'] === 'ARM_64_LPAE_S1');
}

describe('family iopgtable', () => {
  it('matches every recorded case of every format', () => {
    const reports = runCases(readCases(IOPGTABLE), families);
    expect(formatReports(reports, true)).toEqual(['iopgtable: 70/70', '70 of 70 match']);
  });

  it('looks at the registers and translations of each format', () => {
    const changes: Readonly<Record<string, readonly [from: string, to: string]>> = {
      ARM_64_LPAE_S2: ['"sl":2', '"sl":1'],
      ARM_32_LPAE_S1: ['"irgn":1', '"irgn":0'],
      ARM_32_LPAE_S2: ['"tsz":32', '"tsz":0'],
      ARM_MALI_LPAE: ['0x888d88', '0x888888'],
      ARM_V7S: ['"ttbr_low":"0x6a"', '"ttbr_low":"0x2a"'],
    };
    for (const [format, [from, to]] of Object.entries(changes)) {
      const texts = readFileSync(IOPGTABLE, 'utf8').split('\n');
      const text = texts.find((line) => line.includes(`"${format}"`) && line.includes(from)) ?? '';
      expect(text, format).toContain(from);
      const [report] = runCases(readCases(write(`${format}.jsonl`, text.replace(from, to))), families);
      expect(report?.failed, format).toHaveLength(1);
    }
  });

  it('counts formats that are not built as not matching, with the reason', () => {
    const [first] = readCases(IOPGTABLE).filter((vector) => vector.setup['fmt'] === 'ARM_64_LPAE_S1');
    if (first === undefined) throw new Error('no case');
    const foreign = { ...first, case: 'pgt-x', setup: { ...first.setup, fmt: 'NO_SUCH_FORMAT' } };
    expect(formatReports(runCases([first, foreign], families), true)).toEqual([
      'iopgtable pgt-x: format NO_SUCH_FORMAT is not built',
      'iopgtable: 1/2',
      '1 of 2 match',
    ]);
  });

  it('finds one changed bit of one descriptor, and one changed callback', () => {
    const [first] = s1Cases();
    const text = JSON.stringify(first);
    const tampered = text.replace('"fnv":"', '"fnv":"0').replace(/0([0-9a-f]{15})[0-9a-f]"/, '$10"');
    const untold = text.replace('"tlb_flush_all"', '"tlb_flush_walk"');
    for (const [name, changed] of Object.entries({ tampered, untold })) {
      expect(changed, name).not.toBe(text);
      const [report] = runCases(readCases(write(`${name}.jsonl`, changed)), families);
      expect(report?.failed, name).toHaveLength(1);
    }
  });

  it('tells case, operation, field, expected and got of a mismatch', () => {
    const [first] = s1Cases();
    if (first === undefined) throw new Error('no case');
    const ops = first.ops.map((op, i) => (i === 1 ? { ...op, result: { ...op.result, table_pages: 77 } } : op));
    const reports = runCases([{ ...first, ops }], families);
    expect(formatReports(reports, true)[0]).toMatch(
      new RegExp(`^iopgtable ${first.case} op 1: ${ops[1]?.op}.result.table_pages: expected 77, got \\d+$`),
    );
  });
});

describe('the conformance runner', () => {
  it('counts a case that throws as not matching, and says what was thrown', () => {
    const family: Family = {
      family: 'f',
      run() {
        throw new TypeError('no such field');
      },
    };
    const reports = runCases([{ family: 'f', case: 'c', setup: {}, ops: [] }], new Map([['f', family]]));
    expect(formatReports(reports, true)).toEqual(['f c: threw TypeError: no such field', 'f: 0/1', '0 of 1 match']);
  });

  it('groups cases of several families and sums them up', () => {
    const match: Family = { family: 'a', run: () => null };
    const fail: Family = { family: 'b', run: () => ({ op: 0, field: 'x.result', expected: 1, got: 2 }) };
    const cases = ['a', 'b', 'a'].map((family) => ({ family, case: family, setup: {}, ops: [] }));
    const known = new Map([match, fail].map((family) => [family.family, family]));
    expect(formatReports(runCases(cases, known), false)).toEqual(['a: 2/2', 'b: 0/1', '2 of 3 match']);
  });

  it('ends with status 0 when everything matches, as a process too', async () => {
    const file = write(
      's1.jsonl',
      s1Cases()
        .map((vector) => JSON.stringify(vector))
        .join('\n'),
    );
    const output = ['iopgtable: 19/19', '19 of 19 match'];
    expect(await conformanceCommand([file])).toEqual({ status: 0, output, error: '' });
    const child = spawnSync(process.execPath, ['--import', 'tsx', join(HERE, 'run.ts'), file], { encoding: 'utf8' });
    expect([child.status, child.stdout, child.stderr]).toEqual([0, `${output.join('\n')}\n`, '']);
  });

  it('ends with status 1 and the first difference with --verbose when a case does not match', async () => {
    const text =
      readFileSync(IOPGTABLE, 'utf8')
        .split('\n')
        .find((line) => line.includes('"pgt-41"')) ?? '';
    const file = write('bad.jsonl', text.replace('0x8d6fabfb7e8b', '0x8d6fabfb7e8a'));
    expect(await conformanceCommand(['--verbose', file])).toEqual({
      status: 1,
      output: [
        'iopgtable pgt-41 op 21: dump_leaves.result.runs[0][2]: expected "0x8d6fabfb7e8a", got "0x8d6fabfb7e8b"',
        'iopgtable: 0/1',
        '0 of 1 match',
      ],
      error: '',
    });
  });

  it('counts the cases of an unknown family as not matching, runs the others, and ends with status 2', async () => {
    const unknown = write('unknown.jsonl', '{"family":"telepathy","case":"t-1","setup":{},"ops":[]}\n');
    const { status, output, error } = await conformanceCommand([unknown, IOPGTABLE]);
    expect([status, output]).toEqual([2, ['telepathy: 0/1', 'iopgtable: 70/70', '70 of 71 match']]);
    expect(error).toMatch(/^conformance: unknown family telepathy; known: .*iopgtable/);
  });

  it('ends with status 2 and one line for a missing file, bad JSON, no case, or bad arguments', async () => {
    const unknown = write('unknown.jsonl', '{"family":"telepathy","case":"t-1","setup":{},"ops":[]}\n');
    const broken = write('broken.jsonl', '\n{"family":\n');
    const noCase = write('nocase.jsonl', '{"family":"iopgtable"}\n');
    const expectLine = async (args: readonly string[], line: RegExp) => {
      const { status, output, error } = await conformanceCommand(args);
      expect([status, output]).toEqual([2, []]);
      expect(error).toMatch(line);
      expect(error).not.toContain('\n');
    };
    await expectLine([join(folder, 'missing.jsonl')], /^conformance: cannot read .*missing\.jsonl: .*ENOENT/);
    await expectLine([broken], /^conformance: .*broken\.jsonl:2: no JSON/);
    await expectLine([noCase], /^conformance: .*nocase\.jsonl:1: no case/);
    await expectLine([], /^conformance: no file given; usage/);
    await expectLine(['--fast', unknown], /^conformance: unknown option --fast/);
    const child = spawnSync(process.execPath, ['--import', 'tsx', join(HERE, 'run.ts'), unknown], { encoding: 'utf8' });
    expect(child.status).toBe(2);
    expect(child.stderr.trim().split('\n')).toHaveLength(1);
  });
});
