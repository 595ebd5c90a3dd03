/** What each step of a program does on the simulator: one call of the public API, or one access. */
import type { DmaAddr, PhysAddr } from '../../src/base/addr.ts';
import type { Display } from '../../src/devices/display.ts';
import type { GpuMemory } from '../../src/devices/gpu/gpu-memory.ts';
import { SgWindow } from '../../src/devices/shared/sg-window.ts';
import { dmaFreeAttrs, dmaFreeCoherent } from '../../src/dma-api/dma-alloc.ts';
import {
  dmaMapSgtable,
  dmaSyncSgtableForCpu,
  dmaSyncSgtableForDevice,
  dmaUnmapSgtable,
} from '../../src/dma-api/dma-map.ts';
import {
  dmaMappingError,
  dmaMapSingle,
  dmaSyncSingleForCpu,
  dmaSyncSingleForDevice,
  dmaSyncSingleRangeForCpu,
  dmaSyncSingleRangeForDevice,
  dmaUnmapSingle,
} from '../../src/dma-api/dma-single.ts';
import { dmaSyncRectForCpu, dmaSyncRectForDevice } from '../../src/dma-api/dma-sync-rect.ts';
import { SgTable } from '../../src/dma-api/sg-table.ts';
import { DmaFence } from '../../src/dmabuf/dma-fence.ts';
import { allocDmaFenceContext } from '../../src/dmabuf/dma-fence-world.ts';
import { DmaResvUsage, usageToWaitFor } from '../../src/dmabuf/dma-resv.ts';
import type { Op } from '../../src/sim/op.ts';
import { Syncobj } from '../../src/uapi/syncobj.ts';
import type { Run } from './interpreter.ts';
import { type Action, type Job, mapName, type Range } from './program.ts';
import { sharing } from './steps-shared.ts';
import { found, type Mapping, type World } from './world.ts';

type Of<O extends Action['op']> = Extract<Action, { readonly op: O }>;

/** Does `action`, the step `label`. */
export function* perform(run: Run, label: string, action: Action): Op<void> {
  const { world } = run;
  switch (action.op) {
    case 'nothing':
      return;
    case 'write':
      found(world.views, action.view).write(action.at, new Uint8Array(action.bytes).fill(action.value));
      return;
    case 'read':
      run.observe(label, found(world.views, action.view).read(action.at, action.bytes));
      return;
    case 'device-write':
    case 'device-read':
      deviceAccess(run, label, action);
      return;
    case 'submit':
      yield* submit(run, label, action);
      return;
    case 'dma-map':
    case 'dma-unmap':
    case 'sync-cpu':
    case 'sync-device':
      streaming(world, action);
      return;
    case 'wait':
    case 'idle':
    case 'fence':
    case 'signal':
    case 'add-point':
    case 'wait-point':
      yield* fencing(run, action);
      return;
    case 'barrier':
      world.machine.coherency.barrier();
      return;
    case 'free':
      free(world, action.memory);
      return;
    case 'stream-on':
    case 'stream-off':
    case 'dequeue':
    case 'queue':
      yield* camera(world, action);
      return;
    case 'flip':
      yield* flip(world, label, action);
      return;
    default:
      yield* sharing(world, action);
  }
}

function deviceAccess(run: Run, label: string, action: Of<'device-write' | 'device-read'>): void {
  const { dev, sgt, address } = found(run.world.maps, action.map);
  const { at, bytes: length } = action;
  const bytes = new Uint8Array(length);
  if (action.op === 'device-write') {
    bytes.fill(action.value);
    if (sgt === null) dev.port.write((address + at) as DmaAddr, bytes, 0, length);
    else new SgWindow(dev, sgt).write(at, bytes, 0, length);
    return;
  }
  if (sgt === null) dev.port.read((address + at) as DmaAddr, bytes, 0, length);
  else new SgWindow(dev, sgt).read(at, bytes, 0, length);
  run.observe(label, bytes);
}

function* submit(run: Run, label: string, { gpu: name, job, waits, synced, as }: Of<'submit'>): Op<void> {
  const { world } = run;
  const gpu = found(world.gpus, name);
  const fences: DmaFence[] = [];
  for (const fence of waits) fences.push(yield* handleOf(run, fence));
  const buffer = ({ buf }: { readonly buf: string }) => found(world.gpuBuffers, mapName(buf, name));
  const work = {
    name: as,
    waits: fences,
    reads: job.reads.map(buffer),
    writes: job.writes.map(buffer),
    run: (memory: GpuMemory) => runJob(run, label, name, job, memory),
  };
  const fence = synced ? yield* gpu.submitSynced(work) : gpu.submit(work);
  world.fences.set(as, fence);
}

function* runJob(run: Run, label: string, gpu: string, job: Job, memory: GpuMemory): Op<void> {
  const vaOf = (buf: string) => found(run.world.gpuBuffers, mapName(buf, gpu)).gpuVa;
  for (const [i, { buf, at, bytes }] of job.reads.entries()) {
    const out = new Uint8Array(bytes);
    for (const half of halves(bytes)) {
      memory.read((vaOf(buf) + at + half.at) as ReturnType<typeof vaOf>, out, half.at, half.bytes);
      yield* run.pause(gpu);
    }
    run.observe(`${label}.r${i}`, out);
  }
  for (const { buf, at, bytes, value } of job.writes) {
    const src = new Uint8Array(bytes).fill(value);
    for (const half of halves(bytes)) {
      memory.write((vaOf(buf) + at + half.at) as ReturnType<typeof vaOf>, src, half.at, half.bytes);
      yield* run.pause(gpu);
    }
  }
}

function halves(bytes: number): readonly Range[] {
  const first = Math.ceil(bytes / 2);
  return [
    { at: 0, bytes: first },
    { at: first, bytes: bytes - first },
  ];
}

function streaming(world: World, action: Of<'dma-map' | 'dma-unmap' | 'sync-cpu' | 'sync-device'>): void {
  if (action.op === 'dma-map') {
    mapStreaming(world, action);
    return;
  }
  const map = found(world.maps, action.map);
  const { dev, sgt, sizeBytes } = map;
  const address = map.address as DmaAddr;
  const { dir } = action;
  if (action.op === 'dma-unmap') {
    const attrs = action.skipSync === true ? { skipCpuSync: true } : {};
    if (sgt === null) dmaUnmapSingle(dev, address, sizeBytes, dir, attrs);
    else dmaUnmapSgtable(dev, sgt, dir, attrs);
    return;
  }
  syncStreaming(map, action);
}

function mapStreaming(world: World, action: Of<'dma-map'>): void {
  const { memory, dev: name, dir, how, as, at, bytes: sizeBytes, skipSync } = action;
  const dev = found(world.devices, name);
  const phys = ((found(world.extents, memory)[0]?.phys ?? 0) + at) as PhysAddr;
  const attrs = skipSync === true ? { skipCpuSync: true } : {};
  if (how === 'sg') {
    const sgt = new SgTable([{ phys, length: sizeBytes }]);
    dmaMapSgtable(dev, sgt, dir, attrs);
    world.maps.set(as, { dev, sgt, address: 0, sizeBytes, dir, single: false });
    return;
  }
  const address = dmaMapSingle(dev, phys, sizeBytes, dir, attrs);
  if (dmaMappingError(dev, address)) throw new Error(`${as}: not mapped`);
  world.maps.set(as, { dev, sgt: null, address, sizeBytes, dir, single: true });
}

function syncStreaming(map: Mapping, { op, dir, part, rect }: Of<'sync-cpu' | 'sync-device'>): void {
  const { dev, sgt, sizeBytes } = map;
  const address = (sgt === null ? map.address : sgt.dmaAddress(0)) as DmaAddr;
  const toCpu = op === 'sync-cpu';
  if (rect !== undefined) (toCpu ? dmaSyncRectForCpu : dmaSyncRectForDevice)(dev, address, rect, dir);
  else if (part !== undefined) {
    const range = { offset: part.at, sizeBytes: part.bytes };
    (toCpu ? dmaSyncSingleRangeForCpu : dmaSyncSingleRangeForDevice)(dev, address, range, dir);
  } else if (sgt !== null) (toCpu ? dmaSyncSgtableForCpu : dmaSyncSgtableForDevice)(dev, sgt, dir);
  else (toCpu ? dmaSyncSingleForCpu : dmaSyncSingleForDevice)(dev, address, sizeBytes, dir);
}

function* fencing(run: Run, action: Of<'wait' | 'idle' | 'fence' | 'signal' | 'add-point' | 'wait-point'>): Op<void> {
  const { world } = run;
  const { sim } = world.machine;
  switch (action.op) {
    case 'wait':
      yield* yield* handleOf(run, action.fence);
      return;
    case 'idle':
      yield* found(world.bufs, action.buf).resv.wait(usageToWaitFor(action.access === 'read' ? 'read' : 'write'));
      return;
    case 'fence': {
      const fence = new DmaFence(sim, allocDmaFenceContext(sim, action.as), 1);
      world.fences.set(action.as, fence);
      if (action.writes === undefined) return;
      const { resv } = found(world.bufs, action.writes);
      yield* resv.withLock(() => {
        resv.reserveFences(1);
        resv.addFence(fence, DmaResvUsage.write);
      });
      return;
    }
    case 'signal':
      found(world.fences, action.fence).signal();
      return;
    case 'add-point':
      timelineOf(world, action.timeline).addPoint(found(world.fences, action.fence), action.point);
      return;
    case 'wait-point': {
      const timeline = timelineOf(world, action.timeline);
      let fence = timeline.findFence(action.point);
      while (fence === null) {
        yield* run.pause();
        fence = timeline.findFence(action.point);
      }
      yield* fence;
      fence.put();
    }
  }
}

/** The fence called `name`; waits until the task that makes it has passed its handle on. */
function* handleOf(run: Run, name: string): Op<DmaFence> {
  let fence = run.world.fences.get(name);
  while (fence === undefined) {
    yield* run.pause();
    fence = run.world.fences.get(name);
  }
  return fence;
}

function timelineOf(world: World, name: string): Syncobj {
  const known = world.timelines.get(name);
  if (known !== undefined) return known;
  const made = new Syncobj(world.machine.sim);
  world.timelines.set(name, made);
  return made;
}

/** The last frame is fetched, then the display goes off. */
function* lastFrame(display: Display): Op<void> {
  yield* display.waitVblank();
  yield* display.waitVblank();
  yield* display.disable();
}

function* flip(world: World, label: string, { display: name, buf, waits }: Of<'flip'>): Op<void> {
  const framebuffer = found(world.framebuffers, mapName(buf, name));
  const shown = found(world.displays, name).queueFlip(framebuffer);
  world.flips.set(framebuffer, label);
  if (waits) yield* shown;
}

function free(world: World, memory: string): void {
  const allocation = world.allocations.get(memory);
  if (allocation === undefined) {
    found(world.freePages, memory)();
    world.freePages.delete(memory);
    return;
  }
  const decl = world.program.memory.find(({ name }) => name === memory);
  if (decl?.kind === 'write-combine') dmaFreeAttrs(allocation.device, allocation, { writeCombine: true });
  else dmaFreeCoherent(allocation.device, allocation);
}

function* camera(world: World, action: Of<'stream-on' | 'stream-off' | 'dequeue' | 'queue'>): Op<void> {
  const display = world.displays.get(action.camera);
  if (display !== undefined) {
    if (action.op === 'stream-on') display.enable();
    else yield* lastFrame(display);
    return;
  }
  const cam = found(world.cameras, action.camera);
  if (action.op === 'stream-on') yield* cam.streamOn();
  else if (action.op === 'stream-off') yield* cam.streamOff();
  else if (action.op === 'dequeue') yield* cam.dqbuf();
  else yield* cam.qbuf(found(world.cameraBuffers, mapName(action.buf, action.camera)));
}
