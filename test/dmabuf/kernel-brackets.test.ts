/** Brackets of CPU access that drivers make: which are not paired, and what is none of their fault. */
import { describe, expect, it } from 'vitest';
import type { BracketFacts } from '../../src/base/watch-hazards.ts';
import type { DmaBuf } from '../../src/dmabuf/dma-buf.ts';
import { checkLeaks } from '../../src/inspect/leaks.ts';
import type { Op } from '../../src/sim/op.ts';
import { type Bench, bench } from '../bench.ts';

/** Runs `program` with a buffer of the heap that is put at the end. @returns the reports of brackets. */
function reportsOf(program: (buf: DmaBuf, b: Bench) => Op<void>, buffer?: (b: Bench) => DmaBuf): BracketFacts[] {
  const b = bench({ hazards: 'record', atRest: false });
  b.sim.run(function* () {
    const buf: DmaBuf = buffer === undefined ? b.machine.systemHeap.alloc(4096, 'frame') : buffer(b);
    yield* program(buf, b);
    buf.put();
    yield* b.sim.delay(10);
  });
  return b.sim.hazards.filter((facts) => facts.hazard === 'dmabuf.unbalanced-sync');
}

describe('a driver that brackets CPU access', () => {
  it('hears nothing while every begin has its end', () => {
    const found = reportsOf(function* (buf) {
      yield* buf.beginCpuAccess('to-device');
      yield* buf.endCpuAccess('to-device');
      yield* buf.beginCpuAccess('bidirectional');
      yield* buf.beginCpuAccessPartial('from-device', { offset: 0, length: 64 });
      yield* buf.endCpuAccessPartial('from-device', { offset: 0, length: 64 });
      yield* buf.endCpuAccess('from-device');
      yield* buf.endCpuAccess('to-device');
    });
    expect(found).toEqual([]);
  });

  it('is told of an end without a begin, and of the call that is missing', () => {
    const found = reportsOf(function* (buf) {
      yield* buf.endCpuAccess('to-device');
    });
    expect(found).toMatchObject([
      {
        ...{ buf: 'frame', who: 'main', call: 'endCpuAccess(to-device)', open: '' },
        remedy: 'begin with beginCpuAccess(to-device) before the access',
      },
    ]);
  });

  it('is told of an end for another direction, and then of the bracket that stays open', () => {
    const found = reportsOf(function* (buf) {
      yield* buf.beginCpuAccess('from-device');
      yield* buf.endCpuAccess('to-device');
    });
    expect(found).toMatchObject([
      { call: 'endCpuAccess(to-device)', open: expect.stringContaining('beginCpuAccess(from-device) at ') },
      { call: 'release', remedy: 'endCpuAccess(from-device) before release' },
    ]);
  });

  it('is told of a begin that is open when the buffer is released, with what is left of it', () => {
    const found = reportsOf(function* (buf) {
      yield* buf.beginCpuAccess('bidirectional');
      yield* buf.endCpuAccess('from-device');
    });
    expect(found).toMatchObject([
      { who: 'main', call: 'release', open: expect.stringMatching(/^beginCpuAccess\(to-device\) at /) },
    ]);
  });

  it('may end in a worker what it began elsewhere', () => {
    const found = reportsOf(function* (buf, b) {
      yield* buf.beginCpuAccess('to-device');
      yield* b.sim.spawn('worker', () => buf.endCpuAccess('to-device')).done;
    });
    expect(found).toEqual([]);
  });

  it('is not to blame when it is killed inside', () => {
    const found = reportsOf(function* (buf, b) {
      const worker = b.sim.spawn('worker', function* () {
        yield* buf.beginCpuAccess('to-device');
        yield* b.sim.delay(100);
        yield* buf.endCpuAccess('to-device');
      });
      yield* b.sim.delay(50);
      worker.kill();
      yield* worker.exit;
    });
    expect(found).toEqual([]);
  });

  it('is counted for calls of the ioctl itself, too, in the words of the ioctl', () => {
    const found = reportsOf(function* (buf) {
      yield* buf.ioctlSync(2);
    });
    expect(found).toMatchObject([{ remedy: 'ioctl(DMA_BUF_IOCTL_SYNC, END | WRITE) before release' }]);
  });

  it('opens nothing with a begin that fails', () => {
    const found = reportsOf(
      function* (buf) {
        try {
          yield* buf.beginCpuAccess('to-device');
        } catch {}
      },
      (b) =>
        b.fakeBuffer({
          beginCpuAccess: () => {
            throw new Error('refused');
          },
        }),
    );
    expect(found).toEqual([]);
  });
});

describe('an exporter that brackets another buffer inside its own callback', () => {
  it.each(['both', 'begin only'])('is part of the call that it is asked for (%s)', (steps) => {
    const found = reportsOf(
      function* (buf) {
        yield* buf.beginCpuAccess('to-device');
        yield* buf.endCpuAccess('to-device');
      },
      (b) => {
        const inner = b.machine.systemHeap.alloc(4096, 'inner');
        return b.fakeBuffer({
          beginCpuAccess: (_buf, dir) => inner.beginCpuAccess(dir),
          endCpuAccess: function* (_buf, dir) {
            if (steps === 'both') yield* inner.endCpuAccess(dir);
            inner.put();
          },
        });
      },
    );
    expect(found).toEqual([]);
  });
});

describe('checkLeaks', () => {
  it('reports brackets that tasks have left open which are over, once, and not those of tasks that go on', () => {
    const b = bench({ hazards: 'record', atRest: false });
    const [left, busy] = ['left', 'busy'].map((name) => b.machine.systemHeap.alloc(4096, name));
    if (left === undefined || busy === undefined) throw new Error('no buffers');
    b.sim.spawn('server', () => busy.beginCpuAccess('from-device'), { daemon: true });
    b.sim.spawn(
      'waiter',
      function* () {
        yield* busy.beginCpuAccess('to-device');
        yield* b.sim.delay(1_000_000);
        yield* busy.endCpuAccess('to-device');
      },
      { daemon: true },
    );
    b.sim.run(() => left.beginCpuAccess('to-device'));
    const bracketsFound = () => b.sim.hazards.filter(({ hazard }) => hazard === 'dmabuf.unbalanced-sync');
    checkLeaks(b.sim, { running: ['server'] });
    expect(bracketsFound()).toMatchObject([{ buf: 'left', who: 'main', call: 'the end of the program' }]);
    checkLeaks(b.sim, { running: ['server'] });
    expect(bracketsFound()).toHaveLength(1);
  });
});
