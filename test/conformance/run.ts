/**
 * `npm run conformance -- [--verbose] FILE…`: replays recorded kernel vectors.
 *
 * Prints `family: matched/total` for each family, then `M of N match`; `--verbose` adds the first difference of each mismatch.
 * Exit status: 0 everything matches, 1 something does not, 2 the run could not start (one line on standard error).
 */
import { conformanceCommand } from './command.ts';

const { status, output, error } = await conformanceCommand(process.argv.slice(2));
for (const line of output) console.log(line);
if (error !== '') console.error(error);
process.exitCode = status;
