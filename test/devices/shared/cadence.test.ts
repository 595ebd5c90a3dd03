import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { nanos } from '../../../src/base/addr.ts';
import { Cadence } from '../../../src/devices/shared/cadence.ts';

describe('Cadence', () => {
  it('does not drift at 30000/1001 frames a second', () => {
    const cadence = new Cadence(nanos(500), { numeratorNs: 1001e9, denominator: 30_000 });
    expect([0, 1, 2, 3].map((n) => cadence.at(n) - 500)).toEqual([0, 33_366_666, 66_733_333, 100_100_000]);
    expect(cadence.at(3_000_000) - 500).toBe(100_100_000 * 1_000_000);
  });

  it('gives the tick that the exact ratio gives, and finds it again', () => {
    const ratio = fc.record({
      numeratorNs: fc.integer({ min: 1_000_000, max: 2 ** 42 }),
      denominator: fc.integer({ min: 1, max: 1_000_000 }),
      n: fc.integer({ min: 0, max: 1000 }),
    });
    fc.assert(
      fc.property(ratio, ({ numeratorNs, denominator, n }) => {
        const cadence = new Cadence(nanos(7), { numeratorNs, denominator });
        const exact = (BigInt(n) * BigInt(numeratorNs)) / BigInt(denominator);
        expect(cadence.at(n)).toBe(7 + Number(exact));
        const found = cadence.indexAtOrAfter(cadence.at(n));
        expect(cadence.at(found)).toBe(cadence.at(n));
        expect(found === 0 || cadence.at(found - 1) < cadence.at(n)).toBe(true);
        expect(cadence.at(cadence.indexAtOrAfter(cadence.at(n) + 1))).toBeGreaterThan(cadence.at(n));
      }),
    );
  });

  it('refuses a period that is no ratio or below a nanosecond', () => {
    const start = nanos(0);
    expect(() => new Cadence(start, { numeratorNs: 1.5, denominator: 1 })).toThrow('period: 1.5 ns');
    expect(() => new Cadence(start, { numeratorNs: 10, denominator: 0 })).toThrow('period: denominator 0');
    expect(() => new Cadence(start, { numeratorNs: 10, denominator: 11 })).toThrow('10/11 ns is below 1 ns');
  });
});
