/**
 * Writes `docs/hazards.md` from the catalogue in `docs/hazards/`: what each hazard and each cause means, its minimal program, what that
 * prints, and what is right instead.
 *
 *     npx tsx scripts/hazard-docs.ts
 */
import { readFileSync, writeFileSync } from 'node:fs';
import process from 'node:process';
import { pathToFileURL } from 'node:url';
import { causeCatalogue, hazardCatalogue } from '../docs/hazards/catalogue.ts';
import type { CatalogueEntry } from '../docs/hazards/catalogue-entry.ts';
import { describeHazard, type HazardFacts } from '../src/index.ts';

/** The page. */
export const HAZARDS_PAGE = 'docs/hazards.md';

type Rows = readonly (readonly [code: string, entry: CatalogueEntry])[];

const INTRODUCTION = `# Hazards

Everything the simulator can catch, by code. A *hazard* is a broken protocol: bytes that are old or lost, an access that nothing orders, a call that
does not fit the one before. The program may still print the right picture, here or on the next machine.

Under the policy \`hazards: 'throw'\` (the default) a hazard ends the call that caused it with a \`HazardError\`; under \`'record'\` it goes on, and
\`sim.hazards\` holds the facts. \`describeHazard(facts)\` gives the text that is shown here. Codes and the names of facts are stable; texts are not.

Each program below is complete. \`program(false)\` provokes the hazard, \`program(true)\` is the *near miss*: nearly the same, and right, so nothing is
reported. A report says where in the program each side stands: \`cpu-read-stale.ts:17\` is line 17 of the program's file in \`docs/hazards/\`.

*Lints* are habits that move no wrong byte here and break elsewhere; they are looked for with \`lints: true\`.

This page is written by \`scripts/hazard-docs.ts\` from the catalogue that the tests run.
`;

/** Begins the meaning of a code that is reported only with `lints: true`. */
const LINT = 'Lint: ';

const CAUSES = `# Causes

A report of old or lost bytes has a \`cause\`: the one call that would have prevented it, who has to make it, and between which two accesses it
belongs. These are the kinds there are.
`;

/** The whole page, newly made: runs every program. */
export function hazardsPage(): string {
  const hazards = Object.entries(hazardCatalogue);
  const causes = Object.entries(causeCatalogue);
  const shown = new Set(hazards.map(([, { file }]) => file));
  const sections = [
    INTRODUCTION,
    table(hazards),
    ...hazards.map(([code, entry]) => section(code, entry, ({ hazard }) => hazard === code)),
    CAUSES,
    table(causes),
    ...causes.map(([code, entry]) => causeSection(code, entry, shown)),
  ];
  return `${sections.join('\n').trimEnd()}\n`;
}

function table(rows: Rows): string {
  const lines = rows.map(([code, { meaning }]) => `| [${code}](#${anchor(code)}) | ${firstSentence(meaning)} |`);
  return `| code | what has happened |\n|---|---|\n${lines.join('\n')}\n`;
}

function section(code: string, entry: CatalogueEntry, isMeant: (facts: HazardFacts) => boolean): string {
  const { file, meaning, right, program } = entry;
  const report = program(false).hazards.find(isMeant);
  if (report === undefined) throw new Error(`docs/hazards/${file}.ts does not provoke ${code}`);
  const path = `docs/hazards/${file}.ts`;
  return [
    `## ${code}\n`,
    `${meaning}\n`,
    `<!-- ${path} -->\n\`\`\`ts\n${programText(path)}\`\`\`\n`,
    `\`\`\`text\n${reportText(report)}\n\`\`\`\n`,
    `**Instead:** ${right}\n`,
  ].join('\n');
}

/** Without columns: which one the engine tells of a call depends on how the file was compiled. */
function reportText(facts: HazardFacts): string {
  return describeHazard(facts).replaceAll(/(\.ts:\d+):\d+/g, '$1');
}

/** A program that stands further up is not shown twice. */
function causeSection(code: string, entry: CatalogueEntry, shown: ReadonlySet<string>): string {
  if (!shown.has(entry.file)) return section(code, entry, (facts) => 'cause' in facts && facts.cause.code === code);
  const hazard = Object.entries(hazardCatalogue).find(([, { file }]) => file === entry.file)?.[0] ?? '';
  const program = `The program is that of [${hazard}](#${anchor(hazard)}).`;
  return [`## ${code}\n`, `${entry.meaning} ${program}\n`, `**Instead:** ${entry.right}\n`].join('\n');
}

/** The program without its header comment, as a user would write it. */
function programText(path: string): string {
  const source = readFileSync(path, 'utf8');
  return source.slice(source.indexOf('import')).replace("'../../src/index.ts'", "'dmabuf-sim'");
}

function firstSentence(text: string): string {
  const isLint = text.startsWith(LINT);
  const sentence = /^.*?[.:;](?= |$)/.exec(isLint ? text.slice(LINT.length) : text)?.[0] ?? text;
  return `${isLint ? LINT : ''}${sentence.replace(/[:;]$/, '.')}`;
}

/** As GitHub makes it of a heading. */
function anchor(heading: string): string {
  return heading
    .toLowerCase()
    .replace(/[^a-z0-9 -]/g, '')
    .replaceAll(' ', '-');
}

const script = process.argv[1];
if (script !== undefined && import.meta.url === pathToFileURL(script).href) writeFileSync(HAZARDS_PAGE, hazardsPage());
