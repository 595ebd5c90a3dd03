/**
 * Programs of the planted-bug study, as plain data: a machine, its memory, and tasks of labelled steps. Each step is one call that a
 * driver or a process makes, or one access. They know nothing of how they are run: `interpreter.ts` does them on the simulator,
 * `may-model.ts` on an independent model.
 */

/** Which way data goes between device and memory. */
export type Dir = 'to-device' | 'from-device' | 'bidirectional';
/** What a CPU bracket is for. */
export type Access = 'read' | 'write' | 'rw';

/** A device of the program. */
export interface DeviceDecl {
  readonly name: string;
  /** Whether its accesses snoop the CPU caches. */
  readonly coherent: boolean;
  readonly kind?: 'port' | 'gpu' | 'camera' | 'display';
  /** Behind the IOMMU. */
  readonly iommu?: boolean;
  /** It reaches 4 GiB only; memory above is bounced for it. Default: it reaches all. */
  readonly reach32?: boolean;
  /** A camera: buffers are mapped for every frame instead of for the whole stream. */
  readonly mapsEachFrame?: boolean;
}

/** What kind of memory: dma-bufs of several exporters, pages of a driver, or an allocation of the DMA API. */
export type MemoryKind = 'heap' | 'cma' | 'uncached-heap' | 'udmabuf' | 'own' | 'pages' | 'coherent' | 'write-combine';

/** A memory of the program, page aligned. */
export interface MemoryDecl {
  readonly name: string;
  readonly kind: MemoryKind;
  /** Whole pages; default one. */
  readonly sizeBytes?: number;
  /** For `'coherent'` and `'write-combine'`: whose allocation it is. */
  readonly dev?: string;
  /** For `'pages'`: how the driver's own view of it sees it. Default cached. The view has the memory's name. */
  readonly view?: 'cached' | 'write-combined' | 'uncached';
}

/** Bytes [at, at + bytes) of a memory or mapping. */
export interface Range {
  readonly at: number;
  readonly bytes: number;
}

/** A rectangle of an image. */
export interface Rect {
  readonly pitchBytes: number;
  readonly x: number;
  readonly widthBytes: number;
  readonly y: number;
  readonly rows: number;
}

/** A range of a shared buffer that a job touches. */
export interface JobAccess extends Range {
  readonly buf: string;
}

/** What a GPU does: first its reads, then its writes, each in two halves. */
export interface Job {
  readonly reads: readonly JobAccess[];
  readonly writes: readonly (JobAccess & { readonly value: number })[];
}

type Actions =
  | ({ readonly op: 'write'; readonly view: string; readonly value: number } & Range)
  | ({ readonly op: 'read'; readonly view: string } & Range)
  | ({ readonly op: 'device-write'; readonly map: string; readonly value: number } & Range)
  | ({ readonly op: 'device-read'; readonly map: string } & Range)
  | { readonly op: 'open' | 'close' | 'put'; readonly buf: string }
  | { readonly op: 'mmap' | 'vmap'; readonly buf: string; readonly as: string }
  | { readonly op: 'munmap' | 'vunmap'; readonly view: string }
  | { readonly op: 'attach' | 'detach'; readonly buf: string; readonly dev: string }
  | { readonly op: 'map' | 'unmap'; readonly buf: string; readonly dev: string; readonly dir: Dir }
  | {
      readonly op: 'begin' | 'end';
      readonly buf: string;
      readonly access: Access;
      /** By the ioctl of the process, or as a driver in the kernel. */
      readonly by: 'ioctl' | 'kernel';
      readonly part?: Range;
    }
  | ({
      readonly op: 'dma-map';
      readonly memory: string;
      readonly dev: string;
      readonly dir: Dir;
      readonly how: 'single' | 'sg';
      readonly as: string;
      readonly skipSync?: boolean;
    } & Range)
  | { readonly op: 'dma-unmap'; readonly map: string; readonly dir: Dir; readonly skipSync?: boolean }
  | {
      readonly op: 'sync-cpu' | 'sync-device';
      readonly map: string;
      readonly dir: Dir;
      readonly part?: Range;
      readonly rect?: Rect;
    }
  | { readonly op: 'import'; readonly buf: string; readonly dev: string; readonly access: 'read' | 'write' | 'rw' }
  | { readonly op: 'release'; readonly buf: string; readonly dev: string }
  | {
      readonly op: 'submit';
      readonly gpu: string;
      readonly job: Job;
      /** Fences that it waits for. */
      readonly waits: readonly string[];
      /** Whether it honours the buffers' reservations. */
      readonly synced: boolean;
      /** The name of its fence. */
      readonly as: string;
    }
  | { readonly op: 'wait'; readonly fence: string }
  /** Waits for the fences of the buffer's reservation, as an access of this kind has to. */
  | { readonly op: 'idle'; readonly buf: string; readonly access: Access }
  /** A fence that a task signals itself; left in a buffer's reservation as that of a writer, if one is named. */
  | { readonly op: 'fence'; readonly as: string; readonly writes?: string }
  | { readonly op: 'signal'; readonly fence: string }
  | { readonly op: 'add-point'; readonly timeline: string; readonly point: number; readonly fence: string }
  | { readonly op: 'wait-point'; readonly timeline: string; readonly point: number }
  | { readonly op: 'stream-on' | 'stream-off' | 'dequeue'; readonly camera: string }
  | { readonly op: 'queue'; readonly camera: string; readonly buf: string }
  /** Shows a buffer from the next vblank after its writers are done; `waits` tells whether the task waits until it is shown. */
  | { readonly op: 'flip'; readonly display: string; readonly buf: string; readonly waits: boolean }
  | { readonly op: 'barrier' }
  | { readonly op: 'free'; readonly memory: string }
  /** Where a step was that a mutant lacks. */
  | { readonly op: 'nothing' };

/** One member for each `op`, so that a check of `op` narrows. */
type Split<A, O> = O extends string
  ? A extends { readonly op: infer P }
    ? O extends P
      ? Omit<A, 'op'> & { readonly op: O }
      : never
    : never
  : never;

/** One call or access. Names refer to declarations, or to what an earlier step made under `as`. */
export type Action = Split<Actions, Actions['op']>;

/** A step; its label is unique in its program. */
export interface Step {
  readonly label: string;
  readonly action: Action;
  /** A repetition of a step that is mutated elsewhere. */
  readonly isRepeat?: boolean;
}

/** Steps in order. */
export interface TaskDecl {
  readonly name: string;
  readonly steps: readonly Step[];
}

/** A program: setup, then all tasks at once, then the rest. Setup and rest are tasks, too. */
export interface Program {
  readonly name: string;
  /** What it shows. */
  readonly about: string;
  readonly devices: readonly DeviceDecl[];
  readonly memory: readonly MemoryDecl[];
  /** Memory comes from above 4 GiB. */
  readonly high?: boolean;
  readonly lazyIommu?: boolean;
  readonly setup: TaskDecl;
  readonly tasks: readonly TaskDecl[];
  readonly finish: TaskDecl;
}

/** The value of the first frame that a camera captures; the next ones are one more each. */
export const FIRST_FRAME = 0xc0;
/** Bytes of a camera's frame: the first ones of its buffer. */
export const FRAME_BYTES = 384;
/** Bytes of a display's frame, which it fetches in two halves. */
export const SCREEN_BYTES = 512;
/** What memory holds that nobody has written since the machine started. */
export const POISON = 0xdb;
/** Bytes of a cache line. */
export const LINE_BYTES = 64;

/** All tasks of `program`: setup first, rest last. */
export function tasksOf(program: Program): readonly TaskDecl[] {
  return [program.setup, ...program.tasks, program.finish];
}

/** The name of the mapping that an attachment, an import or a camera's queue makes. */
export function mapName(buf: string, dev: string): string {
  return `${buf}@${dev}`;
}

/** One line of text for an action, for tables: `'end frame write'`. */
export function describeAction(action: Action): string {
  const words: string[] = [action.op];
  for (const [key, value] of Object.entries(action)) {
    if (key === 'op' || key === 'job' || value === undefined) continue;
    if (typeof value === 'object') words.push(`${key}:${JSON.stringify(value).replaceAll('"', '')}`);
    else words.push(typeof value === 'boolean' ? `${key}:${value}` : String(value));
  }
  return words.join(' ');
}
