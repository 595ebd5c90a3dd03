/**
 * Which one call explains wrong bytes. From who wrote them, who met the old ones, where the newest copy is, and the calls that handed the
 * bytes over in between (`sim.syncs`) it follows which call is missing or does not do.
 *
 * Rules:
 * 1. Bytes that a device wrote reach the CPU by a call *for the CPU* behind the write: a bracket's begin, a sync for the CPU, an unmap.
 *    Bytes that the CPU wrote reach a device by one *for the device*: a bracket's end, a sync for the device, a map.
 * 2. Who sees the bytes through a shared buffer makes bracket calls; a driver with a mapping of its own makes those of its mapping.
 * 3. A call of the right kind at the right place that did nothing is the cause itself: for the other direction, told to skip, for other
 *    bytes, or not passed on by the exporter. Else the call is missing.
 * 4. Lost bytes were not handed over between the two writes: if the CPU wrote first, a call for the device is missing; if it wrote into an
 *    old line later, one for the CPU.
 * 5. A device that wrote inside a bracket that was open before and after did not wait for it, or was not waited for.
 *
 * **Inaccuracies.** What comes behind the report is not known: whether a driver meant to sync or to unmap is taken from what it did before.
 * Brackets and maps that are older than the log are unknown.
 */
import { hex, type PhysAddr } from '../base/addr.ts';
import type { Cause, CauseCode } from '../base/cause.ts';
import type { Accessor, LostWriteFacts, StaleReadFacts } from '../base/hazards.ts';
import { alignDown } from '../base/units.ts';
import type { HazardSide } from '../base/watch-hazards.ts';
import { bytesOfPieces } from '../trace/address-pieces.ts';
import type { SyncRecord } from '../trace/sync-log.ts';
import { accessOf, madeText } from './call-names.ts';
import { type Books, Handovers, includes, type Window } from './handovers.ts';
import {
  barrier,
  deviceFlush,
  deviceInvalidate,
  FOR_CPU,
  FOR_DEVICE,
  type Found,
  forCpu,
  forDevice,
  lateHandover,
  type Meeting,
  mixedAttributes,
  noFence,
  promised,
  wasHandedToCpu,
} from './missing-calls.ts';
import type { WriteCall } from './write-log.ts';

/** An old copy that was read. */
export interface OldRead {
  /** First wrong byte, or its line. */
  readonly phys: PhysAddr;
  readonly newestIn: StaleReadFacts['newestIn'];
  readonly reader: Accessor;
  readonly side: HazardSide;
  readonly writer: WriteCall | undefined;
  /** Who wrote the old dirty line that answered a snoop, if one did. */
  readonly holder: WriteCall | undefined;
  /** What was read is a bounce buffer's, of the original at `phys`. */
  readonly isBounce: boolean;
  /** The copy that was read is a line of the CPU's cache. */
  readonly fromCache: boolean;
}

/** Bytes that vanished. */
export interface Loss {
  readonly hazard: LostWriteFacts['hazard'];
  readonly phys: PhysAddr;
  readonly action: HazardSide['action'];
  readonly writer: WriteCall | undefined;
  /** Who wrote the older bytes that went over them, if some did. */
  readonly older: WriteCall | undefined;
  /** Who dropped them, or whose bytes went over them. */
  readonly destroyer: Accessor | undefined;
  readonly side: HazardSide;
  /** It is the copy between an original and its bounce buffer that went over them. */
  readonly isBounce: boolean;
}

/** Names causes for one coherency domain. Plain. @internal */
export class CauseFinder {
  readonly #books: Books;
  readonly #lineBytes: number;

  constructor(books: Books, lineBytes: number) {
    this.#books = books;
    this.#lineBytes = lineBytes;
  }

  /** Why `read` got old bytes; `null`: nothing that is known tells. */
  ofRead(read: OldRead): Cause | null {
    const { writer, side } = read;
    if (!this.#isKnown(writer) || writer === undefined) return null;
    return placed(this.#whyOld(read, writer), writer.side, side);
  }

  /** Why bytes were lost; `null` as {@link ofRead}. */
  ofLoss(loss: Loss): Cause | null {
    const { writer, older, side, isBounce } = loss;
    if (!this.#isKnown(writer) || writer === undefined) return null;
    const at = this.#at(loss.phys, isBounce);
    if (loss.hazard === 'cache.neighbour-destroyed') return placed(sharedLine(at, loss), writer.side, side);
    if (isBounce) return placed(whyCopiedOver(at, loss, writer), writer.side, side);
    if (loss.action === 'invalidate') {
      const found = whyDropped(at, loss, writer);
      return found === null ? null : placed(found, writer.side, side);
    }
    return older === undefined ? null : whyOverwritten(at, loss, writer, older);
  }

  /** Whether the log still has every call behind `writer`. */
  #isKnown(writer: WriteCall | undefined): boolean {
    const { syncs } = this.#books;
    return syncs.enabled && writer !== undefined && syncs.newest - writer.seq < syncs.capacity;
  }

  #at(phys: number, isBounce: boolean): Handovers {
    if (isBounce) return new Handovers(this.#books, phys, phys + 1, phys);
    const start = alignDown(phys, this.#lineBytes);
    return new Handovers(this.#books, start, start + this.#lineBytes, phys);
  }

  #whyOld(read: OldRead, writer: WriteCall): Found {
    const { newestIn, reader, side, holder, fromCache } = read;
    const isBounce = read.isBounce || newestIn === 'bounce slot';
    const at = this.#at(read.phys, isBounce);
    const window: Window = { from: writer.seq, to: at.newest };
    const forReader: Meeting = { who: reader, side, window, access: 'read', isBounce };
    if (isBounce) {
      const isOriginalOld = newestIn === 'bounce slot' || newestIn === 'lost';
      return (isOriginalOld ? forCpu : forDevice)(at, writer, forReader);
    }
    if (newestIn === 'device cache') return deviceFlush(at, writer);
    if (writer.accessor.kind === 'cpu' && reader.kind === 'cpu' && (newestIn !== 'write buffer' || fromCache)) {
      return mixedAttributes(writer);
    }
    if (newestIn === 'write buffer') return barrier(at, writer, reader, window);
    if (reader.kind === 'cpu') return forCpu(at, writer, forReader);
    const promise = promised(at, forReader);
    if (promise !== undefined) return promise;
    if (newestIn !== 'memory') return forDevice(at, writer, forReader);
    if (holder === undefined) return deviceInvalidate(at, reader);
    // The old dirty line had to leave before the newer bytes came: for the device that wrote those, not for the reader.
    const { accessor: who, side: written } = writer;
    const toWriter: Window = { from: holder.seq, to: writer.seq };
    const found = forDevice(at, holder, { who, side: written, window: toWriter, access: 'write', isBounce });
    return { ...found, place: { after: holder.side, before: written } };
  }
}

/** A copy to or from a bounce buffer went over newer bytes. */
function whyCopiedOver(at: Handovers, { older, destroyer, side }: Loss, writer: WriteCall): Found {
  const made = at.covering({ from: writer.seq, to: at.newest }, [...FOR_CPU, ...FOR_DEVICE]);
  const window = before(at, made, writer.seq);
  const copier: Accessor = { ...(destroyer ?? writer.accessor), name: made?.device ?? '' };
  if (writer.accessor.kind === 'cpu') {
    return forDevice(at, writer, { who: copier, side, window, access: 'write', isBounce: true });
  }
  const who = older?.accessor.kind === 'cpu' ? older.accessor : copier;
  return forCpu(at, writer, { who, side, window, access: 'both', isBounce: true });
}

/** A line was dropped before it was written back. */
function whyDropped(at: Handovers, { side, destroyer }: Loss, writer: WriteCall): Found | null {
  if (writer.accessor.kind === 'device') return deviceFlush(at, writer);
  const call = at.covering({ from: writer.seq, to: at.newest }, FOR_CPU);
  if (call === undefined && at.object === '') return null;
  const device = call?.device ?? '';
  const who: Accessor = { ...(destroyer ?? writer.accessor), name: device };
  const window = before(at, call, writer.seq);
  const found = forDevice(at, writer, { who, side, window, access: 'write', isBounce: false });
  if (!isOwnCall(found) || wasHandedToCpu(at, writer, device)) return found;
  const begun = at.call(call?.within ?? 0);
  const isLate = begun?.op === 'begin-cpu-access' && begun.by === writer.accessor.name && accessOf(begun.dir).writes;
  if (!isLate) return { ...found, code: 'write-outside-bracket' };
  const place = { after: null, before: writer.side };
  return { ...found, code: 'write-outside-bracket', call: begun.call, instead: begun, place };
}

/** From call `from` until before `call`, and the bracket that it was made for. */
function before(at: Handovers, call: SyncRecord | undefined, from: number): Window {
  if (call === undefined) return { from, to: at.newest };
  return { from, to: Math.max(from, (call.within === 0 ? call.seq : call.within) - 1) };
}

/** Older bytes were written over newer ones. */
function whyOverwritten(at: Handovers, loss: Loss, writer: WriteCall, older: WriteCall): Cause {
  const isFirst = older.version < writer.version;
  const inOrder = (found: Found): Cause =>
    isFirst ? placed(found, older.side, writer.side) : placed(found, writer.side, older.side);
  if (older.accessor.kind === 'device') {
    return inOrder(isFirst ? deviceFlush(at, older) : deviceInvalidate(at, older.accessor));
  }
  if (writer.accessor.kind === 'cpu') return inOrder(mixedAttributes(older));
  const device = writer.accessor.name;
  const mapping = at.mappingOf(device, writer.seq);
  if (!isFirst) {
    const window: Window = { from: writer.seq, to: older.seq };
    const who = older.accessor;
    return inOrder(forCpu(at, writer, { who, side: older.side, window, access: 'both', isBounce: false }));
  }
  const late = lateHandover(at, writer, older);
  if (late !== undefined) return inOrder(noFence(at, older.accessor, writer, late, writer.side));
  const window: Window = { from: older.seq, to: writer.seq };
  const who = writer.accessor;
  const found = forDevice(at, older, { who, side: writer.side, window, access: 'write', isBounce: false });
  if (!isOwnCall(found) || wasHandedToCpu(at, older, device)) return inOrder(found);
  const isShared = mapping !== undefined && !includes(mapping.pieces, at.start, at.end);
  return inOrder(isShared ? sharedLine(at, loss) : { ...found, code: 'write-outside-bracket' });
}

const OWN_CALLS: readonly CauseCode[] = ['missing-end-cpu-access', 'missing-sync-for-device', 'write-outside-bracket'];

/** Whether the call that is missing is the writer's own, for the device. */
function isOwnCall({ code }: Found): boolean {
  return OWN_CALLS.includes(code);
}

function sharedLine(at: Handovers, { destroyer, writer }: Loss): Found {
  const call = at.youngestOf([...FOR_CPU, 'begin-cpu-access']);
  const by = call?.by ?? destroyer?.name ?? writer?.accessor.name ?? '';
  const { object } = at;
  return { code: 'shared-line', call: '', ...(object === '' ? {} : { object }), by, instead: call };
}

function placed({ instead, place, ...found }: Found, after: HazardSide, before: HazardSide): Cause {
  const isPart = found.code === 'range-too-small' && instead !== undefined && instead.phys !== null;
  const bytes = isPart ? `, for ${bytesOfPieces(instead.phys)} bytes` : '';
  return {
    ...found,
    ...(place ?? { after, before }),
    instead: instead === undefined ? '' : `${madeText(instead)}${bytes}`,
  };
}

/** What to do about `cause`, in one line, for the remedy of a report. @internal */
export function remedyOf(cause: Cause, phys: PhysAddr): string {
  if (cause.code === 'mixed-attributes') return `use one kind of mapping for the memory at ${hex(phys)} on both sides`;
  if (cause.code === 'shared-line') return 'align the buffers to whole cache lines';
  return cause.object === undefined ? cause.call : `${cause.call} on ${cause.object}`;
}
