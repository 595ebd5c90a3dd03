/**
 * What the shadow found during one access, gathered into at most one report of a kind: the facts of the line with the
 * lowest address, the sums of all.
 */
import type { Nanos, PhysAddr } from '../base/addr.ts';
import type { Accessor, HazardFacts, LostWriteFacts, StaleReadFacts } from '../base/hazards.ts';
import type { WriteLog } from './write-log.ts';

/** An old copy that was read: one line of it. */
export interface StaleLine {
  readonly phys: PhysAddr;
  /** Bytes whose value differs from the newest; counted only if memory holds bytes. */
  readonly wrongBytes: number;
  readonly newestIn: StaleReadFacts['newestIn'];
  /** Version of the first wrong byte. */
  readonly version: number;
  readonly reader: Accessor;
  /** Who made the copy that was read dirty, if it was a dirty line that answered a snoop. */
  readonly holder: Accessor | undefined;
}

/** Newest bytes that vanished from a line. */
export interface LostLine {
  readonly phys: PhysAddr;
  /** Version of the first lost byte. */
  readonly version: number;
  /** Who dropped the line, or whose older bytes were written over the newer ones; `undefined` if forgotten. */
  readonly destroyer: Accessor | undefined;
  readonly action: 'invalidate' | 'write-back';
}

const NO_CALL = 'use one kind of mapping on both sides, or write back and invalidate by hand between them';

interface LostTally {
  first: LostLine;
  readonly lines: Set<PhysAddr>;
}

/** The findings of one access. @internal */
export class Findings {
  readonly #log: WriteLog;
  #stale: StaleLine | undefined;
  readonly #staleLines = new Set<PhysAddr>();
  #wrongBytes = 0;
  readonly #lost = new Map<LostWriteFacts['hazard'], LostTally>();

  constructor(log: WriteLog) {
    this.#log = log;
  }

  /** Whether there is nothing to report. */
  get empty(): boolean {
    return this.#stale === undefined && this.#lost.size === 0;
  }

  noteStale(line: StaleLine): void {
    if (this.#stale === undefined || line.phys < this.#stale.phys) this.#stale = line;
    this.#staleLines.add(line.phys);
    this.#wrongBytes += line.wrongBytes;
  }

  /** One call for each kind of writer whose bytes the line lost. */
  noteLost(line: LostLine): void {
    const hazard = this.lossOf(line.version, line.action);
    const tally = this.#lost.get(hazard);
    if (tally === undefined) {
      this.#lost.set(hazard, { first: line, lines: new Set([line.phys]) });
      return;
    }
    tally.lines.add(line.phys);
    if (line.phys < tally.first.phys) tally.first = line;
  }

  /** Which hazard the loss of `version` is. A forgotten writer is taken for the usual victim of `action`. */
  lossOf(version: number, action: LostLine['action']): LostWriteFacts['hazard'] {
    const kind = this.#log.writer(version)?.kind ?? (action === 'invalidate' ? 'cpu' : 'device');
    return kind === 'cpu' ? 'cpu-write.lost' : 'device-write.lost';
  }

  /** The reports, losses first, and forgets them. */
  take(now: Nanos): HazardFacts[] {
    const facts: HazardFacts[] = [];
    for (const [hazard, tally] of this.#lost) facts.push(this.#lostFacts(hazard, tally, now));
    if (this.#stale !== undefined) facts.push(this.#staleFacts(this.#stale, now));
    this.clear();
    return facts;
  }

  clear(): void {
    this.#stale = undefined;
    this.#staleLines.clear();
    this.#wrongBytes = 0;
    this.#lost.clear();
  }

  #staleFacts(first: StaleLine, now: Nanos): StaleReadFacts {
    const { reader, holder, newestIn } = first;
    const writer = this.#log.writer(first.version);
    const byReader = newestIn === 'memory';
    const remedies = byReader
      ? [holder?.afterWrite, reader.beforeRead, writer?.afterWrite]
      : [writer?.afterWrite, reader.beforeRead];
    return {
      hazard: reader.kind === 'cpu' ? 'cpu-read.stale' : 'device-read.stale',
      phys: first.phys,
      staleLines: this.#staleLines.size,
      staleBytes: this.#wrongBytes,
      newestIn,
      reader: { who: reader.name, via: reader.via, action: 'read', timeNs: now },
      writer: this.#log.side(first.version),
      remedy: firstCall(remedies),
    };
  }

  #lostFacts(hazard: LostWriteFacts['hazard'], tally: LostTally, now: Nanos): LostWriteFacts {
    const { phys, version, destroyer, action } = tally.first;
    const writer = this.#log.writer(version);
    const culprits = action === 'invalidate' ? [writer, destroyer] : [destroyer, writer];
    return {
      hazard,
      phys,
      lostLines: tally.lines.size,
      destroyer: {
        who: destroyer?.name ?? 'unknown (log full)',
        via: destroyer?.via ?? 'unknown',
        action,
        timeNs: now,
      },
      writer: this.#log.side(version),
      remedy: firstCall(culprits.map((accessor) => accessor?.afterWrite)),
    };
  }
}

function firstCall(calls: readonly (string | undefined)[]): string {
  return calls.find((call) => call !== undefined && call !== '') ?? NO_CALL;
}
