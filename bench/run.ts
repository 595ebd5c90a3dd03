/**
 * Measures how fast the library is, against bare loops and other simulators.
 *
 *     npm run bench -- [NAME…] [--json] [--rounds N]
 *
 * Standard output has the result only; progress goes to standard error. `README.md` tells how to read it.
 */
import process from 'node:process';
import { parseArgs } from 'node:util';
import { buildCases } from './build.ts';
import { BENCHMARKS, type Benchmark } from './catalogue.ts';
import { type Measurement, measure } from './measure.ts';
import { Peers } from './peers.ts';
import { formatJson, formatTable } from './report.ts';

const USAGE = 'usage: npm run bench -- [NAME...] [--json] [--rounds N]';

/** What the user asked for wrongly. */
class UsageError extends Error {}

interface Request {
  readonly benchmarks: readonly Benchmark[];
  readonly json: boolean;
  readonly rounds: number;
}

function parseRequest(args: readonly string[]): Request {
  const options = { json: { type: 'boolean', default: false }, rounds: { type: 'string', default: '5' } } as const;
  const { values, positionals } = parse(() => parseArgs({ args: [...args], options, allowPositionals: true }));
  const rounds = Number(values.rounds);
  if (!Number.isInteger(rounds) || rounds < 1)
    throw new UsageError(`--rounds ${values.rounds}: not a whole number > 0`);
  const isNamed = ({ name, group }: Benchmark, wanted: string): boolean => name === wanted || group === wanted;
  for (const wanted of positionals) {
    if (BENCHMARKS.some((benchmark) => isNamed(benchmark, wanted))) continue;
    const names = BENCHMARKS.map(({ name }) => name).join(', ');
    throw new UsageError(`no benchmark is named ${wanted}; there are ${names}`);
  }
  const benchmarks =
    positionals.length === 0
      ? BENCHMARKS
      : BENCHMARKS.filter((benchmark) => positionals.some((wanted) => isNamed(benchmark, wanted)));
  return { benchmarks, json: values.json, rounds };
}

function parse<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw new UsageError(`${error instanceof Error ? error.message : error}\n${USAGE}`);
  }
}

async function main(): Promise<void> {
  const { benchmarks, json, rounds } = parseRequest(process.argv.slice(2));
  process.stderr.write('building\n');
  await buildCases();
  const peers = new Peers();
  const measurements: Measurement[] = [];
  for (const benchmark of benchmarks) {
    process.stderr.write(`${benchmark.name}\n`);
    measurements.push(measure(benchmark, { rounds, peers, withPeers: !json }));
  }
  console.log(json ? formatJson(measurements) : formatTable(measurements));
}

try {
  await main();
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : error}\n`);
  process.exitCode = error instanceof UsageError ? 2 : 1;
}
