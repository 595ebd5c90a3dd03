import { describe, expect, it } from 'vitest';
import { dmaAddr, physAddr } from '../../src/base/addr.ts';
import { GIB, KIB, MIB } from '../../src/base/units.ts';
import type { DeviceOptions } from '../../src/dma-api/device.ts';
import { DirectDma } from '../../src/dma-api/dma-direct.ts';
import {
  describeDma,
  dmaAddressingLimited,
  dmaCanMmap,
  dmaGetCacheAlignment,
  dmaGetMask,
  dmaGetMergeBoundary,
  dmaGetRequiredMask,
  dmaMaxMappingSize,
  dmaOptMappingSize,
} from '../../src/dma-api/dma-query.ts';
import { bench, errno } from '../bench.ts';
import { DirectMachine } from './direct-machine.ts';

/** Memory ends at 16 GiB + 4 MiB, so a mask needs 35 bits. */
const machine = () => new DirectMachine();
/** The bus shows the first 256 MiB 1 GiB further up, and nothing else. */
const shifted = [{ cpuStart: physAddr(0), dmaStart: dmaAddr(GIB), sizeBytes: 256 * MIB }];

describe('a mask without an IOMMU', () => {
  it.each([
    [23, {}, false],
    [24, {}, true],
    [30, { dmaRanges: shifted }, false],
    [31, { dmaRanges: shifted }, true],
    [31, { dmaRanges: [{ cpuStart: physAddr(GIB), dmaStart: dmaAddr(0), sizeBytes: GIB }] }, false],
    [32, { dmaRanges: [{ cpuStart: physAddr(GIB), dmaStart: dmaAddr(0), sizeBytes: GIB }] }, true],
  ] as [number, Partial<DeviceOptions>, boolean][])('of %s bits with %o is accepted: %s', (bits, options, accepted) => {
    const device = machine().device(options);
    for (const set of ['setStreamingDmaMask', 'setCoherentDmaMask', 'setDmaMask'] as const) {
      if (accepted) device[set](bits);
      else expect(() => device[set](bits)).toThrow(errno('EIO'));
    }
    const kept = accepted ? bits : 32;
    expect([dmaGetMask(device), device.coherentDmaMaskBits, device.dmaLimit]).toEqual([kept, kept, 2 ** kept]);
  });

  it('is one for streaming mappings and one for coherent allocations', () => {
    const device = machine().device();
    device.setStreamingDmaMask(40);
    device.setCoherentDmaMask(36);
    expect([device.dmaMaskBits, device.coherentDmaMaskBits]).toEqual([40, 36]);
  });

  it("is for the user's own back end to refuse, and any will do where that does not say", () => {
    class Own extends DirectDma {
      override supportsMask(maskBits: number): boolean {
        return maskBits === 1;
      }
    }
    const m = machine();
    const device = m.device({ dmaOps: () => new Own(m.device()) });
    device.setDmaMask(1);
    expect(() => device.setDmaMask(64)).toThrow(errno('EIO'));
    const any = m.device({ dmaOps: () => Object.assign(new Own(m.device()), { supportsMask: undefined }) });
    any.setDmaMask(0);
    expect(any.dmaMaskBits).toBe(32);
  });
});

describe('what a driver is told of its device without an IOMMU', () => {
  it('is the mask that reaches all memory, and whether its own mask and bus do', () => {
    const m = machine();
    const asked = [{ dmaMaskBits: 34 }, { dmaMaskBits: 35 }, { dmaMaskBits: 64, busDmaLimit: 2 ** 34 }].map(
      (options) => {
        const device = m.device(options);
        return [dmaGetRequiredMask(device), dmaAddressingLimited(device)];
      },
    );
    expect(asked).toEqual([
      [35, true],
      [35, false],
      [35, true],
    ]);
    const device = m.device({ dmaRanges: shifted, dmaMaskBits: 64 });
    expect([dmaGetRequiredMask(device), dmaAddressingLimited(device)]).toEqual([64, false]);
  });

  it('is a limit per mapping only where mappings may bounce', () => {
    const sizes = (m: DirectMachine, options: Partial<DeviceOptions>) => {
      const device = m.device(options);
      return [dmaMaxMappingSize(device), dmaOptMappingSize(device)];
    };
    const none = Number.POSITIVE_INFINITY;
    expect(sizes(machine(), { minAlignMask: 0xfff })).toEqual([252 * KIB, 252 * KIB]);
    expect(sizes(machine(), { dmaMaskBits: 64 })).toEqual([none, none]);
    expect(sizes(new DirectMachine({ swiotlb: { force: 'force' } }), { dmaMaskBits: 64 })).toEqual([
      256 * KIB,
      256 * KIB,
    ]);
    expect(sizes(new DirectMachine({ swiotlb: { force: 'noforce' } }), {})).toEqual([none, none]);
    expect(sizes(new DirectMachine({ swiotlb: null }), {})).toEqual([none, none]);
  });

  it('is that extents are not joined, that processes may map its memory, and how to keep lines apart', () => {
    const m = machine();
    const [snooping, other] = [m.device(), m.device({ coherent: false })];
    expect([dmaGetMergeBoundary(snooping), dmaCanMmap(snooping), dmaCanMmap(other)]).toEqual([0, true, true]);
    expect([dmaGetCacheAlignment(snooping), dmaGetCacheAlignment(other)]).toEqual([1, 64]);
  });
});

describe('what a driver is told of its device behind an IOMMU', () => {
  it('is that 32 bits do, that mappings have no limit, and what is cheap and can be joined', () => {
    const device = bench().device('gpu', { iommu: true, dmaMaskBits: 32, coherent: true });
    expect([dmaGetRequiredMask(device), dmaAddressingLimited(device), dmaMaxMappingSize(device)]).toEqual([
      32,
      false,
      Number.POSITIVE_INFINITY,
    ]);
    expect([dmaOptMappingSize(device), dmaGetMergeBoundary(device)]).toEqual([128 * KIB, 0xfff]);
  });
});

describe('describeDma', () => {
  it.each([
    ['direct and near', {}, { dmaMaskBits: 64 }, false],
    ['direct and far', {}, { dmaMaskBits: 32 }, true],
    ['direct and far, but refusing', {}, { dmaMaskBits: 32, refuseBounce: true }, false],
    ['direct with a forced pool', { swiotlb: { force: 'force' as const } }, { dmaMaskBits: 64 }, true],
    ['direct and far without a pool', { swiotlb: null }, { dmaMaskBits: 32 }, false],
  ])('of a device that is %s', (_what, options, device, bounces) => {
    for (const coherent of [true, false]) {
      const described = describeDma(new DirectMachine(options).device({ ...device, coherent }));
      expect(described).toEqual({ remapped: false, coherent, bounces, lazy: false });
    }
  });

  it.each([false, true])('of a device behind an IOMMU (lazy: %s): remapped, though it may snoop (V2)', (lazy) => {
    const device = bench({ lazyIommu: lazy }).device('gpu', { iommu: true, coherent: true });
    expect(describeDma(device)).toEqual({ remapped: true, coherent: true, bounces: false, lazy });
  });
});
