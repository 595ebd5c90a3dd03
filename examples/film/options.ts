/** The command line of the film example. */
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { Omission } from './film-run.ts';

/** What the user asked for. */
export interface FilmOptions {
  readonly path: string;
  readonly omit: Omission;
}

/** A wrong command line, told in one line. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

const OMISSIONS: readonly Omission[] = ['begin-read', 'end-write'];
const USAGE = `usage: npm start -- [FILE.y4m] [--omit ${OMISSIONS.join('|')}]`;

/** Reads the arguments after the program's name. @throws {UsageError} an unknown option or value, or two files. */
export function filmOptions(args: readonly string[]): FilmOptions {
  const { values, positionals } = parsed(args);
  const omit = values.omit ?? 'begin-read';
  const known = OMISSIONS.find((name) => name === omit);
  if (known === undefined) throw new UsageError(`--omit ${omit}: only ${OMISSIONS.join(' and ')} can be left out`);
  if (positionals.length > 1) throw new UsageError(`one film at a time, not ${positionals.join(' and ')}; ${USAGE}`);
  return { path: positionals[0] ?? fileURLToPath(new URL('allium-256x144.y4m', import.meta.url)), omit: known };
}

function parsed(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], allowPositionals: true, options: { omit: { type: 'string' } } });
  } catch (error) {
    throw new UsageError(`${error instanceof Error ? error.message.split('.')[0] : error}; ${USAGE}`);
  }
}
