/** The page of hazards is made from the catalogue. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { HAZARDS_PAGE, hazardsPage } from '../../scripts/hazard-docs.ts';
import { lineDiff } from '../../scripts/line-diff.ts';

describe(HAZARDS_PAGE, () => {
  it('is what npx tsx scripts/hazard-docs.ts writes', () => {
    expect(lineDiff(readFileSync(HAZARDS_PAGE, 'utf8'), hazardsPage())).toBe('');
  });
});
