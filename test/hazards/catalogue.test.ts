/** Each hazard and each cause of the catalogue: its minimal program provokes it, and nearly the same program is silent. */
import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { byteEntries } from '../../docs/hazards/byte-entries.ts';
import { causeCatalogue, hazardCatalogue } from '../../docs/hazards/catalogue.ts';
import type { CatalogueEntry } from '../../docs/hazards/catalogue-entry.ts';
import { describeHazard, type HazardFacts } from '../../src/index.ts';

const hazards = Object.entries(hazardCatalogue);
const causes = Object.entries(causeCatalogue);

/** The reports of the broken program that `isMeant` finds. */
function reports({ program }: CatalogueEntry, isMeant: (facts: HazardFacts) => boolean): HazardFacts[] {
  return program(false).hazards.filter(isMeant);
}

/** What a silent program reported after all. */
function complaints({ program }: CatalogueEntry): string[] {
  return program(true).hazards.map(describeHazard);
}

/** The lines of the program that the report speaks of; a place outside of the program fails. */
function placesIn(text: string, file: string): string[] {
  const lines = readFileSync(`docs/hazards/${file}.ts`, 'utf8').split('\n');
  return [...text.matchAll(/([\w-]+)\.ts:(\d+)/g)].map(([place, name, line]) => {
    expect(name, place).toBe(file);
    return lines[Number(line) - 1] ?? '';
  });
}

describe.each(hazards)('%s', (code, entry) => {
  it('is reported for its minimal program, with both sides and the call that is wrong or missing', () => {
    const found = reports(entry, ({ hazard }) => hazard === code);
    expect(found[0]).toMatchObject(entry.finds);
    expect(found[0]?.remedy).not.toBe('');
    expect(found[0] && describeHazard(found[0])).toContain(entry.says ?? code);
  });

  it('tells places in the program where there is a call', () => {
    for (const facts of reports(entry, ({ hazard }) => hazard === code)) {
      for (const line of placesIn(describeHazard(facts), entry.file)) expect(line).toMatch(/[\w)]\(/);
    }
  });

  it('is silent, as everything else, for the near miss', () => {
    expect(complaints(entry)).toEqual([]);
  });
});

describe.each(causes)('cause %s', (code, entry) => {
  it('is found, with the call that is missing and who has to make it', () => {
    const found = reports(entry, (facts) => 'cause' in facts && facts.cause.code === code);
    expect(found[0]).toMatchObject(entry.finds);
    expect(found[0] && describeHazard(found[0])).toContain(entry.says ?? code);
  });

  it('is not given for the near miss, nor is anything else', () => {
    expect(complaints(entry)).toEqual([]);
  });
});

describe('a report of old or lost bytes', () => {
  const entries = [...Object.entries(byteEntries), ...causes].filter(([code]) => code !== 'unknown');
  const places = entries.flatMap(([code, { file, program }]) =>
    program(false).hazards.flatMap((facts) => ('cause' in facts ? [{ code, file, facts }] : [])),
  );

  it.each(places)('of $code points at the very line that writes, and the one that reads', ({ file, facts }) => {
    const line = (site: string | undefined): string => placesIn(site ?? '', file)[0] ?? '';
    expect(line(facts.writer.site)).toMatch(/write/i);
    if ('reader' in facts) expect(line(facts.reader.site)).toMatch(/read/i);
  });
});

describe('the catalogue', () => {
  it('has a program in every file of docs/hazards that it names, and names every program there', () => {
    const named = [...hazards, ...causes].map(([, { file }]) => `${file}.ts`);
    const there = readdirSync('docs/hazards').filter((name) => !/catalogue|entries/.test(name));
    expect([...new Set(named)].sort()).toEqual(there.sort());
  });
});
