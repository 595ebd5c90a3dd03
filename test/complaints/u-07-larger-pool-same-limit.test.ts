/** A larger bounce pool does not make a single mapping larger. */
import { describe, expect, it } from 'vitest';
import { dmaMapPage, dmaMappingError, dmaMaxMappingSize, KIB, MIB, pc, pfnToPhys } from '../../src/index.ts';

function mapIn(swiotlbBytes: number, bytes: number) {
  const machine = pc({ vtd: false, swiotlbBytes, highRamBytes: 64 * MIB });
  const tpu = machine.addDevice({ name: 'tpu0', coherent: true, dmaMaskBits: 32 });
  const buffer = pfnToPhys(machine.pages.allocPages({ order: 10, owner: 'driver' }));
  const failed = dmaMappingError(tpu, dmaMapPage(tpu, buffer, bytes, 'to-device'));
  return { failed, limit: dmaMaxMappingSize(tpu), text: machine.swiotlb?.lastFailure?.text };
}

describe('U-07: "I set swiotlb=262144 and mapping 512 KiB still fails"', () => {
  it.each([16, 64, 256])(
    'fails the same with a pool of %s MiB, and the error says that no pool is large enough',
    (mib) => {
      expect(mapIn(mib * MIB, 512 * KIB)).toEqual({
        failed: true,
        limit: 256 * KIB,
        text: expect.stringMatching(/in a pool of any size; map it in smaller pieces \(dmaMaxMappingSize\)/),
      });
    },
  );

  it('works for what dmaMaxMappingSize answers, in the smallest pool', () => {
    const { failed, limit } = mapIn(MIB, 256 * KIB);
    expect([failed, limit]).toEqual([false, 256 * KIB]);
  });
});
