/**
 * What the watchers of a machine can name: protocols between devices, processes and drivers that no single call can check.
 *
 * Each code has a minimal program in `docs/hazards.md`.
 */
import { hex } from './addr.ts';

/** One side of a hazard: who did what, when, and where in the program. */
export interface HazardSide {
  readonly who: string;
  readonly via: string;
  readonly action: 'read' | 'write' | 'invalidate' | 'write-back' | 'hold';
  /** When, in ns of simulated time. */
  readonly timeNs: number;
  /** Where in the program: `'camera.ts:31:7'`; absent when call sites are not captured, or nobody called. */
  readonly site?: string;
}

/** Two accesses to the same bytes, at least one of them a write, that nothing orders: a fence was not waited for. */
export interface RaceFacts {
  readonly hazard: 'access.read-while-writing' | 'access.write-while-reading' | 'access.write-while-writing';
  /** First byte of the conflict. */
  readonly phys: number;
  readonly sizeBytes: number;
  readonly first: HazardSide;
  readonly second: HazardSide;
  /** The fence of the work that was not over: `'gpu0:3'`; `''` when it has none. */
  readonly fence: string;
  /** The work: `"job 'blit'"`, `'frame 7'`. */
  readonly work: string;
  /** Who has to wait for whom, as it is most likely meant. */
  readonly remedy: string;
  /** The other way out: the other side waits. Absent when it is none: the two are works, or one task ordered both. */
  readonly or?: string;
}

/** A buffer was believed idle although recorded commands that use it have not been submitted. */
export interface BatchFacts {
  readonly hazard: 'fence.unsubmitted-batch';
  readonly batch: string;
  readonly buf: string;
  readonly who: string;
  /** What was done to the buffer, in words that follow its name. */
  readonly what: string;
  readonly site: string;
  readonly timeNs: number;
  readonly remedy: string;
}

/** Begin and end of CPU access do not pair. */
export interface BracketFacts {
  readonly hazard: 'dmabuf.unbalanced-sync';
  readonly buf: string;
  readonly who: string;
  /** The call that shows it: `'ioctl(DMA_BUF_IOCTL_SYNC, END | WRITE)'`, `'close(4)'`. */
  readonly call: string;
  /** The brackets that are open: `'START | READ at app.ts:12:3'`; `''`: none. */
  readonly open: string;
  readonly site: string;
  readonly timeNs: number;
  readonly remedy: string;
}

/** A device went to an address that it was not given, or not any more. */
export interface DmaReachFacts {
  readonly hazard:
    | 'dma.after-unmap'
    | 'dma.after-move'
    | 'dma.after-revoke'
    | 'dma.after-detach'
    | 'dma.wrong-address-space'
    | 'dma.api-bypass';
  readonly device: string;
  readonly address: number;
  readonly access: 'read' | 'write';
  readonly sizeBytes: number;
  /** What the number is, or was: the mapping, its buffer, when and where it was made and ended; or in which other space it is valid. */
  readonly what: string;
  /** Where the mapping ended, or `''`. */
  readonly site: string;
  readonly timeNs: number;
  readonly remedy: string;
}

/** A habit that works here by luck, and breaks on another platform. */
export interface LintFacts {
  readonly hazard: 'dma.map-as-flush' | 'dma.map-resource-in-sg' | 'dma.backend-peek' | 'dmabuf.alias';
  /** Whose habit: a device, or an exporter. */
  readonly who: string;
  readonly what: string;
  readonly site: string;
  readonly timeNs: number;
  readonly remedy: string;
}

/** Something is alive that nobody will ever give back. */
export interface LeakFacts {
  readonly hazard: 'ledger.leak' | 'ledger.growth';
  /** `'attachment'`, `'fd'`, … */
  readonly object: string;
  /** How many. */
  readonly count: number;
  /** The first of them, with what keeps it alive, outermost first. */
  readonly what: string;
  readonly chain: readonly string[];
  /** Where it was made. */
  readonly site: string;
  readonly timeNs: number;
  readonly remedy: string;
}

/** The members of `HazardFacts` that watchers report. */
export type WatchHazardFacts = RaceFacts | BatchFacts | BracketFacts | DmaReachFacts | LintFacts | LeakFacts;

/** @internal Whether `facts` are of a watcher. */
export function isWatchHazard(facts: { readonly hazard: string }): facts is WatchHazardFacts {
  const { hazard } = facts;
  return WATCHED.some((prefix) => hazard.startsWith(prefix));
}

const WATCHED = [
  'access.',
  'fence.unsubmitted-batch',
  'dmabuf.unbalanced-sync',
  'dmabuf.alias',
  'dma.',
  'ledger.',
] as const;

/** @internal What happened, and both sides, for the text of a report. */
export function watchHazardSentences(facts: WatchHazardFacts): readonly [what: string, sides: string] {
  switch (facts.hazard) {
    case 'access.read-while-writing':
    case 'access.write-while-reading':
    case 'access.write-while-writing':
      return raceSentences(facts);
    case 'fence.unsubmitted-batch':
      return [`${facts.buf} ${facts.what}, though ${facts.batch} is not submitted`, by(facts.who, facts)];
    case 'dmabuf.unbalanced-sync': {
      const open = facts.open === '' ? 'no bracket is open' : `open: ${facts.open}`;
      return [`${facts.call} on ${facts.buf}: ${open}`, by(facts.who, facts)];
    }
    case 'ledger.leak':
    case 'ledger.growth': {
      const chain = facts.chain.length === 0 ? '' : `; kept alive by ${facts.chain.join(' > ')}`;
      return [`${facts.count} x ${facts.object} left: ${facts.what}${chain}`, by('made', facts)];
    }
    case 'dma.map-as-flush':
    case 'dma.map-resource-in-sg':
    case 'dma.backend-peek':
    case 'dmabuf.alias':
      return [facts.what, by(facts.who, facts)];
    default: {
      const range = `${facts.sizeBytes} bytes at ${hex(facts.address)}`;
      return [`${facts.device} would ${facts.access} ${range}: ${facts.what}`, `[access: ${facts.timeNs} ns]`];
    }
  }
}

/** `'[read: app, mmap of fd 4, 120 ns at app.ts:31:7]'` */
function sideText(verb: string, side: HazardSide): string {
  return `[${verb}: ${side.who}, ${side.via}, ${side.timeNs} ns${at(side.site ?? '')}]`;
}

function raceSentences({ first, second, work, phys, sizeBytes }: RaceFacts): readonly [what: string, sides: string] {
  const what = `${second.who} ${second.action}s ${sizeBytes} bytes at ${hex(phys)} that ${first.who} ${first.action}s`;
  return [
    `${what} in ${work}, with nothing to order the two`,
    `${sideText('first', first)} ${sideText('second', second)}`,
  ];
}

function by(who: string, { site, timeNs }: { readonly site: string; readonly timeNs: number }): string {
  return `[${who}${at(site)}, ${timeNs} ns]`;
}

function at(site: string): string {
  return site === '' ? '' : ` at ${site}`;
}
