/** The difference of two texts, as `diff -u` shows it, without line numbers of its own kind: `@@ line N @@` only. */

const CONTEXT_LINES = 2;

type Edit = readonly [mark: ' ' | '-' | '+', line: string];

/** What to remove from `expected` (`-`) and to add (`+`) to get `actual`, with two lines around; '' when they are equal. */
export function lineDiff(expected: string, actual: string): string {
  const edits = editScript(expected.split('\n'), actual.split('\n'));
  const shown = edits.map((_, at) =>
    edits.slice(Math.max(0, at - CONTEXT_LINES), at + CONTEXT_LINES + 1).some(isChange),
  );
  const out: string[] = [];
  let expectedLine = 1;
  edits.forEach(([mark, line], at) => {
    if (shown[at] && !shown[at - 1]) out.push(`@@ line ${expectedLine} @@`);
    if (shown[at]) out.push(`${mark} ${line}`);
    if (mark !== '+') expectedLine++;
  });
  return out.join('\n');
}

function isChange([mark]: Edit): boolean {
  return mark !== ' ';
}

/** By the longest common subsequence: quadratic, for texts of a screen or two. */
function editScript(before: readonly string[], after: readonly string[]): Edit[] {
  const common = commonLengths(before, after);
  const width = after.length + 1;
  const edits: Edit[] = [];
  let i = 0;
  let j = 0;
  while (i < before.length || j < after.length) {
    const old = before[i];
    const fresh = after[j];
    if (old !== undefined && old === fresh) {
      edits.push([' ', old]);
      i++;
      j++;
    } else if (
      old !== undefined &&
      (fresh === undefined || lengthAt(common, (i + 1) * width + j) >= lengthAt(common, i * width + j + 1))
    ) {
      edits.push(['-', old]);
      i++;
    } else if (fresh !== undefined) {
      edits.push(['+', fresh]);
      j++;
    }
  }
  return edits;
}

/** At `i * (after.length + 1) + j`: how many lines the rests from `before[i]` and `after[j]` have in common. */
function commonLengths(before: readonly string[], after: readonly string[]): Uint32Array {
  const width = after.length + 1;
  const lengths = new Uint32Array((before.length + 1) * width);
  for (let i = before.length - 1; i >= 0; i--) {
    for (let j = after.length - 1; j >= 0; j--) {
      const at = i * width + j;
      lengths[at] =
        before[i] === after[j]
          ? lengthAt(lengths, at + width + 1) + 1
          : Math.max(lengthAt(lengths, at + width), lengthAt(lengths, at + 1));
    }
  }
  return lengths;
}

function lengthAt(lengths: Uint32Array, index: number): number {
  return lengths[index] ?? 0;
}
