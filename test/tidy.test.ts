import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import ts from 'typescript';
import { beforeAll, describe, expect, it } from 'vitest';
import * as rules from './tidy-rules.ts';

const ROOT = path.resolve(import.meta.dirname, '..');

function parse(name: string, text: string): ts.SourceFile {
  return ts.createSourceFile(name, text, ts.ScriptTarget.ES2022, true);
}

function sources(): ts.SourceFile[] {
  return readdirSync(path.join(ROOT, 'src'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .sort()
    .map((name) => {
      const file = path.join('src', name);
      return parse(file.split(path.sep).join('/'), readFileSync(path.join(ROOT, file), 'utf8'));
    });
}

/** A rule, a text that it must pass, and texts each of which it must report once. */
interface Case {
  readonly rule: rules.TidyRule;
  readonly good: string;
  readonly bad: readonly string[];
  /** Where the texts stand. */
  readonly file?: string;
}

const lines = (n: number): string => '  f();\n'.repeat(n);

const CASES: Readonly<Record<string, Case>> = {
  'no file has more than 400 lines': { rule: rules.fileLength, good: lines(400), bad: [lines(401)] },
  'no function has more than 70 lines': {
    rule: rules.functionLength,
    good: `/**\n${' *\n'.repeat(9)} */\nfunction f() {\n${lines(68)}}\nclass C {\n${'  m() {}\n'.repeat(80)}}`,
    bad: [`function f() {\n${lines(69)}}`, `const f = () => {\n${lines(69)}};`, `class C { *m() {\n${lines(69)}} }`],
  },
  'nothing reads a clock, draws its own random numbers, uses BigInt or is asynchronous': {
    rule: rules.deterministic,
    good: `
      // await Promise.all, Math.random(), Date.now(), 10n
      const text = 'setTimeout(async () => await 1n)'; const o = { Date: 1, Promise() {} };
      function f(process: { exit(): void }) { process.exit(); return o.Date + Math.max(1, 2); }`,
    bad: [
      ...['async function f() {}', 'const f = async () => 1;', 'await g();', 'for await (const x of y) {}'],
      ...['let p: Promise<void>;', 'Promise.resolve();', 'setTimeout(f, 1);', 'queueMicrotask(f);'],
      ...[
        'Math.random();',
        'Date.now();',
        'new Date();',
        'performance.now();',
        'process.hrtime();',
        'globalThis.Date;',
      ],
      ...['const one = 1n;', 'BigInt(1);', 'let b: bigint;', 'new BigUint64Array(1);', 'view.getBigUint64(0);'],
    ],
  },
  'no file has a name that says nothing': { rule: rules.fileName, good: 'f();', bad: [] },
  'only the two entries re-export': {
    rule: rules.noBarrel,
    good: "import { a } from './a.ts'; export const b = a; const c = 1; export { c };",
    bad: [
      "export { a } from './a.ts';",
      "export * from './a.ts';",
      "import { a } from './a.ts'; export { a as b };",
      "import type { A } from './a.ts'; export type { A };",
    ],
  },
  'the entries re-export name by name and define nothing': {
    rule: rules.entriesNameByName,
    file: 'src/index.ts',
    good: "export { a, type B } from './a.ts'; export type { C } from './c.ts';",
    bad: ["export * from './a.ts';", "export * as a from './a.ts';", 'export const a = 1;'],
  },
  'every exported name has a doc comment': {
    rule: rules.documented,
    good: `
      /** Does a. */ export function a(n: number): void; export function a(): void {}
      /** B. */ export class B {}
      /** @internal C. */ export interface C {}
      /** D. */ type D = 1; export type { D };
      const own = 1;`,
    bad: [
      ...['export function a() {}', 'export class A {}', 'export interface A {}', 'export type A = 1;'],
      ...[
        'export const a = 1;',
        '// a\nexport const a = 1;',
        '/** */ export const a = 1;',
        'const a = 1; export { a };',
      ],
    ],
  },
  'nothing of Node.js is imported': {
    rule: rules.noNodeImport,
    good: "import { a } from './fs.ts'; import { EventEmitter } from 'eventemitter3';",
    bad: [
      "import fs from 'node:fs';",
      "import { join } from 'path';",
      "export * from 'node:os';",
      "import('node:fs');",
    ],
  },
  'no module has state that can change': {
    rule: rules.noModuleState,
    good: "const a: ReadonlyMap<string, number> = new Map([['a', 1]]); function f() { let b = 1; return new Map(); }",
    bad: ['let a = 1;', 'var a;', 'export let a = 1;', 'const a = new Map();', 'const a: Set<number> = new Set();'],
  },
  'no cast, comment or note gives up a check': {
    rule: rules.noSuppression,
    good: "const a = b as Pfn; const text = 'TODO: @ts-ignore';",
    bad: [
      ...['const a = b as unknown as Pfn;', '// @ts-ignore\nf();', '/* @ts-expect-error */ f();'],
      ...['f(); // biome-ignore lint: why', 'function f() {\n  // TODO: write\n}'],
    ],
  },
};

describe('src is tidy', () => {
  let files: readonly ts.SourceFile[];

  beforeAll(() => {
    files = sources();
  });

  it('is read at all', () => {
    expect(files.map((file) => file.fileName)).toContain('src/base/addr.ts');
  });

  it.each(Object.entries(CASES))('%s', (_title, { rule }) => {
    expect(files.flatMap(rule)).toEqual([]);
  });
});

describe('a rule of tidiness', () => {
  const place = ({ file }: Case): string => file ?? 'src/mem/buddy.ts';

  it.each(Object.entries(CASES))('passes what is right: %s', (_title, rule) => {
    expect(rule.rule(parse(place(rule), rule.good))).toEqual([]);
  });

  const bad = Object.entries(CASES).flatMap(([title, rule]) =>
    rule.bad.map((text) => [title, text.replaceAll(/\s*\n\s*/g, ' ').slice(0, 40), text, rule] as const),
  );

  it.each(bad)('%s: reports %s', (_title, _short, text, rule) => {
    expect(rule.rule(parse(place(rule), text))).toHaveLength(1);
  });

  it.each(['src/mem/utils.ts', 'src/types.ts'])('no file has a name that says nothing: reports %s', (name) => {
    expect(rules.fileName(parse(name, 'f();'))).toHaveLength(1);
  });
});
