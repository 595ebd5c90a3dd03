/** What the books of a machine tell of a few bytes: which calls handed them over, whose mappings show them, which brackets were open. */
import type { AddressBook, AddressMapping, AddressPieces } from '../trace/address-book.ts';
import { CauseHints } from '../trace/cause-hints.ts';
import type { SyncLog, SyncRecord } from '../trace/sync-log.ts';
import { accessOf, functionOf } from './call-names.ts';

/** The books; a simulator has them. */
export interface Books {
  readonly syncs: SyncLog;
  readonly addresses: AddressBook;
  /** As `Simulator.part`. */
  part<T extends object>(Part: new () => T): T;
}

/** A device's mapping that is alive. */
export interface DeviceMapping {
  readonly device: string;
  /** The call that made it: `'dmaMapSgtable'`. */
  readonly call: string;
  readonly dir: SyncRecord['dir'];
  readonly pieces: AddressPieces;
}

/** Calls in a span of the log: younger than `from`, and no younger than `to`. */
export interface Window {
  readonly from: number;
  readonly to: number;
}

/** A bracket that is open. */
export interface OpenBracket {
  readonly begun: SyncRecord;
  readonly reads: boolean;
  readonly writes: boolean;
}

/** Looks at bytes [start, end). Made for one report. @internal */
export class Handovers {
  readonly start: number;
  readonly end: number;
  /** Youngest first. */
  readonly #records: readonly SyncRecord[];
  readonly #addresses: AddressBook;
  readonly #byte: number;
  readonly hints: CauseHints;

  constructor(books: Books, start: number, end: number, byte: number) {
    const { syncs, addresses } = books;
    this.hints = books.part(CauseHints);
    this.#byte = byte;
    this.start = start;
    this.end = end;
    this.#records = [...syncs.youngestFirst()];
    this.#addresses = addresses;
  }

  /** The byte in question; one of its line, when that is all that is known. */
  get byte(): number {
    return this.#byte;
  }

  /** The number of the youngest call. */
  get newest(): number {
    return this.#records[0]?.seq ?? 0;
  }

  /** The shared buffer that the bytes belong to; `''`: none that is known. */
  get object(): string {
    let found = '';
    for (const { object, to } of this.#addresses.live) if (object !== '' && this.#leadsHere(to)) found = object;
    if (found !== '') return found;
    for (const { object, to } of this.#addresses.ended) if (object !== '' && this.#leadsHere(to)) found = object;
    return found;
  }

  /** The youngest mapping of `device` that showed the bytes when call `seq` was the youngest. */
  mappingOf(device: string, seq: number): DeviceMapping | undefined {
    const isOurs = (record: SyncRecord): boolean => record.device === device && this.covers(record);
    const ended: AddressPieces[] = [];
    for (const record of this.#records) {
      const { op, phys, call, dir } = record;
      if (record.seq > seq || phys === null || !isOurs(record)) continue;
      if (op === 'unmap') ended.push(phys);
      if (op !== 'map') continue;
      const end = ended.findIndex((pieces) => isSame(pieces, phys));
      if (end < 0) return { device, call: functionOf(call), dir, pieces: phys };
      ended.splice(end, 1);
    }
    return this.#oldMappingOf(device);
  }

  /** A live mapping that is older than the log. */
  #oldMappingOf(device: string): DeviceMapping | undefined {
    let found: AddressMapping | undefined;
    for (const mapping of this.#addresses.live) {
      if (mapping.space === 'dma' && mapping.owner === device && this.#leadsHere(mapping.to)) found = mapping;
    }
    if (found?.to == null) return undefined;
    const { call, writable, to } = found;
    const isInLog = this.#records.some(({ op, phys }) => op === 'map' && phys !== null && isSame(phys, to.pieces));
    if (isInLog) return undefined;
    return { device, call, dir: writable ? 'from-device' : 'to-device', pieces: to.pieces };
  }

  /** The youngest call in `window` that covers the bytes, of one of `ops`, that `fits`. */
  covering(
    window: Window,
    ops: readonly SyncRecord['op'][],
    fits: (record: SyncRecord) => boolean = () => true,
  ): SyncRecord | undefined {
    return this.#youngest(window, (record) => ops.includes(record.op) && this.covers(record) && fits(record));
  }

  /** The youngest call in `window` for other bytes of `pieces`, made by the program itself. */
  beside(
    window: Window,
    ops: readonly SyncRecord['op'][],
    device: string,
    pieces: AddressPieces,
  ): SyncRecord | undefined {
    return this.#youngest(window, (record) => {
      const { op, phys, within } = record;
      if (!ops.includes(op) || record.device !== device || phys === null || within !== 0 || this.covers(record))
        return false;
      return overlaps(pieces, phys.base[0] ?? -1, (phys.base[0] ?? -1) + 1);
    });
  }

  /** The youngest bracket call of `object` in `window`. @param failed - one that failed. */
  bracket(
    window: Window,
    op: 'begin-cpu-access' | 'end-cpu-access',
    object: string,
    failed = false,
  ): SyncRecord | undefined {
    const isThis = (record: SyncRecord): boolean => (record.failed ?? false) === failed && record.object === object;
    return this.#youngest(window, (record) => record.op === op && isThis(record));
  }

  /** The call of this number. */
  call(seq: number): SyncRecord | undefined {
    return this.#records.find((record) => record.seq === seq);
  }

  /** Whether `who` has made a bracket call of `object` up to `seq`. */
  usesBrackets(object: string, who: string, seq: number): boolean {
    const isBracket = (record: SyncRecord): boolean => record.phys === null && record.object === object;
    return this.#youngest({ from: 0, to: seq }, (record) => isBracket(record) && record.by === who) !== undefined;
  }

  /** Whether `who` begins all his brackets of `object` for reading and writing, of which there are some: a habit. */
  bracketsBothWays(object: string, who: string): boolean {
    const isBegin = ({ op, by, object: of }: SyncRecord): boolean =>
      op === 'begin-cpu-access' && by === who && of === object;
    const begun = this.#records.filter(isBegin);
    return begun.length > 1 && begun.every(({ dir }) => dir === 'bidirectional');
  }

  /** The bracket of `object` that is open after call `seq`: that of `who`, or else of anybody. */
  openBracket(object: string, who: string, seq: number): OpenBracket | undefined {
    const open = new Map<string, OpenBracket>();
    for (let i = this.#records.length - 1; i >= 0; i--) {
      const record = this.#records[i] as SyncRecord;
      if (record.seq > seq) break;
      if (record.object !== object || record.phys !== null || record.failed === true) continue;
      const { reads, writes } = accessOf(record.dir);
      const before = open.get(record.by);
      if (record.op === 'begin-cpu-access') {
        const all = { reads: reads || before?.reads === true, writes: writes || before?.writes === true };
        open.set(record.by, { begun: record, ...all });
      } else if (before !== undefined) {
        const left = { begun: before.begun, reads: before.reads && !reads, writes: before.writes && !writes };
        if (left.reads || left.writes) open.set(record.by, left);
        else open.delete(record.by);
      }
    }
    return open.get(who) ?? [...open.values()].at(-1);
  }

  /** The youngest call that the exporter made in bracket `seq` for these bytes. */
  inside(seq: number, fits: (record: SyncRecord) => boolean): SyncRecord | undefined {
    return this.#records.find((record) => record.within === seq && this.covers(record) && fits(record));
  }

  /** The youngest call of `ops` in the whole log. */
  youngestOf(ops: readonly SyncRecord['op'][]): SyncRecord | undefined {
    return this.#records.find(({ op }) => ops.includes(op));
  }

  /** Whether a call covers any of the bytes. */
  covers({ phys }: SyncRecord): boolean {
    return phys !== null && overlaps(phys, this.start, this.end);
  }

  #youngest({ from, to }: Window, fits: (record: SyncRecord) => boolean): SyncRecord | undefined {
    for (const record of this.#records) {
      if (record.seq <= from) return undefined;
      if (record.seq <= to && fits(record)) return record;
    }
    return undefined;
  }

  #leadsHere(to: AddressMapping['to']): boolean {
    return to?.space === 'phys' && overlaps(to.pieces, this.start, this.end);
  }
}

/** Whether all of [start, end) lies in one of `pieces`. @internal */
export function includes({ base, size }: AddressPieces, start: number, end: number): boolean {
  for (let i = 0; i < base.length; i++) {
    const at = base[i] as number;
    if (start >= at && end <= at + (size[i] as number)) return true;
  }
  return false;
}

function isSame(a: AddressPieces, b: AddressPieces): boolean {
  return a.base.length === b.base.length && a.base[0] === b.base[0] && a.size[0] === b.size[0];
}

function overlaps({ base, size }: AddressPieces, start: number, end: number): boolean {
  for (let i = 0; i < base.length; i++) {
    const at = base[i] as number;
    if (at < end && start < at + (size[i] as number)) return true;
  }
  return false;
}
