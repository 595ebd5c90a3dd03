import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { lineDiff } from '../../scripts/line-diff.ts';

describe('lineDiff', () => {
  it('says nothing of equal texts', () => {
    expect(lineDiff('a\nb\n', 'a\nb\n')).toBe('');
  });

  it('shows a changed line between two lines of context, and where it stood', () => {
    expect(lineDiff('1\n2\n3\n4\n5\n6\n7', '1\n2\n3\nfour\n5\n6\n7')).toBe(
      ['@@ line 2 @@', '  2', '  3', '- 4', '+ four', '  5', '  6'].join('\n'),
    );
  });

  it('shows changes that are far apart as two pieces', () => {
    const before = Array.from({ length: 20 }, (_, i) => `${i + 1}`);
    const diff = lineDiff(before.join('\n'), before.filter((line) => line !== '3' && line !== '18').join('\n'));
    expect(diff.split('\n').filter((line) => !line.startsWith(' '))).toEqual([
      '@@ line 1 @@',
      '- 3',
      '@@ line 16 @@',
      '- 18',
    ]);
  });

  it('tells exactly the lines that differ when all of them do', () => {
    const line = fc.constantFrom('a', 'b', 'c');
    const text = fc.array(line, { minLength: 1, maxLength: 5 });
    fc.assert(
      fc.property(text, text, (before, after) => {
        const edits = lineDiff(before.join('\n'), after.join('\n')).split('\n');
        const removed = edits.filter((edit) => edit.startsWith('- ')).length;
        const added = edits.filter((edit) => edit.startsWith('+ ')).length;
        return before.length - removed === after.length - added;
      }),
      { numRuns: 300 },
    );
  });
});
