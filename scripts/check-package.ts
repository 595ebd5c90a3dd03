/**
 * Checks the built package as its users meet it: what `npm pack` puts into the archive (publint, attw), and that both
 * formats load, export the same names, and share one copy of each class between `.` and `./testing`.
 * Run by `npm run package` after the build. Exit status 1 when something is wrong.
 */
import { type ExecFileSyncOptions, execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';
import process from 'node:process';

const ENTRIES = ['dmabuf-sim', 'dmabuf-sim/testing'] as const;

type Names = Readonly<Record<string, unknown>>;

/** Its output goes to ours. */
const SHOWN: ExecFileSyncOptions = { stdio: ['ignore', 'inherit', 'inherit'] };

/** Builds nothing again (`--ignore-scripts`), so that what is checked is what was built. */
function checkArchive(): void {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'dmabuf-sim-pack-'));
  try {
    execFileSync('npm', ['pack', '--ignore-scripts', '--silent', '--pack-destination', folder], SHOWN);
    const [archive] = readdirSync(folder);
    if (archive === undefined) throw new Error('npm pack wrote no archive');
    const file = path.join(folder, archive);
    execFileSync('npx', ['publint', '--strict', file], SHOWN);
    // ./testing is found through "exports", which TypeScript's node10 resolution does not know.
    execFileSync('npx', ['attw', '--profile', 'node16', '--format', 'ascii', file], SHOWN);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Names whose values differ between the two entries of one format although both export them. */
function splitNames(main: Names, testing: Names): string[] {
  return Object.keys(testing).filter((name) => name in main && main[name] !== testing[name]);
}

function checkFormat(format: string, [main, testing]: readonly [Names, Names]): string[] {
  return splitNames(main, testing).map((name) => `${format}: ${name} exists twice, once for each entry`);
}

async function checkLoading(): Promise<string[]> {
  const require = createRequire(import.meta.url);
  const [mainName, testingName] = ENTRIES;
  const esm = [await import(mainName), await import(testingName)] as const satisfies readonly [Names, Names];
  const cjs = [require(mainName), require(testingName)] as const satisfies readonly [Names, Names];
  const wrong = [...checkFormat('ESM', esm), ...checkFormat('CommonJS', cjs)];
  ENTRIES.forEach((entry, at) => {
    const [inEsm, inCjs] = [esm[at], cjs[at]].map((names) =>
      Object.keys(names ?? {})
        .sort()
        .join(' '),
    );
    if (inEsm !== inCjs) wrong.push(`${entry}: ESM exports ${inEsm}; CommonJS exports ${inCjs}`);
    if (inEsm === '') wrong.push(`${entry}: exports nothing`);
  });
  return wrong;
}

checkArchive();
const wrong = await checkLoading();
for (const line of wrong) process.stdout.write(`${line}\n`);
if (wrong.length > 0) process.exitCode = 1;
else process.stdout.write('package: loads as ESM and CommonJS, one copy of each class\n');
