import { describe, expect, it } from 'vitest';
import { ErrnoError } from '../../../src/base/errors.ts';
import { BufferImport } from '../../../src/devices/shared/buffer-import.ts';
import { dmaMapSgtable } from '../../../src/dma-api/dma-map.ts';
import { SgTable } from '../../../src/dma-api/sg-table.ts';
import { DmaResvUsage } from '../../../src/dmabuf/dma-resv.ts';
import { rangesInUse } from '../../iova-use.ts';
import { Bench, errnoMessage } from '../bench.ts';

describe('BufferImport', () => {
  it('takes reference, attachment and mapping, and gives them back', () => {
    const bench = new Bench();
    const dev = bench.device('dev', { behindIommu: true });
    const buf = bench.buffer('buf', 8192);
    bench.sim.run(function* () {
      const imported = yield* BufferImport.open(buf, dev, 'to-device');
      expect([buf.references, buf.attachments.length, imported.sgt]).toEqual([2, 1, null]);
      const sgt = yield* imported.map();
      expect([yield* imported.map(), imported.sgt]).toEqual([sgt, sgt]);
      expect(imported.window.sizeBytes).toBe(8192);
      yield* imported.close();
      expect(() => imported.window).toThrow('buf is not mapped for dev');
    });
    bench.expectNothingLeft();
  });

  it('leaves no reference when the exporter refuses', () => {
    const bench = new Bench();
    const refuse = () => {
      throw new ErrnoError('EBUSY', 'attach');
    };
    const buf = bench.buffer('buf', 4096, { ops: { attach: refuse } });
    const dev = bench.device('dev');
    errnoMessage('EBUSY', () => bench.sim.run(() => BufferImport.open(buf, dev, 'to-device')));
    bench.expectNothingLeft();
  });

  it('leaves nothing when its task is killed in attach, in map and after the mapping was made', () => {
    const bench = new Bench();
    const { sim } = bench;
    const dev = bench.device('dev', { behindIommu: true });
    const slow = bench.buffer('slow', 4096, {
      ops: {
        *attach() {
          yield* sim.delay(100);
        },
        *mapDmaBuf(att, dir) {
          yield* sim.delay(100);
          const sgt = new SgTable(att.buf.priv);
          dmaMapSgtable(att.dev, sgt, dir);
          return sgt;
        },
      },
    });
    const moving = bench.fenceOn(slow, DmaResvUsage.kernel);
    const leftByMap: (number | undefined)[] = [];
    for (const killAtNs of [50, 150, 250]) {
      const start = sim.now;
      const task = sim.spawn('importer', function* () {
        const imported = yield* BufferImport.open(slow, dev, 'to-device');
        try {
          yield* imported.map();
        } finally {
          leftByMap.push(rangesInUse(dev));
          yield* imported.close();
        }
      });
      sim.runUntil(start + killAtNs);
      expect(rangesInUse(dev)).toBe(killAtNs === 250 ? 1 : 0);
      task.kill();
      sim.run();
      expect(task.outcome).toBe('killed');
      expect([slow.attachments.length, slow.references, rangesInUse(dev)]).toEqual([0, 1, 0]);
    }
    expect(leftByMap).toEqual([0, 0]);
    moving.signal();
    bench.expectNothingLeft();
  });
});
