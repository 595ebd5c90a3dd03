/**
 * Runs the examples and the snippets of the documentation, and compares what each prints with the text kept beside it.
 *
 *     npm run examples                      all of them
 *     npm run examples -- 03 04             those whose name begins so
 *     npm run examples -- --update          writes what they print as the new text
 *
 * An example passes when it exits with 0, prints nothing on standard error, and its standard output is
 * `NAME.out` beside it, byte for byte. Exit status 1 when one does not.
 */
import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import process from 'node:process';
import { lineDiff } from './line-diff.ts';

const TIME_LIMIT_MS = 60_000;
const FOLDERS = ['examples', 'docs/snippets'];

interface Run {
  readonly stdout: string;
  readonly stderr: string;
  /** `null` when a signal ended it: the time limit. */
  readonly exitCode: number | null;
}

function run(file: string): Promise<Run> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ['--import', 'tsx', file], {
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: TIME_LIMIT_MS,
    });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    child.on('error', reject);
    child.on('close', (exitCode) => resolve({ stdout, stderr, exitCode }));
  });
}

/** Why the example fails, or '' when it passes. */
function verdict({ stdout, stderr, exitCode }: Run, outFile: string): string {
  if (exitCode === null) return `was stopped after ${TIME_LIMIT_MS / 1000} s\n${stderr}`;
  if (exitCode !== 0) return `exited with ${exitCode}\n${stderr}`;
  if (stderr !== '') return `printed on standard error:\n${stderr}`;
  if (!existsSync(outFile)) return `${outFile} is missing; write it with: npm run examples -- --update`;
  const expected = readFileSync(outFile, 'utf8');
  return expected === stdout ? '' : `prints something else than ${outFile}:\n${lineDiff(expected, stdout)}`;
}

async function check(file: string, update: boolean): Promise<boolean> {
  const outFile = file.replace(/\.ts$/, '.out');
  const startMs = performance.now();
  const result = await run(file);
  if (update && result.exitCode === 0) writeFileSync(outFile, result.stdout);
  const why = verdict(result, outFile);
  const spent = `${((performance.now() - startMs) / 1000).toFixed(1)} s`;
  process.stdout.write(why === '' ? `ok    ${file} (${spent})\n` : `FAIL  ${file} (${spent}) ${why}\n`);
  return why === '';
}

/** Calls `work` for each item, as many at once as there are processors. */
async function inParallel<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const rest = [...items];
  const results: R[] = [];
  const worker = async (): Promise<void> => {
    for (let item = rest.shift(); item !== undefined; item = rest.shift()) results.push(await work(item));
  };
  await Promise.all(Array.from({ length: os.availableParallelism() }, worker));
  return results;
}

/** The programs of `folder`, sorted; with `wanted`, those whose name begins with one of them. */
function programsIn(folder: string, wanted: readonly string[]): string[] {
  return readdirSync(folder)
    .filter((name) => name.endsWith('.ts'))
    .filter((name) => wanted.length === 0 || wanted.some((prefix) => name.startsWith(prefix)))
    .sort()
    .map((name) => path.posix.join(folder, name));
}

async function main(args: readonly string[]): Promise<number> {
  const wanted = args.filter((arg) => !arg.startsWith('--'));
  const files = FOLDERS.flatMap((folder) => programsIn(folder, wanted));
  if (files.length === 0) {
    process.stdout.write(`no example is named ${wanted.length === 0 ? 'examples/*.ts' : wanted.join(', ')}\n`);
    return 1;
  }
  const passed = await inParallel(files, (file) => check(file, args.includes('--update')));
  const failures = passed.filter((ok) => !ok).length;
  process.stdout.write(`examples: ${files.length - failures} of ${files.length} print what they should\n`);
  return failures === 0 ? 0 : 1;
}

process.exitCode = await main(process.argv.slice(2));
