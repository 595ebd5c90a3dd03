import { describe, expect, it } from 'vitest';
import { ErrnoError } from '../../src/base/errors.ts';
import type { HazardFacts } from '../../src/base/hazards.ts';
import type { DmaBufAttachment } from '../../src/dmabuf/dma-buf-attachment.ts';
import { dmaBufCore } from '../../src/dmabuf/dma-buf-core.ts';
import { linux61, linux62, linux71 } from '../../src/dmabuf/dma-buf-profile.ts';
import { DmaResvUsage } from '../../src/dmabuf/dma-resv.ts';
import type { Op } from '../../src/sim/op.ts';
import { bench, errno, invariant } from '../bench.ts';
import { everySchedule } from '../sim/every-schedule.ts';
import { testBuffer, thrown } from './exporter.ts';

const told = { moveNotify: () => undefined };
const withMoves = { ...linux61, name: 'linux-6.1 with DMABUF_MOVE_NOTIFY', moveNotify: true };

/** The hazard that `op` is ended by. */
function* hazardOf(op: Op<unknown>): Op<HazardFacts['hazard'] | undefined> {
  const error = yield* thrown(op);
  return error instanceof Error && 'hazard' in error ? (error.hazard as HazardFacts['hazard']) : undefined;
}

describe('a static importer of a dynamic exporter', () => {
  it('CORE-03: is pinned and mapped bidirectionally at attach, under the lock, and unmapped and unpinned at detach', () => {
    const b = bench();
    const buf = testBuffer(b, { dynamic: true });
    b.sim.run(function* () {
      const att = yield* buf.attach(b.device('cam'));
      expect([att.keptTable?.nents, att.pinCount, [...att.tables.values()]]).toEqual([1, 1, ['bidirectional']]);
      const sgt = yield* att.map('to-device');
      expect(sgt).toBe(att.keptTable);
      yield* att.unmap(sgt, 'to-device');
      yield* buf.detach(att);
      expect([att.keptTable, att.pinCount, att.tables.size]).toEqual([null, 0, 0]);
    });
    expect(buf.priv.calls).toEqual([
      'attach cam',
      'pin cam locked',
      'mapDmaBuf cam bidirectional locked',
      'unmapDmaBuf cam bidirectional locked',
      'unpin cam locked',
      'detach cam',
    ]);
    buf.put();
  });

  it('waits at attach for moves that are under way, and not for other users', () => {
    for (const [usage, untilNs] of [
      [DmaResvUsage.kernel, 100],
      [DmaResvUsage.write, 0],
    ] as const) {
      const b = bench();
      const buf = testBuffer(b, { dynamic: true });
      b.sim.run(function* () {
        const fence = yield* b.fenceOn(buf.resv, usage);
        b.sim.after(100, () => {
          fence.signal();
          return undefined;
        });
        const att = yield* buf.attach(b.device('cam', { coherent: true }));
        expect(b.sim.now).toBe(untilNs);
        yield* buf.detach(att);
      });
      b.sim.run();
      buf.put();
    }
  });
});

describe('a dynamic importer', () => {
  it('of a static exporter is mapped bidirectionally at attach, without the lock; later maps give that table, whatever the direction', () => {
    const b = bench();
    const buf = testBuffer(b);
    b.sim.run(function* () {
      const att = yield* buf.dynamicAttach(b.device('cam'), { ...told, allowPeer2Peer: true });
      expect([att.peer2peer, att.isDynamic, att.keptTable === null]).toEqual([true, true, false]);
      const tables = yield* buf.resv.withLock(function* () {
        return [yield* att.map('to-device'), yield* att.map('from-device')];
      });
      expect(tables).toEqual([att.keptTable, att.keptTable]);
      yield* att.unmapUnlocked(tables[0] as NonNullable<typeof att.keptTable>, 'to-device');
      yield* buf.detach(att);
    });
    expect(buf.priv.calls).toEqual([
      'attach cam',
      'mapDmaBuf cam bidirectional',
      'unmapDmaBuf cam bidirectional',
      'detach cam',
    ]);
    buf.put();
  });

  it('of a dynamic exporter pins the buffer while it has it mapped, unless the kernel has move notifications', () => {
    for (const profile of [linux61, withMoves]) {
      const b = bench();
      const buf = testBuffer(b, { dynamic: true }, { profile });
      b.sim.run(function* () {
        const att = yield* buf.dynamicAttach(b.device('cam'), told);
        const sgt = yield* att.mapUnlocked('to-device');
        yield* att.unmapUnlocked(sgt, 'to-device');
        yield* buf.detach(att);
      });
      const pins = profile.moveNotify ? [] : ['pin cam locked'];
      const unpins = profile.moveNotify ? [] : ['unpin cam locked'];
      expect(buf.priv.calls).toEqual([
        'attach cam',
        ...pins,
        'mapDmaBuf cam to-device locked',
        'unmapDmaBuf cam to-device locked',
        ...unpins,
        'detach cam',
      ]);
      buf.put();
    }
  });

  it('does not wait for fences when it maps: it looks at them itself', () => {
    const b = bench();
    const buf = testBuffer(b, { dynamic: true });
    b.sim.run(function* () {
      const move = yield* b.fenceOn(buf.resv, DmaResvUsage.kernel);
      const att = yield* buf.dynamicAttach(b.device('cam', { coherent: true }), told);
      const sgt = yield* att.mapUnlocked('to-device');
      expect([b.sim.now, move.signaled]).toEqual([0, false]);
      yield* att.unmapUnlocked(sgt, 'to-device');
      yield* buf.detach(att);
      move.signal();
    });
    buf.put();
  });

  it('without moveNotify is refused with EINVAL and a warning, except where it may do without', () => {
    const b = bench();
    const [buf, newer] = [testBuffer(b), testBuffer(b, { dynamic: true }, { profile: linux71 })];
    expect(() => b.sim.run(() => buf.dynamicAttach(b.device('cam'), {}))).toThrow(errno('EINVAL'));
    expect([buf.attachments.length, buf.priv.calls]).toEqual([0, []]);
    expect(dmaBufCore(b.sim).warnings.map(({ op }) => op)).toEqual(['dynamicAttach']);
    const att = b.sim.run(() => newer.dynamicAttach(b.device('gpu'), {}));
    expect([att.revocable, att.isDynamic]).toEqual([false, true]);
    b.sim.run(() => newer.detach(att));
    for (const each of [buf, newer]) each.put();
  });
});

describe('DmaBuf.moveNotify', () => {
  it('tells dynamic importers with the lock held, the newest first, and static ones not at all', () => {
    const b = bench();
    const buf = testBuffer(b, { dynamic: true }, { profile: withMoves });
    const seen: string[] = [];
    const listen = (att: DmaBufAttachment): undefined => {
      seen.push(`${att.dev.name} ${buf.resv.isLocked}`);
      return undefined;
    };
    b.sim.run(function* () {
      const atts = [
        yield* buf.dynamicAttach(b.device('first'), { moveNotify: listen }),
        yield* buf.attach(b.device('static')),
        yield* buf.dynamicAttach(b.device('second'), { moveNotify: listen }),
      ];
      yield* buf.resv.withLock(() => buf.moveNotify());
      expect(seen).toEqual(['second true', 'first true']);
      for (const att of atts) yield* buf.detach(att);
    });
    buf.put();
  });

  it('tells the others too when one importer fails, and its error reaches the exporter', () => {
    const b = bench();
    const buf = testBuffer(b, { dynamic: true });
    const seen: string[] = [];
    const failing = {
      moveNotify(): undefined {
        throw new RangeError('importer');
      },
    };
    const listening = {
      moveNotify(att: DmaBufAttachment): undefined {
        seen.push(att.dev.name);
        return undefined;
      },
    };
    b.sim.run(function* () {
      const atts = [
        yield* buf.dynamicAttach(b.device('old'), listening),
        yield* buf.dynamicAttach(b.device('middle'), failing),
        yield* buf.dynamicAttach(b.device('new'), listening),
      ];
      expect(yield* thrown(buf.resv.withLock(() => buf.moveNotify()))).toBeInstanceOf(RangeError);
      expect([seen, buf.resv.isLocked]).toEqual([['new', 'old'], false]);
      for (const att of atts) yield* buf.detach(att);
    });
    buf.put();
  });
});

describe('pin and unpin', () => {
  it('reach the exporter through a dynamic attachment; a static exporter has nothing to pin', () => {
    for (const dynamic of [true, false]) {
      const b = bench();
      const buf = testBuffer(b, { dynamic });
      b.sim.run(function* () {
        const att = yield* buf.dynamicAttach(b.device('gpu'), told);
        yield* buf.resv.withLock(function* () {
          yield* att.pin();
          expect(att.pinCount).toBe(dynamic ? 1 : 0);
          yield* att.unpin();
          expect(att.pinCount).toBe(0);
        });
        yield* buf.detach(att);
      });
      expect(buf.priv.calls.filter((call) => call.includes('pin'))).toEqual(
        dynamic ? ['pin gpu locked', 'unpin gpu locked'] : [],
      );
      expect(dmaBufCore(b.sim).warnings).toEqual([]);
      buf.put();
    }
  });

  it('through a static attachment warn and are done all the same', () => {
    const b = bench();
    const buf = testBuffer(b, { dynamic: true });
    b.sim.run(function* () {
      const att = yield* buf.attach(b.device('cam'));
      yield* buf.resv.withLock(() => att.pin());
      expect(att.pinCount).toBe(2);
      yield* buf.resv.withLock(() => att.unpin());
      yield* buf.detach(att);
    });
    expect(dmaBufCore(b.sim).warnings.map(({ op }) => op)).toEqual(['pin', 'unpin']);
    expect([buf.priv.count('pin'), buf.priv.count('unpin')]).toEqual([2, 2]);
    buf.put();
  });
});

describe('the reservation lock', () => {
  it('must be held by dynamic importers to map, unmap, pin, unpin and move, or the call is named and nothing happens', () => {
    const b = bench();
    const buf = testBuffer(b, { dynamic: true });
    b.sim.run(function* () {
      const att = yield* buf.dynamicAttach(b.device('gpu'), told);
      const sgt = yield* att.mapUnlocked('to-device');
      const before = [...buf.priv.calls];
      const move = (): Op<unknown> => b.sim.spawn('mover', () => buf.moveNotify()).done;
      for (const use of [
        () => att.map('to-device'),
        () => att.unmap(sgt, 'to-device'),
        () => att.pin(),
        () => att.unpin(),
        move,
      ]) {
        expect(yield* hazardOf(use())).toBe('resv.not-held');
      }
      expect(buf.priv.calls).toEqual(before);
      yield* att.unmapUnlocked(sgt, 'to-device');
      yield* buf.detach(att);
    });
    expect(b.sim.hazards[0]).toMatchObject({ call: 'map', task: 'main', holder: 'nobody', rules: 'linux-6.1' });
    buf.put();
  });

  it('must not be held to attach, detach, open or close a bracket, or to use a form that takes it', () => {
    const b = bench();
    const buf = testBuffer(b);
    b.sim.run(function* () {
      const att = yield* buf.attach(b.device('cam'));
      const sgt = yield* att.mapUnlocked('to-device');
      const before = [...buf.priv.calls];
      const uses: readonly (() => Op<unknown>)[] = [
        () => buf.attach(b.device('late')),
        () => buf.detach(att),
        () => buf.beginCpuAccess('to-device'),
        () => buf.endCpuAccess('to-device'),
        () => att.mapUnlocked('to-device'),
        () => att.unmapUnlocked(sgt, 'to-device'),
      ];
      for (const use of uses) {
        expect(yield* hazardOf(buf.resv.withLock(use))).toBe('resv.held');
        b.machine.sim.hazards.length = 0;
      }
      expect([buf.priv.calls, buf.resv.isLocked]).toEqual([before, false]);
      yield* att.unmapUnlocked(sgt, 'to-device');
      yield* buf.detach(att);
    });
    buf.put();
  });

  it('is a matter of the profile for a static importer: 6.1 maps with or without, 6.2 only with it', () => {
    const b = bench();
    const [old, newer] = [testBuffer(b), testBuffer(b, {}, { profile: linux62 })];
    b.sim.run(function* () {
      const [one, two] = [yield* old.attach(b.device('cam')), yield* newer.attach(b.device('gpu'))];
      const bare = yield* one.map('to-device');
      const held = yield* old.resv.withLock(() => one.map('to-device'));
      yield* one.unmap(bare, 'to-device');
      yield* old.resv.withLock(() => one.unmap(held, 'to-device'));
      expect(yield* hazardOf(two.map('to-device'))).toBe('resv.not-held');
      expect(yield* hazardOf(newer.vmap())).toBe('resv.not-held');
      const map = yield* newer.vmapUnlocked();
      yield* newer.vunmapUnlocked(map);
      yield* old.detach(one);
      yield* newer.detach(two);
    });
    expect(old.priv.calls.slice(1, 3)).toEqual(['mapDmaBuf cam to-device', 'mapDmaBuf cam to-device locked']);
    for (const each of [old, newer]) each.put();
  });

  it('of the early mapping follows the profile as well', () => {
    const b = bench();
    const buf = testBuffer(b, {}, { profile: linux62 });
    const att = b.sim.run(() => buf.dynamicAttach(b.device('gpu'), told));
    b.sim.run(() => buf.detach(att));
    expect(buf.priv.calls).toEqual([
      'attach gpu',
      'mapDmaBuf gpu bidirectional locked',
      'unmapDmaBuf gpu bidirectional locked',
      'detach gpu',
    ]);
    buf.put();
  });

  it('must be left by a callback as it was found', () => {
    const b = bench();
    const keeps = b.fakeBuffer({
      *beginCpuAccess(buffer) {
        yield* buffer.resv.lock();
      },
    });
    b.sim.run(function* () {
      expect(yield* hazardOf(keeps.beginCpuAccess('to-device'))).toBe('resv.changed');
      keeps.resv.unlock();
    });
    expect(b.sim.hazards[0]).toMatchObject({ call: 'beginCpuAccess', buf: 'fake', holder: 'main' });
    keeps.put();
  });

  it('is the core profile of a machine for buffers that bring none', () => {
    const b = bench();
    expect(dmaBufCore(b.sim).profile).toBe(linux61);
    dmaBufCore(b.sim).profile = linux62;
    const buf = testBuffer(b);
    expect(buf.profile).toBe(linux62);
    buf.put();
  });
});

describe('a kept table', () => {
  it.each([
    ['bidirectional', ['bidirectional', 'to-device', 'from-device'], []],
    ['to-device', ['to-device'], ['bidirectional', 'from-device']],
    ['from-device', ['from-device'], ['bidirectional', 'to-device']],
  ] as const)('A-05: made %s serves %j and answers EBUSY to %j', (first, served, refused) => {
    const b = bench();
    const buf = testBuffer(b, { cached: true });
    b.sim.run(function* () {
      const att = yield* buf.attach(b.device('cam'));
      const sgt = yield* att.mapUnlocked(first);
      for (const dir of served) {
        expect(yield* att.mapUnlocked(dir)).toBe(sgt);
        yield* att.unmapUnlocked(sgt, dir);
      }
      for (const dir of refused) expect(yield* thrown(att.mapUnlocked(dir))).toEqual(errno('EBUSY'));
      yield* att.unmapUnlocked(sgt, first);
      expect([att.mappings.size, att.tables.size]).toEqual([0, 1]);
      yield* buf.detach(att);
    });
    expect(buf.priv.calls).toEqual([
      'attach cam',
      `mapDmaBuf cam ${first} locked`,
      `unmapDmaBuf cam ${first}`,
      'detach cam',
    ]);
    buf.put();
  });

  it('is counted: a third unmap after two maps is EINVAL', () => {
    const b = bench();
    const buf = testBuffer(b, { cached: true });
    b.sim.run(function* () {
      const att = yield* buf.attach(b.device('cam'));
      const sgt = yield* att.map('to-device');
      yield* att.map('to-device');
      for (let i = 0; i < 2; i++) yield* att.unmap(sgt, 'to-device');
      expect(yield* thrown(att.unmap(sgt, 'to-device'))).toEqual(errno('EINVAL'));
      yield* buf.detach(att);
    });
    buf.put();
  });

  it('goes at detach even while it is in use', () => {
    const b = bench();
    const buf = testBuffer(b, { cached: true });
    b.sim.run(function* () {
      const att = yield* buf.attach(b.device('cam'));
      const sgt = yield* att.map('to-device');
      yield* buf.detach(att);
      expect([sgt.nents, att.mappings.size, buf.attachments.length]).toEqual([0, 0, 0]);
      expect(yield* thrown(buf.detach(att))).toEqual(errno('EINVAL'));
      expect(yield* thrown(att.map('to-device'))).toEqual(invariant('was detached'));
    });
    buf.put();
  });

  it('D14: goes once in every schedule of two tasks that detach at the same time; the other gets EINVAL', () => {
    const schedules = everySchedule(2000, (chooser) => {
      const b = bench({ chooser });
      const buf = testBuffer(b, { waitNs: 0 });
      const att = b.sim.run(() => buf.dynamicAttach(b.device('cam', { coherent: true }), told));
      const tasks = ['a', 'b'].map((name) => b.sim.spawn(name, () => thrown(buf.detach(att))));
      b.sim.run();
      const ends = tasks.map(({ value }) => (value instanceof ErrnoError ? value.code : String(value)));
      expect(ends.sort()).toEqual(['EINVAL', 'undefined']);
      expect([buf.priv.count('unmapDmaBuf'), buf.priv.count('detach'), buf.attachments.length]).toEqual([1, 1, 0]);
      buf.put();
    });
    expect(schedules).toBeLessThan(2000);
  });

  it('is one even when two tasks make it at the same time', () => {
    const b = bench();
    const buf = testBuffer(b, { cached: true, waitNs: 10 });
    const att = b.sim.run(() => buf.attach(b.device('cam')));
    const users = ['a', 'b'].map((name) =>
      b.sim.spawn(name, function* () {
        const sgt = yield* att.map('to-device');
        yield* b.sim.delay(100);
        yield* att.unmap(sgt, 'to-device');
        return sgt;
      }),
    );
    b.sim.run();
    expect([new Set(users.map(({ value }) => value)).size, att.tables.size]).toEqual([2, 1]);
    b.sim.run(() => buf.detach(att));
    expect([buf.priv.count('mapDmaBuf'), buf.priv.count('unmapDmaBuf')]).toEqual([2, 2]);
    buf.put();
  });
});
