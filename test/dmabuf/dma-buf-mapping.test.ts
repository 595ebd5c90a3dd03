import { describe, expect, it } from 'vitest';
import { dmaBufCore } from '../../src/dmabuf/dma-buf-core.ts';
import type { CpuMapping, DmaBufRange } from '../../src/dmabuf/dma-buf-ops.ts';
import { bench, errno, invariant } from '../bench.ts';
import { testBuffer, thrown } from './exporter.ts';

describe('DmaBuf.mmap', () => {
  it.each([
    [0, 3],
    [1, 2],
    [2, 1],
  ])(
    'gives pages %s+%s of a buffer of 3.5 pages and holds a reference until the mapping is gone',
    (pgoff, pageCount) => {
      const b = bench();
      const buf = testBuffer(b, {}, { sizeBytes: 3.5 * 4096 });
      const { extents } = b.sim.run(() => buf.mmap({ pgoff, pageCount }));
      expect([extents[0]?.length, buf.references]).toEqual([4 * 4096, 2]);
      expect(buf.priv.calls).toEqual([`mmap ${pgoff}+${pageCount}`]);
      buf.put();
      expect(buf.references).toBe(1);
      buf.put();
    },
  );

  it.each([
    ['EINVAL', 0, 4],
    ['EINVAL', 3, 1],
    ['EINVAL', 2 ** 40, 1],
    ['EINVAL', -3, 1],
    ['EINVAL', -3, 2],
    ['EOVERFLOW', -3, 3],
    ['EOVERFLOW', -1, 1],
  ] as const)(
    'CORE-11: answers %s to pages %s+%s of a buffer of 3 pages, and takes no reference',
    (code, pgoff, pageCount) => {
      const b = bench();
      const buf = testBuffer(b, {}, { sizeBytes: 3 * 4096 });
      expect(() => b.sim.run(() => buf.mmap({ pgoff, pageCount }))).toThrow(errno(code));
      expect([buf.references, buf.priv.calls]).toEqual([1, []]);
      buf.put();
    },
  );

  it('lets the mapping outlive every other reference; release runs when it is gone', () => {
    const b = bench();
    const buf = testBuffer(b);
    b.sim.run(() => buf.mmap({ pgoff: 0, pageCount: 2 }));
    buf.put();
    b.sim.run();
    expect(buf.released).toBe(false);
    buf.put();
    b.sim.run();
    expect(buf.released).toBe(true);
  });
});

describe('DmaBuf.vmap', () => {
  it('CORE-09: calls the exporter for the first user only, and its vunmap after the last', () => {
    const b = bench();
    const buf = testBuffer(b);
    b.sim.run(function* () {
      const maps = [yield* buf.vmap(), yield* buf.vmap(), yield* buf.vmap()] as const;
      expect([new Set(maps).size, buf.vmapCount]).toEqual([1, 3]);
      for (const map of maps) yield* buf.vunmap(map);
      expect(buf.vmapCount).toBe(0);
    });
    expect(buf.priv.calls).toEqual(['vmap', 'vunmap']);
    buf.put();
  });

  it('CORE-10: is EINVAL without the exporter’s support, and so is mmap', () => {
    const b = bench();
    const buf = testBuffer(b, { without: ['vmap', 'mmap'] });
    expect(() => b.sim.run(() => buf.vmap())).toThrow(errno('EINVAL'));
    expect(() => b.sim.run(() => buf.mmap({ pgoff: 0, pageCount: 1 }))).toThrow(errno('EINVAL'));
    expect([buf.vmapCount, buf.references, dmaBufCore(b.sim).warnings]).toEqual([0, 1, []]);
    buf.put();
  });

  it('warns when the exporter fails, and asks it again the next time', () => {
    const b = bench();
    const buf = testBuffer(b);
    buf.priv.fault = { callback: 'vmap', nth: 1, code: 'ENOMEM' };
    b.sim.run(function* () {
      expect(yield* thrown(buf.vmap())).toEqual(errno('ENOMEM'));
      expect([buf.vmapCount, dmaBufCore(b.sim).warnings.length]).toEqual([0, 1]);
      yield* buf.vunmap(yield* buf.vmap());
    });
    expect(buf.priv.calls).toEqual(['vmap', 'vmap', 'vunmap']);
    buf.put();
  });

  it('does without vunmap when the exporter has none', () => {
    const b = bench();
    const buf = testBuffer(b, { without: ['vunmap'] });
    b.sim.run(function* () {
      yield* buf.vunmap(yield* buf.vmap());
      yield* buf.vunmap(yield* buf.vmap());
    });
    expect(buf.priv.count('vmap')).toBe(2);
    buf.put();
  });

  it('is made once by two tasks that ask while the exporter is still at it', () => {
    const b = bench();
    const buf = testBuffer(b, { waitNs: 10 });
    const users = ['a', 'b'].map((name) =>
      b.sim.spawn(name, function* () {
        const map = yield* buf.vmap();
        yield* b.sim.delay(50);
        yield* buf.vunmap(map);
        return map;
      }),
    );
    b.sim.run();
    expect([users[0]?.value === users[1]?.value, buf.priv.calls]).toEqual([true, ['vmap', 'vunmap']]);
    buf.put();
  });

  it('refuses a vunmap too many, one of another mapping, and the last put while one is left', () => {
    const b = bench();
    const buf = testBuffer(b);
    const other: CpuMapping = { extents: [], attribute: 'cached' };
    b.sim.run(function* () {
      const map = yield* buf.vmap();
      expect(yield* thrown(buf.vunmap(other))).toEqual(invariant('another mapping'));
      expect(() => buf.put()).toThrow(invariant('1 vmaps are left'));
      yield* buf.vunmap(map);
      expect(yield* thrown(buf.vunmap(map))).toEqual(invariant('more vunmaps than vmaps'));
    });
    buf.put();
  });
});

describe('a bracket for a part of the buffer', () => {
  it('reaches the exporter’s partial callbacks with the range; without them, the whole buffer is done', () => {
    const b = bench({ hazards: 'record' });
    const ranges: string[] = [];
    const note =
      (what: string) =>
      (_buf: unknown, dir: string, { offset, length }: DmaBufRange) => {
        ranges.push(`${what} ${dir} ${offset}+${length}`);
      };
    const whole = b.fakeBuffer();
    const buf = testBuffer(b);
    Object.assign(buf.ops, { beginCpuAccessPartial: note('begin'), endCpuAccessPartial: note('end') });
    b.sim.run(function* () {
      for (const each of [buf, whole]) {
        yield* each.beginCpuAccessPartial('from-device', { offset: 64, length: 128 });
        yield* each.endCpuAccessPartial('to-device', { offset: 0, length: 8192 });
      }
    });
    expect(ranges).toEqual(['begin from-device 64+128', 'end to-device 0+8192']);
    expect([buf.priv.calls, whole.priv.calls]).toEqual([[], ['begin from-device', 'end to-device']]);
    for (const each of [buf, whole]) each.put();
  });

  it.each([
    [0, 8193],
    [8192, 1],
    [-1, 1],
    [0.5, 1],
    [0, Number.NaN],
  ])('is EINVAL for offset %s, length %s of 8192 bytes', (offset, length) => {
    const b = bench();
    const buf = testBuffer(b);
    expect(() => b.sim.run(() => buf.beginCpuAccessPartial('to-device', { offset, length }))).toThrow(errno('EINVAL'));
    expect(buf.priv.calls).toEqual([]);
    buf.put();
  });
});
