/**
 * Finds operations that nobody waits for: an `Op` (see `src/sim/op.ts`) does nothing until it is run by `yield*`, so a
 * statement that only makes one is a forgotten `yield*`.
 *
 * A finding is an expression whose type is an `Op` and whose value is dropped:
 *
 * 1. a statement `buf.attach(gpu);`, also behind `void`, `yield` without a star, `&&`, `||`, `??`, `?:` and `,`;
 * 2. a callback that gives an `Op` to a caller that wants nothing: `fences.forEach((f) => f.waitTimeout(ns))`,
 *    `it('…', function* () { … })`.
 *
 * An `Op` is the interface of that name, or a generator, iterator or iterable whose yielded type is `Suspend`, both
 * declared in `sim/op.ts`. A class that merely implements `Op` (a fence, an event) is none: such an object is also used
 * without waiting for it, and a call that returns one has begun already.
 *
 * Run by `npm run lint`: one line for each finding, exit status 1 when there is one.
 */
import path from 'node:path';
import process from 'node:process';
import { pathToFileURL } from 'node:url';
import ts from 'typescript';

/** One dropped operation; line and column count from 1. */
export interface FloatingOp {
  readonly file: string;
  readonly line: number;
  readonly column: number;
}

/** Folders that are checked, relative to the root of the project. */
const CHECKED_FOLDERS = ['src', 'test', 'examples', 'bench', 'scripts'];

/** Types of the language whose first argument is what they yield. */
const YIELDING_TYPES = new Set([
  'Generator',
  'Iterable',
  'IterableIterator',
  'Iterator',
  'IteratorObject',
  'BuiltinIterator',
]);

const OP_FILE = /(^|\/)sim\/op\.ts$/;

/** The findings in `sourceFile`, a file of `program`, in the order of the text. */
export function findFloatingOps(program: ts.Program, sourceFile: ts.SourceFile): FloatingOp[] {
  const checker = program.getTypeChecker();
  const found: FloatingOp[] = [];

  function visit(node: ts.Node): void {
    if (ts.isExpressionStatement(node)) {
      for (const dropped of droppedValues(node.expression)) {
        if (containsOp(checker.getTypeAtLocation(dropped))) report(dropped);
      }
    } else if ((ts.isArrowFunction(node) || ts.isFunctionExpression(node)) && givesOpToNobody(checker, node)) {
      report(node);
    }
    ts.forEachChild(node, visit);
  }

  function report(node: ts.Node): void {
    const { line, character } = sourceFile.getLineAndCharacterOfPosition(node.getStart(sourceFile));
    found.push({ file: sourceFile.fileName, line: line + 1, column: character + 1 });
  }

  visit(sourceFile);
  return found;
}

/** The line that is printed for a finding, with its file relative to `root`. */
export function describeFloatingOp(found: FloatingOp, root: string): string {
  const file = path.relative(root, found.file).split(path.sep).join('/');
  return `${file}:${found.line}:${found.column} floating Op: use yield*`;
}

/** The parts of a statement's expression whose values nobody gets. */
function droppedValues(expression: ts.Expression): ts.Expression[] {
  if (
    ts.isParenthesizedExpression(expression) ||
    ts.isAsExpression(expression) ||
    ts.isSatisfiesExpression(expression) ||
    ts.isNonNullExpression(expression) ||
    ts.isVoidExpression(expression)
  ) {
    return droppedValues(expression.expression);
  }
  if (ts.isYieldExpression(expression) && expression.asteriskToken === undefined) {
    return expression.expression === undefined ? [] : droppedValues(expression.expression);
  }
  if (ts.isConditionalExpression(expression)) {
    return [...droppedValues(expression.whenTrue), ...droppedValues(expression.whenFalse)];
  }
  if (ts.isBinaryExpression(expression)) return droppedOperands(expression);
  return [expression];
}

function droppedOperands({ left, operatorToken, right }: ts.BinaryExpression): ts.Expression[] {
  const operator = operatorToken.kind;
  if (operator >= ts.SyntaxKind.FirstAssignment && operator <= ts.SyntaxKind.LastAssignment) return [];
  if (operator === ts.SyntaxKind.CommaToken || operator === ts.SyntaxKind.QuestionQuestionToken) {
    return [...droppedValues(left), ...droppedValues(right)];
  }
  return droppedValues(right);
}

/** A callback returns an `Op`, and the parameter it is passed for wants a function whose result is not used. */
function givesOpToNobody(checker: ts.TypeChecker, callback: ts.ArrowFunction | ts.FunctionExpression): boolean {
  if (!ts.isCallExpression(callback.parent) || callback.parent.expression === callback) return false;
  const wanted = checker.getContextualType(callback)?.getCallSignatures() ?? [];
  const unused = (signature: ts.Signature): boolean =>
    (signature.getReturnType().flags & (ts.TypeFlags.Void | ts.TypeFlags.Any)) !== 0;
  if (wanted.length === 0 || !wanted.every(unused)) return false;
  const own = checker.getSignatureFromDeclaration(callback);
  return own !== undefined && containsOp(own.getReturnType());
}

function containsOp(type: ts.Type): boolean {
  if (isOpName(type.aliasSymbol) || isOpName(type.getSymbol())) return true;
  if (type.isUnionOrIntersection()) return type.types.some(containsOp);
  const name = type.getSymbol()?.name;
  return name !== undefined && YIELDING_TYPES.has(name) && isSuspend(typeArguments(type)[0]);
}

function typeArguments(type: ts.Type): readonly ts.Type[] {
  return (type as ts.TypeReference).typeArguments ?? [];
}

function isSuspend(type: ts.Type | undefined): boolean {
  return isDeclaredInOpFile(type?.getSymbol(), 'Suspend');
}

function isOpName(symbol: ts.Symbol | undefined): boolean {
  return isDeclaredInOpFile(symbol, 'Op');
}

function isDeclaredInOpFile(symbol: ts.Symbol | undefined, name: string): boolean {
  if (symbol?.name !== name) return false;
  return (symbol.declarations ?? []).some((declaration) => OP_FILE.test(declaration.getSourceFile().fileName));
}

/** The program of `tsconfig.json` in `root`, as `npm run typecheck` sees it. */
function loadProgram(root: string): ts.Program {
  const configFile = path.join(root, 'tsconfig.json');
  const { config, error } = ts.readConfigFile(configFile, ts.sys.readFile);
  if (error !== undefined) throw new Error(ts.flattenDiagnosticMessageText(error.messageText, '\n'));
  const { options, fileNames } = ts.parseJsonConfigFileContent(config, ts.sys, root);
  return ts.createProgram(fileNames, options);
}

function main(root: string): number {
  const program = loadProgram(root);
  const folders = CHECKED_FOLDERS.map((folder) => `${path.join(root, folder)}${path.sep}`);
  const checked = program.getSourceFiles().filter((file) => {
    const name = path.normalize(file.fileName);
    return folders.some((folder) => name.startsWith(folder));
  });
  const found = checked.flatMap((file) => findFloatingOps(program, file));
  for (const op of found) process.stdout.write(`${describeFloatingOp(op, root)}\n`);
  process.stdout.write(`floating operations: ${found.length} in ${checked.length} files\n`);
  return found.length === 0 ? 0 : 1;
}

const script = process.argv[1];
if (script !== undefined && import.meta.url === pathToFileURL(script).href) process.exitCode = main(process.cwd());
