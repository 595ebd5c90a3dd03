import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';

const SNIPPETS = 'docs/snippets';
const PAGES = readdirSync('docs').filter((name) => name.endsWith('.md'));

interface Block {
  /** Program the block is cut from: the file named in the HTML comment above it. */
  readonly file: string;
  readonly language: string;
  readonly text: string;
}

/** Every fenced `ts` or `text` block of a page with the file named above it: `<!-- docs/snippets/NAME.ts -->`. */
function blocksOf(page: string): Block[] {
  const text = readFileSync(path.join('docs', page), 'utf8');
  const blocks = text.matchAll(/(?:<!-- (\S+) -->\n)?```(ts|text)\n(.*?)```/gs);
  return [...blocks].map(([, file = '', language = '', body = '']) => ({ file, language, text: body }));
}

/** The program without its header comment, as a user would write it. */
function program(file: string): string {
  const source = readFileSync(file, 'utf8');
  return source.slice(source.indexOf('import')).replace("'../../src/index.ts'", "'dmabuf-sim'");
}

describe.each(PAGES)('docs/%s', (page) => {
  const blocks = blocksOf(page);

  it('cuts every TypeScript block from a program that is run, named above the block', () => {
    for (const { file, text } of blocks.filter(({ language }) => language === 'ts')) {
      expect(existsSync(file), `no such program: '${file}', above:\n${text}`).toBe(true);
      expect(text, file).toBe(program(file));
    }
  });

  it('shows the very output of those programs', () => {
    const outputs = blocks.filter(({ file, language }) => language === 'text' && file !== '');
    for (const { file, text } of outputs) expect(text, file).toBe(readFileSync(file, 'utf8'));
  });

  it('names only files, functions and pages that exist', () => {
    const links = readFileSync(path.join('docs', page), 'utf8').matchAll(/\]\(([^)#:]+)(?:#[^)]*)?\)/g);
    for (const [, target = ''] of links) expect(existsSync(path.join('docs', target)), target).toBe(true);
  });
});

describe('docs/snippets', () => {
  it('holds no program that no page shows', () => {
    const shown = new Set(PAGES.flatMap(blocksOf).map(({ file }) => path.basename(file)));
    const programs = existsSync(SNIPPETS) ? readdirSync(SNIPPETS) : [];
    expect(programs.filter((name) => !shown.has(name) && !shown.has(name.replace(/\.out$/, '.ts')))).toEqual([]);
  });
});
