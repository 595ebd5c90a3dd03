/** Short names for the steps that programs of the study are written in. */
import type { Access, Action, Dir, Job, JobAccess, Range, Rect, Step, TaskDecl } from './program.ts';

/** An action, or one that repeats what an earlier frame did. */
export type Item = Action | { readonly again: readonly Action[] };

/** A task whose steps are labelled by its name and their number. */
export function task(name: string, ...items: readonly Item[]): TaskDecl {
  const steps: Step[] = [];
  for (const item of items) {
    if ('again' in item)
      for (const action of item.again) steps.push({ ...labelled(name, steps, action), isRepeat: true });
    else steps.push(labelled(name, steps, item));
  }
  return { name, steps };
}

function labelled(name: string, steps: readonly Step[], action: Action): Step {
  return { label: `${name}${steps.length}:${action.op}`, action };
}

/** `body(i)` for the first `fresh` frames as steps to mutate, for the others as repetitions. */
export function frames(count: number, fresh: number, body: (i: number) => readonly Action[]): Item[] {
  return Array.from({ length: count }, (_, i) => (i < fresh ? body(i) : [{ again: body(i) }])).flat();
}

export const write = (view: string, at: number, bytes: number, value: number): Action => ({
  op: 'write',
  view,
  at,
  bytes,
  value,
});
export const read = (view: string, at: number, bytes: number): Action => ({ op: 'read', view, at, bytes });
export const deviceWrite = (map: string, at: number, bytes: number, value: number): Action => ({
  op: 'device-write',
  map,
  at,
  bytes,
  value,
});
export const deviceRead = (map: string, at: number, bytes: number): Action => ({ op: 'device-read', map, at, bytes });

export const open = (buf: string): Action => ({ op: 'open', buf });
export const close = (buf: string): Action => ({ op: 'close', buf });
export const put = (buf: string): Action => ({ op: 'put', buf });
const mmap = (buf: string, as: string): Action => ({ op: 'mmap', buf, as });
const munmap = (view: string): Action => ({ op: 'munmap', view });
export const vmap = (buf: string, as: string): Action => ({ op: 'vmap', buf, as });
export const vunmap = (view: string): Action => ({ op: 'vunmap', view });

/** A process opens and maps the buffer; the view is called `${buf}.cpu`. */
export const opened = (buf: string): readonly Action[] => [open(buf), mmap(buf, `${buf}.cpu`)];
/** The end of {@link opened}. */
export const closed = (buf: string): readonly Action[] => [munmap(`${buf}.cpu`), close(buf)];
/** A device attaches and maps. */
export const attached = (buf: string, dev: string, dir: Dir): readonly Action[] => [
  { op: 'attach', buf, dev },
  { op: 'map', buf, dev, dir },
];
/** The end of {@link attached}. */
export const detached = (buf: string, dev: string, dir: Dir): readonly Action[] => [
  { op: 'unmap', buf, dev, dir },
  { op: 'detach', buf, dev },
];

export const begin = (buf: string, access: Access, part?: Range): Action =>
  bracket('begin', buf, access, 'ioctl', part);
export const end = (buf: string, access: Access, part?: Range): Action => bracket('end', buf, access, 'ioctl', part);
export const kernelBegin = (buf: string, access: Access, part?: Range): Action =>
  bracket('begin', buf, access, 'kernel', part);
export const kernelEnd = (buf: string, access: Access, part?: Range): Action =>
  bracket('end', buf, access, 'kernel', part);

function bracket(op: 'begin' | 'end', buf: string, access: Access, by: 'ioctl' | 'kernel', part?: Range): Action {
  return part === undefined ? { op, buf, access, by } : { op, buf, access, by, part };
}

/** `memory` for `dev`; the mapping has the memory's name and `.dma`. */
export const dmaMap = (memory: string, dev: string, dir: Dir, bytes: number, how: 'single' | 'sg' = 'single', at = 0) =>
  ({ op: 'dma-map', memory, dev, dir, how, as: `${memory}.dma`, at, bytes }) satisfies Action;
export const dmaUnmap = (memory: string, dir: Dir): Action => ({ op: 'dma-unmap', map: `${memory}.dma`, dir });
export const syncCpu = (memory: string, dir: Dir, part?: Range): Action => ({
  op: 'sync-cpu',
  map: `${memory}.dma`,
  dir,
  ...(part === undefined ? {} : { part }),
});
export const syncDevice = (memory: string, dir: Dir, part?: Range): Action => ({
  op: 'sync-device',
  map: `${memory}.dma`,
  dir,
  ...(part === undefined ? {} : { part }),
});
export const syncRectCpu = (memory: string, dir: Dir, rect: Rect): Action => ({
  op: 'sync-cpu',
  map: `${memory}.dma`,
  dir,
  rect,
});
export const syncRectDevice = (memory: string, dir: Dir, rect: Rect): Action => ({
  op: 'sync-device',
  map: `${memory}.dma`,
  dir,
  rect,
});

export const importBuf = (buf: string, dev: string, access: Access = 'rw'): Action => ({
  op: 'import',
  buf,
  dev,
  access,
});
export const release = (buf: string, dev: string): Action => ({ op: 'release', buf, dev });

/** How a job is submitted. */
export interface SubmitOptions {
  readonly waits?: readonly string[];
  readonly synced?: boolean;
}

/** A job of `gpu` whose fence is called `as`. */
export function submit(
  gpu: string,
  as: string,
  job: Partial<Job>,
  { waits = [], synced = true }: SubmitOptions = {},
): Action {
  return { op: 'submit', gpu, as, waits, synced, job: { reads: job.reads ?? [], writes: job.writes ?? [] } };
}
export const from = (buf: string, bytes: number, at = 0): JobAccess => ({ buf, at, bytes });
export const to = (buf: string, bytes: number, value: number, at = 0): JobAccess & { readonly value: number } => ({
  buf,
  at,
  bytes,
  value,
});

export const wait = (fence: string): Action => ({ op: 'wait', fence });
export const idle = (buf: string, access: Access): Action => ({ op: 'idle', buf, access });
export const signal = (fence: string): Action => ({ op: 'signal', fence });
export const fence = (as: string, writes?: string): Action =>
  writes === undefined ? { op: 'fence', as } : { op: 'fence', as, writes };
export const addPoint = (timeline: string, point: number, name: string): Action => ({
  op: 'add-point',
  timeline,
  point,
  fence: name,
});
export const waitPoint = (timeline: string, point: number): Action => ({ op: 'wait-point', timeline, point });
export const queue = (camera: string, buf: string): Action => ({ op: 'queue', camera, buf });
export const dequeue = (camera: string): Action => ({ op: 'dequeue', camera });
export const streamOn = (camera: string): Action => ({ op: 'stream-on', camera });
export const streamOff = (camera: string): Action => ({ op: 'stream-off', camera });
/** Shows `buf`, and waits until it is shown. */
export const flip = (display: string, buf: string): Action => ({ op: 'flip', display, buf, waits: true });
export const barrier: Action = { op: 'barrier' };
export const free = (memory: string): Action => ({ op: 'free', memory });
