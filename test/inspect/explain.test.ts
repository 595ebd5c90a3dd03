import { describe, expect, it } from 'vitest';
import { dmaAddr, hex, type Iova, PAGE_SIZE, physAddr } from '../../src/base/addr.ts';
import { ms } from '../../src/base/units.ts';
import { dmaUnmapSgtable } from '../../src/dma-api/dma-map.ts';
import { dmaMapPage } from '../../src/dma-api/dma-single.ts';
import { explain } from '../../src/inspect/explain.ts';
import type { AddressConfusion } from '../../src/inspect/near-misses.ts';
import { IommuProt } from '../../src/iommu/io-pgtable.ts';
import type { AddressSpace } from '../../src/trace/address-book.ts';
import { type Scene, scene } from './explain-scene.ts';

interface Planted {
  readonly mistake: string;
  readonly number: (s: Scene) => number;
  readonly used: readonly [space: AddressSpace, owner?: string];
  readonly is: AddressConfusion;
  /** What was meant. */
  readonly meant?: (s: Scene) => number;
}

const TOP = 2 ** 32;

const PLANTED: readonly Planted[] = [
  { mistake: 'what dmaMapPage answered, unchecked', number: () => -1, used: ['dma', 'cam0'], is: 'mapping-error' },
  { mistake: 'an address of a table not mapped', number: () => 0, used: ['dma', 'cam0'], is: 'not-filled-in' },
  { mistake: 'an address after the unmap', number: (s) => s.endedAt, used: ['dma', 'cam0'], is: 'ended' },
  { mistake: 'a plain address after the unmap', number: (s) => s.nicEndedAt + 8, used: ['dma', 'nic0'], is: 'ended' },
  { mistake: 'memory after the free', number: (s) => s.freed + 100, used: ['phys'], is: 'freed' },
  {
    mistake: 'the physical address behind an IOMMU',
    number: (s) => s.frame + 16,
    used: ['dma', 'cam0'],
    is: 'phys-as-dma',
    meant: (s) => s.camAt + 16,
  },
  {
    mistake: 'a physical address nobody mapped for it',
    number: (s) => s.copied,
    used: ['dma', 'cam0'],
    is: 'phys-as-dma',
  },
  {
    mistake: 'an IO address where memory is meant',
    number: (s) => s.camAt + 64,
    used: ['phys'],
    is: 'dma-as-phys',
    meant: (s) => s.frame + 64,
  },
  {
    mistake: 'the address of another device',
    number: (s) => s.gpuAt + 8,
    used: ['dma', 'cam0'],
    is: 'other-device',
    meant: (s) => s.camAt + 8,
  },
  {
    mistake: 'the address of a device without an IOMMU',
    number: (s) => s.nicAt,
    used: ['dma', 'cam0'],
    is: 'other-device',
  },
  {
    mistake: 'a GPU virtual address in a DMA register',
    number: (s) => s.gpuVa + 4,
    used: ['dma', 'gpu0'],
    is: 'gpu-va-as-dma',
    meant: (s) => s.gpuAt + 4,
  },
  { mistake: 'a GPU virtual address as memory', number: (s) => s.gpuVa, used: ['phys'], is: 'gpu-va-as-phys' },
  {
    mistake: 'a DMA address in a GPU job',
    number: (s) => s.gpuAt + 4096,
    used: ['gpu-va', 'gpu0/context0'],
    is: 'dma-as-gpu-va',
    meant: (s) => s.gpuVa + 4096,
  },
  {
    mistake: 'an address of another context',
    number: (s) => s.otherVa,
    used: ['gpu-va', 'gpu0/context0'],
    is: 'other-context',
    meant: (s) => s.gpuVa,
  },
  { mistake: 'a user pointer in a DMA register', number: (s) => s.userVa, used: ['dma', 'nic0'], is: 'user-va-as-dma' },
  {
    mistake: 'a user pointer as memory',
    number: (s) => s.userVa + 5,
    used: ['phys'],
    is: 'user-va-as-phys',
    meant: (s) => s.userPhys + 5,
  },
  {
    mistake: 'a physical address as a pointer',
    number: (s) => s.frame,
    used: ['user-va', 'app'],
    is: 'phys-as-user-va',
  },
  {
    mistake: 'a physical address where the bus shifts memory',
    number: (s) => s.frame + 32,
    used: ['dma', 'isp0'],
    is: 'bus-offset',
    meant: (s) => s.ispAt + 32,
  },
  {
    mistake: 'a shifted address as memory',
    number: (s) => s.ispAt + 32,
    used: ['phys'],
    is: 'bus-offset',
    meant: (s) => s.frame + 32,
  },
  {
    mistake: 'a bounce slot as the buffer',
    number: (s) => s.slot + 7,
    used: ['phys'],
    is: 'bounce-slot',
    meant: (s) => s.copied + 7,
  },
  {
    mistake: 'the low 32 bits',
    number: (s) => (s.frame + 40) % TOP,
    used: ['phys'],
    is: 'truncated-32',
    meant: (s) => s.frame + 40,
  },
  {
    mistake: 'the low 32 bits of a bus address in a 32-bit register',
    number: (s) => s.ispAt % TOP,
    used: ['dma', 'isp0'],
    is: 'truncated-32',
    meant: (s) => s.ispAt,
  },
  {
    mistake: 'an address that went through a signed 32-bit integer',
    number: (s) => s.camAt | 0,
    used: ['dma', 'cam0'],
    is: 'sign-extended',
    meant: (s) => s.camAt,
  },
  {
    mistake: 'a page number as an address',
    number: (s) => s.camAt / PAGE_SIZE,
    used: ['dma', 'cam0'],
    is: 'pfn-as-address',
    meant: (s) => s.camAt,
  },
  {
    mistake: 'an address as a page number',
    number: (s) => s.camAt * PAGE_SIZE,
    used: ['dma', 'cam0'],
    is: 'address-as-pfn',
    meant: (s) => s.camAt,
  },
  {
    mistake: 'the page without the offset',
    number: (s) => s.part - (s.part % PAGE_SIZE),
    used: ['dma', 'cam0'],
    is: 'page-offset-lost',
    meant: (s) => s.part,
  },
  { mistake: 'one byte too far', number: (s) => s.part + 100, used: ['dma', 'cam0'], is: 'past-end' },
  { mistake: 'one byte too early', number: (s) => s.part - 1, used: ['dma', 'cam0'], is: 'before-start' },
  {
    mistake: 'one page too far in a GPU job',
    number: (s) => s.gpuVa + 2 * PAGE_SIZE,
    used: ['gpu-va', 'gpu0/context0'],
    is: 'guard-page',
    meant: (s) => s.gpuVa + 2 * PAGE_SIZE - 1,
  },
];

describe('explain, of a number that is no address where it was used', () => {
  it.each(PLANTED)('recognises $mistake as $is', ({ number, used: [space, owner], is, meant }) => {
    const s = scene();
    const { isValid, nearMisses, text } = explain(s.machine, number(s), space, owner);
    expect(isValid).toBe(false);
    const [likely] = nearMisses;
    expect(likely?.confusion).toBe(is);
    if (meant !== undefined) expect(likely?.instead).toBe(meant(s));
    expect(text).toContain(`likely confusion: ${is}: `);
  });

  const NOTHING: readonly [string, (s: Scene) => number, AddressSpace, string?][] = [
    ['a mapped address of the device', (s) => s.camAt + 100, 'dma', 'cam0'],
    ['the last byte of a mapping', (s) => s.camAt + 2 * PAGE_SIZE - 1, 'dma', 'cam0'],
    ['an address of any device', (s) => s.gpuAt, 'dma'],
    ['memory that somebody owns and nobody mapped', (s) => s.unmapped, 'phys'],
    ['memory that is mapped', (s) => s.frame, 'phys'],
    ['a physical address that is a DMA address', (s) => s.nicOnly, 'dma', 'nic0'],
    ['the same number as memory', (s) => s.nicAt, 'phys'],
    ['a bounce slot that a device works on', (s) => s.slot, 'dma', 'sound0'],
    ['a shifted address of the device', (s) => s.ispAt, 'dma', 'isp0'],
    ['a GPU virtual address', (s) => s.gpuVa + PAGE_SIZE, 'gpu-va', 'gpu0/context0'],
    ['a pointer', (s) => s.userVa + 8191, 'user-va', 'app'],
  ];
  it.each(NOTHING)('suspects nothing of %s', (_what, number, space, owner) => {
    const s = scene();
    const { isValid, nearMisses, text } = explain(s.machine, number(s), space, owner);
    expect([isValid, nearMisses]).toEqual([true, []]);
    expect(text).not.toContain('confusion');
  });

  const FAR: readonly [string, (s: Scene) => number, AddressSpace, string?][] = [
    ['more than a page behind every mapping', (s) => s.gpuVa + 0x100_0000, 'gpu-va', 'gpu0/context0'],
    ['a small number', () => 0x30, 'dma', 'cam0'],
    ['a number above all memory', () => 0x7_1234_5678_9abc, 'dma', 'cam0'],
    ['a negative number that was no address', () => -0x7000_0001, 'phys'],
  ];
  it.each(FAR)('does not guess at %s', (_what, number, space, owner) => {
    const s = scene();
    expect(explain(s.machine, number(s), space, owner)).toMatchObject({ isValid: false, nearMisses: [] });
  });
});

describe('explain, of a number that means something', () => {
  it('leads through every stage down to memory, with the byte of each mapping', () => {
    const s = scene();
    const { meanings } = explain(s.machine, s.gpuVa + 0x1004, 'gpu-va', 'gpu0/context0');
    const [first] = meanings.filter(({ owner }) => owner === 'gpu0/context0');
    expect(first).toMatchObject({ state: 'live', space: 'gpu-va', offset: 0x1004, disagreement: '' });
    expect(first?.path.map(({ space, owner, address }) => [space, owner, address])).toEqual([
      ['gpu-va', 'gpu0/context0', s.gpuVa + 0x1004],
      ['dma', 'gpu0', s.gpuAt + 0x1004],
      ['phys', '', s.frame + 0x1004],
    ]);
    expect(first?.path.at(-1)?.what).toBe("by the IOMMU, RAM 'ram1', page of driver");
  });

  it('tells of a bounced mapping the slot and the original', () => {
    const s = scene();
    const { meanings } = explain(s.machine, s.slot + 3, 'dma', 'sound0');
    expect(meanings[0]?.path.map(({ address }) => address)).toEqual([s.slot + 3, s.slot + 3, s.copied + 3]);
  });

  it('tells of memory who has the page, and who maps it', () => {
    const s = scene();
    const { text } = explain(s.machine, s.frame + 1, 'phys');
    expect(text).toContain("memory: RAM 'ram1', page of driver");
    for (const device of ['cam0', 'gpu0', 'isp0']) expect(text).toMatch(new RegExp(`byte 1 of .* for ${device}`));
  });

  it('tells of an ended mapping who made it and who ended it, when and where', () => {
    const s = scene();
    const { meanings, text } = explain(s.machine, s.endedAt);
    const [was] = meanings;
    expect(was).toMatchObject({ state: 'ended', owner: 'cam0', path: [{ space: 'dma' }] });
    expect(was?.mapping).toMatchObject({ call: 'dmaMapSgtable', end: { how: 'unmap', call: 'dmaUnmapSgtable' } });
    expect(text).toMatch(/mapped by dmaMapSgtable at 0 ns \(explain-scene\.ts:\d+:\d+\), unmapped by dmaUnmapSgtable/);
  });

  it('forgets the end when the address is given out again', () => {
    const s = scene();
    const again = explain(s.machine, s.nicEndedAt, 'dma', 'nic0');
    expect(again.isValid).toBe(false);
    dmaMapPage(s.nic, physAddr(s.nicEndedAt), PAGE_SIZE, 'to-device');
    const { isValid, meanings } = explain(s.machine, s.nicEndedAt, 'dma', 'nic0');
    expect([isValid, meanings.map(({ state }) => state)]).toEqual([true, ['live', 'memory', 'ended']]);
  });

  it('knows buffers by name', () => {
    const { machine, cam } = scene();
    const buf = machine.systemHeap.alloc(PAGE_SIZE, 'frame1');
    const text = machine.sim.run(function* () {
      const att = yield* buf.attach(cam);
      const sgt = yield* att.mapUnlocked('from-device');
      const { text } = explain(machine, sgt.dmaAddress(0), 'dma', 'cam0');
      yield* att.unmapUnlocked(sgt, 'from-device');
      yield* buf.detach(att);
      return text;
    });
    expect(text).toContain("byte 0 of 'frame1', mapped by dmaMapSgtable");
  });

  it('knows nothing but the book of a simulator alone', () => {
    const s = scene();
    expect(explain(s.sim, s.camAt, 'dma', 'cam0')).toMatchObject({ isValid: true });
    expect(explain(s.sim, s.unmapped, 'phys')).toMatchObject({ isValid: false, meanings: [] });
  });

  it('wants a whole number', () => {
    const s = scene();
    expect(() => explain(s.machine, 0.5)).toThrow('explain: address 0.5 is no whole number');
  });
});

describe('explain, where book and hardware disagree', () => {
  const domainOf = ({ cam }: Scene) => cam.iommuGroup?.domain ?? expect.fail('no domain');
  const disagreement = (s: Scene, address: number) => explain(s.machine, address).meanings[0]?.disagreement;

  it('says that a live mapping leads nowhere', () => {
    const s = scene();
    domainOf(s).unmap(s.camAt as Iova, PAGE_SIZE);
    expect(disagreement(s, s.camAt)).toMatch(/^the mapping is alive, but the IOMMU leads nowhere/);
  });

  it('says that a live mapping leads elsewhere', () => {
    const s = scene();
    domainOf(s).unmap(s.camAt as Iova, PAGE_SIZE);
    domainOf(s).map(s.camAt as Iova, physAddr(s.unmapped), PAGE_SIZE, IommuProt.read);
    expect(disagreement(s, s.camAt)).toBe(`the IOMMU leads to ${hex(s.unmapped)}, the mapping to ${hex(s.frame)}`);
  });

  it('says that an ended mapping is still in the IOTLB, until it is flushed', () => {
    const s = scene({ lazyIommu: true });
    const [sgt] = s.tables;
    s.cam.port.read(dmaAddr(s.camAt), new Uint8Array(1), 0, 1);
    dmaUnmapSgtable(s.cam, sgt ?? expect.fail('no table'), 'bidirectional');
    expect(disagreement(s, s.camAt)).toBe(
      `the mapping has ended, but the IOTLB still leads to ${hex(s.frame)} until it is flushed`,
    );
    s.sim.runUntil(ms(20));
    expect(disagreement(s, s.camAt)).toBe('');
  });

  it('tells what an IOMMU translates though no call of the DMA API made it so', () => {
    const s = scene();
    domainOf(s).map(0x5000 as Iova, physAddr(s.unmapped), PAGE_SIZE, IommuProt.read);
    const { isValid, meanings } = explain(s.machine, 0x5010, 'dma', 'cam0');
    expect(isValid).toBe(true);
    expect(meanings[0]).toMatchObject({ state: 'unbooked', owner: 'cam0', path: [{}, { address: s.unmapped + 0x10 }] });
  });

  it('changes nothing by looking, not even in the IOTLB', () => {
    const s = scene();
    const { iotlb } = s.machine.iommu ?? expect.fail('no IOMMU');
    const before = [iotlb.hits, iotlb.misses, iotlb.size, s.sim.now, s.sim.hazards.length];
    explain(s.machine, s.camAt);
    expect([iotlb.hits, iotlb.misses, iotlb.size, s.sim.now, s.sim.hazards.length]).toEqual(before);
  });
});
