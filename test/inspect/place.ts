/** Where in a test file a call stands that the test has planted. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';

/** Matches the place of the line of the file at `url` that ends with the comment `// <mark>`. */
export function placeOf(url: string, mark: string): string {
  const file = fileURLToPath(url);
  const lines = readFileSync(file, 'utf8').split('\n');
  const at = lines.flatMap((line, i) => (line.endsWith(`// ${mark}`) ? [i + 1] : []));
  expect(at, `lines marked '// ${mark}'`).toHaveLength(1);
  return expect.stringMatching(new RegExp(`^${path.basename(file).replaceAll('.', '\\.')}:${at[0]}:\\d+$`));
}
