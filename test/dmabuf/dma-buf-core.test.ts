import { describe, expect, it } from 'vitest';
import { physToPfn } from '../../src/base/addr.ts';
import { dmaBufCore } from '../../src/dmabuf/dma-buf-core.ts';
import { bufferFdinfo, bufinfo, dmaBufStats } from '../../src/dmabuf/dma-buf-info.ts';
import { countLiveDmaFences } from '../../src/dmabuf/dma-fence-world.ts';
import { DmaResv, DmaResvUsage } from '../../src/dmabuf/dma-resv.ts';
import { bench, errno } from '../bench.ts';
import { testBuffer } from './exporter.ts';

describe('the release of a buffer', () => {
  it('runs as work of the task that put it, when that task runs what it has put off', () => {
    const b = bench();
    const [one, two] = [testBuffer(b, {}, { name: 'one' }), testBuffer(b, {}, { name: 'two' })];
    b.sim.run(function* () {
      one.put();
      two.put();
      expect([one.released, two.released]).toEqual([false, false]);
      yield* dmaBufCore(b.sim).runTaskWork();
      expect([one.released, two.released]).toEqual([true, true]);
      yield* b.sim.delay(1);
    });
    expect([one.priv.calls, two.priv.calls]).toEqual([['release'], ['release']]);
  });

  it.each([
    ['its own, when it asks', 'main', true],
    ['a task of its own, when only another task asks', 'release fake', false],
  ])('runs in %s', (_what, runsIn, asks) => {
    const b = bench();
    const seen: (string | undefined)[] = [];
    const buf = b.fakeBuffer({
      release({ priv }) {
        seen.push(b.sim.currentTask?.name);
        b.machine.pages.freePages(physToPfn(priv.memory.physAddress(0)), 2);
      },
    });
    b.sim.run(function* () {
      const other = b.sim.spawn('other', () => dmaBufCore(b.sim).runTaskWork());
      buf.put();
      if (asks) yield* dmaBufCore(b.sim).runTaskWork();
      yield* other.done;
    });
    b.sim.run();
    expect(seen).toEqual([runsIn]);
  });

  it('takes the buffer off the list before the exporter is called', () => {
    const b = bench();
    const core = dmaBufCore(b.sim);
    const listed: number[] = [];
    const buf = b.fakeBuffer({
      release({ priv }) {
        listed.push(core.buffers.length);
        b.machine.pages.freePages(physToPfn(priv.memory.physAddress(0)), 2);
      },
    });
    expect(core.buffers).toEqual([buf]);
    buf.put();
    b.sim.run();
    expect(listed).toEqual([0]);
  });

  it('gives the fences of its own reservation back, and leaves those of one that it shares', () => {
    const b = bench();
    const resv = new DmaResv(b.sim, 'shared');
    const [own, sharing] = [testBuffer(b), testBuffer(b, {}, { name: 'sharing', resv })];
    b.sim.run(function* () {
      for (const buf of [own, sharing]) {
        const fence = yield* b.fenceOn(buf.resv, DmaResvUsage.write);
        fence.put();
        buf.put();
      }
    });
    b.sim.run();
    expect([countLiveDmaFences(b.sim), own.resv.fences(DmaResvUsage.write), resv.fences(DmaResvUsage.write)]).toEqual([
      1,
      [],
      [expect.objectContaining({ refs: 1 })],
    ]);
    resv.fini();
    expect(countLiveDmaFences(b.sim)).toBe(0);
  });
});

describe('the file of a buffer', () => {
  it.each([
    [0x0, 0x0, 0x80005],
    [0x1, 0x1, 0x80006],
    [0x2, 0x2, 0x80007],
    [0x3, 0x3, 0x80004],
    [0x802, 0x802, 0x80007],
    [0x80402, 0x2, 0x80007],
    [0x241, 0x1, 0x80006],
  ])('exported with flags 0x%x keeps access mode and O_NONBLOCK only', (flags, kept, mode) => {
    const b = bench();
    const buf = testBuffer(b, {}, { flags });
    expect([buf.fileFlags, buf.fileMode]).toEqual([kept, mode]);
    buf.put();
  });

  it('takes a name of at most 31 bytes; an empty one is a name', () => {
    const b = bench();
    const buf = testBuffer(b);
    expect([buf.label, bufferFdinfo(buf)]).toEqual([null, ['size:\t8192', 'count:\t0', 'exp_name:\ttest']]);
    buf.setLabel('');
    expect(bufferFdinfo(buf)[3]).toBe('name:\t');
    buf.setLabel('x'.repeat(31));
    for (const tooLong of ['y'.repeat(32), 'é'.repeat(16)])
      expect(() => buf.setLabel(tooLong)).toThrow(errno('EINVAL'));
    expect(buf.label).toBe('x'.repeat(31));
    buf.put();
  });
});

describe('bufinfo', () => {
  it('A-07: lists buffers newest first, with flags, references, devices and fences', () => {
    const b = bench();
    const core = dmaBufCore(b.sim);
    expect(b.sim.run(() => bufinfo(core))).toBe(
      '\nDma-buf Objects:\nsize    \tflags   \tmode    \tcount   \texp_name\tino     \tname\n\nTotal 0 objects, 0 bytes\n',
    );
    const [old, young] = [testBuffer(b), testBuffer(b, {}, { sizeBytes: 5000, flags: 0, exporterName: 'udmabuf' })];
    old.setLabel('alpha');
    const lines = b.sim.run(function* () {
      const atts = [yield* old.attach(b.device('cam')), yield* old.attach(b.device('gpu'))];
      const fence = yield* b.fenceOn(old.resv, DmaResvUsage.write);
      const text = yield* bufinfo(core);
      fence.signal();
      for (const att of atts) yield* old.detach(att);
      return text.split('\n');
    });
    expect(lines.slice(3, 7)).toEqual([
      `00005000\t00000000\t00080005\t00000001\tudmabuf\t0000000${young.inode}\t<none>`,
      '\tAttached Devices:',
      'Total 0 devices attached',
      '',
    ]);
    expect(lines[7]).toBe(`00008192\t00000002\t00080007\t00000001\ttest\t0000000${old.inode}\talpha`);
    expect(lines[8]).toMatch(/^\twrite fence:\S+ \S+ seq 1 unsignalled$/);
    expect(lines.slice(9)).toEqual([
      '\tAttached Devices:',
      '\tgpu',
      '\tcam',
      'Total 2 devices attached',
      '',
      '',
      'Total 2 objects, 13192 bytes',
      '',
    ]);
    for (const each of [old, young]) each.put();
  });

  it('agrees with the numbers of dmaBufStats', () => {
    const b = bench();
    const core = dmaBufCore(b.sim);
    const [one, two] = [testBuffer(b, { dynamic: true }), testBuffer(b, {}, { exporterName: 'other' })];
    b.sim.run(function* () {
      const att = yield* one.attach(b.device('cam'));
      expect(dmaBufStats(core)).toEqual({
        buffers: 2,
        bytes: 16384,
        attachments: 1,
        tables: 1,
        pins: 1,
        exporters: [
          { exporter: 'other', buffers: 1, bytes: 8192 },
          { exporter: 'test', buffers: 1, bytes: 8192 },
        ],
      });
      yield* one.detach(att);
    });
    for (const each of [one, two]) each.put();
    b.sim.run();
    expect(dmaBufStats(core)).toEqual({ buffers: 0, bytes: 0, attachments: 0, tables: 0, pins: 0, exporters: [] });
  });
});

describe('two machines', () => {
  it('do not see one another’s buffers', () => {
    const [one, two] = [bench(), bench()];
    const buf = testBuffer(one);
    expect([dmaBufCore(one.sim).buffers.length, dmaBufCore(two.sim).buffers.length]).toEqual([1, 0]);
    buf.put();
  });
});
