/** Rules 1 to 3 and 5 of `cause-finder.ts`: which call between a write and an access is missing, or does not do. */
import type { Cause, CauseCode } from '../base/cause.ts';
import type { Accessor } from '../base/hazards.ts';
import type { HazardSide } from '../base/watch-hazards.ts';
import type { SyncRecord } from '../trace/sync-log.ts';
import { accessOf, type BracketAccess, bracketCall, counterpart, functionOf } from './call-names.ts';
import type { DeviceMapping, Handovers, Window } from './handovers.ts';
import type { WriteCall } from './write-log.ts';

/** Who meets the bytes, and what has to reach him. @internal */
export interface Meeting {
  readonly who: Accessor;
  readonly side: HazardSide;
  readonly window: Window;
  readonly access: BracketAccess;
  readonly isBounce: boolean;
}

/** A cause without its places. @internal */
export interface Found extends Omit<Cause, 'after' | 'before' | 'instead'> {
  readonly instead?: SyncRecord | undefined;
  /** Where the call belongs, if that is not between the two accesses. */
  readonly place?: Pick<Cause, 'after' | 'before'>;
}

/** Calls of a mapping that hand bytes to the CPU. @internal */
export const FOR_CPU = ['sync-for-cpu', 'unmap'] as const;
/** … and to the device. @internal */
export const FOR_DEVICE = ['sync-for-device', 'map'] as const;

/** What a device wrote did not reach the CPU. */
export function forCpu(at: Handovers, writer: WriteCall, meeting: Meeting): Found {
  const { who } = meeting;
  const object = who.object ?? at.object;
  if (object !== '' && who.kind === 'cpu' && !isKernelCopy(who)) return forCpuByBracket(at, writer, meeting, object);
  return forCpuByMapping(at, writer, meeting, object);
}

function forCpuByBracket(at: Handovers, writer: WriteCall, meeting: Meeting, object: string): Found {
  const { who, window, isBounce } = meeting;
  const access = meeting.access === 'read' && at.bracketsBothWays(object, who.name) ? 'both' : meeting.access;
  const call = bracketCall(who, 'begin', access);
  const found = { call, object, by: who.name };
  const begun = at.bracket(window, 'begin-cpu-access', object);
  if (begun !== undefined) {
    if (!accessOf(begun.dir).reads) return { ...found, code: 'wrong-direction', instead: begun };
    const isPassedOn = ({ op, device }: SyncRecord): boolean =>
      op === 'sync-for-cpu' && device === writer.accessor.name;
    const passedOn = at.inside(begun.seq, isPassedOn);
    if (passedOn !== undefined && !isBounce) return deviceFlush(at, writer);
    const isPart = functionOf(begun.call).endsWith('Partial');
    const isOver = isPart && at.openBracket(object, who.name, window.to) === undefined;
    if (isOver) return { ...found, code: isBounce ? 'bounce-without-sync' : 'missing-begin-cpu-access' };
    if (isPart) {
      const wanted = accessOf(begun.dir).writes ? bracketCall(who, 'begin', 'both') : call;
      return { ...found, code: 'range-too-small', call: wanted, instead: begun };
    }
    const sync = at.mappingOf(writer.accessor.name, window.from);
    const exporters =
      sync === undefined ? `dmaSyncSgtableForCpu(${writer.accessor.name}, from-device)` : syncText(sync, 'for-cpu');
    return { call: exporters, object, by: `exporter of ${object}`, code: 'exporter-does-not-sync', instead: begun };
  }
  const open = at.openBracket(object, who.name, window.to);
  const isTheirs = open !== undefined && (who.brackets !== 'ioctl' || open.begun.by === who.name);
  if (open !== undefined && isTheirs && open.begun.seq <= window.from)
    return noFence(at, who, writer, open.begun, meeting.side);
  return { ...found, code: isBounce ? 'bounce-without-sync' : 'missing-begin-cpu-access' };
}

function forCpuByMapping(at: Handovers, writer: WriteCall, meeting: Meeting, object: string): Found {
  const { window, isBounce } = meeting;
  const device = writer.accessor.name;
  const by = `${device} driver`;
  const named = object === '' ? {} : { object };
  const mapping = at.mappingOf(device, window.from);
  const made = at.covering(window, FOR_CPU, (record) => record.device === device);
  if (made !== undefined) {
    const name = functionOf(made.call);
    const call = `${name}(${made.device}, ${rightDir(made, mapping, 'from-device')})`;
    if (made.skipped) return { ...named, code: 'skipped-sync', call, by: made.by, instead: made };
    if (!accessOf(made.dir).reads) {
      const wanted = mapping?.dir === made.dir ? `${mapping.call}(${device}, bidirectional)` : call;
      return { ...named, code: 'wrong-direction', call: wanted, by: made.by, instead: made };
    }
    if (!isBounce) return deviceFlush(at, writer);
  }
  if (mapping === undefined) return { ...named, ...missingMap(at, device, 'from-device') };
  const other = at.beside(window, FOR_CPU, device, mapping.pieces);
  const call = syncText(mapping, 'for-cpu');
  if (other !== undefined) return { ...named, ...tooSmall(other, mapping) };
  const code: CauseCode = isBounce ? 'bounce-without-sync' : 'missing-sync-for-cpu';
  const unmap = `${counterpart(mapping.call, 'unmap')}(${device}, ${mapping.dir})`;
  if (mapping.call.startsWith('dmaAlloc')) return { ...named, code, call, by };
  const habit = at.covering({ from: 0, to: window.from }, FOR_CPU, (record) => record.device === device);
  return habit?.op === 'unmap'
    ? { ...named, code, call: unmap, or: call, by }
    : { ...named, code, call, or: unmap, by };
}

/** What the CPU wrote did not reach a device. @internal */
export function forDevice(at: Handovers, writer: WriteCall, meeting: Meeting): Found {
  const { who, window } = meeting;
  const own = writer.accessor.object;
  const object = own ?? at.object;
  const open = object === '' ? undefined : at.openBracket(object, writer.accessor.name, writer.seq);
  const made = at.covering(window, FOR_DEVICE, (record) => record.device === who.name && record.within === 0);
  const named = object === '' ? {} : { object };
  const isAllocation = made !== undefined && functionOf(made.call).startsWith('dmaAlloc');
  if (made?.skipped === true && open === undefined && !isAllocation) {
    const call = `${functionOf(made.call)}(${made.device}, ${made.dir})`;
    return { ...named, code: 'skipped-sync', call, by: made.by, instead: made };
  }
  const isBracketed = object !== '' && writer.accessor.kind === 'cpu' && !isKernelCopy(writer.accessor);
  if (isBracketed) return forDeviceByBracket(at, writer, meeting, object);
  return forDeviceByMapping(at, meeting, made);
}

function forDeviceByBracket(at: Handovers, writer: WriteCall, meeting: Meeting, object: string): Found {
  const { who, window, isBounce } = meeting;
  const { accessor } = writer;
  const open = at.openBracket(object, accessor.name, writer.seq);
  const isBoth = open === undefined ? at.bracketsBothWays(object, accessor.name) : open.reads && open.writes;
  const access: BracketAccess = isBoth ? 'both' : 'write';
  const found = { call: bracketCall(accessor, 'end', access), object, by: accessor.name };
  const ended = at.bracket(window, 'end-cpu-access', object);
  if (ended !== undefined) {
    if (!accessOf(ended.dir).writes) return { ...found, code: 'wrong-direction', instead: ended };
    if (functionOf(ended.call).endsWith('Partial')) return { ...found, code: 'range-too-small', instead: ended };
    const mapping = at.mappingOf(who.name, window.to);
    const sync =
      mapping === undefined ? `dmaSyncSgtableForDevice(${who.name}, to-device)` : syncText(mapping, 'for-device');
    return { call: sync, object, by: `exporter of ${object}`, code: 'exporter-does-not-sync', instead: ended };
  }
  if (isBounce) return { ...found, code: 'bounce-without-sync' };
  const failed = at.bracket(window, 'end-cpu-access', object, true);
  if (failed !== undefined && open === undefined) {
    const start = bracketCall(accessor, 'begin', accessOf(failed.dir).reads ? 'both' : 'write');
    const place = { after: null, before: writer.side };
    return { ...found, code: 'missing-begin-cpu-access', call: start, instead: failed, place };
  }
  const isOutside = open === undefined && at.usesBrackets(object, accessor.name, writer.seq);
  return { ...found, code: isOutside ? 'write-outside-bracket' : 'missing-end-cpu-access' };
}

function forDeviceByMapping(at: Handovers, { who, window, isBounce }: Meeting, made: SyncRecord | undefined): Found {
  const by = `${who.name} driver`;
  const mapping = at.mappingOf(who.name, window.to);
  if (mapping === undefined) return missingMap(at, who.name, 'to-device');
  if (made !== undefined && isBounce && !accessOf(made.dir).writes) {
    const call = `${functionOf(made.call)}(${who.name}, ${rightDir(made, mapping, 'to-device')})`;
    return { code: 'wrong-direction', call, by: made.by, instead: made };
  }
  const other = at.beside(window, ['sync-for-device'], who.name, mapping.pieces);
  const call = syncText(mapping, 'for-device');
  if (other !== undefined) return tooSmall(other, mapping);
  return { code: isBounce ? 'bounce-without-sync' : 'missing-sync-for-device', call, by };
}

/** Whether the bytes were the CPU's when `writer` wrote: handed over, or never a device's. @internal */
export function wasHandedToCpu(at: Handovers, { accessor, seq }: WriteCall, device: string): boolean {
  const object = accessor.object ?? at.object;
  if (object !== '') return at.openBracket(object, accessor.name, seq) !== undefined;
  const last = at.covering({ from: 0, to: seq }, [...FOR_CPU, ...FOR_DEVICE], (record) => record.device === device);
  return last === undefined || last.op === 'sync-for-cpu' || last.op === 'unmap';
}

/** A call that handed the bytes of `older` to devices, but behind the device's write. @internal */
export function lateHandover(at: Handovers, writer: WriteCall, older: WriteCall): SyncRecord | undefined {
  const window: Window = { from: writer.seq, to: at.newest };
  const object = older.accessor.object ?? at.object;
  if (object === '') return undefined;
  const open = at.openBracket(object, older.accessor.name, older.seq);
  return open === undefined ? undefined : at.bracket(window, 'end-cpu-access', object);
}

/** Somebody did not wait for the device that made `writer`. @internal */
export function noFence(
  at: Handovers,
  who: Accessor,
  writer: WriteCall,
  bracket: SyncRecord,
  before: HazardSide,
): Found {
  const work = at.hints.writerOf(writer.accessor, at.byte);
  const call = work?.remedy ?? `wait for the fence of ${writer.accessor.name}`;
  return { code: 'missing-fence', call, by: who.name, instead: bracket, place: { after: null, before } };
}

/** A device reads while somebody has promised, by a fence in the buffer's reservation, to write first. @internal */
export function promised(at: Handovers, { who, side }: Meeting): Found | undefined {
  const { object } = at;
  const fence = who.kind === 'device' ? at.hints.promiseOn(object) : '';
  if (fence === '') return undefined;
  const place = { after: null, before: side };
  return { code: 'missing-fence', call: `wait for fence ${fence}`, object, by: who.name, place };
}

/** A device keeps what it wrote. @internal */
export function deviceFlush(at: Handovers, { accessor }: WriteCall): Found {
  const { name, afterWrite } = accessor;
  const call = knownCall(at, 'device-flush', name) ?? (afterWrite === '' ? `flush the caches of ${name}` : afterWrite);
  return { code: 'missing-device-flush', call, by: `${accessor.name} driver` };
}

/** A device keeps what it read before. @internal */
export function deviceInvalidate(at: Handovers, { name, beforeRead }: Accessor): Found {
  const own = beforeRead === '' ? `invalidate the caches of ${name}` : beforeRead;
  const call = knownCall(at, 'device-invalidate', name) ?? own;
  return { code: 'missing-device-invalidate', call, by: `${name} driver` };
}

/** Bytes wait in a write-combining buffer. A driver with a mapping of its own has a sync for that, and its barrier. @internal */
export function barrier(at: Handovers, { accessor }: WriteCall, reader: Accessor, window: Window): Found {
  const call = at.youngestOf(['barrier'])?.call ?? 'barrier()';
  const mapping = at.object === '' ? at.mappingOf(reader.name, window.to) : undefined;
  if (mapping?.call.startsWith('dmaMap') !== true) return { code: 'missing-barrier', call, by: accessor.name };
  return { code: 'missing-barrier', call: syncText(mapping, 'for-device'), or: call, by: `${reader.name} driver` };
}

/** One memory, two kinds of view. @internal */
export function mixedAttributes({ accessor }: WriteCall): Found {
  return { code: 'mixed-attributes', call: '', by: accessor.name };
}

function knownCall(at: Handovers, op: 'device-flush' | 'device-invalidate', device: string): string | undefined {
  const record = at.youngestOf([op]);
  return record?.device === device ? record.call : undefined;
}

function syncText({ call, device, dir }: DeviceMapping, verb: 'for-cpu' | 'for-device'): string {
  return `${counterpart(call, verb)}(${device}, ${dir})`;
}

/** The direction that `made` should have had. */
function rightDir(made: SyncRecord, mapping: DeviceMapping | undefined, least: 'from-device' | 'to-device'): string {
  const { reads, writes } = accessOf(mapping?.dir ?? made.dir);
  const does = least === 'from-device' ? reads : writes;
  return does ? (mapping?.dir ?? made.dir) : least;
}

/** The device has no mapping of the bytes: that of its driver's earlier calls, or any. */
function missingMap(at: Handovers, device: string, dir: 'to-device' | 'from-device'): Found {
  const found = { code: 'missing-map', by: `${device} driver` } as const;
  const map = at.covering({ from: 0, to: at.newest }, ['map'], (record) => record.device === device);
  if (map !== undefined) return { ...found, call: `${functionOf(map.call)}(${device}, ${dir})` };
  return { ...found, call: `dmaMapSgtable(${device}, ${dir})`, or: `dmaMapSingle(${device}, ${dir})` };
}

function tooSmall(made: SyncRecord, { device, dir }: DeviceMapping): Found {
  return { code: 'range-too-small', call: `${functionOf(made.call)}(${device}, ${dir})`, by: made.by, instead: made };
}

/** The kernel's own copies and clearing pass through no bracket. */
function isKernelCopy({ name, object }: Accessor): boolean {
  return name === 'kernel' && object === undefined;
}
