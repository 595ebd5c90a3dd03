/** Every callback that can fail, at every point, with any kind of attachments: the caller gets its errno, and the state is as before. */
import { describe, expect, it } from 'vitest';
import type { ErrnoCode } from '../../src/base/errno.ts';
import type { DmaBuf } from '../../src/dmabuf/dma-buf.ts';
import type { DmaBufAttachment } from '../../src/dmabuf/dma-buf-attachment.ts';
import { linux61, linux62 } from '../../src/dmabuf/dma-buf-profile.ts';
import { DmaResvUsage } from '../../src/dmabuf/dma-resv.ts';
import type { Op } from '../../src/sim/op.ts';
import { type Bench, bench, errno } from '../bench.ts';
import { type FailingCallback, stateOf, type TestExporter, testBuffer, thrown } from './exporter.ts';

type Kind = 'static' | 'dynamic';

/** One attempt: which callback it makes fail, and what is tried. */
interface Attempt {
  readonly name: string;
  readonly callback: FailingCallback;
  /** The kind of exporter it needs; both without. */
  readonly exporter?: Kind;
  /** The kind of attachment that it is tried on; both without. */
  readonly importer?: Kind;
  readonly tried: (on: Subject) => Op<unknown>;
}

interface Subject {
  readonly b: Bench;
  readonly buf: DmaBuf<TestExporter>;
  readonly kind: Kind;
  /** The attachment it is tried on. */
  readonly att: DmaBufAttachment<TestExporter>;
}

const told = { moveNotify: () => undefined };

const ATTEMPTS: readonly Attempt[] = [
  { name: 'attach', callback: 'attach', tried: attachAnother },
  { name: 'attach that pins', callback: 'pin', exporter: 'dynamic', importer: 'static', tried: attachAnother },
  { name: 'attach that maps', callback: 'mapDmaBuf', exporter: 'dynamic', importer: 'static', tried: attachAnother },
  {
    name: 'dynamic attach that maps',
    callback: 'mapDmaBuf',
    exporter: 'static',
    importer: 'dynamic',
    tried: attachAnother,
  },
  { name: 'map', callback: 'mapDmaBuf', exporter: 'static', importer: 'static', tried: mapIt },
  { name: 'dynamic map', callback: 'mapDmaBuf', exporter: 'dynamic', importer: 'dynamic', tried: mapIt },
  { name: 'map that pins', callback: 'pin', exporter: 'dynamic', importer: 'dynamic', tried: mapIt },
  {
    name: 'pin',
    callback: 'pin',
    exporter: 'dynamic',
    importer: 'dynamic',
    tried: ({ buf, att }) => buf.resv.withLock(() => att.pin()),
  },
  { name: 'begin', callback: 'beginCpuAccess', tried: ({ buf }) => buf.beginCpuAccess('from-device') },
  { name: 'end', callback: 'endCpuAccess', tried: ({ buf }) => buf.endCpuAccess('to-device') },
  { name: 'mmap', callback: 'mmap', tried: ({ buf }) => buf.mmap({ pgoff: 0, pageCount: 1 }) },
  { name: 'vmap', callback: 'vmap', tried: ({ buf }) => buf.vmap() },
];

function* attachAnother({ b, buf, kind }: Subject): Op<unknown> {
  const device = b.device('another');
  return yield* kind === 'static' ? buf.attach(device) : buf.dynamicAttach(device, told);
}

function mapIt({ att }: Subject): Op<unknown> {
  return att.mapUnlocked('to-device');
}

const CASES = ATTEMPTS.flatMap((attempt) =>
  (['static', 'dynamic'] as const)
    .filter((exporter) => attempt.exporter === undefined || attempt.exporter === exporter)
    .flatMap((exporter) =>
      (['static', 'dynamic'] as const)
        .filter((importer) => attempt.importer === undefined || attempt.importer === importer)
        .flatMap((importer) =>
          ([0, 1, 2] as const).flatMap((at) =>
            ([null, 10] as const).map((waitNs) => ({ attempt, exporter, importer, at, waitNs })),
          ),
        ),
    ),
);

const WHICH = ['first', 'second', 'last'] as const;
/** The rules differ with the attachment, for the table not to become three times as long. */
const PROFILES = [linux61, linux62, { ...linux61, moveNotify: true }] as const;
const ERRORS: readonly ErrnoCode[] = ['EINTR', 'ENOMEM', 'EBUSY', 'EIO'];

function* setUp(b: Bench, buf: DmaBuf<TestExporter>, kind: Kind): Op<DmaBufAttachment<TestExporter>[]> {
  const atts: DmaBufAttachment<TestExporter>[] = [];
  for (const name of ['one', 'two', 'three']) {
    atts.push(yield* kind === 'static' ? buf.attach(b.device(name)) : buf.dynamicAttach(b.device(name), told));
  }
  return atts;
}

function* tearDown(buf: DmaBuf<TestExporter>): Op<void> {
  for (const att of [...buf.attachments]) yield* buf.detach(att);
}

describe('a callback that fails', () => {
  it.each(
    CASES.map(
      (each) =>
        [
          each.attempt.name,
          `${each.exporter} exporter, ${each.importer} importers, ${WHICH[each.at]}, ${each.waitNs === null ? 'plain' : 'waiting'}`,
          each,
        ] as const,
    ),
  )(
    'leaves everything as it was and gives its errno: %s (%s)',
    (_name, _what, { attempt, exporter, importer, at, waitNs }) => {
      const isOf61 = attempt.callback === 'vmap' || attempt.name === 'map that pins';
      const profile = isOf61 ? linux61 : (PROFILES[at] ?? linux61);
      const b = bench();
      const buf = testBuffer(b, { dynamic: exporter === 'dynamic', waitNs }, { profile });
      const code = ERRORS[at] ?? 'EIO';
      b.sim.run(function* () {
        const att = (yield* setUp(b, buf, importer))[at];
        if (att === undefined) throw new Error('no attachment');
        const before = stateOf(buf);
        buf.priv.fault = { callback: attempt.callback, nth: buf.priv.count(attempt.callback) + 1, code };
        expect(yield* thrown(attempt.tried({ b, buf, att, kind: importer }))).toEqual(errno(code));
        expect(buf.priv.fault.nth).toBe(buf.priv.count(attempt.callback));
        expect(stateOf(buf)).toEqual(before);
        yield* tearDown(buf);
      });
      expect(buf.priv.count('pin') - (attempt.callback === 'pin' ? 1 : 0)).toBe(buf.priv.count('unpin'));
      buf.put();
    },
  );

  it('at attach itself is not followed by detach; a failing early pin or map is', () => {
    for (const callback of ['attach', 'pin', 'mapDmaBuf'] as const) {
      const b = bench();
      const buf = testBuffer(b, { dynamic: true });
      buf.priv.fault = { callback, nth: 1, code: 'EBUSY' };
      expect(() => b.sim.run(() => buf.attach(b.device('cam')))).toThrow(errno('EBUSY'));
      expect(buf.priv.count('detach')).toBe(callback === 'attach' ? 0 : 1);
      buf.put();
    }
  });

  it('does not keep the same call from working afterwards', () => {
    const b = bench();
    const buf = testBuffer(b, { dynamic: true });
    buf.priv.fault = { callback: 'mapDmaBuf', nth: 1, code: 'ENOMEM' };
    const device = b.device('cam');
    b.sim.run(function* () {
      expect(yield* thrown(buf.attach(device))).toEqual(errno('ENOMEM'));
      const att = yield* buf.attach(device);
      expect(att.keptTable?.nents).toBe(1);
      yield* buf.detach(att);
    });
    buf.put();
  });

  it('is undone as well when the task is killed while its attach waits for a move', () => {
    const b = bench();
    const buf = testBuffer(b, { dynamic: true });
    const device = b.device('cam', { coherent: true });
    const fence = b.sim.run(() => b.fenceOn(buf.resv, DmaResvUsage.kernel));
    const task = b.sim.spawn('importer', () => buf.attach(device));
    b.sim.runUntil(50);
    expect([buf.attachments.length, buf.resv.isLocked]).toEqual([1, true]);
    task.kill();
    b.sim.run(() => task.exit);
    expect([task.outcome, buf.attachments.length, buf.resv.isLocked]).toEqual(['killed', 0, false]);
    expect(buf.priv.calls.slice(-3)).toEqual([
      'unmapDmaBuf cam bidirectional locked',
      'unpin cam locked',
      'detach cam',
    ]);
    fence.signal();
    buf.put();
  });
});
