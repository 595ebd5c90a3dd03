/** "swiotlb buffer is full" in a pool that is nearly empty: the request was too large for any pool. */
import { describe, expect, it } from 'vitest';
import { dmaMapPage, dmaMappingError, dmaMaxMappingSize, KIB, MIB, pc, pfnToPhys, physAddr } from '../../src/index.ts';

const SLOTS = 32_768;

function machine(swiotlbBytes = SLOTS * 2 * KIB) {
  const m = pc({ vtd: false, shadow: false, dmaDebug: false, swiotlbBytes, highRamBytes: 128 * MIB });
  const sound = m.addDevice({ name: 'sound0', coherent: true, dmaMaskBits: 32 });
  const buffer = pfnToPhys(m.pages.allocPages({ order: 10, owner: 'driver' })); // above 4 GiB
  /** Maps `bytes`; what the pool says when it fails. */
  const map = (bytes: number): string => {
    const failed = dmaMappingError(sound, dmaMapPage(sound, buffer, bytes, 'to-device'));
    return failed ? (m.swiotlb?.lastFailure?.reason ?? 'no reason') : 'mapped';
  };
  return { pool: m.swiotlb, sound, buffer, map };
}

describe('U-05: "swiotlb buffer is full (sz: 536576 bytes), total 32768, used 3277"', () => {
  it('is a request above the 256 KiB that one mapping can have, whatever is free', () => {
    const { pool, sound, map } = machine();
    for (let i = 0; i < 25; i++) expect(map(256 * KIB)).toBe('mapped'); // a tenth of the pool
    expect([pool?.slots, pool?.usedSlots]).toEqual([SLOTS, 25 * 128]);
    expect(map(536_576)).toBe('too-large');
    expect(pool?.lastFailure?.text).toMatch(/536576 bytes.*262144 bytes, in a pool of any size/);
    expect(dmaMaxMappingSize(sound)).toBe(256 * KIB);
  });

  it('is another failure, with another text, when the slots do run out', () => {
    const { pool, map } = machine(MIB);
    for (let i = 0; i < 4; i++) expect(map(256 * KIB)).toBe('mapped');
    expect(map(4096)).toBe('full');
    expect(pool?.lastFailure?.text).toMatch(/swiotlb is full.*2 of 512 slots are needed, 512 are in use/);
  });

  it('is no failure in pieces of what one mapping can have', () => {
    const { sound, buffer } = machine();
    for (let at = 0; at < 536_576; at += 256 * KIB) {
      const address = dmaMapPage(sound, physAddr(buffer + at), Math.min(256 * KIB, 536_576 - at), 'to-device');
      expect(dmaMappingError(sound, address)).toBe(false);
    }
  });
});
