/** A process promises a frame by a fence in the buffer's reservation; a job that does not honour it is told which fence that is. */
import { describe, expect, it } from 'vitest';
import { Gpu } from '../../src/devices/gpu.ts';
import { DmaFence } from '../../src/dmabuf/dma-fence.ts';
import { allocDmaFenceContext } from '../../src/dmabuf/dma-fence-world.ts';
import { DmaResvUsage } from '../../src/dmabuf/dma-resv.ts';
import { bench } from '../bench.ts';

/** A job reads what the driver has written and not handed over yet. */
function causeOf(options: { readonly isPromised: boolean; readonly isSignaled?: boolean; readonly isOther?: boolean }) {
  const b = bench({ hazards: 'record', atRest: false });
  const gpu = new Gpu(b.device('gpu0'), { launchNs: 16, pixelNs: 1, bytesPerNs: 64 });
  b.sim.run(function* () {
    const buf = b.machine.systemHeap.alloc(4096, 'frame');
    const source = yield* gpu.importBuffer(buf);
    yield* buf.beginCpuAccess('to-device');
    const map = yield* buf.vmapUnlocked();
    const phys = map.extents[0]?.phys;
    if (phys === undefined) throw new Error('no memory');
    const accessor = {
      name: 'main',
      kind: 'cpu',
      via: 'vmap',
      beforeRead: '',
      afterWrite: '',
      object: 'frame',
    } as const;
    b.machine.coherency.cpuWrite(phys, new Uint8Array(64).fill(7), 0, 64, 'cached', accessor);
    if (options.isPromised) {
      const fence = new DmaFence(b.sim, allocDmaFenceContext(b.sim, 'filled'), 1);
      const { resv } = options.isOther === true ? b.machine.systemHeap.alloc(4096, 'other') : buf;
      yield* resv.withLock(() => {
        resv.reserveFences(1);
        resv.addFence(fence, DmaResvUsage.write);
      });
      if (options.isSignaled === true) fence.signal();
    }
    yield* gpu.submit({
      name: 'show',
      reads: [source],
      run(memory) {
        memory.read(source.gpuVa, new Uint8Array(64), 0, 64);
      },
    });
  });
  const [facts] = b.sim.hazards;
  if (facts === undefined || !('cause' in facts)) throw new Error('no report of bytes');
  return facts.cause;
}

describe('a job that reads what the CPU has not handed over', () => {
  it('forgot to wait, if a fence in the buffer promises the bytes: the report names the fence', () => {
    expect(causeOf({ isPromised: true })).toMatchObject({
      ...{ code: 'missing-fence', call: 'wait for fence filled:1', object: 'frame', by: 'gpu0' },
    });
  });

  it.each([{ isPromised: false }, { isPromised: true, isSignaled: true }, { isPromised: true, isOther: true }])(
    'is not to blame if nobody has promised them, or has said that they are there: %o',
    (options) => {
      expect(causeOf(options)).toMatchObject({ code: 'missing-end-cpu-access', by: 'main' });
    },
  );
});
