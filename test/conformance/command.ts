/** The command `npm run conformance`, without the process around it. */
import { join } from 'node:path';
import { ConformanceInputError, formatReports, loadFamilies, readCases, runCases, unknownFamilies } from './runner.ts';

/** What a run of the command prints and how it ends. */
export interface CommandResult {
  /** 0 everything matches, 1 something does not, 2 a bad argument or file, or a family that is unknown. */
  readonly status: 0 | 1 | 2;
  /** Lines for standard output. */
  readonly output: readonly string[];
  /** The one line for standard error, or '' . */
  readonly error: string;
}

const USAGE = 'usage: npm run conformance -- [--verbose] FILE.jsonl…';

/** Runs the command with `args`: options and files. */
export async function conformanceCommand(args: readonly string[]): Promise<CommandResult> {
  try {
    const options = args.filter((arg) => arg.startsWith('-'));
    const files = args.filter((arg) => !arg.startsWith('-'));
    const unknown = options.find((option) => option !== '--verbose');
    if (unknown !== undefined) throw new ConformanceInputError(`unknown option ${unknown}; ${USAGE}`);
    if (files.length === 0) throw new ConformanceInputError(`no file given; ${USAGE}`);
    const families = await loadFamilies(join(import.meta.dirname, 'families'));
    const cases = files.flatMap(readCases);
    const reports = runCases(cases, families);
    const output = formatReports(reports, options.includes('--verbose'));
    const unbuilt = unknownFamilies(cases, families).join(', ');
    if (unbuilt !== '') {
      const known = [...families.keys()].join(', ');
      return { status: 2, output, error: `conformance: unknown family ${unbuilt}; known: ${known}` };
    }
    return { status: reports.every((report) => report.failed.length === 0) ? 0 : 1, output, error: '' };
  } catch (error) {
    if (!(error instanceof ConformanceInputError)) throw error;
    return { status: 2, output: [], error: `conformance: ${error.message}` };
  }
}
