import { describe, expect, it } from 'vitest';
import {
  dmaAddr,
  hex,
  iova,
  nanos,
  PAGE_SHIFT,
  PAGE_SIZE,
  pfn,
  pfnToPhys,
  physAddr,
  physToPfn,
  virtAddr,
} from '../../src/base/addr.ts';

describe('the constructors of addresses', () => {
  it.each([
    ['physAddr', physAddr],
    ['dmaAddr', dmaAddr],
    ['virtAddr', virtAddr],
  ] as const)('%s takes whole numbers in [0, 2^52) and names itself in the error for others', (name, make) => {
    for (const good of [0, 1, 4095, 2 ** 32, 2 ** 52 - 1]) expect(make(good)).toBe(good);
    for (const bad of [-1, 0.5, 2 ** 52, Number.NaN, Infinity, -Infinity]) {
      expect(() => make(bad)).toThrow(`${name}: ${bad} is no whole number of bytes in [0, 2^52)`);
    }
  });

  it('iova takes negative numbers too, for the sign-extended upper half', () => {
    for (const good of [-(2 ** 52), -4096, 0, 2 ** 52 - 1]) expect(iova(good)).toBe(good);
    for (const bad of [2 ** 52, -(2 ** 52) - 1, 0.5, Number.NaN]) {
      expect(() => iova(bad)).toThrow(`iova: ${bad} is no whole number of bytes of at most 52 bits`);
    }
  });

  it('pfn takes frame numbers of 52-bit addresses', () => {
    for (const good of [0, 2 ** 32, 2 ** 40 - 1]) expect(pfn(good)).toBe(good);
    for (const bad of [-1, 2 ** 40, 1.5, Number.NaN]) expect(() => pfn(bad)).toThrow(`pfn: ${bad} is no page frame`);
  });

  it('nanos takes whole numbers from 0 to 2^53 - 1', () => {
    for (const good of [0, 1, Number.MAX_SAFE_INTEGER]) expect(nanos(good)).toBe(good);
    for (const bad of [-1, 0.1, 2 ** 53, Number.NaN, Infinity]) {
      expect(() => nanos(bad)).toThrow(`nanos: ${bad} is no whole number of nanoseconds >= 0`);
    }
  });
});

describe('frames', () => {
  it('hold one page each, exactly up to the last address', () => {
    expect(PAGE_SIZE).toBe(2 ** PAGE_SHIFT);
    for (const frame of [0, 1, 2 ** 20, 2 ** 33 + 1, 2 ** 40 - 1]) {
      const first = pfnToPhys(pfn(frame));
      expect(first).toBe(frame * 4096);
      expect(physToPfn(first)).toBe(frame);
      expect(physToPfn(physAddr(first + 4095))).toBe(frame);
    }
  });
});

describe('hex', () => {
  it('prints small, large and negative numbers', () => {
    expect([0, 255, 0x8000_1000, 2 ** 52 - 1].map(hex)).toEqual(['0x0', '0xff', '0x80001000', '0xfffffffffffff']);
    expect([-1, -4096, -(2 ** 32), -(2 ** 52)].map(hex)).toEqual([
      '0xffffffffffffffff',
      '0xfffffffffffff000',
      '0xffffffff00000000',
      '0xfff0000000000000',
    ]);
  });
});
