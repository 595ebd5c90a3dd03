/** Import succeeds, the first job fails and takes the context with it; it should have been refused at import. */
import { describe, expect, it } from 'vitest';
import {
  armSoc,
  dmaMapSgtable,
  dmaUnmapSgtable,
  exportDmaBuf,
  GIB,
  Gpu,
  MIB,
  SgTable,
  SystemHeap,
  videoCore6,
} from '../../src/index.ts';
import { bytesOf, failing } from './scene.ts';

/** A GPU with 32 address bits imports a buffer above 4 GiB, and draws into it. */
function importAndDraw(exporterMaps: boolean) {
  const board = armSoc({ ramBytes: 8 * GIB, cmaBytes: 4 * MIB, hazards: 'record' });
  const gpu = new Gpu(board.addDevice({ name: 'gpu0', coherent: false, dmaMaskBits: 32 }), videoCore6);
  const far = board.addDevice({ name: 'npu0', coherent: false, dmaMaskBits: 40 });
  const heap = new SystemHeap(board.sim, board.pages, board.coherency);
  const memory = heap.alloc(4096, 'backing');
  const extents = memory.priv.memory.extents();
  const buf = exportDmaBuf(board.sim, {
    ...{ exporterName: 'npu0', name: 'tensor', sizeBytes: 4096, priv: {} },
    ops: {
      mapDmaBuf({ dev }, dir) {
        const sgt = new SgTable(extents);
        dmaMapSgtable(exporterMaps ? dev : far, sgt, dir);
        return sgt;
      },
      unmapDmaBuf: ({ dev }, sgt, dir) => dmaUnmapSgtable(exporterMaps ? dev : far, sgt, dir),
      release: () => memory.put(),
    },
  });
  const outcome = board.sim.run(function* () {
    let fence = 'no job';
    const error = yield* failing(function* () {
      const target = yield* gpu.importBuffer(buf, { access: 'write' });
      const drawn = yield* gpu.submitSynced({
        name: 'draw',
        writes: [target],
        run: (mem) => void mem.write(target.gpuVa, bytesOf(1, 4096), 0, 4096),
      });
      yield* drawn;
      fence = drawn.error ?? 'done';
    });
    yield* gpu.release();
    return { error, fence };
  });
  return { ...outcome, faults: gpu.faults.length, attachments: buf.attachments.length };
}

describe('U-18: "the import works, and then the first frame kills the GPU context"', () => {
  it('happens when the exporter does not map for the importer: the fault comes at use', () => {
    expect(importAndDraw(false)).toMatchObject({ error: 'none', fence: 'EIO', faults: 1 });
  });

  it('is a clean error at import when the exporter maps for the device that asks, and nothing is left', () => {
    const { error, fence, faults, attachments } = importAndDraw(true);
    expect(error).toMatch(/EIO.*gpu0/);
    expect([fence, faults, attachments]).toEqual(['no job', 0, 0]);
  });
});
