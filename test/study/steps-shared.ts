/** The steps of the study that concern shared buffers: descriptors, views, brackets, attachments, imports. */
import { CpuView } from '../../src/cache/cpu-view.ts';
import { DMA_BUF_SYNC } from '../../src/dmabuf/dma-buf-sync.ts';
import { lift, type Op } from '../../src/sim/op.ts';
import { DMA_BUF_IOCTL_SYNC } from '../../src/uapi/dma-buf-file.ts';
import { type Action, type Dir, mapName } from './program.ts';
import { found, viewOf, type World } from './world.ts';

type Of<O extends Action['op']> = Extract<Action, { readonly op: O }>;

const DIRECTIONS = { read: 'from-device', write: 'to-device', rw: 'bidirectional' } as const;
const SCREEN = { width: 16, height: 8, strideBytes: 64, format: 'XR24' } as const;
const IMPORTS = { read: 'read', write: 'write', rw: 'read-write' } as const;

/** Steps that concern shared buffers. */
export type Sharing = Of<
  | 'open'
  | 'close'
  | 'put'
  | 'mmap'
  | 'vmap'
  | 'munmap'
  | 'vunmap'
  | 'attach'
  | 'detach'
  | 'map'
  | 'unmap'
  | 'begin'
  | 'end'
  | 'import'
  | 'release'
>;

/** Does a step of this kind. */
export function* sharing(world: World, action: Sharing): Op<void> {
  if (action.op === 'munmap' || action.op === 'vunmap') {
    const view = found(world.views, action.view);
    world.views.delete(action.view);
    if (view.end !== undefined) yield* lift(view.end());
    return;
  }
  const buf = found(world.bufs, action.buf);
  switch (action.op) {
    case 'open':
      if (!world.fds.has(action.buf)) world.fds.set(action.buf, world.app.fds.install(buf));
      return;
    case 'close':
      yield* world.app.close(found(world.fds, action.buf));
      return;
    case 'put':
      buf.put();
      return;
    case 'mmap':
    case 'vmap':
      yield* viewBuffer(world, action);
      return;
    case 'begin':
    case 'end':
      yield* bracket(world, action);
      return;
    case 'import':
    case 'release':
      yield* importing(world, action);
      return;
    default:
      yield* attaching(world, action);
  }
}

function* viewBuffer(world: World, { op, buf: name, as }: Of<'mmap' | 'vmap'>): Op<void> {
  const buf = found(world.bufs, name);
  if (op === 'mmap') {
    const mapping = yield* world.app.mmap(found(world.fds, name));
    world.views.set(as, {
      read: (offset, length) => mapping.read(offset, length),
      write: (offset, bytes) => mapping.write(offset, bytes),
      end: () => mapping.munmap(),
    });
    return;
  }
  const mapping = yield* buf.vmap();
  const extents = mapping.extents.map(({ phys, length }) => ({ phys, sizeBytes: length }));
  const accessor = {
    name: 'driver',
    kind: 'cpu',
    via: `vmap of ${name}`,
    beforeRead: `${name}.beginCpuAccess('from-device')`,
    afterWrite: `${name}.endCpuAccess('to-device')`,
  } as const;
  const view = new CpuView(world.machine.coherency, { extents, attribute: mapping.attribute, accessor });
  world.views.set(as, { ...viewOf(view), end: () => buf.vunmap(mapping) });
}

function* bracket(world: World, { op, buf: name, access, by, part }: Of<'begin' | 'end'>): Op<void> {
  const buf = found(world.bufs, name);
  if (by === 'ioctl') {
    const flags = DMA_BUF_SYNC[access] | (op === 'end' ? DMA_BUF_SYNC.end : DMA_BUF_SYNC.start);
    yield* world.app.ioctl(found(world.fds, name), DMA_BUF_IOCTL_SYNC, { flags });
    return;
  }
  const dir: Dir = DIRECTIONS[access];
  if (part === undefined) yield* op === 'begin' ? buf.beginCpuAccess(dir) : buf.endCpuAccess(dir);
  else {
    const range = { offset: part.at, length: part.bytes };
    yield* op === 'begin' ? buf.beginCpuAccessPartial(dir, range) : buf.endCpuAccessPartial(dir, range);
  }
}

function* importing(world: World, action: Of<'import' | 'release'>): Op<void> {
  const { buf: name, dev } = action;
  const key = mapName(name, dev);
  const gpu = world.gpus.get(dev);
  const cam = world.cameras.get(dev);
  const display = world.displays.get(dev);
  if (action.op === 'import') {
    const buf = found(world.bufs, name);
    if (gpu !== undefined) {
      world.gpuBuffers.set(key, yield* gpu.importBuffer(buf, { access: IMPORTS[action.access] }));
    }
    if (cam !== undefined) world.cameraBuffers.set(key, yield* cam.importBuffer(buf));
    if (display !== undefined) world.framebuffers.set(key, yield* display.importFramebuffer(buf, SCREEN));
    return;
  }
  if (gpu !== undefined) yield* gpu.releaseBuffer(found(world.gpuBuffers, key));
  if (cam !== undefined) yield* cam.releaseBuffer(found(world.cameraBuffers, key));
  if (display !== undefined) yield* display.releaseFramebuffer(found(world.framebuffers, key));
}

function* attaching(world: World, action: Of<'attach' | 'detach' | 'map' | 'unmap'>): Op<void> {
  const { buf: name, dev } = action;
  const key = mapName(name, dev);
  const buf = found(world.bufs, name);
  switch (action.op) {
    case 'attach':
      world.attachments.set(key, yield* buf.attach(found(world.devices, dev)));
      return;
    case 'detach':
      yield* buf.detach(found(world.attachments, key));
      return;
    case 'map': {
      const sgt = yield* found(world.attachments, key).mapUnlocked(action.dir);
      const { sizeBytes } = buf;
      world.maps.set(key, {
        dev: found(world.devices, dev),
        sgt,
        address: 0,
        sizeBytes,
        dir: action.dir,
        single: false,
      });
      return;
    }
    case 'unmap': {
      const { sgt } = found(world.maps, key);
      if (sgt !== null) yield* found(world.attachments, key).unmapUnlocked(sgt, action.dir);
    }
  }
}
