import { describe, expect, it } from 'vitest';
import {
  checkMode,
  framePeriod,
  lineOffsetNs,
  reducedBlankingMode,
  vic4,
  vic16,
  vic97,
} from '../../../src/devices/display/display-mode.ts';

describe('display modes', () => {
  it('of CTA-861 have exactly 60 frames a second', () => {
    for (const mode of [vic4, vic16, vic97]) {
      checkMode(mode);
      const { numeratorNs, denominator } = framePeriod(mode);
      expect(numeratorNs * 60).toBe(1e9 * denominator);
    }
  });

  it('begin with the blanking: line 0 of 1080p comes after 45 lines of 14815 ns', () => {
    expect([0, 1, 1080].map((line) => lineOffsetNs(vic16, line))).toEqual([666_666, 681_481, 16_666_666]);
  });

  it('with reduced blanking have 160 clocks and at least 460 us of it', () => {
    const mode = reducedBlankingMode(1680, 1050, 60);
    expect([mode.htotal, mode.vtotal]).toEqual([1840, 1080]); // as VESA's own table has it
    const { numeratorNs, denominator } = framePeriod(mode);
    expect(Math.abs(numeratorNs / denominator - 1e9 / 60)).toBeLessThan(200);
    expect(lineOffsetNs(mode, 0)).toBeGreaterThan(460_000);
  });

  it('refuse numbers that make no picture', () => {
    expect(() => checkMode({ ...vic16, htotal: 1920 })).toThrow('htotal 1920 is not above hdisplay 1920');
    expect(() => checkMode({ ...vic16, vtotal: 1000 })).toThrow('vtotal 1000');
    expect(() => checkMode({ ...vic16, pixelClockKhz: 0 })).toThrow('pixelClockKhz 0');
    expect(() => reducedBlankingMode(0, 10, 60)).toThrow('hdisplay 0');
    expect(() => reducedBlankingMode(10, 10, 2500)).toThrow('2500 Hz leave no time for lines');
  });
});
