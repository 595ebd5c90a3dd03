/** What each step of a program does in the model, as micro-steps that others may come between. */
import { deviceRead, deviceWrite } from './may-devices.ts';
import type { LiveMap } from './may-machine.ts';
import type { MayContext } from './may-model.ts';
import type { CameraState, DisplayState, MayState } from './may-state.ts';
import { type Access, type Action, type Dir, mapName, type Range, type TaskDecl } from './program.ts';

/** Does something. @returns false: it has to wait, and nothing has changed. */
export type Micro = (context: MayContext, state: MayState, task: number) => boolean;

type Of<O extends Action['op']> = Extract<Action, { readonly op: O }>;

const BRACKET_DIRS = { read: 'from-device', write: 'to-device', rw: 'bidirectional' } as const;
const IMPORT_DIRS = { read: 'to-device', write: 'from-device', rw: 'bidirectional' } as const;
const NO_DISPLAY: DisplayState = { pending: null, shown: null };
const NO_CAMERA: CameraState = { isOn: false, queued: [], active: null, done: [], frames: 0 };

/** The micro-steps of a task. */
export function microsOf({ steps }: TaskDecl): readonly Micro[] {
  return steps.flatMap(({ label, action }) => microsOfStep(label, action));
}

function microsOfStep(label: string, action: Action): Micro[] {
  switch (action.op) {
    case 'nothing':
      return [];
    case 'begin':
      return [(context, state, task) => begin(context, state, task, action), waited];
    case 'idle':
      return [(_context, state, task) => snapshot(state, task, action.buf, action.access), waited];
    case 'wait':
      return [(_context, state) => state.fences.get(action.fence) === true];
    case 'wait-point':
      return [(_context, state) => pointReached(state, action)];
    case 'submit':
      return [(_context, state) => submit(state, label, action)];
    case 'release':
      return [(context, state) => release(context, state, action)];
    case 'dequeue':
      return [(context, state) => dequeue(context, state, action.camera)];
    case 'flip':
      return flipMicros(label, action);
    case 'stream-off':
      return [(_context, state) => isFetched(state, action.camera), always(label, action)];
    default:
      return [always(label, action)];
  }
}

function always(label: string, action: Action): Micro {
  return (context, state) => {
    plain(context, state, label, action);
    return true;
  };
}

/** Whether a display, if it is one, has fetched all that it will show. */
function isFetched(state: MayState, display: string): boolean {
  const { pending, shown } = state.displays.get(display) ?? NO_DISPLAY;
  return pending === null && (shown === null || shown.halves === 2);
}

const waited: Micro = (_context, state, task) => {
  if (!state.areSignaled(state.waiting.get(task) ?? [])) return false;
  state.waiting.delete(task);
  return true;
};

function snapshot(state: MayState, task: number, buf: string, access: Access): boolean {
  state.waiting.set(task, state.conflicts(buf, access === 'read' ? 'read' : 'write'));
  return true;
}

function begin(context: MayContext, state: MayState, task: number, action: Of<'begin'>): boolean {
  bracket(context, state, action);
  state.brackets.set(action.buf, [...(state.brackets.get(action.buf) ?? []), action.access]);
  return snapshot(state, task, action.buf, action.access);
}

function bracket(context: MayContext, state: MayState, { op, buf, access, part }: Of<'begin' | 'end'>): void {
  const { machine } = context;
  const dir = BRACKET_DIRS[access];
  const { kind, sizeBytes = 4096 } = machine.memory(buf);
  if (kind === 'uncached-heap') return;
  if (kind === 'udmabuf') {
    // It refuses to end what was never begun.
    if (op === 'end' && !state.brackets.has(buf)) return;
    const all = { at: 0, bytes: sizeBytes };
    if (op === 'begin' && dir !== 'to-device') machine.maintain(state.lines, buf, all, 'clean-invalidate');
    if (op === 'end' && dir !== 'from-device') machine.maintain(state.lines, buf, all, 'clean');
    return;
  }
  for (const map of state.maps.values()) {
    if (map.memory !== buf || !map.isShared) continue;
    const range = kind === 'own' && part !== undefined ? part : map;
    if (op === 'begin') machine.forCpu(state.lines, map, range, dir);
    else machine.forDevice(state.lines, map, range, dir);
  }
}

function end(context: MayContext, state: MayState, action: Of<'end'>): void {
  bracket(context, state, action);
  const open = [...(state.brackets.get(action.buf) ?? [])];
  const at = open.lastIndexOf(action.access);
  if (at < 0) context.broken.add(`unbalanced: ${action.buf}`);
  else open.splice(at, 1);
  state.brackets.set(action.buf, open);
}

function pointReached(state: MayState, { timeline, point }: Of<'wait-point'>): boolean {
  const points = state.timelines.get(timeline) ?? [];
  if (!points.some((one) => one.point >= point)) return false;
  return state.areSignaled(points.filter((one) => one.point <= point).map(({ fence }) => fence));
}

function submit(state: MayState, label: string, { gpu, job, waits, synced, as }: Of<'submit'>): boolean {
  if (!waits.every((fence) => state.fences.has(fence))) return false;
  const all = [...waits];
  state.fences.set(as, false);
  if (synced) {
    const written = new Set(job.writes.map(({ buf }) => buf));
    for (const buf of new Set([...job.reads, ...job.writes].map((access) => access.buf))) {
      const isWriter = written.has(buf);
      all.push(...state.conflicts(buf, isWriter ? 'write' : 'read'));
      state.resvs.set(buf, [...(state.resvs.get(buf) ?? []), { fence: as, isWriter }]);
    }
  }
  const ring = state.rings.get(gpu) ?? [];
  state.rings.set(gpu, [...ring, { label, fence: as, job, waits: all, step: 0 }]);
  return true;
}

function flipMicros(label: string, { display, buf, waits }: Of<'flip'>): Micro[] {
  const ask: Micro = ({ broken }, state) => {
    const { pending, shown } = state.displays.get(display) ?? NO_DISPLAY;
    const flip = { buf, label, waits: state.conflicts(buf, 'read'), halves: 0 };
    if (pending === null) state.displays.set(display, { pending: flip, shown });
    else broken.add(`busy: ${display}`);
    return true;
  };
  const shown: Micro = (_context, state) => state.displays.get(display)?.pending?.label !== label;
  return waits ? [ask, shown] : [ask];
}

function release(context: MayContext, state: MayState, { buf, dev }: Of<'release'>): boolean {
  const isUsed = ({
    job,
  }: {
    readonly job: { readonly reads: readonly { buf: string }[]; readonly writes: readonly { buf: string }[] };
  }) => [...job.reads, ...job.writes].some((access) => access.buf === buf);
  if ((state.rings.get(dev) ?? []).some(isUsed)) return false;
  state.giveBack(`import of ${buf} by ${dev}`);
  endMap(context, state, mapName(buf, dev), false);
  return true;
}

function dequeue(context: MayContext, state: MayState, camera: string): boolean {
  const at = state.cameras.get(camera) ?? NO_CAMERA;
  const [buf, ...rest] = at.done;
  if (buf === undefined) return false;
  state.cameras.set(camera, { ...at, done: rest });
  if (context.machine.device(camera).mapsEachFrame === true) endMap(context, state, mapName(buf, camera), false);
  return true;
}

/** Calls and accesses that never wait. */
function plain(context: MayContext, state: MayState, label: string, action: Action): void {
  const { machine } = context;
  switch (action.op) {
    case 'write':
    case 'read':
      cpuAccess(context, state, label, action);
      return;
    case 'device-write':
      deviceWrite(context, state, action.map, action, action.value);
      return;
    case 'device-read':
      deviceRead(context, state, action.map, action, label, action);
      return;
    case 'barrier':
      machine.barrier(state.lines);
      return;
    case 'end':
      end(context, state, action);
      return;
    case 'fence':
      state.fences.set(action.as, false);
      if (action.writes !== undefined) {
        state.resvs.set(action.writes, [
          ...(state.resvs.get(action.writes) ?? []),
          { fence: action.as, isWriter: true },
        ]);
      }
      return;
    case 'signal':
      state.fences.set(action.fence, true);
      return;
    case 'add-point': {
      const points = state.timelines.get(action.timeline) ?? [];
      state.timelines.set(action.timeline, [...points, { point: action.point, fence: action.fence }]);
      return;
    }
    case 'dma-map':
    case 'dma-unmap':
    case 'sync-cpu':
    case 'sync-device':
      streaming(context, state, action);
      return;
    case 'stream-on':
    case 'stream-off':
    case 'queue':
      camera(context, state, action);
      return;
    default:
      holding(context, state, action);
  }
}

function cpuAccess(context: MayContext, state: MayState, label: string, action: Of<'read' | 'write'>): void {
  const { machine } = context;
  const memory = context.views.get(action.view) ?? '';
  const decl = machine.memory(memory);
  const isCoherent = decl.dev !== undefined && machine.device(decl.dev).coherent;
  // Normal non-cacheable memory: writes may wait in the write buffer, however it was asked for.
  let how: 'cached' | 'write-combined' =
    decl.view === undefined || decl.view === 'cached' ? 'cached' : 'write-combined';
  if (decl.kind === 'uncached-heap') how = 'write-combined';
  if (decl.kind === 'coherent' || decl.kind === 'write-combine') how = isCoherent ? 'cached' : 'write-combined';
  if (action.op === 'write') {
    machine.write(state.lines, memory, action, how === 'cached' ? 'cache' : 'buffer', action.value);
    return;
  }
  if (how === 'write-combined') machine.barrier(state.lines);
  for (const { at, bytes, values } of machine.read(
    state.lines,
    memory,
    action,
    how === 'cached' ? 'cache' : 'memory',
  )) {
    context.observe(label, action, at, bytes, values);
  }
}

function streaming(
  context: MayContext,
  state: MayState,
  action: Of<'dma-map' | 'dma-unmap' | 'sync-cpu' | 'sync-device'>,
): void {
  const { machine, broken } = context;
  if (action.op === 'dma-map') {
    const { as, memory, dev, at, bytes, dir, skipSync = false } = action;
    newMap(context, state, { name: as, memory, dev, at, bytes, dir, isShared: false }, skipSync);
    return;
  }
  const map = state.maps.get(action.map);
  if (map === undefined) {
    broken.add(`no mapping: ${action.map}`);
    return;
  }
  const isWrong = action.dir !== map.dir && (action.op === 'dma-unmap' || map.dir !== 'bidirectional');
  if (isWrong) broken.add(`direction: ${action.map}`);
  if (action.op === 'dma-unmap') {
    endMap(context, state, action.map, action.skipSync === true, action.dir);
    return;
  }
  for (const { at, bytes } of partsOf(map, action)) {
    const range = { at: at + map.at, bytes };
    if (action.op === 'sync-cpu') machine.forCpu(state.lines, map, range, action.dir);
    else machine.forDevice(state.lines, map, range, action.dir);
  }
}

function partsOf(map: LiveMap, { part, rect }: Of<'sync-cpu' | 'sync-device'>): readonly Range[] {
  if (rect !== undefined) {
    const { pitchBytes, x, widthBytes, y, rows } = rect;
    return Array.from({ length: rows }, (_, row) => ({ at: (y + row) * pitchBytes + x, bytes: widthBytes }));
  }
  return [part ?? { at: 0, bytes: map.bytes }];
}

function camera(context: MayContext, state: MayState, action: Of<'stream-on' | 'stream-off' | 'queue'>): void {
  if (context.machine.device(action.camera).kind === 'display') {
    state.displays.delete(action.camera);
    return;
  }
  const at = state.cameras.get(action.camera) ?? NO_CAMERA;
  if (action.op === 'stream-on') state.cameras.set(action.camera, { ...at, isOn: true });
  else if (action.op === 'queue') {
    state.cameras.set(action.camera, { ...at, queued: [...at.queued, action.buf] });
    const name = mapName(action.buf, action.camera);
    if (!state.maps.has(name)) newShared(context, state, action.buf, action.camera, 'from-device');
  } else {
    state.cameras.set(action.camera, NO_CAMERA);
    for (const map of [...state.maps.values()])
      if (map.dev.name === action.camera) endMap(context, state, map.name, false);
  }
}

/** Calls that take or give back. */
function holding(context: MayContext, state: MayState, action: Action): void {
  switch (action.op) {
    case 'open':
      state.giveBack(`buffer ${action.buf}`);
      state.hold(`fd of ${action.buf}`);
      return;
    case 'close':
      state.giveBack(`fd of ${action.buf}`);
      return;
    case 'put':
      state.giveBack(`buffer ${action.buf}`);
      return;
    case 'mmap':
    case 'vmap':
      state.hold(`view ${action.as}`);
      return;
    case 'munmap':
    case 'vunmap':
      state.giveBack(`view ${action.view}`);
      return;
    case 'attach':
      state.hold(`attachment ${mapName(action.buf, action.dev)}`);
      return;
    case 'detach':
      if (!state.maps.has(mapName(action.buf, action.dev)))
        state.giveBack(`attachment ${mapName(action.buf, action.dev)}`);
      return;
    case 'map':
      newShared(context, state, action.buf, action.dev, action.dir);
      state.hold(`mapping ${mapName(action.buf, action.dev)}`);
      return;
    case 'unmap':
      state.giveBack(`mapping ${mapName(action.buf, action.dev)}`);
      endMap(context, state, mapName(action.buf, action.dev), false, action.dir);
      return;
    case 'import': {
      state.hold(`import of ${action.buf} by ${action.dev}`);
      const { kind } = context.machine.device(action.dev);
      const dir = kind === 'display' ? 'to-device' : IMPORT_DIRS[action.access];
      if (kind !== 'camera') newShared(context, state, action.buf, action.dev, dir);
      return;
    }
    case 'free':
      state.giveBack(`memory ${action.memory}`);
      return;
    default:
      throw new Error(`model: no rule for ${action.op}`);
  }
}

function newShared(context: MayContext, state: MayState, buf: string, dev: string, dir: Dir): void {
  const { kind, sizeBytes = 4096 } = context.machine.memory(buf);
  const map = { name: mapName(buf, dev), memory: buf, dev, at: 0, bytes: sizeBytes, dir, isShared: true };
  newMap(context, state, map, kind === 'uncached-heap');
}

function newMap(
  { machine }: MayContext,
  state: MayState,
  map: Omit<LiveMap, 'dev' | 'reached'> & { readonly dev: string },
  skipSync: boolean,
): void {
  const dev = machine.device(map.dev);
  const reached = machine.bounces(dev) ? machine.copyName(map.memory, dev.name) : map.memory;
  const made: LiveMap = { ...map, dev, reached };
  state.maps.set(map.name, made);
  if (!map.isShared) state.hold(`mapping ${map.name}`);
  machine.mapped(state.lines, made, skipSync);
}

/** A mapping ends; a direction that is not its own does what it says. */
function endMap({ machine, broken }: MayContext, state: MayState, name: string, skipSync: boolean, dir?: Dir): void {
  const map = state.maps.get(name);
  if (map === undefined) return;
  state.maps.delete(name);
  if (!map.isShared && !state.giveBack(`mapping ${name}`)) broken.add(`no mapping: ${name}`);
  const isCached = machine.memory(map.memory).kind !== 'uncached-heap';
  if (!skipSync && isCached) machine.forCpu(state.lines, map, map, dir ?? map.dir);
}
