/**
 * The limits of a file in `src`, as functions on its syntax tree: each gives one line for each place that breaks it.
 * `tidy.test.ts` applies them to `src` and proves of each that it can fail. `.dependency-cruiser.cjs` has the layers.
 */
import { isBuiltin } from 'node:module';
import path from 'node:path';
import ts from 'typescript';

/** Findings of one rule in one file, as `file:line what`. */
export type TidyRule = (file: ts.SourceFile) => string[];

const MAX_FILE_LINES = 400;
const MAX_FUNCTION_LINES = 70;

const ENTRIES = new Set(['src/index.ts', 'src/testing/index.ts']);
const VAGUE_NAMES = new Set(['utils.ts', 'util.ts', 'types.ts', 'helpers.ts', 'common.ts', 'misc.ts']);

/** Global names that bring in wall clocks, promises or BigInt, wherever they are used. */
const FORBIDDEN_NAMES = new Set([
  ...['Promise', 'setTimeout', 'setInterval', 'setImmediate', 'queueMicrotask'],
  ...['Date', 'BigInt', 'BigInt64Array', 'BigUint64Array'],
]);

/** Members that do so; their objects may be names of the simulation's own (a `process` is a user's process). */
const FORBIDDEN_MEMBERS = new Set([
  ...['Math.random', 'performance.now', 'performance.timeOrigin', 'crypto.getRandomValues', 'crypto.randomUUID'],
  ...['process.hrtime', 'process.nextTick', 'process.env', 'process.uptime'],
]);

const BIGINT_ACCESS = /^(get|set)Big(Int|Uint)64$/;

const MUTABLE_COLLECTIONS = new Set(['Map', 'Set', 'WeakMap', 'WeakSet', 'Array']);
const SUPPRESSION = /@ts-(ignore|expect-error|nocheck)|biome-ignore|\b(TODO|FIXME|HACK|XXX)\b/;

/** No file above 400 lines, but the list of what users may import. */
export const fileLength: TidyRule = (file) => {
  if (file.fileName.endsWith('src/index.ts')) return [];
  const { line } = file.getLineAndCharacterOfPosition(file.text.trimEnd().length);
  return line + 1 > MAX_FILE_LINES ? [`${file.fileName}:1 has ${line + 1} lines, at most ${MAX_FILE_LINES}`] : [];
};

/** No function above 70 lines, its signature included and its doc comment not. */
export const functionLength: TidyRule = (file) =>
  findings(file, (node) => {
    if (!ts.isFunctionLike(node) || !('body' in node) || node.body === undefined) return undefined;
    const lines = lineOf(file, node.end) - lineOf(file, node.getStart(file)) + 1;
    return lines > MAX_FUNCTION_LINES ? `a function has ${lines} lines, at most ${MAX_FUNCTION_LINES}` : undefined;
  });

/** No wall clock, no randomness but the simulator's, no BigInt, nothing asynchronous. */
export const deterministic: TidyRule = (file) =>
  findings(file, (node) => {
    if (ts.isAwaitExpression(node) || node.kind === ts.SyntaxKind.AwaitKeyword) return 'await';
    if (node.kind === ts.SyntaxKind.AsyncKeyword) return 'async';
    if (node.kind === ts.SyntaxKind.BigIntLiteral || node.kind === ts.SyntaxKind.BigIntKeyword) return 'BigInt';
    if (ts.isPropertyAccessExpression(node)) {
      const member = node.getText(file).replace(/^globalThis\./, '');
      return FORBIDDEN_MEMBERS.has(member) || BIGINT_ACCESS.test(node.name.text) ? member : undefined;
    }
    if (ts.isIdentifier(node) && FORBIDDEN_NAMES.has(node.text) && !isMemberName(node)) return node.text;
    return undefined;
  });

/** A file is named after the one thing it defines. */
export const fileName: TidyRule = (file) =>
  VAGUE_NAMES.has(path.basename(file.fileName)) ? [`${file.fileName}:1 has a name that says nothing`] : [];

/** Only the two entries export what they have imported. */
export const noBarrel: TidyRule = (file) => {
  const imported = new Set(file.statements.filter(ts.isImportDeclaration).flatMap(importedNames));
  if (ENTRIES.has(file.fileName)) return [];
  return file.statements.filter(ts.isExportDeclaration).flatMap((node) => {
    const again = node.moduleSpecifier !== undefined || exportedLocals(node).some((name) => imported.has(name));
    return again ? [at(file, node, 're-exports: import from the file that defines the name')] : [];
  });
};

/** An entry lists what it re-exports name by name, and defines nothing. */
export const entriesNameByName: TidyRule = (file) => {
  if (!ENTRIES.has(file.fileName)) return [];
  return file.statements.flatMap((node) => {
    if (!ts.isExportDeclaration(node)) return [at(file, node, 'an entry does nothing but re-export')];
    const named = node.exportClause !== undefined && ts.isNamedExports(node.exportClause);
    return named ? [] : [at(file, node, 'an entry re-exports name by name')];
  });
};

/** Every exported name has a doc comment with words in it. */
export const documented: TidyRule = (file) => {
  const later = new Set(file.statements.filter(ts.isExportDeclaration).flatMap(exportedLocals));
  const seen = new Set<string>();
  return file.statements.flatMap((node) => {
    const names = declaredNames(node).filter((name) => isExported(node) || later.has(name));
    const fresh = names.filter((name) => !seen.has(name)); // the first of a function's overloads has the contract
    for (const name of names) seen.add(name);
    return fresh.length === 0 || hasDoc(node) ? [] : [at(file, node, `${fresh.join(', ')} has no doc comment`)];
  });
};

/** The library runs anywhere: nothing of Node.js. */
export const noNodeImport: TidyRule = (file) =>
  findings(file, (node) => {
    const specifier = importedModule(node);
    return specifier !== undefined && isBuiltin(specifier) ? `imports ${specifier}` : undefined;
  });

/** Everything that changes hangs on one simulator. */
export const noModuleState: TidyRule = (file) =>
  file.statements.filter(ts.isVariableStatement).flatMap((statement) => {
    const { flags, declarations } = statement.declarationList;
    if ((flags & ts.NodeFlags.Const) === 0) return [at(file, statement, 'a variable of the module')];
    return declarations.flatMap((declaration) =>
      isMutableCollection(file, declaration)
        ? [at(file, declaration, 'a collection of the module that can change: type it Readonly…')]
        : [],
    );
  });

/** No double cast, no silenced checker, nothing left to do. */
export const noSuppression: TidyRule = (file) => [
  ...findings(file, (node) => {
    if (!ts.isAsExpression(node)) return undefined;
    return ts.isAsExpression(node.expression) ? 'a double cast gives the type up' : undefined;
  }),
  ...(SUPPRESSION.test(file.text) ? comments(file) : []).flatMap(([start, text]) => {
    const match = SUPPRESSION.exec(text);
    return match === null ? [] : [`${file.fileName}:${lineOf(file, start)} ${match[0]}`];
  }),
];

function findings(file: ts.SourceFile, check: (node: ts.Node) => string | undefined): string[] {
  const found: string[] = [];
  const visit = (node: ts.Node): void => {
    const message = check(node);
    if (message !== undefined) found.push(at(file, node, message));
    ts.forEachChild(node, visit);
  };
  visit(file);
  return found;
}

function at(file: ts.SourceFile, node: ts.Node, message: string): string {
  return `${file.fileName}:${lineOf(file, node.getStart(file))} ${message}`;
}

function lineOf(file: ts.SourceFile, position: number): number {
  return file.getLineAndCharacterOfPosition(position).line + 1;
}

/** `name` in `x.name`, `{ name: … }`, `name() {}`: a name of a member, not of a global. */
function isMemberName(node: ts.Identifier): boolean {
  const { parent } = node;
  if (ts.isPropertyAccessExpression(parent))
    return parent.name === node && parent.expression.getText() !== 'globalThis';
  if (ts.isQualifiedName(parent)) return parent.right === node;
  return (
    (ts.isClassElement(parent) || ts.isTypeElement(parent) || ts.isPropertyAssignment(parent)) && parent.name === node
  );
}

function importedModule(node: ts.Node): string | undefined {
  if (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) return literalText(node.moduleSpecifier);
  if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
    return literalText(node.arguments[0]);
  }
  return ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)
    ? literalText(node.argument.literal)
    : undefined;
}

function literalText(node: ts.Node | undefined): string | undefined {
  return node !== undefined && ts.isStringLiteral(node) ? node.text : undefined;
}

function importedNames({ importClause }: ts.ImportDeclaration): string[] {
  if (importClause === undefined) return [];
  const { name, namedBindings } = importClause;
  const own = name === undefined ? [] : [name.text];
  if (namedBindings === undefined) return own;
  if (ts.isNamespaceImport(namedBindings)) return [...own, namedBindings.name.text];
  return [...own, ...namedBindings.elements.map((element) => element.name.text)];
}

/** The names of this file that `export { … }` exports. */
function exportedLocals({ exportClause, moduleSpecifier }: ts.ExportDeclaration): string[] {
  if (moduleSpecifier !== undefined || exportClause === undefined || !ts.isNamedExports(exportClause)) return [];
  return exportClause.elements.map((element) => (element.propertyName ?? element.name).text);
}

function declaredNames(node: ts.Statement): string[] {
  if (ts.isVariableStatement(node)) return node.declarationList.declarations.map((d) => d.name.getText());
  const declares =
    ts.isFunctionDeclaration(node) ||
    ts.isClassDeclaration(node) ||
    ts.isInterfaceDeclaration(node) ||
    ts.isTypeAliasDeclaration(node) ||
    ts.isEnumDeclaration(node);
  return declares ? [node.name?.text ?? 'default'] : [];
}

function isExported(node: ts.Statement): boolean {
  return ts.canHaveModifiers(node) && (ts.getModifiers(node) ?? []).some((m) => m.kind === ts.SyntaxKind.ExportKeyword);
}

function hasDoc(node: ts.Node): boolean {
  return ts
    .getJSDocCommentsAndTags(node)
    .some((doc) => ts.isJSDoc(doc) && (hasText(doc.comment) || (doc.tags ?? []).some((tag) => hasText(tag.comment))));
}

function hasText(comment: string | ts.NodeArray<ts.JSDocComment> | undefined): boolean {
  return (ts.getTextOfJSDocComment(comment) ?? '').trim() !== '';
}

function isMutableCollection(file: ts.SourceFile, { type, initializer }: ts.VariableDeclaration): boolean {
  if (initializer === undefined || !ts.isNewExpression(initializer)) return false;
  const made = initializer.expression.getText(file);
  return MUTABLE_COLLECTIONS.has(made) && !(type?.getText(file) ?? '').startsWith('Readonly');
}

/** Every comment; it visits each token, so ask first whether the text is worth it. */
function comments(file: ts.SourceFile): (readonly [start: number, text: string])[] {
  const found = new Map<number, string>();
  const collect = (node: ts.Node): void => {
    if (node.getChildCount(file) === 0) {
      const before = ts.getLeadingCommentRanges(file.text, node.getFullStart()) ?? [];
      const after = ts.getTrailingCommentRanges(file.text, node.end) ?? [];
      for (const { pos, end } of [...before, ...after]) found.set(pos, file.text.slice(pos, end));
    }
    for (const child of node.getChildren(file)) collect(child);
  };
  collect(file);
  return [...found];
}
