/**
 * Runs the programs of a benchmark in turn, round after round (A B C A B C …), each in a process of its own. Only ratios
 * of one round mean anything on a machine whose speed moves; what is reported is their median.
 */
import { spawnSync } from 'node:child_process';
import type { Benchmark, Program, Rival } from './catalogue.ts';
import type { Peers } from './peers.ts';

/** How we stand against one other program. */
export interface Standing {
  readonly rival: Rival;
  /** Median of its values. */
  readonly value: number;
  /** Median over the rounds of how much better we are; 1 is as good. */
  readonly ratio: number;
}

/** One benchmark, measured. */
export interface Measurement {
  readonly benchmark: Benchmark;
  /** Median of our values. */
  readonly value: number;
  readonly limit: Standing | null;
  readonly peers: readonly Standing[];
}

/** What to measure with. */
export interface MeasureOptions {
  readonly rounds: number;
  /** `null`: no peers. */
  readonly peers: Peers;
  readonly withPeers: boolean;
}

const TIMEOUT_MS = 300_000;

/** @throws {Error} a program fails; the text has what it said. */
export function measure(benchmark: Benchmark, { rounds, peers, withPeers }: MeasureOptions): Measurement {
  const rivals = [benchmark.limit ?? [], withPeers ? (benchmark.peers ?? []) : []].flat();
  const present = rivals.filter((rival) => peers.command(rival.runner) !== null);
  const programs = [benchmark.ours, ...present];
  const values = programs.map((): number[] => []);
  for (let round = 0; round < rounds; round++) {
    for (const [i, program] of programs.entries()) values[i]?.push(runProgram(program, peers));
  }
  const ours = values[0] ?? [];
  const standings = present.map((rival, i): Standing => {
    const theirs = values[i + 1] ?? [];
    const ratios = ours.map((value, round) => {
      const other = theirs[round] ?? Number.NaN;
      return benchmark.better === 'higher' ? value / other : other / value;
    });
    return { rival, value: median(theirs), ratio: median(ratios) };
  });
  return {
    benchmark,
    value: median(ours),
    limit: standings.find(({ rival }) => rival === benchmark.limit) ?? null,
    peers: standings.filter(({ rival }) => rival !== benchmark.limit),
  };
}

function runProgram({ label, runner, args }: Program, peers: Peers): number {
  const [command = '', ...first] = peers.command(runner) ?? [];
  const all = [...first, ...args];
  const { status, stdout, stderr } = spawnSync(command, all, { encoding: 'utf8', timeout: TIMEOUT_MS });
  const line = (stdout ?? '').split('\n').find((text) => text.startsWith('{'));
  const value: unknown = line === undefined ? undefined : JSON.parse(line).value;
  if (typeof value === 'number' && Number.isFinite(value)) return value;
  throw new Error(`${label} (${[command, ...all].join(' ')}) gave no value, status ${status}: ${stderr}`);
}

/** The middle one; of an even number the upper of the two. */
function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}
