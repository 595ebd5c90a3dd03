/**
 * The independent reference of the study: what each observing step of a program MAY get on legal hardware under legal schedules, and which
 * rules of the interfaces the program breaks. Knows nothing of the simulator.
 *
 * It goes through all interleavings of the tasks, the jobs of GPUs and the frames of cameras that the program's waits allow, and keeps for
 * every cache line the set of states that hardware may have made of it (`may-lines.ts`).
 *
 * Inaccuracies, all towards more possible bytes: lines of different addresses are independent of each other, so what is copied byte by
 * byte from a line may be any mixture of what its bytes may be.
 */

import { stepDevices } from './may-devices.ts';
import type { LineSet } from './may-lines.ts';
import { MayMachine } from './may-machine.ts';
import { MayState } from './may-state.ts';
import { type Micro, microsOf } from './may-steps.ts';
import { FRAME_BYTES, type Program, type Range, SCREEN_BYTES, type TaskDecl, tasksOf } from './program.ts';

/** What a program may do. */
export interface MayResult {
  /** For each observing step and each of its bytes, in order, what it may be, ascending. */
  readonly observed: ReadonlyMap<string, readonly (readonly number[])[]>;
  /** Rules that some schedule breaks: `'leak: fd of frame'`, `'unbalanced: frame'`, `'direction: …'`. */
  readonly broken: ReadonlySet<string>;
  /** Whether some schedule comes to no end. */
  readonly mayHang: boolean;
  /** Situations from which more than one thing could happen. */
  readonly situations: number;
}

/** What exploring writes to. */
export class MayContext {
  readonly program: Program;
  readonly machine: MayMachine;
  readonly broken = new Set<string>();
  readonly #observed = new Map<string, Set<number>[]>();
  /** The memory behind each view, and how it is seen. */
  readonly views: ReadonlyMap<string, string>;

  constructor(program: Program) {
    this.program = program;
    this.machine = new MayMachine(program);
    this.views = viewsOf(program);
  }

  /** Notes what the bytes of `label` from `at` on may be; `range` is all that it observes. */
  observe(label: string, range: Range, at: number, bytes: number, values: readonly number[]): void {
    let sets = this.#observed.get(label);
    if (sets === undefined) {
      sets = Array.from({ length: range.bytes }, () => new Set<number>());
      this.#observed.set(label, sets);
    }
    for (let i = Math.max(at, range.at); i < Math.min(at + bytes, range.at + range.bytes); i++) {
      for (const value of values) sets[i - range.at]?.add(value);
    }
  }

  /** What was noted. */
  get observed(): Map<string, number[][]> {
    const sorted = (set: Set<number>) => [...set].sort((a, b) => a - b);
    return new Map([...this.#observed].map(([label, sets]) => [label, sets.map(sorted)]));
  }
}

/** Situations that are looked at before it gives up. */
const MOST_SITUATIONS = 60_000;

/** What `program` may do. @throws it has too many situations. */
export function mayRun(program: Program): MayResult {
  const context = new MayContext(program);
  const tasks = tasksOf(program).map((task) => microsOf(task));
  const todo = [firstState(context, tasks.length)];
  const seen = new Set<string>();
  let mayHang = false;
  for (let state = todo.pop(); state !== undefined; state = todo.pop()) {
    const key = state.key();
    if (seen.has(key)) continue;
    seen.add(key);
    if (seen.size > MOST_SITUATIONS) throw new Error(`${program.name}: more than ${MOST_SITUATIONS} situations`);
    // While only one thing can happen there is nothing to meet again: every step leads on.
    let last = state;
    let next = successors(context, tasks, last);
    for (; next.length === 1 && next[0] !== undefined; next = successors(context, tasks, last)) last = next[0];
    todo.push(...next);
    if (next.length > 0) continue;
    if (isOver(tasks, last)) checkLeft(context, last);
    else mayHang = true;
  }
  return { observed: context.observed, broken: context.broken, mayHang, situations: seen.size };
}

function successors(context: MayContext, tasks: readonly (readonly Micro[])[], state: MayState): MayState[] {
  const next: MayState[] = [];
  for (const task of runnable(tasks, state)) {
    const micro = tasks[task]?.[state.done[task] ?? 0];
    if (micro === undefined) continue;
    const copy = new MayState(state);
    if (!micro(context, copy, task)) continue;
    copy.done[task] = (copy.done[task] ?? 0) + 1;
    next.push(copy);
  }
  if (!isOver(tasks, state)) next.push(...stepDevices(context, state));
  return next;
}

/** Setup goes alone, then all tasks, then the rest alone. */
function runnable(tasks: readonly (readonly Micro[])[], state: MayState): number[] {
  const left = tasks.map((micros, task) => micros.length - (state.done[task] ?? 0));
  const last = tasks.length - 1;
  if ((left[0] ?? 0) > 0) return [0];
  const middle = left.flatMap((count, task) => (task > 0 && task < last && count > 0 ? [task] : []));
  return middle.length > 0 ? middle : [last];
}

function isOver(tasks: readonly (readonly Micro[])[], state: MayState): boolean {
  return tasks.every((micros, task) => state.done[task] === micros.length);
}

function checkLeft(context: MayContext, state: MayState): void {
  for (const what of state.held.keys()) context.broken.add(`leak: ${what}`);
  for (const [buf, open] of state.brackets) if (open.length > 0) context.broken.add(`unbalanced: ${buf}`);
}

function firstState(context: MayContext, tasks: number): MayState {
  const { program, machine } = context;
  const state = new MayState(tasks);
  for (const { name, kind } of program.memory) {
    const ranges = rangesOf(context, name);
    state.lines.push(...machine.enter(name, ranges));
    for (const dev of program.devices) {
      if (machine.bounces(dev)) state.lines.push(...enterCopy(machine, machine.copyName(name, dev.name), ranges));
    }
    state.hold(
      kind === 'pages' || kind === 'coherent' || kind === 'write-combine' ? `memory ${name}` : `buffer ${name}`,
    );
    if (kind === 'coherent' || kind === 'write-combine') state.maps.set(name, wholeMap(machine, name));
  }
  return state;
}

function enterCopy(machine: MayMachine, name: string, ranges: readonly Range[]): LineSet[] {
  return machine.enter(name, ranges);
}

function wholeMap(machine: MayMachine, name: string) {
  const { dev = '', sizeBytes = 4096 } = machine.memory(name);
  const where = { at: 0, bytes: sizeBytes, dir: 'bidirectional' as const, reached: name };
  return { name, memory: name, dev: machine.device(dev), isShared: false, ...where };
}

/** All ranges of `memory` that some step touches. */
function rangesOf({ program, views }: MayContext, memory: string): Range[] {
  const steps = tasksOf(program).flatMap((task: TaskDecl) => task.steps.map(({ action }) => action));
  const offsets = new Map<string, { readonly memory: string; readonly at: number }>();
  const ranges: Range[] = [];
  for (const action of steps) {
    if (action.op === 'dma-map') {
      offsets.set(action.as, { memory: action.memory, at: action.at });
      if (action.memory === memory) ranges.push(action);
    }
    if (action.op === 'queue' && action.buf === memory) ranges.push(...cameraBatches().flat());
    if (action.op === 'flip' && action.buf === memory)
      ranges.push({ at: 0, bytes: SCREEN_BYTES / 2 }, { at: SCREEN_BYTES / 2, bytes: SCREEN_BYTES / 2 });
  }
  const add = (where: { readonly memory: string; readonly at: number }, { at, bytes }: Range) => {
    if (where.memory === memory) ranges.push({ at: at + where.at, bytes });
  };
  for (const action of steps) {
    if (action.op === 'read' || action.op === 'write') add({ memory: views.get(action.view) ?? '', at: 0 }, action);
    if (action.op === 'device-read' || action.op === 'device-write') {
      add(offsets.get(action.map) ?? { memory: action.map.split('@')[0] ?? '', at: 0 }, action);
    }
    if ((action.op === 'sync-cpu' || action.op === 'sync-device') && action.part !== undefined) {
      add(offsets.get(action.map) ?? { memory: '', at: 0 }, action.part);
    }
    if (action.op !== 'submit') continue;
    for (const access of [...action.job.reads, ...action.job.writes]) {
      const half = Math.ceil(access.bytes / 2);
      add({ memory: access.buf, at: 0 }, { at: access.at, bytes: half });
      add({ memory: access.buf, at: 0 }, { at: access.at + half, bytes: access.bytes - half });
    }
  }
  return ranges.filter(({ bytes }) => bytes > 0);
}

/** What a camera writes at once: luma and chroma of the upper, then of the lower half. */
export function cameraBatches(): readonly (readonly Range[])[] {
  const luma = (FRAME_BYTES * 2) / 3;
  const chroma = FRAME_BYTES - luma;
  return [0, 1].map((half) => [
    { at: (half * luma) / 2, bytes: luma / 2 },
    { at: luma + (half * chroma) / 2, bytes: chroma / 2 },
  ]);
}

function viewsOf(program: Program): Map<string, string> {
  const views = new Map<string, string>();
  for (const { name } of program.memory) views.set(name, name);
  for (const { steps } of tasksOf(program)) {
    for (const { action } of steps) {
      if (action.op === 'mmap' || action.op === 'vmap') views.set(action.as, action.buf);
    }
  }
  return views;
}
