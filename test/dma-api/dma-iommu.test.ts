import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { dmaAddr, PAGE_SIZE, type PhysAddr, physAddr } from '../../src/base/addr.ts';
import { ErrnoError } from '../../src/base/errors.ts';
import { GIB, KIB, MIB } from '../../src/base/units.ts';
import type { Device } from '../../src/dma-api/device.ts';
import { dmaMapSgtable, dmaUnmapSgtable } from '../../src/dma-api/dma-map.ts';
import { type Extent, SgTable } from '../../src/dma-api/sg-table.ts';
import type { IommuDmaCookie } from '../../src/iommu/dma-cookie.ts';
import type { IommuDomain } from '../../src/iommu/iommu-domain.ts';
import { bench, errno, invariant, pattern } from '../bench.ts';

const TOP = 4 * GIB;

/** A table of `[pages of the test's own, offset in the first, bytes]`. */
function table(
  pages: readonly PhysAddr[],
  ...parts: (readonly [page: number, offset: number, length: number])[]
): SgTable {
  return new SgTable(parts.map(([page, offset, length]) => ({ phys: physAddr((pages[page] ?? 0) + offset), length })));
}

/** Maps `sgt`, gives its segments, and unmaps it. */
function segmentsOf(device: Device, sgt: SgTable): number[][] {
  dmaMapSgtable(device, sgt, 'bidirectional');
  const segments = sgt.segments().map(({ address, length }) => [address, length]);
  dmaUnmapSgtable(device, sgt, 'bidirectional');
  return segments;
}

describe('a device behind an IOMMU', () => {
  it('sees scattered whole pages as one segment at the top of the low 4 GiB', () => {
    const b = bench();
    expect(segmentsOf(b.device('cam', { iommu: true }), b.scattered(4))).toEqual([
      [TOP - 4 * PAGE_SIZE, 4 * PAGE_SIZE],
    ]);
  });

  it('sees a first extent that starts, and a last one that ends, inside a page as part of the one segment', () => {
    const b = bench();
    const sgt = table(b.scatteredPages(3), [0, 100, PAGE_SIZE - 100], [1, 0, PAGE_SIZE], [2, 0, 7]);
    expect(segmentsOf(b.device('cam', { iommu: true }), sgt)).toEqual([
      [TOP - 4 * PAGE_SIZE + 100, 2 * PAGE_SIZE - 93],
    ]);
  });

  it('begins a new segment at every extent beside a gap', () => {
    const b = bench();
    const base = TOP - 4 * PAGE_SIZE;
    const sgt = table(
      b.scatteredPages(4),
      [0, 0, 5000 - PAGE_SIZE],
      [1, 0, PAGE_SIZE],
      [2, 8, PAGE_SIZE - 8],
      [3, 0, 1],
    );
    expect(segmentsOf(b.device('cam', { iommu: true }), sgt)).toEqual([
      [base, 904],
      [base + PAGE_SIZE, PAGE_SIZE],
      [base + 2 * PAGE_SIZE + 8, PAGE_SIZE - 7],
    ]);
  });

  it('joins extents up to its longest segment', () => {
    const b = bench();
    const device = b.device('cam', { iommu: true, maxSegmentSizeBytes: 3 * PAGE_SIZE - 1 });
    const lengths = segmentsOf(device, b.scattered(5)).map(([, length]) => length);
    expect(lengths).toEqual([2, 2, 1].map((pages) => pages * PAGE_SIZE));
  });

  it('never splits an extent, and appends without limit once a segment is longer than the longest', () => {
    const b = bench({ dmaDebug: false });
    const device = b.device('cam', { iommu: true, maxSegmentSizeBytes: PAGE_SIZE });
    const pages = b.scatteredPages(4);
    const sgt = table(pages, [0, 0, PAGE_SIZE], [1, 0, 2 * PAGE_SIZE], [2, 0, PAGE_SIZE], [3, 0, PAGE_SIZE]);
    const base = TOP - 8 * PAGE_SIZE;
    expect(segmentsOf(device, sgt)).toEqual([
      [base, PAGE_SIZE],
      [base + PAGE_SIZE, 4 * PAGE_SIZE],
    ]);
  });

  it('joins an extent that makes the segment just as long as the longest may be', () => {
    const b = bench();
    const device = b.device('cam', { iommu: true, maxSegmentSizeBytes: 3 * PAGE_SIZE });
    const lengths = segmentsOf(device, b.scattered(5)).map(([, length]) => length);
    expect(lengths).toEqual([3, 2].map((pages) => pages * PAGE_SIZE));
  });

  it('begins a new segment at its boundary, also where no gap is needed', () => {
    const b = bench();
    const device = b.device('cam', { iommu: true, segBoundaryBytes: 4 * PAGE_SIZE });
    const lengths = segmentsOf(device, b.scattered(9)).map(([, length]) => length);
    expect(lengths).toEqual([4, 4, 1].map((pages) => pages * PAGE_SIZE));
  });

  it('begins a new segment at its boundary, and moves an extent that would cross one behind it', () => {
    const b = bench();
    const device = b.device('cam', { iommu: true, segBoundaryBytes: 4 * PAGE_SIZE });
    const pages = b.scatteredPages(4);
    const sgt = table(pages, [0, 0, PAGE_SIZE], [1, 0, 2 * PAGE_SIZE], [2, 0, 2 * PAGE_SIZE], [3, 0, 2 * PAGE_SIZE]);
    const base = TOP - 8 * PAGE_SIZE;
    expect(segmentsOf(device, sgt)).toEqual([
      [base, 3 * PAGE_SIZE],
      [base + 4 * PAGE_SIZE, 4 * PAGE_SIZE],
    ]);
  });

  it('reaches in the gap before a boundary what follows the extent in memory', () => {
    const b = bench();
    const device = b.device('cam', { iommu: true, segBoundaryBytes: 2 * PAGE_SIZE });
    const sgt = table(b.scatteredPages(2), [0, 0, PAGE_SIZE], [1, 0, 2 * PAGE_SIZE]);
    dmaMapSgtable(device, sgt, 'bidirectional');
    const gap = dmaAddr(sgt.dmaAddress(0) + PAGE_SIZE);
    expect(device.port.write(gap, pattern(4), 0, 4)).toBe(4);
    const behind = new Uint8Array(4);
    b.machine.memory.read(physAddr(sgt.physAddress(0) + PAGE_SIZE), behind, 0, 4);
    expect(behind).toEqual(pattern(4));
    dmaUnmapSgtable(device, sgt, 'bidirectional');
  });

  it('takes runs below 32 pages rounded up to a power of two out of the address space, longer ones as they are', () => {
    const b = bench();
    const device = b.device('cam', { iommu: true });
    const sgts = [b.scattered(3), b.scattered(1), b.scattered(33), b.scattered(1)];
    for (const sgt of sgts) dmaMapSgtable(device, sgt, 'to-device');
    const taken = [...cookieOf(device).iovas.tree.ranges()].map(({ firstPfn, lastPfn }) => lastPfn - firstPfn + 1);
    expect(taken).toEqual([1, 33, 1, 4]);
    for (const sgt of sgts) dmaUnmapSgtable(device, sgt, 'to-device');
  });

  it('gets addresses from the low 4 GiB while there are any, whatever its mask, if it is a PCI device', () => {
    const b = bench();
    const device = b.device('gpu', { iommu: true, dmaMaskBits: 64, pci: true });
    expect(segmentsOf(device, b.scattered(1))).toEqual([[TOP - PAGE_SIZE, PAGE_SIZE]]);
  });

  it.each([
    ['no PCI device', { dmaMaskBits: 40 }, 2 ** 40],
    ['told to use all its address lines', { dmaMaskBits: 40, pci: true, forceDac: true }, 2 ** 40],
    ['wider than the IOMMU', { dmaMaskBits: 64 }, 2 ** 48],
    ['behind a narrow bus', { dmaMaskBits: 64, busDmaLimit: 2 ** 36 - 1 }, 2 ** 36],
  ])('gets addresses from the top of what it reaches when it is %s', (_what, spec, end) => {
    const b = bench();
    expect(segmentsOf(b.device('npu', { iommu: true, ...spec }), b.scattered(1))).toEqual([
      [end - PAGE_SIZE, PAGE_SIZE],
    ]);
  });

  it('is never given a reserved address, nor after its group got a new domain', () => {
    const b = bench();
    const reservedIova = [{ first: 0xfee0_0000, last: 0xffff_ffff }];
    const device = b.device('nic', { iommu: true, reservedIova });
    const sgt = b.scattered(1);
    expect(segmentsOf(device, sgt)).toEqual([[0xfee0_0000 - PAGE_SIZE, PAGE_SIZE]]);
    for (const type of ['identity', 'DMA']) device.iommuGroup?.writeType(type);
    expect(segmentsOf(device, sgt)).toEqual([[0xfee0_0000 - PAGE_SIZE, PAGE_SIZE]]);
  });

  it('gets the addresses back that it gave back last, on the same CPU', () => {
    const b = bench();
    const device = b.device('cam', { iommu: true });
    const [one, two] = [b.scattered(2), b.scattered(2)];
    const [first] = segmentsOf(device, one);
    expect(segmentsOf(device, two)).toEqual([first]);
    b.sim.runOnCpu(1);
    expect(segmentsOf(device, two)).not.toEqual([first]);
  });

  it('gets addresses from above 4 GiB when the low ones are used up and its mask allows it', () => {
    const b = bench({ dmaDebug: false });
    const device = b.device('gpu', { iommu: true, dmaMaskBits: 40, pci: true });
    const iovas = cookieOf(device).iovas.tree;
    const taken = [iovas.alloc(2 ** 19, 2 ** 20 - 1), iovas.alloc(2 ** 18, 2 ** 20 - 1)];
    const sgt = new SgTable([{ phys: physAddr(0x1000_0000), length: 2 ** 19 * PAGE_SIZE }]);
    dmaMapSgtable(device, sgt, 'to-device', { skipCpuSync: true });
    expect(sgt.dmaAddress(0)).toBe(2 ** 40 - 2 ** 31);
    dmaUnmapSgtable(device, sgt, 'to-device');
    for (const first of taken) iovas.free(first);
  });

  it('keeps below its mask', () => {
    const b = bench();
    expect(segmentsOf(b.device('isp', { iommu: true, dmaMaskBits: 20 }), b.scattered(1))).toEqual([
      [2 ** 20 - PAGE_SIZE, PAGE_SIZE],
    ]);
  });

  it('gets addresses of its own where it shares a domain, and those of the other work for it too', () => {
    const b = bench();
    const first = b.device('a', { iommu: true });
    const second = b.device('b', { iommu: first.iommuGroup ?? expect.fail('no group') });
    const [one, two] = [b.scattered(1), b.scattered(1)];
    dmaMapSgtable(first, one, 'bidirectional');
    dmaMapSgtable(second, two, 'bidirectional');
    expect(one.dmaAddress(0)).not.toBe(two.dmaAddress(0));
    expect(second.port.write(one.dmaAddress(0), pattern(9), 0, 9)).toBe(9);
    const seen = new Uint8Array(9);
    b.machine.memory.read(one.physAddress(0), seen, 0, 9);
    expect(seen).toEqual(pattern(9));
    dmaUnmapSgtable(first, one, 'bidirectional');
    dmaUnmapSgtable(second, two, 'bidirectional');
  });
});

describe('a mapping behind an IOMMU that fails', () => {
  it.each([12, 1])('answers ENOMEM out of addresses and leaves nothing, with a mask of %s bits', (bits) => {
    const b = bench();
    const device = b.device('isp', { iommu: true, dmaMaskBits: 14 });
    device.setDmaMask(bits);
    const sgt = b.scattered(1);
    expect(() => dmaMapSgtable(device, sgt, 'to-device')).toThrow(errno('ENOMEM'));
    expect([sgt.nents, b.count('iommu.map')]).toEqual([0, 0]);
  });

  it('answers ENOMEM when addresses run out and works again after an unmap (U-14)', () => {
    const b = bench();
    const device = b.device('isp', { iommu: true, dmaMaskBits: 14 });
    const sgts = [b.scattered(1), b.scattered(1), b.scattered(1)];
    const late = b.scattered(1);
    for (const sgt of sgts) dmaMapSgtable(device, sgt, 'to-device');
    expect(() => dmaMapSgtable(device, late, 'to-device')).toThrow(errno('ENOMEM'));
    for (const sgt of sgts) dmaUnmapSgtable(device, sgt, 'to-device');
    dmaMapSgtable(device, late, 'to-device');
    dmaUnmapSgtable(device, late, 'to-device');
  });

  it('takes everything back whichever table page is missing, and works again when there are pages', () => {
    const attempts: string[] = [];
    for (let failing = 0; attempts.at(-1) !== 'mapped' && failing < 10; failing++) {
      const b = bench({ dmaDebug: false });
      const { memory } = b.machine;
      const device = b.device('cam', { iommu: true });
      const at = [0, 8, 16].map((mib) => physAddr(0x1000_0000 + mib * MIB + PAGE_SIZE));
      const sgt = new SgTable(at.map((phys) => ({ phys, length: 2 * MIB })));
      let asked = 0;
      memory.failNext = ({ owner }) => owner === 'iommu tables' && asked++ === failing;
      attempts.push(outcome(() => dmaMapSgtable(device, sgt, 'to-device')));
      memory.failNext = undefined;
      if (attempts.at(-1) !== 'mapped') {
        expect([sgt.nents, ...b.leftovers()]).toEqual([0]);
        dmaMapSgtable(device, sgt, 'to-device');
      }
      dmaUnmapSgtable(device, sgt, 'to-device');
    }
    expect(attempts).toEqual([...Array.from({ length: attempts.length - 1 }, () => 'ENOMEM'), 'mapped']);
    expect(attempts.length).toBeGreaterThan(4);
  });

  it('unmaps again when cleaning the caches fails, as memory is missing', () => {
    const b = bench();
    const device = b.device('cam', { iommu: true });
    const sgt = new SgTable([{ phys: physAddr(0x1000), length: PAGE_SIZE }]);
    expect(() => dmaMapSgtable(device, sgt, 'to-device')).toThrow(errno('EFAULT'));
    expect(sgt.nents).toBe(0);
  });
});

describe('unmapping behind an IOMMU', () => {
  it('invalidates the IOTLB before it returns: the next access faults', () => {
    const b = bench({ hazards: 'record' });
    const device = b.device('cam', { iommu: true });
    const sgt = b.scattered(2);
    dmaMapSgtable(device, sgt, 'from-device');
    const address = sgt.dmaAddress(0);
    expect(device.port.write(address, pattern(8192), 0, 8192)).toBe(8192);
    dmaUnmapSgtable(device, sgt, 'from-device');
    expect(device.port.write(address, pattern(8192), 0, 8192)).toBe(0);
    expect(device.port.faults).toEqual([
      { device: 'cam', address, length: 8192, access: 'write', reason: 'unmapped', timeNs: 0 },
    ]);
    expect(b.sim.hazards.map(({ hazard }) => hazard)).toEqual(['dma.after-unmap']);
    expect(b.machine.iommu?.iotlb.size).toBe(0);
  });

  it('unmaps all parts between gaps', () => {
    const b = bench();
    const device = b.device('cam', { iommu: true, segBoundaryBytes: 2 * PAGE_SIZE });
    const sgt = table(b.scatteredPages(3), [0, 0, PAGE_SIZE], [1, 0, 2 * PAGE_SIZE], [2, 4, 1]);
    dmaMapSgtable(device, sgt, 'bidirectional');
    dmaUnmapSgtable(device, sgt, 'bidirectional');
    expect([...domainOf(device).pgtable.leaves()]).toEqual([]);
  });

  it('tells when a part was unmapped behind its back, and unmaps the rest', () => {
    const b = bench();
    const device = b.device('cam', { iommu: true });
    const domain = domainOf(device);
    const sgt = b.scattered(4);
    dmaMapSgtable(device, sgt, 'bidirectional');
    const [leaf] = [...domain.pgtable.leaves()];
    domain.unmap(leaf?.iova ?? expect.fail('no leaf'), PAGE_SIZE);
    expect(() => dmaUnmapSgtable(device, sgt, 'bidirectional')).toThrow(
      invariant(`4096 bytes from 0xffffc000 of ${domain.name}`),
    );
    expect(sgt.nents).toBe(0);
  });
});

describe('the addresses of a mapping', () => {
  const part = fc.record({
    gap: fc.nat({ max: 3 }),
    offset: fc.nat({ max: 5000 }),
    length: fc.integer({ min: 1, max: 9000 }),
  });
  const wholePages = fc.record({
    gap: fc.nat({ max: 3 }),
    offset: fc.constant(0),
    length: fc.integer({ min: 1, max: 3 }).map((pages) => pages * PAGE_SIZE),
  });

  it('lead a device to the bytes at the extents, in order, whatever they look like', () => {
    const b = bench({ dmaDebug: false });
    const port = { maxSegmentSizeBytes: 8 * KIB, segBoundaryBytes: 16 * KIB };
    const devices = [
      b.device('direct'),
      b.device('iommu', { iommu: true }),
      b.device('small', { iommu: true, ...port }),
    ];
    const place = fc.array(fc.oneof(part, wholePages), { minLength: 1, maxLength: 12 });
    fc.assert(
      fc.property(place, fc.constantFrom(...devices), (parts, device) => {
        const sgt = new SgTable(laidOut(parts));
        const bytes = pattern(sgt.sizeBytes, parts.length);
        let at = 0;
        for (const { phys, length } of sgt.extents()) {
          b.machine.memory.write(phys, bytes, at, length);
          at += length;
        }
        dmaMapSgtable(device, sgt, 'bidirectional');
        const seen = new Uint8Array(bytes.length);
        let read = 0;
        for (const { address, length } of sgt.segments()) {
          const last = address + length - 1;
          const { segBoundaryBytes } = device;
          if (device.iommuGroup !== null && length <= segBoundaryBytes && parts.every((p) => p.length < 4096)) {
            expect(Math.floor(last / segBoundaryBytes)).toBe(Math.floor(address / segBoundaryBytes));
          }
          read += device.port.read(address, seen, read, length);
        }
        dmaUnmapSgtable(device, sgt, 'bidirectional');
        expect(read).toBe(bytes.length);
        expect(Buffer.compare(seen, bytes)).toBe(0);
        expect(b.leftovers()).toEqual([]);
      }),
      { numRuns: 150 },
    );
  });
});

function domainOf(device: Device): IommuDomain {
  return device.iommuGroup?.defaultDomain ?? expect.fail('no domain');
}

function cookieOf(device: Device): IommuDmaCookie {
  return domainOf(device).cookie ?? expect.fail('no cookie');
}

/** Extents that lie one behind the other in memory, with gaps. */
function laidOut(
  parts: readonly { readonly gap: number; readonly offset: number; readonly length: number }[],
): Extent[] {
  let at = 0x1000_0000;
  return parts.map(({ gap, offset, length }) => {
    const phys = physAddr(at + gap * PAGE_SIZE + offset);
    at = Math.ceil((phys + length) / PAGE_SIZE) * PAGE_SIZE;
    return { phys, length };
  });
}

function outcome(map: () => void): string {
  try {
    map();
    return 'mapped';
  } catch (error) {
    if (error instanceof ErrnoError) return error.code;
    throw error;
  }
}
