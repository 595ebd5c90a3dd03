import { describe, expect, it } from 'vitest';
import type { DmaBufAttachment } from '../../src/dmabuf/dma-buf-attachment.ts';
import { linux71 } from '../../src/dmabuf/dma-buf-profile.ts';
import { Revocation } from '../../src/dmabuf/dma-buf-revoke.ts';
import { DmaResvUsage } from '../../src/dmabuf/dma-resv.ts';
import { bench, errno } from '../bench.ts';
import { testBuffer, thrown } from './exporter.ts';

function revocable() {
  const b = bench();
  const revocation = new Revocation();
  const buf = testBuffer(b, { dynamic: true }, { profile: linux71 });
  const { mapDmaBuf, attach } = buf.ops;
  Object.assign(buf.ops, {
    attach(...args: Parameters<NonNullable<typeof attach>>) {
      revocation.checkAttach(args[1]);
      return attach?.call(buf.ops, ...args);
    },
    mapDmaBuf(...args: Parameters<typeof mapDmaBuf>) {
      revocation.checkMap(buf);
      return mapDmaBuf.call(buf.ops, ...args);
    },
  });
  return { b, buf, revocation };
}

describe('taking a buffer back', () => {
  it('tells importers, waits for all work and for the last unmap, and lets no map work afterwards', () => {
    const { b, buf, revocation } = revocable();
    const told: string[] = [];
    const moveNotify = (att: DmaBufAttachment): undefined => {
      told.push(`${att.dev.name} @${b.sim.now}`);
      return undefined;
    };
    b.sim.run(function* () {
      const att = yield* buf.dynamicAttach(b.device('nic', { coherent: true }), { moveNotify });
      const sgt = yield* att.mapUnlocked('to-device');
      const work = yield* b.fenceOn(buf.resv, DmaResvUsage.bookkeep);
      b.sim.after(100, () => {
        work.signal();
        return undefined;
      });
      const unmapper = b.sim.spawn('importer', function* () {
        yield* b.sim.delay(200);
        yield* att.unmapUnlocked(sgt, 'to-device');
      });
      yield* revocation.revoke(buf);
      expect([b.sim.now, att.tables.size, unmapper.outcome]).toEqual([200, 0, 'returned']);
      expect(told).toEqual(['nic @0']);
      expect(yield* thrown(att.mapUnlocked('to-device'))).toEqual(errno('ENODEV'));
      yield* revocation.revoke(buf);
      expect(told).toHaveLength(1);
      revocation.restore();
      yield* att.unmapUnlocked(yield* att.mapUnlocked('to-device'), 'to-device');
      yield* buf.detach(att);
    });
    buf.put();
  });

  it('admits only importers that can be told', () => {
    const { b, buf, revocation } = revocable();
    b.sim.run(function* () {
      expect(yield* thrown(buf.attach(b.device('cam')))).toEqual(errno('EOPNOTSUPP'));
      expect(yield* thrown(buf.dynamicAttach(b.device('gpu'), {}))).toEqual(errno('EOPNOTSUPP'));
      yield* revocation.revoke(buf);
      const late = buf.dynamicAttach(b.device('nic'), { moveNotify: () => undefined });
      expect(yield* thrown(late)).toEqual(errno('ENODEV'));
    });
    expect([buf.attachments.length, revocation.revoked]).toEqual([0, true]);
    buf.put();
  });

  it('is EBUSY while an importer that can not be told has the buffer mapped, and nothing changes', () => {
    const b = bench();
    const revocation = new Revocation();
    const buf = testBuffer(b, { dynamic: true });
    b.sim.run(function* () {
      const att = yield* buf.attach(b.device('cam'));
      expect(yield* thrown(revocation.revoke(buf))).toEqual(errno('EBUSY'));
      expect([revocation.revoked, att.tables.size, buf.resv.isLocked]).toEqual([false, 1, false]);
      yield* buf.detach(att);
      yield* revocation.revoke(buf);
    });
    buf.put();
  });
});
