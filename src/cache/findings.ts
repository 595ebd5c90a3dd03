/**
 * What the shadow found during one access, gathered into at most one report of a kind: the facts of the line with the
 * lowest address, the sums of all.
 */
import type { Nanos, PhysAddr } from '../base/addr.ts';
import type { Cause, CauseCode } from '../base/cause.ts';
import type { Accessor, HazardFacts, LostWriteFacts, StaleReadFacts, WrongBytes } from '../base/hazards.ts';
import type { Site } from '../base/site.ts';
import type { HazardSide } from '../base/watch-hazards.ts';
import { CauseFinder, remedyOf } from './cause-finder.ts';
import type { Books } from './handovers.ts';
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
  /** Version of that write, if it is known. */
  readonly holderVersion?: number;
  /** The first wrong bytes, if memory holds bytes. */
  readonly values?: WrongBytes | undefined;
  /** Whether the copy that was read is a line of a CPU's cache. Default: no. */
  readonly fromCache?: boolean;
  /** The byte of the original, when a bounce buffer was read that has an older copy of it. */
  readonly original?: PhysAddr;
}

/** Newest bytes that vanished from a line. */
export interface LostLine {
  readonly phys: PhysAddr;
  /** Version of the first lost byte. */
  readonly version: number;
  /** Who dropped the line, or whose older bytes were written over the newer ones; `undefined` if forgotten. */
  readonly destroyer: Accessor | undefined;
  /** Version of those older bytes, if it is known. */
  readonly destroyerVersion?: number;
  readonly action: 'invalidate' | 'write-back';
  /** The first lost bytes, if memory holds bytes. */
  readonly values?: WrongBytes;
  /** The bytes lay beside the range that was dropped. Default: no. */
  readonly outside?: boolean;
  /** The byte of the original, when the copy to or from a bounce buffer went over the bytes. */
  readonly original?: PhysAddr;
}

/** What reports ask of the simulator. */
export interface ReportSource extends Books {
  /** The place of the present call, or `null`. */
  site(): Site | null;
}

const NO_CALL = 'use one kind of mapping on both sides, or write back and invalidate by hand between them';

/** Losses whose cause is remembered, for those who read the bytes later. */
const CAUSES_KEPT = 64;

interface LostTally {
  first: LostLine;
  readonly lines: Set<PhysAddr>;
}

/** The findings of one access. @internal */
export class Findings {
  readonly #log: WriteLog;
  readonly #source: ReportSource | null;
  readonly #finder: CauseFinder | null;
  /** The original of a byte of a bounce buffer; any other byte itself. */
  originalOf: (phys: PhysAddr) => PhysAddr = (phys) => phys;
  #stale: StaleLine | undefined;
  readonly #staleLines = new Set<PhysAddr>();
  #wrongBytes = 0;
  readonly #lost = new Map<LostWriteFacts['hazard'], LostTally>();
  /** By version of the lost bytes. */
  readonly #lossCauses = new Map<number, Cause>();

  /** @param source - `null`: causes are unknown. */
  constructor(log: WriteLog, source: ReportSource | null = null, lineBytes = 64) {
    this.#log = log;
    this.#source = source;
    this.#finder = source === null ? null : new CauseFinder(source, lineBytes);
  }

  /** Whether there is nothing to report. */
  get empty(): boolean {
    return this.#stale === undefined && this.#lost.size === 0;
  }

  noteStale(line: StaleLine): void {
    if (line.newestIn === 'lost' && this.#isNobodys(line.version)) return;
    if (this.#stale === undefined || line.phys < this.#stale.phys) this.#stale = line;
    this.#staleLines.add(line.phys);
    this.#wrongBytes += line.wrongBytes;
  }

  /** One call for each kind of writer whose bytes the line lost. */
  noteLost(line: LostLine): void {
    if (this.#isNobodys(line.version)) return;
    const hazard = line.outside === true ? 'cache.neighbour-destroyed' : this.lossOf(line.version, line.action);
    const tally = this.#lost.get(hazard);
    if (tally === undefined) {
      this.#lost.set(hazard, { first: line, lines: new Set([line.phys]) });
      return;
    }
    tally.lines.add(line.phys);
    if (line.phys < tally.first.phys) tally.first = line;
  }

  /** Which hazard the loss of `version` is. A forgotten writer is taken for the usual victim of `action`. */
  lossOf(version: number, action: LostLine['action']): 'cpu-write.lost' | 'device-write.lost' {
    const kind = this.#log.writer(version)?.kind ?? (action === 'invalidate' ? 'cpu' : 'device');
    return kind === 'cpu' ? 'cpu-write.lost' : 'device-write.lost';
  }

  /** Whether who made write call `version` was killed. */
  #isNobodys(version: number): boolean {
    return this.#log.writer(version)?.isKilled?.() === true;
  }

  /** The reports, losses first, and forgets them. */
  take(now: Nanos): HazardFacts[] {
    const facts: HazardFacts[] = [];
    const site = this.#source === null ? '' : placeOf(this.#source, now);
    for (const [hazard, tally] of this.#lost) facts.push(this.#lostFacts(hazard, tally, now, site));
    if (this.#stale !== undefined) facts.push(this.#staleFacts(this.#stale, now, site));
    this.clear();
    return facts;
  }

  clear(): void {
    this.#stale = undefined;
    this.#staleLines.clear();
    this.#wrongBytes = 0;
    this.#lost.clear();
  }

  #staleFacts(first: StaleLine, now: Nanos, site: string): StaleReadFacts {
    const { reader, holder, newestIn, version, values, original } = first;
    const writer = this.#log.call(version);
    const wrote = writer?.side ?? this.#log.side(version);
    const side = sideOf(reader, 'read', now, site);
    const byReader = newestIn === 'memory';
    const calls = byReader
      ? [holder?.afterWrite, reader.beforeRead, writer?.accessor.afterWrite]
      : [writer?.accessor.afterWrite, reader.beforeRead];
    const found =
      newestIn === 'lost' && original === undefined
        ? (this.#lossCauses.get(version) ?? null)
        : (this.#finder?.ofRead({
            newestIn,
            reader,
            side,
            writer,
            fromCache: first.fromCache ?? false,
            phys: original ?? this.originalOf(values?.phys ?? first.phys),
            holder: this.#log.call(first.holderVersion ?? 0),
            isBounce: original !== undefined,
          }) ?? null);
    const cause = found ?? unknownCause(firstCall(calls), wrote, side);
    return {
      hazard: reader.kind === 'cpu' ? 'cpu-read.stale' : 'device-read.stale',
      phys: first.phys,
      staleLines: this.#staleLines.size,
      staleBytes: this.#wrongBytes,
      newestIn,
      ...(values === undefined ? {} : { values }),
      reader: side,
      writer: wrote,
      cause,
      remedy: remedyFor(cause, [reader.beforeRead, writer?.accessor.afterWrite], first.phys),
    };
  }

  #lostFacts(hazard: LostWriteFacts['hazard'], tally: LostTally, now: Nanos, site: string): LostWriteFacts {
    const { phys, version, destroyer, action, values, original } = tally.first;
    const writer = this.#log.call(version);
    const wrote = writer?.side ?? this.#log.side(version);
    const side = sideOf(destroyer ?? { name: 'unknown (log full)', via: 'unknown' }, action, now, site);
    const pair = [writer?.accessor, destroyer];
    const culprits = action === 'invalidate' ? pair : [destroyer, writer?.accessor];
    const calls = culprits.map((accessor) => accessor?.afterWrite);
    const older = this.#log.call(tally.first.destroyerVersion ?? 0);
    const found = this.#finder?.ofLoss({
      ...{ hazard, action, writer, older, destroyer, side },
      phys: original ?? this.originalOf(values?.phys ?? phys),
      isBounce: original !== undefined,
    });
    const cause = found ?? unknownCause(firstCall(calls), wrote, side);
    this.#keepCause(version, cause);
    return {
      hazard,
      phys,
      lostLines: tally.lines.size,
      ...(values === undefined ? {} : { values }),
      destroyer: side,
      writer: wrote,
      cause,
      remedy: remedyFor(cause, calls, phys),
    };
  }

  #keepCause(version: number, cause: Cause): void {
    this.#lossCauses.delete(version);
    this.#lossCauses.set(version, cause);
    for (const oldest of this.#lossCauses.keys()) {
      if (this.#lossCauses.size <= CAUSES_KEPT) break;
      this.#lossCauses.delete(oldest);
    }
  }
}

function sideOf(
  { name: who, via }: Pick<Accessor, 'name' | 'via'>,
  action: HazardSide['action'],
  timeNs: Nanos,
  site: string,
): HazardSide {
  return site === '' ? { who, via, action, timeNs } : { who, via, action, timeNs, site };
}

/** The place of the present call; of one that waited on its way here, that of the youngest call of this instant that is noted. */
function placeOf(source: ReportSource, now: Nanos): string {
  const here = source.site()?.text ?? '';
  if (here !== '') return here;
  for (const { timeNs, site } of source.syncs.youngestFirst()) {
    if (timeNs !== now) break;
    const text = site?.text ?? '';
    if (text !== '') return text;
  }
  return '';
}

function unknownCause(call: string, after: HazardSide, before: HazardSide): Cause {
  return { code: 'unknown', call: call === NO_CALL ? '' : call, by: 'the owner', after, before, instead: '' };
}

/** Causes whose call the accessor has words for, if he has any. */
const OWN_WORDS: readonly CauseCode[] = ['missing-sync-for-cpu', 'missing-sync-for-device', 'missing-map'];

/** The accessor's own words for the call, where they fit; those of a process name the descriptor, and the least access that does. */
function remedyFor(cause: Cause, calls: readonly (string | undefined)[], phys: PhysAddr): string {
  if (cause.code === 'unknown') return cause.call === '' ? NO_CALL : cause.call;
  const step = /DMA_BUF_IOCTL_SYNC, (START|END)/.exec(cause.call)?.[1];
  const isOwn = (call: string | undefined): boolean =>
    step === undefined
      ? OWN_WORDS.includes(cause.code) && call !== undefined && call !== '' && !call.startsWith('ioctl(')
      : call?.includes(`DMA_BUF_SYNC_${step} `) === true;
  return calls.find(isOwn) ?? remedyOf(cause, phys);
}

function firstCall(calls: readonly (string | undefined)[]): string {
  return calls.find((call) => call !== undefined && call !== '') ?? NO_CALL;
}
