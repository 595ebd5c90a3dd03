/** Causes that are easily blamed on the wrong one of two: the other device, the other process, the other call of a mapping. */
import { describe, expect, it } from 'vitest';
import { type PhysAddr, pfnToPhys } from '../../src/base/addr.ts';
import type { HazardFacts } from '../../src/base/hazards.ts';
import { CpuView } from '../../src/cache/cpu-view.ts';
import { videoCore6 } from '../../src/devices/gpu/gpu-params.ts';
import { Gpu } from '../../src/devices/gpu.ts';
import { dmaAllocPages } from '../../src/dma-api/dma-alloc.ts';
import { dmaMappingError, dmaMapSingle, dmaSyncSingleForCpu, dmaUnmapSingle } from '../../src/dma-api/dma-single.ts';
import { DMA_BUF_SYNC } from '../../src/dmabuf/dma-buf-sync.ts';
import { armSoc } from '../../src/platform/arm-soc.ts';
import type { Machine } from '../../src/platform/machine.ts';
import { DMA_BUF_IOCTL_SYNC } from '../../src/uapi/dma-buf-file.ts';

const BYTES = 4096;
const OLD = new Uint8Array(64).fill(2);
const NEW = new Uint8Array(64).fill(9);

function machine(): Machine {
  return armSoc({ hazards: 'record' });
}

function driverView(soc: Machine, phys: PhysAddr, sizeBytes: number): CpuView {
  const accessor = { name: 'driver', kind: 'cpu', via: 'linear map', beforeRead: '', afterWrite: '' } as const;
  return new CpuView(soc.coherency, { extents: [{ phys, sizeBytes }], attribute: 'cached', accessor });
}

function causes(facts: readonly HazardFacts[]): string[] {
  return facts.flatMap((each) =>
    'cause' in each ? [`${each.cause.code}: ${each.cause.call} by ${each.cause.by}`] : [],
  );
}

describe('the missing call', () => {
  it('is that of the device that wrote past an old dirty line, not of the one that snoops it later', () => {
    const soc = machine();
    const camera = soc.addDevice({ name: 'cam0', coherent: false });
    const encoder = soc.addDevice({ name: 'enc0', coherent: true });
    const phys = pfnToPhys(soc.pages.allocPages({ order: 0, owner: 'driver' }));
    const filled = dmaMapSingle(camera, phys, BYTES, 'from-device');
    const read = dmaMapSingle(encoder, phys, BYTES, 'to-device');
    expect([dmaMappingError(camera, filled), dmaMappingError(encoder, read)]).toEqual([false, false]);
    driverView(soc, phys, BYTES).write(0, OLD); // and no sync for the camera
    camera.port.write(filled, NEW, 0, 64);
    encoder.port.read(read, new Uint8Array(64), 0, 64);
    const [cause] = causes(soc.sim.hazards);
    expect(cause).toBe('missing-sync-for-device: dmaSyncSingleForDevice(cam0, from-device) by cam0 driver');
  });

  it('is the map, when the mapping itself has a direction in which the device does not write', () => {
    const soc = machine();
    const nic = soc.addDevice({ name: 'nic0', coherent: false });
    const phys = pfnToPhys(soc.pages.allocPages({ order: 0, owner: 'driver' }));
    const view = driverView(soc, phys, BYTES);
    view.write(0, OLD);
    const address = dmaMapSingle(nic, phys, BYTES, 'to-device');
    expect(dmaMappingError(nic, address)).toBe(false);
    nic.port.write(address, NEW, 0, 64);
    dmaUnmapSingle(nic, address, BYTES, 'to-device');
    view.read(0, new Uint8Array(64));
    expect(causes(soc.sim.hazards)).toEqual(['wrong-direction: dmaMapSingle(nic0, bidirectional) by nic0 driver']);
  });

  it('is the sync of fresh pages for the device, not their allocation once more', () => {
    const soc = machine();
    const nic = soc.addDevice({ name: 'nic0', coherent: false });
    const pages = dmaAllocPages(nic, BYTES, 'from-device');
    const phys = pages?.extents[0]?.phys;
    if (pages == null || phys === undefined) throw new Error('no pages');
    nic.port.write(pages.address, NEW, 0, 64);
    soc.coherency.evict(phys, 64); // the zeros of the allocation leave the cache late
    dmaSyncSingleForCpu(nic, pages.address, BYTES, 'from-device');
    driverView(soc, phys, BYTES).read(0, new Uint8Array(64));
    const [cause] = causes(soc.sim.hazards);
    expect(cause).toBe('missing-sync-for-device: dmaSyncSingleForDevice(nic0, from-device) by nic0 driver');
  });

  it('is a process’s own START, whatever bracket another process has open', () => {
    const soc = machine();
    const device = soc.addDevice({ name: 'dev0', coherent: false, iommu: true });
    const [a, b] = [soc.addProcess({ name: 'A' }), soc.addProcess({ name: 'B' })];
    const flags = { start: DMA_BUF_SYNC.start | DMA_BUF_SYNC.read, end: DMA_BUF_SYNC.end | DMA_BUF_SYNC.read };
    soc.sim.run(function* () {
      const frame = soc.systemHeap.alloc(BYTES, 'frame');
      const fd = a.fds.install(frame.get());
      const pixels = yield* b.mmap(b.fds.install(frame));
      const sgt = yield* (yield* frame.attach(device)).mapUnlocked('bidirectional');
      yield* a.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: flags.start });
      pixels.read(0, 64);
      device.port.write(sgt.dmaAddress(0), NEW, 0, 64);
      pixels.read(0, 64);
      yield* a.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: flags.end });
    });
    expect(causes(soc.sim.hazards)).toEqual(['missing-begin-cpu-access: ioctl(DMA_BUF_IOCTL_SYNC, START | READ) by B']);
  });
});

it('tells of both readers whose bytes one write of a job goes over', () => {
  const soc = machine();
  const gpu = new Gpu(soc.addDevice({ name: 'gpu0', coherent: true, iommu: true }), videoCore6);
  const readers = ['A', 'B'].map((name) => soc.addProcess({ name }));
  soc.sim.run(function* () {
    const frame = soc.systemHeap.alloc(BYTES, 'frame');
    const target = yield* gpu.importBuffer(frame);
    const views = [];
    for (const reader of readers) views.push(yield* reader.mmap(reader.fds.install(frame.get())));
    const fence = gpu.submit({
      name: 'draw',
      writes: [target],
      *run(memory) {
        yield* soc.sim.delay(100_000);
        memory.write(target.gpuVa, new Uint8Array(BYTES).fill(1), 0, BYTES);
      },
    });
    yield* soc.sim.delay(30_000);
    for (const [i, view] of views.entries()) view.read(64 * i, 64);
    yield* fence;
  });
  const races = soc.sim.hazards.flatMap((facts) => ('first' in facts ? [facts.first.who] : []));
  expect(races).toEqual(['A', 'B']);
});
