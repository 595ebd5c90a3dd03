/** One situation of a program in the model: how far everybody is, what the lines may be, and who holds what. */

import type { LineSet } from './may-lines.ts';
import type { LiveMap } from './may-machine.ts';
import type { Access, Job } from './program.ts';

/** A job in a GPU's ring. */
export interface RingJob {
  readonly label: string;
  readonly fence: string;
  readonly job: Job;
  readonly waits: readonly string[];
  /** Micro-steps done. */
  readonly step: number;
}

/** What a camera is doing. */
export interface CameraState {
  readonly isOn: boolean;
  readonly queued: readonly string[];
  /** The buffer that it fills, and how many batches are written. */
  readonly active: { readonly buf: string; readonly batches: number } | null;
  readonly done: readonly string[];
  readonly frames: number;
}

/** A flip of a display. */
export interface FlipState {
  readonly buf: string;
  /** The step that asked for it. */
  readonly label: string;
  /** Fences that it waits for. */
  readonly waits: readonly string[];
  /** Halves that were fetched. */
  readonly halves: number;
}

/** What a display is doing. */
export interface DisplayState {
  readonly pending: FlipState | null;
  readonly shown: FlipState | null;
}

/** A fence in a buffer's reservation. */
export interface ResvEntry {
  readonly fence: string;
  readonly isWriter: boolean;
}

/** A situation. Members are replaced, never changed in place, but for the arrays and maps right in it, which each copy has anew. */
export class MayState {
  /** Micro-steps that each task has done. */
  readonly done: number[];
  readonly lines: LineSet[];
  /** Fences that exist; true: signalled. */
  readonly fences: Map<string, boolean>;
  readonly resvs: Map<string, readonly ResvEntry[]>;
  readonly rings: Map<string, readonly RingJob[]>;
  readonly cameras: Map<string, CameraState>;
  readonly displays: Map<string, DisplayState>;
  readonly maps: Map<string, LiveMap>;
  /** What is held and must be given back: `'fd of frame'`. */
  readonly held: Map<string, number>;
  /** Open brackets of each buffer. */
  readonly brackets: Map<string, readonly Access[]>;
  /** Fences that each task waits for in the middle of a call. */
  readonly waiting: Map<number, readonly string[]>;
  readonly timelines: Map<string, readonly { readonly point: number; readonly fence: string }[]>;

  constructor(from: MayState | number) {
    const old = typeof from === 'number' ? null : from;
    this.done = old === null ? new Array<number>(Number(from)).fill(0) : [...old.done];
    this.lines = [...(old?.lines ?? [])];
    this.fences = new Map(old?.fences);
    this.resvs = new Map(old?.resvs);
    this.rings = new Map(old?.rings);
    this.cameras = new Map(old?.cameras);
    this.displays = new Map(old?.displays);
    this.maps = new Map(old?.maps);
    this.held = new Map(old?.held);
    this.brackets = new Map(old?.brackets);
    this.waiting = new Map(old?.waiting);
    this.timelines = new Map(old?.timelines);
  }

  /** Equal for situations from which the same can happen. */
  key(): string {
    return JSON.stringify([
      this.done,
      this.lines,
      [...this.fences],
      [...this.resvs],
      [...this.rings].map(([gpu, jobs]) => [gpu, jobs.map(({ label, step }) => [label, step])]),
      [...this.cameras],
      [...this.displays],
      [...this.maps.keys()],
      [...this.held],
      [...this.brackets],
      [...this.waiting],
    ]);
  }

  /** Something is held from now on. */
  hold(what: string): void {
    this.held.set(what, (this.held.get(what) ?? 0) + 1);
  }

  /** It is given back. @returns false when nobody held it. */
  giveBack(what: string): boolean {
    const count = this.held.get(what) ?? 0;
    if (count === 1) this.held.delete(what);
    else if (count > 1) this.held.set(what, count - 1);
    return count > 0;
  }

  /** Whether all of these fences are signalled. */
  areSignaled(fences: readonly string[]): boolean {
    return fences.every((fence) => this.fences.get(fence) === true);
  }

  /** The pending fences of `buf` that an access has to wait for. */
  conflicts(buf: string, access: 'read' | 'write'): readonly string[] {
    const entries = this.resvs.get(buf) ?? [];
    return entries
      .filter(({ fence, isWriter }) => (access === 'write' || isWriter) && this.fences.get(fence) !== true)
      .map(({ fence }) => fence);
  }
}
