/**
 * The calls that hand bytes from one owner to another: syncs, brackets, maps and unmaps, barriers, flushes of devices. The finder of
 * causes asks which of them covered a line, and when.
 *
 * A ring: the youngest {@link SyncLog.capacity} calls are kept. While {@link SyncLog.enabled} is false nothing is noted, at no cost.
 */
import type { Site } from '../base/site.ts';
import type { AddressPieces } from './address-book.ts';

/** One call that hands bytes over. */
export interface SyncRecord {
  /** Grows by one with each call. */
  readonly seq: number;
  readonly timeNs: number;
  readonly op:
    | 'begin-cpu-access'
    | 'end-cpu-access'
    | 'sync-for-cpu'
    | 'sync-for-device'
    | 'map'
    | 'unmap'
    | 'barrier'
    | 'device-flush'
    | 'device-invalidate';
  /** The call as the program writes it: `'dmaSyncSgtableForCpu'`, `'ioctl(DMA_BUF_IOCTL_SYNC, START | READ)'`. */
  readonly call: string;
  /** Who made it: a process, or the driver of a device. */
  readonly by: string;
  /** The device that the bytes are handed to or taken from; `''`: a bracket, for whichever devices are attached. */
  readonly device: string;
  /** The buffer: `'frame1'`; `''` when nobody said. */
  readonly object: string;
  readonly dir: 'to-device' | 'from-device' | 'bidirectional' | 'none';
  /** The bytes it covered, physical; `null`: of a bracket, whatever `object` is. */
  readonly phys: AddressPieces | null;
  /** It was told not to touch caches (`skipCpuSync`). */
  readonly skipped: boolean;
  readonly site: Site | null;
  /** The bracket that the exporter made this call for, by its `seq`; 0: the program made it. */
  readonly within: number;
  /** It failed, and hands nothing over. Default: it did not. */
  readonly failed?: boolean;
}

/** What a caller tells of a call. */
export type SyncNote = Omit<SyncRecord, 'seq' | 'within'>;

/** One for each simulator: `sim.syncs`. Plain throughout. */
export class SyncLog {
  /** Whether calls are noted. */
  enabled = false;
  /** Calls that are kept. */
  readonly capacity: number;
  readonly #ring: SyncRecord[] = [];
  #seq = 0;
  /** Brackets that are being made, innermost last. */
  readonly #open: number[] = [];

  /** @param capacity - a whole number >= 1. */
  constructor(capacity = 4096) {
    this.capacity = capacity;
  }

  /** The number of the youngest call; 0 before the first. */
  get newest(): number {
    return this.#seq;
  }

  /** Notes a call. @returns its number; 0 while nothing is noted. */
  note(note: SyncNote): number {
    if (!this.enabled) return 0;
    const seq = ++this.#seq;
    this.#ring[seq % this.capacity] = new Entry(note, seq, this.#open.at(-1) ?? 0);
    return seq;
  }

  /** Call `seq` has failed. A number that is not remembered (0 as well) is passed over. */
  fail(seq: number): void {
    const record = this.#ring[seq % this.capacity];
    if (seq !== 0 && record?.seq === seq) this.#ring[seq % this.capacity] = { ...record, failed: true };
  }

  /** What is noted until {@link leave} is made inside this call. */
  enter(seq: number): void {
    if (seq !== 0) this.#open.push(seq);
  }

  /** Ends {@link enter}. */
  leave(seq: number): void {
    const at = this.#open.lastIndexOf(seq);
    if (at >= 0) this.#open.splice(at, 1);
  }

  /** The calls that are remembered, youngest first. */
  *youngestFirst(): Generator<SyncRecord, undefined> {
    for (let seq = this.#seq; seq > 0 && seq > this.#seq - this.capacity; seq--) {
      const record = this.#ring[seq % this.capacity];
      if (record !== undefined) yield record;
    }
  }
}

/** A record as the ring keeps it. Field by field: a spread costs twenty times as much, and one is made at each sync. */
class Entry implements SyncRecord {
  readonly seq: number;
  readonly timeNs: number;
  readonly op: SyncRecord['op'];
  readonly call: string;
  readonly by: string;
  readonly device: string;
  readonly object: string;
  readonly dir: SyncRecord['dir'];
  readonly phys: AddressPieces | null;
  readonly skipped: boolean;
  readonly site: Site | null;
  readonly within: number;

  constructor(note: SyncNote, seq: number, within: number) {
    this.seq = seq;
    this.timeNs = note.timeNs;
    this.op = note.op;
    this.call = note.call;
    this.by = note.by;
    this.device = note.device;
    this.object = note.object;
    this.dir = note.dir;
    this.phys = note.phys;
    this.skipped = note.skipped;
    this.site = note.site;
    this.within = within;
  }
}
