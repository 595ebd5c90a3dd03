import { describe, expect, it } from 'vitest';
import { physAddr } from '../../src/base/addr.ts';
import { ErrnoError } from '../../src/base/errors.ts';
import type { Extent } from '../../src/dma-api/sg-table.ts';
import { SgTable } from '../../src/dma-api/sg-table.ts';
import {
  demandsConflict,
  demandsOf,
  demandsUnmet,
  type MergedDemands,
  mergeDemands,
  noDemands,
  type PlacementDemands,
} from '../../src/dmabuf/attach-constraints.ts';
import { type DmaBuf, exportDmaBuf } from '../../src/dmabuf/dma-buf.ts';
import { linux61 } from '../../src/dmabuf/dma-buf-profile.ts';
import { type BackingSource, LateBacking } from '../../src/dmabuf/late-backing.ts';
import { type Bench, bench, errno } from '../bench.ts';
import { thrown } from './exporter.ts';

const SIZE = 4 * 4096;

/** Memory of the test: either contiguous and low, or pages with holes, high. */
interface Piece {
  readonly extents: readonly Extent[];
  content: string;
}

interface Priv {
  readonly backing: LateBacking<Piece>;
}

class Pool implements BackingSource<Piece> {
  live = 0;
  fails = false;

  allocate(demands: MergedDemands): Piece {
    if (this.fails) throw new ErrnoError('ENOMEM', 'pool');
    this.live++;
    const contiguous = demands.maxSegments < 4 || demands.limit <= 2 ** 32;
    const base = contiguous ? 0x1000_0000 : 2 ** 33;
    const count = contiguous ? 1 : 4;
    const extents = Array.from({ length: count }, (_, i) => ({
      phys: physAddr(base + 2 * i * 4096),
      length: SIZE / count,
    }));
    return { extents, content: '' };
  }

  extentsOf(piece: Piece): readonly Extent[] {
    return piece.extents;
  }

  copy(from: Piece, to: Piece): void {
    to.content = from.content;
  }

  free(): void {
    this.live--;
  }
}

function lateBuffer(b: Bench, pool: Pool, extra: Partial<PlacementDemands>[] = [], dynamic = false): DmaBuf<Priv> {
  const backing = new LateBacking(pool);
  return exportDmaBuf<Priv>(b.sim, {
    exporterName: 'late',
    name: 'late',
    sizeBytes: SIZE,
    priv: { backing },
    profile: { ...linux61, moveNotify: true },
    ops: {
      attach: (_buf, att) => backing.admit(att, extra.shift()),
      detach: (_buf, att) => backing.leave(att),
      ...(dynamic ? { pin() {}, unpin() {} } : {}),
      *mapDmaBuf() {
        return new SgTable((yield* backing.memory()).extents);
      },
      unmapDmaBuf() {},
      release: () => backing.release(),
    },
  });
}

describe('memory that an exporter gets late', () => {
  it('C11: is placed at the first map, where all that are attached by then reach it', () => {
    const b = bench();
    const pool = new Pool();
    const buf = lateBuffer(b, pool);
    const { backing } = buf.priv;
    b.sim.run(function* () {
      const wide = yield* buf.attach(b.device('wide', { dmaMaskBits: 40 }));
      const narrow = yield* buf.attach(b.device('narrow', { dmaMaskBits: 32 }));
      expect([backing.placed, pool.live]).toEqual([null, 0]);
      const sgt = yield* wide.mapUnlocked('to-device');
      expect(backing.placed?.extents).toEqual([{ phys: 0x1000_0000, length: SIZE }]);
      yield* wide.unmapUnlocked(sgt, 'to-device');
      for (const att of [wide, narrow]) yield* buf.detach(att);
    });
    buf.put();
    b.sim.run();
    expect(pool.live).toBe(0);
  });

  it('D5: moves with its content for a later attacher while it is attached and not mapped', () => {
    const b = bench();
    const pool = new Pool();
    const buf = lateBuffer(b, pool);
    const { backing } = buf.priv;
    b.sim.run(function* () {
      const wide = yield* buf.attach(b.device('wide', { dmaMaskBits: 40 }));
      yield* wide.unmapUnlocked(yield* wide.mapUnlocked('to-device'), 'to-device');
      expect(backing.placed?.extents).toHaveLength(4);
      if (backing.placed !== null) backing.placed.content = 'picture';
      const narrow = yield* buf.attach(b.device('narrow', { dmaMaskBits: 32 }));
      expect([backing.placed?.extents.length, backing.placed?.content, backing.moves, pool.live]).toEqual([
        1,
        'picture',
        1,
        1,
      ]);
      for (const att of [wide, narrow]) yield* buf.detach(att);
    });
    buf.put();
  });

  it('D5: does not move while a static importer has it mapped: the later attach is EBUSY, naming both', () => {
    const b = bench();
    const pool = new Pool();
    const buf = lateBuffer(b, pool);
    b.sim.run(function* () {
      const wide = yield* buf.attach(b.device('wide', { dmaMaskBits: 40 }));
      const sgt = yield* wide.mapUnlocked('to-device');
      const narrow = b.device('narrow', { dmaMaskBits: 32 });
      const error = yield* thrown(buf.attach(narrow));
      expect(error).toEqual(errno('EBUSY'));
      expect(String(error)).toMatch(/narrow reaches 4294967296 bytes.*wide has it mapped/);
      expect([buf.attachments.length, buf.priv.backing.moves, pool.live]).toEqual([1, 0, 1]);
      yield* wide.unmapUnlocked(sgt, 'to-device');
      yield* buf.detach(yield* buf.attach(narrow));
      expect(buf.priv.backing.moves).toBe(1);
      yield* buf.detach(wide);
    });
    buf.put();
  });

  it('G-02: tells dynamic importers that have it mapped, waits until they have unmapped, then moves', () => {
    const b = bench();
    const buf = lateBuffer(b, new Pool(), [], true);
    let told = 0;
    b.sim.run(function* () {
      const wide = yield* buf.dynamicAttach(b.device('wide', { dmaMaskBits: 40 }), {
        moveNotify() {
          told++;
          return undefined;
        },
      });
      const sgt = yield* wide.mapUnlocked('to-device');
      b.sim.spawn('importer', function* () {
        yield* b.sim.delay(70);
        yield* wide.unmapUnlocked(sgt, 'to-device');
      });
      const narrow = yield* buf.dynamicAttach(b.device('narrow', { dmaMaskBits: 32 }), { moveNotify: () => undefined });
      expect([told, b.sim.now, buf.priv.backing.moves]).toEqual([1, 70, 1]);
      for (const att of [wide, narrow]) yield* buf.detach(att);
    });
    buf.put();
  });

  it('stays where it is, and the attach fails, when there is no memory to move to', () => {
    const b = bench();
    const pool = new Pool();
    const buf = lateBuffer(b, pool);
    b.sim.run(function* () {
      const wide = yield* buf.attach(b.device('wide', { dmaMaskBits: 40 }));
      yield* wide.unmapUnlocked(yield* wide.mapUnlocked('to-device'), 'to-device');
      const { placed } = buf.priv.backing;
      pool.fails = true;
      expect(yield* thrown(buf.attach(b.device('narrow')))).toEqual(errno('ENOMEM'));
      expect([buf.priv.backing.placed === placed, pool.live, buf.resv.isLocked]).toEqual([true, 1, false]);
      pool.fails = false;
      yield* buf.detach(wide);
    });
    buf.put();
  });

  it('C1: refuses an attacher whose demands contradict those of another, naming both', () => {
    const b = bench();
    const extra = [{ maxSegmentBytes: 4096 }, { maxSegments: 2 }];
    const buf = lateBuffer(b, new Pool(), extra);
    b.sim.run(function* () {
      const one = yield* buf.attach(b.device('shortsegments'));
      const error = yield* thrown(buf.attach(b.device('fewsegments')));
      expect(error).toEqual(errno('EBUSY'));
      expect(String(error)).toMatch(/fewsegments takes 2 segments, shortsegments takes 4096 bytes/);
      yield* buf.detach(one);
    });
    buf.put();
  });
});

describe('demands on memory', () => {
  const merged = (demands: Partial<PlacementDemands>) => mergeDemands([['dev', { ...noDemands, ...demands }]]);

  it('of several devices are the strictest of each, with the name of the device', () => {
    const both = mergeDemands([
      ['a', { ...noDemands, limit: 2 ** 32, alignBytes: 64, coherent: true }],
      ['b', { ...noDemands, limit: 2 ** 40, alignBytes: 4096, maxSegments: 1, peer2peer: false }],
    ]);
    expect([both.limit, both.alignBytes, both.maxSegments, both.coherent, both.peer2peer]).toEqual([
      2 ** 32,
      4096,
      1,
      true,
      false,
    ]);
    expect(both.by).toMatchObject({ limit: 'a', alignBytes: 'b', maxSegments: 'b', coherent: 'a', peer2peer: 'b' });
    expect(both.by.boundaryBytes).toBe('');
  });

  it('come from the DMA parameters; behind an IOMMU only alignment is left', () => {
    const b = bench();
    const parameters = { maxSegmentSizeBytes: 8192, segBoundaryBytes: 65536, minAlignMask: 4095 };
    const direct = demandsOf(b.device('direct', parameters), { maxSegments: 3 });
    expect(direct).toMatchObject({
      limit: 2 ** 32,
      maxSegmentBytes: 8192,
      boundaryBytes: 65536,
      alignBytes: 4096,
      maxSegments: 3,
    });
    expect(demandsOf(b.device('behind', { ...parameters, iommu: true }))).toEqual({ ...noDemands, alignBytes: 4096 });
  });

  it.each([
    [{ limit: 0x2000 }, 0x1000, 0x1000, true],
    [{ limit: 0x2000 }, 0x1000, 0x1001, false],
    [{ alignBytes: 4096 }, 0x1800, 16, false],
    [{ maxSegments: 2, boundaryBytes: 0x1000 }, 0x800, 0x1000, true],
    [{ maxSegments: 1, boundaryBytes: 0x1000 }, 0x800, 0x1000, false],
    [{ maxSegments: 4, maxSegmentBytes: 0x400 }, 0x1000, 0x1000, true],
    [{ maxSegments: 3, maxSegmentBytes: 0x400 }, 0x1000, 0x1000, false],
  ])('%j are met by %i + %i bytes: %s', (demands, phys, length, met) => {
    expect(demandsUnmet(merged(demands), [{ phys: physAddr(phys), length }]) === '').toBe(met);
  });

  it.each([
    [{ limit: 4096 }, 4097, false],
    [{ alignBytes: 8192, boundaryBytes: 4096 }, 1, false],
    [{ maxSegments: 2, maxSegmentBytes: 4096 }, 8192, true],
    [{ maxSegments: 2, maxSegmentBytes: 4096 }, 8193, false],
    [{}, 2 ** 40, true],
  ])('%j can be met for %i bytes somewhere: %s', (demands, sizeBytes, possible) => {
    expect(demandsConflict(merged(demands), sizeBytes) === '').toBe(possible);
  });
});
