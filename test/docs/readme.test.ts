import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';

/** What stands between the fences of the first code block of `language` in the README. */
function snippet(language: string): string {
  const found = new RegExp(`\`\`\`${language}\n(.*?)\`\`\``, 's').exec(readFileSync('README.md', 'utf8'));
  expect(found, `a ${language} block in README.md`).not.toBeNull();
  return found?.[1] ?? '';
}

/** The program of an example without its header comment, as a user would write it. */
function program(file: string): string {
  const source = readFileSync(file, 'utf8');
  return source.slice(source.indexOf('import')).replace("'../src/index.ts'", "'dmabuf-sim'");
}

describe('README', () => {
  it('shows the program of examples/00-stale-read.ts, which is run by npm run examples', () => {
    expect(snippet('ts')).toBe(program('examples/00-stale-read.ts'));
  });

  it('shows the very output of that program', () => {
    expect(snippet('text')).toBe(readFileSync('examples/00-stale-read.out', 'utf8'));
  });
});
