/** What devices do by themselves in the model: the next micro-step of each GPU's oldest job and of each camera. */
import { cameraBatches, type MayContext } from './may-model.ts';
import { type CameraState, type DisplayState, MayState, type RingJob } from './may-state.ts';
import { FIRST_FRAME, type Job, mapName, type Range, SCREEN_BYTES } from './program.ts';

/** Situations that one device makes of `state`. */
export function stepDevices(context: MayContext, state: MayState): MayState[] {
  const next: MayState[] = [];
  for (const [gpu, [job, ...rest]] of state.rings) {
    if (job === undefined || !state.areSignaled(job.waits)) continue;
    const copy = new MayState(state);
    stepJob(context, copy, gpu, job, rest);
    next.push(copy);
  }
  for (const [camera, at] of state.cameras) {
    const copy = new MayState(state);
    if (stepCamera(context, copy, camera, at)) next.push(copy);
  }
  for (const [display, at] of state.displays) {
    const copy = new MayState(state);
    if (stepDisplay(context, copy, display, at)) next.push(copy);
  }
  return next;
}

interface JobMicro extends Range {
  readonly buf: string;
  /** What it writes, or `undefined`: it reads. */
  readonly value: number | undefined;
  /** All that this access of the job reads, and which one it is. */
  readonly whole: Range;
  readonly index: number;
}

/** A job touches the first half of each range, then the second. */
function microsOf(job: Job): JobMicro[] {
  const micros: JobMicro[] = [];
  const accesses = [...job.reads.map((read) => ({ ...read, value: undefined })), ...job.writes];
  for (const [index, { buf, at, bytes, value }] of accesses.entries()) {
    const half = Math.ceil(bytes / 2);
    const whole = { at, bytes };
    micros.push({ buf, at, bytes: half, value, whole, index });
    micros.push({ buf, at: at + half, bytes: bytes - half, value, whole, index });
  }
  return micros;
}

function stepJob(context: MayContext, state: MayState, gpu: string, job: RingJob, rest: readonly RingJob[]): void {
  const micro = microsOf(job.job)[job.step];
  if (micro === undefined) {
    state.fences.set(job.fence, true);
    state.rings.set(gpu, rest);
    return;
  }
  state.rings.set(gpu, [{ ...job, step: job.step + 1 }, ...rest]);
  const map = mapName(micro.buf, gpu);
  if (micro.value !== undefined) deviceWrite(context, state, map, micro, micro.value);
  else deviceRead(context, state, map, micro, `${job.label}.r${micro.index}`, micro.whole);
}

/** @returns false: it has nothing to do. */
function stepCamera(context: MayContext, state: MayState, camera: string, at: CameraState): boolean {
  if (!at.isOn) return false;
  const { active, queued, frames } = at;
  if (active === null) {
    const [buf, ...rest] = queued;
    if (buf === undefined) return false;
    state.cameras.set(camera, { ...at, queued: rest, active: { buf, batches: 0 }, frames: frames + 1 });
    return true;
  }
  const batch = cameraBatches()[active.batches];
  if (batch === undefined) {
    state.cameras.set(camera, { ...at, active: null, done: [...at.done, active.buf] });
    return true;
  }
  const value = FIRST_FRAME + frames - 1;
  for (const range of batch) deviceWrite(context, state, mapName(active.buf, camera), range, value);
  state.cameras.set(camera, { ...at, active: { ...active, batches: active.batches + 1 } });
  return true;
}

/** A frame is fetched whole before the next one is latched. @returns false: it has nothing to do. */
function stepDisplay(context: MayContext, state: MayState, display: string, at: DisplayState): boolean {
  const { pending, shown } = at;
  if (shown !== null && shown.halves < 2) {
    const half = SCREEN_BYTES / 2;
    const range = { at: shown.halves * half, bytes: half };
    deviceRead(context, state, mapName(shown.buf, display), range, shown.label, { at: 0, bytes: SCREEN_BYTES });
    state.displays.set(display, { pending, shown: { ...shown, halves: shown.halves + 1 } });
    return true;
  }
  if (pending === null || !state.areSignaled(pending.waits)) return false;
  state.displays.set(display, { pending: null, shown: pending });
  return true;
}

/** A device writes through mapping `name`; `range` counts from the mapping's start. */
export function deviceWrite(
  { machine, broken }: MayContext,
  state: MayState,
  name: string,
  range: Range,
  value: number,
): void {
  const map = state.maps.get(name);
  if (map === undefined) {
    broken.add(`no mapping: ${name}`);
    return;
  }
  const inMemory = { at: range.at + map.at, bytes: range.bytes };
  machine.write(state.lines, map.reached, inMemory, map.dev.coherent ? 'snooped' : 'memory', value);
}

/** A device reads through mapping `name`; `whole` is all that `label` observes. */
export function deviceRead(
  context: MayContext,
  state: MayState,
  name: string,
  range: Range,
  label: string,
  whole: Range,
): void {
  const map = state.maps.get(name);
  if (map === undefined) {
    context.broken.add(`no mapping: ${name}`);
    context.observe(label, whole, range.at, range.bytes, [-1]);
    return;
  }
  const inMemory = { at: range.at + map.at, bytes: range.bytes };
  const how = map.dev.coherent ? 'snooped' : 'memory';
  for (const { at, bytes, values } of context.machine.read(state.lines, map.reached, inMemory, how)) {
    context.observe(label, whole, at - map.at, bytes, values);
  }
}
