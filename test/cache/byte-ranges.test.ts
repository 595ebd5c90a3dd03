import fc from 'fast-check';
import { expect, it } from 'vitest';
import { ByteRanges } from '../../src/cache/byte-ranges.ts';

const SPACE = 24;
const operation = fc.record({ start: fc.nat(SPACE - 1), length: fc.integer({ min: 1, max: 8 }), note: fc.nat(2) });

it('keeps of each byte what was noted for it last, as an array would, and joins neighbours of one origin', () => {
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 30 }), (operations) => {
      const ranges = new ByteRanges<number>((older, newer) => older === newer);
      const bytes = new Array<number | undefined>(SPACE + 8).fill(undefined);
      for (const { start, length, note } of operations) {
        ranges.add(start, start + length, note);
        bytes.fill(note, start, start + length);
      }
      for (let at = 0; at < bytes.length; at++) expect(ranges.find(at, at + 1)?.note).toBe(bytes[at]);
      const runs = bytes.filter((note, at) => note !== undefined && note !== bytes[at - 1]);
      expect(ranges.count).toBe(runs.length);
    }),
    { numRuns: 300 },
  );
});

it('finds the lowest range that has a byte of those asked for', () => {
  const ranges = new ByteRanges<string>(() => false);
  ranges.add(10, 20, 'a');
  ranges.add(30, 40, 'b');
  expect([ranges.find(0, 10), ranges.find(20, 30), ranges.find(40, 50)]).toEqual([undefined, undefined, undefined]);
  expect(ranges.find(5, 35)).toEqual({ start: 10, end: 20, note: 'a' });
  expect(ranges.find(20, 31)).toEqual({ start: 30, end: 40, note: 'b' });
});
