/** The device nodes that a machine comes with. */
import { describe, expect, it } from 'vitest';
import { MIB } from '../../src/base/units.ts';
import { SystemHeap } from '../../src/dmabuf/dma-heap.ts';
import { armSoc } from '../../src/platform/arm-soc.ts';
import type { Machine } from '../../src/platform/machine.ts';
import { pc } from '../../src/platform/pc.ts';
import { deviceNodes } from '../../src/uapi/device-nodes.ts';
import { DMA_HEAP_IOCTL_ALLOC } from '../../src/uapi/dma-heap-file.ts';
import { F } from '../../src/uapi/fcntl.ts';
import { F_SEAL, MFD } from '../../src/uapi/memfd.ts';
import { addDmaHeap, memfdCreate } from '../../src/uapi/node-setup.ts';
import { Process } from '../../src/uapi/process.ts';
import { SW_SYNC_PATH } from '../../src/uapi/sw-sync.ts';
import { UDMABUF_CREATE } from '../../src/uapi/udmabuf.ts';
import { errno } from '../bench.ts';

const PRESETS: readonly (readonly [string, () => Machine])[] = [
  ['armSoc', () => armSoc({ ramBytes: 16 * MIB, cmaBytes: 4 * MIB })],
  ['pc', () => pc()],
];

describe.each(PRESETS)('a process of the preset %s', (_name, preset) => {
  it('finds the heaps, udmabuf and sw_sync, and no graphics card', () => {
    const machine = preset();
    expect(deviceNodes(machine.sim).paths).toEqual([
      '/dev/dma_heap/reserved',
      '/dev/dma_heap/system',
      '/dev/udmabuf',
      SW_SYNC_PATH,
    ]);
    const app = machine.addProcess({ name: 'app' });
    expect(() => machine.sim.run(() => app.open('/dev/dri/card0'))).toThrow(errno('ENOENT'));
    app.exit();
  });

  it('gets buffers from them, and leaves nothing', () => {
    const machine = preset();
    const { sim, memory, coherency, pages } = machine;
    const app = machine.addProcess({ name: 'app' });
    sim.run(function* () {
      for (const heap of ['system', 'reserved']) {
        const node = yield* app.open(`/dev/dma_heap/${heap}`);
        const { fd } = yield* app.ioctl(node, DMA_HEAP_IOCTL_ALLOC, { len: 5000 });
        expect(app.fdinfo(fd)).toContain(`exp_name:\t${heap}`);
      }
      const memfd = memfdCreate(app, { name: 'pixels', flags: MFD.allowSealing, pages, coherency });
      app.ftruncate(memfd, 8192);
      app.fcntl(memfd, F.addSeals, F_SEAL.shrink);
      yield* app.ioctl(yield* app.open('/dev/udmabuf'), UDMABUF_CREATE, { memfd, size: 8192 });
      expect(app.fdinfo(app.fds.open.at(-1) ?? -1)).toContain('exp_name:\tudmabuf');
      app.exit();
    });
    expect(memory.ledger.liveBytes).toBe(0);
  });
});

describe('DeviceNodes', () => {
  it('lets a node that is added take the place of one that came with the machine; a second one is EEXIST', () => {
    const { sim, pages, coherency } = armSoc({ ramBytes: 16 * MIB, cmaBytes: 4 * MIB });
    const own = new SystemHeap(sim, pages, coherency, { type: 'uncached' });
    addDmaHeap(sim, own);
    expect(() => addDmaHeap(sim, own)).toThrow(errno('EEXIST'));
    const app = new Process(sim, coherency, { name: 'app' });
    const fd = sim.run(() => app.open('/dev/dma_heap/system'));
    expect(app.fds.file(fd)).toMatchObject({ heap: own });
    app.exit();
  });

  it('takes a node away for good, also one that came with the machine', () => {
    const { sim, coherency } = armSoc({ ramBytes: 16 * MIB, cmaBytes: 4 * MIB });
    const app = new Process(sim, coherency, { name: 'app' });
    deviceNodes(sim).remove('/dev/udmabuf');
    expect(() => sim.run(() => app.open('/dev/udmabuf'))).toThrow(errno('ENOENT'));
    expect(() => deviceNodes(sim).remove('/dev/udmabuf')).toThrow(errno('ENOENT'));
  });
});
