/** A PC with a bit of everything that has an address. */
import { dmaAddr, PAGE_SIZE, type PhysAddr, pfn, pfnToPhys, physAddr } from '../../src/base/addr.ts';
import { GIB, KIB } from '../../src/base/units.ts';
import { GpuContext } from '../../src/devices/gpu/gpu-context.ts';
import type { Device } from '../../src/dma-api/device.ts';
import { dmaMapSgtable, dmaUnmapSgtable } from '../../src/dma-api/dma-map.ts';
import { dmaMapPage, dmaUnmapPage } from '../../src/dma-api/dma-single.ts';
import { SgTable } from '../../src/dma-api/sg-table.ts';
import { type PcOptions, pc } from '../../src/platform/pc.ts';
import { DMA_HEAP_IOCTL_ALLOC } from '../../src/uapi/dma-heap-file.ts';
import { O } from '../../src/uapi/file.ts';

/** What {@link scene} has put where. */
export type Scene = ReturnType<typeof scene>;

/** A machine, and numbers of every space. Buffers have two pages each and lie above 4 GiB. */
export function scene(options: PcOptions = {}) {
  const machine = pc({ highRamBytes: 4 * GIB, swiotlbBytes: 512 * KIB, hazards: 'record', ...options });
  const take = (): PhysAddr => pfnToPhys(machine.pages.allocPages({ order: 1, owner: 'driver' }));
  const add = (name: string, spec: Omit<Parameters<typeof machine.addDevice>[0], 'name' | 'coherent'> = {}): Device =>
    machine.addDevice({ name, coherent: true, ...spec });
  const window = { cpuStart: physAddr(0), dmaStart: dmaAddr(0x20_0000_0000), sizeBytes: 16 * GIB };
  const cam = add('cam0', { iommu: true });
  const gpu = add('gpu0', { iommu: true, dmaMaskBits: 48 });
  const nic = add('nic0', { dmaMaskBits: 64 });
  const isp = add('isp0', { dmaMaskBits: 64, dmaRanges: [window] });
  const sound = add('sound0', { dmaMaskBits: 32 });

  const frame = take();
  const tables = [cam, gpu, isp].map((dev) => mapped(dev, frame));
  const [camAt = -1, gpuAt = -1, ispAt = -1] = tables.map((sgt) => sgt.dmaAddress(0));
  const [context, neighbour] = ['context0', 'context1'].map((name) => new GpuContext(`gpu0/${name}`, gpu));
  const [, forGpu] = tables;
  if (context === undefined || neighbour === undefined || forGpu === undefined) throw new Error('scene');
  const gpuVa = context.mapBuffer(forGpu, { writable: true });
  const otherVa = [1, 2, 3].map(() => neighbour.mapBuffer(forGpu, { writable: true })).at(-1) ?? -1;
  const part = dmaMapPage(cam, physAddr(take() + 0x140), 100, 'to-device');
  const nicOnly = take();
  const nicAt = dmaMapPage(nic, nicOnly, PAGE_SIZE, 'to-device');
  const copied = take();
  const slot = dmaMapPage(sound, copied, PAGE_SIZE, 'bidirectional');
  const endedTable = mapped(cam, take());
  const endedAt = endedTable.dmaAddress(0);
  dmaUnmapSgtable(cam, endedTable, 'bidirectional');
  const nicEndedAt = dmaMapPage(nic, take(), PAGE_SIZE, 'to-device');
  dmaUnmapPage(nic, nicEndedAt, PAGE_SIZE, 'to-device');
  const unmapped = take();
  const app = machine.addProcess({ name: 'app' });
  const userVa = machine.sim.run(function* () {
    const heap = yield* app.open('/dev/dma_heap/system');
    const { fd } = yield* app.ioctl(heap, DMA_HEAP_IOCTL_ALLOC, { len: 8192, fd_flags: O.rdwr });
    return (yield* app.mmap(fd)).address;
  });
  const userPhys = app.mappings[0]?.vma.backing.memory.extents[0]?.phys ?? -1;
  const freed = take();
  machine.pages.freePages(pfn(freed / PAGE_SIZE), 2);
  return {
    ...{ machine, sim: machine.sim, cam, gpu, nic, isp, sound, context, tables },
    ...{ frame, camAt, gpuAt, ispAt, gpuVa, otherVa, part, nicOnly, nicAt, copied, slot },
    ...{ endedAt, nicEndedAt, unmapped, freed, userVa, userPhys },
  };
}

function mapped(dev: Device, phys: PhysAddr): SgTable {
  const sgt = new SgTable([{ phys, length: 2 * PAGE_SIZE }]);
  dmaMapSgtable(dev, sgt, 'bidirectional');
  return sgt;
}
