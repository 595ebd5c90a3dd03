import path from 'node:path';
import ts from 'typescript';
import { beforeAll, describe, expect, it } from 'vitest';
import { describeFloatingOp, findFloatingOps } from '../../scripts/lint-floating-ops.ts';

const ROOT = path.resolve(import.meta.dirname, '../..');
const OP_FILE = path.join(ROOT, 'src/sim/op.ts');

/** What every snippet may use: plain calls, operations, a waitable class. */
const PRELUDE = `
import type { MaybeOp, Op } from '${OP_FILE}';
declare const flag: boolean;
declare const maybe: { lock(): Op<void> } | undefined;
declare class Fence implements Op<number> { [Symbol.iterator](): ReturnType<Op<number>[typeof Symbol.iterator]>; }
declare function lock(): Op<void>;
declare function plain(): number;
declare function submit(): Fence;
declare function call(): MaybeOp<void>;
declare function take(op: Op<void>): void;
declare function each(body: (n: number) => void): void;
declare function it(title: string, body: () => any): void;
declare function run<T>(body: () => MaybeOp<T>): T;
function* generator() { yield* lock(); return 1; }
`;

/** Each statement stands in the body of a generator. */
const FLOATING = {
  'a call of an operation': 'lock();',
  'a call of a generator function': 'generator();',
  'an operation behind void': 'void lock();',
  'an operation that is yielded without the star': 'yield lock();',
  'an operation behind &&': 'flag && lock();',
  'an operation behind ??': 'maybe?.lock() ?? plain();',
  'an operation behind optional chaining': 'maybe?.lock();',
  'one branch of a conditional': 'flag ? plain() : lock();',
  'an operation before a comma': 'lock(), plain();',
  'an operation in parentheses with a type': '(lock() as Op<void>);',
  'a result that may be an operation': 'call();',
  'a callback whose result is not used': 'each((n) => lock());',
  'a generator as a callback whose result is not used': "it('waits', function* () { yield* lock(); });",
};

const WAITED_FOR = {
  'yield*': 'yield* lock();',
  'yield* of a generator': 'const n = yield* generator();',
  'an assignment': 'let op: Op<void>; op = lock(); yield* op;',
  'an assignment behind &&': 'let op: Op<void> = lock(); flag && (op = lock()); yield* op;',
  'an argument': 'take(lock());',
  'a returned operation': 'return lock();',
  'a callback whose result is run': 'run(() => lock()); run(function* () { yield* lock(); });',
  'a plain call': 'plain(); void plain(); flag && plain();',
  'a waitable of a call that has begun': 'submit(); flag && submit();',
  'another generator': 'function* numbers() { yield 1; } numbers();',
  'a callback that waits for nothing': 'each((n) => n + 1); each(() => { plain(); });',
};

type Snippet = readonly [title: string, code: string];

function fileOf(title: string): string {
  return path.join(ROOT, 'snippets', `${title.replaceAll(/\W+/g, '-')}.ts`);
}

/** One program of all snippets, so that the library's declarations are read once. */
function compile(snippets: readonly Snippet[]): ts.Program {
  const options: ts.CompilerOptions = { target: ts.ScriptTarget.ES2022, strict: true, noEmit: true, types: [] };
  options.allowImportingTsExtensions = true;
  options.module = ts.ModuleKind.ESNext;
  options.moduleResolution = ts.ModuleResolutionKind.Bundler;
  const sources = new Map(snippets.map(([title, code]) => [fileOf(title), `${PRELUDE}function* body() { ${code} }\n`]));
  const host = ts.createCompilerHost(options);
  const { readFile, fileExists } = host;
  host.readFile = (name) => sources.get(path.normalize(name)) ?? readFile(name);
  host.fileExists = (name) => sources.has(path.normalize(name)) || fileExists(name);
  return ts.createProgram([...sources.keys()], options, host);
}

describe('the lint for floating operations', () => {
  const bad = Object.entries(FLOATING);
  const good = Object.entries(WAITED_FOR);
  let program: ts.Program;
  const check = (title: string) => {
    const file = program.getSourceFile(fileOf(title));
    if (file === undefined) throw new Error(`no snippet ${title}`);
    return findFloatingOps(program, file);
  };

  beforeAll(() => {
    program = compile([...bad, ...good]);
  });

  it.each(bad)('reports %s', (title) => {
    expect(check(title)).toHaveLength(1);
  });

  it.each(good)('passes %s', (title) => {
    expect(check(title)).toEqual([]);
  });

  it('names file, line and column, from 1', () => {
    const [found] = check('a call of an operation');
    if (found === undefined) throw new Error('nothing was found');
    const line = PRELUDE.split('\n').length;
    expect(describeFloatingOp(found, ROOT)).toBe(
      `snippets/a-call-of-an-operation.ts:${line}:20 floating Op: use yield*`,
    );
  });
});
