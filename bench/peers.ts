/** Other simulators: found and compiled if they are installed, else skipped with a word on standard error. */
import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import process from 'node:process';
import { OUTPUT, type Program } from './catalogue.ts';

type Runner = Program['runner'];

const FOLDER = 'bench/peers';

/** Knows how to start each {@link Program}; looks for a peer when it is asked for first. */
export class Peers {
  readonly #commands = new Map<Runner, readonly string[] | null>([['node', [process.execPath]]]);

  /** The command of `runner`, or `null`: it is not installed. */
  command(runner: Runner): readonly string[] | null {
    const known = this.#commands.get(runner);
    if (known !== undefined) return known;
    const found = find(runner);
    if (found === null) process.stderr.write(`${runner} is not installed: skipped (see bench/README.md)\n`);
    this.#commands.set(runner, found);
    return found;
  }
}

function find(runner: Runner): readonly string[] | null {
  if (runner === 'systemc') return compile('systemc', ['-lsystemc']);
  if (runner === 'queue') return compile('queue', []);
  if (runner === 'simpy') return python();
  if (runner === 'simjs') return simjs();
  return null;
}

/** Compiles `name.cpp`. */
function compile(name: string, libraries: readonly string[]): readonly string[] | null {
  const target = `${OUTPUT}/${name}`;
  mkdirSync(OUTPUT, { recursive: true });
  const args = ['-O2', '-std=c++17', '-o', target, `${FOLDER}/${name}.cpp`, ...libraries];
  return spawnSync('g++', args, { stdio: 'ignore' }).status === 0 ? [path.resolve(target)] : null;
}

/** The first Python that has SimPy. */
function python(): readonly string[] | null {
  for (const command of ['/usr/bin/python3', 'python3']) {
    if (spawnSync(command, ['-c', 'import simpy'], { stdio: 'ignore' }).status === 0) {
      return [command, `${FOLDER}/simpy-bench.py`];
    }
  }
  return null;
}

/** simjs, if it can be resolved from here: `NODE_PATH` may point to it. */
function simjs(): readonly string[] | null {
  try {
    createRequire(path.resolve(FOLDER, 'simjs.mjs')).resolve('simjs');
    return [process.execPath, `${FOLDER}/simjs.mjs`];
  } catch {
    return null;
  }
}
