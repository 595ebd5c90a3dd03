import { describe, expect, it } from 'vitest';
import { physToPfn } from '../../src/base/addr.ts';
import { ErrnoError } from '../../src/base/errors.ts';
import type { DmaDirection } from '../../src/dma-api/direction.ts';
import { dmaMapSgtable } from '../../src/dma-api/dma-map.ts';
import { type DmaBuf, exportDmaBuf } from '../../src/dmabuf/dma-buf.ts';
import type { DmaBufAttachment } from '../../src/dmabuf/dma-buf-attachment.ts';
import type { DmaBufExportInfo } from '../../src/dmabuf/dma-buf-export.ts';
import type { DmaBufOps } from '../../src/dmabuf/dma-buf-ops.ts';
import { DmaResvUsage } from '../../src/dmabuf/dma-resv.ts';
import type { Op } from '../../src/sim/op.ts';
import { type Bench, bench, errno, type FakePriv, invariant } from '../bench.ts';
import { everySchedule } from '../sim/every-schedule.ts';

type Ops = Partial<DmaBufOps<FakePriv>>;

const refuse = (code: 'ENODEV' | 'EBUSY' | 'EINTR' | 'ENOMEM') => (): never => {
  throw new ErrnoError(code, 'exporter');
};

describe('exportDmaBuf', () => {
  const ops: DmaBufOps<object> = { mapDmaBuf: () => null, unmapDmaBuf() {}, release() {} };
  const info = (change: object): DmaBufExportInfo<object> => ({
    exporterName: 'test',
    name: 'buf',
    sizeBytes: 4096,
    priv: {},
    ops,
    ...change,
  });

  it.each([
    ['ops.mapDmaBuf is missing', { ops: { ...ops, mapDmaBuf: undefined } }],
    ['ops.unmapDmaBuf is missing', { ops: { ...ops, unmapDmaBuf: undefined } }],
    ['ops.release is missing', { ops: { ...ops, release: undefined } }],
    ['ops.mapDmaBuf is missing', { ops: undefined }],
    ['priv is missing', { priv: null }],
    ['priv is missing', { priv: undefined }],
    ['ops.pin and ops.unpin', { ops: { ...ops, pin() {} } }],
    ['ops.pin and ops.unpin', { ops: { ...ops, unpin() {} } }],
    ['ops.cacheSgtMapping', { ops: { ...ops, cacheSgtMapping: true, pin() {}, unpin() {} } }],
    ['sizeBytes: -1', { sizeBytes: -1 }],
    ['sizeBytes: 184467', { sizeBytes: 2 ** 64 + 4096 }],
    ['sizeBytes: 1.5', { sizeBytes: 1.5 }],
    ['sizeBytes: NaN', { sizeBytes: Number.NaN }],
  ])('CORE-01: answers EINVAL and exports nothing: %s', (message, change) => {
    const b = bench();
    expect(() => exportDmaBuf(b.sim, info(change))).toThrow(errno('EINVAL'));
    expect(() => exportDmaBuf(b.sim, info(change))).toThrow(message);
    expect(b.count('dmabuf.export')).toBe(0);
  });

  it.each([0, 1, 4097])('accepts %s bytes: a size need not be whole pages', (sizeBytes) => {
    const b = bench();
    const buf = exportDmaBuf(b.sim, info({ sizeBytes }));
    expect([buf.sizeBytes, buf.references, buf.attachments.length, buf.released]).toEqual([sizeBytes, 1, 0, false]);
    buf.put();
  });
});

describe('the references of a DmaBuf', () => {
  it('let it live until the last put; release then runs once, as a task of its own, never inside the put', () => {
    const b = bench();
    const buf = b.fakeBuffer();
    b.sim.run(function* () {
      buf.get();
      buf.put();
      expect(buf.references).toBe(1);
      buf.put();
      expect([buf.references, buf.released, ...buf.priv.calls]).toEqual([0, false]);
      yield* b.sim.delay(0);
      expect([buf.released, ...buf.priv.calls]).toEqual([true, 'release']);
    });
    expect(b.count('dmabuf.release')).toBe(1);
  });

  it('may be put in a callback, which cannot wait: an exporter whose release waits still gets its turn', () => {
    const b = bench();
    const released: number[] = [];
    const buf = b.fakeBuffer({
      *release({ priv }) {
        yield* b.sim.delay(40);
        released.push(b.sim.now);
        b.machine.pages.freePages(physToPfn(priv.memory.physAddress(0)), 2);
      },
    });
    const fence = b.fence();
    fence.addCallback(() => {
      buf.put();
      return undefined;
    });
    b.sim.after(100, () => {
      fence.signal();
      expect(buf.priv.calls).toEqual([]);
      return undefined;
    });
    b.sim.run();
    expect([released, buf.released]).toEqual([[140], true]);
  });

  it('are counted in any schedule: two tasks put, one release', () => {
    everySchedule(100, (chooser) => {
      const b = bench({ chooser });
      const buf = b.fakeBuffer();
      buf.get();
      for (const name of ['a', 'b']) b.sim.spawn(name, () => buf.put());
      b.sim.run();
      expect(buf.priv.calls).toEqual(['release']);
    });
  });

  it('refuse everything after the last put, before and after the release, in words that name the call', () => {
    const b = bench();
    const [buf, device] = [b.fakeBuffer(), b.device('cam')];
    buf.put();
    const uses: readonly [string, () => Op<unknown> | unknown][] = [
      ['get', () => buf.get()],
      ['attach', () => buf.attach(device)],
      ['beginCpuAccess', () => buf.beginCpuAccess('from-device')],
      ['endCpuAccess', () => buf.endCpuAccess('from-device')],
      ['beginCpuAccess', () => buf.ioctlSync(1)],
    ];
    for (let round = 0; round < 2; round++) {
      for (const [name, use] of uses)
        expect(() => b.sim.run(use)).toThrow(invariant(`fake: ${name} after its last put`));
      expect(() => buf.put()).toThrow(invariant('fake: more puts than gets'));
      b.sim.run();
    }
    expect(buf.priv.calls).toEqual(['release']);
  });

  it('cannot be given up while a device is attached: the last put is refused and changes nothing', () => {
    const b = bench();
    const [buf, device] = [b.fakeBuffer(), b.device('cam')];
    const att = b.sim.run(() => buf.attach(device));
    expect(() => buf.put()).toThrow(invariant('last put while cam is attached'));
    expect(buf.references).toBe(1);
    b.sim.run(() => buf.detach(att));
    buf.put();
  });
});

describe('DmaBuf.attach and detach', () => {
  it('D12: lists the attachment when the exporter agrees, newest first, and tells the exporter when it goes', () => {
    const b = bench();
    const [buf, cam, gpu] = [b.fakeBuffer(), b.device('cam'), b.device('gpu')];
    const [first, second] = b.sim.run(function* () {
      return [yield* buf.attach(cam), yield* buf.attach(gpu)] as const;
    });
    expect(buf.attachments.map((att) => att.dev.name)).toEqual(['gpu', 'cam']);
    expect([first.attached, first.dev === cam, first.buf === buf, buf.references]).toEqual([true, true, true, 1]);
    b.sim.run(function* () {
      yield* buf.detach(first);
      yield* buf.detach(second);
    });
    expect([buf.attachments.length, first.attached]).toEqual([0, false]);
    expect(buf.priv.calls).toEqual(['attach cam', 'attach gpu', 'detach cam', 'detach gpu']);
    buf.put();
  });

  it("D12: gives the exporter's error to the importer and leaves no attachment; detach is not called", () => {
    const b = bench();
    const [buf, device] = [b.fakeBuffer({ attach: refuse('ENODEV') }), b.device('cam')];
    expect(() => b.sim.run(() => buf.attach(device))).toThrow(errno('ENODEV'));
    expect([buf.attachments.length, buf.references, ...buf.priv.calls]).toEqual([0, 1, 'attach cam']);
    buf.put();
  });

  it('takes a device twice, as two attachments', () => {
    const b = bench();
    const [buf, device] = [b.fakeBuffer(), b.device('cam')];
    b.sim.run(function* () {
      const atts = [yield* buf.attach(device), yield* buf.attach(device)] as const;
      expect(buf.attachments).toHaveLength(2);
      for (const att of atts) yield* buf.detach(att);
    });
    buf.put();
  });

  it('leaves no attachment of a task that is killed, wherever it waits', () => {
    for (const killNs of [5, 15]) {
      const b = bench();
      const buf = b.fakeBuffer({ attach: () => b.sim.delay(10) });
      const device = b.device('cam');
      b.sim.spawn('holder', () => buf.resv.withLock(() => b.sim.delay(100)));
      const task = b.sim.spawn('importer', () => buf.attach(device));
      b.sim.runUntil(killNs);
      task.kill();
      b.sim.run();
      expect([buf.attachments.length, task.outcome]).toEqual([0, 'killed']);
      expect(buf.priv.calls).toEqual(killNs === 5 ? ['attach cam'] : ['attach cam', 'detach cam']);
      buf.put();
    }
  });

  it('D14: loses no attachment in any schedule of two importers', () => {
    const schedules = everySchedule(5000, (chooser) => {
      const b = bench({ chooser });
      const buf = b.fakeBuffer({ attach: () => b.sim.delay(0) });
      const atts: DmaBufAttachment<FakePriv>[] = [];
      for (const name of ['cam', 'gpu']) {
        const device = b.device(name);
        b.sim.spawn(name, function* () {
          atts.push(yield* buf.attach(device));
        });
      }
      b.sim.run();
      expect(buf.attachments.map((att) => att.dev.name).sort()).toEqual(['cam', 'gpu']);
      for (const att of atts) b.sim.spawn('detach', () => buf.detach(att));
      b.sim.run();
      expect(buf.attachments).toHaveLength(0);
      buf.put();
    });
    expect(schedules).toBeLessThan(5000);
  });

  it('answers EBUSY to a detach with a mapping and EINVAL to one of something that is not attached; nothing changes', () => {
    const b = bench();
    const [buf, other, device] = [b.fakeBuffer(), b.fakeBuffer({}, 4096, 'other'), b.device('cam')];
    b.sim.run(function* () {
      const att = yield* buf.attach(device);
      const sgt = yield* att.mapUnlocked('to-device');
      yield* failing('EBUSY', buf.detach(att));
      expect([att.attached, att.mappings.size, sgt.nents]).toEqual([true, 1, 1]);
      yield* failing('EINVAL', other.detach(att));
      yield* att.unmapUnlocked(sgt, 'to-device');
      yield* buf.detach(att);
      yield* failing('EINVAL', buf.detach(att));
    });
    expect(buf.priv.calls.filter((call) => call.startsWith('detach'))).toEqual(['detach cam']);
    for (const each of [buf, other]) each.put();
  });

  it('must not be called with the reservation lock held', () => {
    const b = bench();
    const [buf, device] = [b.fakeBuffer(), b.device('cam')];
    expect(() => b.sim.run(() => buf.resv.withLock(() => buf.attach(device)))).toThrow('resv.held: attach of fake');
    expect([buf.attachments.length, ...buf.priv.calls]).toEqual([0]);
    buf.put();
  });
});

describe('DmaBufAttachment.map', () => {
  it("gives each attachment a table of its own, with its device's addresses, for the same memory (C3)", () => {
    const b = bench();
    const [buf, cam, gpu] = [b.fakeBuffer(), b.device('cam'), b.device('gpu', { iommu: true })];
    b.sim.run(function* () {
      const [one, two] = [yield* buf.attach(cam), yield* buf.attach(gpu)];
      const [first, second, third] = [
        yield* one.mapUnlocked('from-device'),
        yield* two.mapUnlocked('to-device'),
        yield* two.mapUnlocked('to-device'),
      ];
      expect(new Set([first, second, third]).size).toBe(3);
      expect([Number(first.dmaAddress(0)), second.dmaAddress(0) < 2 ** 32]).toEqual([
        buf.priv.memory.physAddress(0),
        true,
      ]);
      expect(second.dmaAddress(0)).not.toBe(third.dmaAddress(0));
      expect([...two.mappings.values()]).toEqual(['to-device', 'to-device']);
      yield* one.unmapUnlocked(first, 'from-device');
      for (const sgt of [second, third]) yield* two.unmapUnlocked(sgt, 'to-device');
      for (const att of [one, two]) yield* buf.detach(att);
    });
    buf.put();
  });

  it.each<[string, Ops, string]>([
    ['the exporter refuses', { mapDmaBuf: refuse('EBUSY') }, 'EBUSY'],
    [
      'the exporter refuses after a wait',
      {
        *mapDmaBuf(att) {
          yield* att.buf.sim.delay(10);
          throw new ErrnoError('EBUSY', 'exporter');
        },
      },
      'EBUSY',
    ],
    ['the exporter gives no table', { mapDmaBuf: () => null }, 'ENOMEM'],
    ['the device does not reach the memory', {}, 'EIO'],
  ])('leaves nothing mapped and the lock free when %s', (_why, behaviour, code) => {
    const b = bench();
    const [buf, device] = [b.fakeBuffer(behaviour), b.device('cam', { dmaMaskBits: 24 })];
    b.sim.run(function* () {
      const att = yield* buf.attach(device);
      expect(yield* thrown(att.mapUnlocked('to-device'))).toMatchObject({ name: 'ErrnoError', code });
      expect([att.mappings.size, buf.resv.isLocked, buf.references]).toEqual([0, false, 1]);
      yield* buf.detach(att);
    });
    buf.put();
  });

  it('A-04: catches an exporter that gives one table to two mappings, of one attachment or of two', () => {
    for (const same of [true, false]) {
      const b = bench({ atRest: false });
      const buf = b.fakeBuffer({
        mapDmaBuf(att, dir) {
          const { memory } = att.buf.priv;
          if (memory.nents === 0) dmaMapSgtable(att.dev, memory, dir);
          return memory;
        },
      });
      const [cam, gpu] = [b.device('cam'), b.device('gpu')];
      b.sim.run(function* () {
        const first = yield* buf.attach(cam);
        const second = same ? first : yield* buf.attach(gpu);
        yield* first.mapUnlocked('to-device');
        const error = yield* thrown(second.mapUnlocked('to-device'));
        const facts = { buf: 'fake', exporter: 'fake', devices: ['cam', second.dev.name] };
        expect(error).toMatchObject({ hazard: 'dmabuf.shared-table', facts });
        expect([first.mappings.size, second.mappings.size, buf.resv.isLocked]).toEqual([1, same ? 1 : 0, false]);
      });
    }
  });

  it.each([
    [30, 100],
    [130, 130],
  ])('waits for the exporter (%s ns), then for moves, and not for other users: until %s ns', (exporterNs, untilNs) => {
    const b = bench();
    const buf = b.fakeBuffer({
      *mapDmaBuf(att, dir) {
        yield* b.sim.delay(exporterNs);
        const table = att.buf.priv.memory.clone();
        dmaMapSgtable(att.dev, table, dir);
        return table;
      },
    });
    const device = b.device('nic', { coherent: true });
    b.sim.run(function* () {
      const move = yield* b.fenceOn(buf.resv, DmaResvUsage.kernel);
      const writer = yield* b.fenceOn(buf.resv, DmaResvUsage.write);
      b.sim.after(100, () => {
        move.signal();
        return undefined;
      });
      const att = yield* buf.attach(device);
      const sgt = yield* att.mapUnlocked('from-device');
      expect([b.sim.now, writer.signaled]).toEqual([untilNs, false]);
      yield* att.unmapUnlocked(sgt, 'from-device');
      yield* buf.detach(att);
    });
    buf.put();
  });

  it('leaves nothing mapped when the task is killed while it waits for a move', () => {
    const b = bench();
    const [buf, device] = [b.fakeBuffer(), b.device('cam', { iommu: true })];
    const att = b.sim.run(function* () {
      yield* b.fenceOn(buf.resv, DmaResvUsage.kernel);
      return yield* buf.attach(device);
    });
    const task = b.sim.spawn('importer', () => att.mapUnlocked('to-device'));
    b.sim.runUntil(50);
    expect([att.tables.size, buf.resv.isLocked]).toEqual([1, true]);
    task.kill();
    b.sim.run(() => task.exit);
    expect([att.tables.size, buf.resv.isLocked, buf.priv.calls.at(-1)]).toEqual([0, false, 'unmap cam to-device']);
    b.sim.run(() => buf.detach(att));
    buf.put();
  });

  it('leaves nothing mapped when the task is killed while it pays for the mapping', () => {
    const b = bench();
    const buf = b.fakeBuffer({
      mapDmaBuf(att) {
        b.sim.charge(100);
        return att.buf.priv.memory.clone();
      },
      unmapDmaBuf() {},
    });
    const att = b.sim.run(() => buf.attach(b.device('cam')));
    const task = b.sim.spawn('importer', () => att.mapUnlocked('to-device'));
    b.sim.runUntil(b.sim.now + 50);
    expect([att.mappings.size, buf.resv.isLocked]).toEqual([1, true]);
    task.kill();
    b.sim.run(() => task.exit);
    expect([att.mappings.size, buf.resv.isLocked, task.outcome]).toEqual([0, false, 'killed']);
    b.sim.run(() => buf.detach(att));
    buf.put();
  });

  it('is refused through an attachment that was detached', () => {
    const b = bench();
    const [buf, device] = [b.fakeBuffer(), b.device('cam')];
    b.sim.run(function* () {
      const att = yield* buf.attach(device);
      yield* buf.detach(att);
      expect(yield* thrown(att.mapUnlocked('to-device'))).toEqual(invariant('an attachment of cam that was detached'));
    });
    expect(buf.priv.calls).toEqual(['attach cam', 'detach cam']);
    buf.put();
  });
});

describe('DmaBufAttachment.unmap', () => {
  it('answers EINVAL to a table that is none of its own or another direction, and changes nothing', () => {
    const b = bench();
    const [buf, cam, gpu] = [b.fakeBuffer(), b.device('cam'), b.device('gpu')];
    b.sim.run(function* () {
      const [one, two] = [yield* buf.attach(cam), yield* buf.attach(gpu)];
      const [mine, foreign] = [yield* one.mapUnlocked('to-device'), yield* two.mapUnlocked('to-device')];
      yield* failing('EINVAL', one.unmapUnlocked(foreign, 'to-device'));
      yield* failing('EINVAL', one.unmapUnlocked(buf.priv.memory.clone(), 'to-device'));
      for (const dir of ['from-device', 'bidirectional'] as const)
        yield* failing('EINVAL', one.unmapUnlocked(mine, dir));
      expect([one.mappings.size, two.mappings.size, mine.nents, foreign.nents, buf.resv.isLocked]).toEqual([
        1,
        1,
        1,
        1,
        false,
      ]);
      yield* one.unmapUnlocked(mine, 'to-device');
      yield* failing('EINVAL', one.unmapUnlocked(mine, 'to-device'));
      yield* two.unmapUnlocked(foreign, 'to-device');
      for (const att of [one, two]) yield* buf.detach(att);
    });
    expect(buf.priv.calls.filter((call) => call.startsWith('unmap'))).toEqual([
      'unmap cam to-device',
      'unmap gpu to-device',
    ]);
    buf.put();
  });
});

describe('an exporter of generator callbacks', () => {
  /** All an importer and a CPU do; what was seen, with times. */
  function story(b: Bench, buf: DmaBuf<FakePriv>): string[] {
    const seen: string[] = [];
    b.sim.trace.onAny((event) => {
      if (event.kind.startsWith('dmabuf.')) seen.push(`${event.timeNs} ${event.kind}`);
      return undefined;
    });
    const device = b.device('cam');
    b.sim.run(function* () {
      const att = yield* buf.attach(device);
      const sgt = yield* att.mapUnlocked('from-device');
      yield* buf.beginCpuAccess('from-device');
      yield* buf.endCpuAccess('from-device');
      yield* att.unmapUnlocked(sgt, 'from-device');
      yield* buf.detach(att);
      buf.put();
    });
    b.sim.run();
    return [...seen, ...buf.priv.calls];
  }

  it('is used like one of plain callbacks', () => {
    const plain = bench();
    const waiting = bench();
    const noWait = function* (): Op<void> {};
    const generators = waiting.fakeBuffer({
      attach: noWait,
      detach: noWait,
      beginCpuAccess: noWait,
      endCpuAccess: noWait,
    });
    const expected = story(plain, plain.fakeBuffer());
    expect(story(waiting, generators)).toEqual(expected);
    expect(expected).toHaveLength(7 + 7);
  });

  it('lets time pass where it waits', () => {
    const b = bench();
    const wait = (): Op<void> => b.sim.delay(10);
    const buf = b.fakeBuffer({ attach: wait, detach: wait, beginCpuAccess: wait, endCpuAccess: wait });
    const cleanNs = 128 * 10 + 200;
    const seen = story(b, buf).filter((line) => line.includes('dmabuf.'));
    expect(seen).toEqual([
      '10 dmabuf.attach',
      `${10} dmabuf.map`,
      `${10 + cleanNs + 10} dmabuf.begin-cpu-access`,
      `${10 + cleanNs + 20} dmabuf.end-cpu-access`,
      `${10 + cleanNs + 20} dmabuf.unmap`,
      `${10 + 2 * cleanNs + 30} dmabuf.detach`,
      `${10 + 2 * cleanNs + 30} dmabuf.release`,
    ]);
  });
});

describe('a bracket of CPU access', () => {
  const cases: readonly [DmaDirection, keyof typeof DmaResvUsage, boolean][] = [
    ['from-device', 'kernel', true],
    ['from-device', 'write', true],
    ['from-device', 'read', false],
    ['from-device', 'bookkeep', false],
    ['to-device', 'write', true],
    ['to-device', 'read', true],
    ['to-device', 'bookkeep', false],
    ['bidirectional', 'write', true],
    ['bidirectional', 'read', true],
    ['bidirectional', 'bookkeep', false],
  ];

  it.each(cases)(
    'CORE-07, CORE-08: opened %s waits for a fence of usage %s: %s; closing it never does',
    (dir, usage, waits) => {
      const b = bench({ hazards: 'record' });
      const buf = b.fakeBuffer();
      b.sim.run(function* () {
        const fence = yield* b.fenceOn(buf.resv, DmaResvUsage[usage]);
        b.sim.after(250, () => {
          fence.signal();
          return undefined;
        });
        yield* buf.endCpuAccess(dir);
        expect(b.sim.now).toBe(0);
        yield* buf.beginCpuAccess(dir);
        expect(b.sim.now).toBe(waits ? 250 : 0);
      });
      expect(buf.priv.calls).toEqual([`end ${dir}`, `begin ${dir}`]);
      b.sim.run();
      buf.put();
    },
  );

  it('CORE-07: calls the exporter first and waits only when it succeeded', () => {
    const b = bench({ hazards: 'record' });
    const buf = b.fakeBuffer({ beginCpuAccess: refuse('EINTR') });
    const patient = b.fakeBuffer({ beginCpuAccess: () => b.sim.delay(30) }, 4096, 'patient');
    b.sim.run(function* () {
      const fences = [
        yield* b.fenceOn(buf.resv, DmaResvUsage.write),
        yield* b.fenceOn(patient.resv, DmaResvUsage.write),
      ];
      b.sim.after(100, () => {
        for (const fence of fences) fence.signal();
        return undefined;
      });
      yield* failing('EINTR', buf.beginCpuAccess('from-device'));
      expect([b.sim.now, b.count('dmabuf.begin-cpu-access')]).toEqual([0, 0]);
      yield* patient.beginCpuAccess('from-device');
      expect(b.sim.now).toBe(100);
    });
    for (const each of [buf, patient]) each.put();
  });

  it('does not wait until devices have unmapped the buffer (D21b)', () => {
    const b = bench();
    const [buf, device] = [b.fakeBuffer(), b.device('nic', { coherent: true })];
    b.sim.run(function* () {
      const att = yield* buf.attach(device);
      const sgt = yield* att.mapUnlocked('from-device');
      yield* buf.beginCpuAccess('from-device');
      yield* buf.endCpuAccess('from-device');
      expect(b.sim.now).toBe(0);
      yield* att.unmapUnlocked(sgt, 'from-device');
      yield* buf.detach(att);
    });
    buf.put();
  });

  it.each([
    [0, 'EINVAL'],
    [1, 'begin from-device'],
    [2, 'begin to-device'],
    [3, 'begin bidirectional'],
    [4, 'EINVAL'],
    [5, 'end from-device'],
    [6, 'end to-device'],
    [7, 'end bidirectional'],
    [8, 'EINVAL'],
    [9, 'EINVAL'],
    [-1, 'EINVAL'],
    [1.5, 'EINVAL'],
    [Number.NaN, 'EINVAL'],
    [2 ** 32 + 1, 'EINVAL'],
  ])('DMA_BUF_IOCTL_SYNC with flags %s: %s', (flags, expected) => {
    const b = bench({ hazards: 'record' });
    const buf = b.fakeBuffer();
    const answer = b.sim.run(function* () {
      const error = yield* thrown(buf.ioctlSync(flags));
      return error instanceof ErrnoError ? error.code : buf.priv.calls.join();
    });
    expect([answer, buf.priv.calls.length]).toEqual([expected, expected === 'EINVAL' ? 0 : 1]);
    buf.put();
  });
});

/** What `op` throws, or `undefined`. */
function* thrown(op: Op<unknown>): Op<unknown> {
  try {
    yield* op;
    return undefined;
  } catch (error) {
    return error;
  }
}

/** Expects `op` to throw an ErrnoError of `code`. */
function* failing(code: string, op: Op<unknown>): Op<void> {
  expect(yield* thrown(op)).toMatchObject({ name: 'ErrnoError', code });
}
